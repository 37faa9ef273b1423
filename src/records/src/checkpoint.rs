//! Checkpoints: a new snapshot now and then, so that the journal need not be kept for ever.
//!
//! A background thread runs them when the journal has grown enough; `close` runs one more. Invariants: the committer is
//! never stopped (rows are taken in chunks, their values shared); two snapshots are kept, and the journal from the older
//! one's sequence on, so that one damaged snapshot loses nothing; what is given up is given up only after the new snapshot
//! is on disk.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::blobs::Blobs;
use crate::cold::{Advance, Link, merge};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::feed::Shared;
use crate::journal::format::BlobName;
use crate::journal::spares::Spares;
use crate::journal::{self, Segments};
use crate::snapshot::{self, Header, Temperature, Writer};
use crate::state::Key;

/// Where snapshots live, below the store's folder.
pub(crate) const SNAPSHOTS_DIR: &str = "snapshots";
/// Rows that are taken from the state at once, while the committer waits.
const CHUNK_ROWS: usize = 256;
/// A cold snapshot is due when so much has gathered in memory, or a quarter of the last one's size if that is more …
const COLD_DELTA_BYTES: u64 = 8 << 20;
/// … but never more than this, which is what cold tables may cost in memory.
const COLD_DELTA_BYTES_MAX: u64 = 32 << 20;
/// … or when the journal that is kept for it is this many checkpoints long.
pub(crate) const COLD_JOURNAL_FACTOR: u64 = 4;
/// How many snapshots are kept.
const KEEP: usize = 2;
/// After a failed checkpoint the next is tried when the journal has grown again, or after this time.
const RETRY_AFTER: Duration = Duration::from_secs(60);

/// A snapshot on disk.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) revision: u64,
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    /// The blobs it names; unknown for one that was not read.
    pub(crate) blobs: Option<HashSet<BlobName>>,
    /// The cold snapshot that belongs to it, and from which sequence on that one needs the journal.
    pub(crate) cold_revision: u64,
    pub(crate) cold_from: u64,
}

/// The newest cold snapshot.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KeptCold {
    /// 0 for none yet.
    pub(crate) revision: u64,
    /// It holds everything below this; the beginning where there is none yet.
    pub(crate) sequence: u64,
    pub(crate) bytes: u64,
    /// The journal's size when it was written.
    pub(crate) appended: u64,
}

/// Runs checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) folder: PathBuf,
    pub(crate) store: Uuid,
    pub(crate) shared: Arc<Shared>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) checkpoint_bytes: u64,
    /// Oldest first.
    pub(crate) kept: VecDeque<Kept>,
    /// The journal's size when the last checkpoint began.
    pub(crate) appended_before: u64,
    pub(crate) cold: KeptCold,
    /// How much journal is kept for the sake of cold tables at most.
    pub(crate) cold_journal_bytes: u64,
    pub(crate) index: Arc<Link>,
}

/// A checkpoint under way.
#[derive(Debug)]
pub(crate) struct Walk {
    writer: Writer,
    header: Header,
    at: Option<(u16, Key)>,
    appended: u64,
}

impl Checkpointer {
    /// Journal bytes since the last checkpoint.
    pub(crate) fn pending_bytes(&self) -> u64 {
        self.segments.appended_bytes() - self.appended_before
    }

    /// Whether the journal has grown enough: what is written twice stays below what is written once.
    pub(crate) fn is_due(&self) -> bool {
        let last = self.kept.back().map_or(0, |kept| kept.bytes);
        self.pending_bytes() >= self.checkpoint_bytes.max(last)
    }

    /// Writes a new cold snapshot when enough has gathered in memory, or keeps the journal from being given up.
    fn write_cold(&mut self) -> Result<(), OpenError> {
        let appended = self.segments.appended_bytes();
        let frozen = {
            let stored = self.shared.stored.read();
            let delta = &stored.cold;
            let gathered = delta.bytes() >= COLD_DELTA_BYTES.max(self.cold.bytes / 4).min(COLD_DELTA_BYTES_MAX);
            let holds_up = appended - self.cold.appended >= self.cold_journal_bytes;
            // What the index has not taken over yet is in the delta still, but in the last snapshot already.
            let news = delta.last_sequence() >= self.cold.sequence && !delta.rows().is_empty();
            let due = news && (gathered || holds_up);
            due.then(|| (Arc::new(delta.rows().clone()), stored.state.next_sequence, stored.state.revision))
        };
        let Some((rows, sequence, revision)) = frozen else { return Ok(()) };
        let header = Header { store: self.store, sequence, revision, cold_revision: 0, cold_from: 0 };
        let bytes = merge::write(&*self.disk, &self.folder, self.store, self.cold.revision, &header, &rows)?;
        self.cold = KeptCold { revision, sequence, bytes, appended };
        self.index.advance(Advance { revision, rows });
        Ok(())
    }

    /// Begins a snapshot, or `None` when nothing has changed since the last one.
    pub(crate) fn begin(&mut self) -> Result<Option<Walk>, OpenError> {
        if let Err(error) = self.write_cold() {
            tracing::error!(folder = %self.folder.display(), %error, "a cold snapshot failed; the journal is kept for it");
        }
        let appended = self.segments.appended_bytes();
        let (sequence, revision, cold_last) = {
            let stored = self.shared.stored.read();
            (stored.state.next_sequence, stored.state.revision, stored.cold.last_sequence())
        };
        if self.kept.back().map_or(0, |kept| kept.revision) == revision {
            return Ok(None);
        }
        let cold_from = if cold_last < self.cold.sequence { sequence } else { self.cold.sequence };
        let header = Header { store: self.store, sequence, revision, cold_revision: self.cold.revision, cold_from };
        let writer = Writer::create(&*self.disk, &self.folder, &header, Temperature::Hot);
        let writer = writer.map_err(|source| OpenError::io("write", &self.folder, source))?;
        Ok(Some(Walk { writer, header, at: None, appended }))
    }

    /// Writes the next rows. True when there were none left.
    pub(crate) fn step(&self, walk: &mut Walk) -> io::Result<bool> {
        let rows = {
            let stored = self.shared.stored.read();
            stored.state.chunk(walk.at.as_ref().map(|(table, key)| (*table, &**key)), CHUNK_ROWS)
        };
        walk.writer.chunk(&rows)?;
        walk.at = rows.last().map(|(table, key, _)| (*table, key.clone())).or(walk.at.take());
        Ok(rows.len() < CHUNK_ROWS)
    }

    /// Puts the snapshot on disk under its name, then gives up what it makes superfluous.
    pub(crate) fn finish(&mut self, walk: Walk) -> io::Result<()> {
        let end_sequence = self.shared.stored.read().state.next_sequence;
        let (bytes, blobs) = walk.writer.finish(&*self.disk, end_sequence)?;
        self.kept.push_back(Kept {
            revision: walk.header.revision,
            sequence: walk.header.sequence,
            bytes,
            blobs: Some(blobs),
            cold_revision: walk.header.cold_revision,
            cold_from: walk.header.cold_from,
        });
        self.appended_before = walk.appended;
        self.give_up_old()
    }

    fn give_up_old(&mut self) -> io::Result<()> {
        while self.kept.len() > KEEP {
            self.kept.pop_front();
        }
        let hot = self.kept.iter().map(|kept| snapshot::file_name(kept.revision, Temperature::Hot));
        let cold = self.kept.iter().map(|kept| kept.cold_revision).chain([self.cold.revision]);
        let cold = cold.map(|revision| snapshot::file_name(revision, Temperature::Cold));
        let kept: HashSet<String> = hot.chain(cold).collect();
        let stale: Vec<String> =
            self.disk.list(&self.folder)?.into_iter().filter(|name| !kept.contains(name)).collect();
        for name in &stale {
            self.disk.unlink(&self.folder.join(name))?;
        }
        if !stale.is_empty() {
            self.disk.fsync_dir(&self.folder)?;
        }
        if self.kept.len() < KEEP {
            return Ok(());
        }
        let oldest = self.kept.iter().map(|kept| kept.sequence.min(kept.cold_from)).min().unwrap_or(0);
        journal::trim(&self.segments, &self.spares, oldest)?;
        let blobs: Option<Vec<&HashSet<BlobName>>> = self.kept.iter().map(|kept| kept.blobs.as_ref()).collect();
        if let Some(snapshots) = blobs {
            let removed = self.blobs.sweep(&snapshots, oldest)?;
            tracing::debug!(removed, "swept blobs that nothing names any more");
        }
        Ok(())
    }

    /// A whole checkpoint.
    pub(crate) fn run_once(&mut self) -> Result<(), OpenError> {
        let Some(mut walk) = self.begin()? else { return Ok(()) };
        let folder = self.folder.clone();
        let failed = |source| OpenError::io("write", &folder, source);
        while !self.step(&mut walk).map_err(failed)? {}
        let revision = walk.header.revision;
        self.finish(walk).map_err(failed)?;
        tracing::debug!(revision, "checkpoint written");
        Ok(())
    }

    /// Removes what a failed checkpoint left, which may be the space that is missing.
    fn give_up_drafts(&self) {
        let drafts = self.disk.list(&self.folder).unwrap_or_default().into_iter().filter(|name| name.ends_with(".tmp"));
        for draft in drafts {
            if let Err(error) = self.disk.unlink(&self.folder.join(&draft)) {
                tracing::warn!(file = draft, %error, "cannot remove an unfinished snapshot");
            }
        }
    }

    /// The background thread.
    pub(crate) fn run(this: &Mutex<Self>, signal: &Signal) {
        while signal.wait() {
            let mut this = this.lock();
            if this.is_due()
                && let Err(error) = this.run_once()
            {
                tracing::warn!(folder = %this.folder.display(), %error, "a checkpoint failed; the journal is kept longer");
                this.give_up_drafts();
            }
        }
    }
}

/// Wakes the checkpoint thread.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<SignalState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct SignalState {
    asked: bool,
    closing: bool,
}

impl Signal {
    /// Asks for a look at whether a checkpoint is due.
    pub(crate) fn ask(&self) {
        self.state.lock().asked = true;
        self.wake.notify_all();
    }

    /// Ends the thread.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.wake.notify_all();
    }

    /// Waits until asked; false when it is over.
    fn wait(&self) -> bool {
        let mut state = self.state.lock();
        if !state.asked && !state.closing {
            self.wake.wait_for(&mut state, RETRY_AFTER);
        }
        state.asked = false;
        !state.closing
    }
}
