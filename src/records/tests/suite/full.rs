//! A full disk, through the whole store with its threads.

use std::time::{Duration, Instant};

use records::contract::Backend;
use records::{Error, Event, RawTable};

use crate::Memory;

const THINGS: RawTable = RawTable::hot(900, "things");

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_puts_stays_readable_and_recovers_by_itself() {
    let memory = Memory::new();
    memory.0.set_capacity(8 << 20);
    let db = memory.open();
    let mut watch = db.watch(THINGS, vec![], 0).expect("from the beginning");
    let mut written = 0u32;
    let refused = loop {
        let put = db.transact(move |tx| Ok::<_, ()>(tx.put(THINGS, &written.to_be_bytes(), vec![7; 60_000]))).await;
        match put {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    let Error::Full { folder, free_bytes } = refused else { panic!("{refused:?}") };
    assert!(folder.starts_with("/store") && free_bytes < 3 << 20, "{free_bytes} free");
    assert_eq!(db.read(|view| view.range(THINGS, b"", None, usize::MAX).len()), written as usize);
    db.transact(|tx| Ok::<_, ()>(tx.delete(THINGS, &0u32.to_be_bytes()))).await.expect("a delete passes");
    for expected in 1..=u64::from(written) + 1 {
        let Event::Change(change) = watch.next().await else { panic!("the watch has ended") };
        assert_eq!(change.revision, expected);
    }
    memory.0.set_capacity(256 << 20);
    let freed = Instant::now();
    while let Err(error) = db.transact(|tx| Ok::<_, ()>(tx.put(THINGS, b"again", vec![1]))).await {
        assert!(matches!(error, Error::Full { .. }) && freed.elapsed() < Duration::from_secs(20), "{error:?}");
        tokio::task::yield_now().await;
    }
    db.close().await.expect("closed");
    let db = memory.open();
    assert_eq!(db.read(|view| view.range(THINGS, b"", None, usize::MAX).len()), written as usize);
}
