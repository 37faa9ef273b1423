//! The state of the hot tables: what was durably written, in memory, each value once, as bytes.
//!
//! Called by the committer (the only writer), by views and by snapshots. Invariant: holds nothing that is not on disk.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A key, shared between state, history and watchers.
pub(crate) type Key = Arc<[u8]>;

/// One table: keys in byte order.
pub(crate) type Rows = BTreeMap<Key, Entry>;

/// Not yet durable changes of one table: the new entry, or `None` for a deleted key.
pub(crate) type Patch = BTreeMap<Key, Option<Entry>>;

/// A stored value and the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes, shared, never copied.
    pub value: Arc<[u8]>,
    /// The revision at which this value was put.
    pub revision: u64,
}

/// Names a table that lives in memory. Its number is on disk, so it never changes and is never given to another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawTable {
    /// The number under which the table is stored.
    pub id: u16,
    /// For messages.
    pub name: &'static str,
}

impl RawTable {
    /// A table that lives in memory: reads never wait, and it is there as soon as the store is open.
    pub const fn hot(id: u16, name: &'static str) -> Self {
        assert!(id & COLD == 0, "table numbers end at 32767");
        Self { id, name }
    }

    /// A table that lives on disk, for what is many and seldom read: it costs no memory, is read through
    /// [`crate::Cold`], and may be unavailable for a while after an unclean stop.
    pub const fn cold(id: u16, name: &'static str) -> ColdTable {
        assert!(id & COLD == 0, "table numbers end at 32767");
        ColdTable { id, name }
    }
}

/// Set in the number under which journal and snapshots hold a cold table.
pub(crate) const COLD: u16 = 1 << 15;

/// Names a table that lives on disk, behind a disposable index. See [`RawTable::cold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdTable {
    /// The number under which the table is stored.
    pub id: u16,
    /// For messages.
    pub name: &'static str,
}

impl ColdTable {
    pub(crate) fn stored_id(self) -> u16 {
        self.id | COLD
    }
}

/// All hot tables at one revision.
#[derive(Debug, Default)]
pub(crate) struct State {
    tables: BTreeMap<u16, Rows>,
    /// Of the last write in it.
    pub(crate) revision: u64,
    /// Of the journal record that comes next.
    pub(crate) next_sequence: u64,
}

impl State {
    /// The state of a new store.
    pub(crate) fn empty() -> Self {
        Self { next_sequence: 1, ..Self::default() }
    }

    pub(crate) fn get(&self, table: u16, key: &[u8]) -> Option<&Entry> {
        self.tables.get(&table)?.get(key)
    }

    /// Sets or removes one key; gives back what was there.
    pub(crate) fn set(&mut self, table: u16, key: Key, entry: Option<Entry>) -> Option<Entry> {
        let rows = self.tables.entry(table).or_default();
        match entry {
            Some(entry) => rows.insert(key, entry),
            None => rows.remove(&key),
        }
    }

    /// The rows of `table` whose key starts with `prefix` and is greater than `after`, in order.
    pub(crate) fn rows<'a>(
        &'a self,
        table: u16,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
    ) -> impl Iterator<Item = (&'a Key, &'a Entry)> + 'a {
        let bounds = (start(prefix, after), Bound::Unbounded);
        self.tables
            .get(&table)
            .into_iter()
            .flat_map(move |rows| rows.range::<[u8], _>(bounds))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Up to `limit` rows that follow (`table`, `after`) in the order (table, key), over all tables.
    pub(crate) fn chunk(&self, at: Option<(u16, &[u8])>, limit: usize) -> Vec<(u16, Key, Entry)> {
        let (table, after) = at.map_or((0, None), |(table, key)| (table, Some(key)));
        let first = self
            .tables
            .get(&table)
            .into_iter()
            .flat_map(move |rows| rows.range::<[u8], _>((start(&[], after), Bound::Unbounded)));
        let first = first.map(move |(key, entry)| (table, key.clone(), entry.clone()));
        let later = self.tables.range((Bound::Excluded(table), Bound::Unbounded));
        let later = later.flat_map(|(id, rows)| rows.iter().map(move |(key, entry)| (*id, key.clone(), entry.clone())));
        first.chain(later).take(limit).collect()
    }
}

/// The first key to look at for a prefix and a key already seen.
fn start<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

/// Merges `rows` (in order) with `patches` of which a later one wins, and takes `limit` of what remains.
/// Every key of the patches must lie in the range that `rows` covers.
pub(crate) fn merge<'a>(
    rows: impl Iterator<Item = (&'a Key, &'a Entry)>,
    patch: BTreeMap<&'a Key, Option<&'a Entry>>,
    limit: usize,
) -> Vec<(Key, Entry)> {
    let mut rows = rows.peekable();
    let mut patch = patch.into_iter().peekable();
    let mut found = Vec::new();
    while found.len() < limit {
        let from_patch = match (rows.peek(), patch.peek()) {
            (None, None) => break,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some((row, _)), Some((patched, _))) => {
                if row == patched {
                    rows.next();
                    continue;
                }
                patched < row
            }
        };
        let next = if from_patch { patch.next() } else { rows.next().map(|(key, entry)| (key, Some(entry))) };
        if let Some((key, Some(entry))) = next {
            found.push((key.clone(), entry.clone()));
        }
    }
    found
}

/// The part of a patch that a range reads.
pub(crate) fn patch_range<'a>(
    patch: &'a Patch,
    prefix: &'a [u8],
    after: Option<&'a [u8]>,
) -> impl Iterator<Item = (&'a Key, Option<&'a Entry>)> {
    patch
        .range::<[u8], _>((start(prefix, after), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
        .map(|(key, entry)| (key, entry.as_ref()))
}
