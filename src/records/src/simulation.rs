//! Power cuts by the thousand: the store's own code on a disk in memory, without threads, driven by a seed.
//!
//! A run commits, prepares segments and writes checkpoints in an order that the dice choose, until the power goes (or only
//! the process) at an operation that the dice chose too. Then the store is opened from what is left, compared with a model
//! and driven on. `RECORDS_SEED=<n>` repeats one run, `RECORDS_RUNS=<n>` sets how many there are.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundation::clock::Clock;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::checkpoint::Walk;
use crate::committer::Job;
use crate::db::{Options, Parts};
use crate::disk::faulty::{Cut, Dice, Fault, FaultyDisk};
use crate::error::{CommitError, OpenError};
use crate::snapshot::{self, Temperature, Value};
use crate::state::{ColdTable, Entry, RawTable};
use crate::transaction::Transaction;

mod cuts;
mod failures;

const TABLES: [RawTable; 2] = [RawTable::hot(900, "objects"), RawTable::hot(901, "index")];
const ARCHIVE: ColdTable = RawTable::cold(902, "archive");
const SEGMENT_BYTES: u64 = 64 << 10;

type Rows = BTreeMap<(u16, Vec<u8>), Entry>;

/// One write of a simulated transaction.
#[derive(Debug, Clone)]
enum Op {
    Put(RawTable, Vec<u8>, Vec<u8>),
    Delete(RawTable, Vec<u8>),
    PutCold(Vec<u8>, Vec<u8>),
    DeleteCold(Vec<u8>),
}

type Outcome = Arc<Mutex<Option<Result<u64, CommitError>>>>;

/// A transaction that writes what it was told to, and remembers how it went.
#[derive(Debug)]
struct Script {
    ops: Vec<Op>,
    refuse: bool,
    outcome: Outcome,
}

impl Job for Script {
    fn run(&mut self, transaction: &mut Transaction<'_>) -> bool {
        for op in &self.ops {
            match op {
                Op::Put(table, key, value) => {
                    transaction.put(*table, key, value.clone());
                }
                Op::Delete(table, key) => {
                    transaction.delete(*table, key);
                }
                Op::PutCold(key, value) => {
                    transaction.put_cold(ARCHIVE, key, value.clone());
                }
                Op::DeleteCold(key) => {
                    transaction.delete_cold(ARCHIVE, key);
                }
            }
        }
        !self.refuse
    }

    fn answer(self: Box<Self>, outcome: Result<u64, CommitError>) {
        *self.outcome.lock() = Some(outcome);
    }
}

/// Revision, table, key, old and new.
type Changed = (u64, u16, Vec<u8>, Option<Entry>, Option<Entry>);

/// What the store must hold.
#[derive(Debug, Clone, Default)]
struct Model {
    rows: Rows,
    revision: u64,
    /// The rows as they were at each revision of the last window; used to check history.
    changes: Vec<Changed>,
}

impl Model {
    fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            let (table, key, value) = match op {
                Op::Put(table, key, value) => (table.id, key, Some(value)),
                Op::Delete(table, key) => (table.id, key, None),
                Op::PutCold(key, value) => (ARCHIVE.stored_id(), key, Some(value)),
                Op::DeleteCold(key) => (ARCHIVE.stored_id(), key, None),
            };
            let (at, cold) = ((table, key.clone()), table == ARCHIVE.stored_id());
            if value.is_none() && !cold && !self.rows.contains_key(&at) {
                continue;
            }
            self.revision += 1;
            let new = value.map(|value| Entry { value: value.clone().into(), revision: self.revision });
            let old = match &new {
                Some(entry) => self.rows.insert(at, entry.clone()),
                None => self.rows.remove(&at),
            };
            if !cold {
                self.changes.push((self.revision, table, key.clone(), old, new));
            }
        }
    }
}

/// Transactions that were not committed.
#[derive(Debug, Default)]
struct Refusal {
    failed: bool,
    read_only: bool,
    /// Those of the batch that failed: if the power goes before the journal could go on, they may be found all the same.
    in_doubt: Vec<Vec<Op>>,
}

/// A store being simulated, with what it must hold.
struct Simulation {
    dice: Dice,
    disk: FaultyDisk,
    clock: Clock,
    cold_journal_bytes: u64,
    parts: Parts,
    walk: Option<Walk>,
    model: Model,
}

fn options(disk: &FaultyDisk, clock: &Clock) -> Options {
    let mut options = Options::at(PathBuf::from("/store"));
    options.disk = Arc::new(disk.clone());
    options.clock = clock.clone();
    options.index = None;
    options.segment_bytes = SEGMENT_BYTES;
    options.free_bytes_min = SEGMENT_BYTES;
    options.checkpoint_bytes = 3 * SEGMENT_BYTES;
    options
}

fn open(disk: &FaultyDisk, clock: &Clock, cold_journal_bytes: u64) -> Result<Parts, OpenError> {
    let mut parts = Parts::open(&options(disk, clock))?;
    parts.checkpointer.cold_journal_bytes = cold_journal_bytes;
    Ok(parts)
}

impl Simulation {
    fn start(seed: u64, capacity: u64) -> Self {
        let disk = FaultyDisk::new(seed, capacity);
        let clock = Clock::manual(Timestamp::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        // Cold snapshots as often as hot ones, or seldom, so that the journal is kept for them.
        let cold_journal_bytes = if seed.is_multiple_of(2) { SEGMENT_BYTES } else { 12 * SEGMENT_BYTES };
        let parts = open(&disk, &clock, cold_journal_bytes).expect("a new store opens");
        Self { dice: Dice::new(seed), disk, clock, cold_journal_bytes, parts, walk: None, model: Model::default() }
    }

    /// A transaction by chance: an object and its index entry, now and then a deletion, now and then something large.
    fn random_ops(&mut self) -> Vec<Op> {
        let key = format!("k{}", self.dice.below(40)).into_bytes();
        if self.dice.one_in(6) {
            // What is deleted moves to the archive, from which something goes now and then.
            let mut ops: Vec<Op> = TABLES.iter().map(|table| Op::Delete(*table, key.clone())).collect();
            let archived = format!("a{}", self.dice.below(60)).into_bytes();
            ops.push(match self.dice.below(4) {
                0 => Op::DeleteCold(archived),
                size => Op::PutCold(archived, self.dice.roll().to_le_bytes().repeat(size as usize * 300)),
            });
            return ops;
        }
        let length = match self.dice.below(40) {
            0 => 70_000,
            1..4 => 9_000,
            4..12 => 2_000,
            _ => 150,
        };
        // Large values come back now and then: blobs are shared by content.
        let mark = if length > 64 << 10 { self.dice.below(3) } else { self.dice.roll() }.to_le_bytes();
        let value: Vec<u8> = mark.iter().copied().cycle().take(length).collect();
        vec![Op::Put(TABLES[0], key.clone(), value), Op::Put(TABLES[1], key, mark.to_vec())]
    }

    /// Commits one transaction.
    fn one(&mut self, ops: Vec<Op>) -> Result<u64, CommitError> {
        let outcome = Outcome::default();
        let job = Box::new(Script { ops: ops.clone(), refuse: false, outcome: outcome.clone() });
        self.parts.committer.commit(job, &mut || None);
        let outcome = outcome.lock().take().expect("who has run is answered");
        if outcome.is_ok() {
            self.model.apply(&ops);
        }
        outcome
    }

    /// Commits a few transactions by chance, until one is not committed.
    fn commit(&mut self) -> Result<(), Refusal> {
        let mut jobs = VecDeque::new();
        let mut scripts = Vec::new();
        for _ in 0..=self.dice.below(4) {
            let (ops, refuse) = (self.random_ops(), self.dice.one_in(10));
            let outcome = Outcome::default();
            jobs.push_back(Box::new(Script { ops: ops.clone(), refuse, outcome: outcome.clone() }) as Box<dyn Job>);
            scripts.push((ops, refuse, outcome));
        }
        while let Some(first) = jobs.pop_front() {
            let ran = scripts.len() - jobs.len() - 1;
            self.parts.committer.commit(first, &mut || jobs.pop_front());
            let batch: Vec<_> = scripts.drain(..scripts.len() - jobs.len()).collect();
            assert!(
                ran == 0 && batch.iter().all(|(_, _, outcome)| outcome.lock().is_some()),
                "who has run is answered"
            );
            let mut refusal = Refusal::default();
            for (ops, refuse, outcome) in batch {
                match &*outcome.lock() {
                    Some(Ok(_)) if refuse => {}
                    Some(Ok(_)) => self.model.apply(&ops),
                    Some(Err(error)) => {
                        refusal.read_only |= matches!(error, CommitError::ReadOnly { .. });
                        refusal.failed = true;
                        refusal.in_doubt.extend((!refuse).then_some(ops));
                    }
                    None => {}
                }
            }
            if refusal.failed {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// One turn of the background work.
    fn maintain(&mut self) {
        if self.dice.one_in(3) {
            self.parts.spares.tend();
        }
        let done = match &mut self.walk {
            None if self.parts.checkpointer.is_due() => {
                self.walk = self.parts.checkpointer.begin().ok().flatten();
                false
            }
            None => false,
            Some(walk) => self.parts.checkpointer.step(walk).unwrap_or(true),
        };
        if done && let Some(walk) = self.walk.take() {
            // A failure shows in what can be recovered.
            let _failed = self.parts.checkpointer.finish(walk);
        }
        if self.dice.one_in(3) {
            self.parts.checkpointer.index.take_over_without_index(&self.parts.shared);
        }
        self.clock.advance(Duration::from_secs(self.dice.below(4)));
    }

    /// The next boot, from what the disk has kept.
    fn reopen(&mut self, disk: FaultyDisk) -> Result<(), OpenError> {
        self.walk = None;
        self.parts = open(&disk, &self.clock, self.cold_journal_bytes)?;
        self.disk = disk;
        Ok(())
    }

    /// All rows: those in memory, and those of cold tables from their snapshot and what came after it.
    fn rows(&self) -> Rows {
        self.read_rows().expect("the cold snapshot is intact")
    }

    fn read_rows(&self) -> Result<Rows, OpenError> {
        let stored = self.parts.shared.stored.read();
        let rows = stored.state.chunk(None, usize::MAX);
        let mut rows: Rows = rows.into_iter().map(|(table, key, entry)| ((table, key.to_vec()), entry)).collect();
        let revision = self.parts.checkpointer.cold.revision;
        if revision > 0 {
            let path = PathBuf::from("/store/snapshots").join(snapshot::file_name(revision, Temperature::Cold));
            snapshot::read(&self.disk, &path, self.parts.store, &mut |row| {
                let Value::Inline(value) = row.value else { panic!("a cold table names a blob") };
                rows.insert((row.table, row.key.to_vec()), Entry { value: value.into(), revision: row.revision });
                Ok(())
            })?;
        }
        for ((table, key), row) in stored.cold.rows() {
            let at = (*table, key.to_vec());
            match row.value.clone() {
                Some(value) => rows.insert(at, Entry { value, revision: row.revision }),
                None => rows.remove(&at),
            };
        }
        Ok(rows)
    }

    /// Compares state, revision and history with the model.
    fn verify(&self) {
        assert!(self.rows() == self.model.rows, "the rows differ from the model");
        let stored = self.parts.shared.stored.read();
        assert_eq!(stored.state.revision, self.model.revision, "the revision differs from the model");
        let floor = stored.history.floor();
        let kept: Vec<_> = stored
            .history
            .after(0)
            .map(|c| (c.revision, c.table, c.key.to_vec(), c.old.clone(), c.new.clone()))
            .collect();
        let from = self.model.changes.partition_point(|change| change.0 <= floor);
        assert!(kept == self.model.changes[from..], "the history differs from the model after revision {floor}");
    }
}

/// Runs `body` for many seeds, or for the one that was asked for; a failure says how to repeat it.
fn for_seeds(runs: u64, body: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(seed) = number("RECORDS_SEED") {
        return body(seed);
    }
    for seed in 0..number("RECORDS_RUNS").unwrap_or(runs) {
        if let Err(cause) = std::panic::catch_unwind(|| body(seed)) {
            let test = std::thread::current().name().unwrap_or("the test").to_owned();
            eprintln!("repeat with: RECORDS_SEED={seed} cargo test -p records --lib -- --exact {test}");
            std::panic::resume_unwind(cause);
        }
    }
}
