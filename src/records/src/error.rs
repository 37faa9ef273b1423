//! What can go wrong with a store, for its callers.
//!
//! Invariant: every variant says what was tried and on what; an error of `transact` leaves nothing written, but for
//! [`Error::Failed`] and [`Error::ReadOnly`], which say what they cannot promise.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store in {} is in use by another process", folder.display())]
    Locked {
        /// The store's folder.
        folder: PathBuf,
    },
    /// It was written by a newer program.
    #[error("{} is of format {found}, this program knows up to {known}; it takes version {oldest_program} or later", path.display())]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
        /// The oldest program that can open it.
        oldest_program: String,
    },
    /// What was acknowledged cannot be read back. Nothing has been changed; a backup can be restored.
    #[error("{} is damaged: {what}; restore the store from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The disk refused.
    #[error("cannot {verb} {}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// Why a transaction was not committed.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The closure said no; nothing was written.
    #[error("the transaction was refused")]
    Refused(#[source] E),
    /// The disk is full. Deletes may still pass; puts pass again as soon as there is space.
    #[error("the disk is full: {free_bytes} bytes free for {}", folder.display())]
    Full {
        /// The folder that needs space.
        folder: PathBuf,
        /// What is free there.
        free_bytes: u64,
    },
    /// The transaction is larger than the store takes in one piece, or one key or value is.
    #[error("the transaction is too large: {bytes} bytes")]
    TooLarge {
        /// The size that is too much.
        bytes: u64,
    },
    /// It was not written. If the power fails right now it may be found written after all.
    #[error("cannot {what}")]
    Failed {
        /// What was tried.
        what: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The disk failed twice; until the store is opened again it can only be read.
    #[error("the store is read-only since it could not {what}")]
    ReadOnly {
        /// What was tried last.
        what: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The closure panicked; nothing was written.
    #[error("the transaction panicked")]
    Panicked,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// [`Error`] without the caller's type.
#[derive(Debug, Clone)]
pub(crate) enum CommitError {
    Full { folder: PathBuf, free_bytes: u64 },
    TooLarge { bytes: u64 },
    Failed { what: String, source: Arc<io::Error> },
    ReadOnly { what: String, source: Arc<io::Error> },
    Panicked,
}

impl<E> From<CommitError> for Error<E> {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full { folder, free_bytes } => Self::Full { folder, free_bytes },
            CommitError::TooLarge { bytes } => Self::TooLarge { bytes },
            CommitError::Failed { what, source } => Self::Failed { what, source },
            CommitError::ReadOnly { what, source } => Self::ReadOnly { what, source },
            CommitError::Panicked => Self::Panicked,
        }
    }
}

/// The store could not be closed in order. Nothing acknowledged is lost: the next open recovers it from the journal.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct CloseError {
    /// What was tried.
    pub what: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
}
