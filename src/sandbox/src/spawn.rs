//! Starts a process in a box, a helper inside a running box, or our own binary beside us. Called by `shim` and `node`.
//!
//! Flow of [`container`]: clone with namespaces → the child asks to die with its parent and says so → the parent writes
//! id maps if the child has a user namespace of its own and says "go" → the child makes mounts, takes limits, drops
//! capabilities, loads seccomp, execs → the status pipe closes (started) or carries the [`Failure`].
//!
//! Invariant: a child that has not heard "go" exits, so a parent that dies in between leaves nothing behind.

use crate::error::{Failure, Result};
use crate::spec::{Isolation, Spec};
use crate::{capabilities, mounts, namespaces, rlimits, seccomp, sys};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// How long a box may take to be made; a mount on a dead network file system would hold us for ever.
const BUILD_LIMIT_MS: i32 = 60_000;
/// How much sooner than others a boxed process is chosen when memory runs out (0 to 1000).
const OOM_SCORE: &str = "500";
/// The child's first word: it will die with its parent.
const BOUND_TO_PARENT: u8 = b'p';

/// What a process reads and writes.
#[derive(Debug)]
pub struct Stdio {
    /// Its standard input; none is `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: OwnedFd,
    /// Its standard error.
    pub stderr: OwnedFd,
}

/// A started process.
#[derive(Debug)]
pub struct Child {
    /// Its pid as we see it.
    pub pid: libc::pid_t,
    /// Becomes readable when it ends.
    pub pidfd: OwnedFd,
}

/// Starts `spec` and returns once its program runs.
///
/// # Errors
/// The first step that was refused; [`Failure::is_exec`] tells a missing program from a box that could not be made.
pub fn container(spec: &Spec, stdio: Stdio) -> Result<Child> {
    let filters = spec.seccomp.then(seccomp::build).transpose()?;
    let own_user = spec.isolation == Isolation::Sandbox && wants_own_user(spec);
    let flags = match spec.isolation {
        Isolation::Sandbox => libc::CLONE_NEWNS | libc::CLONE_NEWPID | if own_user { libc::CLONE_NEWUSER } else { 0 },
        Isolation::Process => 0,
    };
    let (status_read, status_write) = pipe()?;
    let (go_read, go_write) = pipe()?;
    match sys::clone3(flags as u64)? {
        sys::Cloned::Child => {
            drop((status_read, go_write));
            let failure = child(spec, filters.as_ref(), stdio, &status_write, go_read);
            report(&status_write, &failure);
            exit_now(127)
        }
        sys::Cloned::Parent(pid, pidfd) => {
            drop((status_write, go_read, stdio));
            let child = Child { pid, pidfd };
            match lead(spec, &child, own_user, status_read, go_write) {
                Ok(()) => Ok(child),
                Err(failure) => {
                    crate::process::send(&child.pidfd, libc::SIGKILL);
                    reap(pid);
                    Err(failure)
                }
            }
        }
    }
}

/// An ordinary user's container that wants to be another number than its pod's shim maps.
fn wants_own_user(spec: &Spec) -> bool {
    namespaces_are_mapped() && (spec.user != namespaces::USER_INSIDE || spec.group != namespaces::USER_INSIDE)
}

/// True inside a user namespace of one id (the shim of an ordinary user's pod).
fn namespaces_are_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().nth(2).is_some_and(|count| count == "1"))
}

/// The parent's half of the handshake.
fn lead(spec: &Spec, child: &Child, own_user: bool, status: OwnedFd, go: OwnedFd) -> Result<()> {
    let mut status = File::from(status);
    let mut first = [0_u8; 1];
    wait_readable(status.as_fd().as_raw_fd())?;
    match status.read(&mut first) {
        Ok(1) if first[0] == BOUND_TO_PARENT => {}
        _ => return Err(Failure::new("start", "child", libc::ECHILD)),
    }
    // The child's session is a group of its own for the kernel's autogrouping, and there niceness counts within a group
    // only: the group as a whole must be nicer, or many steps take the cores from the platform. By us, because the kernel
    // lets others do it ten times a second at most. Best effort: there may be no autogrouping.
    if spec.limits.nice > 0 {
        let _ = std::fs::write(format!("/proc/{}/autogroup", child.pid), spec.limits.nice.min(19).to_string());
    }
    if own_user {
        let inside = namespaces::USER_INSIDE;
        namespaces::write_maps(&child.pid.to_string(), spec.user, inside, spec.group, inside)?;
    }
    File::from(go).write_all(b"g").map_err(|error| Failure::of("start", "child", &error))?;
    wait_readable(status.as_fd().as_raw_fd())?;
    let mut said = String::new();
    status.read_to_string(&mut said).map_err(|error| Failure::of("read", "status of child", &error))?;
    if said.is_empty() {
        return Ok(());
    }
    Err(serde_json::from_str(&said).unwrap_or_else(|_| Failure::new("start", "child", libc::EPROTO)))
}

fn wait_readable(descriptor: RawFd) -> Result<()> {
    let mut wanted = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one complete pollfd.
        match unsafe { libc::poll(&raw mut wanted, 1, BUILD_LIMIT_MS) } {
            0 => return Err(Failure::new("build", "sandbox", libc::ETIMEDOUT)),
            -1 if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => return Err(Failure::last("poll", "status of child")),
            _ => return Ok(()),
        }
    }
}

/// The child: never returns but with the failure that stopped it.
fn child(spec: &Spec, filters: Option<&seccomp::Filters>, stdio: Stdio, status: &OwnedFd, go: OwnedFd) -> Failure {
    let boxed = || -> Result<()> {
        die_with_parent()?;
        // SAFETY: no arguments. Own session: a signal to the shim's group is not meant for the container.
        unsafe { libc::setsid() };
        write_byte(status, BOUND_TO_PARENT)?;
        wait_for_go(go)?;
        take_stdio(stdio)?;
        reset_signals();
        // Best effort: when the machine runs out of memory, a step goes before the platform.
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        if spec.isolation == Isolation::Sandbox {
            mounts::build(spec)?;
        }
        rlimits::apply(&spec.limits)?;
        become_user(spec)?;
        die_with_parent()?;
        enter_folder(spec)?;
        if spec.isolation == Isolation::Sandbox {
            capabilities::drop_all()?;
        }
        if let Some(filters) = filters {
            seccomp::install(filters)?;
        }
        Ok(())
    };
    match boxed() {
        Ok(()) => exec(&spec.argv, &spec.env),
        Err(failure) => failure,
    }
}

/// SIGKILL when the parent's thread ends. Holds in every namespace mix; a change of uid clears it, so it is set twice.
fn die_with_parent() -> Result<()> {
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, "pdeathsig").map(drop)
}

fn wait_for_go(go: OwnedFd) -> Result<()> {
    let mut word = [0_u8; 1];
    match File::from(go).read(&mut word) {
        Ok(1) => Ok(()),
        _ => Err(Failure::new("wait for", "parent", libc::ECHILD)),
    }
}

fn take_stdio(stdio: Stdio) -> Result<()> {
    let input = match stdio.stdin {
        Some(input) => input,
        None => File::open("/dev/null").map_err(|error| Failure::of("open", "/dev/null", &error))?.into(),
    };
    for (from, to) in [(&input, 0), (&stdio.stdout, 1), (&stdio.stderr, 2)] {
        // SAFETY: integer arguments; both ends stay open.
        sys::check(unsafe { libc::dup2(from.as_raw_fd(), to) }, "dup2", "stdio")?;
    }
    // What the shim holds besides (socket, logs, pidfds) closes at exec.
    let first_other: libc::c_uint = 3;
    // SAFETY: integer arguments.
    unsafe { libc::syscall(libc::SYS_close_range, first_other, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

/// A program starts with default signal handling whatever the shim ignores, and with huge pages whatever the shim refused.
fn reset_signals() {
    // Older kernels do not know it, and then nothing was refused.
    let _ = sys::prctl(libc::PR_SET_THP_DISABLE, 0, "thp_disable");
    // SAFETY: integer arguments and an empty set.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Real root becomes who the spec names; in a user namespace the map already says who we are.
fn become_user(spec: &Spec) -> Result<()> {
    // SAFETY: no arguments.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    if spec.isolation == Isolation::Process || (uid, gid) == (spec.user, spec.group) || uid != 0 {
        return Ok(());
    }
    // SAFETY: integer arguments and an empty list.
    unsafe {
        sys::check(libc::setgroups(0, std::ptr::null()), "setgroups", "none")?;
        sys::check(libc::setresgid(spec.group, spec.group, spec.group), "setresgid", &spec.group.to_string())?;
        sys::check(libc::setresuid(spec.user, spec.user, spec.user), "setresuid", &spec.user.to_string())?;
    }
    Ok(())
}

fn enter_folder(spec: &Spec) -> Result<()> {
    if spec.isolation == Isolation::Process {
        std::fs::create_dir_all(&spec.cwd).map_err(|error| Failure::of("mkdir", spec.cwd.to_string_lossy(), &error))?;
    }
    std::env::set_current_dir(&spec.cwd).map_err(|error| Failure::of("chdir", spec.cwd.to_string_lossy(), &error))
}

/// Looks the program up in the new environment's `PATH` and replaces this process by it.
fn exec(argv: &[String], env: &[(String, String)]) -> Failure {
    let run = || -> Result<Failure> {
        let program = argv.first().ok_or_else(|| Failure::new("exec", "", libc::ENOENT))?;
        let arguments = argv.iter().map(|text| sys::c_text(text)).collect::<Result<Vec<_>>>()?;
        let variables =
            env.iter().map(|(name, value)| sys::c_text(&format!("{name}={value}"))).collect::<Result<Vec<_>>>()?;
        let pointers = |texts: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argument_pointers, variable_pointers) = (pointers(&arguments), pointers(&variables));
        let mut last = Failure::new("exec", program, libc::ENOENT);
        for candidate in candidates(program, env) {
            let path = sys::c_path(&candidate)?;
            // SAFETY: NUL-terminated path and NULL-terminated arrays of NUL-terminated strings.
            unsafe { libc::execve(path.as_ptr(), argument_pointers.as_ptr(), variable_pointers.as_ptr()) };
            let failure = Failure::last("exec", program);
            if failure.errno != libc::ENOENT && failure.errno != libc::ENOTDIR {
                last = failure;
            }
        }
        Ok(last)
    };
    run().unwrap_or_else(|failure| failure)
}

fn candidates(program: &str, env: &[(String, String)]) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![PathBuf::from(program)];
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or("/usr/bin:/bin", |(_, value)| value);
    path.split(':').filter(|folder| !folder.is_empty()).map(|folder| Path::new(folder).join(program)).collect()
}

fn report(status: &OwnedFd, failure: &Failure) {
    if let Ok(text) = serde_json::to_string(failure) {
        let _ = rustix::io::write(status, text.as_bytes());
    }
}

fn write_byte(descriptor: &OwnedFd, byte: u8) -> Result<()> {
    rustix::io::write(descriptor, &[byte])
        .map(drop)
        .map_err(|errno| Failure::new("write", "status", errno.raw_os_error()))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|errno| Failure::new("make", "pipe", errno.raw_os_error()))
}

/// Ends this process at once: no destructors, no buffers of the parent written twice.
fn exit_now(code: i32) -> ! {
    // SAFETY: an integer argument.
    unsafe { libc::_exit(code) }
}

fn reap(pid: libc::pid_t) {
    // SAFETY: a pid of ours and no status wanted.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Becomes another program with this process's environment; returns only the reason why not.
pub fn replace(program: &Path, words: &[std::ffi::CString]) -> std::io::Error {
    let Ok(path) = sys::c_path(program) else { return std::io::ErrorKind::InvalidInput.into() };
    let pointers: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: a NUL-terminated path and a NULL-terminated array of NUL-terminated strings.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    std::io::Error::last_os_error()
}

/// How a process ended, as a shell would show it: its code, or 128 + the signal.
pub fn exit_code(status: libc::c_int) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Runs `argv` inside the box whose first process is `init`, with the box's limits; returns its child.
///
/// The child is a grandchild of the box's init: it dies with the box, and with us.
pub fn inside(init: libc::pid_t, spec: &Spec, argv: &[String], stdio: Stdio) -> Result<Child> {
    let filters = spec.seccomp.then(seccomp::build).transpose()?;
    let pidfd = crate::process::open_pidfd(init).ok_or_else(|| Failure::new("join", "container", libc::ESRCH))?;
    let (status_read, status_write) = pipe()?;
    match sys::clone3(0)? {
        sys::Cloned::Child => {
            drop(status_read);
            let failure = match joined(&pidfd, spec, filters.as_ref(), argv, stdio, &status_write) {
                Ok(code) => exit_now(code),
                Err(failure) => failure,
            };
            report(&status_write, &failure);
            exit_now(127)
        }
        sys::Cloned::Parent(pid, pidfd) => {
            drop((status_write, stdio));
            let mut said = String::new();
            wait_readable(status_read.as_raw_fd())?;
            let _ = File::from(status_read).read_to_string(&mut said);
            match serde_json::from_str::<Failure>(&said) {
                Ok(failure) => {
                    reap(pid);
                    Err(failure)
                }
                Err(_) => Ok(Child { pid, pidfd }),
            }
        }
    }
}

/// Joins the namespaces, forks (a pid namespace holds for children only) and waits for the program.
fn joined(
    pidfd: &OwnedFd,
    spec: &Spec,
    filters: Option<&seccomp::Filters>,
    argv: &[String],
    stdio: Stdio,
    status: &OwnedFd,
) -> Result<i32> {
    die_with_parent()?;
    take_stdio(stdio)?;
    reset_signals();
    if spec.isolation == Isolation::Sandbox {
        let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID;
        if wants_own_user(spec) {
            flags |= libc::CLONE_NEWUSER;
        }
        // SAFETY: a live pidfd and flags.
        sys::check(unsafe { libc::setns(pidfd.as_raw_fd(), flags) }, "setns", "container")?;
    }
    match sys::clone3(0)? {
        sys::Cloned::Child => {
            let boxed = || -> Result<()> {
                die_with_parent()?;
                rlimits::apply(&spec.limits)?;
                become_user(spec)?;
                die_with_parent()?;
                enter_folder(spec)?;
                if spec.isolation == Isolation::Sandbox {
                    capabilities::drop_all()?;
                }
                filters.map_or(Ok(()), seccomp::install)
            };
            let failure = match boxed() {
                Ok(()) => exec(argv, &spec.env),
                Err(failure) => failure,
            };
            report(status, &failure);
            exit_now(127)
        }
        sys::Cloned::Parent(pid, _) => {
            // Our own copy of the status pipe would keep it open for as long as the program runs.
            // SAFETY: a descriptor of ours that nobody uses after this.
            unsafe { libc::close(status.as_raw_fd()) };
            let mut code = 0;
            // SAFETY: our child and a place for its status.
            unsafe { libc::waitpid(pid, &raw mut code, 0) };
            Ok(exit_code(code))
        }
    }
}

/// Starts a program beside us that is meant to outlive us, and waits until its first process has handed over and ended.
///
/// `posix_spawn` under the hood: nothing of a big process is copied. Environment: only `env`.
///
/// # Errors
/// The program could not be started, or ended with another code than 0 (its standard error is the failure's subject).
pub fn detached(program: &Path, arguments: &[&std::ffi::OsStr], env: &[(String, String)]) -> Result<()> {
    let output = run(program, arguments, env)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::new(
        "start",
        if said.is_empty() { program.to_string_lossy().into_owned() } else { said },
        libc::ECHILD,
    ))
}

/// Runs a program to its end and returns what it wrote. Environment: only `env`.
pub fn run(program: &Path, arguments: &[&std::ffi::OsStr], env: &[(String, String)]) -> Result<std::process::Output> {
    #[expect(clippy::disallowed_methods, reason = "the home of child processes for shim, probe and exec helper")]
    let mut command = std::process::Command::new(program);
    command.args(arguments).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    command.stdin(std::process::Stdio::null());
    command.output().map_err(|error| Failure::of("exec", program.to_string_lossy(), &error))
}
