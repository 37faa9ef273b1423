//! `CLEAN`: the mark of an orderly stop, with the sequence that the journal had reached.
//!
//! Written last by `close`; `open` reads it, and removes it when the journal is whole and before anything is written. Invariant: a journal that ends before what `CLEAN` says has
//! lost something, which its torn end alone could not show.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::Disk;
use crate::error::OpenError;

const CLEAN_FILE: &str = "CLEAN";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clean {
    pub(crate) store: Uuid,
    pub(crate) next_sequence: u64,
    /// The cold snapshot that the index is of, if it was closed in order.
    #[serde(default)]
    pub(crate) index: Option<u64>,
}

/// Writes the mark.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, clean: Clean) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(&clean)?;
    bytes.push(b'\n');
    disk.write_whole(&dir.join(CLEAN_FILE), &bytes)
}

/// Reads the mark, if there is one. One that makes no sense, or is of another store, says nothing.
pub(crate) fn read(disk: &dyn Disk, dir: &Path, store: Uuid) -> Result<Option<Clean>, OpenError> {
    let path = dir.join(CLEAN_FILE);
    let names = disk.list(dir).map_err(|source| OpenError::io("list", dir, source))?;
    if !names.iter().any(|name| name == CLEAN_FILE) {
        return Ok(None);
    }
    let bytes = disk.read(&path).map_err(|source| OpenError::io("read", &path, source))?;
    let clean: Option<Clean> = serde_json::from_slice(&bytes).ok();
    Ok(clean.filter(|clean| clean.store == store))
}

/// Takes the mark off.
pub(crate) fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    let path = dir.join(CLEAN_FILE);
    disk.unlink(&path).and_then(|()| disk.fsync_dir(dir)).map_err(|source| OpenError::io("remove", &path, source))
}
