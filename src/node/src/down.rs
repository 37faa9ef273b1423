//! Ends pods from outside their workers: `kubeflow down` (also when no platform runs), orphans, what an ended pod leaves.
//!
//! Blocks; called on a blocking thread or from a program without a runtime.

use shim::client::Client;
use shim::folder::Folder;
use shim::protocol::Request;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long processes may take to disappear after SIGKILL (freeing memory takes time).
const GONE_LIMIT: Duration = Duration::from_secs(20);
/// How often is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// SIGKILL.
const KILL: i32 = 9;

/// What [`down`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Pods whose processes were ended.
    pub pods: usize,
    /// Pods of which something still runs.
    pub left: usize,
}

/// Ends every pod below a data folder. Their folders stay: exit records and logs are the next platform's to read.
pub fn down(data_dir: &Path) -> Ended {
    let entries = std::fs::read_dir(data_dir.join("pods")).into_iter().flatten().flatten();
    let folders: Vec<Folder> = entries.map(|entry| Folder::at(entry.path())).collect();
    let running: Vec<&Folder> = folders.iter().filter(|folder| runs(folder)).collect();
    // Ask all first, then look: they end at the same time.
    running.iter().for_each(|folder| ask_to_end(folder));
    let left = running.iter().filter(|folder| !ended(folder)).count();
    Ended { pods: running.len(), left }
}

/// Ends a pod and removes its run folder.
pub fn remove(folder: &Folder) {
    if runs(folder) {
        ask_to_end(folder);
        if !ended(folder) {
            tracing::warn!(folder = %folder.path().display(), "processes of a removed pod are still there");
            return;
        }
    }
    remove_tree(folder.path());
}

/// Removes what only running containers need; logs and records stay.
pub fn tidy(folder: &Folder) {
    ["scratch", "root", "volumes"].iter().for_each(|part| remove_tree(&folder.path().join(part)));
}

/// True if the shim lives, or a process of its pod does.
fn runs(folder: &Folder) -> bool {
    folder.read_processes().is_ok_and(|known| {
        known.boot_id == sandbox::process::boot_id()
            && (known.shim.lives() || known.containers.iter().any(|(first, _)| first.lives()))
    })
}

fn ask_to_end(folder: &Folder) {
    let asked = Client::connect(folder).and_then(|(mut client, _)| client.send(&Request::Release));
    if asked.is_ok() {
        return;
    }
    let Ok(known) = folder.read_processes() else { return };
    known.shim.signal(KILL);
    for (first, _) in &known.containers {
        first.signal(KILL);
    }
}

/// Waits until nothing of the pod runs, at last by looking for processes of its pid namespaces.
fn ended(folder: &Folder) -> bool {
    let Ok(known) = folder.read_processes() else { return true };
    let own = sandbox::process::pid_namespace(std::process::id().cast_signed());
    let spaces: Vec<u64> =
        known.containers.iter().map(|(_, inode)| *inode).filter(|inode| Some(*inode) != own).collect();
    let begin = Instant::now();
    let mut killed = false;
    while begin.elapsed() < GONE_LIMIT {
        let lives = known.shim.lives() || known.containers.iter().any(|(first, _)| first.lives());
        if !lives && spaces.iter().all(|inode| sandbox::process::in_namespace(*inode).is_empty()) {
            return true;
        }
        if begin.elapsed() > GONE_LIMIT / 4 && !killed {
            killed = true;
            known.shim.signal(KILL);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    false
}

/// Removes a tree in which a step may have taken its own rights away.
fn remove_tree(path: &Path) {
    if std::fs::remove_dir_all(path).is_ok() || !path.exists() {
        return;
    }
    allow(path);
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::warn!(%error, path = %path.display(), "a pod's folder could not be removed");
    }
}

fn allow(path: &Path) {
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            allow(&entry.path());
        }
    }
}
