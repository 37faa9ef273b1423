//! Builds a root by allow-list on an empty folder and makes it the process's `/`. Called by a child inside its mount namespace.
//!
//! Invariant: nothing of the host is visible but what the spec lists.
//! Invariant: a target is resolved inside the new root (`RESOLVE_IN_ROOT`), so a link in a volume cannot lead a mount to the host.

use crate::error::{Failure, Result};
use crate::spec::{Mount, Source, Spec};
use crate::sys;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Entries in the root's own memory; a bound against a loop that makes files.
const ROOT_ENTRIES_MAX: u32 = 200_000;
/// The devices that every program may expect.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of `/proc` that show or change the host and that only real root could open: covered there.
const PROC_COVERED_FILES: [&str; 5] = ["kcore", "keys", "timer_list", "sysrq-trigger", "sched_debug"];
/// Parts of `/proc` that real root could write.
const PROC_READ_ONLY: [&str; 4] = ["sys", "bus", "fs", "irq"];

/// Makes the root of `spec` and moves into it.
pub fn build(spec: &Spec) -> Result<()> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    sys::mount(Some(Path::new("none")), Path::new("/"), "none", private, "")?;
    let options = format!("mode=0755,size={},nr_inodes={ROOT_ENTRIES_MAX}", spec.root_bytes);
    sys::mount(Some(Path::new("tmpfs")), &spec.root, "tmpfs", libc::MS_NOSUID, &options)?;
    let root = rustix::fs::openat(CWD, &spec.root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| failed("open root", &spec.root, errno))?;
    for mount in &spec.mounts {
        place(&root, mount)?;
    }
    make_folder(&root, &spec.cwd)?;
    let descriptor = descriptor_path(&root);
    if spec.read_only_root {
        let remount = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID;
        sys::mount(None, &descriptor, "tmpfs", remount, "")?;
    }
    pivot(&root)
}

/// Moves into `root` and lets go of the old one.
fn pivot(root: &OwnedFd) -> Result<()> {
    rustix::process::fchdir(root).map_err(|errno| failed("chdir", Path::new("new root"), errno))?;
    rustix::process::pivot_root(".", ".").map_err(|errno| failed("pivot_root", Path::new("."), errno))?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)
        .map_err(|errno| failed("umount", Path::new("old root"), errno))?;
    rustix::process::chdir("/").map_err(|errno| failed("chdir", Path::new("/"), errno))
}

fn place(root: &OwnedFd, mount: &Mount) -> Result<()> {
    let named =
        |failure: Failure| Failure { subject: format!("{} ({})", mount.target.display(), failure.subject), ..failure };
    match &mount.source {
        Source::Bind { path, sub_path } => bind(root, mount, path, sub_path.as_deref()),
        Source::Tmpfs { size_bytes, mode } => tmpfs(root, &mount.target, *size_bytes, *mode, mount.read_only),
        Source::Overlay { lower, upper_bytes } => overlay(root, &mount.target, lower, *upper_bytes),
        Source::Text { content, mode } => text(root, &mount.target, content, *mode),
        Source::Link { to } => link(root, &mount.target, to),
        Source::Folder { mode } => folder(root, &mount.target, *mode),
        Source::Proc => proc(root, &mount.target),
        Source::Devices { shm_bytes } => devices(root, &mount.target, *shm_bytes),
    }
    .map_err(named)
}

fn bind(root: &OwnedFd, mount: &Mount, path: &Path, sub_path: Option<&Path>) -> Result<()> {
    let top = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed("open", path, errno))?;
    let source = match sub_path {
        Some(part) => {
            if open_inside(&top, part).is_err() {
                make_folder(&top, part)?;
            }
            open_inside(&top, part).map_err(|errno| failed("open", part, errno))?
        }
        None => top,
    };
    let target = if is_folder(&source)? { make_folder(root, &mount.target)? } else { make_file(root, &mount.target)? };
    let flags = libc::MS_BIND | libc::MS_REC;
    sys::mount(Some(&descriptor_path(&source)), &descriptor_path(&target), "none", flags, "")?;
    // The old descriptor shows what the mount now covers: open again to reach the mount.
    let placed = open_inside(root, &mount.target).map_err(|errno| failed("open", &mount.target, errno))?;
    let mut added = sys::ATTR_NO_SUID;
    if mount.read_only {
        added |= sys::ATTR_READ_ONLY;
    }
    sys::mount_add_flags(placed.as_raw_fd(), added)
}

fn tmpfs(root: &OwnedFd, target: &Path, size_bytes: u64, mode: u32, read_only: bool) -> Result<()> {
    let place = make_folder(root, target)?;
    let options = format!("mode={mode:o},size={size_bytes},nr_inodes={ROOT_ENTRIES_MAX}");
    let mut flags = libc::MS_NOSUID | libc::MS_NODEV;
    if read_only {
        flags |= libc::MS_RDONLY;
    }
    sys::mount(Some(Path::new("tmpfs")), &descriptor_path(&place), "tmpfs", flags, &options)
}

/// A layer in memory over `lower`: upper and work folder lie in a tmpfs that the overlay itself then covers.
fn overlay(root: &OwnedFd, target: &Path, lower: &Path, upper_bytes: u64) -> Result<()> {
    tmpfs(root, target, upper_bytes, 0o755, false)?;
    let layer = open_inside(root, target).map_err(|errno| failed("open", target, errno))?;
    for name in ["upper", "work"] {
        rustix::fs::mkdirat(&layer, name, Mode::from_raw_mode(0o755))
            .map_err(|errno| failed("mkdir", target, errno))?;
    }
    let below = rustix::fs::openat(CWD, lower, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())
        .map_err(|errno| failed("open", lower, errno))?;
    let (below, layer) = (descriptor_path(&below), descriptor_path(&layer));
    let options = format!(
        "lowerdir={},upperdir={layer}/upper,workdir={layer}/work,userxattr,volatile",
        below.display(),
        layer = layer.display()
    );
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    sys::mount(Some(Path::new("overlay")), &layer, "overlay", flags, &options)
}

fn text(root: &OwnedFd, target: &Path, content: &str, mode: u32) -> Result<()> {
    let (parent, name) = make_parent(root, target)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(mode))
        .map_err(|errno| failed("create", target, errno))?;
    let mut rest = content.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).map_err(|errno| failed("write", target, errno))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn link(root: &OwnedFd, target: &Path, to: &Path) -> Result<()> {
    let (parent, name) = make_parent(root, target)?;
    match rustix::fs::symlinkat(to, &parent, &name) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(failed("symlink", target, errno)),
    }
}

fn folder(root: &OwnedFd, target: &Path, mode: u32) -> Result<()> {
    let placed = make_folder(root, target)?;
    rustix::fs::chmodat(CWD, descriptor_path(&placed), Mode::from_raw_mode(mode), AtFlags::empty())
        .map_err(|errno| failed("chmod", target, errno))
}

fn proc(root: &OwnedFd, target: &Path) -> Result<()> {
    let place = make_folder(root, target)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    sys::mount(Some(Path::new("proc")), &descriptor_path(&place), "proc", flags, "")?;
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 || crate::namespaces::needs_user_namespace() || in_user_namespace() {
        return Ok(());
    }
    // Real root owns these files whatever its capabilities are.
    let mounted = open_inside(root, target).map_err(|errno| failed("open", target, errno))?;
    let base = descriptor_path(&mounted);
    for name in PROC_COVERED_FILES.iter().map(|name| base.join(name)).filter(|path| path.exists()) {
        sys::mount(Some(Path::new("/dev/null")), &name, "none", libc::MS_BIND, "")?;
    }
    for name in PROC_READ_ONLY.iter().map(|name| base.join(name)).filter(|path| path.exists()) {
        sys::mount(Some(&name), &name, "none", libc::MS_BIND | libc::MS_REC, "")?;
        let covered = rustix::fs::openat(CWD, &name, OFlags::PATH, Mode::empty())
            .map_err(|errno| failed("open", &name, errno))?;
        sys::mount_add_flags(covered.as_raw_fd(), sys::ATTR_READ_ONLY)?;
    }
    Ok(())
}

/// True if uid 0 here is somebody else outside.
fn in_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"])
}

fn devices(root: &OwnedFd, target: &Path, shm_bytes: u64) -> Result<()> {
    let dev = make_folder(root, target)?;
    for name in DEVICES {
        let host = Path::new("/dev").join(name);
        let place = make_file(&dev, Path::new(name))?;
        sys::mount(Some(&host), &descriptor_path(&place), "none", libc::MS_BIND, "")?;
    }
    let pts = make_folder(&dev, Path::new("pts"))?;
    let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
    sys::mount(
        Some(Path::new("devpts")),
        &descriptor_path(&pts),
        "devpts",
        flags,
        "newinstance,ptmxmode=0666,mode=0620",
    )?;
    tmpfs(&dev, Path::new("shm"), shm_bytes, 0o1777, false)?;
    let links = [("ptmx", "pts/ptmx"), ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0")];
    let more = [("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")];
    links.iter().chain(&more).try_for_each(|(name, to)| link(&dev, Path::new(name), Path::new(to)))
}

/// Opens `path` as seen from inside `root`.
fn open_inside(root: &OwnedFd, path: &Path) -> std::result::Result<OwnedFd, rustix::io::Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Makes `path` and every folder above it inside `root`.
fn make_folder(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    if let Ok(there) = open_inside(root, path) {
        return Ok(there);
    }
    let mut walked = PathBuf::from("/");
    let mut at = open_inside(root, &walked).map_err(|errno| failed("open", path, errno))?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        walked.push(name);
        at = match open_inside(root, &walked) {
            Ok(next) => next,
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755))
                    .map_err(|errno| failed("mkdir", &walked, errno))?;
                open_inside(root, &walked).map_err(|errno| failed("open", &walked, errno))?
            }
            Err(errno) => return Err(failed("open", &walked, errno)),
        };
    }
    Ok(at)
}

fn make_parent(root: &OwnedFd, path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let name = path.file_name().ok_or_else(|| Failure::new("name", path.to_string_lossy(), libc::EINVAL))?;
    let parent = make_folder(root, path.parent().unwrap_or(Path::new("/")))?;
    Ok((parent, PathBuf::from(name)))
}

fn make_file(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    if let Ok(there) = open_inside(root, path) {
        return Ok(there);
    }
    let (parent, name) = make_parent(root, path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(0o644))
        .map_err(|errno| failed("create", path, errno))?;
    open_inside(root, path).map_err(|errno| failed("open", path, errno))
}

fn is_folder(descriptor: &OwnedFd) -> Result<bool> {
    let stat = rustix::fs::fstat(descriptor).map_err(|errno| failed("stat", Path::new("source"), errno))?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory)
}

/// The path under which the kernel finds what `descriptor` stands for, whatever its name is by now.
fn descriptor_path(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd()))
}

fn failed(step: &str, subject: &Path, errno: rustix::io::Errno) -> Failure {
    Failure::new(step, subject.to_string_lossy(), errno.raw_os_error())
}
