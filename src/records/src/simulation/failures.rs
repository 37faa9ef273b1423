//! The disk refuses: errors, no space, damage.

use super::*;
use crate::clean::{self, Clean};

/// Breaks a few operations that are to come.
fn break_some(simulation: &mut Simulation) {
    for _ in 0..=simulation.dice.below(3) {
        let at = simulation.disk.operations() + 1 + simulation.dice.below(120);
        // A burst is what makes a store read-only.
        let length = if simulation.dice.one_in(3) { 12 } else { 1 };
        (at..at + length).for_each(|at| simulation.disk.fail(at, Fault::Broken));
    }
}

fn check_broken(seed: u64) {
    let mut simulation = Simulation::start(seed, 256 << 20);
    let mut in_doubt = Vec::new();
    break_some(&mut simulation);
    for _ in 0..40 {
        match simulation.commit() {
            Ok(()) => {}
            Err(Refusal { read_only: false, .. }) => simulation.verify(),
            Err(refused) => {
                in_doubt = refused.in_doubt;
                simulation.verify();
                let again = simulation.one(vec![Op::Put(TABLES[0], b"more".to_vec(), vec![1])]);
                assert!(matches!(again, Err(CommitError::ReadOnly { .. })), "read-only until it is opened again");
                break;
            }
        }
        simulation.maintain();
    }
    let killed = simulation.dice.one_in(2);
    simulation.disk.heal();
    let disk = if killed { simulation.disk.clone() } else { simulation.disk.cut_power(Cut::Random, seed) };
    disk.kill_process();
    simulation.reopen(disk).expect("what was acknowledged is intact");
    cuts::settle_doubt(&mut simulation, &in_doubt);
    simulation.verify();
    // What was shown must survive, whatever the disk had said before.
    let disk = simulation.disk.cut_power(Cut::DropAll, seed);
    simulation.reopen(disk).expect("what was shown is on disk");
    simulation.verify();
}

#[test]
fn after_a_failed_write_the_journal_goes_on_without_it() {
    for_seeds(400, check_broken);
}

fn check_full(seed: u64) {
    let room = 24 * SEGMENT_BYTES;
    let mut simulation = Simulation::start(seed, room);
    simulation.parts.spares.tend();
    let mut refused = false;
    for turn in 0u32..2_000 {
        let key = format!("fill/{turn}").into_bytes();
        let filled = simulation.one(vec![Op::Put(TABLES[0], key, vec![1; 8_000])]);
        simulation.parts.spares.tend();
        if let Err(error) = filled {
            assert!(
                matches!(error, CommitError::Full { free_bytes, .. } if free_bytes < 3 * SEGMENT_BYTES),
                "{error:?}"
            );
            refused = true;
            break;
        }
    }
    assert!(refused, "the disk fills up");
    simulation.verify();
    // Deletes still pass, from the space that was set aside.
    simulation.one(vec![Op::Delete(TABLES[0], b"fill/1".to_vec())]).expect("a delete passes");
    simulation.one(vec![Op::Delete(TABLES[0], b"fill/2".to_vec())]).expect("a delete passes");
    let error = simulation.one(vec![Op::Put(TABLES[0], b"more".to_vec(), vec![1])]).expect_err("still full");
    assert!(matches!(error, CommitError::Full { .. }));
    simulation.verify();
    simulation.disk.set_capacity(4 * room);
    simulation.parts.spares.tend();
    simulation.one(vec![Op::Put(TABLES[0], b"more".to_vec(), vec![1])]).expect("there is space again");
    let disk = simulation.disk.cut_power(Cut::DropAll, seed);
    simulation.reopen(disk).expect("it opens");
    simulation.verify();
}

#[test]
fn a_full_disk_refuses_puts_takes_deletes_and_recovers_by_itself() {
    for_seeds(20, check_full);
}

/// A stopped store of a few segments, with two snapshots.
fn stopped(seed: u64) -> Simulation {
    let mut simulation = Simulation::start(seed, 256 << 20);
    while simulation.parts.checkpointer.kept.len() < 2 || simulation.parts.checkpointer.pending_bytes() < SEGMENT_BYTES
    {
        simulation.commit().expect("nothing fails here");
        simulation.maintain();
    }
    let clean = Clean {
        store: simulation.parts.store,
        next_sequence: simulation.parts.committer.journal.next_sequence(),
        index: None,
    };
    clean::write(&simulation.disk, &PathBuf::from("/store"), clean).expect("written");
    simulation
}

fn check_damage(seed: u64) {
    let mut simulation = stopped(seed);
    let files = simulation.disk.files();
    let (path, length) = files[simulation.dice.below(files.len() as u64) as usize].clone();
    if length == 0 {
        return;
    }
    let disk = simulation.disk.cut_power(Cut::KeepAll, seed);
    let (offset, mask) = (simulation.dice.below(length as u64) as usize, 1 << simulation.dice.below(8));
    disk.flip(&path, offset, mask);
    match simulation.reopen(disk) {
        // Cold snapshots are read whole only when the index is made from them, which then refuses.
        Ok(()) if simulation.read_rows().is_err() => {}
        Ok(()) => simulation.verify(),
        Err(OpenError::Damaged { .. } | OpenError::NewerFormat { .. }) => {}
        Err(error) => panic!("{} at {offset}: {error:?}", path.display()),
    }
}

#[test]
fn a_flipped_bit_is_refused_or_does_no_harm() {
    for_seeds(400, check_damage);
}

/// Where the batches of the last segment that has any start.
fn last_batches(simulation: &Simulation) -> (PathBuf, Vec<usize>) {
    let mut segments: Vec<_> =
        simulation.disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "seg")).collect();
    segments.sort();
    let starts = |path: &PathBuf| {
        let bytes = crate::disk::Disk::read(&simulation.disk, path).expect("read");
        (1..bytes.len() / 4096)
            .map(|block| block * 4096)
            .filter(|at| bytes[*at..].starts_with(b"KFRB"))
            .collect::<Vec<_>>()
    };
    let found =
        segments.iter().rev().map(|(path, _)| (path.clone(), starts(path))).find(|(_, starts)| !starts.is_empty());
    found.expect("there is one")
}

#[test]
fn damage_before_the_last_batch_is_refused_even_without_an_orderly_stop() {
    for_seeds(20, |seed| {
        let mut simulation = stopped(seed);
        let (path, starts) = last_batches(&simulation);
        let disk = simulation.disk.cut_power(Cut::KeepAll, seed);
        // A reused segment holds older batches behind the last one, under another seed: those say nothing.
        let Some(at) = starts.first().filter(|_| starts.len() > 1) else { return };
        disk.flip(&path, at + 30, 1);
        crate::disk::Disk::unlink(&disk, &PathBuf::from("/store/CLEAN")).expect("removed");
        let bytes = crate::disk::Disk::read(&disk, &path).expect("read");
        let sequence = u64::from_le_bytes(bytes[at + 8..at + 16].try_into().expect("eight bytes"));
        let records = u32::from_le_bytes(bytes[at + 16..at + 20].try_into().expect("four bytes"));
        let is_last = sequence + u64::from(records) == simulation.parts.committer.journal.next_sequence();
        match simulation.reopen(disk) {
            Err(OpenError::Damaged { .. }) => {}
            Ok(()) => assert!(is_last, "only the last batch may look torn"),
            Err(error) => panic!("{error:?}"),
        }
    });
}

#[test]
fn after_an_orderly_stop_damage_to_the_last_batch_is_noticed() {
    let mut noticed = 0;
    for seed in 0..20 {
        let mut simulation = stopped(seed);
        let (path, starts) = last_batches(&simulation);
        for at in starts {
            let disk = simulation.disk.cut_power(Cut::KeepAll, seed);
            disk.flip(&path, at + 30, 1);
            match simulation.reopen(disk) {
                Err(OpenError::Damaged { what, .. }) => noticed += u32::from(what.contains("it ends at sequence")),
                Ok(()) => simulation.verify(),
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    assert!(noticed >= 20, "noticed {noticed} times");
}

#[test]
fn a_damaged_newest_snapshot_is_replaced_by_the_older_one_and_the_journal() {
    for_seeds(20, |seed| {
        let mut simulation = stopped(seed);
        let disk = simulation.disk.cut_power(Cut::KeepAll, seed);
        let newest = simulation.parts.checkpointer.kept.back().expect("there are two").revision;
        let path = PathBuf::from("/store/snapshots")
            .join(crate::snapshot::file_name(newest, crate::snapshot::Temperature::Hot));
        disk.flip(&path, 60 + simulation.dice.below(200) as usize, 0x10);
        simulation.reopen(disk).expect("the older one serves");
        simulation.verify();
    });
}

#[test]
fn a_missing_segment_or_format_is_refused_by_name() {
    let mut simulation = stopped(1);
    let mut names: Vec<_> = simulation
        .disk
        .files()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path.extension().is_some_and(|e| e == "seg"))
        .collect();
    names.sort();
    assert!(names.len() > 2);
    for missing in [names[names.len() - 2].clone(), PathBuf::from("/store/FORMAT")] {
        let disk = simulation.disk.cut_power(Cut::KeepAll, 1);
        crate::disk::Disk::unlink(&disk, &missing).expect("removed");
        assert!(matches!(simulation.reopen(disk), Err(OpenError::Damaged { .. })), "{}", missing.display());
    }
}
