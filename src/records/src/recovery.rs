//! From a folder to a state: what [`crate::Db::open`] does before anything runs.
//!
//! Invariants: everything that was acknowledged is in the state, nothing half; what cannot be explained is refused by name,
//! never skipped; nothing is shown that a power cut could still take away.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::blobs::{BLOBS_DIR, Blobs};
use crate::checkpoint::{Kept, KeptCold, SNAPSHOTS_DIR};
use crate::clean;
use crate::cold::delta::{Delta, Row};
use crate::db::Options;
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::feed::{Change, History};
use crate::journal::format::{BlobName, Operation, Record, Write};
use crate::journal::replay::{self, FoundSegment};
use crate::migrations::{self, Stamp};
use crate::snapshot::{self, Header, Temperature, Whole};
use crate::state::{COLD, Entry, Key, State};

/// Where the journal lives, below the store's folder.
pub(crate) const JOURNAL_DIR: &str = "journal";

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) stamp: Stamp,
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) segments: Vec<FoundSegment>,
    pub(crate) kept: VecDeque<Kept>,
    /// Writes to cold tables that their snapshot does not have.
    pub(crate) delta: Delta,
    pub(crate) cold: KeptCold,
    /// The cold snapshot that the index was of at an orderly stop.
    pub(crate) clean_index: Option<u64>,
    /// Journal bytes that were read.
    pub(crate) replayed_bytes: u64,
}

/// Reads the store in `options.dir`, or makes an empty one.
pub(crate) fn recover(options: &Options) -> Result<Recovered, OpenError> {
    let (disk, dir) = (&*options.disk, &*options.dir);
    let [journal, snapshots, blobs] = [JOURNAL_DIR, SNAPSHOTS_DIR, BLOBS_DIR].map(|name| dir.join(name));
    for folder in [&journal, &snapshots, &blobs] {
        disk.create_dir(folder).map_err(|source| OpenError::io("create", folder, source))?;
    }
    let segment_names = list(disk, &journal)?.into_iter().filter(|name| crate::journal::segment_number(name).is_some());
    let has_data = segment_names.count() + snapshot_paths(disk, &snapshots)?.len() > 0;
    let stamp = migrations::check_or_create(disk, dir, has_data)?;
    let clean = clean::read(disk, dir, stamp.store)?;
    let blobs = Arc::new(Blobs::new(options.disk.clone(), blobs));
    let segments = replay::find_segments(disk, &journal, stamp.store)?;
    let base = load_snapshot(disk, &snapshots, stamp.store, &blobs, &segments)?;
    let mut redo = Redo::over(base.state, base.end_sequence, base.cold_from, options, blobs.clone());
    let start = match replay::start_for(&segments, redo.from.min(redo.cold_from)) {
        Some(at) => history_start(disk, &journal, &segments, at, &redo, options.history_bytes),
        None if segments.is_empty() && redo.from == 1 => 0,
        None => return Err(OpenError::damaged(&journal, format!("it does not reach back to sequence {}", redo.from))),
    };
    let end = replay::replay(disk, &journal, segments.get(start..).unwrap_or_default(), &mut |record, path| {
        redo.record(&record, path)
    })?;
    let reached = end.next_sequence;
    let promised = redo.exact_from.max(clean.map_or(0, |clean| clean.next_sequence));
    if reached < promised {
        return Err(OpenError::damaged(&journal, format!("it ends at sequence {reached}, but it went to {promised}")));
    }
    replay::settle(disk, &journal, &end)?;
    if clean.is_some() {
        clean::remove(disk, dir)?;
    }
    let Redo { state, history, delta, .. } = redo;
    let (kept, cold, clean_index, replayed_bytes) =
        (base.kept, base.cold, clean.and_then(|clean| clean.index), end.bytes);
    Ok(Recovered { stamp, state, history, blobs, segments, kept, delta, cold, clean_index, replayed_bytes })
}

fn list(disk: &dyn Disk, folder: &Path) -> Result<Vec<String>, OpenError> {
    disk.list(folder).map_err(|source| OpenError::io("list", folder, source))
}

/// The snapshots in a folder, newest first.
fn snapshot_paths(disk: &dyn Disk, folder: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let mut names: Vec<String> =
        list(disk, folder)?.into_iter().filter(|name| snapshot::file_revision(name).is_some()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// Where redo begins.
struct Base {
    state: State,
    end_sequence: u64,
    kept: VecDeque<Kept>,
    cold: KeptCold,
    cold_from: u64,
}

/// The newest intact snapshot, or the empty state where the journal goes back to the beginning.
fn load_snapshot(
    disk: &dyn Disk,
    folder: &Path,
    store: Uuid,
    blobs: &Blobs,
    segments: &[FoundSegment],
) -> Result<Base, OpenError> {
    let paths = snapshot_paths(disk, folder)?;
    let mut first_error = None;
    for (at, path) in paths.iter().enumerate() {
        let loaded = snapshot::load(disk, path, store, blobs).and_then(|loaded| {
            let cold = check_cold(disk, folder, store, loaded.whole.header.cold_revision)?;
            Ok((loaded, cold))
        });
        match loaded {
            Ok((loaded, cold)) => {
                let older = paths.get(at + 1).and_then(|older| kept_unread(disk, older, store));
                let Whole { header, end_sequence, bytes } = loaded.whole;
                let newest = kept_of(&header, bytes, Some(loaded.blobs));
                let kept = older.into_iter().chain([newest]).collect();
                return Ok(Base { state: loaded.state, end_sequence, kept, cold, cold_from: header.cold_from });
            }
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "a snapshot cannot be used; trying the one before it");
                first_error.get_or_insert(error);
            }
        }
    }
    let complete = segments.first().is_none_or(|first| first.first_sequence == 1);
    match first_error {
        Some(error) if !complete || segments.is_empty() => Err(error),
        None if !complete => {
            Err(OpenError::damaged(folder, "it has no snapshot, and the journal does not go back to the beginning"))
        }
        _ => {
            let cold = KeptCold { sequence: 1, ..KeptCold::default() };
            Ok(Base { state: State::empty(), end_sequence: 1, kept: VecDeque::new(), cold, cold_from: 1 })
        }
    }
}

/// An older snapshot that is kept in reserve: only its header is looked at.
fn kept_unread(disk: &dyn Disk, path: &Path, store: Uuid) -> Option<Kept> {
    let file = disk.open(path, Access::Read).ok()?;
    let header = snapshot::read_header(&*file).filter(|header| header.store == store)?;
    Some(kept_of(&header, file.length().ok()?, None))
}

fn kept_of(header: &Header, bytes: u64, blobs: Option<HashSet<BlobName>>) -> Kept {
    let Header { revision, sequence, cold_revision, cold_from, .. } = *header;
    Kept { revision, sequence, bytes, blobs, cold_revision, cold_from }
}

/// The cold snapshot that a hot one names. Only its header is looked at: it is read whole when the index is made from it.
fn check_cold(disk: &dyn Disk, folder: &Path, store: Uuid, revision: u64) -> Result<KeptCold, OpenError> {
    if revision == 0 {
        return Ok(KeptCold { sequence: 1, ..KeptCold::default() });
    }
    let path = folder.join(snapshot::file_name(revision, Temperature::Cold));
    let file = disk.open(&path, Access::Read).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => OpenError::damaged(&path, "it is missing"),
        _ => OpenError::io("open", &path, source),
    })?;
    let header = snapshot::read_header(&*file).filter(|header| header.store == store && header.revision == revision);
    let header = header.ok_or_else(|| OpenError::damaged(&path, "its header is not intact"))?;
    let bytes = file.length().map_err(|source| OpenError::io("ask for the length of", &path, source))?;
    Ok(KeptCold { revision, sequence: header.sequence, bytes, appended: 0 })
}

/// The segment to begin with so that the history is complete, at or before the one that redo needs.
fn history_start(
    disk: &dyn Disk,
    folder: &Path,
    segments: &[FoundSegment],
    at: usize,
    redo: &Redo,
    bytes_max: u64,
) -> usize {
    let (mut start, mut bytes) = (at, 0);
    while let (Some(segment), Some(before)) = (segments.get(start), start.checked_sub(1)) {
        let inside = replay::first_time(disk, folder, segment).is_none_or(|time| time >= redo.history_from);
        // Below what redo needs a segment may have been given up already, or have failed to be.
        let adjoins = segments.get(before).is_some_and(|before| before.number + 1 == segment.number);
        bytes += crate::limits::SEGMENT_BYTES;
        if !inside || !adjoins || bytes > bytes_max {
            break;
        }
        start = before;
    }
    start
}

/// Applies records to a state and gathers the history that watchers will ask for.
#[derive(Debug)]
struct Redo {
    state: State,
    history: History,
    blobs: Arc<Blobs>,
    /// Records below this are in the state already and only serve the history.
    from: u64,
    /// From here on the state is exactly what the journal says; below, the snapshot may have been ahead.
    exact_from: u64,
    /// From here on cold tables need the journal.
    cold_from: u64,
    delta: Delta,
    /// What records below `exact_from` have written.
    seen: HashMap<(u16, Key), Entry>,
    /// The revision that the next record must have, once one has been read.
    next_revision: Option<u64>,
    now: Timestamp,
    /// Records older than this are no part of the history.
    history_from: Timestamp,
}

impl Redo {
    fn over(state: State, exact_from: u64, cold_from: u64, options: &Options, blobs: Arc<Blobs>) -> Self {
        let now = options.clock.now();
        let span = SignedDuration::try_from(options.history).unwrap_or(SignedDuration::MAX);
        let history_from = now.saturating_sub(span).unwrap_or(Timestamp::MIN);
        let history = History::new(state.revision, options.history, options.history_bytes);
        let from = state.next_sequence;
        let (delta, seen, next_revision) = (Delta::default(), HashMap::new(), None);
        Self { state, history, blobs, from, exact_from, cold_from, delta, seen, next_revision, now, history_from }
    }

    fn record(&mut self, record: &Record<'_>, path: &Path) -> Result<(), OpenError> {
        if record.sequence == self.from && record.revision != self.state.revision + 1 {
            let what = format!(
                "record {} has revision {}, the snapshot ends at {}",
                record.sequence, record.revision, self.state.revision
            );
            return Err(OpenError::damaged(path, what));
        }
        let expected = *self.next_revision.get_or_insert_with(|| {
            // The history can reach back to the first record that was read.
            self.history.restart(record.revision - 1);
            record.revision
        });
        if record.revision != expected {
            let what = format!("record {} has revision {}, expected {expected}", record.sequence, record.revision);
            return Err(OpenError::damaged(path, what));
        }
        for (revision, operation) in (record.revision..).zip(&record.operations) {
            self.operation(operation, revision, record, path)?;
        }
        self.next_revision = Some(record.revision + record.operations.len() as u64);
        if record.sequence >= self.from {
            self.state.next_sequence = record.sequence + 1;
        }
        self.history.trim(self.now, &Default::default());
        Ok(())
    }

    fn operation(
        &mut self,
        operation: &Operation<'_>,
        revision: u64,
        record: &Record<'_>,
        path: &Path,
    ) -> Result<(), OpenError> {
        let (table, redone) = (operation.table, record.sequence >= self.from);
        if table & COLD != 0 {
            return self.cold_operation(operation, revision, record, path);
        }
        if !redone && record.time < self.history_from {
            self.history.restart(revision);
            return Ok(());
        }
        let key: Key = operation.key.into();
        // What the snapshot has brought already is shared, not copied.
        let loaded = self.state.get(table, &key).filter(|entry| entry.revision == revision).cloned();
        let new = match operation.write {
            Write::Delete => None,
            _ if loaded.is_some() => loaded,
            Write::Put(value) => Some(Entry { value: value.into(), revision }),
            Write::PutBlob(name) => match self.blobs.load(&name, record.sequence) {
                Ok(value) => Some(Entry { value, revision }),
                Err(error) if redone => return Err(error),
                // A blob that only history would need may have been swept.
                Err(_) => {
                    self.history.restart(revision);
                    return Ok(());
                }
            },
        };
        let old = self.old(operation, &key, record, path)?;
        if record.sequence < self.exact_from {
            match &new {
                Some(entry) => self.seen.insert((table, key.clone()), entry.clone()),
                None => self.seen.remove(&(table, key.clone())),
            };
        }
        if redone {
            self.state.set(table, key.clone(), new.clone());
            self.state.revision = revision;
        }
        match old {
            Some(old) if record.time >= self.history_from => {
                self.history.push(Arc::new(Change { table, key, revision, time: record.time, old, new }));
            }
            _ => self.history.restart(revision),
        }
        Ok(())
    }

    /// Cold tables have no history: nobody watches them, and nobody reads their past.
    fn cold_operation(
        &mut self,
        operation: &Operation<'_>,
        revision: u64,
        record: &Record<'_>,
        path: &Path,
    ) -> Result<(), OpenError> {
        let value = match operation.write {
            Write::Put(value) => Some(value.into()),
            Write::Delete => None,
            Write::PutBlob(_) => return Err(OpenError::damaged(path, "a cold table names a blob")),
        };
        if record.sequence >= self.cold_from {
            self.delta.set(operation.table, operation.key.into(), Row { revision, value }, record.sequence);
        }
        if record.sequence >= self.from {
            self.state.revision = revision;
        }
        Ok(())
    }

    /// What an operation has replaced; `None` where that can no longer be said.
    fn old(
        &self,
        operation: &Operation<'_>,
        key: &Key,
        record: &Record<'_>,
        path: &Path,
    ) -> Result<Option<Option<Entry>>, OpenError> {
        let wanted = operation.old_revision;
        let stored = self.state.get(operation.table, key);
        let fits = |entry: &&Entry| entry.revision == wanted;
        if record.sequence >= self.exact_from {
            let found = stored.map_or(0, |entry| entry.revision);
            if found != wanted {
                let what = format!("record {} replaces revision {wanted}, but the state has {found}", record.sequence);
                return Err(OpenError::damaged(path, what));
            }
            return Ok(Some(stored.cloned()));
        }
        if wanted == 0 {
            return Ok(Some(None));
        }
        let seen = || self.seen.get(&(operation.table, key.clone())).filter(fits);
        Ok(stored.filter(fits).or_else(seen).map(|entry| Some(entry.clone())))
    }
}
