//! What stands in for a container's image: the host's `/usr` with a shell, or a Python environment. Called at launch.
//!
//! Which image stands for what is decided by its name alone ([`classify`]); everything else is refused with the remedy.

use crate::environments::{EnvironmentError, Environments};
use crate::host_config;
use sandbox::spec::Mount;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the environment is mounted, in every pod.
pub const ENVIRONMENT_TARGET: &str = "/venv";
/// Where our own binary and its links are mounted, in every pod with Python.
pub const FRONT_TARGET: &str = "/kubeflow";
/// The search path of a shell image.
const SHELL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Files of the host's `/etc` that programs need and that say nothing about the user.
const ETC_FILES: [&str; 12] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ssl",
    "pki",
    "ca-certificates",
    "alternatives",
    "localtime",
    "timezone",
    "nsswitch.conf",
    "mime.types",
    "resolv.conf",
];

/// How an image name is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// An official Python image of this minor version of Python 3.
    Python {
        /// `11` of `3.11`; none for a tag without one (`python:3`, `latest`).
        minor: Option<u32>,
    },
    /// A small image of which only the shell and its tools are used.
    Shell {
        /// What runs if the pod names no command.
        command: &'static str,
    },
    /// Nothing here stands in for it.
    Unknown,
}

/// Whether another minor version of Python may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StandIn {
    /// The nearest one, with a warning.
    #[default]
    Nearest,
    /// Never.
    Never,
}

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing stands in for it.
    #[error(
        "no stand-in for image {image:?} on this machine: python:3.X (any registry), ubi9/python-3XX, alpine, busybox and bash \
         images run here; use one of them for this step"
    )]
    Unknown {
        /// As asked for.
        image: String,
    },
    /// Only another Python is here, and that may not stand in.
    #[error(
        "image {image:?} needs Python 3.{wanted}, which is not on this machine (found: {found}), and images.standIn is `never`: install Python 3.{wanted} (for instance `uv python install 3.{wanted}`)"
    )]
    OtherPython {
        /// As asked for.
        image: String,
        /// The minor version.
        wanted: u32,
        /// What is there.
        found: String,
    },
    /// There is no Python 3 at all.
    #[error(
        "image {image:?} needs Python 3, and none was found on this machine (looked on PATH, in pyenv, conda and uv): install one, for instance with the system's package manager or `uv python install`"
    )]
    NoPython {
        /// As asked for.
        image: String,
    },
    /// The environment could not be made.
    #[error("environment for image {image:?} could not be made")]
    Environment {
        /// As asked for.
        image: String,
        /// Why.
        #[source]
        source: EnvironmentError,
    },
}

/// What a container gets from its image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Identifies the content.
    pub id: String,
    /// What is in the root besides volumes.
    pub mounts: Vec<Mount>,
    /// Variables that the spec may override.
    pub env: Vec<(String, String)>,
    /// Runs if the spec names neither command nor arguments.
    pub command: Vec<String>,
    /// The Python environment, to be shown at [`ENVIRONMENT_TARGET`] so that the container may change what it sees.
    pub environment: Option<PathBuf>,
    /// Something else than asked for stands in: what, for the pod's annotation and a warning.
    pub stands_in: Option<String>,
}

/// Reads an image name. Tags and registries are as Docker writes them.
pub fn classify(image: &str) -> Class {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let repository = path.rsplit('/').next().unwrap_or(path);
    let owner = path.rsplit('/').nth(1);
    let is_official = owner.is_none_or(|owner| matches!(owner, "library" | "docker.io" | "index.docker.io"));
    match repository {
        "python" if is_official || owner == Some("cpython") => python_tag(tag),
        "alpine" | "busybox" => Class::Shell { command: "sh" },
        "bash" => Class::Shell { command: "bash" },
        // Red Hat and friends write the version into the name: ubi9/python-311.
        other if !digest => match other.strip_prefix("python-3").and_then(|minor| minor.parse().ok()) {
            Some(minor) => Class::Python { minor: Some(minor) },
            None => Class::Unknown,
        },
        _ => Class::Unknown,
    }
}

/// `3.11`, `3.11.4`, `3.11-slim-bookworm`, `3-slim`, `latest`, `slim`; alpine and windows variants have another C library.
fn python_tag(tag: Option<&str>) -> Class {
    let tag = tag.unwrap_or("latest");
    let (version, variant) = tag.split_once('-').unwrap_or((tag, ""));
    if variant.contains("alpine") || variant.contains("windows") {
        return Class::Unknown;
    }
    if matches!(version, "latest" | "slim" | "bookworm" | "bullseye" | "trixie" | "3") {
        return Class::Python { minor: None };
    }
    let mut parts = version.split('.');
    match (parts.next(), parts.next().and_then(|minor| minor.parse::<u32>().ok())) {
        // Before 3.9 a newer Python is no stand-in any more: packages of that time do not run on it.
        (Some("3"), Some(minor)) if minor >= 9 => Class::Python { minor: Some(minor) },
        _ => Class::Unknown,
    }
}

/// Turns image names into mounts.
#[derive(Clone)]
pub struct Images {
    environments: Arc<Environments>,
    program: PathBuf,
    stand_in: StandIn,
}

impl Images {
    /// `program`: our own binary, the pip front in pods.
    pub fn new(environments: Arc<Environments>, program: PathBuf, stand_in: StandIn) -> Self {
        Self { environments, program, stand_in }
    }

    /// Looks for what images need, so that the first pod does not wait for it, and removes what nothing has needed in a long time.
    pub async fn warm(&self) {
        self.environments.interpreters().await;
        let environments = self.environments.clone();
        let _ = foundation::tasks::blocking("tidy environments", move || environments.tidy()).await;
    }

    /// True if getting the image means work that takes seconds (an environment must be built).
    pub async fn takes_long(&self, image: &str, requirements: &[Vec<String>]) -> bool {
        match classify(image) {
            Class::Python { minor } => !self.environments.is_built(minor, requirements).await,
            _ => false,
        }
    }

    /// The image `name` for a pod with these requirement groups (lines of `pip install` arguments).
    pub async fn get(&self, name: &str, requirements: &[Vec<String>]) -> Result<Image, ImageError> {
        match classify(name) {
            Class::Shell { command } => Ok(shell(command)),
            Class::Python { minor } => self.python(name, minor, requirements).await,
            Class::Unknown => Err(ImageError::Unknown { image: name.to_owned() }),
        }
    }

    async fn python(&self, name: &str, minor: Option<u32>, requirements: &[Vec<String>]) -> Result<Image, ImageError> {
        let image = || name.to_owned();
        let found = self.environments.interpreters().await;
        let interpreter = found.nearest(minor).ok_or_else(|| ImageError::NoPython { image: image() })?;
        let other = minor.filter(|wanted| *wanted != interpreter.minor);
        if let (Some(wanted), StandIn::Never) = (other, self.stand_in) {
            return Err(ImageError::OtherPython { image: image(), wanted, found: found.summary() });
        }
        let built = self.environments.get(interpreter, requirements).await;
        let built = built.map_err(|source| ImageError::Environment { image: image(), source })?;
        let mut base = shell("python3");
        base.id = format!("sha256:{}", built.key);
        base.command = vec!["python3".to_owned()];
        if !interpreter.prefix.starts_with("/usr") {
            base.mounts.push(Mount::read_only(&interpreter.prefix, &interpreter.prefix));
        }
        base.environment = Some(built.venv);
        let front = Path::new(FRONT_TARGET);
        base.mounts.push(Mount::read_only(&self.program, front.join("exe")));
        for name in crate::pip_front::NAMES {
            base.mounts.push(Mount::link(front.join("bin").join(name), "../exe"));
        }
        base.mounts.extend(host_config::pip_files());
        set(&mut base.env, "PATH", &format!("{FRONT_TARGET}/bin:{ENVIRONMENT_TARGET}/bin:{SHELL_PATH}"));
        // What a step prints is seen when it prints it, and in the order in which it did.
        set(&mut base.env, "PYTHONUNBUFFERED", "1");
        set(&mut base.env, "PYTHON_VERSION", &interpreter.version);
        base.env.extend(host_config::pip_variables());
        base.stands_in = other.map(|wanted| format!("Python {} stands in for 3.{wanted}", interpreter.version));
        Ok(base)
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    env.retain(|(known, _)| known != name);
    env.push((name.to_owned(), value.to_owned()));
}

/// The host's programs, and nothing of its users.
fn shell(command: &str) -> Image {
    let mut mounts = vec![Mount::read_only("/usr", "/usr")];
    for name in ["bin", "lib", "lib32", "lib64", "libx32", "sbin"] {
        let path = Path::new("/").join(name);
        match std::fs::read_link(&path) {
            Ok(to) => mounts.push(Mount::link(path, to)),
            Err(_) if path.is_dir() => mounts.push(Mount::read_only(path.clone(), path)),
            Err(_) => {}
        }
    }
    for name in ETC_FILES {
        let path = Path::new("/etc").join(name);
        if path.exists() {
            mounts.push(Mount::read_only(path.clone(), path));
        }
    }
    let env = [("PATH", SHELL_PATH), ("LANG", "C.UTF-8"), ("HOME", "/root")];
    let mut env: Vec<(String, String)> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    env.extend(host_config::network_variables());
    Image {
        id: "sha256:host".to_owned(),
        mounts,
        env,
        command: vec![command.to_owned()],
        environment: None,
        stands_in: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_public_corpus() {
        let python = |minor| Class::Python { minor: Some(minor) };
        let shell = |command| Class::Shell { command };
        let cases = [
            ("python:3.11", python(11)),
            ("python:3.11-slim", python(11)),
            ("python:3.12.4-slim-bookworm", python(12)),
            ("docker.io/library/python:3.9", python(9)),
            ("public.ecr.aws/docker/library/python:3.12", python(12)),
            ("registry.example:5000/library/python:3.10", python(10)),
            ("python", Class::Python { minor: None }),
            ("python:3-slim", Class::Python { minor: None }),
            ("registry.access.redhat.com/ubi9/python-311:latest", python(11)),
            ("alpine", shell("sh")),
            ("alpine:3.23", shell("sh")),
            ("ghcr.io/containerd/busybox", shell("sh")),
            ("library/bash", shell("bash")),
            ("python:alpine3.9", Class::Unknown),
            ("python:3.11-alpine", Class::Unknown),
            ("python:3.7", Class::Unknown),
            ("jetbrainsinfra/jq", Class::Unknown),
            (
                "byrnedo/alpine-curl@sha256:548379d0a4a0c08b9e55d9d87a592b7d35d9ab3037f4936f5ccd09d0b625a342",
                Class::Unknown,
            ),
            ("google/cloud-sdk:slim", Class::Unknown),
            ("gcr.io/my-image", Class::Unknown),
        ];
        for (image, expected) in cases {
            assert_eq!(classify(image), expected, "{image}");
        }
    }
}
