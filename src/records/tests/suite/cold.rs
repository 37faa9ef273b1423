//! The index of cold tables is disposable: whatever becomes of it, the rows are there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use records::{Cold, ColdTable, Db, Options, RawTable};

const ARCHIVE: ColdTable = RawTable::cold(903, "archive");
const ROWS: u32 = 2_000;

fn open(dir: &Path) -> Db {
    let mut options = Options::at(dir);
    options.checkpoint_bytes = 256 << 10;
    Db::open(options).expect("the store opens")
}

async fn fill(dir: &Path) {
    let db = open(dir);
    for chunk in 0..ROWS / 50 {
        db.transact(move |tx| {
            for row in chunk * 50..(chunk + 1) * 50 {
                tx.put_cold(ARCHIVE, &row.to_be_bytes(), row.to_le_bytes().repeat(300));
            }
            Ok::<_, ()>(())
        })
        .await
        .expect("committed");
    }
    db.close().await.expect("closed");
}

async fn ready(db: &Db) -> Cold {
    let (cold, begun) = (db.cold(), Instant::now());
    while !cold.is_ready() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the index is not ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    cold
}

async fn check(dir: &Path, harm: &str) {
    let db = open(dir);
    // An index that fails while it is asked is made again: the reader is told to come back.
    let begun = Instant::now();
    let rows = loop {
        match ready(&db).await.range(ARCHIVE, b"", None, usize::MAX).await {
            Ok(rows) => break rows,
            Err(why) => assert!(begun.elapsed() < Duration::from_secs(20), "{harm}: {why}"),
        }
    };
    assert_eq!(rows.len(), ROWS as usize, "{harm}");
    for (row, (key, entry)) in (0u32..).zip(&rows) {
        assert!(**key == row.to_be_bytes() && *entry.value == row.to_le_bytes().repeat(300), "{harm}: row {row}");
    }
    db.close().await.expect("closed");
    let clean = fs::read_to_string(dir.join("CLEAN")).expect("an orderly stop leaves its mark");
    assert!(
        clean.contains("\"index\":") && !clean.contains("null"),
        "{harm}: the next start can take the index up: {clean}"
    );
    assert!(dir.join("sled/db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_foreign_or_damaged_index_is_made_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path();
    fill(dir).await;
    check(dir, "nothing").await;
    fs::remove_file(dir.join("CLEAN")).expect("removed");
    check(dir, "an unclean stop").await;
    fs::remove_dir_all(dir.join("sled")).expect("removed");
    check(dir, "a lost index").await;
    fs::write(dir.join("sled/db"), vec![0x5a; 1 << 20]).expect("written");
    check(dir, "garbage").await;
    let length = fs::metadata(dir.join("sled/db")).expect("there").len();
    fs::OpenOptions::new()
        .write(true)
        .open(dir.join("sled/db"))
        .and_then(|file| file.set_len(length / 2))
        .expect("cut");
    check(dir, "a short index").await;
    fs::write(dir.join("sled/conf"), b"nonsense").expect("written");
    check(dir, "a broken configuration").await;
}
