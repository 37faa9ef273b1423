//! What callers see of the store: a [`View`] of the durable state, a [`Transaction`] that also writes, and a [`Past`]
//! state. [`Read`] is what the three have in common.
//!
//! Invariant: a view and a past hold only what is on disk; a transaction sees, besides, the transactions of its own batch
//! that ran before it, and is answered only when theirs and its own writes are on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::feed::{Change, Gone, Shared};
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::state::{self, COLD, ColdTable, Entry, Key, Patch, RawTable, State};

/// Reading, the same on a [`View`], in a [`Transaction`] and on a [`Past`].
pub trait Read {
    /// The entry of a key.
    fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry>;
    /// Up to `limit` entries, in byte order, whose key starts with `prefix` and is greater than `after` (a whole key).
    fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)>;
    /// The revision of the last write that this reader can see.
    fn revision(&self) -> u64;
}

/// The durable state at one revision. It keeps the committer from showing a newer one, so take what you need and leave.
#[derive(Debug)]
pub struct View<'a> {
    pub(crate) state: &'a State,
}

impl Read for View<'_> {
    fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry> {
        self.state.get(table.id, key).cloned()
    }

    fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        let rows = self.state.rows(table.id, prefix, after).take(limit);
        rows.map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    fn revision(&self) -> u64 {
        self.state.revision
    }
}

/// Writes that are not durable yet, over a [`State`].
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    tables: BTreeMap<u16, Patch>,
    /// The revision of the last write in it, or that of the state below.
    pub(crate) revision: u64,
}

impl Overlay {
    pub(crate) fn over(state: &State) -> Self {
        Self { tables: BTreeMap::new(), revision: state.revision }
    }

    /// `None`: this overlay says nothing about the key.
    fn get(&self, table: u16, key: &[u8]) -> Option<&Option<Entry>> {
        self.tables.get(&table)?.get(key)
    }

    fn set(&mut self, table: u16, key: Key, entry: Option<Entry>, revision: u64) {
        self.tables.entry(table).or_default().insert(key, entry);
        self.revision = revision;
    }

    /// Takes over the changes of a transaction that ran on top of this.
    pub(crate) fn absorb(&mut self, changes: &[Change]) {
        for change in changes {
            self.set(change.table, change.key.clone(), change.new.clone(), change.revision);
        }
    }
}

/// One caller's turn: reads, and writes that become durable together or not at all.
///
/// Every `put` and every `delete` of a key that exists takes the next revision.
#[derive(Debug)]
pub struct Transaction<'a> {
    state: &'a State,
    batch: &'a Overlay,
    own: Overlay,
    changes: Vec<Change>,
    time: Timestamp,
    oversize: Option<u64>,
}

/// What a transaction leaves behind.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) changes: Vec<Change>,
    /// The size of a key or value that is above its limit.
    pub(crate) oversize: Option<u64>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(state: &'a State, batch: &'a Overlay, time: Timestamp) -> Self {
        let own = Overlay { tables: BTreeMap::new(), revision: batch.revision };
        Self { state, batch, own, changes: Vec::new(), time, oversize: None }
    }

    pub(crate) fn finish(self) -> Written {
        Written { changes: self.changes, oversize: self.oversize }
    }

    /// The time that this transaction's changes will carry.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The entry of a key, own writes included.
    pub fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry> {
        self.lookup(table.id, key).cloned()
    }

    /// Up to `limit` entries under `prefix` after the key `after`, own writes included.
    pub fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        let patches = [self.batch, &self.own].into_iter().filter_map(|overlay| overlay.tables.get(&table.id));
        let patch: BTreeMap<_, _> = patches.flat_map(|patch| state::patch_range(patch, prefix, after)).collect();
        state::merge(self.state.rows(table.id, prefix, after), patch, limit)
    }

    /// The revision of the last write this transaction can see, its own included.
    pub fn revision(&self) -> u64 {
        self.own.revision
    }

    /// Sets a key. Gives the revision that the write will have if this transaction succeeds.
    /// A key above 4 KiB or a value above 256 MiB makes the whole transaction fail with `TooLarge`.
    pub fn put(&mut self, table: RawTable, key: &[u8], value: Vec<u8>) -> u64 {
        if key.len() > KEY_BYTES_MAX {
            self.oversize = Some(key.len() as u64);
        }
        if value.len() > VALUE_BYTES_MAX {
            self.oversize = Some(value.len() as u64);
        }
        self.change(table.id, key, Some(value.into()))
    }

    /// Removes a key. Gives the revision of the removal, or `None` where there was no such key and so nothing is written.
    pub fn delete(&mut self, table: RawTable, key: &[u8]) -> Option<u64> {
        self.lookup(table.id, key)?;
        Some(self.change(table.id, key, None))
    }

    /// Sets a key of a cold table; becomes durable together with everything else in this transaction. Cold tables cannot be
    /// read in a transaction, and nobody watches them. Gives the revision that the write will have.
    pub fn put_cold(&mut self, table: ColdTable, key: &[u8], value: Vec<u8>) -> u64 {
        if key.len() > KEY_BYTES_MAX {
            self.oversize = Some(key.len() as u64);
        }
        self.change(table.stored_id(), key, Some(value.into()))
    }

    /// Removes a key of a cold table, whether it is there or not. Gives the revision of the removal.
    pub fn delete_cold(&mut self, table: ColdTable, key: &[u8]) -> u64 {
        self.change(table.stored_id(), key, None)
    }

    fn lookup(&self, table: u16, key: &[u8]) -> Option<&Entry> {
        match self.own.get(table, key).or_else(|| self.batch.get(table, key)) {
            Some(patched) => patched.as_ref(),
            None => self.state.get(table, key),
        }
    }

    fn change(&mut self, table: u16, key: &[u8], value: Option<Arc<[u8]>>) -> u64 {
        // What a cold table had is not looked at: the overlay may know it, the index is not asked.
        let old = if table & COLD == 0 { self.lookup(table, key).cloned() } else { None };
        let revision = self.own.revision + 1;
        let key: Key = key.into();
        let new = value.map(|value| Entry { value, revision });
        self.own.set(table, key.clone(), new.clone(), revision);
        self.changes.push(Change { table, key, revision, time: self.time, old, new });
        revision
    }
}

impl Read for Transaction<'_> {
    fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry> {
        Transaction::get(self, table, key)
    }

    fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        Transaction::range(self, table, prefix, after, limit)
    }

    fn revision(&self) -> u64 {
        Transaction::revision(self)
    }
}

/// The state as it was at an older revision. While it is held the history it needs is kept, so do not hold it for long.
#[derive(Debug)]
pub struct Past {
    shared: Arc<Shared>,
    revision: u64,
}

impl Past {
    pub(crate) fn at(shared: &Arc<Shared>, revision: u64) -> Result<Self, Gone> {
        let stored = shared.stored.read();
        stored.history.check(revision, stored.state.revision)?;
        shared.pins.lock().add(revision);
        Ok(Self { shared: shared.clone(), revision })
    }

    /// The entry that a key had.
    pub fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry> {
        let stored = self.shared.stored.read();
        let later = stored.history.after(self.revision).find(|change| change.table == table.id && *change.key == *key);
        later.map_or_else(|| stored.state.get(table.id, key).cloned(), |change| change.old.clone())
    }

    /// Up to `limit` entries that were under `prefix` after the key `after`.
    pub fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        let stored = self.shared.stored.read();
        let mut patch = BTreeMap::new();
        let wanted = |key: &[u8]| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        for change in
            stored.history.after(self.revision).filter(|change| change.table == table.id && wanted(&change.key))
        {
            patch.entry(&change.key).or_insert(change.old.as_ref());
        }
        state::merge(stored.state.rows(table.id, prefix, after), patch, limit)
    }

    /// The revision it shows.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl Read for Past {
    fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry> {
        Past::get(self, table, key)
    }

    fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        Past::range(self, table, prefix, after, limit)
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Drop for Past {
    fn drop(&mut self) {
        self.shared.pins.lock().remove(self.revision);
    }
}

impl View<'_> {
    /// The entry of a key.
    pub fn get(&self, table: RawTable, key: &[u8]) -> Option<Entry> {
        Read::get(self, table, key)
    }

    /// Up to `limit` entries under `prefix` after the key `after`.
    pub fn range(&self, table: RawTable, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        Read::range(self, table, prefix, after, limit)
    }

    /// The revision of the state it shows.
    pub fn revision(&self) -> u64 {
        self.state.revision
    }
}
