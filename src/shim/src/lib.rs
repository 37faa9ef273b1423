//! The small parent of a pod's processes. It outlives the platform, writes their logs and keeps their exit codes on disk.
//!
//! Started by `node` as `kubeflow shim <run folder>` (see [`main`]); spoken to through the socket in the run folder.
//! Invariant: one thread. The pod dies with its shim, so whoever finds all shims finds all pods.
//! Invariant: it knows nothing of Kubernetes; `node` says what to start.

pub mod client;
pub mod exit;
pub mod folder;
pub mod logs;
mod main_loop;
pub mod protocol;
mod streams;

use folder::Folder;
use sandbox::error::Failure;
use sandbox::process::{self, Daemon};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The hidden role `shim`: `probe FOLDER` says what this host allows, `FOLDER` becomes the shim of that run folder.
///
/// `arguments` are those after the word `shim`. The caller has one thread and no runtime.
pub fn main(arguments: &[OsString]) -> ! {
    let code = match arguments {
        [word, folder] if word == "probe" => probe(Path::new(folder)),
        [folder] => start(Path::new(folder)),
        _ => {
            eprintln!("usage: shim FOLDER | shim probe FOLDER");
            2
        }
    };
    std::process::exit(code)
}

fn probe(folder: &Path) -> i32 {
    let report = sandbox::support::probe(folder);
    match serde_json::to_string(&report) {
        Ok(text) => {
            println!("{text}");
            0
        }
        Err(_) => 1,
    }
}

/// Returns in the starter only, once the shim listens or has said why it cannot.
fn start(folder: &Path) -> i32 {
    let said = match process::daemonize() {
        Ok(Daemon::Starter(pipe)) => {
            let mut said = String::new();
            let read = std::fs::File::from(pipe).read_to_string(&mut said);
            read.map_or_else(|error| error.to_string(), |_| said)
        }
        Ok(Daemon::Daemon(pipe)) => {
            let mut pipe = std::fs::File::from(pipe);
            match prepare(folder) {
                Ok(shim) => {
                    drop(pipe);
                    shim.run();
                    std::process::exit(0)
                }
                Err(failure) => {
                    let _ = write!(pipe, "{failure}");
                    std::process::exit(1)
                }
            }
        }
        Err(failure) => failure.to_string(),
    };
    if said.is_empty() {
        return 0;
    }
    eprintln!("{said}");
    1
}

fn prepare(path: &Path) -> Result<main_loop::Shim, Failure> {
    let folder = Folder::at(path);
    let log_path: PathBuf = folder.own_log();
    let log = OpenOptions::new().create(true).append(true).open(&log_path);
    let log = log.map_err(|error| Failure::of("open", log_path.to_string_lossy(), &error))?;
    let pod = folder.read_pod()?;
    let listener = folder.listen()?;
    process::replace_stdio(&log.into())?;
    if pod.isolation == sandbox::spec::Isolation::Sandbox {
        sandbox::namespaces::enter_pod(&pod.hostname)?;
    }
    main_loop::Shim::new(folder, pod, listener)
}
