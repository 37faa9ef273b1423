//! The few calls that neither libc nor rustix wraps as needed here. Called by the other files of this crate only.

use crate::error::{Failure, Result};
use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// `struct clone_args` of `clone3(2)`, first version (64 bytes).
#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
}

/// What [`clone3`] answers.
pub enum Cloned {
    /// We are the child.
    Child,
    /// We are the parent: the child's pid and pidfd.
    Parent(libc::pid_t, OwnedFd),
}

/// `clone3` without a new stack: like `fork`, with namespaces and a pidfd.
///
/// The caller has one thread, so the child may allocate.
pub fn clone3(flags: u64) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: args is a complete clone_args; no stack is given, so the child runs on a copy of ours.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel stored a fresh descriptor into pidfd.
        1.. => Ok(Cloned::Parent(pid as libc::pid_t, unsafe { OwnedFd::from_raw_fd(pidfd) })),
        _ => Err(Failure::last("clone3", format!("{flags:#x}"))),
    }
}

/// A path as a C string; EINVAL for one with a NUL.
pub fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Failure::new("use path", path.to_string_lossy(), libc::EINVAL))
}

/// A text as a C string; EINVAL for one with a NUL.
pub fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Failure::new("use text", text.replace('\0', "\\0"), libc::EINVAL))
}

/// `mount(2)`.
pub fn mount(source: Option<&Path>, target: &Path, kind: &str, flags: libc::c_ulong, data: &str) -> Result<()> {
    let (c_source, c_target) = (source.map(c_path).transpose()?, c_path(target)?);
    let (c_kind, c_data) = (c_text(kind)?, c_text(data)?);
    let source_pointer = c_source.as_ref().map_or(c_kind.as_ptr(), |text| text.as_ptr());
    // SAFETY: all pointers are NUL-terminated strings that outlive the call.
    let done =
        unsafe { libc::mount(source_pointer, c_target.as_ptr(), c_kind.as_ptr(), flags, c_data.as_ptr().cast()) };
    if done == 0 { Ok(()) } else { Err(Failure::last("mount", kind)) }
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_RDONLY`.
pub const ATTR_READ_ONLY: u64 = 1;
/// `MOUNT_ATTR_NOSUID`.
pub const ATTR_NO_SUID: u64 = 2;

/// Adds flags to the mount whose root `descriptor` is and to everything below it (Linux 5.12).
pub fn mount_add_flags(descriptor: RawFd, flags: u64) -> Result<()> {
    let attr = MountAttr { set: flags, clear: 0, propagation: 0, userns_fd: 0 };
    let at = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    // SAFETY: an empty NUL-terminated path and a complete mount_attr.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, descriptor, c"".as_ptr(), at, &raw const attr, size_of::<MountAttr>())
    };
    if done == 0 { Ok(()) } else { Err(Failure::last("mount_setattr", format!("{flags:#x}"))) }
}

/// Checks the answer of a libc call that says -1 on failure.
pub fn check(answer: libc::c_int, step: &str, subject: &str) -> Result<libc::c_int> {
    if answer < 0 { Err(Failure::last(step, subject)) } else { Ok(answer) }
}

/// `prctl(2)` with integer arguments.
pub fn prctl(option: libc::c_int, argument: libc::c_ulong, subject: &str) -> Result<libc::c_int> {
    // SAFETY: integer arguments only.
    check(unsafe { libc::prctl(option, argument, 0, 0, 0) }, "prctl", subject)
}
