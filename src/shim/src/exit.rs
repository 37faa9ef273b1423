//! Exit records: how an attempt ended, on disk before anybody is told. Written by the shim, read by `node`.
//!
//! Invariant: a record is whole or absent (written beside, fsync, rename).

use crate::folder::Folder;
use crate::protocol::End;
use sandbox::error::{Failure, Result};
use std::fs::{self, File};
use std::io::Write;

/// Writes the record of an attempt; when this returns, it is on disk.
pub fn record(folder: &Folder, container: &str, attempt: u32, end: &End) -> Result<()> {
    let path = folder.exit(container, attempt);
    let failed = |error: &std::io::Error| Failure::of("write", path.to_string_lossy(), error);
    let text = serde_json::to_vec(end).map_err(|error| failed(&error.into()))?;
    let draft = folder.exits().join(format!("{container}.{attempt}.tmp"));
    let mut file = File::create(&draft).map_err(|error| failed(&error))?;
    file.write_all(&text).map_err(|error| failed(&error))?;
    file.sync_data().map_err(|error| failed(&error))?;
    fs::rename(&draft, &path).map_err(|error| failed(&error))
}

/// The record of an attempt; none if it has not ended, or if nobody was there to write it.
pub fn find(folder: &Folder, container: &str, attempt: u32) -> Option<End> {
    serde_json::from_slice(&fs::read(folder.exit(container, attempt)).ok()?).ok()
}

/// All records of a pod: container, attempt, end.
pub fn list(folder: &Folder) -> Vec<(String, u32, End)> {
    let Ok(entries) = fs::read_dir(folder.exits()) else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (container, attempt) = name.rsplit_once('.')?;
        let attempt = attempt.parse().ok()?;
        Some((container.to_owned(), attempt, find(folder, container, attempt)?))
    });
    let mut found: Vec<_> = named.collect();
    found.sort_by_key(|(_, attempt, end)| (end.finished_ns, *attempt));
    found
}
