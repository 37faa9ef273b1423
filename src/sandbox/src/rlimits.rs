//! Limits that need no cgroup: processes, open files, core dumps, niceness, cores. Called by a child inside its namespaces.

use crate::error::Result;
use crate::spec::Limits;
use crate::sys;

/// Threads count as processes, and a data-science program starts dozens: never below this.
pub const PROCESSES_MIN: u64 = 512;

/// Applies `limits` to the calling process. A limit that the host does not allow to be raised is left as it is.
pub fn apply(limits: &Limits) -> Result<()> {
    set(libc::RLIMIT_CORE, 0, "core")?;
    if let Some(processes) = limits.processes {
        set(libc::RLIMIT_NPROC, processes.max(PROCESSES_MIN), "nproc")?;
    }
    if let Some(files) = limits.open_files {
        set(libc::RLIMIT_NOFILE, files, "nofile")?;
    }
    if limits.nice > 0 {
        // SAFETY: integer arguments only. Raising niceness is always allowed.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, limits.nice.min(19)) };
    }
    if let Some(cores) = limits.cores {
        pin(cores);
    }
    Ok(())
}

fn set(resource: libc::__rlimit_resource_t, wanted: u64, subject: &str) -> Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a complete rlimit.
    sys::check(unsafe { libc::getrlimit(resource, &raw mut now) }, "getrlimit", subject)?;
    let limit = wanted.min(now.rlim_max);
    let both = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: a complete rlimit.
    sys::check(unsafe { libc::setrlimit(resource, &raw const both) }, "setrlimit", subject)?;
    Ok(())
}

/// Keeps to `cores` of the allowed cores, starting at one that differs by process so that pods spread. Best effort.
fn pin(cores: u32) {
    // SAFETY: cpu_set_t is plain bits; the calls read and write exactly its size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut allowed) != 0 {
            return;
        }
        let open: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &allowed)).collect();
        if open.len() <= cores as usize {
            return;
        }
        let first = libc::getppid().unsigned_abs() as usize;
        let mut chosen: libc::cpu_set_t = std::mem::zeroed();
        for step in 0..cores as usize {
            libc::CPU_SET(open[(first + step) % open.len()], &mut chosen);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const chosen);
    }
}
