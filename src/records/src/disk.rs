//! The few operations on files that durability is made of, as a trait: journal, snapshots and blobs write through it and
//! nothing else, so that the same code runs on a real disk and on one whose power a test cuts ([`faulty`]).
//!
//! Invariant: an operation is on disk only when the matching sync has returned `Ok`: the bytes of a file after
//! [`File::fdatasync`], its name (created, renamed, removed) after [`Disk::fsync_dir`] on its folder. Nobody may rely on
//! more, even where a file system happens to give it.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;

mod dice;
pub mod faulty;
mod real;

pub use real::RealDisk;

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing in place.
    Write,
    /// A new, empty file; what stood under the name before is emptied.
    Create,
}

/// A disk.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a folder and its parents; existing ones are fine. Their names are on disk when this returns.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, replacing what had it; atomic also in a crash.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Puts all changes of names in this folder on disk.
    fn fsync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no particular order; an absent folder has none.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Free space, in bytes, of the file system that holds `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Takes the one lock on `path` (created if absent) and holds it until the guard is dropped or the process ends.
    /// `WouldBlock` when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;

    /// The whole content of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Access::Read)?;
        let length = usize::try_from(file.length()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut bytes = vec![0; length];
        let read = file.pread(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Writes a small file so that after a crash it is there whole or not at all, and after `Ok` it is there.
    /// `path` must have a parent folder.
    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let draft = path.with_extension("tmp");
        let file = self.open(&draft, Access::Create)?;
        file.pwrite(bytes, 0)?;
        file.fdatasync()?;
        self.rename(&draft, path)?;
        self.fsync_dir(folder)
    }
}

/// An open file.
pub trait File: fmt::Debug + Send + Sync {
    /// Reads from `offset` until `buffer` is full or the file ends; says how much it read.
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns when every byte written so far, and the file's length, would survive a power cut. After an error nothing
    /// is known about any write since the last success, and a second call proves nothing: the kernel may have dropped
    /// the pages.
    fn fdatasync(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
}
