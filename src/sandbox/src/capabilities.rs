//! Drops every capability, in all five sets, and forbids to gain any by exec. Called last but for seccomp.

use crate::error::{Failure, Result};
use crate::sys;

/// The highest capability number any kernel may know (the loop ends at the first that it refuses).
const CAPABILITY_MAX: libc::c_ulong = 63;
/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets `no_new_privs` and empties the bounding, ambient, permitted, effective and inheritable sets.
pub fn drop_all() -> Result<()> {
    // SAFETY: integer arguments only.
    sys::check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, "prctl", "no_new_privs")?;
    for capability in 0..=CAPABILITY_MAX {
        match sys::prctl(libc::PR_CAPBSET_DROP, capability, "capbset_drop") {
            Ok(_) => {}
            Err(failure) if failure.errno == libc::EINVAL => break,
            // Without CAP_SETPCAP (a plain user's process) there is nothing to lose either.
            Err(failure) if failure.errno == libc::EPERM => break,
            Err(failure) => return Err(failure),
        }
    }
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
    sys::prctl(libc::PR_CAP_AMBIENT, clear, "ambient_clear_all")?;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let data = [Data::default(); 2];
    // SAFETY: header and two data blocks, as version 3 wants them.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(Failure::last("capset", "empty")) }
}
