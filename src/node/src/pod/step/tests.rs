//! Properties of a pod's life under any order of events, and the rules that people know by heart.

use super::super::state::{Container, Effect, Event, Kind, Now, Plan, Restart, Sandbox, State, Termination};
use super::{is_over, restart_pause, step, work_is_done};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).expect("in range")
}

fn end(code: i32, now: Timestamp) -> Termination {
    let reason = if code == 0 { "Completed" } else { "Error" };
    Termination { code, reason, message: None, started: Some(now), finished: now }
}

fn plan(kinds: &[Kind], restart: Restart) -> Plan {
    Plan { kinds: kinds.to_vec(), watched: Vec::new(), restart, deadline: None, grace: SignedDuration::from_secs(30) }
}

/// A world that carries out effects at once and lets every container end with the codes given for it, in turn.
struct Script<'a> {
    plan: &'a Plan,
    state: State,
    now: Timestamp,
    starts: Vec<(usize, u32)>,
    effects: Vec<Effect>,
}

impl<'a> Script<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut script = Self { plan, state: State::fresh(plan), now: at(0), starts: Vec::new(), effects: Vec::new() };
        script.happen(Event::Accepted);
        script
    }

    fn happen(&mut self, event: Event) {
        let mut queue = step(self.plan, &mut self.state, event, self.now);
        while !queue.is_empty() {
            let effect = queue.remove(0);
            let follows = match &effect {
                Effect::MakeSandbox => Some(Event::SandboxReady),
                Effect::Launch { container, attempt } => {
                    self.starts.push((*container, *attempt));
                    Some(Event::Running { container: *container, attempt: *attempt, since: self.now })
                }
                Effect::Signal { container, .. } => {
                    let attempt = self.state.containers[*container].attempt;
                    Some(Event::Ended { container: *container, attempt, how: end(143, self.now) })
                }
                _ => None,
            };
            self.effects.push(effect);
            if let Some(event) = follows {
                queue.extend(step(self.plan, &mut self.state, event, self.now));
            }
        }
    }

    fn end(&mut self, container: usize, code: i32) {
        let attempt = self.state.containers[container].attempt;
        self.happen(Event::Ended { container, attempt, how: end(code, self.now) });
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("in range");
        self.happen(Event::Tick);
    }
}

#[test]
fn init_containers_come_in_order_and_the_pod_ends_with_its_work() {
    let plan = plan(&[Kind::Init, Kind::Init, Kind::Main, Kind::Main], Restart::Never);
    let mut script = Script::new(&plan);
    assert_eq!(script.starts, [(0, 0)]);
    script.end(0, 0);
    script.end(1, 0);
    assert_eq!(script.starts, [(0, 0), (1, 0), (2, 0), (3, 0)]);
    script.end(3, 0);
    assert!(!is_over(&script.state));
    script.end(2, 1);
    assert!(is_over(&script.state));
    script.happen(Event::StatusWritten);
    assert!(script.effects.ends_with(&[Effect::Release]));
}

#[test]
fn a_failed_init_container_ends_a_pod_that_never_restarts() {
    let plan = plan(&[Kind::Init, Kind::Main], Restart::Never);
    let mut script = Script::new(&plan);
    script.end(0, 1);
    assert!(is_over(&script.state));
    assert_eq!(script.starts, [(0, 0)]);
}

#[test]
fn restarts_come_at_once_then_after_ten_seconds_doubling_to_five_minutes() {
    let plan = plan(&[Kind::Main], Restart::Always);
    let mut script = Script::new(&plan);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        script.end(0, 0);
        let pause = restart_pause(&script.state.containers[0]).as_secs();
        pauses.push(pause);
        script.pass(pause);
    }
    assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(script.state.containers[0].attempt, 8);
}

#[test]
fn sidecars_start_before_the_work_and_end_after_it() {
    let plan = plan(&[Kind::Sidecar, Kind::Main], Restart::Never);
    let mut script = Script::new(&plan);
    assert_eq!(script.starts, [(0, 0), (1, 0)]);
    script.end(1, 0);
    assert!(script.effects.contains(&Effect::Signal { container: 0, kill: false }));
    assert!(is_over(&script.state));
}

#[test]
fn deletion_after_the_end_removes_the_object_once_the_status_is_written() {
    let plan = plan(&[Kind::Main], Restart::Never);
    let mut script = Script::new(&plan);
    script.end(0, 0);
    script.happen(Event::StatusWritten);
    script.happen(Event::Delete { grace: SignedDuration::from_secs(30) });
    script.happen(Event::Delete { grace: SignedDuration::from_secs(0) });
    assert_eq!(script.effects.iter().filter(|effect| **effect == Effect::Remove).count(), 1);
}

#[test]
fn an_image_that_cannot_be_had_is_tried_again_with_growing_pauses() {
    let plan = plan(&[Kind::Main], Restart::Never);
    let mut state = State::fresh(&plan);
    step(&plan, &mut state, Event::Accepted, at(0));
    assert_eq!(step(&plan, &mut state, Event::SandboxReady, at(0)), [Effect::Launch { container: 0, attempt: 0 }]);
    let failed = || Event::LaunchFailed { container: 0, attempt: 0, reason: "ErrImagePull", message: String::new() };
    step(&plan, &mut state, failed(), at(0));
    assert_eq!(step(&plan, &mut state, Event::Tick, at(3_000)), [Effect::SayPullBackOff { container: 0 }]);
    assert_eq!(step(&plan, &mut state, Event::Tick, at(12_000)), []);
    assert_eq!(step(&plan, &mut state, Event::Tick, at(13_000)), [Effect::Launch { container: 0, attempt: 0 }]);
    step(&plan, &mut state, failed(), at(13_000));
    step(&plan, &mut state, Event::Tick, at(16_000));
    assert_eq!(state.wake_at(&plan), Some(at(36_000)));
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Init), Just(Kind::Sidecar)]
}

fn plans() -> impl Strategy<Value = Plan> {
    let restart = prop_oneof![Just(Restart::Always), Just(Restart::OnFailure), Just(Restart::Never)];
    (proptest::collection::vec(kind(), 0..3), 1..3_usize, restart, proptest::option::of(1..100_i64)).prop_map(
        |(mut kinds, mains, restart, deadline)| {
            kinds.extend(std::iter::repeat_n(Kind::Main, mains));
            let deadline = deadline.map(SignedDuration::from_secs);
            Plan { kinds, watched: Vec::new(), restart, deadline, grace: SignedDuration::from_secs(5) }
        },
    )
}

fn events() -> impl Strategy<Value = (Event, i64)> {
    let which = || (0..5_usize, 0..4_u32);
    let event = prop_oneof![
        3 => Just(Event::SandboxReady),
        1 => Just(Event::SandboxFailed),
        6 => which().prop_map(|(container, attempt)| Event::Running { container, attempt, since: at(0) }),
        6 => (which(), 0..3).prop_map(|((container, attempt), code)| {
            Event::Ended { container, attempt, how: end(code, at(0)) }
        }),
        2 => (which(), any::<bool>()).prop_map(|((container, attempt), pull)| {
            let reason = if pull { "ErrImagePull" } else { "CreateContainerConfigError" };
            Event::LaunchFailed { container, attempt, reason, message: String::new() }
        }),
        1 => any::<bool>().prop_map(|restart| Event::Lost { restart }),
        1 => (0..20_i64).prop_map(|grace| Event::Delete { grace: SignedDuration::from_secs(grace) }),
        1 => (0..5_usize).prop_map(|container| Event::Unhealthy { container }),
        2 => Just(Event::StatusWritten),
        6 => Just(Event::Tick),
    ];
    (event, 0..20_000_i64)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(plan in plans(), events in proptest::collection::vec(events(), 1..60)) {
        let mut state = State::fresh(&plan);
        let mut now = at(0);
        let mut launched: Vec<(usize, u32)> = Vec::new();
        let (mut released, mut removed) = (0, 0);
        let mut all = vec![(Event::Accepted, 0)];
        all.extend(events);
        for (event, passed) in all {
            now = now.checked_add(SignedDuration::from_millis(passed)).expect("in range");
            let before = state.clone();
            let effects = step(&plan, &mut state, event, now);
            // What is over stays over, as it was.
            if is_over(&before) {
                prop_assert!(is_over(&state));
                prop_assert_eq!(&state.containers, &before.containers);
            }
            for effect in &effects {
                match effect {
                    Effect::Launch { container, attempt } => {
                        prop_assert_eq!(before.ending.is_some(), false, "nothing starts in a pod that is being ended");
                        let inits = plan.kinds.iter().zip(&state.containers).take(*container);
                        let in_order = inits.filter(|(kind, _)| **kind == Kind::Init).all(|(_, one)| matches!(&one.now, Now::Ended(how) if how.code == 0));
                        prop_assert!(in_order, "init containers before it are done");
                        launched.push((*container, *attempt));
                    }
                    Effect::Release => released += 1,
                    Effect::Remove => removed += 1,
                    _ => {}
                }
            }
            // Attempts of a container only grow.
            for (old, new) in before.containers.iter().zip(&state.containers) {
                prop_assert!(new.attempt >= old.attempt);
            }
            // A pod that is not over waits for something: an event, or a time.
            if !is_over(&state) {
                let waits = state.sandbox == Sandbox::Making || state.containers.iter().any(Container::is_active);
                prop_assert!(waits || state.wake_at(&plan).is_some(), "stuck: {:?}", state);
                prop_assert!(waits || !work_is_done(&plan, &state), "done but not over: {:?}", state);
            }
        }
        prop_assert!(released <= 1 && removed <= 1);
    }
}
