//! A pod's life as a pure function: state × event → new state + effects. Driven by `pod.rs`, shown by `pod/status.rs`.
//!
//! Rules are a kubelet's: init containers in order, restart policy with back-off, grace period, deadline.
//! Invariant: every effect is idempotent, and a state rebuilt from the shim and its records leads to the same effects again, so
//! that a platform that was killed between deciding and doing goes on where it was.

use super::state::{Container, Effect, Ending, Event, Kind, Now, Plan, Restart, Sandbox, State, Termination, Waiting};
use jiff::{SignedDuration, Timestamp};

/// The first pause between restarts (the very first restart has none).
const RESTART_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// The longest pause between restarts and between attempts to get an image.
const PAUSE_MAX: SignedDuration = SignedDuration::from_mins(5);
/// A container that ran this long starts its back-off anew.
const CALM: SignedDuration = SignedDuration::from_mins(10);
/// How long `ErrImagePull` is shown before `ImagePullBackOff`.
const PULL_ERROR_SHOWN: SignedDuration = SignedDuration::from_secs(3);
/// Missing configuration and volumes are looked for again after this.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// Exit code of what SIGKILL ended, and of what was lost.
pub const KILLED: i32 = 137;

/// Applies `event` at `now` and returns what is to be done. An event of an attempt that is over changes nothing.
pub fn step(plan: &Plan, state: &mut State, event: Event, now: Timestamp) -> Vec<Effect> {
    let mut effects = Vec::new();
    apply(plan, state, event, now, &mut effects);
    advance(plan, state, now, &mut effects);
    effects
}

/// True once nothing of the pod will run again.
pub fn is_over(state: &State) -> bool {
    state.sandbox == Sandbox::Over
}

fn apply(plan: &Plan, state: &mut State, event: Event, now: Timestamp, effects: &mut Vec<Effect>) {
    if state.sandbox == Sandbox::Over && !matches!(event, Event::Delete { .. } | Event::StatusWritten) {
        return;
    }
    match event {
        Event::Accepted => {
            state.started_at.get_or_insert(now);
        }
        Event::SandboxReady if state.sandbox == Sandbox::Making => state.sandbox = Sandbox::Ready,
        Event::SandboxFailed if state.sandbox == Sandbox::Making => {
            state.sandbox = Sandbox::Absent;
            state.sandbox_retry_at = Some(later(now, LOOK_AGAIN));
        }
        Event::LaunchFailed { container, attempt, reason, message } => {
            if let Some(one) = current(state, container, attempt) {
                launch_failed(one, reason, message, now);
            }
        }
        Event::Running { container, attempt, since } => {
            if let Some(one) = current(state, container, attempt)
                && one.now == Now::Launching
            {
                one.now = Now::Running(since);
                one.retry_at = None;
            }
        }
        Event::Ended { container, attempt, how } => {
            let kind = plan.kinds.get(container).copied().unwrap_or(Kind::Main);
            let ending = state.ending.is_some();
            if let Some(one) = current(state, container, attempt) {
                ended(plan, kind, one, how, ending, now);
                if one.retry_at.is_some_and(|at| at > now) {
                    effects.push(Effect::SayBackOff { container });
                }
            }
        }
        Event::Lost { restart } => lost(plan, state, restart, now),
        Event::Probed { container, ready, started } => {
            if let Some(one) = state.containers.get_mut(container) {
                (one.ready, one.started) = (ready, started);
            }
        }
        Event::Unhealthy { container } => {
            if let Some(one) =
                state.containers.get_mut(container).filter(|one| matches!(one.now, Now::Running(_)) && !one.terminated)
            {
                one.terminated = true;
                one.retry_at = Some(later(now, plan.grace));
                effects.push(Effect::Signal { container, kill: false });
            }
        }
        Event::Delete { grace } => {
            let kill_at = later(now, grace);
            match &mut state.ending {
                Some(ending) => {
                    ending.delete = true;
                    ending.kill_at = ending.kill_at.min(kill_at);
                }
                None => state.ending = Some(Ending { kill_at, delete: true, reason: None }),
            }
            if state.sandbox == Sandbox::Over && state.released {
                settled(state, effects);
            }
        }
        Event::StatusWritten if state.sandbox == Sandbox::Over => settled(state, effects),
        Event::SandboxReady | Event::SandboxFailed | Event::StatusWritten | Event::Tick => {}
    }
}

/// The container if `attempt` is the one that counts, and was started and has not ended.
fn current(state: &mut State, container: usize, attempt: u32) -> Option<&mut Container> {
    let one = state.containers.get_mut(container)?;
    (one.attempt == attempt && one.is_active()).then_some(one)
}

fn launch_failed(one: &mut Container, reason: &'static str, message: String, now: Timestamp) {
    one.now = Now::Waiting(Waiting { reason: Some(reason), message: Some(message) });
    if reason == "ErrImagePull" {
        one.failures += 1;
        one.retry_at = Some(later(now, PULL_ERROR_SHOWN));
    } else {
        one.retry_at = Some(later(now, LOOK_AGAIN));
    }
}

fn ended(plan: &Plan, kind: Kind, one: &mut Container, how: Termination, ending: bool, now: Timestamp) {
    let ran = how.started.map_or(SignedDuration::ZERO, |start| how.finished.duration_since(start));
    let again = !ending && restarts(plan, kind, &how);
    one.failures = if ran >= CALM { 1 } else { one.failures + 1 };
    one.retry_at = again.then(|| later(now, restart_pause(one)));
    one.now = Now::Ended(how);
}

/// Whether the policy starts this container again.
fn restarts(plan: &Plan, kind: Kind, how: &Termination) -> bool {
    match (plan.restart, kind) {
        (_, Kind::Sidecar) => true,
        (Restart::Always, Kind::Main) => true,
        (Restart::Always | Restart::OnFailure, _) => how.code != 0,
        (Restart::Never, _) => false,
    }
}

/// The pause before the next start of a container that ended; zero where it starts at once.
pub fn restart_pause(one: &Container) -> SignedDuration {
    if one.failures <= 1 { SignedDuration::ZERO } else { pause(one.failures - 2) }
}

/// 10 s, 20 s, 40 s … 5 min.
fn pause(doublings: u32) -> SignedDuration {
    let factor = 1_i32.checked_shl(doublings.min(10)).unwrap_or(1024);
    RESTART_PAUSE.checked_mul(factor).unwrap_or(PAUSE_MAX).min(PAUSE_MAX)
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// What is said of a container that was lost.
pub fn lost_message(restart: bool) -> &'static str {
    if restart {
        "the machine was restarted while this container ran"
    } else {
        "the process that kept this container was lost, and the container with it"
    }
}

fn lost(plan: &Plan, state: &mut State, restart: bool, now: Timestamp) {
    if state.sandbox == Sandbox::Over {
        return;
    }
    let ending = state.ending.is_some();
    for (one, kind) in state.containers.iter_mut().zip(&plan.kinds) {
        if !one.is_active() {
            continue;
        }
        let started = if let Now::Running(since) = one.now { Some(since) } else { None };
        let message = Some(lost_message(restart).to_owned());
        let how = Termination { code: KILLED, reason: "ContainerStatusUnknown", message, started, finished: now };
        ended(plan, *kind, one, how, ending, now);
    }
    state.sandbox = Sandbox::Absent;
    state.sandbox_retry_at = None;
}

/// Everything that follows from the state and the time.
fn advance(plan: &Plan, state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    if state.sandbox == Sandbox::Over {
        return;
    }
    deadline(plan, state, now, effects);
    if state.ending.is_some() {
        end_containers(state, now, effects);
    } else if work_is_done(plan, state) {
        state.ending = None;
        end_sidecars(plan, state, now, effects);
    } else {
        go_on(plan, state, now, effects);
    }
    let idle = !state.containers.iter().any(Container::is_active);
    if idle && (state.ending.is_some() || work_is_done(plan, state)) && state.sandbox != Sandbox::Making {
        state.sandbox = Sandbox::Over;
    }
}

fn deadline(plan: &Plan, state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    let (None, Some(limit), Some(start)) = (&state.ending, plan.deadline, state.started_at) else { return };
    if later(start, limit) <= now && !work_is_done(plan, state) {
        let kill_at = later(now, plan.grace);
        state.ending = Some(Ending { kill_at, delete: false, reason: Some("DeadlineExceeded") });
        effects.push(Effect::SayDeadline);
    }
}

fn end_containers(state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    let kill = state.ending.as_ref().is_some_and(|ending| ending.kill_at <= now);
    for (container, one) in state.containers.iter_mut().enumerate() {
        end_one(container, one, kill, effects);
    }
}

fn end_one(container: usize, one: &mut Container, kill: bool, effects: &mut Vec<Effect>) {
    if !matches!(one.now, Now::Running(_)) {
        return;
    }
    if !one.terminated {
        one.terminated = true;
        effects.push(Effect::SayKilling { container });
        if !kill {
            effects.push(Effect::Signal { container, kill: false });
        }
    }
    if kill && !one.killed {
        one.killed = true;
        effects.push(Effect::Signal { container, kill: true });
    }
}

/// The main containers have ended: what still runs beside them ends too.
fn end_sidecars(plan: &Plan, state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    for (container, one) in state.containers.iter_mut().enumerate() {
        if matches!(one.now, Now::Running(_)) {
            let kill = one.retry_at.is_some_and(|at| at <= now);
            if one.retry_at.is_none() {
                one.retry_at = Some(later(now, plan.grace));
            }
            end_one(container, one, kill, effects);
        }
    }
}

/// True when nothing but sidecars could still run: all main containers ended for good, or an init container did and failed.
pub fn work_is_done(plan: &Plan, state: &State) -> bool {
    let mut mains_ended = true;
    for (one, kind) in state.containers.iter().zip(&plan.kinds) {
        let for_good = match &one.now {
            Now::Ended(how) if !restarts(plan, *kind, how) => Some(how.code),
            _ => None,
        };
        match (kind, for_good) {
            (Kind::Init, Some(code)) if code != 0 => return true,
            (Kind::Main, None) => mains_ended = false,
            _ => {}
        }
    }
    mains_ended
}

fn go_on(plan: &Plan, state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    match state.sandbox {
        Sandbox::Absent if state.sandbox_retry_at.is_none_or(|at| at <= now) => {
            state.sandbox = Sandbox::Making;
            state.sandbox_retry_at = None;
            effects.push(Effect::MakeSandbox);
        }
        Sandbox::Ready => start_due(plan, state, now, effects),
        Sandbox::Absent | Sandbox::Making | Sandbox::Over => {}
    }
}

fn start_due(plan: &Plan, state: &mut State, now: Timestamp, effects: &mut Vec<Effect>) {
    for (container, (one, kind)) in state.containers.iter_mut().zip(&plan.kinds).enumerate() {
        // A liveness probe asked for its end; the grace period is over.
        if matches!(one.now, Now::Running(_))
            && one.terminated
            && !one.killed
            && one.retry_at.is_some_and(|at| at <= now)
        {
            one.killed = true;
            effects.push(Effect::Signal { container, kill: true });
        }
        let due = one.retry_at.is_none_or(|at| at <= now);
        match &one.now {
            Now::Waiting(waiting) if due && waiting.reason == Some("ErrImagePull") => {
                back_off_pull(container, one, now, effects)
            }
            Now::Waiting(_) if due => launch(plan, container, one, effects),
            Now::Ended(how) if due && restarts(plan, *kind, how) => {
                one.last = Some(how.clone());
                one.attempt += 1;
                launch(plan, container, one, effects);
            }
            _ => {}
        }
        let lets_next_start = match (kind, &one.now) {
            (Kind::Init, Now::Ended(how)) => how.code == 0,
            (Kind::Sidecar, Now::Running(_)) => one.started,
            (Kind::Main, _) => true,
            _ => false,
        };
        if !lets_next_start {
            return;
        }
    }
}

fn launch(plan: &Plan, container: usize, one: &mut Container, effects: &mut Vec<Effect>) {
    let watched = plan.watched.get(container).copied().unwrap_or_default();
    (one.ready, one.started) = (!watched.readiness, !watched.startup);
    one.now = Now::Launching;
    (one.retry_at, one.terminated, one.killed) = (None, false, false);
    effects.push(Effect::Launch { container, attempt: one.attempt });
}

/// Shows the pause after a failed pull, as a kubelet does between two tries.
fn back_off_pull(container: usize, one: &mut Container, now: Timestamp, effects: &mut Vec<Effect>) {
    let Now::Waiting(waiting) = &mut one.now else { return };
    waiting.reason = Some("ImagePullBackOff");
    one.retry_at = Some(later(now, pause(one.failures.saturating_sub(1))));
    effects.push(Effect::SayPullBackOff { container });
}

/// The last status is stored: the shim may go, and so may the object if somebody deleted it.
fn settled(state: &mut State, effects: &mut Vec<Effect>) {
    if !state.released {
        state.released = true;
        effects.push(Effect::Release);
    }
    if state.ending.as_ref().is_some_and(|ending| ending.delete) && !state.deleted {
        state.deleted = true;
        effects.push(Effect::Remove);
    }
}

#[cfg(test)]
mod tests;
