//! The durable store: typed tables, transactions and one change feed.
//!
//! Used by `auth`, `apiserver`, `pipelines` and `web`; opened and closed in `kubeflow`. `e2e/durability` proves and measures
//! it on real disks.
//!
//! # Guarantees
//! - **Acknowledged means it survives a power cut.** [`Db::transact`] returns `Ok` only after its writes, and everything
//!   it has seen of other writers, are on disk.
//! - **Nobody sees a write before it is durable**, so no revision that was once seen is ever taken back.
//! - **Transactions are serial**: each runs alone against the state that all earlier ones left; all of it or none.
//! - **One revision counter** for the whole store grows by one with every put and delete, also across restarts.
//! - **Watchers miss nothing**: every change after the revision they start from, in order, each once, with the old and the
//!   new value; or they are told that they were cut off, or that the revision is gone.
//! - **A full disk** refuses puts, stays readable, and takes writes again by itself. **Damage** is refused by name.
//!
//! # How
//! `committer` is the one thread that owns the state. It takes all waiting transactions, runs them one after the other,
//! writes them as one batch to the `journal` and syncs once for all of them; then state, history, watchers and callers
//! learn of it. Hot tables live in memory, each value once; values above 64 KiB are written to files of their own
//! (`blobs`). A `checkpoint` writes a snapshot without stopping anybody and lets the journal be trimmed; `recovery` reads
//! the newest one and the journal behind it. Everything goes through the [`disk`] trait, so that tests can cut the power at
//! any operation (`simulation`).
//!
//! Cold tables (`cold`) have the same truth, in snapshots of their own, and an index in sled that is thrown away whenever
//! it was not closed in order. sled holds no truth because it loses acknowledged writes in a power cut: its flush ends
//! in `sync_file_range`, its blobs are never synced, and it opens without complaint on what is left.
//!
//! # Limits
//! One process at a time (the folder is locked). Keys up to 4 KiB, values up to 256 MiB, half a journal segment (8 MiB) for
//! all values of one transaction that are not blobs. After an unclean stop a damaged *last* batch cannot be told from a torn
//! one; after an orderly stop it is noticed.

pub mod contract;
pub mod disk;
pub mod page;

mod blobs;
mod checkpoint;
mod clean;
mod cold;
mod committer;
mod db;
mod error;
mod feed;
mod journal;
mod limits;
mod migrations;
mod recovery;
#[cfg(test)]
mod simulation;
mod snapshot;
mod state;
mod table;
mod transaction;

pub use cold::{Cold, Unavailable};
pub use db::{Committed, Db, Options};
pub use error::{CloseError, Error, OpenError};
pub use feed::{Change, Event, Gone, Watch};
pub use state::{ColdTable, Entry, RawTable};
pub use table::{Decode, Encode, RowError, Table};
pub use transaction::{Past, Read, Transaction, View};
