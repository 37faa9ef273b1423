//! The journal: where a write becomes durable. Segments of zero-filled space, batches on 4 KiB boundaries, one write and
//! one `fdatasync` for each batch.
//!
//! Called by the committer (append), recovery (replay) and checkpoints (trim). Invariants:
//! - one batch is in flight at a time and nothing is ever rewritten, so only the last batch of a segment can be torn;
//! - after a failed write or sync nothing more is written to that segment and no later sync of it is believed: the journal
//!   goes on in a new segment whose header names the sequence of the failed batch, which cuts that batch off for good;
//! - a segment has its name only after its header is on disk, and takes a batch only after its name is.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::disk::{Access, Disk, File};
use crate::limits::BLOCK;

pub(crate) mod format;
pub(crate) mod replay;
pub(crate) mod spares;

use format::{Batch, SegmentHeader};
use spares::{Spares, WantSegment};

/// Why a batch is not in the journal.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// No room, and nothing was written.
    Full,
    /// The write or its sync failed; the batch has been cut off, the journal goes on.
    Failed { what: String, source: Arc<io::Error> },
    /// The journal takes nothing more until the store is opened again.
    Dead { what: String, source: Arc<io::Error> },
}

/// The segments that exist, oldest first; shared with whoever trims.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    list: Mutex<VecDeque<(u64, u64)>>,
    /// Bytes appended, those of blobs included; counts on from what was there when the store was opened.
    appended: AtomicU64,
}

impl Segments {
    /// The segments that were found, and how many bytes of them the last snapshot does not cover.
    pub(crate) fn new(found: impl IntoIterator<Item = (u64, u64)>, bytes: u64) -> Self {
        Self { list: Mutex::new(found.into_iter().collect()), appended: AtomicU64::new(bytes) }
    }

    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Counts the bytes of a blob as if the journal held them: blobs that nothing needs any more go with a checkpoint.
    pub(crate) fn count_blob(&self, bytes: u64) {
        self.appended.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes the oldest segment off the list if everything in it lies below `sequence`; the last one always stays.
    fn pop_below(&self, sequence: u64) -> Option<u64> {
        let mut list = self.list.lock();
        let next_first = list.get(1)?.1;
        if next_first > sequence {
            return None;
        }
        list.pop_front().map(|(number, _)| number)
    }
}

#[derive(Debug)]
struct Segment {
    file: Box<dyn File>,
    path: PathBuf,
    seed: u32,
    /// Where the next batch goes.
    offset: u64,
    length: u64,
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    store: Uuid,
    spares: Arc<Spares>,
    segments: Arc<Segments>,
    current: Option<Segment>,
    next_number: u64,
    next_sequence: u64,
    dead: Option<(String, Arc<io::Error>)>,
}

/// The file name of a segment.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:020}.seg")
}

/// The number in a segment's file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

impl Journal {
    /// A journal that goes on after `next_sequence`, in a new segment numbered `next_number`.
    pub(crate) fn new(
        store: Uuid,
        spares: Arc<Spares>,
        segments: Arc<Segments>,
        next_number: u64,
        next_sequence: u64,
    ) -> Self {
        let (disk, folder) = (spares.disk().clone(), spares.folder().to_owned());
        Self { disk, folder, store, spares, segments, current: None, next_number, next_sequence, dead: None }
    }

    /// The sequence that the next batch must start with.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The segments, for whoever counts or trims.
    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Bytes that have gone into it.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.segments.appended_bytes()
    }

    /// Puts a batch on disk. `Ok`: it survives a power cut. Any error: it is not part of the journal, unless the power
    /// goes before the journal could go on (then a batch that failed may be found again; nobody was told it was written).
    pub(crate) fn append(&mut self, batch: &mut Batch) -> Result<(), AppendError> {
        if let Some((what, source)) = &self.dead {
            return Err(AppendError::Dead { what: what.clone(), source: source.clone() });
        }
        debug_assert_eq!(batch.first_sequence(), self.next_sequence, "one sequence, no gaps");
        let needed = (batch.length().next_multiple_of(BLOCK)) as u64;
        let has_room = self.current.as_ref().is_some_and(|segment| segment.offset + needed <= segment.length);
        if !has_room {
            self.current = None;
            self.roll(needed)?;
        }
        let Some(segment) = &mut self.current else { return Err(AppendError::Full) };
        let bytes = batch.seal(segment.seed);
        match segment.file.pwrite(bytes, segment.offset).and_then(|()| segment.file.fdatasync()) {
            Ok(()) => {
                segment.offset += bytes.len() as u64;
                self.segments.appended.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.next_sequence = batch.next_sequence();
                Ok(())
            }
            Err(error) => Err(self.abandon(error)),
        }
    }

    /// Leaves a segment whose write failed, for a new one that cuts the failed batch off.
    fn abandon(&mut self, error: io::Error) -> AppendError {
        let path = self.current.take().map(|segment| segment.path).unwrap_or_default();
        tracing::error!(file = %path.display(), %error, "a journal write failed; going on in a new segment");
        let what = format!("write {}", path.display());
        let full = is_full(&error);
        match self.roll(0) {
            Ok(()) | Err(AppendError::Full) if full => AppendError::Full,
            Ok(()) | Err(AppendError::Full) => AppendError::Failed { what, source: Arc::new(error) },
            Err(dead) => dead,
        }
    }

    /// Starts a new segment with room for a batch of `needed` bytes. Two failures in a row end the journal.
    fn roll(&mut self, needed: u64) -> Result<(), AppendError> {
        let first = match self.start_segment(needed) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if is_full(&first) {
            return Err(AppendError::Full);
        }
        tracing::error!(folder = %self.folder.display(), error = %first, "starting a journal segment failed; trying once more");
        let second = match self.start_segment(needed) {
            Ok(()) => return Ok(()),
            Err(error) if is_full(&error) => return Err(AppendError::Full),
            Err(error) => error,
        };
        let what = format!("start a journal segment in {}", self.folder.display());
        tracing::error!(folder = %self.folder.display(), error = %second, "the store is read-only until it is opened again");
        let source = Arc::new(second);
        self.dead = Some((what.clone(), source.clone()));
        Err(AppendError::Dead { what, source })
    }

    fn start_segment(&mut self, needed: u64) -> io::Result<()> {
        let want = if self.next_number == 1 { WantSegment::First } else { WantSegment::Next };
        let spare = self.spares.take(want, needed + BLOCK as u64)?;
        let number = self.next_number;
        // Never used twice, whatever happens to this one.
        self.next_number += 1;
        let header = SegmentHeader { store: self.store, number, first_sequence: self.next_sequence };
        let (block, seed) = header.encode();
        let file = self.disk.open(&spare.path, Access::Write)?;
        file.pwrite(&block, 0)?;
        file.fdatasync()?;
        let path = self.folder.join(segment_name(number));
        self.disk.rename(&spare.path, &path)?;
        // Listed even where the next step fails: it has its name, so it must be trimmed in its turn.
        self.segments.list.lock().push_back((number, self.next_sequence));
        self.disk.fsync_dir(&self.folder)?;
        self.current = Some(Segment { file, path, seed, offset: BLOCK as u64, length: spare.length });
        Ok(())
    }
}

/// Gives up segments in which every record lies below `sequence`: they become spares, or go.
pub(crate) fn trim(segments: &Segments, spares: &Spares, sequence: u64) -> io::Result<()> {
    while let Some(number) = segments.pop_below(sequence) {
        let path: &Path = &spares.folder().join(segment_name(number));
        spares.recycle(path)?;
    }
    Ok(())
}

/// Whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
