//! The Node object: what this machine has, kept true while the agent runs. Called by `agent`.

use crate::agent::{Shared, patch_params, post_params};
use crate::limits;
use foundation::backoff::Backoff;
use foundation::tasks::Tasks;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::Patch;
use sandbox::spec::Isolation;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

/// The version of Kubernetes whose behaviour the agent has.
const KUBERNETES: &str = "v1.37.2";
/// How often the conditions are said again.
const HEARTBEAT: Duration = Duration::from_secs(300);
/// The taint that admission puts on a node that has not said it is ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// Cores that we may use, and memory in bytes.
pub fn machine() -> (usize, u64) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (cores, kilobytes.unwrap_or(0) * 1024)
}

/// The address from which this machine would reach others; loopback without a network. Nothing is sent.
pub fn host_ip() -> String {
    let route = || -> std::io::Result<String> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // An address of the documentation range: only the route to it is looked up.
        socket.connect("192.0.2.1:9")?;
        Ok(socket.local_addr()?.ip().to_string())
    };
    route().unwrap_or_else(|_| "127.0.0.1".to_owned())
}

/// Writes the Node now and its conditions from time to time, until cancelled.
pub async fn keep(shared: Arc<Shared>, tasks: Tasks) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        let wait = match write(&shared).await {
            Ok(()) => {
                backoff.reset();
                HEARTBEAT
            }
            Err(error) => {
                tracing::warn!(%error, "the node could not be registered and is tried again");
                backoff.next_delay()
            }
        };
        if !tasks.pause(wait).await {
            return;
        }
    }
}

async fn write(shared: &Shared) -> kube::Result<()> {
    let api: Api<Node> = Api::all(shared.client.clone());
    let name = &shared.options.node_name;
    let known = api.get_opt(name).await?;
    let node = match known {
        Some(node) => node,
        None => api.create(&post_params(), &object(name)).await?,
    };
    let status = status(shared, node.status.as_ref());
    api.patch_status(name, &patch_params(), &Patch::Merge(serde_json::json!({"status": status}))).await?;
    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
    if taints.iter().any(|taint| taint.key == NOT_READY) {
        let others: Vec<_> = taints.into_iter().filter(|taint| taint.key != NOT_READY).collect();
        let others = if others.is_empty() { serde_json::Value::Null } else { serde_json::json!(others) };
        let patch = serde_json::json!({"spec": {"taints": others}});
        api.patch(name, &patch_params(), &Patch::Merge(patch)).await?;
    }
    Ok(())
}

/// What Kubernetes calls this architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn object(name: &str) -> Node {
    let labels = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture()),
    ];
    let owned =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let annotations = [("volumes.kubernetes.io/controller-managed-attach-detach", "true")];
    Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(owned(&labels)),
            annotations: Some(owned(&annotations)),
            ..ObjectMeta::default()
        },
        ..Node::default()
    }
}

fn status(shared: &Shared, before: Option<&NodeStatus>) -> NodeStatus {
    let capacity: BTreeMap<String, Quantity> = [
        ("cpu", shared.cores.to_string()),
        ("memory", format!("{}Ki", shared.memory_bytes / 1024)),
        ("ephemeral-storage", format!("{}Ki", disk_kilobytes(shared))),
        ("pods", limits::pods_max(shared.cores).to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), Quantity(value)))
    .collect();
    let address = |kind: &str, value: &str| NodeAddress { type_: kind.to_owned(), address: value.to_owned() };
    NodeStatus {
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        addresses: Some(vec![address("InternalIP", &shared.host_ip), address("Hostname", &shared.options.node_name)]),
        conditions: Some(conditions(shared, before)),
        daemon_endpoints: Some(NodeDaemonEndpoints::default()),
        node_info: Some(info(shared)),
        ..NodeStatus::default()
    }
}

fn conditions(shared: &Shared, before: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let (runtime, why) = match (shared.isolation, &shared.support.failure) {
        (Isolation::Sandbox, _) => {
            ("Sandbox", "pods run in namespaces of their own and share the host's network".to_owned())
        }
        (Isolation::Process, Some(failure)) => {
            ("Process", format!("pods run as plain processes without isolation: {failure}"))
        }
        (Isolation::Process, None) => {
            ("Process", "pods run as plain processes without isolation, as configured".to_owned())
        }
    };
    let isolated = if shared.isolation == Isolation::Sandbox { "True" } else { "False" };
    let all = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available".to_owned()),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure".to_owned()),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available".to_owned()),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        ("kubeflow.org/Isolated", isolated, runtime, why),
    ];
    let now = Some(Time(shared.clock.now()));
    let one = |(kind, status, reason, message): (&str, &str, &str, String)| {
        let known = before.and_then(|before| before.conditions.as_ref()).into_iter().flatten();
        let same = known.into_iter().find(|condition| condition.type_ == kind && condition.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: now.clone(),
            last_transition_time: same.and_then(|same| same.last_transition_time.clone()).or(now.clone()),
        }
    };
    all.into_iter().map(one).collect()
}

fn info(shared: &Shared) -> NodeSystemInfo {
    let line = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let release = line("/etc/os-release");
    let os = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"')
        .to_owned();
    let version = env!("CARGO_PKG_VERSION");
    let runtime = match shared.isolation {
        Isolation::Sandbox => "sandbox",
        Isolation::Process => "process",
    };
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("kubeflow-{runtime}://{version}"),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: KUBERNETES.to_owned(),
        machine_id: line("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: os,
        system_uuid: line("/etc/machine-id"),
        ..NodeSystemInfo::default()
    }
}

/// Size of the file system with the data folder.
fn disk_kilobytes(shared: &Shared) -> u64 {
    rustix::fs::statvfs(&shared.options.data_dir).map_or(0, |disk| disk.f_blocks * disk.f_frsize / 1024)
}
