//! Finished runs leave memory: their request, tasks and loop items move, packed, to a cold table; summaries stay.
//!
//! Called by `controller::archive` when a run is over, by operations when one is retried, and by every reader of whole runs.
//! A run is packed into chunks so that one of any size fits the journal. Invariant: a run with a row in `ARCHIVED` is read
//! from the cold table and from nowhere else, one without from the hot tables; the row is written and removed in the one
//! transaction that makes the other side whole, so a crash in between leaves what can be done over.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use records::{Entry, RawTable};

use super::runs::RunParts;
use super::tables::{self, ACTIVE, ARCHIVE, ARCHIVED, Archived, ITEMS, REQUESTS, RUNS, TASKS};
use super::{Error, Store};
use crate::types::run::Summary;

/// Rows of one chunk, before they are packed: well below what one transaction of the journal holds.
const CHUNK_BYTES: usize = 2 << 20;
/// A chunk that is larger when packed does not fit the journal: its run stays in memory.
const PACKED_BYTES_MAX: usize = 6 << 20;
/// A run that moves while it is read is looked for again.
const READ_TRIES: usize = 4;

/// A row on its way between the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    table: u16,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A row of a hot table: the table's number, its key and what it holds.
type HotRow = (u16, Arc<[u8]>, Entry);

/// Where a run was found.
enum Found {
    Hot(Box<RunParts>),
    Cold { summary: Box<Summary>, archived: Archived, revision: u64 },
}

impl Store {
    /// Everything stored of a run, wherever it is.
    ///
    /// # Errors
    /// When there is no such run, a row cannot be read, or finished runs cannot be read now.
    pub async fn run(&self, id: &str) -> Result<RunParts, Error> {
        for _ in 0..READ_TRIES {
            let (summary, archived, revision) = match self.find(id)? {
                Found::Hot(parts) => return Ok(*parts),
                Found::Cold { summary, archived, revision } => (summary, archived, revision),
            };
            let Some(rows) = self.archived(id, &archived).await? else { continue };
            let mut request = None;
            let mut tasks = Vec::new();
            for row in &rows {
                if row.table == REQUESTS.raw().id {
                    request = Some(REQUESTS.decode(&row.key, &row.value)?);
                } else if row.table == TASKS.raw().id {
                    tasks.push(TASKS.decode(&row.key, &row.value)?);
                }
            }
            let request = request.ok_or_else(|| Error::Damaged(id.to_owned()))?;
            return Ok(RunParts { summary: *summary, request, tasks, revision });
        }
        Err(Error::Stale(id.to_owned()))
    }

    fn find(&self, id: &str) -> Result<Found, Error> {
        self.db.read(|view| {
            let missing = || Error::NotFound { kind: "Run", id: id.to_owned() };
            let summary = RUNS.get(view, id)?.ok_or_else(missing)?;
            let revision = view.revision();
            if let Some(archived) = ARCHIVED.get(view, id)? {
                return Ok(Found::Cold { summary: Box::new(summary), archived, revision });
            }
            let request = REQUESTS.get(view, id)?.ok_or_else(missing)?;
            let tasks = super::runs::tasks_of(view, id)?;
            Ok(Found::Hot(Box::new(RunParts { summary, request, tasks, revision })))
        })
    }

    /// The rows of an archived run; `None` when it has moved away.
    async fn archived(&self, id: &str, archived: &Archived) -> Result<Option<Vec<Row>>, Error> {
        let cold = self.db.cold();
        let mut packed = Vec::new();
        for chunk in 0..archived.chunks {
            let Some(entry) = cold.get(ARCHIVE, tables::chunk_key(id, chunk).as_bytes()).await? else {
                return Ok(None);
            };
            packed.push(entry.value);
        }
        let unpack = move || {
            let rows: Option<Vec<Vec<Row>>> = packed.iter().map(|chunk| unpack(chunk)).collect();
            rows.map(|rows| rows.into_iter().flatten().collect::<Vec<Row>>())
        };
        let rows = foundation::tasks::blocking("unpack a run", unpack).await;
        let rows = rows.map_err(|lost| Error::Unavailable(Box::new(lost)))?;
        Ok(Some(rows.ok_or_else(|| Error::Damaged(id.to_owned()))?))
    }

    /// The ids of finished runs whose rows are in memory.
    pub fn unarchived(&self) -> Vec<String> {
        let rows = self.db.read(|view| view.range(REQUESTS.raw(), b"", None, usize::MAX));
        let ids = rows.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned());
        ids.filter(|id| self.library().run(id).is_none_or(|run| run.state.is_final())).collect()
    }

    /// Moves a finished run out of memory. False when it is not finished, is there already, or was changed meanwhile.
    ///
    /// # Errors
    /// When a row cannot be read or the store refuses.
    pub async fn archive(&self, id: &str) -> Result<bool, Error> {
        let Some((rows, seen)) = self.movable(id)? else { return Ok(false) };
        let packed = foundation::tasks::blocking("pack a run", move || pack(&rows)).await;
        let packed = packed.map_err(|lost| Error::Unavailable(Box::new(lost)))?;
        let Some(packed) = packed.filter(|chunks| chunks.iter().all(|chunk| chunk.len() <= PACKED_BYTES_MAX)) else {
            return Ok(false);
        };
        let chunks = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        let (id, mut packed) = (id.to_owned(), packed);
        let Some(last) = packed.pop() else { return Ok(false) };
        for (number, chunk) in (0..).zip(packed) {
            let key = tables::chunk_key(&id, number);
            self.write(move |tx| Ok(tx.put_cold(ARCHIVE, key.as_bytes(), chunk))).await?;
        }
        self.write(move |tx| {
            let now = tx.get(RUNS.raw(), id.as_bytes()).map(|entry| entry.revision);
            if now != Some(seen) || ACTIVE.get(tx, &id)?.is_some() || ARCHIVED.get(tx, &id)?.is_some() {
                return Ok(false);
            }
            tx.put_cold(ARCHIVE, tables::chunk_key(&id, chunks.saturating_sub(1)).as_bytes(), last);
            ARCHIVED.put(tx, &id, &Archived { chunks })?;
            delete_hot(tx, &id);
            Ok(true)
        })
        .await
    }

    /// The rows of a finished run, and the revision of its summary.
    fn movable(&self, id: &str) -> Result<Option<(Vec<HotRow>, u64)>, Error> {
        self.db.read(|view| {
            let Some(summary) = RUNS.get(view, id)? else { return Ok(None) };
            let archived = ARCHIVED.get(view, id)?.is_some() || ACTIVE.get(view, id)?.is_some();
            let Some(seen) = view.get(RUNS.raw(), id.as_bytes()).filter(|_| !archived && summary.state.is_final())
            else {
                return Ok(None);
            };
            let mut rows = Vec::new();
            rows.extend(
                view.get(REQUESTS.raw(), id.as_bytes()).map(|entry| (REQUESTS.raw().id, id.as_bytes().into(), entry)),
            );
            for table in [TASKS.raw(), ITEMS.raw()] {
                let prefix = tables::task_key(id, "");
                let found = view.range(table, prefix.as_bytes(), None, usize::MAX);
                rows.extend(found.into_iter().map(|(key, entry)| (table.id, key, entry)));
            }
            Ok(Some((rows, seen.revision)))
        })
    }

    /// Moves an archived run back, so that it can go on; nothing happens to one that is in memory.
    ///
    /// # Errors
    /// When finished runs cannot be read now, or the store refuses.
    pub async fn unarchive(&self, id: &str) -> Result<(), Error> {
        let Some(archived) = self.db.read(|view| ARCHIVED.get(view, id))? else { return Ok(()) };
        let Some(rows) = self.archived(id, &archived).await? else { return Ok(()) };
        for part in parts(rows) {
            let (id, still) = (id.to_owned(), archived.clone());
            let written = self.write(move |tx| {
                if ARCHIVED.get(tx, &id)?.as_ref() != Some(&still) {
                    return Ok(false);
                }
                for row in part {
                    if let Some(table) = hot_table(row.table) {
                        tx.put(table, &row.key, row.value);
                    }
                }
                Ok(true)
            });
            if !written.await? {
                return Ok(());
            }
        }
        let id = id.to_owned();
        self.write(move |tx| {
            if ARCHIVED.get(tx, &id)?.as_ref() == Some(&archived) {
                forget(tx, &id)?;
            }
            Ok(())
        })
        .await
    }
}

/// Removes the archive of a run.
pub(super) fn forget(tx: &mut records::Transaction<'_>, id: &str) -> Result<(), Error> {
    if let Some(archived) = ARCHIVED.get(tx, id)? {
        for chunk in 0..archived.chunks {
            tx.delete_cold(ARCHIVE, tables::chunk_key(id, chunk).as_bytes());
        }
        ARCHIVED.delete(tx, id);
    }
    Ok(())
}

/// Removes what of a run is in memory, but for its summary.
pub(super) fn delete_hot(tx: &mut records::Transaction<'_>, id: &str) {
    REQUESTS.delete(tx, id);
    let prefix = tables::task_key(id, "");
    for table in [TASKS.raw(), ITEMS.raw()] {
        for (row, _) in tx.range(table, prefix.as_bytes(), None, usize::MAX) {
            tx.delete(table, &row);
        }
    }
}

fn hot_table(id: u16) -> Option<RawTable> {
    [REQUESTS.raw(), TASKS.raw(), ITEMS.raw()].into_iter().find(|table| table.id == id)
}

/// Rows in groups that one transaction takes.
fn parts(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut parts: Vec<Vec<Row>> = vec![Vec::new()];
    let mut bytes = 0;
    for row in rows {
        bytes += row.value.len();
        if bytes > CHUNK_BYTES {
            parts.push(Vec::new());
            bytes = row.value.len();
        }
        if let Some(last) = parts.last_mut() {
            last.push(row);
        }
    }
    parts
}

/// Chunks of packed rows; `None` when they cannot be packed. A row is `table:u16 key:u32+bytes value:u32+bytes`, little
/// endian, and a chunk is deflated: rows of one run are alike, so they shrink to a fraction.
fn pack(rows: &[HotRow]) -> Option<Vec<Vec<u8>>> {
    let mut chunks = Vec::new();
    let mut plain = Vec::new();
    for (table, key, entry) in rows {
        if !plain.is_empty() && plain.len() + entry.value.len() > CHUNK_BYTES {
            chunks.push(deflate(&plain)?);
            plain.clear();
        }
        plain.extend_from_slice(&table.to_le_bytes());
        for bytes in [&**key, &*entry.value] {
            plain.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
            plain.extend_from_slice(bytes);
        }
    }
    chunks.push(deflate(&plain)?);
    Some(chunks)
}

fn deflate(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

fn unpack(chunk: &[u8]) -> Option<Vec<Row>> {
    let mut plain = Vec::new();
    DeflateDecoder::new(chunk).read_to_end(&mut plain).ok()?;
    let mut rest = plain.as_slice();
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (table, after) = rest.split_first_chunk::<2>()?;
        let (key, after) = counted(after)?;
        let (value, after) = counted(after)?;
        rows.push(Row { table: u16::from_le_bytes(*table), key: key.to_vec(), value: value.to_vec() });
        rest = after;
    }
    Some(rows)
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)
}

#[cfg(test)]
mod tests;
