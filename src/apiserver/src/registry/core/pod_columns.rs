//! What kubectl prints of a pod: STATUS, READY, RESTARTS and the wide columns; and its field labels.
//!
//! Invariant: pure; texts as recorded in `tables` for 17 pod states.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::text;
use crate::registry::store::meta;
use crate::storage::Object;
use crate::table::{self, AGE, Column, NAME, column, wide};

/// Columns of a pod.
pub const COLUMNS: [Column; 9] = [
    NAME,
    column("Ready", "Ready containers of all"),
    column("Status", "State in one word"),
    column("Restarts", "Restarts of all containers"),
    AGE,
    wide("IP", "Address"),
    wide("Node", "Where it runs"),
    wide("Nominated Node", "Where it will run"),
    wide("Readiness Gates", "Gates that are open"),
];

/// Field labels.
pub const LABELS: [&str; 9] = [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
];

/// Value of a field label.
pub fn field(object: &Object, label: &str) -> Option<String> {
    match label {
        "spec.hostNetwork" => {
            let host = object.get("spec").and_then(|s| s.get("hostNetwork")).and_then(Value::as_bool);
            Some(host.unwrap_or(false).to_string())
        }
        "status.podIPs" => Some(String::new()),
        _ => {
            let (root, rest) = label.split_once('.')?;
            LABELS.contains(&label).then(|| text(object, root, &format!("/{rest}")).to_owned())
        }
    }
}

fn list<'a>(object: &'a Object, root: &str, name: &str) -> &'a [Value] {
    let found = object.get(root).and_then(|s| s.get(name)).and_then(Value::as_array);
    found.map(Vec::as_slice).unwrap_or_default()
}

fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

fn is_sidecar(object: &Object, name: &str) -> bool {
    list(object, "spec", "initContainers")
        .iter()
        .any(|c| string(c, "/name") == name && string(c, "/restartPolicy") == "Always")
}

/// The reason a terminated container shows.
fn ended(status: &Value) -> String {
    let reason = string(status, "/state/terminated/reason");
    let signal = number(status, "/state/terminated/signal");
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number(status, "/state/terminated/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: String,
}

impl Summary {
    fn restarted(&mut self, status: &Value) {
        self.restarts += number(status, "/restartCount");
        let at = string(status, "/lastState/terminated/finishedAt");
        if at > self.last_restart.as_str() {
            self.last_restart = at.to_owned();
        }
    }

    /// Looks at init containers; true while they are not done.
    fn init(&mut self, object: &Object) -> bool {
        let statuses = list(object, "status", "initContainerStatuses");
        let total = list(object, "spec", "initContainers").len();
        for (at, status) in statuses.iter().enumerate() {
            self.restarted(status);
            let sidecar = is_sidecar(object, string(status, "/name"));
            let terminated = status.pointer("/state/terminated").is_some();
            if terminated && number(status, "/state/terminated/exitCode") == 0 {
                continue;
            }
            if sidecar && flag(status, "/started") {
                self.ready += usize::from(flag(status, "/ready"));
                continue;
            }
            let waiting = string(status, "/state/waiting/reason");
            self.reason = if terminated {
                format!("Init:{}", ended(status))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{at}/{total}")
            };
            return true;
        }
        false
    }

    fn main(&mut self, object: &Object) {
        let mut running = false;
        if !self.reason.starts_with("Init:") {
            self.restarts = 0;
        }
        for status in list(object, "status", "containerStatuses").iter().rev() {
            self.restarted(status);
            let waiting = string(status, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if status.pointer("/state/terminated").is_some() {
                self.reason = ended(status);
            } else if flag(status, "/ready") && status.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = list(object, "status", "conditions")
                .iter()
                .any(|c| string(c, "/type") == "Ready" && string(c, "/status") == "True");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
}

fn summary(object: &Object) -> Summary {
    let mut out = Summary { reason: text(object, "status", "/phase").to_owned(), ..Summary::default() };
    let own = text(object, "status", "/reason");
    if !own.is_empty() {
        out.reason = own.to_owned();
    }
    let gated = list(object, "status", "conditions")
        .iter()
        .any(|c| string(c, "/type") == "PodScheduled" && string(c, "/reason") == "SchedulingGated");
    if gated {
        out.reason = "SchedulingGated".to_owned();
    }
    let sidecars = list(object, "spec", "initContainers").iter().filter(|c| string(c, "/restartPolicy") == "Always");
    out.total = list(object, "spec", "containers").len() + sidecars.count();
    let initialised = list(object, "status", "conditions")
        .iter()
        .any(|c| string(c, "/type") == "Initialized" && string(c, "/status") == "True");
    if !out.init(object) || initialised {
        out.main(object);
    }
    if !meta(object, "deletionTimestamp").is_empty() {
        if own == "NodeLost" {
            out.reason = "Unknown".to_owned();
        } else if !matches!(text(object, "status", "/phase"), "Succeeded" | "Failed") {
            out.reason = "Terminating".to_owned();
        }
    }
    out
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn gates(object: &Object) -> Value {
    let wanted = list(object, "spec", "readinessGates");
    if wanted.is_empty() {
        return "<none>".into();
    }
    let conditions = list(object, "status", "conditions");
    let open = wanted.iter().filter(|gate| {
        let kind = string(gate, "/conditionType");
        conditions.iter().any(|c| string(c, "/type") == kind && string(c, "/status") == "True")
    });
    format!("{}/{}", open.count(), wanted.len()).into()
}

/// Cells of a pod's row.
pub fn cells(object: &Object, now: Timestamp) -> Vec<Value> {
    let summary = summary(object);
    let restarts = match summary.last_restart.as_str() {
        "" => summary.restarts.to_string(),
        _ if summary.restarts == 0 => "0".to_owned(),
        at => format!("{} ({} ago)", summary.restarts, table::since(at, now)),
    };
    let first_ip = list(object, "status", "podIPs").first().map(|i| string(i, "/ip")).unwrap_or_default();
    let ip = if first_ip.is_empty() { text(object, "status", "/podIP") } else { first_ip };
    vec![
        table::name(object),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        table::age(object, now),
        or_none(ip),
        or_none(text(object, "spec", "/nodeName")),
        or_none(text(object, "status", "/nominatedNodeName")),
        gates(object),
    ]
}

/// Conditions of a finished pod's row.
pub fn conditions(object: &Object) -> Option<Value> {
    let (reason, message) = match text(object, "status", "/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}
