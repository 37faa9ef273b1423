//! What this host allows: makes a real sandbox once and names the first step that is refused, with its remedy.
//!
//! Called through [`probe`] by the hidden role `shim probe` (a process with one thread), and through [`ask`] by `node` and
//! `doctor`. Never decided by a sysctl or a version: kernels, distributions and containers differ in ways only trying shows.

use crate::error::{Failure, Result};
use crate::spec::{Isolation, Limits, Mount, Source, Spec};
use crate::{namespaces, spawn};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What the probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Full sandboxes can be made.
    pub sandbox: bool,
    /// A copy-on-write layer can be mounted in them.
    pub overlay: bool,
    /// The first step that was refused.
    pub failure: Option<Failure>,
    /// What the user can do about it.
    pub remedy: Option<String>,
}

/// Makes a sandbox below `folder` (exists, ours) and runs nothing in it. One thread only.
pub fn probe(folder: &Path) -> Report {
    let full = namespaces::enter_pod("probe").and_then(|()| attempt(folder, true));
    match full {
        Ok(()) => Report { sandbox: true, overlay: true, failure: None, remedy: None },
        Err(failure) => {
            let plain = attempt(folder, false).is_ok();
            let remedy = Some(remedy(&failure));
            Report { sandbox: plain, overlay: false, failure: Some(failure), remedy }
        }
    }
}

/// Asks `program` (our own binary, with the arguments of its hidden role before `folder`) for its report.
pub fn ask(program: &Path, role: &[&str], folder: &Path) -> Report {
    let mut arguments: Vec<&OsStr> = role.iter().map(OsStr::new).collect();
    arguments.push(folder.as_os_str());
    let failed = |failure: Failure| {
        let remedy = Some(remedy(&failure));
        Report { sandbox: false, overlay: false, failure: Some(failure), remedy }
    };
    match spawn::run(program, &arguments, &[]) {
        Ok(output) => serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| failed(Failure::new("probe", "answer of the probe", libc::EPROTO))),
        Err(failure) => failed(failure),
    }
}

fn attempt(folder: &Path, overlay: bool) -> Result<()> {
    let make = |name: &str| -> Result<PathBuf> {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).map_err(|error| Failure::of("mkdir", path.to_string_lossy(), &error))?;
        Ok(path)
    };
    let (root, lower) = (make("root")?, make("lower")?);
    let mut mounts = vec![
        Mount::read_only("/usr", "/usr"),
        Mount { target: "/proc".into(), source: Source::Proc, read_only: false },
        Mount { target: "/dev".into(), source: Source::Devices { shm_bytes: 1 << 20 }, read_only: false },
    ];
    if overlay {
        let source = Source::Overlay { lower, upper_bytes: 1 << 20 };
        mounts.push(Mount { target: "/layer".into(), source, read_only: false });
    }
    let spec = Spec {
        isolation: Isolation::Sandbox,
        root,
        root_bytes: 1 << 20,
        read_only_root: false,
        mounts,
        // There is no such program: to be told so means that everything before it went well.
        argv: vec!["/probe".to_owned()],
        env: Vec::new(),
        cwd: "/".into(),
        user: 0,
        group: 0,
        limits: Limits::default(),
        seccomp: true,
    };
    let null = || -> Result<std::os::fd::OwnedFd> {
        let file = std::fs::OpenOptions::new().write(true).open("/dev/null");
        file.map(Into::into).map_err(|error| Failure::of("open", "/dev/null", &error))
    };
    match spawn::container(&spec, spawn::Stdio { stdin: None, stdout: null()?, stderr: null()? }) {
        Err(failure) if failure.is_exec() => Ok(()),
        Err(failure) => Err(failure),
        Ok(_) => Ok(()),
    }
}

/// What to do about a refused step, for a person.
fn remedy(failure: &Failure) -> String {
    let restricted = std::fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        .is_ok_and(|value| value.trim() == "1");
    let cloning = failure.step == "clone3" || failure.step == "unshare";
    match failure.errno {
        libc::ENOSPC if cloning => {
            "raise the number of user namespaces: sysctl user.max_user_namespaces=10000 (as root)".to_owned()
        }
        libc::EPERM | libc::EACCES if restricted => apparmor_remedy(),
        libc::EPERM if cloning && !namespaces::needs_user_namespace() => {
            "root lacks CAP_SYS_ADMIN here (usual inside a container): start the container with it \
             (docker: --cap-add SYS_ADMIN --security-opt seccomp=unconfined), or run outside of it"
                .to_owned()
        }
        libc::EPERM if cloning => {
            "user namespaces are refused here (chroot, container or kernel.unprivileged_userns_clone=0): \
             allow them, or run as root"
                .to_owned()
        }
        libc::EPERM if failure.subject.contains("proc") => {
            "parts of /proc are covered (usual inside a container): run as root there, or start the container with an \
             unmasked /proc (docker: --security-opt systempaths=unconfined)"
                .to_owned()
        }
        libc::ENOSYS => "the kernel is too old: 5.12 or later is needed".to_owned(),
        _ => "run `kubeflow doctor` for what this host allows".to_owned(),
    }
}

fn apparmor_remedy() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/local/bin/kubeflow"));
    let program = program.display();
    format!(
        "AppArmor restricts user namespaces here; once, as root, write /etc/apparmor.d/kubeflow with\n\
         abi <abi/4.0>,\ninclude <tunables/global>\nprofile kubeflow {program} flags=(unconfined) {{\n  userns,\n}}\n\
         and run: apparmor_parser -r /etc/apparmor.d/kubeflow"
    )
}
