//! What `node` and a shim say to each other: one JSON document a line, both ways, over the socket in the run folder.
//!
//! Level, not edge: after every change the shim sends its whole [`State`] to everyone who is connected, and on connecting.

use sandbox::process::Identity;
use sandbox::spec::{Isolation, Spec};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The longest line either side accepts, bytes: a step's arguments may carry large constants.
pub const LINE_BYTES_MAX: usize = 32 << 20;

/// What the shim must know before anything is started; `pod.json` in the run folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Namespace of the pod, for people and for recovery.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// Uid of the pod.
    pub uid: String,
    /// Host name inside.
    pub hostname: String,
    /// Namespaces or plain processes.
    pub isolation: Isolation,
    /// The boot in which the run folder was made.
    pub boot_id: String,
}

/// What may be asked of a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Request {
    /// Start a container. Idempotent: the same name and attempt again changes nothing.
    Start(Box<Start>),
    /// Send a signal to a container's first process (all its processes without a pid namespace).
    Signal {
        /// The container.
        container: String,
        /// The signal's number.
        signal: i32,
    },
    /// Run a command inside a running container and say how it ended.
    Exec {
        /// Chosen by the caller, comes back in the answer.
        id: u64,
        /// The container.
        container: String,
        /// The command.
        argv: Vec<String>,
        /// After so many milliseconds it is killed and answered with code -1.
        timeout_ms: u64,
    },
    /// Send the state again.
    State,
    /// End everything and go.
    Release,
}

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Its name, unique in the pod.
    pub container: String,
    /// 0 at first, then counted up.
    pub attempt: u32,
    /// The box.
    pub spec: Spec,
    /// Where its output goes, see [`crate::logs`].
    pub log: PathBuf,
    /// End it as out of memory beyond so many bytes.
    pub memory_bytes: Option<u64>,
}

/// What a shim says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// Everything the shim knows.
    State(State),
    /// A command of [`Request::Exec`] ended.
    Exec {
        /// As asked.
        id: u64,
        /// Its exit code; -1 if it took too long, 128 if it could not be started.
        code: i32,
        /// The beginning of what it wrote.
        output: String,
    },
}

/// A pod as its shim sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Every attempt of every container that was started, in that order.
    pub containers: Vec<Container>,
}

/// One attempt of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name.
    pub container: String,
    /// Which attempt.
    pub attempt: u32,
    /// Its first process, while it runs.
    pub process: Option<Identity>,
    /// When it was started, nanoseconds since 1970.
    pub started_ns: i64,
    /// How it ended.
    pub end: Option<End>,
}

/// How an attempt ended; also the content of its exit record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Exit code, 128 + signal where a signal ended it, 128 where it could not be started.
    pub code: i32,
    /// When it was started, nanoseconds since 1970.
    pub started_ns: i64,
    /// When it ended, nanoseconds since 1970.
    pub finished_ns: i64,
    /// Why, where it is not the program's own doing.
    pub cause: Cause,
    /// In words.
    pub message: Option<String>,
}

/// Why an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The program ended or was ended by a signal.
    Exited,
    /// The program is not there or cannot be run.
    NoProgram,
    /// The box could not be made.
    NoSandbox,
    /// It used more memory than it may.
    OutOfMemory,
    /// Its shim was lost, and it with its shim (recorded by the node).
    Lost,
}
