//! The one writer. It owns the journal and decides, alone and in order, what becomes part of the state.
//!
//! Called through a bounded queue by [`crate::Db`]; tests drive it directly. Invariants:
//! - transactions of a batch run one after the other, each on top of those before it (the overlay);
//! - state, history and watchers learn of a batch after it is on disk; its callers after them;
//! - when a batch cannot be written, all of its callers are told, also those that only read or were refused: what they saw
//!   did not happen.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use foundation::clock::Clock;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::blobs::{Blobs, blob_name};
use crate::checkpoint::Signal;
use crate::error::CommitError;
use crate::feed::{Change, Shared};
use crate::journal::format::{Batch, BlobName};
use crate::journal::spares::Spares;
use crate::journal::{AppendError, Journal, is_full};
use crate::limits::{BATCH_TRANSACTIONS_MAX, GATHER_MAX};
use crate::state::COLD;
use crate::transaction::{Overlay, Transaction};

/// A caller's transaction, without its types.
pub(crate) trait Job: Send {
    /// Runs the closure. True when it wants its writes kept.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool;
    /// Tells the caller. `Ok`: the revision up to which everything it saw and wrote is on disk.
    fn answer(self: Box<Self>, outcome: Result<u64, CommitError>);
}

/// How much goes into one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    /// No transaction is added to a batch of this size.
    pub(crate) batch_bytes: usize,
    /// A transaction above this is refused.
    pub(crate) transaction_bytes: usize,
}

/// The writer's state.
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: Journal,
    pub(crate) spares: Arc<Spares>,
    pub(crate) clock: Clock,
    pub(crate) limits: BatchLimits,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) checkpoints: Arc<Signal>,
    /// How long the journal was when the checkpoint thread was last woken.
    pub(crate) asked_at: u64,
    /// How much it grows between two wake-ups.
    pub(crate) ask_every: u64,
}

/// A job that has run, and what to tell it if the batch is written.
type Ran = (Box<dyn Job>, Result<u64, CommitError>);

/// What a batch is made of, before it is written.
struct Prepared {
    ran: Vec<Ran>,
    batch: Batch,
    changes: Vec<Change>,
}

impl Committer {
    /// The committer's thread: batch after batch until every handle is gone.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = queue.blocking_recv() {
            let begun = Instant::now();
            let answered = self.commit(first, &mut || queue.try_recv().ok());
            let patience = (begun.elapsed() / 2).min(GATHER_MAX);
            let until = Instant::now() + patience;
            // Those who were just answered are likely to come back at once: a batch of all of them is one sync, where the
            // first of them alone would make the others wait for its own. A lone writer never waits.
            while answered > 1 && queue.len() < answered && Instant::now() < until {
                std::thread::yield_now();
            }
        }
    }

    /// Commits one batch: `first` and what else is waiting. Says how many were answered.
    pub(crate) fn commit(&mut self, first: Box<dyn Job>, waiting: &mut dyn FnMut() -> Option<Box<dyn Job>>) -> usize {
        let now = self.clock.now();
        let Prepared { ran, mut batch, changes } = self.prepare(first, waiting, now);
        let answered = ran.len();
        let written = if batch.is_empty() { Ok(()) } else { self.write(&mut batch) };
        match written {
            Ok(()) => {
                self.shared.apply(changes, self.journal.next_sequence(), now);
                for (job, outcome) in ran {
                    job.answer(outcome);
                }
            }
            Err(error) => {
                for (job, _) in ran {
                    job.answer(Err(error.clone()));
                }
            }
        }
        answered
    }

    /// Runs the waiting transactions against the state, which nobody else changes meanwhile.
    fn prepare(
        &mut self,
        first: Box<dyn Job>,
        waiting: &mut dyn FnMut() -> Option<Box<dyn Job>>,
        now: Timestamp,
    ) -> Prepared {
        let shared = self.shared.clone();
        let stored = shared.stored.read();
        let mut overlay = Overlay::over(&stored.state);
        let mut prepared =
            Prepared { ran: Vec::new(), batch: Batch::new(self.journal.next_sequence()), changes: Vec::new() };
        let mut next = Some(first);
        while let Some(mut job) = next {
            let mut transaction = Transaction::new(&stored.state, &overlay, now);
            let keep = catch_unwind(AssertUnwindSafe(|| job.run(&mut transaction)));
            let written = transaction.finish();
            let outcome = match keep {
                Ok(false) => Ok(overlay.revision),
                Err(_) => Err(CommitError::Panicked),
                Ok(true) => match written.oversize {
                    Some(bytes) => Err(CommitError::TooLarge { bytes }),
                    None => self.keep(written.changes, &mut overlay, &mut prepared),
                },
            };
            prepared.ran.push((job, outcome));
            let room = prepared.ran.len() < BATCH_TRANSACTIONS_MAX && prepared.batch.length() < self.limits.batch_bytes;
            next = if room { waiting() } else { None };
        }
        prepared
    }

    /// Adds a transaction's changes to the batch. Gives the revision of the last one.
    fn keep(
        &mut self,
        changes: Vec<Change>,
        overlay: &mut Overlay,
        prepared: &mut Prepared,
    ) -> Result<u64, CommitError> {
        if changes.is_empty() {
            return Ok(overlay.revision);
        }
        let puts = changes.iter().any(|change| change.new.is_some());
        if puts && self.spares.is_full() {
            return Err(self.full());
        }
        let names: Vec<_> = changes
            .iter()
            .map(|change| {
                change.new.as_ref().filter(|_| change.table & COLD == 0).and_then(|entry| blob_name(&entry.value))
            })
            .collect();
        let size = prepared.batch.push(&changes, &names);
        let stored = if size > self.limits.transaction_bytes {
            Err(CommitError::TooLarge { bytes: size as u64 })
        } else {
            self.store_blobs(&changes, &names, prepared.batch.next_sequence())
        };
        if let Err(error) = stored {
            prepared.batch.pop(size);
            return Err(error);
        }
        overlay.absorb(&changes);
        prepared.changes.extend(changes);
        Ok(overlay.revision)
    }

    /// Puts a transaction's large values on disk, all but their names.
    fn store_blobs(&self, changes: &[Change], names: &[Option<BlobName>], sequence: u64) -> Result<(), CommitError> {
        for (change, name) in changes.iter().zip(names) {
            let (Some(entry), Some(name)) = (&change.new, name) else { continue };
            self.blobs.store(name, &entry.value, sequence).map_err(|error| {
                let what = format!("write blob {}", name.file_name());
                if is_full(&error) { self.full() } else { CommitError::Failed { what, source: Arc::new(error) } }
            })?;
            self.journal.segments().count_blob(name.length);
        }
        Ok(())
    }

    /// Makes a batch durable: first the names of the blobs that it names, then the batch.
    fn write(&mut self, batch: &mut Batch) -> Result<(), CommitError> {
        let synced = self.blobs.sync();
        synced.map_err(|error| CommitError::Failed {
            what: "sync the folder of blobs".to_owned(),
            source: Arc::new(error),
        })?;
        self.journal.append(batch).map_err(|error| self.explain(error))?;
        let appended = self.journal.appended_bytes();
        if appended - self.asked_at >= self.ask_every {
            self.asked_at = appended;
            self.checkpoints.ask();
        }
        Ok(())
    }

    fn full(&self) -> CommitError {
        CommitError::Full { folder: self.spares.folder().to_owned(), free_bytes: self.spares.free_bytes() }
    }

    fn explain(&self, error: AppendError) -> CommitError {
        match error {
            AppendError::Full => self.full(),
            AppendError::Failed { what, source } => CommitError::Failed { what, source },
            AppendError::Dead { what, source } => CommitError::ReadOnly { what, source },
        }
    }
}
