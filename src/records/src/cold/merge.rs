//! A new cold snapshot from the one before and the delta, both sorted: read from front to back, written from front to back.
//!
//! Called by checkpoints. Invariant: the index is not asked; what it holds comes from here, never the other way round.

use std::io;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::delta::{Row, Rows};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::snapshot::{self, Header, Temperature, Value, Writer};
use crate::state::{Entry, Key};

/// Rows are handed to the writer in chunks of about this size.
const CHUNK_BYTES: usize = 256 << 10;

/// Collects rows into chunks.
struct Chunks {
    writer: Writer,
    rows: Vec<(u16, Key, Entry)>,
    bytes: usize,
}

impl Chunks {
    fn add(&mut self, table: u16, key: Key, revision: u64, value: Arc<[u8]>) -> io::Result<()> {
        self.bytes += key.len() + value.len();
        self.rows.push((table, key, Entry { value, revision }));
        if self.bytes >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn add_row(&mut self, (table, key): &(u16, Key), row: &Row) -> io::Result<()> {
        match &row.value {
            Some(value) => self.add(*table, key.clone(), row.revision, value.clone()),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.chunk(&self.rows)?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Writes the snapshot. `before` is the revision of the one before, 0 for none. Gives its size.
pub(crate) fn write(
    disk: &dyn Disk,
    folder: &Path,
    store: Uuid,
    before: u64,
    header: &Header,
    delta: &Rows,
) -> Result<u64, OpenError> {
    let path = folder.join(snapshot::file_name(header.revision, Temperature::Cold));
    let failed = |source| OpenError::io("write", &path, source);
    let writer = Writer::create(disk, folder, header, Temperature::Cold).map_err(failed)?;
    let mut chunks = Chunks { writer, rows: Vec::new(), bytes: 0 };
    let mut fresh = delta.iter().peekable();
    if before > 0 {
        let old = folder.join(snapshot::file_name(before, Temperature::Cold));
        snapshot::read(disk, &old, store, &mut |row| {
            let at = (row.table, Key::from(row.key));
            while let Some((key, newer)) = fresh.next_if(|(key, _)| **key < at) {
                chunks.add_row(key, newer).map_err(failed)?;
            }
            if let Some((key, newer)) = fresh.next_if(|(key, _)| **key == at) {
                return chunks.add_row(key, newer).map_err(failed);
            }
            let Value::Inline(value) = row.value else { return Err(OpenError::damaged(&old, "it names a blob")) };
            chunks.add(at.0, at.1, row.revision, value.into()).map_err(failed)
        })?;
    }
    for (key, newer) in fresh {
        chunks.add_row(key, newer).map_err(failed)?;
    }
    chunks.flush().map_err(failed)?;
    let (bytes, _) = chunks.writer.finish(disk, header.sequence).map_err(failed)?;
    Ok(bytes)
}
