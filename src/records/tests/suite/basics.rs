//! Transactions, reads, watches and restarts.

use records::{Db, Error, Event, OpenError, Options, RawTable, Table};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_a_restart_with_its_revisions() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    assert_eq!(put(&db, "a", "1").await, 1);
    assert_eq!(put(&db, "b", "2").await, 2);
    assert_eq!(put(&db, "a", "3").await, 3);
    assert_eq!(delete(&db, "b").await, Some(4));
    assert_eq!(delete(&db, "b").await, None);
    db.close().await.unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    assert_eq!(db.revision(), 4);
    assert_eq!(get(&db, "a").as_deref(), Some("3"));
    assert_eq!(get(&db, "b"), None);
    assert_eq!(put(&db, "c", "4").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_or_panicking_transaction_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_reads_its_own_writes_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
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
        .unwrap();
    assert_eq!(seen.value, ("a/1 a/2 a/5 a/6".to_owned(), "a/5".to_owned(), 8));
    let rows = db.read(|view| view.range(THINGS, b"a/", Some(b"a/1"), 2));
    assert_eq!(rows.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), [b"a/2", b"a/5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_has_everything_after_its_revision_once_and_in_order_also_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    put(&db, "x/1", "old").await;
    put(&db, "y/1", "elsewhere").await;
    put(&db, "x/1", "new").await;
    db.close().await.unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    let mut watch = db.watch(THINGS, b"x/".to_vec(), 1).unwrap();
    delete(&db, "x/1").await;
    put(&db, "y/2", "elsewhere").await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let Event::Change(change) = watch.next().await else { panic!("the watch has ended") };
        let text = |entry: &Option<records::Entry>| {
            entry.as_ref().map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
        };
        seen.push((change.revision, text(&change.old), text(&change.new)));
    }
    assert_eq!(seen, [(3, Some("old".into()), Some("new".into())), (4, Some("new".into()), None)]);
    assert_eq!(watch.progress(), 5);
    db.close().await.unwrap();
    assert_eq!(watch.next().await, Event::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_revision_can_be_read_inside_the_window_and_is_gone_outside() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    for value in 0..10 {
        put(&db, &format!("k{}", value % 3), &value.to_string()).await;
    }
    delete(&db, "k0").await;
    let past = db.at(5).unwrap();
    put(&db, "k3", "later").await;
    let rows = past.range(THINGS, b"k", None, 10);
    let rows: Vec<_> = rows
        .iter()
        .map(|(key, entry)| (String::from_utf8_lossy(key), String::from_utf8_lossy(&entry.value), entry.revision))
        .collect();
    assert_eq!(rows, [("k0".into(), "3".into(), 4), ("k1".into(), "4".into(), 5), ("k2".into(), "2".into(), 3)]);
    assert_eq!(past.get(THINGS, b"k0").unwrap().revision, 4);
    assert_eq!(past.get(THINGS, b"k3"), None);
    let gone = db.at(13).unwrap_err();
    assert_eq!((gone.asked, gone.oldest, gone.newest), (13, 0, 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_store_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    assert!(matches!(Db::open(Options::at(folder.path())), Err(OpenError::Locked { .. })));
    drop(db);
    Db::open(Options::at(folder.path())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_rows_come_back_as_they_were_put() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    db.transact(|tx| {
        TYPED.put(tx, "n/1", &vec![1, 2])?;
        TYPED.put(tx, "n/2", &vec![])
    })
    .await
    .unwrap();
    assert_eq!(db.read(|view| TYPED.get(view, "n/1")).unwrap(), Some(vec![1, 2]));
    assert_eq!(db.read(|view| TYPED.range(view, "n/", Some("n/1"), 9)).unwrap(), [("n/2".to_owned(), vec![])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_share_batches_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    let tasks = foundation::tasks::Tasks::root("writers");
    for writer in 0..16 {
        let db = db.clone();
        tasks.spawn("writer", async move {
            for turn in 0..50u32 {
                db.transact(move |tx| {
                    let count = tx
                        .get(THINGS, b"count")
                        .map_or(0, |entry| u32::from_le_bytes(entry.value[..].try_into().unwrap()));
                    tx.put(THINGS, b"count", (count + 1).to_le_bytes().to_vec());
                    tx.put(THINGS, format!("{writer}/{turn}").as_bytes(), vec![7; 500]);
                    Ok::<_, ()>(())
                })
                .await
                .unwrap();
            }
        });
    }
    let mut watch = db.watch(THINGS, b"count".to_vec(), 0).unwrap();
    for expected in 1..=800u32 {
        let Event::Change(change) = watch.next().await else { panic!("the watch has ended") };
        assert_eq!(change.new.as_ref().unwrap().value[..], expected.to_le_bytes());
    }
    assert!(tasks.stop(std::time::Duration::from_secs(10)).await);
    db.close().await.unwrap();
    let db = Db::open(Options::at(folder.path())).unwrap();
    assert_eq!((db.revision(), db.read(|view| view.range(THINGS, b"", None, 9999).len())), (1600, 801));
}
