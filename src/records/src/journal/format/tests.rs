//! What is written is read back; what was changed on the way is never taken for intact.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::state::Entry;

fn change() -> impl Strategy<Value = Change> {
    let entry = |revision| vec(any::<u8>(), 0..200).prop_map(move |value| Entry { value: value.into(), revision });
    (
        any::<u16>(),
        vec(any::<u8>(), 0..40),
        proptest::option::of(entry(3)),
        proptest::option::of(entry(7)),
        0i64..1 << 50,
    )
        .prop_map(|(table, key, old, new, time)| Change {
            table,
            key: key.into(),
            revision: 7,
            time: Timestamp::from_microsecond(time).expect("in range"),
            old,
            new,
        })
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Change>>> {
    vec(vec(change(), 1..4), 1..6)
}

fn sealed(transactions: &[Vec<Change>], first_sequence: u64, seed: u32) -> Vec<u8> {
    let mut batch = Batch::new(first_sequence);
    for changes in transactions {
        batch.push(changes, &vec![None; changes.len()]);
    }
    batch.seal(seed).to_vec()
}

proptest! {
    #[test]
    fn a_batch_comes_back_as_it_was_written(written in transactions(), sequence in 1u64..1 << 60, seed in any::<u32>()) {
        let bytes = sealed(&written, sequence, seed);
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        let batch = FoundBatch::decode(&bytes, seed).expect("intact");
        prop_assert_eq!((batch.first_sequence, batch.stride), (sequence, bytes.len()));
        let records = batch.records().expect("decodes");
        prop_assert_eq!(records.len(), written.len());
        for ((record, changes), number) in records.iter().zip(&written).zip(sequence..) {
            prop_assert_eq!((record.sequence, record.revision, record.time), (number, 7, changes[0].time));
            for (operation, change) in record.operations.iter().zip(changes) {
                let write = change.new.as_ref().map_or(Write::Delete, |entry| Write::Put(&entry.value));
                let old_revision = change.old.as_ref().map_or(0, |old| old.revision);
                prop_assert_eq!(operation, &Operation { table: change.table, old_revision, key: &change.key, write });
            }
        }
        prop_assert_eq!(peek_time(&bytes), Some(written[0][0].time));
    }

    #[test]
    fn a_changed_batch_or_another_segments_is_not_intact(
        written in transactions(), seed in any::<u32>(), other in any::<u32>(), at in any::<prop::sample::Index>(), mask in 1u8..
    ) {
        let mut bytes = sealed(&written, 5, seed);
        prop_assert!(other == seed || FoundBatch::decode(&bytes, other).is_none());
        let length = BATCH_HEADER_BYTES + u32::from_le_bytes(bytes[4..8].try_into().expect("four bytes")) as usize;
        let at = at.index(length);
        bytes[at] ^= mask;
        prop_assert!(FoundBatch::decode(&bytes, seed).is_none(), "a change at {at} goes unnoticed");
    }

    #[test]
    fn a_record_taken_back_leaves_no_trace(written in transactions(), extra in vec(change(), 1..4)) {
        let mut batch = Batch::new(1);
        for changes in &written {
            batch.push(changes, &vec![None; changes.len()]);
        }
        let size = batch.push(&extra, &vec![None; extra.len()]);
        batch.pop(size);
        prop_assert_eq!(batch.seal(9), &sealed(&written, 1, 9)[..]);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300), seed in any::<u32>()) {
        prop_assert!(SegmentHeader::decode(&bytes).is_none());
        prop_assert!(FoundBatch::decode(&bytes, seed).is_none());
        // Also behind a checksum that holds, as a newer or faulty program could have written it.
        let batch = FoundBatch { first_sequence: 1, records: 1 + u32::from(seed as u8), payload: &bytes, stride: BLOCK };
        let _nothing_sensible = batch.records();
        let _either = peek_time(&bytes);
    }

    #[test]
    fn a_header_comes_back_and_a_changed_one_does_not(number in any::<u64>(), first_sequence in any::<u64>(), at in 0usize..48, mask in 1u8..) {
        let header = SegmentHeader { store: Uuid::from_u128(77), number, first_sequence };
        let (mut block, seed) = header.encode();
        prop_assert_eq!(SegmentHeader::decode(&block), Some((header, seed)));
        block[at] ^= mask;
        prop_assert_eq!(SegmentHeader::decode(&block), None);
    }
}

#[test]
fn a_blob_is_named_by_content_and_length() {
    let name = BlobName { sha256: [0xab; 32], length: 70_000 };
    assert_eq!(BlobName::decode(&name.encode()), Some(name));
    assert_eq!(BlobName::decode(&name.encode()[1..]), None);
    assert!(name.file_name().starts_with("abab") && name.file_name().len() == 64);
}
