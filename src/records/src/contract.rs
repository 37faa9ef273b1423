//! The contract of the store, as checks that every backend must pass.
//!
//! Called by the test suites of the backends, each check with a fresh [`Backend`]. A check panics with what is wrong.
//! Nothing of this runs in the product.
//!
//! Invariant: the checks use only the public interface, so they say what callers may rely on, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Cold, ColdTable, Db, Error, Event, RawTable, Table};

/// Where a check gets its store from.
pub trait Backend: Send + Sync {
    /// Opens the backend's one store; again after it was closed or dropped.
    fn open(&self) -> Db;
}

const THINGS: RawTable = RawTable::hot(900, "things");
const OTHERS: RawTable = RawTable::hot(901, "others");
const TYPED: Table<Vec<u32>> = Table::hot(902, "typed");

async fn put(db: &Db, key: &str, value: &str) -> u64 {
    let (key, value) = (key.to_owned(), value.to_owned());
    let committed = db
        .transact(move |tx| Ok::<_, ()>(tx.put(THINGS, key.as_bytes(), value.into_bytes())))
        .await
        .expect("committed");
    assert_eq!(committed.value, committed.revision);
    committed.revision
}

async fn delete(db: &Db, key: &str) -> Option<u64> {
    let key = key.to_owned();
    db.transact(move |tx| Ok::<_, ()>(tx.delete(THINGS, key.as_bytes()))).await.expect("committed").value
}

fn get(db: &Db, key: &str) -> Option<String> {
    db.read(|view| view.get(THINGS, key.as_bytes())).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
}

/// Acknowledged writes are there after a restart, and the revision goes on.
pub async fn what_was_committed_is_there_after_a_restart_with_its_revisions(backend: &dyn Backend) {
    let db = backend.open();
    assert_eq!(put(&db, "a", "1").await, 1);
    assert_eq!(put(&db, "b", "2").await, 2);
    assert_eq!(put(&db, "a", "3").await, 3);
    assert_eq!(delete(&db, "b").await, Some(4));
    assert_eq!(delete(&db, "b").await, None);
    db.close().await.expect("done");
    let db = backend.open();
    assert_eq!(db.revision(), 4);
    assert_eq!(get(&db, "a").as_deref(), Some("3"));
    assert_eq!(get(&db, "b"), None);
    assert_eq!(put(&db, "c", "4").await, 5);
}

/// All of a transaction or nothing.
pub async fn a_refused_or_panicking_transaction_writes_nothing(backend: &dyn Backend) {
    let db = backend.open();
    let refused = db
        .transact(|tx| {
            tx.put(THINGS, b"a", b"1".to_vec());
            Err::<(), _>("no")
        })
        .await;
    assert!(matches!(refused, Err(Error::Refused("no"))));
    let panicked = db
        .transact(|tx| {
            tx.put(THINGS, b"a", b"1".to_vec());
            assert!(tx.get(THINGS, b"b").is_some(), "as this test wants it");
            Ok::<_, ()>(())
        })
        .await;
    assert!(matches!(panicked, Err(Error::Panicked)));
    assert_eq!((db.revision(), get(&db, "a")), (0, None));
    assert_eq!(put(&db, "a", "2").await, 1);
}

/// A transaction sees what it wrote, in order with what was there.
pub async fn a_transaction_reads_its_own_writes_in_order(backend: &dyn Backend) {
    let db = backend.open();
    for key in ["a/1", "a/3", "a/5", "b/1"] {
        put(&db, key, key).await;
    }
    let seen = db
        .transact(|tx| {
            tx.put(THINGS, b"a/2", b"new".to_vec());
            tx.delete(THINGS, b"a/3");
            tx.put(THINGS, b"a/6", b"new".to_vec());
            tx.put(OTHERS, b"a/4", b"elsewhere".to_vec());
            let keys = |after: Option<&[u8]>, limit| {
                let rows = tx.range(THINGS, b"a/", after, limit);
                rows.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect::<Vec<_>>().join(" ")
            };
            Ok::<_, ()>((keys(None, 10), keys(Some(b"a/2"), 1), tx.revision()))
        })
        .await
        .expect("committed");
    assert_eq!(seen.value, ("a/1 a/2 a/5 a/6".to_owned(), "a/5".to_owned(), 8));
    let rows = db.read(|view| view.range(THINGS, b"a/", Some(b"a/1"), 2));
    assert_eq!(rows.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), [b"a/2", b"a/5"]);
}

/// Watchers miss nothing, also across a restart.
pub async fn a_watch_has_everything_after_its_revision_once_and_in_order_also_across_a_restart(backend: &dyn Backend) {
    let db = backend.open();
    put(&db, "x/1", "old").await;
    put(&db, "y/1", "elsewhere").await;
    put(&db, "x/1", "new").await;
    db.close().await.expect("done");
    let db = backend.open();
    let mut watch = db.watch(THINGS, b"x/".to_vec(), 1).expect("there");
    delete(&db, "x/1").await;
    put(&db, "y/2", "elsewhere").await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let Event::Change(change) = watch.next().await else { panic!("the watch has ended") };
        let text = |entry: &Option<crate::Entry>| {
            entry.as_ref().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
        };
        seen.push((change.revision, text(&change.old), text(&change.new)));
    }
    assert_eq!(seen, [(3, Some("old".into()), Some("new".into())), (4, Some("new".into()), None)]);
    assert_eq!(watch.progress(), 5);
    db.close().await.expect("done");
    assert_eq!(watch.next().await, Event::Closed);
}

/// Past states inside the window are exact.
pub async fn an_older_revision_can_be_read_inside_the_window_and_is_gone_outside(backend: &dyn Backend) {
    let db = backend.open();
    for value in 0..10 {
        put(&db, &format!("k{}", value % 3), &value.to_string()).await;
    }
    delete(&db, "k0").await;
    let past = db.at(5).expect("there");
    put(&db, "k3", "later").await;
    let rows = past.range(THINGS, b"k", None, 10);
    let rows: Vec<_> = rows
        .iter()
        .map(|(key, entry)| (String::from_utf8_lossy(key), String::from_utf8_lossy(&entry.value), entry.revision))
        .collect();
    assert_eq!(rows, [("k0".into(), "3".into(), 4), ("k1".into(), "4".into(), 5), ("k2".into(), "2".into(), 3)]);
    assert_eq!(past.get(THINGS, b"k0").expect("there").revision, 4);
    assert_eq!(past.get(THINGS, b"k3"), None);
    let gone = db.at(13).expect_err("refused");
    assert_eq!((gone.asked, gone.oldest, gone.newest), (13, 0, 12));
}

/// Typed tables.
pub async fn typed_rows_come_back_as_they_were_put(backend: &dyn Backend) {
    let db = backend.open();
    db.transact(|tx| {
        TYPED.put(tx, "n/1", &vec![1, 2])?;
        TYPED.put(tx, "n/2", &vec![])
    })
    .await
    .expect("committed");
    assert_eq!(db.read(|view| TYPED.get(view, "n/1")).expect("there"), Some(vec![1, 2]));
    assert_eq!(db.read(|view| TYPED.range(view, "n/", Some("n/1"), 9)).expect("there"), [("n/2".to_owned(), vec![])]);
}

/// Transactions are serial however many there are at once.
pub async fn many_writers_share_batches_and_lose_nothing(backend: &dyn Backend) {
    let db = backend.open();
    let tasks = foundation::tasks::Tasks::root("writers");
    for writer in 0..16 {
        let db = db.clone();
        tasks.spawn("writer", async move {
            for turn in 0..50u32 {
                db.transact(move |tx| {
                    let count = tx
                        .get(THINGS, b"count")
                        .map_or(0, |entry| u32::from_le_bytes(entry.value[..].try_into().expect("there")));
                    tx.put(THINGS, b"count", (count + 1).to_le_bytes().to_vec());
                    tx.put(THINGS, format!("{writer}/{turn}").as_bytes(), vec![7; 500]);
                    Ok::<_, ()>(())
                })
                .await
                .expect("there");
            }
        });
    }
    let mut watch = db.watch(THINGS, b"count".to_vec(), 0).expect("there");
    for expected in 1..=800u32 {
        let Event::Change(change) = watch.next().await else { panic!("the watch has ended") };
        assert_eq!(change.new.as_ref().expect("there").value[..], expected.to_le_bytes());
    }
    assert!(tasks.stop(Duration::from_secs(10)).await);
    db.close().await.expect("done");
    let db = backend.open();
    assert_eq!((db.revision(), db.read(|view| view.range(THINGS, b"", None, 9999).len())), (1600, 801));
}

/// Values above what the journal takes inline, also shared ones, also after a restart.
pub async fn large_values_come_back_whole(backend: &dyn Backend) {
    let db = backend.open();
    let large: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    for key in [&b"one"[..], b"two", b"three"] {
        let value = large.clone();
        db.transact(move |tx| Ok::<_, ()>(tx.put(THINGS, key, value))).await.expect("committed");
    }
    db.transact(|tx| Ok::<_, ()>(tx.delete(THINGS, b"two"))).await.expect("committed");
    db.close().await.expect("closed");
    let db = backend.open();
    for (key, there) in [(&b"one"[..], true), (b"two", false), (b"three", true)] {
        let found = db.read(|view| view.get(THINGS, key));
        assert_eq!(found.map(|entry| entry.value[..] == large[..]), there.then_some(true));
    }
}

/// After `close` nothing is written any more, and closing again is fine.
pub async fn a_closed_store_says_so(backend: &dyn Backend) {
    let db = backend.open();
    put(&db, "a", "1").await;
    db.close().await.expect("closed");
    let late = db.transact(|tx| Ok::<_, ()>(tx.put(THINGS, b"a", b"2".to_vec()))).await;
    assert!(matches!(late, Err(Error::Closed)));
    assert_eq!(get(&db, "a").as_deref(), Some("1"));
    db.close().await.expect("closed again");
}

/// Nobody waits for a watcher that does not read.
pub async fn a_slow_watcher_is_cut_off_and_told(backend: &dyn Backend) {
    let db = backend.open();
    let mut slow = db.watch(THINGS, vec![], 0).expect("from the beginning");
    for chunk in 0..10u32 {
        db.transact(move |tx| {
            for row in 0..1000u32 {
                tx.put(THINGS, &(chunk * 1000 + row).to_be_bytes(), vec![1]);
            }
            Ok::<_, ()>(())
        })
        .await
        .expect("committed");
    }
    let mut seen = 0;
    loop {
        match slow.next().await {
            Event::Change(change) => {
                seen += 1;
                assert_eq!(change.revision, seen, "what it does get is complete and in order");
            }
            Event::Lagged => break,
            Event::Closed => panic!("the store is open"),
        }
    }
    assert!(seen < 10_000 && slow.progress() == seen, "cut off after {seen}");
    assert_eq!(slow.next().await, Event::Lagged);
}

/// A bookmark may name a revision that this watcher has no change of.
pub async fn progress_follows_what_others_write(backend: &dyn Backend) {
    let db = backend.open();
    put(&db, "mine/1", "1").await;
    let mut watch = db.watch(THINGS, b"mine/".to_vec(), 0).expect("from the beginning");
    assert_eq!(watch.progress(), 0, "the backlog has not been read");
    assert!(matches!(watch.next().await, Event::Change(_)));
    assert_eq!(watch.progress(), 1);
    for other in 0..5 {
        put(&db, &format!("other/{other}"), "1").await;
    }
    assert_eq!(watch.progress(), 6);
    put(&db, "mine/2", "1").await;
    assert_eq!(watch.progress(), 1, "a change is waiting");
    assert!(matches!(watch.next().await, Event::Change(_)));
    assert_eq!(watch.progress(), 7);
}

const ARCHIVE: ColdTable = RawTable::cold(903, "archive");

/// Waits until the index of cold tables answers.
async fn cold_ready(db: &Db) -> Cold {
    let cold = db.cold();
    let begun = Instant::now();
    while !cold.is_ready() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the index of cold tables is not ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    cold
}

/// Moves `count` rows of different sizes to the archive, enough for several cold snapshots on a backend with small limits.
async fn archive(db: &Db, count: u32) {
    for row in 0..count {
        db.transact(move |tx| {
            tx.delete(THINGS, format!("run/{row:05}").as_bytes());
            tx.put_cold(ARCHIVE, format!("run/{row:05}").as_bytes(), archived(row));
            Ok::<_, ()>(())
        })
        .await
        .expect("committed");
    }
}

fn archived(row: u32) -> Vec<u8> {
    let length = [0, 10, 3999, 4000, 4001, 20_000][row as usize % 6];
    row.to_le_bytes().into_iter().cycle().take(length).collect()
}

/// Cold tables hold what was put there, over orderly and other restarts, and ranges are complete and in order.
pub async fn cold_tables_hold_what_was_moved_there(backend: &dyn Backend) {
    let db = backend.open();
    archive(&db, 600).await;
    let removed = |tx: &mut crate::Transaction<'_>| {
        tx.delete_cold(ARCHIVE, b"run/00007");
        tx.put_cold(ARCHIVE, b"run/00008", b"again".to_vec());
        tx.put_cold(ARCHIVE, b"other/\0/x", b"zero".to_vec());
        Ok::<_, ()>(())
    };
    db.transact(removed).await.expect("committed");
    check_archive(&db, 600).await;
    db.close().await.expect("closed");
    let db = backend.open();
    check_archive(&db, 600).await;
    archive_more_and_vanish(&db).await;
    drop(db);
    let db = backend.open();
    check_archive(&db, 900).await;
    db.close().await.expect("closed");
    check_archive(&backend.open(), 900).await;
}

async fn archive_more_and_vanish(db: &Db) {
    for row in 600..900u32 {
        let put = move |tx: &mut crate::Transaction<'_>| {
            Ok::<_, ()>(tx.put_cold(ARCHIVE, format!("run/{row:05}").as_bytes(), archived(row)))
        };
        db.transact(put).await.expect("committed");
    }
}

async fn check_archive(db: &Db, count: u32) {
    let cold = cold_ready(db).await;
    for row in 0..count {
        let found = cold.get(ARCHIVE, format!("run/{row:05}").as_bytes()).await.expect("answered");
        let wanted = match row {
            7 => None,
            8 => Some(b"again".to_vec()),
            row => Some(archived(row)),
        };
        assert!(found.map(|entry| entry.value.to_vec()) == wanted, "row {row} of the archive");
    }
    let (mut keys, mut after) = (Vec::new(), None::<Arc<[u8]>>);
    loop {
        let page = cold.range(ARCHIVE, b"run/", after.as_deref(), 70).await.expect("answered");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        keys.extend(page.iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()));
    }
    let wanted: Vec<_> = (0..count).filter(|row| *row != 7).map(|row| format!("run/{row:05}")).collect();
    assert!(keys == wanted, "the archive's range has {} rows of {}", keys.len(), wanted.len());
    let other = cold.range(ARCHIVE, b"other/", None, 9).await.expect("answered");
    assert_eq!(
        other.iter().map(|(key, entry)| (&**key, &*entry.value)).collect::<Vec<_>>(),
        [(&b"other/\0/x"[..], &b"zero"[..])]
    );
}
