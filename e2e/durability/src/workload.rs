//! What the writer of the power-cut proof does, and how the verifier knows what must be there.
//!
//! Each of four writers puts its turn `i` under key `i mod slots`; object and index entry both name the turn. After a
//! commit returned, the writer notes (time, turn, revision) in its file on a disk that no power cut reaches.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::device::now_ns;
use crate::store::Store;
use crate::{Dice, noise};

/// How many write at once.
pub const WRITERS: u64 = 4;
const NOTE_BYTES: usize = 24;

/// One acknowledged commit.
#[derive(Debug, Clone, Copy)]
pub struct Note {
    /// When the commit had returned.
    pub at_ns: u64,
    /// The writer's turn.
    pub turn: u64,
    /// The revision it was given.
    pub revision: u64,
}

/// How many keys each writer goes around: about 6 MiB of values, at least two.
pub fn slots(value_bytes: usize) -> u64 {
    ((1536 << 10) / value_bytes as u64).clamp(2, 200)
}

fn key(writer: u64, slot: u64) -> String {
    format!("{writer}/{slot:06}")
}

fn object(writer: u64, turn: u64, length: usize) -> Vec<u8> {
    let mut bytes = turn.to_le_bytes().to_vec();
    bytes.append(&mut noise(&mut Dice::new(writer << 40 | turn), length.saturating_sub(8)));
    bytes
}

/// The file with a writer's notes.
pub fn notes_path(folder: &Path, writer: u64) -> PathBuf {
    folder.join(format!("notes-{writer}"))
}

/// Commits until the process is killed.
pub fn write_forever(store: &dyn Store, notes: &Path, value_bytes: usize) -> Result<()> {
    let files: Result<Vec<File>> = (0..WRITERS)
        .map(|writer| {
            OpenOptions::new().create(true).append(true).open(notes_path(notes, writer)).context("open the notes")
        })
        .collect();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let writers = files?.into_iter().zip(0..).map(|(mut file, writer)| {
            scope.spawn(move || {
                for turn in 1.. {
                    let key = key(writer, turn % slots(value_bytes));
                    let revision =
                        store.commit(&key, object(writer, turn, value_bytes), turn.to_le_bytes().to_vec())?;
                    let note = [now_ns(), turn, revision].map(u64::to_le_bytes).concat();
                    file.write_all(&note).context("note")?;
                }
                Ok(())
            })
        });
        let writers: Vec<_> = writers.collect();
        Ok::<_, anyhow::Error>(
            writers
                .into_iter()
                .map(|writer| writer.join().unwrap_or_else(|_| bail!("a writer has panicked")))
                .collect(),
        )
    })?;
    results.into_iter().collect()
}

/// A writer's notes up to an instant.
pub fn notes_until(folder: &Path, writer: u64, at_ns: u64) -> Result<Vec<Note>> {
    let bytes = std::fs::read(notes_path(folder, writer)).context("read the notes")?;
    let number =
        |chunk: &[u8], at: usize| chunk.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
    let notes = bytes.chunks_exact(NOTE_BYTES).map(|c| Note {
        at_ns: number(c, 0),
        turn: number(c, 8),
        revision: number(c, 16),
    });
    Ok(notes.take_while(|note| note.at_ns <= at_ns).collect())
}

/// Whether everything acknowledged before an instant is there, and nothing half. The error says what is wrong: its text
/// starts with `lost` or `torn`.
pub fn verify(store: &dyn Store, notes: &Path, at_ns: u64, value_bytes: usize) -> Result<()> {
    let mut revision = 0;
    for writer in 0..WRITERS {
        let notes = notes_until(notes, writer, at_ns)?;
        revision = notes.iter().map(|note| note.revision).max().unwrap_or(0).max(revision);
        for slot in 0..slots(value_bytes) {
            let acknowledged =
                notes.iter().rev().map(|note| note.turn).find(|turn| turn % slots(value_bytes) == slot).unwrap_or(0);
            let key = key(writer, slot);
            let (found, entry) = store.get(&key)?;
            let turn = |bytes: &Option<Vec<u8>>| {
                bytes.as_ref().and_then(|b| b.get(..8)?.try_into().ok()).map_or(0, u64::from_le_bytes)
            };
            let (in_object, in_index) = (turn(&found), turn(&entry));
            ensure!(
                in_object == in_index,
                "torn: {key} has turn {in_object} in the object and {in_index} in the index"
            );
            ensure!(in_object >= acknowledged, "lost: {key} has turn {in_object}, but {acknowledged} was acknowledged");
            if let Some(found) = found {
                ensure!(
                    found == object(writer, in_object, value_bytes),
                    "torn: the value of {key} is not what was written"
                );
            }
        }
    }
    ensure!(
        store.revision() >= revision,
        "lost: the revision is {}, but {revision} was acknowledged",
        store.revision()
    );
    Ok(())
}

/// Ten more commits, which must be readable.
pub fn commit_more(store: &dyn Store, value_bytes: usize) -> Result<()> {
    for turn in 0..10u64 {
        let key = format!("more/{turn}");
        store
            .commit(&key, object(9, turn, value_bytes), turn.to_le_bytes().to_vec())
            .context("commit after the cut")?;
    }
    check_more(store, value_bytes)
}

/// Whether the ten are there.
pub fn check_more(store: &dyn Store, value_bytes: usize) -> Result<()> {
    for turn in 0..10u64 {
        let (found, _) = store.get(&format!("more/{turn}"))?;
        ensure!(found == Some(object(9, turn, value_bytes)), "lost: commit {turn} after the cut");
    }
    Ok(())
}
