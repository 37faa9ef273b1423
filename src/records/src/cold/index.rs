//! The sled database behind cold tables: rows by key, nothing that could not be made again.
//!
//! Called by the index's worker only, on its own thread. Invariants: no value in sled is larger than
//! 4 KiB, so that its blobs, which it does not sync, never come to be: longer ones are cut into pieces; segments of 8 MiB; it
//! flushes when told to and not by itself; what it says counts only with the stamp of this store and snapshot.
//!
//! ```text
//! key   = table:u16be escaped-key 00 01 piece:u32be        (a zero byte of the key is escaped as 00 FF)
//! value = revision:u64 length:u32 bytes   for piece 0, bytes for the others
//! ```

use std::path::Path;

use uuid::Uuid;

use super::delta::Row;
use crate::journal::format::Reader;
use crate::state::{Entry, Key};

const PIECE_BYTES: usize = 4000;
const STAMP: &[u8] = b"stamp";
const CACHE_BYTES: u64 = 32 << 20;
const SEGMENT_BYTES: usize = 8 << 20;

/// The index.
#[derive(Debug)]
pub(crate) struct Index {
    db: sled::Db,
    rows: sled::Tree,
}

/// Something in the index makes no sense, or sled has refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("the index failed")]
    Sled(#[from] sled::Error),
    #[error("a row of the index is not whole")]
    Torn,
}

fn prefix(table: u16, key: &[u8]) -> Vec<u8> {
    let mut bytes = table.to_be_bytes().to_vec();
    for byte in key {
        bytes.push(*byte);
        if *byte == 0 {
            bytes.push(0xff);
        }
    }
    bytes
}

fn piece_key(table: u16, key: &[u8], piece: u32) -> Vec<u8> {
    let mut bytes = prefix(table, key);
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&piece.to_be_bytes());
    bytes
}

/// The table, key and piece of an index key.
fn parse_key(bytes: &[u8]) -> Option<(u16, Vec<u8>, u32)> {
    let (table, rest) = bytes.split_first_chunk::<2>()?;
    let (body, piece) = rest.split_last_chunk::<4>()?;
    let body = body.strip_suffix(&[0, 1])?;
    let mut key = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 && bytes.next() != Some(&0xff) {
            return None;
        }
    }
    Some((u16::from_be_bytes(*table), key, u32::from_be_bytes(*piece)))
}

fn pieces(length: usize) -> u32 {
    length.div_ceil(PIECE_BYTES).max(1) as u32
}

fn stamp(store: Uuid, revision: u64) -> Vec<u8> {
    [&store.as_bytes()[..], &revision.to_le_bytes()].concat()
}

impl Index {
    /// Opens the index in a folder, or a temporary one.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self, IndexError> {
        let config = sled::Config::new().cache_capacity(CACHE_BYTES).segment_size(SEGMENT_BYTES).flush_every_ms(None);
        let config = match folder {
            Some(folder) => config.path(folder),
            None => config.temporary(true),
        };
        let db = config.open()?;
        let rows = db.open_tree("rows")?;
        Ok(Self { db, rows })
    }

    /// Whether it is the index of this store's snapshot.
    pub(crate) fn is_of(&self, store: Uuid, revision: u64) -> Result<bool, IndexError> {
        Ok(self.db.get(STAMP)?.is_some_and(|found| found == stamp(store, revision)))
    }

    /// Says of which snapshot it is.
    pub(crate) fn set_stamp(&self, store: Uuid, revision: u64) -> Result<(), IndexError> {
        self.db.insert(STAMP, stamp(store, revision))?;
        Ok(())
    }

    /// Hands everything to the disk. It counts only after an orderly stop, so this is all that is needed.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        self.db.flush()?;
        Ok(())
    }

    /// Takes over rows. `fresh`: none of them is there yet.
    pub(crate) fn apply<'a>(
        &self,
        rows: impl Iterator<Item = (u16, &'a [u8], &'a Row)>,
        fresh: bool,
    ) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (table, key, row) in rows {
            let before = if fresh { 0 } else { self.length(table, key)?.map_or(0, pieces) };
            let value = row.value.as_deref();
            let after = value.map_or(0, |value| pieces(value.len()));
            for (piece, bytes) in (0..).zip(
                value
                    .into_iter()
                    .flat_map(|value| value.chunks(PIECE_BYTES).chain(value.is_empty().then_some(&[][..]))),
            ) {
                let head =
                    [&row.revision.to_le_bytes()[..], &(value.map_or(0, <[u8]>::len) as u32).to_le_bytes()].concat();
                let stored = if piece == 0 { [&head, bytes].concat() } else { bytes.to_vec() };
                batch.insert(piece_key(table, key, piece), stored);
            }
            for piece in after..before {
                batch.remove(piece_key(table, key, piece));
            }
        }
        self.rows.apply_batch(batch)?;
        Ok(())
    }

    /// How long a row's value is.
    fn length(&self, table: u16, key: &[u8]) -> Result<Option<usize>, IndexError> {
        let Some(first) = self.rows.get(piece_key(table, key, 0))? else { return Ok(None) };
        let (_, length, _) = head(&first).ok_or(IndexError::Torn)?;
        Ok(Some(length))
    }

    pub(crate) fn get(&self, table: u16, key: &[u8]) -> Result<Option<Entry>, IndexError> {
        let Some(first) = self.rows.get(piece_key(table, key, 0))? else { return Ok(None) };
        self.assemble(table, key, &first).map(Some)
    }

    fn assemble(&self, table: u16, key: &[u8], first: &[u8]) -> Result<Entry, IndexError> {
        let (revision, length, bytes) = head(first).ok_or(IndexError::Torn)?;
        let mut value = bytes.to_vec();
        for piece in 1..pieces(length) {
            value.extend_from_slice(&self.rows.get(piece_key(table, key, piece))?.ok_or(IndexError::Torn)?);
        }
        if value.len() != length {
            return Err(IndexError::Torn);
        }
        Ok(Entry { value: value.into(), revision })
    }

    /// The rows of a table under a prefix and after a key, in order.
    pub(crate) fn range<'a>(
        &'a self,
        table: u16,
        under: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(Key, Entry), IndexError>> + use<'a> {
        let (start, under) = (prefix(table, under), prefix(table, under));
        let start =
            after.map(|after| piece_key(table, after, u32::MAX)).filter(|after| *after > start).unwrap_or(start);
        let found = self
            .rows
            .range(start..)
            .take_while(move |row| row.as_ref().is_ok_and(|(key, _)| key.starts_with(&under)) || row.is_err());
        found.filter_map(move |row| {
            let (key, first) = match row {
                Ok(row) => row,
                Err(error) => return Some(Err(error.into())),
            };
            match parse_key(&key) {
                None => Some(Err(IndexError::Torn)),
                Some((_, key, 0)) => Some(self.assemble(table, &key, &first).map(|entry| (key.into(), entry))),
                Some(_) => None,
            }
        })
    }
}

fn head(first: &[u8]) -> Option<(u64, usize, &[u8])> {
    let mut reader = Reader(first);
    Some((reader.u64()?, reader.u32()? as usize, reader.0))
}
