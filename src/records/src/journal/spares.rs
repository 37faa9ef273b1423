//! Segments that stand ready before they are needed, and the watch over free space.
//!
//! A background thread keeps two of them; the journal takes one when its segment is full. Invariants: a spare is
//! zero-filled or was a whole segment, so that writing into it allocates nothing; its bytes and its name are on disk before
//! it counts as one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::is_full;
use crate::disk::{Access, Disk};
use crate::limits::{FIRST_SEGMENT_BYTES, PROBE_EVERY};

const ZEROS: usize = 1 << 20;

/// A file that a segment can be made of.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
}

/// Which segment the journal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WantSegment {
    /// The first of a new store: somebody waits for the start, so a small one will do.
    First,
    Next,
}

/// Sizes and limits that tests make smaller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpareLimits {
    pub(crate) segment_bytes: u64,
    pub(crate) count: usize,
    pub(crate) free_bytes_min: u64,
}

/// The pool.
#[derive(Debug)]
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    limits: SpareLimits,
    pool: Mutex<Pool>,
    /// Held while one is being made, so that journal and background thread do not make two at once.
    making: Mutex<()>,
    wake: Condvar,
    free_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Pool {
    ready: Vec<Spare>,
    next_name: u64,
    closing: bool,
}

impl Spares {
    /// Takes up the spares that are in the folder already.
    pub(crate) fn open(disk: Arc<dyn Disk>, folder: PathBuf, limits: SpareLimits) -> io::Result<Self> {
        let mut pool = Pool::default();
        for name in disk.list(&folder)? {
            let path = folder.join(&name);
            if name.ends_with(".tmp") {
                disk.unlink(&path)?;
            } else if let Some(number) = name.strip_prefix("spare-").and_then(|n| n.parse::<u64>().ok()) {
                let length = disk.open(&path, Access::Read)?.length()?;
                pool.next_name = pool.next_name.max(number + 1);
                pool.ready.push(Spare { path, length });
            }
        }
        let spares = Self {
            disk,
            folder,
            limits,
            pool: Mutex::new(pool),
            making: Mutex::default(),
            wake: Condvar::new(),
            free_bytes: AtomicU64::new(u64::MAX),
        };
        spares.measure();
        Ok(spares)
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes a spare of at least `length_min` bytes, or makes one if the background thread is behind. `StorageFull` when
    /// the disk has no room for one.
    pub(crate) fn take(&self, want: WantSegment, length_min: u64) -> io::Result<Spare> {
        if let Some(spare) = self.take_ready(length_min) {
            return Ok(spare);
        }
        let _making = self.making.lock();
        if let Some(spare) = self.take_ready(length_min) {
            return Ok(spare);
        }
        let usual = if want == WantSegment::First {
            FIRST_SEGMENT_BYTES.min(self.limits.segment_bytes)
        } else {
            self.limits.segment_bytes
        };
        let length = usual.max(length_min);
        if self.measure() < length {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let spare = self.make(length);
        self.wake.notify_all();
        spare
    }

    fn take_ready(&self, length_min: u64) -> Option<Spare> {
        let mut pool = self.pool.lock();
        let at = pool.ready.iter().position(|spare| spare.length >= length_min)?;
        let spare = pool.ready.swap_remove(at);
        self.wake.notify_all();
        Some(spare)
    }

    fn next_path(&self) -> PathBuf {
        let mut pool = self.pool.lock();
        let path = self.folder.join(format!("spare-{}", pool.next_name));
        pool.next_name += 1;
        path
    }

    fn make(&self, length: u64) -> io::Result<Spare> {
        let path = self.next_path();
        let draft = path.with_extension("tmp");
        let made = self
            .fill(&draft, length)
            .and_then(|()| self.disk.rename(&draft, &path))
            .and_then(|()| self.disk.fsync_dir(&self.folder));
        if let Err(error) = made {
            // What remains of it must not keep the space that is missing.
            for leftover in [&draft, &path] {
                if let Err(error) = self.disk.unlink(leftover) {
                    tracing::debug!(file = %leftover.display(), %error, "nothing to remove after a failed spare");
                }
            }
            return Err(error);
        }
        Ok(Spare { path, length })
    }

    fn fill(&self, path: &Path, length: u64) -> io::Result<()> {
        let file = self.disk.open(path, Access::Create)?;
        let zeros = vec![0; ZEROS.min(length as usize)];
        let mut offset = 0;
        while offset < length {
            let piece = zeros.get(..(length - offset) as usize).unwrap_or(&zeros);
            file.pwrite(piece, offset)?;
            offset += piece.len() as u64;
        }
        file.fdatasync()
    }

    /// Turns a segment that is not needed any more into a spare, or removes it when there are enough.
    pub(crate) fn recycle(&self, segment: &Path) -> io::Result<()> {
        let length = self.disk.open(segment, Access::Read)?.length()?;
        let wanted = length >= self.limits.segment_bytes && self.pool.lock().ready.len() < self.limits.count;
        if !wanted {
            self.disk.unlink(segment)?;
            return self.disk.fsync_dir(&self.folder);
        }
        let path = self.next_path();
        self.disk.rename(segment, &path)?;
        // Before it is written to: otherwise the old name could come back with new bytes behind it.
        self.disk.fsync_dir(&self.folder)?;
        self.pool.lock().ready.push(Spare { path, length });
        Ok(())
    }

    /// Looks at the free space.
    fn measure(&self) -> u64 {
        match self.disk.free_bytes(&self.folder) {
            Ok(free) => self.free_bytes.store(free, Ordering::Relaxed),
            Err(error) => tracing::warn!(folder = %self.folder.display(), %error, "cannot ask for the free space"),
        }
        self.free_bytes()
    }

    /// Free space when last looked at.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Whether new data must be refused: too little space, or no spare and no room to make one and keep the reserve.
    pub(crate) fn is_full(&self) -> bool {
        let free = self.free_bytes();
        let reserve = self.limits.free_bytes_min;
        free < reserve || (free < reserve + self.limits.segment_bytes && self.pool.lock().ready.is_empty())
    }

    /// One turn of the background work: look at the space, make what is missing.
    pub(crate) fn tend(&self) {
        self.measure();
        while self.missing() && self.free_bytes() >= self.limits.free_bytes_min + self.limits.segment_bytes {
            let _making = self.making.lock();
            if !self.missing() {
                break;
            }
            match self.make(self.limits.segment_bytes) {
                Ok(spare) => self.pool.lock().ready.push(spare),
                Err(error) => {
                    let full = is_full(&error);
                    tracing::warn!(folder = %self.folder.display(), %error, full, "cannot prepare a journal segment");
                    break;
                }
            }
            self.measure();
        }
    }

    fn missing(&self) -> bool {
        let pool = self.pool.lock();
        !pool.closing && pool.ready.len() < self.limits.count
    }

    /// The background thread: tends the pool when one was taken, and every second; but not in the first second, in which
    /// the platform starts and its first writes should have the disk for themselves.
    pub(crate) fn run(&self) {
        let quiet_until = Instant::now() + PROBE_EVERY;
        loop {
            let mut pool = self.pool.lock();
            while !pool.closing && Instant::now() < quiet_until {
                self.wake.wait_until(&mut pool, quiet_until);
            }
            if pool.closing {
                return;
            }
            drop(pool);
            self.tend();
            let mut pool = self.pool.lock();
            if !pool.closing {
                self.wake.wait_for(&mut pool, PROBE_EVERY);
            }
        }
    }

    /// Ends [`Spares::run`].
    pub(crate) fn close(&self) {
        self.pool.lock().closing = true;
        self.wake.notify_all();
    }
}
