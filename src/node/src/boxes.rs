//! A container's spec, its image and its volumes as a box for the shim. Pure but for asking the host's names; called at launch.

use crate::images::Image;
use crate::layers;
use crate::limits;
use crate::variables;
use k8s_openapi::api::core::v1::{Container, Pod};
use sandbox::spec::{Isolation, Mount, Source, Spec};
use shim::folder::Folder;
use std::path::{Path, PathBuf};

/// Where a program leaves its last words.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Everything that a box is made of.
pub struct Parts<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container of it.
    pub container: &'a Container,
    /// Which attempt.
    pub attempt: u32,
    /// What stands in for its image.
    pub image: &'a Image,
    /// The variables that its spec asks for.
    pub variables: Vec<(String, String)>,
    /// Its volumes.
    pub volumes: Vec<Mount>,
    /// The pod's run folder.
    pub folder: &'a Folder,
    /// What this node can do.
    pub isolation: Isolation,
    /// Whether copy-on-write layers can be mounted.
    pub overlay: bool,
}

/// The file in the run folder that a container sees as its termination log.
pub fn termination_file(folder: &Folder, container: &str, attempt: u32) -> PathBuf {
    folder.path().join("last-words").join(format!("{container}.{attempt}"))
}

/// A folder of the run folder that a container may fill; removed when the pod has ended.
pub fn scratch(folder: &Folder, container: &str) -> PathBuf {
    folder.path().join("scratch").join(container)
}

/// Makes the files that the box binds and says what the box is.
pub fn build(parts: Parts<'_>) -> std::io::Result<Spec> {
    let Parts { pod, container, image, folder, isolation, .. } = parts;
    let host_name = host_name(pod);
    let mut env = image.env.clone();
    env.push(("HOSTNAME".to_owned(), host_name.clone()));
    env.retain(|(name, _)| !parts.variables.iter().any(|(known, _)| known == name));
    env.extend(parts.variables.iter().cloned());
    let scratch = scratch(folder, &container.name);
    for part in ["tmp", "root"] {
        std::fs::create_dir_all(scratch.join(part))?;
    }
    set_mode(&scratch.join("tmp"), 0o1777)?;
    let words = termination_file(folder, &container.name, parts.attempt);
    if let Some(parent) = words.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&words, b"")?;
    set_mode(&words, 0o666)?;

    let mut mounts = image.mounts.clone();
    if let Some(environment) = &image.environment {
        mounts.extend(layers::of_environment(environment, &scratch, isolation, parts.overlay)?);
    }
    mounts.push(Mount { target: "/proc".into(), source: Source::Proc, read_only: false });
    mounts.push(Mount {
        target: "/dev".into(),
        source: Source::Devices { shm_bytes: limits::SHM_BYTES },
        read_only: false,
    });
    mounts.push(Mount::writable(scratch.join("tmp"), "/tmp"));
    let last_words = container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
    mounts.push(Mount::writable(&words, last_words));
    mounts.push(Mount::link("/var/tmp", "/tmp"));
    mounts.extend(people(pod, container));
    mounts.push(Mount::text("/etc/hostname", format!("{host_name}\n")));
    mounts.push(Mount::text("/etc/hosts", hosts(&host_name)));
    let home =
        env.iter().rev().find(|(name, _)| name == "HOME").map_or("/root", |(_, value)| value.as_str()).to_owned();
    if home.starts_with('/') && home.len() > 1 {
        mounts.insert(0, Mount::writable(scratch.join("root"), home));
    }
    mounts.extend(parts.volumes);

    let (user, group) = user(pod, container);
    let security = container.security_context.as_ref();
    let mut spec = Spec {
        isolation,
        root: folder.root(&container.name),
        root_bytes: limits::ROOT_BYTES,
        read_only_root: security.and_then(|security| security.read_only_root_filesystem).unwrap_or(false),
        mounts,
        argv: argv(container, image, &env),
        env,
        cwd: PathBuf::from(container.working_dir.as_deref().unwrap_or("/")),
        user,
        group,
        limits: limits::of_container(container),
        seccomp: isolation == Isolation::Sandbox,
    };
    if isolation == Isolation::Process {
        layers::without_mounts(&mut spec, &scratch);
    }
    Ok(spec)
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn argv(container: &Container, image: &Image, env: &[(String, String)]) -> Vec<String> {
    let command = variables::expand_all(container.command.as_deref().unwrap_or_default(), env);
    let arguments = variables::expand_all(container.args.as_deref().unwrap_or_default(), env);
    if command.is_empty() && arguments.is_empty() {
        return image.command.clone();
    }
    command.into_iter().chain(arguments).collect()
}

/// `runAsUser` and `runAsGroup`: the container's, else the pod's, else root as in the images we stand in for.
fn user(pod: &Pod, container: &Container) -> (u32, u32) {
    let own = container.security_context.as_ref();
    let whole = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let user = number(own.and_then(|own| own.run_as_user)).or(number(whole.and_then(|whole| whole.run_as_user)));
    let group = number(own.and_then(|own| own.run_as_group)).or(number(whole.and_then(|whole| whole.run_as_group)));
    (user.unwrap_or(0), group.unwrap_or(0))
}

/// `/etc/passwd` and `/etc/group` of a small image, and the user that the container runs as.
fn people(pod: &Pod, container: &Container) -> [Mount; 2] {
    let (user, group) = user(pod, container);
    let mut passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n".to_owned();
    let mut groups = "root:x:0:\nnogroup:x:65534:\n".to_owned();
    if user != 0 {
        passwd.push_str(&format!("user:x:{user}:{group}:user:/root:/bin/sh\n"));
    }
    if group != 0 {
        groups.push_str(&format!("user:x:{group}:\n"));
    }
    [Mount::text("/etc/passwd", passwd), Mount::text("/etc/group", groups)]
}

/// The pod's name (or `hostname`), at most 63 bytes.
pub fn host_name(pod: &Pod) -> String {
    let named = pod.spec.as_ref().and_then(|spec| spec.hostname.clone()).or_else(|| pod.metadata.name.clone());
    named.unwrap_or_default().chars().take(63).collect()
}

/// The host's own table, so that names its user relies on are found, and the pod's name.
fn hosts(host_name: &str) -> String {
    let own =
        std::fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1\tlocalhost\n::1\tlocalhost\n".to_owned());
    format!("{}\n127.0.0.1\t{host_name}\n", own.trim_end())
}
