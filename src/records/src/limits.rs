//! Every limit of the store, each with its reason.

use std::time::Duration;

/// Batches start on boundaries of this size and are written in whole multiples of it: a page of the cache, so no write
/// ever reads first, and the largest unit that a drive may be assumed to write in one piece.
pub(crate) const BLOCK: usize = 4096;
/// Keys are names; a longer one is a mistake of the caller.
pub(crate) const KEY_BYTES_MAX: usize = 4096;
/// Kubernetes objects end near 1.5 MiB; this only keeps a mistake from filling the memory.
pub(crate) const VALUE_BYTES_MAX: usize = 256 << 20;
/// Larger values go to a file of their own, so that they are written once and not again with every journal and snapshot.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;
/// Size of a journal segment: zero-filling one takes 0.3 to 0.5 s on a busy disk, in the background.
pub(crate) const SEGMENT_BYTES: u64 = 16 << 20;
/// Size of the very first segment of a store, which the first start has to wait for.
pub(crate) const FIRST_SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that stand ready, so that a commit allocates nothing and a full disk still takes deletes.
pub(crate) const SPARES: usize = 2;
/// Below this much free space writes are refused.
pub(crate) const FREE_BYTES_MIN: u64 = 64 << 20;
/// How often the free space is looked at, and a full disk probed.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Transactions that wait for the committer; beyond it callers wait to be let in.
pub(crate) const QUEUE: usize = 1024;
/// Transactions in one batch: bounds how long the first of them waits.
pub(crate) const BATCH_TRANSACTIONS_MAX: usize = 1024;
/// Changes that a watcher may be behind before it is cut off.
pub(crate) const WATCH_QUEUE: usize = 4096;
/// How long superseded values are kept (kube-apiserver: `--etcd-compaction-interval`, 5 min).
pub(crate) const HISTORY: Duration = Duration::from_secs(300);
/// How many bytes of superseded values are kept at most.
pub(crate) const HISTORY_BYTES: u64 = 64 << 20;
/// A snapshot is due when the journal has grown by this much, or by the size of the last one if that is more.
pub(crate) const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Below this much journal `close` writes no snapshot: reading it again is as quick.
pub(crate) const CLOSE_CHECKPOINT_BYTES: u64 = 1 << 20;
/// How long the committer waits, after a batch of several, for its writers to come back: never longer than half of what the
/// batch took, so that gathering costs less than the sync it saves.
pub(crate) const GATHER_MAX: Duration = Duration::from_micros(200);
