//! The thread that owns the index: opens or rebuilds it, answers, takes over what checkpoints hand to it.
//!
//! Started by `open`. Invariants: nobody else touches sled; a panic, an error, a wrong stamp or an unclean stop means that
//! the index is removed and made again from the cold snapshot, at most [`REBUILDS_MAX`] times; until then readers are told
//! to come back. A row leaves the delta only when the index has it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::delta::Row;
use super::index::{Index, IndexError};
use super::{Advance, Command, Link, Place};
use crate::error::OpenError;
use crate::feed::Shared;
use crate::snapshot::{self, Temperature, Value};
use crate::state::{Entry, Key};

/// An index that fails this often in one process will not get better.
const REBUILDS_MAX: u32 = 3;
/// Rows that the index takes over in one batch.
const BATCH_ROWS: usize = 512;

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("sled panicked")]
    Panicked,
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Truth(#[from] OpenError),
    #[error("cannot remove the old index")]
    Remove(#[from] std::io::Error),
}

/// The worker.
pub(crate) struct Worker {
    place: Place,
    shared: Arc<Shared>,
    link: Arc<Link>,
    queue: Receiver<Command>,
    /// None while no row was ever moved to it, so that a store without cold tables has no sled.
    index: Option<Index>,
    /// The cold snapshot that the index is of.
    revision: u64,
    rebuilds: u32,
}

/// Runs sled inside a boundary that its panics do not cross.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Failure::Panicked))
}

impl Worker {
    /// A worker that has not begun, and the link to it.
    pub(crate) fn new(place: Place, shared: Arc<Shared>) -> (Self, Arc<Link>) {
        let (link, queue) = Link::new();
        let revision = place.revision;
        (Self { place, shared, link: link.clone(), queue, index: None, revision, rebuilds: 0 }, link)
    }

    /// The thread.
    pub(crate) fn run(mut self) {
        let opened = self.open();
        self.settle_failure(opened);
        while let Ok(command) = self.queue.recv() {
            let advanced = self.take_over();
            self.settle_failure(advanced);
            match command {
                Command::Wake => {}
                Command::Get { table, key, answer } => {
                    let found = self.get(table, &key);
                    self.reply(answer, found);
                }
                Command::Range { table, prefix, after, limit, answer } => {
                    let found = self.range(table, &prefix, after.as_deref(), limit);
                    self.reply(answer, found);
                }
                Command::Stop { answer } => {
                    let stopped = self.stop();
                    let _gone = answer.send(stopped);
                    return;
                }
            }
        }
    }

    fn reply<T>(&mut self, answer: tokio::sync::oneshot::Sender<T>, found: Result<T, Failure>) {
        match found {
            Ok(found) => {
                let _gone = answer.send(found);
            }
            // The question is dropped, which tells the reader to come back.
            Err(failure) => {
                drop(answer);
                self.settle_failure(Err(failure));
            }
        }
    }

    /// After a failure: a new index, or none any more.
    fn settle_failure(&mut self, outcome: Result<(), Failure>) {
        let mut outcome = outcome;
        while let Err(failure) = outcome {
            self.link.ready.store(false, Ordering::Release);
            self.rebuilds += 1;
            if self.rebuilds > REBUILDS_MAX {
                tracing::error!(%failure, "the index of cold tables cannot be rebuilt; it is out of service until the next start");
                self.link.broken.store(true, Ordering::Release);
                return;
            }
            tracing::warn!(%failure, "rebuilding the index of cold tables");
            outcome = guarded(|| self.rebuild());
        }
    }

    /// Takes the index up where an orderly stop has left it, or makes it again.
    fn open(&mut self) -> Result<(), Failure> {
        let left = self.place.clean_revision == Some(self.revision)
            && self.place.folder.as_ref().is_some_and(|folder| folder.exists());
        if self.revision == 0 {
            self.remove_folder()?;
        } else if !(left && guarded(|| self.reopen()).unwrap_or(false)) {
            guarded(|| self.rebuild())?;
        }
        self.link.ready.store(true, Ordering::Release);
        Ok(())
    }

    /// False when what is there is not the index of this snapshot.
    fn reopen(&mut self) -> Result<bool, Failure> {
        let index = Index::open(self.place.folder.as_deref())?;
        let fits = index.is_of(self.place.store, self.revision)?;
        self.index = fits.then_some(index);
        Ok(fits)
    }

    fn remove_folder(&self) -> Result<(), Failure> {
        match &self.place.folder {
            Some(folder) if folder.exists() => Ok(std::fs::remove_dir_all(folder)?),
            _ => Ok(()),
        }
    }

    /// Makes the index from the newest cold snapshot that it has been told of.
    fn rebuild(&mut self) -> Result<(), Failure> {
        self.index = None;
        self.remove_folder()?;
        if self.revision > 0 {
            let index = Index::open(self.place.folder.as_deref())?;
            let path = self.place.snapshots.join(snapshot::file_name(self.revision, Temperature::Cold));
            self.fill(&index, &path)?;
            index.set_stamp(self.place.store, self.revision)?;
            self.index = Some(index);
        }
        self.link.ready.store(true, Ordering::Release);
        Ok(())
    }

    fn fill(&self, index: &Index, path: &Path) -> Result<(), Failure> {
        let mut rows: Vec<(u16, Vec<u8>, Row)> = Vec::new();
        let mut failure = None;
        let put = |rows: &mut Vec<(u16, Vec<u8>, Row)>| {
            let put = index.apply(rows.iter().map(|(table, key, row)| (*table, key.as_slice(), row)), true);
            rows.clear();
            put
        };
        snapshot::read(&*self.place.disk, path, self.place.store, &mut |row| {
            let Value::Inline(value) = row.value else { return Err(OpenError::damaged(path, "it names a blob")) };
            rows.push((row.table, row.key.to_vec(), Row { revision: row.revision, value: Some(value.into()) }));
            if rows.len() >= BATCH_ROWS && failure.is_none() {
                failure = put(&mut rows).err();
            }
            Ok(())
        })?;
        match failure {
            Some(failure) => Err(failure.into()),
            None => Ok(put(&mut rows)?),
        }
    }

    /// Takes over what checkpoints have written into newer cold snapshots.
    fn take_over(&mut self) -> Result<(), Failure> {
        loop {
            let Some(Advance { revision, rows }) = self.link.advances.lock().first().cloned() else { return Ok(()) };
            guarded(|| {
                if self.index.is_none() {
                    self.index = Some(Index::open(self.place.folder.as_deref())?);
                }
                let Some(index) = &self.index else { return Ok(()) };
                let all: Vec<_> = rows.iter().collect();
                for some in all.chunks(BATCH_ROWS) {
                    index.apply(some.iter().map(|((table, key), row)| (*table, &**key, *row)), false)?;
                }
                Ok(index.set_stamp(self.place.store, revision)?)
            })?;
            self.revision = revision;
            let all: Vec<_> = rows.iter().collect();
            for some in all.chunks(BATCH_ROWS) {
                self.shared.stored.write().cold.settle(some.iter().copied());
            }
            self.link.advances.lock().remove(0);
        }
    }

    fn get(&self, table: u16, key: &[u8]) -> Result<Option<Entry>, Failure> {
        if let Some(row) = self.shared.stored.read().cold.get(table, key) {
            return Ok(row.value.clone().map(|value| Entry { value, revision: row.revision }));
        }
        guarded(|| Ok(self.index.as_ref().map(|index| index.get(table, key)).transpose()?.flatten()))
    }

    fn range(
        &self,
        table: u16,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Entry)>, Failure> {
        let start = after.filter(|after| *after > prefix).unwrap_or(prefix);
        // Only this thread takes rows out of the delta, so what is not in here is in the index, or newer than this range.
        let delta: Vec<(Key, Row)> = {
            let stored = self.shared.stored.read();
            let rows = stored.cold.from(table, start).take_while(|(key, _)| key.starts_with(prefix));
            rows.filter(|(key, _)| after.is_none_or(|after| &***key > after))
                .map(|(key, row)| (key.clone(), row.clone()))
                .collect()
        };
        let mut delta = delta.into_iter().peekable();
        guarded(|| {
            let mut found: Vec<(Key, Entry)> = Vec::new();
            let add = |found: &mut Vec<(Key, Entry)>, (key, row): (Key, Row)| {
                found.extend(row.value.map(|value| (key, Entry { value, revision: row.revision })));
            };
            for row in self.index.iter().flat_map(|index| index.range(table, prefix, after)) {
                let (key, entry) = row?;
                while let Some(newer) = delta.next_if(|(newer, _)| *newer < key && found.len() < limit) {
                    add(&mut found, newer);
                }
                if found.len() >= limit {
                    break;
                }
                match delta.next_if(|(newer, _)| *newer == key) {
                    Some(newer) => add(&mut found, newer),
                    None => found.push((key, entry)),
                }
            }
            while let Some(newer) = delta.next_if(|_| found.len() < limit) {
                add(&mut found, newer);
            }
            found.truncate(limit);
            Ok(found)
        })
    }

    /// Leaves the index so that the next start can take it up.
    fn stop(&mut self) -> Option<u64> {
        let usable = self.link.ready.load(Ordering::Acquire) && !self.link.broken.load(Ordering::Acquire);
        let index = self.index.take().filter(|_| usable)?;
        let flushed = guarded(|| Ok(index.flush()?));
        drop(index);
        flushed.inspect_err(|failure| tracing::warn!(%failure, "the index of cold tables will be rebuilt")).ok()?;
        Some(self.revision)
    }
}
