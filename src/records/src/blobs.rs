//! Large values, each in a file of its own that is named by its content.
//!
//! The committer stores them, recovery loads them, checkpoints sweep them. Invariants: a blob is on disk, bytes and name,
//! before the journal names it; what is read back is checked against its name; a blob is removed only when neither a kept
//! snapshot nor a record of the kept journal names it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::journal::format::BlobName;
use crate::limits::INLINE_BYTES_MAX;

/// Where blobs live, below the store's folder.
pub(crate) const BLOBS_DIR: &str = "blobs";

/// The name that a value has as a blob, or `None` for a value that stays in the journal.
pub(crate) fn blob_name(value: &[u8]) -> Option<BlobName> {
    (value.len() > INLINE_BYTES_MAX)
        .then(|| BlobName { sha256: Sha256::digest(value).into(), length: value.len() as u64 })
}

/// The blob files of a store.
#[derive(Debug)]
pub(crate) struct Blobs {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Blobs known to be on disk, by file name, with the last sequence at which the journal named them.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    named: HashMap<String, u64>,
    /// Those whose file name no `fsync_dir` has covered yet.
    fresh: Vec<String>,
}

impl Blobs {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: PathBuf) -> Self {
        Self { disk, folder, known: Mutex::default() }
    }

    /// Writes a blob unless it is there; its bytes are on disk afterwards, its name after [`Blobs::sync`].
    pub(crate) fn store(&self, name: &BlobName, value: &[u8], sequence: u64) -> io::Result<()> {
        let file_name = name.file_name();
        let mut known = self.known.lock();
        if let Some(last) = known.named.get_mut(&file_name) {
            *last = sequence;
            return Ok(());
        }
        // A file of that name which is not known may never have been synced: it is written again.
        let path = self.folder.join(&file_name);
        let draft = path.with_extension("tmp");
        let file = self.disk.open(&draft, Access::Create)?;
        let written =
            file.pwrite(value, 0).and_then(|()| file.fdatasync()).and_then(|()| self.disk.rename(&draft, &path));
        if let Err(error) = written {
            if let Err(error) = self.disk.unlink(&draft) {
                tracing::debug!(file = %draft.display(), %error, "cannot remove an unfinished blob");
            }
            return Err(error);
        }
        known.named.insert(file_name.clone(), sequence);
        known.fresh.push(file_name);
        Ok(())
    }

    /// Puts the names of all stored blobs on disk. After an error those that are new count as not stored.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let mut known = self.known.lock();
        let fresh = std::mem::take(&mut known.fresh);
        if fresh.is_empty() {
            return Ok(());
        }
        self.disk.fsync_dir(&self.folder).inspect_err(|_| known.named.retain(|name, _| !fresh.contains(name)))
    }

    /// Reads a blob that a record (with its sequence) or a snapshot (with sequence 0) names.
    pub(crate) fn load(&self, name: &BlobName, sequence: u64) -> Result<Arc<[u8]>, OpenError> {
        let path = self.folder.join(name.file_name());
        let bytes = self.disk.read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => OpenError::damaged(&path, "it is missing"),
            _ => OpenError::io("read", &path, source),
        })?;
        if blob_name(&bytes).as_ref() != Some(name) {
            return Err(OpenError::damaged(&path, "its content does not fit its name"));
        }
        let mut known = self.known.lock();
        let last = known.named.entry(name.file_name()).or_insert(sequence);
        *last = sequence.max(*last);
        Ok(bytes.into())
    }

    /// Removes the blobs that `snapshots` do not hold and no record from `oldest_sequence` on names.
    pub(crate) fn sweep(&self, snapshots: &[&HashSet<BlobName>], oldest_sequence: u64) -> io::Result<usize> {
        let kept: HashSet<String> = snapshots.iter().flat_map(|names| names.iter().map(BlobName::file_name)).collect();
        let mut removed = 0;
        for file in self.disk.list(&self.folder)? {
            // Held while removing, so that the committer does not take this very blob for stored meanwhile.
            let mut known = self.known.lock();
            if kept.contains(&file) || known.named.get(&file).is_some_and(|last| *last >= oldest_sequence) {
                continue;
            }
            known.named.remove(&file);
            self.disk.unlink(&self.folder.join(&file))?;
            removed += 1;
        }
        if removed > 0 {
            self.disk.fsync_dir(&self.folder)?;
        }
        Ok(removed)
    }
}
