//! The store from outside: the contract on a real folder and on a disk in memory, and what only one of them can show.

use std::path::PathBuf;
use std::sync::Arc;

use records::contract::{self, Backend};
use records::disk::faulty::FaultyDisk;
use records::{Db, Options};

mod cold;
mod full;
mod limits;

/// A folder of the machine's own disk.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Backend for Folder {
    fn open(&self) -> Db {
        let mut options = Options::at(self.0.path());
        // So that checkpoints come often and cold tables reach their index.
        options.checkpoint_bytes = 256 << 10;
        Db::open(options).expect("the store opens")
    }
}

/// A disk in memory.
struct Memory(FaultyDisk);

impl Memory {
    fn new() -> Self {
        Self(FaultyDisk::new(1, 512 << 20))
    }

    fn options(&self) -> Options {
        let mut options = Options::at(PathBuf::from("/store"));
        options.disk = Arc::new(self.0.clone());
        options.index = None;
        options.segment_bytes = 256 << 10;
        options.free_bytes_min = 1 << 20;
        options.checkpoint_bytes = 256 << 10;
        options
    }
}

impl Backend for Memory {
    fn open(&self) -> Db {
        Db::open(self.options()).expect("the store opens")
    }
}

/// Every check of the contract, on every backend.
macro_rules! contract {
    ($($check:ident)*) => {
        mod on_a_real_folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                super::contract::$check(&super::Folder::new()).await;
            })*
        }
        mod on_a_disk_in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $check() {
                super::contract::$check(&super::Memory::new()).await;
            })*
        }
    };
}

contract! {
    what_was_committed_is_there_after_a_restart_with_its_revisions
    a_refused_or_panicking_transaction_writes_nothing
    a_transaction_reads_its_own_writes_in_order
    a_watch_has_everything_after_its_revision_once_and_in_order_also_across_a_restart
    an_older_revision_can_be_read_inside_the_window_and_is_gone_outside
    typed_rows_come_back_as_they_were_put
    many_writers_share_batches_and_lose_nothing
    large_values_come_back_whole
    a_closed_store_says_so
    a_slow_watcher_is_cut_off_and_told
    progress_follows_what_others_write
    cold_tables_hold_what_was_moved_there
}
