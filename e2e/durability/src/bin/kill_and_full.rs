//! Kills the writer of a store on the machine's own disk again and again, and fills a real file system to the brim.
//!
//! `cargo run --release -p durability --bin kill_and_full -- [--kills N] [--dir FOLDER]`
//!
//! Kills need nothing special. The full disk needs root and loop devices; without them it says SKIPPED and why. A kill
//! proves nothing about power cuts (the page cache survives it); it proves recovery, the lock and the index of cold tables.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use durability::device::now_ns;
use durability::image::Mounted;
use durability::{Dice, store, workload};
use records::{Db, Error, OpenError, Options, RawTable};

const TABLE: RawTable = RawTable::hot(900, "full");
const IMAGE_BYTES: u64 = 256 << 20;
const VALUE_BYTES: usize = 4096;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [step, dir, notes] = words.as_slice()
        && step == "child-write"
    {
        return workload::write_forever(
            &*store::open("records", Path::new(dir), 1 << 20)?,
            Path::new(notes),
            VALUE_BYTES,
        );
    }
    let (mut kills, mut dir) = (20, PathBuf::from("target/kill-and-full"));
    for pair in words.chunks(2) {
        match pair {
            [name, value] if name == "--kills" => kills = value.parse().context("read --kills")?,
            [name, value] if name == "--dir" => dir = value.into(),
            _ => bail!("{} is not known; there are --kills and --dir", pair.join(" ")),
        }
    }
    std::fs::create_dir_all(&dir).context("create the folder")?;
    let killed = kill_often(&dir, kills);
    let full = fill_up(&dir.join("full"));
    std::fs::remove_dir_all(&dir).context("remove the folder")?;
    killed.and(full)
}

fn kill_often(dir: &Path, kills: u64) -> Result<()> {
    let (store_dir, notes) = (dir.join("store"), dir.join("notes"));
    std::fs::create_dir_all(&notes).context("create the folder of notes")?;
    let mut dice = Dice::new(now_ns());
    for kill in 0..kills {
        // Each round begins anew: the writers' turns do, too.
        for folder in [&store_dir, &notes] {
            if folder.exists() {
                std::fs::remove_dir_all(folder).context("remove the last round")?;
            }
        }
        std::fs::create_dir_all(&notes).context("create the folder of notes")?;
        let program = std::env::current_exe().context("find this program")?;
        #[expect(clippy::disallowed_methods, reason = "the writer that is killed is this program itself")]
        let mut command = std::process::Command::new(program);
        command.arg("child-write").arg(&store_dir).arg(&notes).stdin(Stdio::null()).stdout(Stdio::null());
        let mut writer = command.spawn().context("start the writer")?;
        std::thread::sleep(Duration::from_millis(200 + dice.below(800)));
        if store_dir.join("LOCK").exists() {
            let second = Db::open(Options::at(&store_dir));
            ensure!(
                matches!(second, Err(OpenError::Locked { .. })),
                "a second process may not open the store: {second:?}"
            );
        }
        writer.kill().context("kill the writer")?;
        writer.wait().context("wait for the writer")?;
        let store = store::open("records", &store_dir, 1 << 20)?;
        workload::verify(&*store, &notes, u64::MAX, VALUE_BYTES).with_context(|| format!("after kill {kill}"))?;
        workload::commit_more(&*store, VALUE_BYTES)?;
    }
    println!("{kills} kills, nothing acknowledged is missing");
    Ok(())
}

fn fill_up(dir: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        println!("SKIPPED the full disk: needs root and loop devices");
        return Ok(());
    }
    std::fs::create_dir_all(dir).context("create the folder")?;
    let image = dir.join("image");
    std::fs::File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).context("create the image")?;
    let folder = dir.join("mounted");
    let mounted = Mounted::mount(&image, &folder, true, false)?;
    let filled = tokio::runtime::Runtime::new().context("start a runtime")?.block_on(fill(&folder));
    drop(mounted);
    std::fs::remove_file(&image).context("remove the image")?;
    filled
}

async fn fill(folder: &Path) -> Result<()> {
    let db = Db::open(Options::at(folder.join("store"))).context("open the store")?;
    let put = async |db: &Db, key: u64, length: usize| {
        let key = key.to_be_bytes();
        db.transact(move |tx| Ok::<_, std::convert::Infallible>(tx.put(TABLE, &key, vec![7; length]))).await
    };
    put(&db, 0, 100).await.context("commit")?;
    let ballast = folder.join("ballast");
    // The spares first, then somebody else takes what is left.
    let begun = Instant::now();
    while std::fs::read_dir(folder.join("store/journal")).context("list the journal")?.count() < 3 {
        ensure!(begun.elapsed() < Duration::from_secs(20), "there are no spares");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut file = std::fs::File::create(&ballast).context("create the ballast")?;
    while std::io::Write::write_all(&mut file, &[1; 1 << 16]).is_ok() {}
    let mut written = 1;
    let begun = Instant::now();
    let refused = loop {
        match put(&db, written, VALUE_BYTES).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        ensure!(begun.elapsed() < Duration::from_secs(60), "the full disk is not noticed");
    };
    let Error::Full { free_bytes, .. } = refused else { bail!("refused for another reason: {refused}") };
    ensure!(db.read(|view| view.range(TABLE, b"", None, usize::MAX).len()) as u64 == written, "a row is missing");
    let deleted = db.transact(|tx| Ok::<_, std::convert::Infallible>(tx.delete(TABLE, &0u64.to_be_bytes()))).await;
    deleted.context("delete on the full disk")?;
    std::fs::remove_file(&ballast).context("remove the ballast")?;
    drop(file);
    let freed = Instant::now();
    while put(&db, written, VALUE_BYTES).await.is_err() {
        ensure!(freed.elapsed() < Duration::from_secs(30), "the store does not recover");
        std::thread::sleep(Duration::from_millis(20));
    }
    let recovered_ms = freed.elapsed().as_millis();
    db.close().await.context("close the store")?;
    let db = Db::open(Options::at(folder.join("store"))).context("open the store again")?;
    ensure!(
        db.read(|view| view.range(TABLE, b"", None, usize::MAX).len()) as u64 == written,
        "a row is missing after the restart"
    );
    println!(
        "full disk: refused with {free_bytes} bytes free, read and deleted all the same, wrote again {recovered_ms} ms after space came back"
    );
    Ok(())
}
