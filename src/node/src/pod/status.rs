//! Shows a pod's [`State`] as a kubelet would: phase, conditions in its order, container statuses. Pure; called by `pod.rs`.
//!
//! Invariant: a condition keeps its transition time for as long as its status stays the same.

use super::state::{Container, Kind, Now, Plan, Restart, Sandbox, State, Termination, Watched};
use super::step;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    Pod, PodCondition, PodIP, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

/// The condition with which every pod says what serves it.
pub const RUNTIME_CONDITION: &str = "kubeflow.org/Runtime";

/// What the status needs besides the state.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The object as the API has it.
    pub pod: &'a Pod,
    /// The node's address; pods share its network.
    pub host_ip: &'a str,
    /// What serves the pod, in words: (reason, message).
    pub runtime: (&'static str, &'static str),
    /// What each container's image turned out to be, in the plan's order; empty while unknown.
    pub image_ids: &'a [String],
}

/// The status of `state`; `before` is the status shown last.
pub fn render(plan: &Plan, state: &State, around: &Surroundings<'_>, before: &PodStatus, now: Timestamp) -> PodStatus {
    let statuses: Vec<ContainerStatus> =
        (0..plan.kinds.len()).map(|index| container_status(plan, state, around, index)).collect();
    let inits = plan.kinds.iter().filter(|kind| **kind != Kind::Main).count();
    let (init_statuses, main_statuses) = statuses.split_at(inits.min(statuses.len()));
    // A kubelet knows the address once it has tried a container, with or without success.
    let tried = |one: &Container| {
        !matches!(&one.now, Now::Waiting(waiting) if waiting.reason.is_none()) && one.now != Now::Launching
    };
    let has_network = state.containers.iter().any(|one| one.attempt > 0 || tried(one));
    let ips = |ip: &str| (Some(ip.to_owned()), ip.to_owned());
    let (host_ip, plain_ip) = ips(around.host_ip);
    PodStatus {
        observed_generation: around.pod.metadata.generation,
        phase: Some(phase(plan, state).to_owned()),
        reason: state.ending.as_ref().and_then(|ending| ending.reason).map(str::to_owned),
        message: state.ending.as_ref().and_then(|ending| ending.reason).map(|_| DEADLINE_MESSAGE.to_owned()),
        host_ip: host_ip.clone(),
        host_ips: Some(vec![HostIP { ip: plain_ip.clone() }]),
        pod_ip: has_network.then(|| plain_ip.clone()),
        pod_ips: has_network.then(|| vec![PodIP { ip: plain_ip }]),
        start_time: state.started_at.map(Time),
        qos_class: before.qos_class.clone(),
        resources: Some(ResourceRequirements::default()),
        conditions: Some(conditions(plan, state, around, &statuses, before, now)),
        init_container_statuses: (inits > 0).then(|| init_statuses.to_vec()),
        container_statuses: Some(main_statuses.to_vec()),
        ..PodStatus::default()
    }
}

/// What a kubelet says of a pod that ran too long.
pub const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// `Pending`, `Running`, `Succeeded` or `Failed`.
pub fn phase(plan: &Plan, state: &State) -> &'static str {
    let pairs = || state.containers.iter().zip(&plan.kinds);
    if state.sandbox == Sandbox::Over {
        let deadline = state.ending.as_ref().is_some_and(|ending| ending.reason.is_some());
        let good = |(one, kind): (&Container, &Kind)| match (&one.now, kind) {
            (_, Kind::Sidecar) => true,
            (Now::Ended(how), _) => how.code == 0,
            _ => false,
        };
        return if !deadline && pairs().all(good) { "Succeeded" } else { "Failed" };
    }
    let begun = pairs().any(|(one, kind)| {
        *kind == Kind::Main && (one.attempt > 0 || matches!(one.now, Now::Running(_) | Now::Ended(_)))
    });
    if begun { "Running" } else { "Pending" }
}

fn container_status(plan: &Plan, state: &State, around: &Surroundings<'_>, index: usize) -> ContainerStatus {
    let (kind, one) = (plan.kinds[index], &state.containers[index]);
    let spec = around.pod.spec.as_ref();
    let declared = spec.and_then(|spec| {
        let inits = spec.init_containers.as_deref().unwrap_or_default();
        inits.iter().chain(&spec.containers).nth(index)
    });
    let name = declared.map(|container| container.name.clone()).unwrap_or_default();
    let (shown, last) = shown_states(plan, state, around, index, &name);
    let id = |attempt: u32| Some(container_id(around.pod.metadata.uid.as_deref().unwrap_or_default(), &name, attempt));
    let ran = one.attempt > 0 || matches!(one.now, Now::Running(_) | Now::Ended(_));
    let running = matches!(one.now, Now::Running(_));
    let ended_well = matches!(&one.now, Now::Ended(how) if how.code == 0);
    ContainerStatus {
        ready: match kind {
            Kind::Init => ended_well,
            Kind::Sidecar | Kind::Main => running && one.ready && one.started,
        },
        started: Some(running && one.started),
        restart_count: i32::try_from(one.attempt).unwrap_or(i32::MAX),
        image: declared.and_then(|container| container.image.clone()).unwrap_or_default(),
        image_id: if ran { around.image_ids.get(index).cloned().unwrap_or_default() } else { String::new() },
        container_id: match &one.now {
            Now::Running(_) | Now::Ended(_) => id(one.attempt),
            _ if one.attempt > 0 => id(one.attempt - 1),
            _ => None,
        },
        state: Some(shown),
        last_state: Some(last),
        name,
        ..ContainerStatus::default()
    }
}

/// `state` and `lastState` of a container.
fn shown_states(
    plan: &Plan,
    state: &State,
    around: &Surroundings<'_>,
    index: usize,
    name: &str,
) -> (ContainerState, ContainerState) {
    let one = &state.containers[index];
    let metadata = &around.pod.metadata;
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let ended = |how: &Termination, attempt: u32| terminated(how, container_id(uid, name, attempt));
    let last = one.last.as_ref().map(|how| ended(how, one.attempt.saturating_sub(1))).unwrap_or_default();
    match &one.now {
        Now::Running(since) => {
            let running = ContainerStateRunning { started_at: Some(Time(*since)) };
            (ContainerState { running: Some(running), ..ContainerState::default() }, last)
        }
        Now::Ended(how) if one.retry_at.is_some() && state.sandbox != Sandbox::Over => {
            let pause = step::restart_pause(one).as_secs();
            let (pod, namespace) = (metadata.name.as_deref(), metadata.namespace.as_deref());
            let message = format!(
                "back-off {pause}s restarting failed container={name} pod={}_{}({uid})",
                pod.unwrap_or_default(),
                namespace.unwrap_or_default()
            );
            if pause == 0 {
                return (ended(how, one.attempt), last);
            }
            (waiting("CrashLoopBackOff", Some(message)), ended(how, one.attempt))
        }
        Now::Ended(how) => (ended(how, one.attempt), last),
        Now::Waiting(why) => (waiting(why.reason.unwrap_or_else(|| creating(plan)), why.message.clone()), last),
        Now::Launching => (waiting(creating(plan), None), last),
    }
}

/// What a container that is not there yet waits for.
fn creating(plan: &Plan) -> &'static str {
    if plan.kinds.iter().all(|kind| *kind == Kind::Main) { "ContainerCreating" } else { "PodInitializing" }
}

fn incomplete_inits(plan: &Plan, state: &State) -> Vec<usize> {
    let pairs = state.containers.iter().zip(&plan.kinds).enumerate();
    let incomplete = pairs.filter(|(_, (one, kind))| match kind {
        Kind::Init => !matches!(&one.now, Now::Ended(how) if how.code == 0),
        Kind::Sidecar => !matches!(&one.now, Now::Running(_)) && state.sandbox != Sandbox::Over,
        Kind::Main => false,
    });
    incomplete.map(|(index, _)| index).collect()
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(how: &Termination, container_id: String) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: how.code,
        reason: Some(how.reason.to_owned()),
        message: how.message.clone(),
        started_at: how.started.map(Time),
        finished_at: Some(Time(how.finished)),
        container_id: Some(container_id),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

/// A stable id of an attempt, in the form of a container runtime's.
pub fn container_id(uid: &str, name: &str, attempt: u32) -> String {
    let digest = Sha256::digest(format!("{uid}/{name}/{attempt}"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("kubeflow://{hex}")
}

/// Status, reason and message of one condition.
type Said = (bool, Option<&'static str>, Option<String>);

fn conditions(
    plan: &Plan,
    state: &State,
    around: &Surroundings<'_>,
    statuses: &[ContainerStatus],
    before: &PodStatus,
    now: Timestamp,
) -> Vec<PodCondition> {
    let name_of = |index: usize| statuses.get(index).map(|status| status.name.clone()).unwrap_or_default();
    let listed = |indices: Vec<usize>| indices.into_iter().map(name_of).collect::<Vec<_>>().join(" ");
    let over = state.sandbox == Sandbox::Over;
    let (completed, failed) = (over && phase(plan, state) == "Succeeded", over && phase(plan, state) == "Failed");
    let sandbox: Said = match state.sandbox {
        Sandbox::Ready => (true, None, None),
        Sandbox::Over => (false, Some("PodSandboxNotReady"), Some("pod sandbox is not ready".to_owned())),
        Sandbox::Absent | Sandbox::Making => {
            (false, Some("PodSandboxNotReady"), Some("no pod sandbox exists".to_owned()))
        }
    };
    let incomplete = incomplete_inits(plan, state);
    let initialized: Said = if completed {
        (true, Some("PodCompleted"), None)
    } else if incomplete.is_empty() {
        (true, None, None)
    } else {
        let message = format!("containers with incomplete status: [{}]", listed(incomplete));
        (false, Some("ContainersNotInitialized"), Some(message))
    };
    let unready = |(index, kind): (usize, &Kind)| (*kind != Kind::Init && !statuses[index].ready).then_some(index);
    let unready: Vec<usize> = plan.kinds.iter().enumerate().filter_map(unready).collect();
    let ready: Said = if completed {
        (false, Some("PodCompleted"), None)
    } else if failed {
        (false, Some("PodFailed"), None)
    } else if unready.is_empty() {
        (true, None, None)
    } else {
        (false, Some("ContainersNotReady"), Some(format!("containers with unready status: [{}]", listed(unready))))
    };
    let (reason, message) = around.runtime;
    let all: [(&str, Said); 6] = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready.clone()),
        ("ContainersReady", ready),
        ("PodScheduled", (true, None, None)),
        (RUNTIME_CONDITION, (true, Some(reason), Some(message.to_owned()))),
    ];
    let generation = around.pod.metadata.generation;
    all.into_iter().map(|(kind, said)| condition(kind, said, generation, before, now)).collect()
}

fn condition(kind: &str, said: Said, generation: Option<i64>, before: &PodStatus, now: Timestamp) -> PodCondition {
    let status = if said.0 { "True" } else { "False" };
    let old = before.conditions.iter().flatten().find(|old| old.type_ == kind && old.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: said.1.map(str::to_owned),
        message: said.2,
        observed_generation: generation,
        last_transition_time: old.and_then(|old| old.last_transition_time.clone()).or(Some(Time(now))),
        ..PodCondition::default()
    }
}

/// The plan of a pod.
pub fn plan(pod: &Pod) -> Plan {
    use jiff::SignedDuration;
    let Some(spec) = &pod.spec else {
        return Plan {
            kinds: Vec::new(),
            watched: Vec::new(),
            restart: Restart::Never,
            deadline: None,
            grace: SignedDuration::ZERO,
        };
    };
    let inits = spec.init_containers.iter().flatten().map(|container| match container.restart_policy.as_deref() {
        Some("Always") => Kind::Sidecar,
        _ => Kind::Init,
    });
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    let watched = all.map(|container| Watched {
        readiness: container.readiness_probe.is_some(),
        startup: container.startup_probe.is_some(),
    });
    Plan {
        watched: watched.collect(),
        kinds: inits.chain(spec.containers.iter().map(|_| Kind::Main)).collect(),
        restart: match spec.restart_policy.as_deref() {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        },
        deadline: spec.active_deadline_seconds.map(SignedDuration::from_secs),
        grace: SignedDuration::from_secs(spec.termination_grace_period_seconds.unwrap_or(30)),
    }
}

#[cfg(test)]
mod tests;
