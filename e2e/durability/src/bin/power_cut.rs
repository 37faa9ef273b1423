//! Cuts the power of a real file system on a block device of our own, again and again, and looks at what is left.
//!
//! `cargo run --release -p durability --bin power_cut -- [--cuts N] [--seconds N] [--stores A,B] [--sizes 200,4096,…] [--seed N]`
//!
//! Needs root, `/dev/fuse`, loop devices, mkfs.ext4 and some 2 GiB of memory; where one is missing it says SKIPPED and why,
//! and exits with 0. For each store and size of value a writer commits for a while on ext4, on a loop device, on a FUSE file
//! that logs all writes and flushes, until it is killed. For each cut the device is rebuilt as of a random instant and
//! mounted (ext4 replays its journal), and a child with a time limit opens the store, compares it with what was
//! acknowledged up to that instant, commits more, and another child looks again. SQLite (WAL, FULL) must come out without a
//! bad cut and raw sled with some: they prove the proof.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use durability::Dice;
use durability::device::{Device, FILE, Log, now_ns};
use durability::image::{Cut, Mounted, rebuild};
use durability::{store, workload};

const DEVICE_BYTES: u64 = 1 << 30;
/// A store that has not opened and answered by then hangs.
const VERIFY_LIMIT: Duration = Duration::from_secs(30);
const SCRATCH: &str = "/dev/shm";

#[derive(Debug, Clone)]
struct Plan {
    cuts: u64,
    seconds: f64,
    stores: Vec<String>,
    sizes: Vec<usize>,
    seed: u64,
}

/// How the cuts of one store and size came out.
#[derive(Debug, Default)]
struct Tally {
    fine: u64,
    bad: u64,
    first: Option<String>,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.first().map(String::as_str) {
        Some("child-write" | "child-verify" | "child-again") => child(&words),
        _ => prove(&plan(&words)?),
    }
}

fn plan(words: &[String]) -> Result<Plan> {
    let mut plan = Plan {
        cuts: 50,
        seconds: 4.0,
        stores: store::NAMES.map(str::to_owned).to_vec(),
        sizes: vec![200, 4096, 65_536, 1 << 20],
        seed: now_ns(),
    };
    for pair in words.chunks(2) {
        let [name, value] = pair else { bail!("{} has no value", pair.concat()) };
        match name.as_str() {
            "--cuts" => plan.cuts = value.parse().context("read --cuts")?,
            "--seconds" => plan.seconds = value.parse().context("read --seconds")?,
            "--stores" => plan.stores = value.split(',').map(str::to_owned).collect(),
            "--sizes" => {
                plan.sizes = value.split(',').map(str::parse).collect::<Result<_, _>>().context("read --sizes")?
            }
            "--seed" => plan.seed = value.parse().context("read --seed")?,
            _ => bail!("{name} is not known; there are --cuts, --seconds, --stores, --sizes and --seed"),
        }
    }
    Ok(plan)
}

/// What this machine lacks, if anything.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".into());
    }
    let devices = ["/dev/fuse", "/dev/loop-control"].into_iter().find(|device| !Path::new(device).exists());
    if let Some(device) = devices {
        return Some(format!("needs {device}"));
    }
    let programs = ["mkfs.ext4", "losetup", "mount"];
    let on_path = |program: &&str| {
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()))
    };
    programs.into_iter().find(|program| !on_path(program)).map(|program| format!("needs {program}"))
}

fn prove(plan: &Plan) -> Result<()> {
    if let Some(missing) = missing() {
        println!("SKIPPED power cuts: {missing}");
        return Ok(());
    }
    println!("{} cuts for each store and size, seed {}", plan.cuts, plan.seed);
    println!("{:>10} {:>10} {:>10} {:>6} {:>6}", "store", "value", "commits", "fine", "bad");
    let mut failures = Vec::new();
    for name in &plan.stores {
        let mut bad = 0;
        for size in &plan.sizes {
            let (commits, tally) =
                cut_often(plan, name, *size).with_context(|| format!("{name} with values of {size} bytes"))?;
            println!(
                "{name:>10} {size:>10} {commits:>10} {:>6} {:>6} {}",
                tally.fine,
                tally.bad,
                tally.first.unwrap_or_default()
            );
            bad += tally.bad;
        }
        match name.as_str() {
            "sled" if bad == 0 => failures.push("raw sled lost nothing, so this run proves nothing".to_owned()),
            "sled" => {}
            _ if bad > 0 => failures.push(format!("{name}: {bad} bad cuts")),
            _ => {}
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// A folder of this run, removed at its end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn cut_often(plan: &Plan, name: &str, size: usize) -> Result<(usize, Tally)> {
    let scratch = Scratch(PathBuf::from(SCRATCH).join(format!("power-cut-{}-{name}-{size}", std::process::id())));
    let notes = scratch.0.join("notes");
    std::fs::create_dir_all(&notes).context("create the scratch folder")?;
    let mut dice = Dice::new(plan.seed ^ size as u64);
    let (log, from_ns, to_ns) = write_and_kill(plan, &scratch.0, &notes, name, size)?;
    let mut tally = Tally::default();
    for cut in 0..plan.cuts {
        let at_ns = from_ns + dice.below(to_ns - from_ns);
        let mode = [Cut::KeepAll, Cut::DropAll, Cut::Half][(cut % 3) as usize];
        match cut_once(&log, at_ns, mode, &mut dice, &scratch.0, name, size) {
            Ok(()) => tally.fine += 1,
            Err(error) => {
                tally.bad += 1;
                tally.first.get_or_insert_with(|| {
                    format!("{mode:?}: {error:#}").lines().next().unwrap_or_default().chars().take(160).collect()
                });
            }
        }
    }
    let commits = (0..workload::WRITERS)
        .map(|writer| workload::notes_until(&notes, writer, u64::MAX).map_or(0, |notes| notes.len()))
        .sum();
    Ok((commits, tally))
}

/// Lets a writer work on the device for a while. Gives the log and the time in which cuts make sense.
fn write_and_kill(plan: &Plan, scratch: &Path, notes: &Path, name: &str, size: usize) -> Result<(Log, u64, u64)> {
    let device = Device::mount(&scratch.join("device"), DEVICE_BYTES)?;
    let mounted = Mounted::mount(&scratch.join("device").join(FILE), &scratch.join("live"), true, true)?;
    let from_ns = now_ns();
    let mut writer = spawn(&["child-write", name, &size.to_string()], &scratch.join("live/store"), notes, 0)?;
    std::thread::sleep(Duration::from_secs_f64(plan.seconds));
    let ended = writer.try_wait().context("look at the writer")?;
    ensure!(ended.is_none(), "the writer ended by itself: {}", read_errors(&mut writer));
    let to_ns = now_ns();
    writer.kill().context("kill the writer")?;
    writer.wait().context("wait for the writer")?;
    drop(mounted);
    Ok((device.unmount(), from_ns, to_ns))
}

fn cut_once(log: &Log, at_ns: u64, mode: Cut, dice: &mut Dice, scratch: &Path, name: &str, size: usize) -> Result<()> {
    let image = scratch.join("image");
    rebuild(log, at_ns, mode, dice, DEVICE_BYTES, &image)?;
    let folder = scratch.join("after");
    let result = {
        let _mounted = Mounted::mount(&image, &folder, false, false)?;
        let check = |step: &str| {
            verify_in_child(&[step, name, &size.to_string()], &folder.join("store"), &scratch.join("notes"), at_ns)
        };
        check("child-verify").and_then(|()| check("child-again"))
    };
    std::fs::remove_file(&image).context("remove the image")?;
    result
}

fn spawn(words: &[&str], dir: &Path, notes: &Path, at_ns: u64) -> Result<Child> {
    let program = std::env::current_exe().context("find this program")?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the writer that is killed and the verifier that may hang are this program itself"
    )]
    let mut command = std::process::Command::new(program);
    command
        .args(words)
        .arg(dir)
        .arg(notes)
        .arg(at_ns.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().context("start a child")
}

fn read_errors(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(errors) = &mut child.stderr {
        let _read = std::io::Read::read_to_string(errors, &mut text);
    }
    text
}

fn verify_in_child(words: &[&str], dir: &Path, notes: &Path, at_ns: u64) -> Result<()> {
    let mut child = spawn(words, dir, notes, at_ns)?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().context("look at the verifier")? {
            break status;
        }
        if begun.elapsed() > VERIFY_LIMIT {
            child.kill().context("kill the verifier")?;
            child.wait().context("wait for the verifier")?;
            bail!("hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "{}", read_errors(&mut child).trim().trim_start_matches("Error: "));
    Ok(())
}

/// This program as its own child: `<step> <store> <value bytes> <store's folder> <notes> <instant>`.
fn child(words: &[String]) -> Result<()> {
    let [step, name, size, dir, notes, at_ns] = words else { bail!("a child takes six words") };
    let (dir, notes) = (Path::new(dir), Path::new(notes));
    let (size, at_ns) =
        (size.parse::<usize>().context("read the size")?, at_ns.parse::<u64>().context("read the instant")?);
    // Two of three sizes with a snapshot every 1 MB, so that trimming and reuse of segments is cut into as well.
    let checkpoint_bytes = if size == 65_536 { 64 << 20 } else { 1 << 20 };
    if step != "child-write" && !dir.exists() {
        // The cut was before the store's folder was on disk: then nothing may have been acknowledged.
        let noted = (0..workload::WRITERS)
            .try_fold(0, |sum, writer| workload::notes_until(notes, writer, at_ns).map(|notes| sum + notes.len()))?;
        ensure!(noted == 0, "lost: the whole store");
        return Ok(());
    }
    let store = store::open(name, dir, checkpoint_bytes)?;
    match step.as_str() {
        "child-write" => workload::write_forever(&*store, notes, size),
        "child-verify" => {
            workload::verify(&*store, notes, at_ns, size).and_then(|()| workload::commit_more(&*store, size))
        }
        _ => workload::verify(&*store, notes, at_ns, size).and_then(|()| workload::check_more(&*store, size)),
    }
}
