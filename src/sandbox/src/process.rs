//! Facts about processes that survive a reused pid: start time, boot id, pid namespace. Called by `shim` and `node`.
//!
//! Invariant: a pid alone never identifies a process; `pid_max` is 32768 on many machines and wraps within an hour.

use crate::error::{Failure, Result};
use crate::sys;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

/// A process, told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its pid as we see it.
    pub pid: i32,
    /// Clock ticks after boot at which it started (field 22 of `stat`).
    pub start: u64,
}

impl Identity {
    /// The identity of a process that runs now; none if there is no such process or it is only a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        let (state, start) = read_stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    /// True while this very process lives (a zombie counts as gone).
    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends `signal` to this very process; false if it is gone.
    pub fn signal(&self, signal: i32) -> bool {
        let Some(pidfd) = open_pidfd(self.pid) else { return false };
        // Between opening and this check the number cannot change hands: the pidfd holds it.
        self.lives() && send(&pidfd, signal)
    }
}

/// State letter and start time of a process.
fn read_stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and brackets: fields are counted after the last bracket.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// A descriptor of a process, none if it is gone.
pub fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// Sends a signal through a pidfd; false if the process is gone.
pub fn send(pidfd: &OwnedFd, signal: i32) -> bool {
    // SAFETY: integer arguments and a null siginfo.
    let done = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    done == 0
}

/// The kernel's id of this boot; a record with another one is from before a restart of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The inode of a process's pid namespace; none if it is gone or not ours.
pub fn pid_namespace(pid: i32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// All processes whose pid namespace has this inode.
pub fn in_namespace(inode: u64) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| pid_namespace(*pid) == Some(inode)).collect()
}

/// The direct children of a process, of all its threads.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<i32>>())
        .collect()
}

/// A process and everything below it. Complete for a box with its own pid namespace, where orphans come back to its init.
pub fn tree(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        found.extend(children(pid));
    }
    found
}

/// Resident memory of a process, bytes; 0 if it is gone.
pub fn resident_bytes(pid: i32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    // SAFETY: an integer argument.
    let page_bytes = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    pages.unwrap_or(0) * page_bytes
}

/// Proportional memory of a process, bytes: walks every page, so ask only when [`resident_bytes`] says it matters.
pub fn proportional_bytes(pid: i32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.map_or_else(|| resident_bytes(pid), |kilobytes| kilobytes * 1024)
}

/// Nanoseconds since 1970, from the kernel (`shim` and `sandbox` have no clock to be handed).
pub fn now_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a complete timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Who we are after [`daemonize`].
pub enum Daemon {
    /// The process that was started: read what the daemon says until it closes the pipe, then exit.
    Starter(OwnedFd),
    /// The daemon: own session, parent gone, adopts orphans. Close the pipe when ready; what is written to it is an error.
    Daemon(OwnedFd),
}

/// Forks twice and leaves the session, so that nothing that ends our starter ends us. One thread only.
pub fn daemonize() -> Result<Daemon> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Failure::new("make", "pipe", errno.raw_os_error()))?;
    if let sys::Cloned::Parent(..) = sys::clone3(0)? {
        return Ok(Daemon::Starter(read));
    }
    // SAFETY: no arguments.
    unsafe { libc::setsid() };
    if let sys::Cloned::Parent(..) = sys::clone3(0)? {
        // SAFETY: an integer argument; nothing to flush in this short-lived process.
        unsafe { libc::_exit(0) };
    }
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, "subreaper")?;
    // SAFETY: integer arguments. A closed socket is an error of a write, not the end of a pod.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::umask(0o022);
    }
    Ok(Daemon::Daemon(write))
}

/// Puts `/dev/null` and `log` in place of standard input, output and error.
pub fn replace_stdio(log: &OwnedFd) -> Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null: OwnedFd = null.map_err(|error| Failure::of("open", "/dev/null", &error))?.into();
    for (from, to) in [(&null, 0), (log, 1), (log, 2)] {
        // SAFETY: integer arguments.
        sys::check(unsafe { libc::dup2(from.as_raw_fd(), to) }, "dup2", "stdio")?;
    }
    Ok(())
}

/// A child that has ended and was not reaped yet: its pid and exit code (128 + signal where one ended it).
pub fn reap_any() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: any child, a place for its status.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (pid, crate::spawn::exit_code(status)))
}

/// Ends a process and everything below it (for boxes without a pid namespace, where the kernel does not).
pub fn kill_tree(root: i32) {
    for pid in tree(root) {
        if let Some(pidfd) = open_pidfd(pid) {
            send(&pidfd, libc::SIGKILL);
        }
    }
}
