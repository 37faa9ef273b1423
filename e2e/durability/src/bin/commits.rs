//! Durable commits per second, ours beside SQLite in WAL mode with `synchronous=FULL`, in turns within one run; and how long
//! a store takes to open.
//!
//! `cargo run --profile bench -p durability --bin commits -- [--seconds N] [--rounds N] [--dir FOLDER] [--json]`
//! The folder must be on the disk that is to be measured, not on tmpfs. Exits with 1 when a ratio is below its floor.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use durability::{Dice, median, noise};
use records::{Db, Options, RawTable};

const TABLE: RawTable = RawTable::hot(900, "bench");
const VALUE_BYTES: usize = 1024;
const KEYS: u64 = 100_000;
/// Writers, and how many times SQLite's commits per second ours must be.
const FLOORS: [(usize, f64); 3] = [(1, 1.2), (8, 5.0), (32, 8.0)];

struct Arguments {
    seconds: f64,
    rounds: usize,
    dir: PathBuf,
}

/// What one turn of one store gave.
#[derive(Clone, Copy)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [step, dir] = words.as_slice()
        && step == "child-open"
    {
        return child_open(Path::new(dir));
    }
    let arguments = arguments()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start a runtime")?;
    println!(
        "commits of one {VALUE_BYTES}-byte value, each durable before it is answered; {} rounds of {} s, stores in turn",
        arguments.rounds, arguments.seconds
    );
    println!(
        "{:>8} {:>28} {:>28} {:>8} {:>7}",
        "writers", "records /s (p50/p99 ms)", "SQLite WAL FULL", "ratio", "floor"
    );
    let mut below = false;
    for (writers, floor) in FLOORS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            let dir = |name: &str| arguments.dir.join(format!("{name}-{writers}-{round}"));
            ours.push(measure_records(&runtime, &dir("records"), writers, arguments.seconds)?);
            theirs.push(measure_sqlite(&dir("sqlite"), writers, arguments.seconds)?);
        }
        let middle =
            |figures: &[Figures], of: fn(&Figures) -> f64| median(&mut figures.iter().map(of).collect::<Vec<_>>());
        let line = |figures: &[Figures]| {
            let (p50, p99) = (middle(figures, |f| f.p50_ms), middle(figures, |f| f.p99_ms));
            format!("{:.0} ({p50:.2}/{p99:.1})", middle(figures, |f| f.per_second))
        };
        let ratio = middle(&ours, |f| f.per_second) / middle(&theirs, |f| f.per_second);
        below |= ratio < floor;
        println!("{writers:>8} {:>28} {:>28} {ratio:>7.1}x {floor:>6.1}x", line(&ours), line(&theirs));
    }
    measure_first(&runtime, &arguments.dir)?;
    for records in [10_000, 100_000] {
        measure_open(&runtime, &arguments.dir.join(format!("open-{records}")), records)?;
    }
    anyhow::ensure!(!below, "a ratio is below its floor");
    Ok(())
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments { seconds: 3.0, rounds: 3, dir: PathBuf::from("target/bench-commits") };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("read the value of {word}"))?;
        match word.as_str() {
            "--seconds" => found.seconds = value.parse().context("read --seconds")?,
            "--rounds" => found.rounds = value.parse().context("read --rounds")?,
            "--dir" => found.dir = value.into(),
            _ => anyhow::bail!("{word} is not known; there are --seconds, --rounds and --dir"),
        }
    }
    std::fs::create_dir_all(&found.dir).with_context(|| format!("create {}", found.dir.display()))?;
    Ok(found)
}

fn figures(mut latencies: Vec<f64>, took: Duration) -> Figures {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    Figures { per_second: latencies.len() as f64 / took.as_secs_f64(), p50_ms: at(0.5), p99_ms: at(0.99) }
}

fn measure_records(runtime: &tokio::runtime::Runtime, dir: &Path, writers: usize, seconds: f64) -> Result<Figures> {
    let db = Db::open(Options::at(dir)).context("open the store")?;
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (start, end) = (Instant::now(), Duration::from_secs_f64(seconds));
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let (db, latencies) = (db.clone(), latencies.clone());
            tasks.spawn(async move {
                let (mut dice, mut own) = (Dice::new(writer as u64), Vec::new());
                while start.elapsed() < end {
                    let (key, value) = (dice.below(KEYS).to_be_bytes(), noise(&mut dice, VALUE_BYTES));
                    let begun = Instant::now();
                    db.transact(move |tx| Ok::<_, ()>(tx.put(TABLE, &key, value)))
                        .await
                        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
                    own.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                if let Ok(mut all) = latencies.lock() {
                    all.append(&mut own);
                }
                Ok::<_, anyhow::Error>(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("join a writer")??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let took = start.elapsed();
    runtime.block_on(db.close()).context("close the store")?;
    drop(db);
    std::fs::remove_dir_all(dir).context("remove the store")?;
    let latencies = latencies.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
    Ok(figures(latencies, took))
}

fn measure_sqlite(dir: &Path, writers: usize, seconds: f64) -> Result<Figures> {
    std::fs::create_dir_all(dir).context("create the database's folder")?;
    let connection = rusqlite::Connection::open(dir.join("db")).context("open the database")?;
    connection.pragma_update(None, "journal_mode", "WAL").context("choose WAL")?;
    connection.pragma_update(None, "synchronous", "FULL").context("choose FULL")?;
    connection
        .execute_batch("CREATE TABLE object (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        .context("create the table")?;
    // One connection for all: writers in SQLite exclude each other anyway, and this way nobody polls for the lock.
    let (connection, latencies) = (Mutex::new(connection), Mutex::new(Vec::new()));
    let (failed, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let (start, end) = (Instant::now(), Duration::from_secs_f64(seconds));
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (connection, latencies, failed, count) = (&connection, &latencies, &failed, &count);
            scope.spawn(move || {
                let (mut dice, mut own) = (Dice::new(writer as u64), Vec::new());
                while start.elapsed() < end {
                    let (key, value) = (dice.below(KEYS).to_be_bytes(), noise(&mut dice, VALUE_BYTES));
                    let begun = Instant::now();
                    let Ok(connection) = connection.lock() else { return };
                    let put = connection
                        .prepare_cached("INSERT OR REPLACE INTO object VALUES (?1, ?2)")
                        .and_then(|mut put| put.execute((&key[..], &value)));
                    drop(connection);
                    failed.fetch_or(put.is_err(), Ordering::Relaxed);
                    count.fetch_add(1, Ordering::Relaxed);
                    own.push(begun.elapsed().as_secs_f64() * 1e3);
                }
                if let Ok(mut all) = latencies.lock() {
                    all.append(&mut own);
                }
            });
        }
    });
    let took = start.elapsed();
    anyhow::ensure!(!failed.load(Ordering::Relaxed), "an insert into SQLite failed");
    std::fs::remove_dir_all(dir).context("remove the database")?;
    Ok(figures(latencies.into_inner().unwrap_or_default(), took))
}

/// Time from nothing to the first durable commit, and again on the folder that this has left.
fn measure_first(runtime: &tokio::runtime::Runtime, dir: &Path) -> Result<()> {
    let (mut empty, mut again) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let dir = dir.join(format!("first-{round}"));
        for times in [&mut empty, &mut again] {
            let begun = Instant::now();
            let db = Db::open(Options::at(&dir)).context("open the store")?;
            let put = db.transact(move |tx| Ok::<_, ()>(tx.put(TABLE, b"first", vec![1])));
            runtime.block_on(put).map_err(|error| anyhow::anyhow!("{error:?}"))?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            runtime.block_on(db.close()).context("close the store")?;
        }
        std::fs::remove_dir_all(&dir).context("remove the store")?;
    }
    println!(
        "open and first commit: {:.0} ms on an empty folder, {:.0} ms on an existing one",
        median(&mut empty),
        median(&mut again)
    );
    Ok(())
}

/// Time to open a store from its journal alone, and from a snapshot.
fn measure_open(runtime: &tokio::runtime::Runtime, dir: &Path, records: u64) -> Result<()> {
    let mut options = Options::at(dir);
    options.checkpoint_bytes = u64::MAX;
    let db = Db::open(options.clone()).context("open the store")?;
    let mut dice = Dice::new(1);
    for chunk in 0..records / 1000 {
        let rows: Vec<_> = (0..1000).map(|row| (chunk * 1000 + row, noise(&mut dice, VALUE_BYTES))).collect();
        let put = db.transact(move |tx| {
            for (key, value) in rows {
                tx.put(TABLE, &key.to_be_bytes(), value);
            }
            Ok::<_, ()>(())
        });
        runtime.block_on(put).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    }
    drop(db);
    let (journal_ms, journal_mib) = open_in_children(dir, records)?;
    options.checkpoint_bytes = 1;
    let db = Db::open(options.clone()).context("open the store")?;
    runtime.block_on(db.close()).context("close the store")?;
    drop(db);
    let (snapshot_ms, snapshot_mib) = open_in_children(dir, records)?;
    println!(
        "open with {records} records of {VALUE_BYTES} bytes: {journal_ms:.0} ms and {journal_mib:.0} MiB from the journal, \
         {snapshot_ms:.0} ms and {snapshot_mib:.0} MiB from a snapshot (a process of its own)"
    );
    std::fs::remove_dir_all(dir).context("remove the store")
}

/// Opens the store in fresh processes. Gives the medians of the time and of the resident memory after it.
fn open_in_children(dir: &Path, records: u64) -> Result<(f64, f64)> {
    let (mut times, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let program = std::env::current_exe().context("find this program")?;
        #[expect(
            clippy::disallowed_methods,
            reason = "this program itself, so that memory and time are those of a start"
        )]
        let output = std::process::Command::new(program).arg("child-open").arg(dir).output().context("run a child")?;
        let line = String::from_utf8_lossy(&output.stdout).into_owned();
        let figures: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [ms, mib, revision] = figures.as_slice() else {
            anyhow::bail!("the child failed: {}", String::from_utf8_lossy(&output.stderr))
        };
        anyhow::ensure!(*revision as u64 == records, "a record is missing");
        times.push(*ms);
        sizes.push(*mib);
    }
    Ok((median(&mut times), median(&mut sizes)))
}

/// The child: opens, and prints milliseconds, MiB and the revision.
fn child_open(dir: &Path) -> Result<()> {
    let begun = Instant::now();
    let mut options = Options::at(dir);
    options.checkpoint_bytes = u64::MAX;
    let db = Db::open(options).context("open the store")?;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    let status = std::fs::read_to_string("/proc/self/status").context("read the memory's size")?;
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok());
    println!("{ms:.1} {:.1} {}", resident.unwrap_or(f64::NAN) / 1024.0, db.revision());
    Ok(())
}
