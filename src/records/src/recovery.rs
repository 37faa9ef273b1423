//! From a folder to a state: what [`crate::Db::open`] does before anything runs.
//!
//! Invariants: everything that was acknowledged is in the state, nothing half; what cannot be explained is refused by name,
//! never skipped; nothing is shown that a power cut could still take away.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::db::{OpenError, Options};
use crate::feed::{Change, History};
use crate::journal::format::{Operation, Record, Write};
use crate::journal::replay::{self, FoundSegment};
use crate::migrations::{self, Stamp};
use crate::state::{Entry, State};

/// Where the journal lives, below the store's folder.
pub(crate) const JOURNAL_DIR: &str = "journal";

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) stamp: Stamp,
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) segments: Vec<FoundSegment>,
    pub(crate) next_sequence: u64,
}

/// Reads the store in `options.dir`, or makes an empty one.
pub(crate) fn recover(options: &Options) -> Result<Recovered, OpenError> {
    let (disk, dir) = (&*options.disk, &*options.dir);
    let journal = dir.join(JOURNAL_DIR);
    disk.create_dir(&journal).map_err(|source| OpenError::io("create", &journal, source))?;
    disk.fsync_dir(dir).map_err(|source| OpenError::io("sync", dir, source))?;
    let names = disk.list(&journal).map_err(|source| OpenError::io("list", &journal, source))?;
    let stamp = migrations::check_or_create(
        disk,
        dir,
        names.iter().any(|name| crate::journal::segment_number(name).is_some()),
    )?;
    let segments = replay::find_segments(disk, &journal, stamp.store)?;
    let mut redo = Redo::new(options.clock.now(), options.history, options.history_bytes);
    let end = replay::replay(disk, &journal, &segments, &mut |record, path| redo.apply(&record, path))?;
    replay::settle(disk, &journal, &segments)?;
    Ok(Recovered { stamp, state: redo.state, history: redo.history, segments, next_sequence: end.next_sequence })
}

/// Applies records to a state and keeps the history that watchers will ask for.
#[derive(Debug)]
struct Redo {
    state: State,
    history: History,
    now: Timestamp,
    /// Records older than this are no part of the history.
    history_from: Timestamp,
}

impl Redo {
    fn new(now: Timestamp, keep: Duration, keep_bytes: u64) -> Self {
        let span = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let history_from = now.saturating_sub(span).unwrap_or(Timestamp::MIN);
        Self { state: State::default(), history: History::new(0, keep, keep_bytes), now, history_from }
    }

    fn apply(&mut self, record: &Record<'_>, path: &Path) -> Result<(), OpenError> {
        if record.revision != self.state.revision + 1 {
            let what = format!(
                "record {} has revision {}, expected {}",
                record.sequence,
                record.revision,
                self.state.revision + 1
            );
            return Err(OpenError::damaged(path, what));
        }
        for operation in &record.operations {
            self.apply_one(operation, record, path)?;
        }
        self.history.trim(self.now, &Default::default());
        Ok(())
    }

    fn apply_one(&mut self, operation: &Operation<'_>, record: &Record<'_>, path: &Path) -> Result<(), OpenError> {
        let revision = self.state.revision + 1;
        let new = match operation.write {
            Write::Put(value) => Some(Entry { value: value.into(), revision }),
            Write::Delete => None,
            Write::PutBlob(_) => {
                return Err(OpenError::damaged(path, "it names a blob, which this version cannot read"));
            }
        };
        let key: std::sync::Arc<[u8]> = operation.key.into();
        let old = self.state.set(operation.table, key.clone(), new.clone());
        let old_revision = old.as_ref().map_or(0, |old| old.revision);
        if old_revision != operation.old_revision {
            let what = format!(
                "record {} replaces revision {}, but the state has {old_revision}",
                record.sequence, operation.old_revision
            );
            return Err(OpenError::damaged(path, what));
        }
        self.state.revision = revision;
        if record.time < self.history_from {
            self.history.restart(revision);
        } else {
            self.history.push(std::sync::Arc::new(Change {
                table: operation.table,
                key,
                revision,
                time: record.time,
                old,
                new,
            }));
        }
        Ok(())
    }
}
