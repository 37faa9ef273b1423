//! What is kept of pipelines, experiments and runs, and the one transaction that applies a decision.
//!
//! Summaries of runs are also kept decoded in memory, so that a list costs no decoding; they follow each commit.
//!
//! Invariant: rows of a run change only through [`Store::commit`], which checks that nobody changed the run since it was
//! loaded, so the controller's and a caller's decisions never overwrite each other.

mod archive;
mod catalog;
mod listing;
mod runs;
pub mod tables;

use std::sync::Arc;

use foundation::clock::Clock;
use records::Db;
use tokio::sync::broadcast;

pub use listing::Library;
pub use runs::{Loaded, NewRun, RunParts};

/// Runs that changed and nobody has looked at yet; a reader that falls behind looks at all of them.
const CHANGES: usize = 4096;

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Db,
    clock: Clock,
    library: Arc<Library>,
    changes: broadcast::Sender<String>,
}

/// Why something could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody changed the run since it was loaded; load it again and decide again.
    #[error("run {0} was changed in between")]
    Stale(String),
    /// It is not there.
    #[error("{kind} {id} not found")]
    NotFound {
        /// `Run`, `Pipeline` …
        kind: &'static str,
        /// Its id or name.
        id: String,
    },
    /// The name is taken.
    #[error("{kind} with name {name} already exists")]
    AlreadyExists {
        /// `Experiment`, `Pipeline` …
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A row cannot be read or written.
    #[error(transparent)]
    Row(#[from] records::RowError),
    /// The disk is full.
    #[error("the disk is full: {free_bytes} bytes are free in {folder}")]
    Full {
        /// Where.
        folder: String,
        /// How much is left.
        free_bytes: u64,
    },
    /// Finished runs cannot be read now.
    #[error("finished runs cannot be read now")]
    Cold(#[from] records::Unavailable),
    /// More than one transaction holds.
    #[error("{bytes} bytes are more than can be stored at once")]
    TooLarge {
        /// What was to be stored.
        bytes: u64,
    },
    /// What an archived run was packed into is not whole.
    #[error("the archive of run {0} is damaged")]
    Damaged(String),
    /// The store is closed or broken.
    #[error("the store does not take writes")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<records::Decode> for Error {
    fn from(error: records::Decode) -> Self {
        Self::Row(error.into())
    }
}

impl From<records::Encode> for Error {
    fn from(error: records::Encode) -> Self {
        Self::Row(error.into())
    }
}

impl From<records::Error<Self>> for Error {
    fn from(error: records::Error<Self>) -> Self {
        match error {
            records::Error::Refused(error) => error,
            records::Error::Full { folder, free_bytes } => {
                Self::Full { folder: folder.display().to_string(), free_bytes }
            }
            records::Error::TooLarge { bytes } => Self::TooLarge { bytes },
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

impl Store {
    /// Opens the tables in `db` and reads what lists need.
    ///
    /// # Errors
    /// When a row cannot be read.
    pub fn open(db: Db, clock: Clock) -> Result<Self, Error> {
        let library = Arc::new(Library::load(&db)?);
        let (changes, _) = broadcast::channel(CHANGES);
        Ok(Self { db, clock, library, changes })
    }

    /// The time of day.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// The last durable revision.
    pub fn revision(&self) -> u64 {
        self.db.revision()
    }

    /// What lists are made of.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The ids of runs that were changed, as they are.
    pub fn changes(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut records::Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        Ok(self.db.transact(work).await?.value)
    }
}
