//! The local caller: the person who started the platform, on the same machine, without credentials.
//!
//! Invariant: fails closed. A connection is the user's only when the kernel names a live socket of the user at its other
//! end **and** a process outside every pod, other than the platform, was found to hold that socket. A pod's process runs
//! under the same uid, so the uid alone tells nothing; it lives in a pid namespace of its own, so it is never found here.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::identity::Identity;
use crate::sock_diag;

/// How many processes that owned a socket before are looked at first.
const REMEMBERED: usize = 8;

/// A network connection, as the listener saw it; the proof is found once and kept with it.
#[derive(Debug)]
pub struct Connection {
    /// The other end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    proof: OnceCell<bool>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { peer, local, proof: OnceCell::new() }
    }
}

/// Finds out whether a connection is the user's own.
#[derive(Debug)]
pub struct LocalCaller {
    identity: Identity,
    recent: Mutex<Vec<u32>>,
}

impl LocalCaller {
    /// Connections of the uid that runs the platform count as `identity`.
    pub fn new(identity: Identity) -> Self {
        Self { identity, recent: Mutex::new(Vec::new()) }
    }

    /// Who the local caller is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whether the other end of this connection is a process of the user outside every pod.
    pub async fn owns(self: &std::sync::Arc<Self>, connection: &std::sync::Arc<Connection>) -> bool {
        let prove = || async {
            let (own, connection) = (self.clone(), connection.clone());
            let work = move || own.prove(&connection);
            foundation::tasks::blocking("prove the local caller", work).await.unwrap_or(false)
        };
        *connection.proof.get_or_init(prove).await
    }

    fn prove(&self, connection: &Connection) -> bool {
        if !connection.peer.ip().is_loopback() || !connection.local.ip().is_loopback() {
            return false;
        }
        let uid = rustix::process::getuid().as_raw();
        let Ok(Some(socket)) = sock_diag::find(connection.peer, connection.local) else { return false };
        if socket.uid != uid {
            return false;
        }
        let Some(home) = Home::of_this_process() else { return false };
        let wanted = OsString::from(format!("socket:[{}]", socket.inode));
        let recent = self.recent.lock().clone();
        let owner = recent.iter().copied().chain(pids_newest_first()).find(|pid| home.owns(*pid, uid, &wanted));
        if let Some(pid) = owner {
            let mut recent = self.recent.lock();
            recent.retain(|known| *known != pid);
            recent.insert(0, pid);
            recent.truncate(REMEMBERED);
        }
        owner.is_some()
    }
}

/// The namespaces of the platform; a process in others is in a pod, or in some container of which we know nothing.
struct Home {
    own_pid: u32,
    pid_namespace: PathBuf,
    user_namespace: PathBuf,
}

impl Home {
    fn of_this_process() -> Option<Self> {
        let namespace = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).ok();
        Some(Self { own_pid: std::process::id(), pid_namespace: namespace("pid")?, user_namespace: namespace("user")? })
    }

    fn owns(&self, pid: u32, uid: u32, wanted: &OsString) -> bool {
        if pid == self.own_pid {
            return false;
        }
        let root = PathBuf::from(format!("/proc/{pid}"));
        if !fs::metadata(&root).is_ok_and(|meta| meta.uid() == uid) || !holds(&root, wanted) {
            return false;
        }
        // Asked after the search: a pid that ended and came back in a pod in between is not taken for its predecessor.
        let same =
            |kind: &str, own: &PathBuf| fs::read_link(root.join("ns").join(kind)).is_ok_and(|found| found == *own);
        same("pid", &self.pid_namespace) && same("user", &self.user_namespace)
    }
}

/// Whether any thread of the process holds the socket. The main thread's table is not enough: it is gone when that thread
/// has ended, and a thread may have a table of its own.
fn holds(process: &Path, wanted: &OsString) -> bool {
    if table_holds(&process.join("fd"), wanted) {
        return true;
    }
    let Ok(threads) = fs::read_dir(process.join("task")) else { return false };
    threads.flatten().any(|thread| table_holds(&thread.path().join("fd"), wanted))
}

fn table_holds(table: &Path, wanted: &OsString) -> bool {
    let Ok(entries) = fs::read_dir(table) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

fn pids_newest_first() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<u32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable_by(|a, b| b.cmp(a));
    pids
}
