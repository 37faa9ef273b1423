//! Tables of Rust values: JSON under string keys.
//!
//! Used by `auth`, `pipelines` and `web`. Invariant: a row's encoding is its serde form; to read old rows, a type's new
//! fields have defaults, or a migration rewrites them.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::state::RawTable;
use crate::transaction::{Read, Transaction};

/// A table of `T`.
#[derive(Debug)]
pub struct Table<T> {
    raw: RawTable,
    rows: PhantomData<fn() -> T>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Table<T> {}

/// A stored row is not what its type says it is.
#[derive(Debug, thiserror::Error)]
#[error("row {key:?} of table {table} cannot be decoded")]
pub struct Decode {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

/// A value has no JSON form.
#[derive(Debug, thiserror::Error)]
#[error("row {key:?} of table {table} cannot be encoded")]
pub struct Encode {
    /// The table's name.
    pub table: &'static str,
    /// The row's key.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

/// A row could not be read or written: what a transaction over several tables fails with.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub enum RowError {
    /// It could not be read.
    Decode(#[from] Decode),
    /// It could not be written.
    Encode(#[from] Encode),
}

impl<T> Table<T> {
    /// A table in memory. `id` is on disk: never changed, never given to another table.
    pub const fn hot(id: u16, name: &'static str) -> Self {
        Self { raw: RawTable::hot(id, name), rows: PhantomData }
    }

    /// The table as bytes, for `watch` and the like.
    pub const fn raw(&self) -> RawTable {
        self.raw
    }

    /// Removes a row. Gives the revision of the removal, or `None` where there was none.
    pub fn delete(&self, transaction: &mut Transaction<'_>, key: &str) -> Option<u64> {
        transaction.delete(self.raw, key.as_bytes())
    }
}

impl<T: DeserializeOwned> Table<T> {
    /// The row of a key.
    pub fn get(&self, reader: &impl Read, key: &str) -> Result<Option<T>, Decode> {
        reader.get(self.raw, key.as_bytes()).map(|entry| self.decode(key.as_bytes(), &entry.value)).transpose()
    }

    /// Up to `limit` rows, in order of their keys, under `prefix` and after the key `after`.
    pub fn range(
        &self,
        reader: &impl Read,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, Decode> {
        let rows = reader.range(self.raw, prefix.as_bytes(), after.map(str::as_bytes), limit);
        rows.iter()
            .map(|(key, entry)| Ok((String::from_utf8_lossy(key).into_owned(), self.decode(key, &entry.value)?)))
            .collect()
    }

    /// A row from its bytes, for instance those of a [`crate::Change`].
    pub fn decode(&self, key: &[u8], value: &[u8]) -> Result<T, Decode> {
        serde_json::from_slice(value).map_err(|source| {
            let key = String::from_utf8_lossy(key).into_owned();
            Decode { table: self.raw.name, key, source }
        })
    }
}

impl<T: Serialize> Table<T> {
    /// Sets a row. Gives the revision that the write will have.
    pub fn put(&self, transaction: &mut Transaction<'_>, key: &str, row: &T) -> Result<u64, Encode> {
        let value =
            serde_json::to_vec(row).map_err(|source| Encode { table: self.raw.name, key: key.to_owned(), source })?;
        Ok(transaction.put(self.raw, key.as_bytes(), value))
    }
}
