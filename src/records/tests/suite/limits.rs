//! Limits, and who may have the folder.

use records::contract::Backend;
use records::{Db, Error, OpenError, Options, RawTable};

use crate::{Folder, Memory};

const THINGS: RawTable = RawTable::hot(900, "things");

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_store_at_a_time() {
    let folder = Folder::new();
    let db = folder.open();
    assert!(matches!(Db::open(Options::at(folder.0.path())), Err(OpenError::Locked { .. })));
    drop(db);
    folder.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_the_rest_goes_on() {
    let memory = Memory::new();
    let db = memory.open();
    let long_key = db.transact(|tx| Ok::<_, ()>(tx.put(THINGS, &[b'k'; 5000], vec![1]))).await;
    assert!(matches!(long_key, Err(Error::TooLarge { bytes: 5000 })));
    let many = db
        .transact(|tx| {
            for key in 0..20u32 {
                tx.put(THINGS, &key.to_be_bytes(), vec![1; 60_000]);
            }
            Ok::<_, ()>(())
        })
        .await;
    assert!(matches!(many, Err(Error::TooLarge { bytes }) if bytes > 1_200_000));
    let small = db.transact(|tx| Ok::<_, ()>(tx.put(THINGS, b"k", vec![1]))).await.expect("committed");
    assert_eq!((small.revision, db.revision()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_window_has_an_end() {
    let memory = Memory::new();
    let mut options = memory.options();
    options.history_bytes = 40_000;
    let db = Db::open(options).expect("the store opens");
    for turn in 0..100u32 {
        db.transact(move |tx| Ok::<_, ()>(tx.put(THINGS, b"k", vec![turn as u8; 1000]))).await.expect("committed");
    }
    let gone = db.watch(THINGS, vec![], 1).expect_err("too long ago");
    assert!(gone.oldest > 50 && gone.oldest < 90 && gone.newest == 100, "{gone}");
    assert!(db.watch(THINGS, vec![], gone.oldest).is_ok() && db.at(gone.oldest - 1).is_err());
    // While somebody reads a past state it is kept.
    let past = db.at(gone.oldest).expect("inside the window");
    for turn in 0..100u32 {
        db.transact(move |tx| Ok::<_, ()>(tx.put(THINGS, b"k", vec![turn as u8; 1000]))).await.expect("committed");
    }
    assert_eq!(past.get(THINGS, b"k").map(|entry| entry.revision), Some(gone.oldest));
}
