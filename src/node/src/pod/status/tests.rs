//! The statuses that a real kubelet (1.37.2) wrote for ten pods, against what we show for the same lives.
//!
//! `testdata/statuses.jsonl` holds the recorded ones, one `{case, status}` a line in order of time; times, ids and addresses are
//! normalised. Our own condition about the runtime is left out of the comparison.

use super::super::state::{Event, State, Termination};
use super::super::step::step;
use super::{RUNTIME_CONDITION, Surroundings, plan, render};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../../testdata/statuses.jsonl");
const MOMENT: &str = "2026-01-01T00:00:00Z";

/// A pod, its life, and the statuses shown on the way.
struct Life {
    pod: Pod,
    state: State,
    shown: PodStatus,
    now: Timestamp,
    seen: Vec<Value>,
}

impl Life {
    fn new(case: &str, spec: Value) -> Self {
        let metadata = json!({"name": format!("p-{case}"), "namespace": "rec-node", "uid": "<uid-1>", "generation": 1});
        let pod: Pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod");
        let state = State::fresh(&plan(&pod));
        let shown = PodStatus { qos_class: Some("BestEffort".to_owned()), ..PodStatus::default() };
        let mut life = Self { pod, state, shown, now: MOMENT.parse().expect("a time"), seen: Vec::new() };
        life.happen(Event::Accepted);
        life
    }

    fn happen(&mut self, event: Event) -> &mut Self {
        step(&plan(&self.pod), &mut self.state, event, self.now);
        self
    }

    fn run(&mut self, container: usize) -> &mut Self {
        let (attempt, since) = (self.state.containers[container].attempt, self.now);
        self.happen(Event::Running { container, attempt, since })
    }

    fn end(&mut self, container: usize, code: i32, reason: &'static str, message: Option<&str>) -> &mut Self {
        let message = message.map(str::to_owned);
        let how = Termination { code, reason, message, started: Some(self.now), finished: self.now };
        let attempt = self.state.containers[container].attempt;
        self.happen(Event::Ended { container, attempt, how })
    }

    fn refuse(&mut self, reason: &'static str, message: &str) -> &mut Self {
        self.happen(Event::LaunchFailed { container: 0, attempt: 0, reason, message: message.to_owned() })
    }

    fn pass(&mut self, seconds: i64) -> &mut Self {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).expect("in range");
        self.happen(Event::Tick)
    }

    fn show(&mut self) -> &mut Self {
        let ids = vec!["sha256:x".to_owned(); 4];
        let around =
            Surroundings { pod: &self.pod, host_ip: "<nodeNetIP>", runtime: ("Sandbox", "in tests"), image_ids: &ids };
        self.shown = render(&plan(&self.pod), &self.state, &around, &self.shown, self.now);
        self.seen.push(normal(serde_json::to_value(&self.shown).expect("JSON")));
        self
    }
}

/// Without times, ids, our own condition, and fields that are null on the wire.
fn normal(mut status: Value) -> Value {
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != RUNTIME_CONDITION);
    }
    walk(&mut status);
    status
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match name.as_str() {
                    "startedAt" | "finishedAt" | "startTime" | "lastTransitionTime" => *field = json!("<time>"),
                    "containerID" => *field = json!("<id>"),
                    "imageID" if *field != "" => *field = json!("<id>"),
                    _ => walk(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(walk),
        _ => {}
    }
}

fn recorded(case: &str) -> Vec<Value> {
    let rows = RECORDED.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row"));
    rows.filter(|row| row["case"] == case).map(|mut row| row["status"].take()).collect()
}

/// The message of the first waiting or ended container that was recorded: a runtime's words, which are not ours to compare.
fn words(case: &str, state: &str) -> String {
    let last = recorded(case).pop().expect("a row");
    last["containerStatuses"][0]["state"][state]["message"].as_str().expect("a message").to_owned()
}

fn check(case: &str, spec: Value, live: impl FnOnce(&mut Life)) {
    let mut life = Life::new(case, spec);
    live(&mut life);
    let expected = recorded(case);
    assert_eq!(life.seen.len(), expected.len(), "{case}: number of statuses");
    for (seen, expected) in life.seen.iter().zip(&expected) {
        assert_eq!(seen, expected, "{case}:\nours     {seen}\nrecorded {expected}");
    }
}

fn once(names: &[&str]) -> Value {
    let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "busybox:1.35"})).collect();
    json!({"restartPolicy": "Never", "containers": containers})
}

#[test]
fn init_then_work_then_success() {
    let mut spec = once(&["c"]);
    spec["initContainers"] = json!([{"name": "i", "image": "busybox:1.35"}]);
    check("ok", spec, |life| {
        life.show().happen(Event::SandboxReady).show().run(0).show().end(0, 0, "Completed", None).show();
        life.run(1).show().end(1, 0, "Completed", None).show();
    });
}

#[test]
fn failures_and_success_of_two() {
    check("fail", once(&["c"]), |life| {
        life.happen(Event::SandboxReady).run(0).end(0, 7, "Error", Some("why\n")).show();
    });
    check("two", once(&["c", "d"]), |life| {
        life.happen(Event::SandboxReady).run(0).run(1).end(0, 0, "Completed", None).end(1, 0, "Completed", None).show();
    });
    let said = words("badcmd", "terminated");
    check("badcmd", once(&["c"]), |life| {
        life.happen(Event::SandboxReady).end(0, 128, "StartError", Some(&said)).show();
    });
}

#[test]
fn crashes_with_back_off() {
    let spec = json!({"containers": [{"name": "c", "image": "busybox:1.35"}]});
    check("crash", spec, |life| {
        life.happen(Event::SandboxReady).run(0).show();
        life.end(0, 1, "Error", None).run(0).show();
        life.end(0, 1, "Error", None).show();
    });
}

#[test]
fn what_a_pod_waits_for() {
    let mut spec = once(&["c"]);
    spec["containers"][0]["readinessProbe"] = json!({"exec": {"command": ["false"]}});
    check("unready", spec, |life| {
        life.happen(Event::SandboxReady).run(0).show();
    });
    let said = words("config", "waiting");
    check("config", once(&["c"]), |life| {
        life.happen(Event::SandboxReady).refuse("CreateContainerConfigError", &said).show();
    });
    check("mount", once(&["c"]), |life| {
        life.happen(Event::SandboxFailed).show();
    });
    let said = words("pull", "waiting");
    let mut spec = once(&["c"]);
    spec["containers"][0]["image"] = json!("nonesuch.invalid/x:1");
    check("pull", spec, |life| {
        life.happen(Event::SandboxReady).refuse("ErrImagePull", &said).show();
    });
}

#[test]
fn the_deadline() {
    let mut spec = once(&["c"]);
    spec["activeDeadlineSeconds"] = json!(2);
    check("deadline", spec, |life| {
        life.happen(Event::SandboxReady).run(0).pass(2).pass(30).end(0, 137, "Error", None).show();
    });
}
