//! Reading a journal back.
//!
//! Called when a store opens, and by snapshots of cold tables. Invariants: records are given out in order, without a gap,
//! each once; what is not understood is refused by name. Only at the end of the journal, or where the next segment's header
//! says so, may bytes be left unread: a torn tail, or a batch whose write had failed.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use uuid::Uuid;

use super::format::{self, FoundBatch, Record, SegmentHeader};
use super::{segment_name, segment_number};
use crate::disk::{Access, Disk};
use crate::error::OpenError;
use crate::limits::BLOCK;

/// A segment that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundSegment {
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    seed: u32,
}

/// Finds all segments, oldest first, and checks their headers.
pub(crate) fn find_segments(disk: &dyn Disk, folder: &Path, store: Uuid) -> Result<Vec<FoundSegment>, OpenError> {
    let names = disk.list(folder).map_err(|source| OpenError::io("list", folder, source))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let mut found = Vec::new();
    for number in numbers {
        let path = folder.join(segment_name(number));
        let file = disk.open(&path, Access::Read).map_err(|source| OpenError::io("open", &path, source))?;
        let mut block = vec![0; BLOCK];
        let read = file.pread(&mut block, 0).map_err(|source| OpenError::io("read", &path, source))?;
        block.truncate(read);
        let (header, seed) =
            SegmentHeader::decode(&block).ok_or_else(|| OpenError::damaged(&path, "its header is not intact"))?;
        if header.number != number || header.store != store {
            return Err(OpenError::damaged(&path, "its header belongs to another segment or store"));
        }
        found.push(FoundSegment { number, first_sequence: header.first_sequence, seed });
    }
    Ok(found)
}

/// Where a replay ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// The sequence after the last record.
    pub(crate) next_sequence: u64,
    /// Bytes of all batches that were read.
    pub(crate) bytes: u64,
    /// The last batch: its file, where it starts, how long it is.
    last: Option<(PathBuf, usize, usize)>,
}

/// The segments that a redo from `sequence` needs, as an index into `segments`.
pub(crate) fn start_for(segments: &[FoundSegment], sequence: u64) -> Option<usize> {
    segments.iter().rposition(|segment| segment.first_sequence <= sequence)
}

/// When the first record of a segment was written, if it has one. Only a hint: nothing is checked.
pub(crate) fn first_time(disk: &dyn Disk, folder: &Path, segment: &FoundSegment) -> Option<Timestamp> {
    let file = disk.open(&folder.join(segment_name(segment.number)), Access::Read).ok()?;
    let mut block = vec![0; BLOCK];
    let read = file.pread(&mut block, BLOCK as u64).ok()?;
    format::peek_time(block.get(..read)?)
}

/// Replays `segments` (neighbours, oldest first) from the first record of the first one.
pub(crate) fn replay(
    disk: &dyn Disk,
    folder: &Path,
    segments: &[FoundSegment],
    visit: &mut dyn FnMut(Record<'_>, &Path) -> Result<(), OpenError>,
) -> Result<End, OpenError> {
    let mut end = End { next_sequence: segments.first().map_or(1, |first| first.first_sequence), ..End::default() };
    for (at, segment) in segments.iter().enumerate() {
        let path = folder.join(segment_name(segment.number));
        if segment.first_sequence != end.next_sequence {
            let what = format!(
                "it starts at sequence {}, but the one before it ends at {}",
                segment.first_sequence, end.next_sequence
            );
            return Err(OpenError::damaged(&path, what));
        }
        let cut = segments.get(at + 1).map(|next| next.first_sequence);
        let bytes = disk.read(&path).map_err(|source| OpenError::io("read", &path, source))?;
        replay_segment(&bytes, segment, cut, &path, &mut end, visit)?;
    }
    Ok(end)
}

fn replay_segment(
    bytes: &[u8],
    segment: &FoundSegment,
    cut: Option<u64>,
    path: &Path,
    end: &mut End,
    visit: &mut dyn FnMut(Record<'_>, &Path) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    let mut offset = BLOCK;
    while cut != Some(end.next_sequence) {
        let rest = bytes.get(offset..).unwrap_or_default();
        let Some(batch) = FoundBatch::decode(rest, segment.seed) else {
            return refuse_what_follows(rest, segment.seed, cut, path, offset);
        };
        let next_sequence = end.next_sequence + u64::from(batch.records);
        if batch.first_sequence != end.next_sequence || cut.is_some_and(|cut| next_sequence > cut) {
            return Err(OpenError::damaged(path, format!("the batch at byte {offset} is out of sequence")));
        }
        let records = batch
            .records()
            .ok_or_else(|| OpenError::damaged(path, format!("the batch at byte {offset} cannot be decoded")))?;
        for record in records {
            visit(record, path)?;
        }
        end.next_sequence = next_sequence;
        end.bytes += batch.stride as u64;
        end.last = Some((path.to_owned(), offset, batch.stride));
        offset += batch.stride;
    }
    Ok(())
}

/// After bytes that are no batch there may be nothing but the end: one batch is in flight at a time, so an intact one
/// behind them means that the bytes were damaged after they had been acknowledged.
fn refuse_what_follows(rest: &[u8], seed: u32, cut: Option<u64>, path: &Path, offset: usize) -> Result<(), OpenError> {
    if let Some(cut) = cut {
        return Err(OpenError::damaged(
            path,
            format!("the bytes from {offset} on are no batch, but the next segment starts at sequence {cut}"),
        ));
    }
    let mut at = BLOCK;
    while let Some(later) = rest.get(at..).filter(|later| !later.is_empty()) {
        if FoundBatch::decode(later, seed).is_some() {
            let bad = offset + at - BLOCK;
            return Err(OpenError::damaged(
                path,
                format!(
                    "the bytes before {} are no batch, but an intact one follows (last bad block at {bad})",
                    offset + at
                ),
            ));
        }
        at += BLOCK;
    }
    Ok(())
}

/// Makes sure that what was just read is on disk and not only in the page cache that a killed process has left: it is about
/// to be shown. Only the last batch can be in doubt. It is written again, with the very same bytes, because after a sync
/// that failed in the killed process another sync would say yes without having written anything.
pub(crate) fn settle(disk: &dyn Disk, folder: &Path, end: &End) -> Result<(), OpenError> {
    let Some((path, offset, length)) = &end.last else { return Ok(()) };
    let file = disk.open(path, Access::Write).map_err(|source| OpenError::io("open", path, source))?;
    let mut bytes = vec![0; *length];
    let read = file.pread(&mut bytes, *offset as u64).map_err(|source| OpenError::io("read", path, source))?;
    bytes.truncate(read);
    let written = file.pwrite(&bytes, *offset as u64).and_then(|()| file.fdatasync());
    written.map_err(|source| OpenError::io("sync", path, source))?;
    disk.fsync_dir(folder).map_err(|source| OpenError::io("sync", folder, source))
}
