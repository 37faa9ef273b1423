//! How a container sees a shared, read-only Python environment as its own. Called by `boxes`.
//!
//! Best a copy-on-write layer. Where none can be mounted, a small environment of the container's own that finds everything of
//! the shared one through a `.pth` file: what is there counts as installed, what is added goes to the container's own.
//! Invariant: the shared environment is never written to, whatever the runtime.

use crate::images::ENVIRONMENT_TARGET;
use sandbox::spec::{Isolation, Mount, Source, Spec};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Limit of what a step may install or change in its environment (it is memory).
const LAYER_BYTES: u64 = 4 << 30;
/// Where the shared environment is seen if it cannot be at its usual place.
const SHARED_TARGET: &str = "/kubeflow/environment";

/// The mounts that show `environment` at [`ENVIRONMENT_TARGET`].
pub fn of_environment(
    environment: &Path,
    scratch: &Path,
    isolation: Isolation,
    overlay: bool,
) -> io::Result<Vec<Mount>> {
    if isolation == Isolation::Sandbox && overlay {
        let source = Source::Overlay { lower: environment.to_owned(), upper_bytes: LAYER_BYTES };
        return Ok(vec![Mount { target: ENVIRONMENT_TARGET.into(), source, read_only: false }]);
    }
    let own = scratch.join("venv");
    let seen = if isolation == Isolation::Sandbox { Path::new(SHARED_TARGET) } else { environment };
    link(environment, seen, &own)?;
    let mut mounts = vec![Mount::writable(own, ENVIRONMENT_TARGET)];
    if isolation == Isolation::Sandbox {
        mounts.push(Mount::read_only(environment, SHARED_TARGET));
    }
    Ok(mounts)
}

/// Makes an environment at `own` in which everything of `shared` (which will be at `seen`) is there.
fn link(shared: &Path, seen: &Path, own: &Path) -> io::Result<()> {
    std::fs::create_dir_all(own.join("bin"))?;
    std::fs::copy(shared.join("pyvenv.cfg"), own.join("pyvenv.cfg"))?;
    for library in std::fs::read_dir(shared.join("lib"))?.flatten() {
        let packages = Path::new("lib").join(library.file_name()).join("site-packages");
        std::fs::create_dir_all(own.join(&packages))?;
        let line = format!("{}\n", seen.join(&packages).display());
        std::fs::write(own.join(&packages).join("kubeflow.pth"), line)?;
    }
    let interpreter = std::fs::canonicalize(shared.join("bin/python3"))?;
    for name in ["python", "python3"] {
        replace_link(&interpreter, &own.join("bin").join(name))?;
    }
    for name in ["pip", "pip3"] {
        let script = own.join("bin").join(name);
        std::fs::write(&script, "#!/bin/sh\nexec \"$(dirname \"$0\")/python3\" -m pip \"$@\"\n")?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn replace_link(to: &Path, at: &Path) -> io::Result<()> {
    match symlink(to, at) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        answer => answer,
    }
}

/// A plain process sees the host: paths of the pod reach it through variables instead of mounts.
pub fn without_mounts(spec: &mut Spec, scratch: &Path) {
    let mut seen = serde_json::Map::new();
    for mount in &spec.mounts {
        if let Source::Bind { path, sub_path } = &mount.source {
            let host = sub_path.as_ref().map_or_else(|| path.clone(), |part| path.join(part));
            seen.insert(mount.target.to_string_lossy().into_owned(), host.to_string_lossy().into());
        }
    }
    let host_of = |target: &str| seen.get(target).and_then(|path| path.as_str()).map(str::to_owned);
    if let Some((_, path)) = spec.env.iter_mut().rev().find(|(name, _)| name == "PATH") {
        // The pip front needs a folder of its own and is left out.
        let rest =
            path.split(':').filter(|part| !part.starts_with("/kubeflow") && !part.starts_with(ENVIRONMENT_TARGET));
        let first = host_of(ENVIRONMENT_TARGET).map(|venv| format!("{venv}/bin"));
        *path = first.into_iter().chain(rest.map(str::to_owned)).collect::<Vec<_>>().join(":");
    }
    for word in &mut spec.argv {
        if let Some(host) = on_host(&seen, word) {
            *word = host;
        }
    }
    if let Some((_, home)) = spec.env.iter_mut().rev().find(|(name, _)| name == "HOME")
        && let Some(host) = host_of(home)
    {
        *home = host;
    }
    let temporary = scratch.join("tmp").to_string_lossy().into_owned();
    spec.env.push(("TMPDIR".to_owned(), temporary.clone()));
    spec.env.push(("KUBEFLOW_MOUNTS".to_owned(), serde_json::Value::Object(seen).to_string()));
    if !spec.cwd.is_dir() || spec.cwd == Path::new("/") {
        spec.cwd = PathBuf::from(temporary);
    }
    spec.mounts.clear();
}

/// A word of the command line that is a path below something mounted, as the host has it. The innermost mount wins.
fn on_host(seen: &serde_json::Map<String, serde_json::Value>, word: &str) -> Option<String> {
    let inside = |target: &str| word.strip_prefix(target).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let matching = seen.iter().filter_map(|(target, host)| Some((target.len(), host.as_str()?, inside(target)?)));
    let (_, host, rest) = matching.max_by_key(|(length, ..)| *length)?;
    Some(format!("{host}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_a_layer_finds_the_shared_one() {
        let folder = tempfile::tempdir().expect("folder");
        let shared = folder.path().join("shared");
        std::fs::create_dir_all(shared.join("lib/python3.11/site-packages")).expect("folder");
        std::fs::create_dir_all(shared.join("bin")).expect("folder");
        std::fs::write(shared.join("pyvenv.cfg"), "home = /usr/bin\n").expect("file");
        symlink("/bin/sh", shared.join("bin/python3")).expect("link");
        let mounts = of_environment(&shared, folder.path(), Isolation::Sandbox, false).expect("mounts");
        assert_eq!(mounts[1], Mount::read_only(&shared, SHARED_TARGET));
        let text = std::fs::read_to_string(folder.path().join("venv/lib/python3.11/site-packages/kubeflow.pth"))
            .expect("file");
        assert_eq!(text, "/kubeflow/environment/lib/python3.11/site-packages\n");
    }
}
