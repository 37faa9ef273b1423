//! Writes to cold tables that the index does not have yet, newest for each key, in memory.
//!
//! The committer adds to it (under the lock of the state), readers look here first, a checkpoint writes it into the next
//! cold snapshot, and the index's worker takes out what it has taken over. Pure. Invariant: cold snapshot + delta is every
//! durable write to a cold table; index + delta is the same once the index is ready.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::Key;

/// What a row costs besides key and value.
const ROW_BYTES: u64 = 96;

/// The last write to a key: `None` for a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) revision: u64,
    pub(crate) value: Option<Arc<[u8]>>,
}

/// The rows of all tables, in the order (table, key).
pub(crate) type Rows = BTreeMap<(u16, Key), Row>;

/// The writes.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    rows: Rows,
    bytes: u64,
    /// The last sequence that may have written to a cold table; 0 for none yet.
    last_sequence: u64,
}

fn cost(key: &Key, row: &Row) -> u64 {
    ROW_BYTES + key.len() as u64 + row.value.as_ref().map_or(0, |value| value.len() as u64)
}

impl Delta {
    pub(crate) fn set(&mut self, table: u16, key: Key, row: Row, sequence: u64) {
        self.last_sequence = sequence;
        self.bytes += cost(&key, &row);
        let bytes = self.rows.insert((table, key.clone()), row).map_or(0, |old| cost(&key, &old));
        self.bytes -= bytes;
    }

    pub(crate) fn get(&self, table: u16, key: &[u8]) -> Option<&Row> {
        self.rows.get(&(table, key.into()))
    }

    /// The rows of one table from a key on.
    pub(crate) fn from<'a>(&'a self, table: u16, key: &[u8]) -> impl Iterator<Item = (&'a Key, &'a Row)> + use<'a> {
        let rows = self.rows.range((table, Key::from(key))..);
        rows.take_while(move |((of, _), _)| *of == table).map(|((_, key), row)| (key, row))
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Forgets rows that are elsewhere now, unless they have been written again.
    pub(crate) fn settle<'a>(&mut self, settled: impl Iterator<Item = (&'a (u16, Key), &'a Row)>) {
        for (at, row) in settled {
            if self.rows.get(at).is_some_and(|own| own.revision == row.revision) {
                self.bytes -= self.rows.remove(at).map_or(0, |own| cost(&at.1, &own));
            }
        }
    }
}
