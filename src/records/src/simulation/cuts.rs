//! The power goes: nothing acknowledged is missing, nothing is half there, the store opens.

use super::*;

/// Drives the store until its disk is gone; the transactions of the batch in flight are in doubt.
fn run_until_cut(simulation: &mut Simulation) -> Vec<Vec<Op>> {
    let at = simulation.disk.operations() + 1 + simulation.dice.below(180);
    simulation.disk.fail(at, Fault::PowerOff);
    loop {
        if let Err(refused) = simulation.commit() {
            return refused.in_doubt;
        }
        simulation.maintain();
    }
}

/// Opens what is left, which may be cut off again while it opens.
fn reboot(simulation: &mut Simulation, mode: Cut) {
    loop {
        let seed = simulation.dice.roll();
        let disk = simulation.disk.clone();
        let left = if simulation.dice.one_in(4) {
            disk.kill_process();
            disk
        } else {
            disk.cut_power(mode, seed)
        };
        if simulation.dice.one_in(4) {
            left.fail(left.operations() + 1 + simulation.dice.below(4), Fault::PowerOff);
        }
        match simulation.reopen(left.clone()) {
            Ok(()) => return,
            Err(OpenError::Io { source, .. }) if source.to_string().contains("power") => simulation.disk = left,
            Err(error) => panic!("the store does not open: {error}"),
        }
    }
}

/// The batch in flight may be there, as a whole, but for transactions whose blobs could not be written.
pub(super) fn settle_doubt(simulation: &mut Simulation, in_doubt: &[Vec<Op>]) {
    let has_blob = |ops: &Vec<Op>| ops.iter().any(|op| matches!(op, Op::Put(_, _, value) if value.len() > 64 << 10));
    let (rows, revision) = (simulation.rows(), simulation.parts.shared.stored.read().state.revision);
    let blobs = in_doubt.iter().filter(|ops| has_blob(ops)).count();
    if rows == simulation.model.rows && revision == simulation.model.revision {
        return;
    }
    for kept in 0u32..1 << blobs {
        let mut model = simulation.model.clone();
        let mut blob = 0;
        for ops in in_doubt {
            if !has_blob(ops) || kept & (1 << blob) != 0 {
                model.apply(ops);
            }
            blob += u32::from(has_blob(ops));
        }
        if model.rows == rows && model.revision == revision {
            simulation.model = model;
            return;
        }
    }
}

fn check(seed: u64) {
    let mut simulation = Simulation::start(seed, 256 << 20);
    for generation in 0..4 {
        let in_doubt = run_until_cut(&mut simulation);
        let mode = [Cut::KeepAll, Cut::DropAll, Cut::Random, Cut::Random][(seed as usize + generation) % 4];
        reboot(&mut simulation, mode);
        settle_doubt(&mut simulation, &in_doubt);
        simulation.verify();
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_any_power_cut() {
    for_seeds(500, check);
}
