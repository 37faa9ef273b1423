//! Files that are on disk when we say they are.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// What a file or folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Bytes, a folder's files added up.
    pub size_bytes: u64,
    /// SHA-256 of a file, in hex; none for a folder.
    pub sha256: Option<String>,
}

/// Writes a file whole or not at all, and returns once it is on disk: temporary file, sync, rename, sync of the folder.
///
/// # Errors
/// When any of that fails; what was there before is then still there.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    fs::create_dir_all(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// Puts a file, or a folder with everything in it, on disk and says what it holds. Links are not followed.
///
/// # Errors
/// When something cannot be read or synced.
pub fn settle(path: &Path) -> io::Result<Content> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_dir() {
        let mut size_bytes = 0;
        for entry in fs::read_dir(path)? {
            size_bytes += settle(&entry?.path())?.size_bytes;
        }
        File::open(path)?.sync_all()?;
        return Ok(Content { size_bytes, sha256: None });
    }
    if !meta.is_file() {
        return Ok(Content { size_bytes: 0, sha256: None });
    }
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut size_bytes = 0;
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        size_bytes += len as u64;
        hash.update(buffer.get(..len).unwrap_or_default());
    }
    file.sync_all()?;
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Content { size_bytes, sha256: Some(sha256) })
}
