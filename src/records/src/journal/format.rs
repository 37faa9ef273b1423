//! The bytes of a journal: segment headers, batches, records, operations. All numbers are little-endian.
//!
//! Called by the journal when it writes and by recovery when it reads. Pure: no I/O.
//!
//! Invariants: decoding never trusts a length; a batch is valid only under the header of its own segment (its CRC is seeded
//! with the header's), so what a reused segment held before can never be taken for new.
//!
//! ```text
//! segment  = header (one 4 KiB block) batch*
//! header   = magic[8] version:u32 store[16] number:u64 first_sequence:u64 crc:u32
//! batch    = magic[4] length:u32 first_sequence:u64 records:u32 crc:u32 record*      (starts on a 4 KiB boundary)
//! record   = length:u32 sequence:u64 revision:u64 time_us:i64 operations:u32 operation*
//! operation= table:u16 kind:u8 old_revision:u64 key_length:u32 key value_length:u32 value
//! ```

use jiff::Timestamp;
use uuid::Uuid;

use crate::feed::Change;
use crate::limits::BLOCK;

/// The version of everything in this file.
pub(crate) const VERSION: u32 = 1;
const SEGMENT_MAGIC: [u8; 8] = *b"KFRECSEG";
const BATCH_MAGIC: [u8; 4] = *b"KFRB";
const HEADER_BYTES: usize = 44;
const BATCH_HEADER_BYTES: usize = 24;
const BATCH_CRC_AT: usize = 20;

/// The first block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: Uuid,
    pub(crate) number: u64,
    /// The sequence that the first record in this segment has or would have. Cuts off whatever the segment before it
    /// holds from this sequence on.
    pub(crate) first_sequence: u64,
}

impl SegmentHeader {
    /// The block, and the seed of the CRCs of this segment's batches.
    pub(crate) fn encode(&self) -> (Vec<u8>, u32) {
        let mut block = Vec::with_capacity(BLOCK);
        block.extend_from_slice(&SEGMENT_MAGIC);
        block.extend_from_slice(&VERSION.to_le_bytes());
        block.extend_from_slice(self.store.as_bytes());
        block.extend_from_slice(&self.number.to_le_bytes());
        block.extend_from_slice(&self.first_sequence.to_le_bytes());
        let crc = crc32c::crc32c(&block);
        block.extend_from_slice(&crc.to_le_bytes());
        block.resize(BLOCK, 0);
        (block, crc)
    }

    /// The header and the CRC seed, or `None` when these bytes are no intact header.
    pub(crate) fn decode(block: &[u8]) -> Option<(Self, u32)> {
        let mut reader = Reader(block);
        let magic = reader.take(SEGMENT_MAGIC.len())?;
        let version = reader.u32()?;
        let store = Uuid::from_slice(reader.take(16)?).ok()?;
        let (number, first_sequence) = (reader.u64()?, reader.u64()?);
        let crc = reader.u32()?;
        let intact = magic == SEGMENT_MAGIC && version == VERSION && crc == crc32c::crc32c(block.get(..HEADER_BYTES)?);
        intact.then_some((Self { store, number, first_sequence }, crc))
    }
}

/// What an operation does. The numbers are on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Put = 1,
    Delete = 2,
    /// The value is a [`BlobName`]; its bytes are in a file of their own.
    PutBlob = 3,
}

/// Names a blob: SHA-256 and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlobName {
    pub(crate) sha256: [u8; 32],
    pub(crate) length: u64,
}

impl BlobName {
    pub(crate) const BYTES: usize = 40;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..32].copy_from_slice(&self.sha256);
        bytes[32..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let sha256 = reader.take(32)?.try_into().ok()?;
        let length = reader.u64()?;
        reader.0.is_empty().then_some(Self { sha256, length })
    }

    /// The name of its file.
    pub(crate) fn file_name(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// One transaction as the journal holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) sequence: u64,
    /// The revision of its first operation; the others follow one by one.
    pub(crate) revision: u64,
    pub(crate) time: Timestamp,
    pub(crate) operations: Vec<Operation<'a>>,
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) table: u16,
    /// The revision of what it replaced, 0 for nothing: lets history be rebuilt, and recovery check itself.
    pub(crate) old_revision: u64,
    pub(crate) key: &'a [u8],
    pub(crate) write: Write<'a>,
}

/// What an operation leaves under its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write<'a> {
    Put(&'a [u8]),
    PutBlob(BlobName),
    Delete,
}

/// A batch being built: whole blocks in the end.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    first_sequence: u64,
    records: u32,
}

impl Batch {
    pub(crate) fn new(first_sequence: u64) -> Self {
        Self { bytes: vec![0; BATCH_HEADER_BYTES], first_sequence, records: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The sequence after its last record.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.records)
    }

    pub(crate) fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// The size it has now, without the padding.
    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a transaction, which must have changes; `blobs` names, change by change, the values that are kept outside.
    /// Gives its encoded size.
    pub(crate) fn push(&mut self, changes: &[Change], blobs: &[Option<BlobName>]) -> usize {
        let Some(first) = changes.first() else { return 0 };
        let start = self.bytes.len();
        self.put(&0u32.to_le_bytes());
        self.put(&self.next_sequence().to_le_bytes());
        self.put(&first.revision.to_le_bytes());
        self.put(&first.time.as_microsecond().to_le_bytes());
        self.put(&(changes.len() as u32).to_le_bytes());
        for (change, blob) in changes.iter().zip(blobs) {
            let named = blob.map(|name| name.encode());
            let (kind, value) = match (&change.new, &named) {
                (None, _) => (Kind::Delete, &[][..]),
                (Some(_), Some(name)) => (Kind::PutBlob, &name[..]),
                (Some(entry), None) => (Kind::Put, &*entry.value),
            };
            self.put(&change.table.to_le_bytes());
            self.put(&[kind as u8]);
            self.put(&change.old.as_ref().map_or(0, |old| old.revision).to_le_bytes());
            self.put(&(change.key.len() as u32).to_le_bytes());
            self.put(&change.key);
            self.put(&(value.len() as u32).to_le_bytes());
            self.put(value);
        }
        let size = self.bytes.len() - start;
        self.bytes[start..start + 4].copy_from_slice(&((size - 4) as u32).to_le_bytes());
        self.records += 1;
        size
    }

    /// Takes back the last record, whose size is `size`.
    pub(crate) fn pop(&mut self, size: usize) {
        self.bytes.truncate(self.bytes.len() - size);
        self.records -= 1;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes to write into the segment with this seed: header, records, zeros up to a block.
    pub(crate) fn seal(&mut self, seed: u32) -> &[u8] {
        let payload = self.bytes.len() - BATCH_HEADER_BYTES;
        self.bytes[..4].copy_from_slice(&BATCH_MAGIC);
        self.bytes[4..8].copy_from_slice(&(payload as u32).to_le_bytes());
        self.bytes[8..16].copy_from_slice(&self.first_sequence.to_le_bytes());
        self.bytes[16..20].copy_from_slice(&self.records.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &self.bytes[..BATCH_CRC_AT]);
        let crc = crc32c::crc32c_append(crc, &self.bytes[BATCH_HEADER_BYTES..]);
        self.bytes[BATCH_CRC_AT..BATCH_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        &self.bytes
    }
}

/// An intact batch found in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundBatch<'a> {
    pub(crate) first_sequence: u64,
    pub(crate) records: u32,
    payload: &'a [u8],
    /// How far the next batch starts from this one's start.
    pub(crate) stride: usize,
}

impl<'a> FoundBatch<'a> {
    /// The batch at the start of `bytes`, or `None` when there is no intact one under this seed.
    pub(crate) fn decode(bytes: &'a [u8], seed: u32) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.take(4)? != BATCH_MAGIC {
            return None;
        }
        let length = reader.u32()? as usize;
        let (first_sequence, records, crc) = (reader.u64()?, reader.u32()?, reader.u32()?);
        let payload = reader.take(length)?;
        let computed = crc32c::crc32c_append(crc32c::crc32c_append(seed, bytes.get(..BATCH_CRC_AT)?), payload);
        let stride = (BATCH_HEADER_BYTES + length).next_multiple_of(BLOCK);
        (computed == crc).then_some(Self { first_sequence, records, payload, stride })
    }

    /// Its records, in order; `None` when what the CRC vouches for still makes no sense (a bug, or a newer format).
    pub(crate) fn records(&self) -> Option<Vec<Record<'a>>> {
        let mut reader = Reader(self.payload);
        let mut records = Vec::new();
        for number in 0..u64::from(self.records) {
            let record = decode_record(&mut reader)?;
            if record.sequence != self.first_sequence + number {
                return None;
            }
            records.push(record);
        }
        reader.0.is_empty().then_some(records)
    }
}

fn decode_record<'a>(reader: &mut Reader<'a>) -> Option<Record<'a>> {
    let length = reader.u32()? as usize;
    let mut body = Reader(reader.take(length)?);
    let (sequence, revision) = (body.u64()?, body.u64()?);
    let time = Timestamp::from_microsecond(body.u64()?.cast_signed()).ok()?;
    let count = body.u32()?;
    let mut operations = Vec::new();
    for _ in 0..count {
        operations.push(decode_operation(&mut body)?);
    }
    body.0.is_empty().then_some(Record { sequence, revision, time, operations })
}

fn decode_operation<'a>(reader: &mut Reader<'a>) -> Option<Operation<'a>> {
    let table = reader.u16()?;
    let kind = reader.u8()?;
    let old_revision = reader.u64()?;
    let key = reader.sized()?;
    let value = reader.sized()?;
    let write = match kind {
        1 => Write::Put(value),
        2 if value.is_empty() => Write::Delete,
        3 => Write::PutBlob(BlobName::decode(value)?),
        _ => return None,
    };
    Some(Operation { table, old_revision, key, write })
}

/// The time of the first record of a batch that starts here, unchecked.
pub(crate) fn peek_time(block: &[u8]) -> Option<Timestamp> {
    let mut reader = Reader(block);
    if reader.take(4)? != BATCH_MAGIC {
        return None;
    }
    // The rest of the batch's header, then the record's length, sequence and revision.
    reader.take(BATCH_HEADER_BYTES - 4 + 20)?;
    Timestamp::from_microsecond(reader.u64()?.cast_signed()).ok()
}

/// Reads numbers and slices off the front of bytes, never beyond their end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes with their length in front.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
