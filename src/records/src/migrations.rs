//! `FORMAT`: whose folder this is and which program may open it. Written first, checked first.
//!
//! Called when a store opens. Invariants: a folder of a newer format is refused and both versions are named; a folder that
//! has data but no readable `FORMAT` is refused, never taken for a new one.

use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::disk::Disk;
use crate::error::OpenError;

/// The format that this program writes.
pub(crate) const FORMAT: u32 = 1;
/// The file's name.
pub(crate) const FORMAT_FILE: &str = "FORMAT";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// Version of everything in the folder.
    pub(crate) format: u32,
    /// Names this store; every segment and snapshot carries it.
    pub(crate) store: Uuid,
    /// The oldest version of this program that may open the folder.
    pub(crate) oldest_program: String,
    /// CRC-32C of the three values above.
    crc: u32,
}

impl Stamp {
    fn new(store: Uuid) -> Self {
        let mut stamp = Self { format: FORMAT, store, oldest_program: "0.1.0".to_owned(), crc: 0 };
        stamp.crc = stamp.computed_crc();
        stamp
    }

    fn computed_crc(&self) -> u32 {
        crc32c::crc32c(format!("{} {} {}", self.format, self.store, self.oldest_program).as_bytes())
    }
}

/// Reads the stamp of a store, or makes a new store where the folder has no data.
pub(crate) fn check_or_create(disk: &dyn Disk, dir: &Path, has_data: bool) -> Result<Stamp, OpenError> {
    let path = dir.join(FORMAT_FILE);
    let names = disk.list(dir).map_err(|source| OpenError::io("list", dir, source))?;
    if names.iter().any(|name| name == FORMAT_FILE) {
        let bytes = disk.read(&path).map_err(|source| OpenError::io("read", &path, source))?;
        return check(&path, &bytes);
    }
    if has_data {
        return Err(OpenError::damaged(&path, "it is missing, but the folder holds a store"));
    }
    let stamp = Stamp::new(Uuid::new_v4());
    let mut bytes = serde_json::to_vec(&stamp).map_err(|source| OpenError::io("encode", &path, source.into()))?;
    bytes.push(b'\n');
    disk.write_whole(&path, &bytes).map_err(|source| OpenError::io("write", &path, source))?;
    Ok(stamp)
}

fn check(path: &Path, bytes: &[u8]) -> Result<Stamp, OpenError> {
    let stamp: Stamp = serde_json::from_slice(bytes).map_err(|error| OpenError::damaged(path, error.to_string()))?;
    if stamp.crc != stamp.computed_crc() {
        return Err(OpenError::damaged(path, "its checksum does not fit"));
    }
    if stamp.format > FORMAT {
        return Err(OpenError::NewerFormat {
            path: path.to_owned(),
            found: stamp.format,
            known: FORMAT,
            oldest_program: stamp.oldest_program,
        });
    }
    Ok(stamp)
}
