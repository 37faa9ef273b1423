//! A pod's volumes as folders of its run folder or of the host, and where its containers see them. Called by `pod/effects.rs`.
//!
//! ConfigMaps, Secrets and downward fields are written once, when the pod starts; a later change of the object is not followed.

use crate::limits;
use crate::sources::{Data, Lookup, Missing};
use crate::variables::{self, Facts};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, Volume,
    VolumeProjection,
};
use sandbox::spec::{Mount, Source};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Limit of an `emptyDir` of medium Memory without `sizeLimit`.
const MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// The prefix of the volume that admission adds to every pod; a laptop's pods run without it where it cannot be filled.
const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";

/// Why a volume cannot be set up; the pod waits and it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Something it refers to is not there.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
    Missing {
        /// The volume.
        volume: String,
        /// What is missing.
        source: Missing,
    },
    /// The host's path is not what it should be.
    #[error("MountVolume.SetUp failed for volume {volume:?} : hostPath type check failed: {path} is not a {wanted}")]
    HostPath {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
        /// The type asked for.
        wanted: String,
    },
    /// Nobody here serves volumes of this kind.
    #[error("MountVolume.SetUp failed for volume {volume:?} : volumes of type {kind} are not supported on this node")]
    Unsupported {
        /// The volume.
        volume: String,
        /// Its type.
        kind: String,
    },
    /// The file system refused.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {source}")]
    Io {
        /// The volume.
        volume: String,
        /// The error.
        source: io::Error,
    },
}

/// A volume, ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// A folder or file of the host.
    Path {
        /// Where.
        path: PathBuf,
        /// Whatever the mount says.
        read_only: bool,
    },
    /// Memory of the container.
    Memory {
        /// Limit, bytes.
        size_bytes: u64,
    },
}

/// All volumes of a pod by name.
pub type Volumes = BTreeMap<String, Ready>;

/// Sets up every volume of the pod below `folder` (the pod's own).
pub async fn prepare(pod: &Pod, folder: &Path, facts: &Facts<'_>, lookup: &Lookup) -> Result<Volumes, VolumeError> {
    let mut ready = Volumes::new();
    let spec = pod.spec.as_ref();
    for volume in spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let place = folder.join("volumes").join(&volume.name);
        ready.insert(volume.name.clone(), one(pod, volume, place, facts, lookup).await?);
    }
    Ok(ready)
}

async fn one(
    pod: &Pod,
    volume: &Volume,
    place: PathBuf,
    facts: &Facts<'_>,
    lookup: &Lookup,
) -> Result<Ready, VolumeError> {
    let name = &volume.name;
    let missing = |source| VolumeError::Missing { volume: name.clone(), source };
    let files = if let Some(host) = &volume.host_path {
        return host_path(name, host);
    } else if let Some(empty) = &volume.empty_dir {
        // Memory is a container's own here, so only a pod of one container can have it.
        let alone = pod.spec.as_ref().is_some_and(|spec| spec.containers.len() == 1 && spec.init_containers.is_none());
        if empty.medium.as_deref() == Some("Memory") && alone {
            let size_bytes = empty.size_limit.as_ref().and_then(limits::bytes).unwrap_or(MEMORY_BYTES_DEFAULT);
            return Ok(Ready::Memory { size_bytes });
        }
        make_folder(&place, 0o777).map_err(|source| VolumeError::Io { volume: name.clone(), source })?;
        return Ok(Ready::Path { path: place, read_only: false });
    } else if let Some(source) = &volume.config_map {
        let data = lookup.config_map(&source.name, source.optional.unwrap_or(false)).await.map_err(missing)?;
        let (items, mode) = (source.items.as_deref(), source.default_mode);
        select(data.unwrap_or_default(), items, mode, lookup, "ConfigMap", &source.name).map_err(missing)?
    } else if let Some(source) = &volume.secret {
        let secret = source.secret_name.as_deref().unwrap_or_default();
        let data = lookup.secret(secret, source.optional.unwrap_or(false)).await.map_err(missing)?;
        let (items, mode) = (source.items.as_deref(), source.default_mode);
        select(data.unwrap_or_default(), items, mode, lookup, "Secret", secret).map_err(missing)?
    } else if let Some(source) = &volume.downward_api {
        downward(source.items.as_deref(), source.default_mode, facts).map_err(missing)?
    } else if let Some(source) = &volume.projected {
        projected(source, name.starts_with(TOKEN_VOLUME_PREFIX), facts, lookup).await.map_err(missing)?
    } else {
        return Err(VolumeError::Unsupported { volume: name.clone(), kind: kind_of(volume) });
    };
    write_files(&place, &files).map_err(|source| VolumeError::Io { volume: name.clone(), source })?;
    Ok(Ready::Path { path: place, read_only: true })
}

/// The name of the source that a volume has, from its own serialisation.
fn kind_of(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut keys = value.as_object().into_iter().flat_map(|fields| fields.keys());
    keys.find(|key| *key != "name").cloned().unwrap_or_else(|| "unknown".to_owned())
}

fn host_path(volume: &str, source: &HostPathVolumeSource) -> Result<Ready, VolumeError> {
    let path = PathBuf::from(&source.path);
    let wanted = source.type_.as_deref().unwrap_or_default();
    let failed = |source| VolumeError::Io { volume: volume.to_owned(), source };
    if wanted == "DirectoryOrCreate" && !path.exists() {
        make_folder(&path, 0o755).map_err(failed)?;
    } else if wanted == "FileOrCreate" && !path.exists() {
        std::fs::File::create(&path).map_err(failed)?;
    }
    let metadata = std::fs::metadata(&path).map_err(failed)?;
    let fits = match wanted {
        "Directory" | "DirectoryOrCreate" => metadata.is_dir(),
        "File" | "FileOrCreate" => metadata.is_file(),
        "" => true,
        _ => !metadata.is_dir() && !metadata.is_file(),
    };
    if !fits {
        let (path, wanted) = (source.path.clone(), wanted.to_lowercase());
        return Err(VolumeError::HostPath { volume: volume.to_owned(), path, wanted });
    }
    Ok(Ready::Path { path, read_only: false })
}

/// A file of a volume: relative path, content, mode.
type File = (PathBuf, Vec<u8>, u32);

/// Mode of a projected file unless something says another (Kubernetes' default, 0644).
fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

fn select(
    data: Data,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    lookup: &Lookup,
    kind: &'static str,
    name: &str,
) -> Result<Vec<File>, Missing> {
    let Some(items) = items else {
        let all = data.0.into_iter().map(|(key, value)| (PathBuf::from(key), value, mode(None, default_mode)));
        return Ok(all.collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.0.get(&item.key) {
            Some(value) => files.push((PathBuf::from(&item.path), value.clone(), mode(item.mode, default_mode))),
            None => {
                lookup.key(None, kind, name, &item.key, false)?;
            }
        }
    }
    Ok(files)
}

fn downward(
    items: Option<&[DownwardAPIVolumeFile]>,
    default_mode: Option<i32>,
    facts: &Facts<'_>,
) -> Result<Vec<File>, Missing> {
    let mut files = Vec::new();
    for item in items.unwrap_or_default() {
        let value = if let Some(selector) = &item.field_ref {
            variables::field(selector, facts).ok_or_else(|| Missing::Field { path: selector.field_path.clone() })?
        } else if let Some(selector) = &item.resource_field_ref {
            let mut containers = facts.pod.spec.iter().flat_map(|spec| &spec.containers);
            let named = containers.find(|container| Some(&container.name) == selector.container_name.as_ref());
            named
                .and_then(|container| variables::resource(selector, container, facts))
                .ok_or_else(|| Missing::Field { path: selector.resource.clone() })?
        } else {
            String::new()
        };
        files.push((PathBuf::from(&item.path), value.into_bytes(), mode(item.mode, default_mode)));
    }
    Ok(files)
}

/// `lenient`: a source that cannot be read is left out (the token volume that admission adds to every pod).
async fn projected(
    source: &ProjectedVolumeSource,
    lenient: bool,
    facts: &Facts<'_>,
    lookup: &Lookup,
) -> Result<Vec<File>, Missing> {
    let mut files = Vec::new();
    for projection in source.sources.iter().flatten() {
        match one_projection(projection, source.default_mode, facts, lookup).await {
            Ok(more) => files.extend(more),
            Err(missing) if lenient => tracing::debug!(error = %missing, "a part of a pod's token volume is left out"),
            Err(missing) => return Err(missing),
        }
    }
    Ok(files)
}

async fn one_projection(
    projection: &VolumeProjection,
    default_mode: Option<i32>,
    facts: &Facts<'_>,
    lookup: &Lookup,
) -> Result<Vec<File>, Missing> {
    if let Some(map) = &projection.config_map {
        let data = lookup.config_map(&map.name, map.optional.unwrap_or(false)).await?;
        return select(data.unwrap_or_default(), map.items.as_deref(), default_mode, lookup, "ConfigMap", &map.name);
    }
    if let Some(secret) = &projection.secret {
        let data = lookup.secret(&secret.name, secret.optional.unwrap_or(false)).await?;
        return select(data.unwrap_or_default(), secret.items.as_deref(), default_mode, lookup, "Secret", &secret.name);
    }
    if let Some(fields) = &projection.downward_api {
        return downward(fields.items.as_deref(), default_mode, facts);
    }
    // A service account's token: pods of this node reach the API as nobody until the network of their own is there.
    Ok(Vec::new())
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn write_files(place: &Path, files: &[File]) -> io::Result<()> {
    make_folder(place, 0o755)?;
    for (path, content, mode) in files {
        let inside = path.components().all(|component| matches!(component, Component::Normal(_)));
        if !inside {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("path {} leaves the volume", path.display()),
            ));
        }
        let target = place.join(path);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&target, content)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(*mode))?;
    }
    Ok(())
}

/// Where a container sees the pod's volumes, outer mounts first. `env` is what `subPathExpr` may refer to.
///
/// # Errors
/// The name of a volume that the pod does not have, or a path that leads out of a volume.
pub fn mounts(container: &Container, volumes: &Volumes, env: &[(String, String)]) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::new();
    for wanted in container.volume_mounts.iter().flatten() {
        let volume = volumes.get(&wanted.name).ok_or_else(|| format!("volume {:?} not found", wanted.name))?;
        let expanded = wanted.sub_path_expr.as_ref().map(|text| variables::expand_all(std::slice::from_ref(text), env));
        let sub_path = wanted.sub_path.clone().or_else(|| expanded?.into_iter().next()).filter(|path| !path.is_empty());
        let sub_path = sub_path.map(PathBuf::from);
        if sub_path
            .iter()
            .flat_map(|path| path.components())
            .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
        {
            return Err(format!("subPath {sub_path:?} leaves volume {:?}", wanted.name));
        }
        let asked = wanted.read_only.unwrap_or(false);
        let (source, read_only) = match volume {
            Ready::Path { path, read_only } => (Source::Bind { path: path.clone(), sub_path }, *read_only || asked),
            Ready::Memory { size_bytes } => (Source::Tmpfs { size_bytes: *size_bytes, mode: 0o1777 }, asked),
        };
        mounts.push(Mount { target: Path::new("/").join(&wanted.mount_path), source, read_only });
    }
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}
