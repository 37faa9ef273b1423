//! The run folder of a pod: its names, and the socket in it. Used by the shim and by `node`.
//!
//! ```text
//! pod.json     who this is, written before the shim starts      state.json   the shim and the containers' processes
//! s            the shim's socket                                shim.log     what went wrong in the shim
//! exit/        one record per ended attempt                     logs/        output of the attempts
//! ```
//! Invariant: a socket path may have 107 bytes, so both sides reach the socket through a descriptor of the folder.

use crate::protocol::Pod;
use sandbox::error::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A pod's run folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// Who runs, for the case that nobody answers on the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    /// The shim.
    pub shim: sandbox::process::Identity,
    /// The first process of each running container, and the inode of its pid namespace.
    pub containers: Vec<(sandbox::process::Identity, u64)>,
    /// The boot in which this was written.
    pub boot_id: String,
}

impl Folder {
    /// The run folder at this path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The shim's own log.
    pub fn own_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// The log of an attempt; rotated parts add `.1`, `.2` …
    pub fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.0.join("logs").join(format!("{container}.{attempt}.log"))
    }

    /// The folder of exit records.
    pub fn exits(&self) -> PathBuf {
        self.0.join("exit")
    }

    /// The exit record of an attempt.
    pub fn exit(&self, container: &str, attempt: u32) -> PathBuf {
        self.exits().join(format!("{container}.{attempt}"))
    }

    /// The empty folder on which a container's root is built.
    pub fn root(&self, container: &str) -> PathBuf {
        self.0.join("root").join(container)
    }

    /// Makes the folder and writes `pod.json`. Called before the shim starts, so that `down` finds whatever follows.
    pub fn create(&self, pod: &Pod) -> Result<()> {
        for part in ["logs", "exit", "root"] {
            make(&self.0.join(part))?;
        }
        write_whole(&self.0.join("pod.json"), pod)
    }

    /// Reads `pod.json`.
    pub fn read_pod(&self) -> Result<Pod> {
        read_whole(&self.0.join("pod.json"))
    }

    /// Writes `state.json`.
    pub fn write_processes(&self, processes: &Processes) -> Result<()> {
        write_whole(&self.0.join("state.json"), processes)
    }

    /// Reads `state.json`.
    pub fn read_processes(&self) -> Result<Processes> {
        read_whole(&self.0.join("state.json"))
    }

    /// Listens on the socket; a stale one of a dead shim is replaced, a living shim is left alone.
    pub fn listen(&self) -> Result<UnixListener> {
        let failed = |error: std::io::Error| Failure::of("listen", self.0.join("s").to_string_lossy(), &error);
        let (path, _folder) = self.socket().map_err(failed)?;
        if UnixStream::connect(&path).is_ok() {
            return Err(Failure::new("listen", "socket that another shim serves", libc::EADDRINUSE));
        }
        let _ = fs::remove_file(&path);
        UnixListener::bind(path).map_err(failed)
    }

    /// A path of the socket that is short whatever the folder is called; valid while the file lives.
    pub fn socket(&self) -> std::io::Result<(PathBuf, File)> {
        let folder = File::open(&self.0)?;
        Ok((PathBuf::from(format!("/proc/self/fd/{}/s", folder.as_raw_fd())), folder))
    }
}

fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| Failure::of("mkdir", path.to_string_lossy(), &error))
}

/// Writes a document so that a reader sees the old or the new one, never a part.
fn write_whole<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let failed = |error: &std::io::Error| Failure::of("write", path.to_string_lossy(), error);
    let text = serde_json::to_vec(value).map_err(|error| failed(&error.into()))?;
    let draft = path.with_extension("tmp");
    let mut file = File::create(&draft).map_err(|error| failed(&error))?;
    file.write_all(&text).map_err(|error| failed(&error))?;
    fs::rename(&draft, path).map_err(|error| failed(&error))
}

fn read_whole<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let failed = |error: &std::io::Error| Failure::of("read", path.to_string_lossy(), error);
    let text = fs::read(path).map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error.into()))
}
