//! The handle: open, transact, read, watch, close.
//!
//! Called by everybody above. Invariant: a `Db` is cheap to clone, all clones are one store; the folder is locked from
//! `open` until the last clone is gone or the process ends.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use foundation::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::checkpoint::{COLD_JOURNAL_FACTOR, Checkpointer, SNAPSHOTS_DIR, Signal};
use crate::clean::{self, Clean};
use crate::cold::{Cold, Link, Place, Worker};
use crate::committer::{BatchLimits, Committer, Job};
use crate::disk::{Disk, RealDisk};
use crate::error::{CloseError, CommitError, Error, OpenError};
use crate::feed::{Gone, Shared, Watch};
use crate::journal::spares::{SpareLimits, Spares};
use crate::journal::{Journal, Segments};
use crate::limits;
use crate::recovery::{self, JOURNAL_DIR};
use crate::state::RawTable;
use crate::transaction::{Past, Transaction, View};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The store's own folder; made if absent.
    pub dir: PathBuf,
    /// What it is written to.
    pub disk: Arc<dyn Disk>,
    /// Where the times of changes come from.
    pub clock: Clock,
    /// How long superseded values are kept for watchers and past reads. Default: 5 min.
    pub history: Duration,
    /// How many bytes of them at most. Default: 64 MiB.
    pub history_bytes: u64,
    /// Size of a journal segment. Default: 16 MiB.
    pub segment_bytes: u64,
    /// Journal segments kept ready. Default: 2.
    pub spares: usize,
    /// Below this much free space puts are refused. Default: 64 MiB.
    pub free_bytes_min: u64,
    /// A snapshot is due when the journal has grown by this much, or by the size of the last one. Default: 64 MiB.
    pub checkpoint_bytes: u64,
    /// Where the index of cold tables goes, on the machine's own disk; `None` for a temporary one. Default: below `dir`.
    pub index: Option<PathBuf>,
}

impl Options {
    /// The defaults, for a folder on the machine's own disk.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self {
            index: Some(dir.join("sled")),
            dir,
            disk: Arc::new(RealDisk),
            clock: Clock::system(),
            history: limits::HISTORY,
            history_bytes: limits::HISTORY_BYTES,
            segment_bytes: limits::SEGMENT_BYTES,
            spares: limits::SPARES,
            free_bytes_min: limits::FREE_BYTES_MIN,
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
        }
    }

    pub(crate) fn spare_limits(&self) -> SpareLimits {
        SpareLimits { segment_bytes: self.segment_bytes, count: self.spares, free_bytes_min: self.free_bytes_min }
    }

    /// A batch and the transaction that overflows it fit into one segment.
    pub(crate) fn batch_limits(&self) -> BatchLimits {
        let segment = usize::try_from(self.segment_bytes).unwrap_or(usize::MAX);
        BatchLimits { batch_bytes: segment / 4, transaction_bytes: segment / 2 }
    }
}

/// A transaction that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// The revision of its last write; where it wrote nothing, the revision of the state that it saw.
    pub revision: u64,
}

/// A store.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    store: Uuid,
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    checkpointer: Arc<Mutex<Checkpointer>>,
    checkpoints: Arc<Signal>,
    queue: Mutex<Option<mpsc::Sender<Box<dyn Job>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Given free when the threads have ended.
    lock: Mutex<Option<Box<dyn Any + Send + Sync>>>,
    index: Arc<Link>,
}

/// A store without its threads: everything that `open` makes, for [`Db`] to run and for simulations to drive by hand.
pub(crate) struct Parts {
    pub(crate) store: Uuid,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spares: Arc<Spares>,
    pub(crate) committer: Committer,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) checkpoints: Arc<Signal>,
    index: (Worker, Arc<Link>),
    lock: Box<dyn Any + Send + Sync>,
}

impl Parts {
    pub(crate) fn open(options: &Options) -> Result<Self, OpenError> {
        let (disk, dir) = (&options.disk, &*options.dir);
        disk.create_dir(dir).map_err(|source| OpenError::io("create", dir, source))?;
        let lock_path = dir.join("LOCK");
        let lock = disk.lock(&lock_path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked { folder: dir.to_owned() },
            _ => OpenError::io("lock", &lock_path, source),
        })?;
        let recovered = recovery::recover(options)?;
        let store = recovered.stamp.store;
        let folder = dir.join(JOURNAL_DIR);
        let spares = Spares::open(disk.clone(), folder.clone(), options.spare_limits());
        let spares = Arc::new(spares.map_err(|source| OpenError::io("read", &folder, source))?);
        let found = recovered.segments.iter().map(|found| (found.number, found.first_sequence));
        let segments = Arc::new(Segments::new(found, recovered.replayed_bytes));
        let next_number = recovered.segments.last().map_or(1, |last| last.number + 1);
        let journal = Journal::new(store, spares.clone(), segments.clone(), next_number, recovered.state.next_sequence);
        let shared = Arc::new(Shared::new(recovered.state, recovered.history, recovered.delta));
        let place = Place {
            disk: disk.clone(),
            snapshots: dir.join(SNAPSHOTS_DIR),
            store,
            folder: options.index.clone(),
            revision: recovered.cold.revision,
            clean_revision: recovered.clean_index,
        };
        let (worker, link) = Worker::new(place, shared.clone());
        let checkpointer = Checkpointer {
            disk: disk.clone(),
            folder: dir.join(SNAPSHOTS_DIR),
            store,
            shared: shared.clone(),
            segments,
            spares: spares.clone(),
            blobs: recovered.blobs.clone(),
            checkpoint_bytes: options.checkpoint_bytes,
            kept: recovered.kept,
            appended_before: 0,
            cold: recovered.cold,
            cold_journal_bytes: options.checkpoint_bytes.saturating_mul(COLD_JOURNAL_FACTOR),
            index: link.clone(),
        };
        let checkpoints = Arc::new(Signal::default());
        let committer = Committer {
            shared: shared.clone(),
            journal,
            spares: spares.clone(),
            clock: options.clock.clone(),
            limits: options.batch_limits(),
            blobs: recovered.blobs,
            checkpoints: checkpoints.clone(),
            asked_at: 0,
            ask_every: options.segment_bytes.min(options.checkpoint_bytes),
        };
        Ok(Self { store, shared, spares, committer, checkpointer, checkpoints, index: (worker, link), lock })
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Db").field("dir", &self.inner.dir).field("revision", &self.revision()).finish()
    }
}

impl Db {
    /// Opens the store in a folder, or makes one. Blocks while it recovers.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let Parts { store, shared, spares, committer, checkpointer, checkpoints, index, lock } = Parts::open(&options)?;
        let (worker, index) = index;
        let Options { dir, disk, .. } = options;
        let checkpointer = Arc::new(Mutex::new(checkpointer));
        let (queue, jobs) = mpsc::channel(limits::QUEUE);
        let (tender, writer, signal) = (spares.clone(), checkpointer.clone(), checkpoints.clone());
        // Not waited for without a limit, unlike the others: sled may hang.
        start_thread("records-index", &dir, move || worker.run())?;
        let threads = vec![
            start_thread("records-commit", &dir, move || committer.run(jobs))?,
            start_thread("records-spares", &dir, move || tender.run())?,
            start_thread("records-checkpoint", &dir, move || Checkpointer::run(&writer, &signal))?,
        ];
        let (queue, threads, lock) = (Mutex::new(Some(queue)), Mutex::new(threads), Mutex::new(Some(lock)));
        let inner = Inner { disk, dir, store, shared, spares, checkpointer, checkpoints, queue, threads, lock, index };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs `f` alone against the state and everything committed before it, and returns when what it wrote, and what it
    /// saw, is on disk. `f` runs on the committer: it must be quick and must not wait for anything. When `f` returns `Err`,
    /// nothing is written. Dropping the future does not stop a transaction that was handed over.
    pub async fn transact<T, E>(
        &self,
        f: impl FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<Committed<T>, Error<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let queue = self.inner.queue.lock().clone().ok_or(Error::Closed)?;
        let (caller, answer) = oneshot::channel();
        let job = Box::new(Call { closure: Some(f), result: None, caller });
        queue.send(job).await.map_err(|_| Error::Closed)?;
        drop(queue);
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Runs `f` against one consistent durable state. The committer waits for it, so take what you need and leave; calling
    /// the store from within `f` may block for ever.
    pub fn read<T>(&self, f: impl FnOnce(&View<'_>) -> T) -> T {
        let stored = self.inner.shared.stored.read();
        f(&View { state: &stored.state })
    }

    /// The state as it was at an older revision, as long as history reaches back that far.
    pub fn at(&self, revision: u64) -> Result<Past, Gone> {
        Past::at(&self.inner.shared, revision)
    }

    /// The revision of the last durable write.
    pub fn revision(&self) -> u64 {
        self.inner.shared.stored.read().state.revision
    }

    /// Every change of keys under `prefix` after revision `from`, then live.
    pub fn watch(&self, table: RawTable, prefix: Vec<u8>, from: u64) -> Result<Watch, Gone> {
        self.inner.shared.watch(table, prefix, from)
    }

    /// Reads the cold tables.
    pub fn cold(&self) -> Cold {
        Cold { shared: self.inner.shared.clone(), link: self.inner.index.clone() }
    }

    /// Ends the store in order: waits for what was handed in, ends all watches, writes a snapshot where the next open gains
    /// by it, leaves the mark of an orderly stop and gives the folder free. Closing twice is fine.
    pub async fn close(&self) -> Result<(), CloseError> {
        let inner = self.inner.clone();
        let closed = foundation::tasks::blocking("close the store", move || inner.close()).await;
        closed.unwrap_or_else(|lost| {
            Err(CloseError {
                what: "wait for the store's threads".to_owned(),
                source: io::Error::other(lost.to_string()),
            })
        })
    }
}

impl Inner {
    /// Ends the threads. Gives the lock on the folder, or nothing when that was done before.
    fn stop(&self) -> Option<Box<dyn Any + Send + Sync>> {
        self.queue.lock().take();
        self.spares.close();
        self.checkpoints.close();
        for thread in self.threads.lock().drain(..) {
            // A closure may have held the last handle; then this is the committer, which ends by itself.
            let own = thread.thread().id() == std::thread::current().id();
            if !own && thread.join().is_err() {
                tracing::error!(folder = %self.dir.display(), "a thread of the store has panicked");
            }
        }
        self.shared.close_watches();
        self.lock.lock().take()
    }

    /// Every step is taken, also when one before it has failed: what is on disk already is enough to open again.
    fn close(&self) -> Result<(), CloseError> {
        let Some(_lock) = self.stop() else { return Ok(()) };
        let mut checkpointer = self.checkpointer.lock();
        let due = checkpointer.pending_bytes() >= limits::CLOSE_CHECKPOINT_BYTES;
        let snapshot = if due { checkpointer.run_once() } else { Ok(()) };
        let index = self.index.stop();
        let next_sequence = self.shared.stored.read().state.next_sequence;
        let written = clean::write(&*self.disk, &self.dir, Clean { store: self.store, next_sequence, index });
        snapshot
            .map_err(|error| CloseError { what: "write a snapshot".to_owned(), source: io::Error::other(error) })?;
        written.map_err(|source| CloseError { what: format!("write CLEAN in {}", self.dir.display()), source })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _lock = self.stop();
        self.index.stop();
    }
}

fn start_thread(name: &str, dir: &Path, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| OpenError::io("start a thread for", dir, source))
}

/// A transaction with its types.
struct Call<F, T, E> {
    closure: Option<F>,
    result: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<Committed<T>, Error<E>>>,
}

impl<F, T, E> Job for Call<F, T, E>
where
    F: FnOnce(&mut Transaction<'_>) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool {
        self.result = self.closure.take().map(|closure| closure(transaction));
        matches!(self.result, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, outcome: Result<u64, CommitError>) {
        let answer = match (outcome, self.result) {
            (Err(error), _) => Err(error.into()),
            (Ok(revision), Some(Ok(value))) => Ok(Committed { value, revision }),
            (Ok(_), Some(Err(refusal))) => Err(Error::Refused(refusal)),
            (Ok(_), None) => Err(Error::Panicked),
        };
        // The caller may have left; its transaction stands all the same.
        let _gone = self.caller.send(answer);
    }
}
