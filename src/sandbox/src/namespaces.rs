//! The namespaces of a pod: what its shim unshares once, and what each container gets of its own.
//!
//! An ordinary user gets a user namespace with one mapped id, his own; root stays outside user namespaces, because a
//! `/proc` of which a part is covered (every default container) cannot be mounted from inside one, and because files
//! that a step writes then belong to root as they would anywhere else.
//! Containers of a pod share user, ipc and uts namespaces through their shim; mount and pid are their own.

use crate::error::{Failure, Result};
use crate::sys;
use std::fs;

/// The number that a pod's processes see for the user who runs the platform, unless `runAsUser` says another.
pub const USER_INSIDE: u32 = 0;

/// True if namespaces are made through a user namespace: everybody but root.
pub fn needs_user_namespace() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() != 0 }
}

/// Moves the calling process into a pod's user (unless root), ipc and uts namespaces and names the host.
///
/// The network stays the host's: the interface for the network that comes later is this one place.
pub fn enter_pod(hostname: &str) -> Result<()> {
    // SAFETY: no arguments.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    let mut flags = libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if needs_user_namespace() {
        flags |= libc::CLONE_NEWUSER;
    }
    // SAFETY: integer argument; the caller has one thread.
    sys::check(unsafe { libc::unshare(flags) }, "unshare", "user, ipc and uts namespaces")?;
    if needs_map(flags) {
        write_maps("self", USER_INSIDE, user, USER_INSIDE, group)?;
    }
    set_hostname(hostname)
}

/// Writes the maps of one id each of the process `pid` ("self" or a number), whose user namespace is new.
pub fn write_maps(pid: &str, user_inside: u32, user: u32, group_inside: u32, group: u32) -> Result<()> {
    let write = |file: &str, content: String| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, content).map_err(|error| Failure::of("write", path, &error))
    };
    match write("setgroups", "deny".to_owned()) {
        // In a nested namespace the parent's denial is inherited and the file may not be written again.
        Err(failure) if failure.errno != libc::EPERM => return Err(failure),
        _ => {}
    }
    write("gid_map", format!("{group_inside} {group} 1"))?;
    write("uid_map", format!("{user_inside} {user} 1"))
}

fn needs_map(flags: libc::c_int) -> bool {
    flags & libc::CLONE_NEWUSER != 0
}

/// Names the host inside the uts namespace (at most 63 bytes, as Kubernetes cuts it).
fn set_hostname(hostname: &str) -> Result<()> {
    let name: String = hostname.chars().take(63).collect();
    // SAFETY: pointer and length of a live buffer.
    sys::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }, "sethostname", &name)?;
    Ok(())
}
