//! Who uses what: nodes with their room, placed pods, waiting pods. Decides where a pod goes.
//!
//! Invariant: pure; the sums of a node are those of its placed, unfinished pods.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::slim::{Container, Node, Pod, Taint, Toleration};

/// An amount of what is scheduled. Wider than the `i64` of one quantity, so that no number of huge requests adds up past it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub cpu_milli: i128,
    /// Bytes.
    pub memory_bytes: i128,
    /// Pods.
    pub pods: i128,
}

impl Amount {
    fn add(&mut self, other: Amount) {
        self.cpu_milli += other.cpu_milli;
        self.memory_bytes += other.memory_bytes;
        self.pods += other.pods;
    }

    fn subtract(&mut self, other: Amount) {
        self.cpu_milli -= other.cpu_milli;
        self.memory_bytes -= other.memory_bytes;
        self.pods -= other.pods;
    }
}

/// A pod that waits for a node.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    priority: i32,
    created: String,
    wants: Amount,
    selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
}

/// A decision.
#[derive(Debug)]
pub struct Placement {
    /// The pod.
    pub pod: Waiting,
    /// Where it goes.
    pub node: String,
}

#[derive(Default)]
struct Room {
    allocatable: Amount,
    used: Amount,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    cordoned: bool,
    known: bool,
}

/// Order of the queue: higher priority, then older, then by name.
type Rank = (std::cmp::Reverse<i32>, String, String, String);

/// See the module.
#[derive(Default)]
pub struct Accounts {
    nodes: BTreeMap<String, Room>,
    placed: HashMap<String, (String, Amount)>,
    queue: BTreeSet<Rank>,
    waiting: HashMap<String, Waiting>,
}

/// The value in thousandths (`unit` 1000) or whole units, at most what Kubernetes holds in an `i64`.
fn quantity(text: &str, unit: f64) -> i128 {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '-' | '+')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let number: f64 = number.parse().unwrap_or(0.0);
    let factor = match suffix {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024.0,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        other => other.strip_prefix(['e', 'E']).and_then(|p| p.parse().ok()).map_or(1.0, |p: i32| 10f64.powi(p)),
    };
    i128::from((number * factor * unit).ceil() as i64)
}

fn of_container(container: &Container) -> Amount {
    let get = |name: &str, unit: f64| container.resources.requests.get(name).map_or(0, |q| quantity(q, unit));
    Amount { cpu_milli: get("cpu", 1000.0), memory_bytes: get("memory", 1.0), pods: 0 }
}

/// What a pod asks for: its containers and sidecars together, or its largest init container.
fn wants(pod: &Pod) -> Amount {
    let mut sum = Amount { pods: 1, ..Amount::default() };
    pod.spec.containers.iter().for_each(|c| sum.add(of_container(c)));
    for container in &pod.spec.init_containers {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(own);
        } else {
            sum.cpu_milli = sum.cpu_milli.max(own.cpu_milli);
            sum.memory_bytes = sum.memory_bytes.max(own.memory_bytes);
        }
    }
    sum
}

fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|t| {
        let key = t.key.as_deref().unwrap_or_default();
        let effect = t.effect.as_deref().unwrap_or_default();
        let value = t.operator.as_deref() == Some("Exists")
            || t.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        (key.is_empty() || key == taint.key) && (effect.is_empty() || effect == taint.effect) && value
    })
}

impl Waiting {
    fn rank(&self) -> Rank {
        (
            std::cmp::Reverse(self.priority),
            self.created.clone(),
            format!("{}/{}", self.namespace, self.name),
            self.uid.clone(),
        )
    }
}

impl Room {
    /// Why a pod may not be here at all, however much room there is.
    fn bars(&self, pod: &Waiting) -> Vec<String> {
        let mut out = Vec::new();
        if !self.known || self.cordoned {
            out.push("node(s) were unschedulable".to_owned());
        }
        let barred = self
            .taints
            .iter()
            .find(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerates(&pod.tolerations, t));
        if let Some(taint) = barred {
            out.push(format!(
                "node(s) had untolerated taint(s) {{{}: {}}}",
                taint.key,
                taint.value.clone().unwrap_or_default()
            ));
        }
        if pod.selector.iter().any(|(k, v)| self.labels.get(k) != Some(v)) {
            out.push("node(s) didn't match Pod's node affinity/selector".to_owned());
        }
        out
    }

    /// Why a pod does not fit here; empty if it does.
    fn refuses(&self, pod: &Waiting) -> Vec<String> {
        let mut out = self.bars(pod);
        if !out.is_empty() {
            return out;
        }
        let left = |all: i128, used: i128, wanted: i128| wanted > 0 && used + wanted > all;
        if left(self.allocatable.pods, self.used.pods, pod.wants.pods) {
            out.push("Too many pods".to_owned());
        }
        if left(self.allocatable.cpu_milli, self.used.cpu_milli, pod.wants.cpu_milli) {
            out.push("Insufficient cpu".to_owned());
        }
        if left(self.allocatable.memory_bytes, self.used.memory_bytes, pod.wants.memory_bytes) {
            out.push("Insufficient memory".to_owned());
        }
        out
    }
}

impl Accounts {
    /// Takes in a pod's present state.
    pub fn apply_pod(&mut self, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        let finished = matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        match pod.spec.node_name.as_deref().filter(|n| !n.is_empty()) {
            _ if finished => self.remove_pod(&uid),
            Some(node) => {
                self.unqueue(&uid);
                self.charge(&uid, node, wants(pod));
            }
            None if self.placed.contains_key(&uid) => {}
            None => self.enqueue(uid, pod),
        }
    }

    fn enqueue(&mut self, uid: String, pod: &Pod) {
        let ours = pod.spec.scheduler_name.as_deref().is_none_or(|s| s == "default-scheduler");
        if !ours || !pod.spec.scheduling_gates.is_empty() || pod.metadata.deletion_timestamp.is_some() {
            self.unqueue(&uid);
            return;
        }
        let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0.to_string()).unwrap_or_default();
        let waiting = Waiting {
            uid: uid.clone(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            priority: pod.spec.priority.unwrap_or(0),
            created,
            wants: wants(pod),
            selector: pod.spec.node_selector.clone(),
            tolerations: pod.spec.tolerations.clone(),
        };
        self.unqueue(&uid);
        self.queue.insert(waiting.rank());
        self.waiting.insert(uid, waiting);
    }

    fn unqueue(&mut self, uid: &str) {
        if let Some(waiting) = self.waiting.remove(uid) {
            self.queue.remove(&waiting.rank());
        }
    }

    fn charge(&mut self, uid: &str, node: &str, amount: Amount) {
        if self.placed.get(uid).is_some_and(|(on, own)| on == node && *own == amount) {
            return;
        }
        self.discharge(uid);
        self.nodes.entry(node.to_owned()).or_default().used.add(amount);
        self.placed.insert(uid.to_owned(), (node.to_owned(), amount));
    }

    fn discharge(&mut self, uid: &str) {
        if let Some((node, amount)) = self.placed.remove(uid)
            && let Some(room) = self.nodes.get_mut(&node)
        {
            room.used.subtract(amount);
        }
    }

    /// Forgets a pod that is gone or finished.
    pub fn remove_pod(&mut self, uid: &str) {
        self.unqueue(uid);
        self.discharge(uid);
    }

    /// Undoes a placement whose binding failed; the watch says what the pod is now.
    pub fn release(&mut self, uid: &str) {
        self.discharge(uid);
    }

    /// Forgets every pod that is not among these.
    pub fn keep_pods(&mut self, uids: &HashSet<String>) {
        let known: Vec<String> =
            self.placed.keys().chain(self.waiting.keys()).filter(|u| !uids.contains(*u)).cloned().collect();
        known.iter().for_each(|uid| self.remove_pod(uid));
    }

    /// Takes in a node's present state.
    pub fn apply_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let room = self.nodes.entry(name).or_default();
        let get = |name: &str, unit: f64| node.status.allocatable.get(name).map_or(0, |q| quantity(q, unit));
        room.allocatable =
            Amount { cpu_milli: get("cpu", 1000.0), memory_bytes: get("memory", 1.0), pods: get("pods", 1.0) };
        room.labels = node.metadata.labels.clone().unwrap_or_default();
        room.taints = node.spec.taints.clone();
        room.cordoned = node.spec.unschedulable;
        room.known = true;
    }

    /// A node is gone; its pods stay charged until they are.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(room) = self.nodes.get_mut(name) {
            room.known = false;
        }
    }

    /// Places up to `limit` waiting pods, first come of the highest priority first.
    pub fn place(&mut self, limit: usize) -> Vec<Placement> {
        let mut out = Vec::new();
        let mut full: Vec<Amount> = Vec::new();
        if !self.any_place_left() {
            return out;
        }
        let order: Vec<String> = self.queue.iter().map(|rank| rank.3.clone()).collect();
        for uid in order {
            if out.len() >= limit || !self.any_place_left() {
                break;
            }
            let Some(pod) = self.waiting.get(&uid).cloned() else { continue };
            // What did not fit for want of room will not fit for another pod that may be anywhere.
            if full.contains(&pod.wants) && self.nodes.values().all(|room| room.bars(&pod).is_empty()) {
                continue;
            }
            let best = self
                .nodes
                .iter()
                .filter(|(_, room)| room.refuses(&pod).is_empty())
                .min_by_key(|(_, room)| room.used.pods)
                .map(|(name, _)| name.clone());
            match best {
                Some(node) => {
                    self.unqueue(&pod.uid);
                    self.charge(&pod.uid, &node, pod.wants);
                    out.push(Placement { pod, node });
                }
                None if self.nodes.values().all(|room| room.bars(&pod).is_empty()) => full.push(pod.wants),
                None => {}
            }
            if full.len() >= PROBES_LIMIT {
                break;
            }
        }
        out
    }

    /// Whether any node takes one more pod at all: a long queue before a full node costs nothing.
    fn any_place_left(&self) -> bool {
        self.nodes.values().any(|room| room.known && !room.cordoned && room.used.pods < room.allocatable.pods)
    }

    /// Waiting pods in order.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.queue.iter().filter_map(|rank| self.waiting.get(&rank.3).cloned()).collect()
    }

    /// Why a pod waits, as kube-scheduler says it.
    pub fn why(&self, pod: &Waiting) -> String {
        let known: Vec<&Room> = self.nodes.values().filter(|r| r.known).collect();
        if known.is_empty() {
            return "no nodes available to schedule pods".to_owned();
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for reason in known.iter().flat_map(|room| room.refuses(pod)) {
            *counts.entry(reason).or_default() += 1;
        }
        let parts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        format!("0/{} nodes are available: {}.", known.len(), parts.join(", "))
    }
}

/// Different requests that did not fit before a pass gives up: what follows in the queue waits as well.
const PROBES_LIMIT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pods: &str, cpu: &str) -> Node {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "n"}, "status": {"allocatable": {"pods": pods, "cpu": cpu, "memory": "1Gi"}},
        }))
        .unwrap()
    }

    fn pod(name: &str, cpu: &str, priority: i32) -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"priority": priority, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
        }))
        .unwrap()
    }

    fn place(accounts: &mut Accounts) -> Vec<String> {
        accounts.place(100).into_iter().map(|p| p.pod.name).collect()
    }

    #[test]
    fn no_node_gets_more_than_it_has_and_the_end_of_a_pod_makes_room() {
        let mut accounts = Accounts::default();
        accounts.apply_node(&node("10", "1"));
        for name in ["a", "b", "c"] {
            accounts.apply_pod(&pod(name, "500m", 0));
        }
        assert_eq!(place(&mut accounts), ["a", "b"]);
        let waiting = accounts.waiting();
        assert_eq!(accounts.why(&waiting[0]), "0/1 nodes are available: 1 Insufficient cpu.");
        accounts.remove_pod("a");
        assert_eq!(place(&mut accounts), ["c"]);
    }

    #[test]
    fn priority_goes_first_and_the_number_of_pods_counts() {
        let mut accounts = Accounts::default();
        accounts.apply_node(&node("1", "8"));
        accounts.apply_pod(&pod("low", "0", 0));
        accounts.apply_pod(&pod("high", "0", 5));
        assert_eq!(place(&mut accounts), ["high"]);
        let waiting = accounts.waiting();
        assert_eq!(accounts.why(&waiting[0]), "0/1 nodes are available: 1 Too many pods.");
    }

    #[test]
    fn a_pod_that_may_be_nowhere_holds_nobody_up() {
        let mut accounts = Accounts::default();
        accounts.apply_node(&node("10", "8"));
        let mut picky = pod("a-picky", "0", 0);
        picky.spec.node_selector.insert("no.example/such".into(), "node".into());
        accounts.apply_pod(&picky);
        accounts.apply_pod(&pod("b", "0", 0));
        assert_eq!(place(&mut accounts), ["b"]);
    }

    #[test]
    fn taints_keep_pods_away() {
        let mut accounts = Accounts::default();
        let mut tainted = node("10", "8");
        tainted.spec.taints.push(Taint {
            key: "node.kubernetes.io/not-ready".into(),
            value: None,
            effect: "NoSchedule".into(),
        });
        accounts.apply_node(&tainted);
        accounts.apply_pod(&pod("a", "0", 0));
        assert!(place(&mut accounts).is_empty());
        accounts.apply_node(&node("10", "8"));
        assert_eq!(place(&mut accounts), ["a"]);
    }

    #[test]
    fn quantities_count_in_their_unit() {
        assert_eq!(quantity("500m", 1000.0), 500);
        assert_eq!(quantity("2", 1000.0), 2000);
        assert_eq!(quantity("1Gi", 1.0), 1 << 30);
        assert_eq!(quantity("1e3", 1.0), 1000);
        assert_eq!(quantity("1Ei", 1.0), 1 << 60);
    }

    #[test]
    fn huge_requests_never_look_small() {
        let mut accounts = Accounts::default();
        accounts.apply_node(&node("10", "8"));
        for memory in ["1Ei", "8E"] {
            let container = serde_json::json!({"resources": {"requests": {"memory": memory}}});
            let huge: Pod = serde_json::from_value(serde_json::json!({
                "metadata": {"name": memory, "namespace": "ns", "uid": memory},
                "spec": {"containers": [container, container, container]},
            }))
            .unwrap();
            accounts.apply_pod(&huge);
        }
        assert!(place(&mut accounts).is_empty());
    }
}
