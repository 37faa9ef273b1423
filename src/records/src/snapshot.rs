//! Snapshot files: the tables, sorted, so that recovery need not read the journal from its beginning.
//!
//! Written by checkpoints, read by recovery. Pure encoding and file access; [`crate::checkpoint`] says when. Invariants: a
//! file has its name only when it is whole and on disk; every chunk has a CRC and the end names how many there were, so a
//! damaged or short file is recognised as a whole and the one before it is used. A snapshot is *fuzzy*: it holds everything
//! below its `sequence`, and possibly some of what came before `end_sequence`; it is true only together with the journal
//! from `sequence` to at least `end_sequence`.
//!
//! ```text
//! file    = header chunk* end
//! header  = magic[8] version:u32 store[16] sequence:u64 revision:u64 cold_revision:u64 cold_from:u64 crc:u32
//! chunk   = length:u32 crc:u32 row*                      (length > 0)
//! row     = table:u16 kind:u8 revision:u64 key_length:u32 key value_length:u32 value
//! end     = 0:u32 end_sequence:u64 rows:u64 crc:u32      (the CRC goes on from the last chunk's)
//! ```

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::blobs::{Blobs, blob_name};
use crate::disk::{Access, Disk, File};
use crate::error::OpenError;
use crate::journal::format::{BlobName, Reader};
use crate::state::{Entry, Key, State};

const MAGIC: [u8; 8] = *b"KFRECSNP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const END_BYTES: usize = 24;
/// Written to the file in pieces of about this size.
const WRITE_BYTES: usize = 1 << 20;
/// Read from the file in pieces of this size.
const READ_BYTES: usize = 4 << 20;
/// A chunk is 256 rows of at most 64 KiB and their keys; anything larger is damage.
const CHUNK_BYTES_MAX: usize = 64 << 20;

const INLINE: u8 = 1;
const BLOB: u8 = 2;

/// What a snapshot says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) store: Uuid,
    /// Records below this sequence are in it: redo starts here.
    pub(crate) sequence: u64,
    /// The revision of the last record below `sequence`.
    pub(crate) revision: u64,
    /// The cold snapshot that belongs to it; 0 for none.
    pub(crate) cold_revision: u64,
    /// From here on the journal holds what that one lacks.
    pub(crate) cold_from: u64,
}

/// Which tables a snapshot holds; the two kinds have files of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Temperature {
    /// Tables in memory; large values are blobs.
    Hot,
    /// Tables on disk; every value is in the file.
    Cold,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(self.store.as_bytes());
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&self.cold_revision.to_le_bytes());
        bytes.extend_from_slice(&self.cold_from.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let mut reader = Reader(bytes);
        let intact = reader.take(MAGIC.len())? == MAGIC && reader.u32()? == VERSION;
        let store = Uuid::from_slice(reader.take(16)?).ok()?;
        let (sequence, revision) = (reader.u64()?, reader.u64()?);
        let (cold_revision, cold_from, crc) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let intact = intact && crc == crc32c::crc32c(bytes.get(..HEADER_BYTES - 4)?);
        intact.then_some((Self { store, sequence, revision, cold_revision, cold_from }, crc))
    }
}

/// The file name of the snapshot that was begun at a revision.
pub(crate) fn file_name(revision: u64, temperature: Temperature) -> String {
    match temperature {
        Temperature::Hot => format!("{revision:020}.snap"),
        Temperature::Cold => format!("{revision:020}.cold"),
    }
}

/// The revision in the file name of a hot snapshot.
pub(crate) fn file_revision(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

/// A snapshot being written.
#[derive(Debug)]
pub(crate) struct Writer {
    file: Box<dyn File>,
    draft: PathBuf,
    path: PathBuf,
    buffer: Vec<u8>,
    offset: u64,
    crc: u32,
    rows: u64,
    blobs: HashSet<BlobName>,
    temperature: Temperature,
}

impl Writer {
    pub(crate) fn create(
        disk: &dyn Disk,
        folder: &Path,
        header: &Header,
        temperature: Temperature,
    ) -> io::Result<Self> {
        let name = file_name(header.revision, temperature);
        let (path, draft) = (folder.join(&name), folder.join(format!("{name}.tmp")));
        let file = disk.open(&draft, Access::Create)?;
        let buffer = header.encode();
        let crc = crc32c::crc32c(&buffer);
        Ok(Self { file, draft, path, buffer, offset: 0, crc, rows: 0, blobs: HashSet::new(), temperature })
    }

    /// Adds rows, which must follow all earlier ones in the order (table, key).
    pub(crate) fn chunk(&mut self, rows: &[(u16, Key, Entry)]) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut chunk = Vec::new();
        for (table, key, entry) in rows {
            let blob = if self.temperature == Temperature::Hot { blob_name(&entry.value) } else { None };
            let named = blob.map(|name| name.encode());
            let (kind, value) = named.as_ref().map_or((INLINE, &*entry.value), |name| (BLOB, &name[..]));
            self.blobs.extend(blob);
            chunk.extend_from_slice(&table.to_le_bytes());
            chunk.push(kind);
            chunk.extend_from_slice(&entry.revision.to_le_bytes());
            chunk.extend_from_slice(&(key.len() as u32).to_le_bytes());
            chunk.extend_from_slice(key);
            chunk.extend_from_slice(&(value.len() as u32).to_le_bytes());
            chunk.extend_from_slice(value);
        }
        self.crc = crc32c::crc32c_append(self.crc, &chunk);
        self.rows += rows.len() as u64;
        self.buffer.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&self.crc.to_le_bytes());
        self.buffer.append(&mut chunk);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.pwrite(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the file and gives it its name. Gives its size and the blobs it names.
    pub(crate) fn finish(mut self, disk: &dyn Disk, end_sequence: u64) -> io::Result<(u64, HashSet<BlobName>)> {
        let mut end = Vec::with_capacity(END_BYTES);
        end.extend_from_slice(&0u32.to_le_bytes());
        end.extend_from_slice(&end_sequence.to_le_bytes());
        end.extend_from_slice(&self.rows.to_le_bytes());
        let crc = crc32c::crc32c_append(self.crc, &end);
        end.extend_from_slice(&crc.to_le_bytes());
        self.buffer.append(&mut end);
        self.flush()?;
        self.file.fdatasync()?;
        disk.rename(&self.draft, &self.path)?;
        disk.fsync_dir(self.path.parent().unwrap_or(&self.path))?;
        Ok((self.offset, self.blobs))
    }
}

/// What a snapshot that was read to its end says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole {
    pub(crate) header: Header,
    /// The journal must reach at least this far.
    pub(crate) end_sequence: u64,
    pub(crate) bytes: u64,
}

/// Reads a snapshot, streaming, row by row. Only when this returns `Ok` were the rows what was written.
pub(crate) fn read(
    disk: &dyn Disk,
    path: &Path,
    store: Uuid,
    visit: &mut dyn FnMut(Row<'_>) -> Result<(), OpenError>,
) -> Result<Whole, OpenError> {
    let file = disk.open(path, Access::Read).map_err(|source| OpenError::io("open", path, source))?;
    let mut stream = Stream { file, path, buffer: Vec::new(), at: 0, offset: 0 };
    let bytes = stream.need(HEADER_BYTES)?;
    let (header, _) = Header::decode(bytes).ok_or_else(|| OpenError::damaged(path, "its header is not intact"))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if header.store != store || !name.starts_with(&format!("{:020}.", header.revision)) {
        return Err(OpenError::damaged(path, "it belongs to another store or revision"));
    }
    let mut crc = crc32c::crc32c(bytes);
    stream.skip(HEADER_BYTES);
    let mut count = 0;
    loop {
        let length = Reader(stream.need(4)?).u32().unwrap_or(0) as usize;
        if length == 0 {
            break;
        }
        if length > CHUNK_BYTES_MAX {
            return Err(OpenError::damaged(path, "a chunk has no sensible length"));
        }
        let mut reader = Reader(stream.need(8 + length)?);
        let chunk = (reader.u32(), reader.u32(), reader.0);
        crc = crc32c::crc32c_append(crc, chunk.2);
        if chunk.1 != Some(crc) {
            return Err(OpenError::damaged(path, "the checksum of a chunk does not fit"));
        }
        let mut rows = Reader(chunk.2);
        while !rows.0.is_empty() {
            let row = decode_row(&mut rows).ok_or_else(|| OpenError::damaged(path, "a row cannot be decoded"))?;
            visit(row)?;
            count += 1;
        }
        stream.skip(8 + length);
    }
    let end = stream.need(END_BYTES)?;
    let computed = crc32c::crc32c_append(crc, end.get(..END_BYTES - 4).unwrap_or_default());
    let mut reader = Reader(end);
    let parts = (reader.u32(), reader.u64(), reader.u64(), reader.u32());
    match parts {
        (_, Some(end_sequence), Some(rows), Some(stored)) if stored == computed && rows == count => {
            Ok(Whole { header, end_sequence, bytes: stream.offset })
        }
        _ => Err(OpenError::damaged(path, "its end does not fit")),
    }
}

/// A hot snapshot that was read whole and found intact.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) whole: Whole,
    pub(crate) state: State,
    pub(crate) blobs: HashSet<BlobName>,
}

/// Loads a hot snapshot.
pub(crate) fn load(disk: &dyn Disk, path: &Path, store: Uuid, blobs: &Blobs) -> Result<Loaded, OpenError> {
    let mut state = State::default();
    let mut named = HashSet::new();
    let mut last: Option<(u16, Key)> = None;
    let whole = read(disk, path, store, &mut |row| {
        let key: Key = row.key.into();
        if last.as_ref().is_some_and(|(table, last)| (*table, last) >= (row.table, &key)) {
            return Err(OpenError::damaged(path, "its rows are out of order"));
        }
        let value = match row.value {
            Value::Inline(bytes) => bytes.into(),
            Value::Blob(name) => {
                named.insert(name);
                blobs.load(&name, 0)?
            }
        };
        last = Some((row.table, key.clone()));
        state.set(row.table, key, Some(Entry { value, revision: row.revision }));
        Ok(())
    })?;
    state.revision = whole.header.revision;
    state.next_sequence = whole.header.sequence;
    Ok(Loaded { whole, state, blobs: named })
}

/// Only the header of a snapshot, if that is intact.
pub(crate) fn read_header(file: &dyn File) -> Option<Header> {
    let mut bytes = vec![0; HEADER_BYTES];
    let read = file.pread(&mut bytes, 0).ok()?;
    Header::decode(bytes.get(..read)?).map(|(header, _)| header)
}

/// A row of a snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) table: u16,
    pub(crate) revision: u64,
    pub(crate) key: &'a [u8],
    pub(crate) value: Value<'a>,
}

/// Its value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Inline(&'a [u8]),
    Blob(BlobName),
}

fn decode_row<'a>(reader: &mut Reader<'a>) -> Option<Row<'a>> {
    let (table, kind, revision) = (reader.u16()?, reader.u8()?, reader.u64()?);
    let (key, value) = (reader.sized()?, reader.sized()?);
    let value = match kind {
        INLINE => Value::Inline(value),
        BLOB => Value::Blob(BlobName::decode(value)?),
        _ => return None,
    };
    Some(Row { table, revision, key, value })
}

/// A file read from front to back.
struct Stream<'a> {
    file: Box<dyn File>,
    path: &'a Path,
    buffer: Vec<u8>,
    /// What of the buffer has been used.
    at: usize,
    /// How much of the file is in the buffer or behind it.
    offset: u64,
}

impl Stream<'_> {
    /// The next `length` bytes, which stay until they are skipped.
    fn need(&mut self, length: usize) -> Result<&[u8], OpenError> {
        if self.buffer.len() - self.at < length {
            self.buffer.drain(..self.at);
            self.at = 0;
            let had = self.buffer.len();
            let left =
                self.file.length().map_err(|source| OpenError::io("ask for the length of", self.path, source))?;
            let left = usize::try_from(left.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            self.buffer.resize(had.saturating_add(left).min(length.max(READ_BYTES)).max(had), 0);
            let read = self.file.pread(self.buffer.get_mut(had..).unwrap_or_default(), self.offset);
            let read = read.map_err(|source| OpenError::io("read", self.path, source))?;
            self.buffer.truncate(had + read);
            self.offset += read as u64;
        }
        let bytes = self.buffer.get(self.at..self.at + length);
        bytes.ok_or_else(|| OpenError::damaged(self.path, "it is too short"))
    }

    fn skip(&mut self, length: usize) {
        self.at += length;
    }
}
