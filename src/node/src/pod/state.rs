//! What is known of a pod's life: its plan, its state, what happens to it and what follows. Plain data for `pod/step.rs`.

use jiff::{SignedDuration, Timestamp};

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Always (init containers: on failure).
    Always,
    /// After another exit code than 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that goes on (restartPolicy Always).
    Sidecar,
    /// The pod's work.
    Main,
}

/// Which probes decide about a container before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watched {
    /// It has a readiness probe.
    pub readiness: bool,
    /// It has a startup probe.
    pub startup: bool,
}

/// What was asked for, as far as the life cycle is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Init containers and sidecars in order, then the main ones.
    pub kinds: Vec<Kind>,
    /// What is watched of each, same order.
    pub watched: Vec<Watched>,
    /// The pod's policy.
    pub restart: Restart,
    /// `activeDeadlineSeconds`.
    pub deadline: Option<SignedDuration>,
    /// `terminationGracePeriodSeconds`.
    pub grace: SignedDuration,
}

/// The pod's surroundings: run folder, volumes, shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Not there.
    Absent,
    /// Asked for.
    Making,
    /// Containers can be started.
    Ready,
    /// Nothing will be started any more.
    Over,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Termination {
    /// Exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: &'static str,
    /// In words.
    pub message: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
}

/// Why a container does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// A kubelet's word for it; none while there is nothing to say but "being created".
    pub reason: Option<&'static str>,
    /// In words.
    pub message: Option<String>,
}

/// What a container does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Now {
    /// Not started.
    Waiting(Waiting),
    /// Being started.
    Launching,
    /// Running.
    Running(Timestamp),
    /// Ended.
    Ended(Termination),
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The attempt that runs, ran last or comes first.
    pub attempt: u32,
    /// What it does.
    pub now: Now,
    /// How the attempt before ended.
    pub last: Option<Termination>,
    /// Not before this.
    pub retry_at: Option<Timestamp>,
    /// Restarts (or failed launches) in a row.
    pub failures: u32,
    /// Told to end.
    pub terminated: bool,
    /// Told to end at once.
    pub killed: bool,
    /// Its readiness probe (or the absence of one) says yes.
    pub ready: bool,
    /// Its startup probe (or the absence of one) says yes.
    pub started: bool,
}

/// Why a pod is being ended before its work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// SIGKILL is sent then.
    pub kill_at: Timestamp,
    /// The object is to be removed afterwards.
    pub delete: bool,
    /// The pod's own reason (`DeadlineExceeded`), if it has one.
    pub reason: Option<&'static str>,
}

/// A pod's life so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// When the node first saw it.
    pub started_at: Option<Timestamp>,
    /// Its surroundings.
    pub sandbox: Sandbox,
    /// Volumes are looked for again then.
    pub sandbox_retry_at: Option<Timestamp>,
    /// Same order as [`Plan::kinds`].
    pub containers: Vec<Container>,
    /// It is being ended.
    pub ending: Option<Ending>,
    /// The shim was told to go (its last status is written).
    pub released: bool,
    /// The object was removed by us.
    pub deleted: bool,
}

/// What happens to a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The node sees it.
    Accepted,
    /// Run folder, volumes and shim are there.
    SandboxReady,
    /// They are not; it is tried again.
    SandboxFailed,
    /// A container could not be started for a reason that may go away.
    LaunchFailed {
        /// Which.
        container: usize,
        /// Its attempt.
        attempt: u32,
        /// A kubelet's word.
        reason: &'static str,
        /// In words.
        message: String,
    },
    /// A container runs.
    Running {
        /// Which.
        container: usize,
        /// Its attempt.
        attempt: u32,
        /// Since.
        since: Timestamp,
    },
    /// A container ended.
    Ended {
        /// Which.
        container: usize,
        /// Its attempt.
        attempt: u32,
        /// How.
        how: Termination,
    },
    /// The shim is gone and left no record of what still ran.
    Lost {
        /// The machine itself was restarted meanwhile.
        restart: bool,
    },
    /// A probe changed its mind.
    Probed {
        /// Which.
        container: usize,
        /// Ready now.
        ready: bool,
        /// Started up now.
        started: bool,
    },
    /// A liveness or startup probe gave up: end the container; the restart policy decides what then.
    Unhealthy {
        /// Which.
        container: usize,
    },
    /// Somebody deletes the pod.
    Delete {
        /// How long it may take to end.
        grace: SignedDuration,
    },
    /// The status that shows this state is stored.
    StatusWritten,
    /// Time passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make run folder and volumes, start the shim.
    MakeSandbox,
    /// Start an attempt of a container.
    Launch {
        /// Which.
        container: usize,
        /// Its attempt.
        attempt: u32,
    },
    /// Send a signal to a container.
    Signal {
        /// Which.
        container: usize,
        /// SIGKILL, otherwise SIGTERM.
        kill: bool,
    },
    /// Tell people that a container is being stopped.
    SayKilling {
        /// Which.
        container: usize,
    },
    /// Tell people that a container is not restarted yet.
    SayBackOff {
        /// Which.
        container: usize,
    },
    /// Tell people that an image is not tried yet.
    SayPullBackOff {
        /// Which.
        container: usize,
    },
    /// Tell people that the deadline has passed.
    SayDeadline,
    /// Let the shim go.
    Release,
    /// Remove the object now that nothing runs.
    Remove,
}

impl Container {
    /// Before anything has happened to it.
    pub fn fresh() -> Self {
        Self {
            attempt: 0,
            now: Now::Waiting(Waiting { reason: None, message: None }),
            last: None,
            retry_at: None,
            failures: 0,
            terminated: false,
            killed: false,
            ready: true,
            started: true,
        }
    }

    /// Being started, or running.
    pub fn is_active(&self) -> bool {
        matches!(self.now, Now::Launching | Now::Running(_))
    }
}

impl State {
    /// A pod of which nothing is known but its spec.
    pub fn fresh(plan: &Plan) -> Self {
        Self {
            started_at: None,
            sandbox: Sandbox::Absent,
            sandbox_retry_at: None,
            containers: plan.kinds.iter().map(|_| Container::fresh()).collect(),
            ending: None,
            released: false,
            deleted: false,
        }
    }

    /// When something is to be looked at again; none if only events matter.
    pub fn wake_at(&self, plan: &Plan) -> Option<Timestamp> {
        if self.sandbox == Sandbox::Over {
            return None;
        }
        let deadline = match (self.started_at, plan.deadline, &self.ending) {
            (Some(start), Some(limit), None) => start.checked_add(limit).ok(),
            _ => None,
        };
        let kill = self.ending.as_ref().map(|ending| ending.kill_at);
        let waits = |one: &&Container| !one.is_active() || one.terminated;
        let retries = self.containers.iter().filter(waits).filter_map(|one| one.retry_at);
        retries.chain(self.sandbox_retry_at).chain(deadline).chain(kill).min()
    }
}
