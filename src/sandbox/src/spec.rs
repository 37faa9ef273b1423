//! What a box shall look like: plain data, written by `node`, carried to the shim as JSON, carried out by [`crate::spawn`].

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How far a process is separated from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Isolation {
    /// Own user (unless root), mount, pid, ipc and uts namespaces.
    Sandbox,
    /// A plain process: no namespaces, no mounts, no seccomp.
    Process,
}

/// One process to start, and the box around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Namespaces, or a plain process.
    pub isolation: Isolation,
    /// An empty folder of ours on which the root is built. Nothing that is bound may lie below it.
    pub root: PathBuf,
    /// Limit of the root's own memory (tmpfs), bytes.
    pub root_bytes: u64,
    /// The root itself is read-only (mounts keep their own mode).
    pub read_only_root: bool,
    /// What is in the root, in the order in which it is made.
    pub mounts: Vec<Mount>,
    /// Program and arguments; the program is looked up in `PATH` of `env` inside the root.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working folder inside the root; made if it is not there.
    pub cwd: PathBuf,
    /// User inside. An ordinary user has one id, which is shown as this number.
    pub user: u32,
    /// Group inside.
    pub group: u32,
    /// Limits of the process.
    pub limits: Limits,
    /// Refuse the system calls that no container needs.
    pub seccomp: bool,
}

/// Limits that need no cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Threads and processes of the box (RLIMIT_NPROC, counted in its user namespace; not enforced for real root).
    pub processes: Option<u64>,
    /// Open files (RLIMIT_NOFILE).
    pub open_files: Option<u64>,
    /// Added to the niceness: 0 to 19.
    pub nice: i32,
    /// Run on at most so many cores (affinity).
    pub cores: Option<u32>,
}

/// One thing in the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, absolute, inside the root. Symbolic links in it are resolved inside the root.
    pub target: PathBuf,
    /// What.
    pub source: Source,
    /// Whole tree read-only.
    pub read_only: bool,
}

/// Where the content of a [`Mount`] comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A folder or file of the host, with everything mounted below it.
    Bind {
        /// The host's path.
        path: PathBuf,
        /// Only this part of it; resolved without leaving `path`, made (as a folder) if it is not there.
        sub_path: Option<PathBuf>,
    },
    /// Memory.
    Tmpfs {
        /// Limit, bytes; counts against nothing else.
        size_bytes: u64,
        /// Mode of its top folder.
        mode: u32,
    },
    /// A copy-on-write layer in memory over a read-only folder of the host.
    Overlay {
        /// The folder below.
        lower: PathBuf,
        /// Limit of the layer, bytes.
        upper_bytes: u64,
    },
    /// A small file of the root itself.
    Text {
        /// Its bytes.
        content: String,
        /// Its mode.
        mode: u32,
    },
    /// A symbolic link of the root itself.
    Link {
        /// What it points to.
        to: PathBuf,
    },
    /// An empty folder of the root itself.
    Folder {
        /// Its mode.
        mode: u32,
    },
    /// `/proc` of the box's own pid namespace.
    Proc,
    /// The devices every program expects, own `pts` and `shm`.
    Devices {
        /// Limit of `/dev/shm`, bytes.
        shm_bytes: u64,
    },
}

impl Mount {
    /// A read-only bind.
    pub fn read_only(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { target: target.into(), source: Source::Bind { path: path.into(), sub_path: None }, read_only: true }
    }

    /// A writable bind.
    pub fn writable(path: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self { target: target.into(), source: Source::Bind { path: path.into(), sub_path: None }, read_only: false }
    }

    /// A small read-only file.
    pub fn text(target: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        let source = Source::Text { content: content.into(), mode: 0o644 };
        Self { target: target.into(), source, read_only: true }
    }

    /// A symbolic link.
    pub fn link(target: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        Self { target: target.into(), source: Source::Link { to: to.into() }, read_only: false }
    }
}
