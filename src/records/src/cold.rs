//! Cold tables: many rows, seldom read, not in memory. [`Cold`] reads them.
//!
//! Used by whoever keeps long histories (ended runs and their tasks). The truth of a cold table is its snapshot and the
//! journal, as for all tables; the index (sled) only finds rows in it and is rebuilt whenever it was not closed in order.
//! Invariant: an answer is what was durably written, or [`Unavailable`]; never a guess.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::disk::Disk;
use crate::feed::Shared;
use crate::state::{ColdTable, Entry, Key};

pub(crate) mod delta;
mod index;
pub(crate) mod merge;
mod worker;

use delta::Rows;
pub(crate) use worker::Worker;

/// Requests that wait for the index.
const QUEUE: usize = 256;
/// An index that has not answered by then hangs (sled can wait for a lock that its own thread pool holds), and is not asked
/// again by this process.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a cold table cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The index is being rebuilt, which takes seconds; ask again.
    #[error("the index of cold tables is being rebuilt")]
    Rebuilding,
    /// Too many are asking; ask again.
    #[error("the index of cold tables has too much to do")]
    Busy,
    /// The index has failed and could not be rebuilt, or hangs; the log says why. Nothing is lost.
    #[error("the index of cold tables is out of service until the next start")]
    OutOfService,
}

/// What the worker is asked.
pub(crate) enum Command {
    Get {
        table: u16,
        key: Vec<u8>,
        answer: oneshot::Sender<Option<Entry>>,
    },
    Range {
        table: u16,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
        answer: oneshot::Sender<Vec<(Key, Entry)>>,
    },
    /// Look at what is to be taken over.
    Wake,
    /// Take everything over, put it on disk, and say of which snapshot the index is.
    Stop {
        answer: SyncSender<Option<u64>>,
    },
}

/// A cold snapshot that the index is to take over.
#[derive(Debug, Clone)]
pub(crate) struct Advance {
    pub(crate) revision: u64,
    pub(crate) rows: Arc<Rows>,
}

/// What handle, worker and checkpoints share.
#[derive(Debug)]
pub(crate) struct Link {
    commands: SyncSender<Command>,
    /// In order.
    advances: Mutex<Vec<Advance>>,
    ready: AtomicBool,
    broken: AtomicBool,
}

/// Where the worker finds the truth, and where its index goes.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snapshots: PathBuf,
    pub(crate) store: Uuid,
    /// The index's folder; `None` for a temporary one.
    pub(crate) folder: Option<PathBuf>,
    /// The cold snapshot that recovery has found; 0 for none.
    pub(crate) revision: u64,
    /// The stamp that an orderly stop has left.
    pub(crate) clean_revision: Option<u64>,
}

impl Link {
    pub(crate) fn new() -> (Arc<Self>, Receiver<Command>) {
        let (commands, queue) = sync_channel(QUEUE);
        let link = Self {
            commands,
            advances: Mutex::default(),
            ready: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        };
        (Arc::new(link), queue)
    }

    /// Lets the index take over what a new cold snapshot holds.
    pub(crate) fn advance(&self, advance: Advance) {
        self.advances.lock().push(advance);
        // A full queue means that the worker is awake anyway, and looks here before each command.
        let _full = self.commands.try_send(Command::Wake);
    }

    /// Lets the delta go of what an index would have taken over.
    #[cfg(test)]
    pub(crate) fn take_over_without_index(&self, shared: &Shared) {
        for advance in self.advances.lock().drain(..) {
            shared.stored.write().cold.settle(advance.rows.iter());
        }
    }

    fn send(&self, command: Command) -> Result<(), Unavailable> {
        if self.broken.load(Ordering::Acquire) {
            return Err(Unavailable::OutOfService);
        }
        if !self.ready.load(Ordering::Acquire) {
            return Err(Unavailable::Rebuilding);
        }
        self.commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) => Unavailable::Busy,
            TrySendError::Disconnected(_) => Unavailable::OutOfService,
        })
    }

    /// Ends the worker in order. Gives the snapshot that the index is now of, if it can be relied on.
    pub(crate) fn stop(&self) -> Option<u64> {
        let (answer, stopped) = sync_channel(1);
        self.commands.try_send(Command::Stop { answer }).ok()?;
        let stopped = stopped.recv_timeout(ANSWER_LIMIT);
        stopped
            .inspect_err(|error| tracing::error!(%error, "the index of cold tables does not stop; it is left behind"))
            .ok()?
    }
}

/// Reads cold tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cold {
    pub(crate) shared: Arc<Shared>,
    pub(crate) link: Arc<Link>,
}

impl Cold {
    /// Whether reads are answered now.
    pub fn is_ready(&self) -> bool {
        self.link.ready.load(Ordering::Acquire) && !self.link.broken.load(Ordering::Acquire)
    }

    /// The entry of a key.
    pub async fn get(&self, table: ColdTable, key: &[u8]) -> Result<Option<Entry>, Unavailable> {
        let id = table.stored_id();
        if let Some(row) = self.shared.stored.read().cold.get(id, key) {
            let (revision, value) = (row.revision, row.value.clone());
            return Ok(value.map(|value| Entry { value, revision }));
        }
        let (answer, answered) = oneshot::channel();
        self.link.send(Command::Get { table: id, key: key.to_vec(), answer })?;
        self.wait(answered).await
    }

    /// Up to `limit` entries, in byte order, whose key starts with `prefix` and is greater than `after` (a whole key).
    pub async fn range(
        &self,
        table: ColdTable,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Arc<[u8]>, Entry)>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let (prefix, after) = (prefix.to_vec(), after.map(<[u8]>::to_vec));
        self.link.send(Command::Range { table: table.stored_id(), prefix, after, limit, answer })?;
        self.wait(answered).await
    }

    async fn wait<T>(&self, answered: oneshot::Receiver<T>) -> Result<T, Unavailable> {
        match tokio::time::timeout(ANSWER_LIMIT, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            // The worker dropped the question: its index has failed, and it is making a new one.
            Ok(Err(_)) => Err(Unavailable::Rebuilding),
            Err(_) => {
                tracing::error!("the index of cold tables hangs; it is out of service until the next start");
                self.link.broken.store(true, Ordering::Release);
                Err(Unavailable::OutOfService)
            }
        }
    }
}
