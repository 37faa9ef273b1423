//! The change feed: what is durable (state and history together), and the watchers that are told of it in order.
//!
//! The committer publishes; the API server and pages watch. Invariants: changes are published only after they are on disk,
//! in the order of their revisions, each once; a watcher is never waited for: one that falls behind its bounded queue is
//! cut off and told so ([`Event::Lagged`]).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::cold::delta::{Delta, Row};
use crate::limits::WATCH_QUEUE;
use crate::state::{COLD, Entry, RawTable, State};

/// One put or delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The table's number.
    pub table: u16,
    /// The key.
    pub key: Arc<[u8]>,
    /// The revision of this write.
    pub revision: u64,
    /// When it was committed, by the store's clock.
    pub time: Timestamp,
    /// What was there before; `None` for a new key.
    pub old: Option<Entry>,
    /// What is there now; `None` for a deleted key.
    pub new: Option<Entry>,
}

/// A revision outside the window of history: too old to be followed from, or not reached yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("revision {asked} is outside the kept history ({oldest} to {newest})")]
pub struct Gone {
    /// What was asked for.
    pub asked: u64,
    /// The oldest revision that can be asked for.
    pub oldest: u64,
    /// The newest.
    pub newest: u64,
}

/// The durable state and the way that led to it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) state: State,
    pub(crate) history: History,
    /// Writes to cold tables that the index does not have yet.
    pub(crate) cold: Delta,
}

/// What committer, readers, snapshots and watchers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stored: RwLock<Stored>,
    pub(crate) pins: Mutex<Pins>,
    watchers: Mutex<Watchers>,
    /// Everything up to this revision has been handed to every watcher.
    published: Arc<AtomicU64>,
}

/// Revisions that somebody still reads at.
#[derive(Debug, Default)]
pub(crate) struct Pins(BTreeMap<u64, usize>);

impl Pins {
    pub(crate) fn add(&mut self, revision: u64) {
        *self.0.entry(revision).or_default() += 1;
    }

    pub(crate) fn remove(&mut self, revision: u64) {
        if let Some(count) = self.0.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&revision);
            }
        }
    }

    fn oldest(&self) -> u64 {
        self.0.keys().next().copied().unwrap_or(u64::MAX)
    }
}

/// The last changes, in order and without a gap from `floor` on.
#[derive(Debug)]
pub(crate) struct History {
    changes: VecDeque<Arc<Change>>,
    /// Every change with a revision greater than this is here.
    floor: u64,
    bytes: u64,
    keep: Duration,
    keep_bytes: u64,
}

/// What a change costs besides its key and its old value.
const CHANGE_BYTES: u64 = 160;

impl History {
    pub(crate) fn new(floor: u64, keep: Duration, keep_bytes: u64) -> Self {
        Self { changes: VecDeque::new(), floor, bytes: 0, keep, keep_bytes }
    }

    /// Forgets everything: the window starts after `floor`.
    pub(crate) fn restart(&mut self, floor: u64) {
        self.changes.clear();
        self.bytes = 0;
        self.floor = floor;
    }

    pub(crate) fn push(&mut self, change: Arc<Change>) {
        self.bytes += cost(&change);
        self.changes.push_back(change);
    }

    /// Drops what is too old or too much, unless somebody still reads it.
    pub(crate) fn trim(&mut self, now: Timestamp, pins: &Pins) {
        let keep = SignedDuration::try_from(self.keep).unwrap_or(SignedDuration::MAX);
        let oldest = now.saturating_sub(keep).unwrap_or(Timestamp::MIN);
        let pinned = pins.oldest();
        while let Some(first) = self.changes.front() {
            let expired = first.time < oldest || self.bytes > self.keep_bytes;
            if !expired || first.revision > pinned {
                break;
            }
            self.bytes -= cost(first);
            self.floor = first.revision;
            self.changes.pop_front();
        }
    }

    /// The oldest revision that can be asked for.
    #[cfg(test)]
    pub(crate) fn floor(&self) -> u64 {
        self.floor
    }

    /// Refuses a revision that the state cannot be followed from; `newest` is the state's own.
    pub(crate) fn check(&self, asked: u64, newest: u64) -> Result<(), Gone> {
        if asked < self.floor || asked > newest {
            return Err(Gone { asked, oldest: self.floor, newest });
        }
        Ok(())
    }

    /// The changes with a revision greater than `revision`, in order.
    pub(crate) fn after(&self, revision: u64) -> impl Iterator<Item = &Arc<Change>> {
        let start = self.changes.partition_point(|change| change.revision <= revision);
        self.changes.range(start..)
    }
}

fn cost(change: &Change) -> u64 {
    let value = change.old.as_ref().map_or(0, |old| old.value.len());
    CHANGE_BYTES + change.key.len() as u64 + value as u64
}

#[derive(Debug, Default)]
struct Watchers {
    by_table: BTreeMap<u16, Vec<Watcher>>,
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    prefix: Vec<u8>,
    /// Changes up to here were in its backlog.
    after: u64,
    sender: mpsc::Sender<Arc<Change>>,
    lagged: Arc<AtomicBool>,
}

impl Watcher {
    /// False when this watcher is to be forgotten.
    fn offer(&self, change: &Arc<Change>) -> bool {
        if change.revision <= self.after || !change.key.starts_with(&self.prefix) {
            return true;
        }
        match self.sender.try_send(change.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.lagged.store(true, Ordering::Release);
                false
            }
        }
    }
}

impl Shared {
    pub(crate) fn new(state: State, history: History, cold: Delta) -> Self {
        let published = Arc::new(AtomicU64::new(state.revision));
        let stored = RwLock::new(Stored { state, history, cold });
        Self { stored, pins: Mutex::default(), watchers: Mutex::default(), published }
    }

    /// Makes durable changes visible, then tells the watchers. Only the committer calls this.
    pub(crate) fn apply(&self, changes: Vec<Change>, next_sequence: u64, now: Timestamp) {
        let changes: Vec<_> = changes.into_iter().map(Arc::new).collect();
        let Some(last) = changes.last().map(|change| change.revision) else { return };
        {
            let mut stored = self.stored.write();
            for change in &changes {
                if change.table & COLD == 0 {
                    stored.state.set(change.table, change.key.clone(), change.new.clone());
                    stored.history.push(change.clone());
                } else {
                    let row =
                        Row { revision: change.revision, value: change.new.as_ref().map(|new| new.value.clone()) };
                    stored.cold.set(change.table, change.key.clone(), row, next_sequence - 1);
                }
            }
            stored.state.revision = last;
            stored.state.next_sequence = next_sequence;
            stored.history.trim(now, &self.pins.lock());
        }
        let mut watchers = self.watchers.lock();
        for change in &changes {
            if let Some(of_table) = watchers.by_table.get_mut(&change.table) {
                of_table.retain(|watcher| watcher.offer(change));
            }
        }
        self.published.store(last, Ordering::Release);
    }

    /// Everything after `from`, then live.
    pub(crate) fn watch(&self, table: RawTable, prefix: Vec<u8>, from: u64) -> Result<Watch, Gone> {
        let mut watchers = self.watchers.lock();
        let stored = self.stored.read();
        stored.history.check(from, stored.state.revision)?;
        let matching = |change: &&Arc<Change>| change.table == table.id && change.key.starts_with(&prefix);
        let backlog: VecDeque<_> = stored.history.after(from).filter(matching).cloned().collect();
        let after = stored.state.revision;
        drop(stored);
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let lagged = Arc::new(AtomicBool::new(false));
        if !watchers.closed {
            let of_table = watchers.by_table.entry(table.id).or_default();
            // Watchers of quiet prefixes would otherwise be forgotten only when their table is written.
            of_table.retain(|watcher| !watcher.sender.is_closed());
            of_table.push(Watcher { prefix, after, sender, lagged: lagged.clone() });
        }
        Ok(Watch { backlog, receiver, lagged, published: self.published.clone(), start: after, seen: from })
    }

    /// Ends every watch.
    pub(crate) fn close_watches(&self) {
        let mut watchers = self.watchers.lock();
        watchers.closed = true;
        watchers.by_table.clear();
    }
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A key was written.
    Change(Arc<Change>),
    /// This watcher was too slow and has missed changes: read the state again and start a new watch.
    Lagged,
    /// The store has been closed.
    Closed,
}

/// A stream of changes to the keys of one table under one prefix: every one after the revision it was started from, in
/// order, each once. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    backlog: VecDeque<Arc<Change>>,
    receiver: mpsc::Receiver<Arc<Change>>,
    lagged: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    /// The revision of the state when the watch began: its backlog reaches up to here.
    start: u64,
    /// The revision of the last change given out, or the one the watch started from.
    seen: u64,
}

impl Watch {
    /// The next change. Cancel-safe. After `Lagged` or `Closed` it says the same again.
    pub async fn next(&mut self) -> Event {
        let change = match self.backlog.pop_front() {
            Some(change) => Some(change),
            None => self.receiver.recv().await,
        };
        match change {
            Some(change) => {
                self.seen = change.revision;
                Event::Change(change)
            }
            None if self.lagged.load(Ordering::Acquire) => Event::Lagged,
            None => Event::Closed,
        }
    }

    /// The revision up to which this watcher has been given everything: what a bookmark may say. Grows while other keys
    /// are written, as long as the watcher keeps up.
    pub fn progress(&self) -> u64 {
        if !self.backlog.is_empty() {
            return self.seen;
        }
        // Read before the queue is looked at: what is published is already in the queue.
        let published = self.published.load(Ordering::Acquire).max(self.start);
        let behind = !self.receiver.is_empty() || self.lagged.load(Ordering::Acquire);
        if behind { self.seen } else { self.seen.max(published) }
    }
}
