//! The durable store: typed tables, transactions and one change feed.
//!
//! Used by `auth`, `apiserver`, `pipelines` and `web`; wired up in `kubeflow`. `ARCHITECTURE.md` has the picture,
//! `shared/reference/foundations.md` 2 the measurements that it follows from.
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
//! [`committer`] is the one thread that owns the state. It takes all waiting transactions, runs them one after the other,
//! writes them as one batch to the [`journal`] and syncs once for all of them; then state, history, watchers and callers
//! learn of it. Tables live in memory, each value once. Everything goes through the [`disk`] trait, so that tests can cut
//! the power at any operation.

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
