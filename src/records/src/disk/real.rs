//! The machine's own disk.
//!
//! Invariant: `fdatasync` is the platform's strongest (`sync_data`; on macOS the standard library ends it in `F_FULLFSYNC`).

use std::any::Any;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Access, Disk, File};

/// Only the owner may read what is kept here.
const FILE_MODE: u32 = 0o600;

/// The machine's own file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl RealDisk {
    /// How long a disk takes to make 4 KiB durable: the median of a few tries in `folder`, in a file that is removed again.
    /// Less than some 20 µs means that nothing was made durable: tmpfs, an overlay mounted `volatile`, a machine that lies.
    pub fn sync_time(folder: &Path) -> io::Result<Duration> {
        const TRIES: usize = 9;
        let path = folder.join(format!("sync-time-{}.tmp", std::process::id()));
        let measure = || {
            let file = RealDisk.open(&path, Access::Create)?;
            file.pwrite(&[0; TRIES * 4096], 0)?;
            file.fdatasync()?;
            let mut times = Vec::with_capacity(TRIES);
            for turn in 0..TRIES {
                file.pwrite(&[1; 4096], turn as u64 * 4096)?;
                let begun = Instant::now();
                file.fdatasync()?;
                times.push(begun.elapsed());
            }
            times.sort_unstable();
            Ok(times.get(TRIES / 2).copied().unwrap_or_default())
        };
        let measured = measure();
        RealDisk.unlink(&path)?;
        measured
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.fsync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(FILE_MODE);
        match access {
            Access::Read => &mut options,
            Access::Write => options.write(true),
            Access::Create => options.write(true).create(true).truncate(true),
        };
        Ok(Box::new(RealFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn fsync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A name that is not UTF-8 is none of ours.
        entries.filter_map(|entry| entry.map(|e| e.file_name().into_string().ok()).transpose()).collect()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(Box::new(file))
    }
}

impl File for RealFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_sync_is_measured_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let time = RealDisk::sync_time(folder.path()).expect("measured");
        assert!(time > Duration::ZERO && time < Duration::from_secs(10));
        assert_eq!(RealDisk.list(folder.path()).expect("listed"), Vec::<String>::new());
    }

    #[test]
    fn a_file_written_whole_is_there_and_a_lock_is_taken_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("deep/er");
        RealDisk.create_dir(&path).expect("made");
        RealDisk.write_whole(&path.join("file"), b"bytes").expect("written");
        assert_eq!(RealDisk.read(&path.join("file")).expect("read"), b"bytes");
        let lock = RealDisk.lock(&path.join("LOCK")).expect("taken");
        assert_eq!(RealDisk.lock(&path.join("LOCK")).err().map(|e| e.kind()), Some(io::ErrorKind::WouldBlock));
        drop(lock);
        assert!(RealDisk.lock(&path.join("LOCK")).is_ok());
        assert!(RealDisk.free_bytes(&path).expect("asked") > 0);
    }
}
