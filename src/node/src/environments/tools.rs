//! Where uv comes from: named by the configuration, on the host, fetched once as a wheel with known hashes, or not at all.

use super::build;
use crate::python::Interpreter;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// The version that is fetched, and the hashes of its wheels (x86_64 and aarch64, manylinux 2.17).
const WHEEL: &str = "uv==0.13.9 --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19 \
--hash=sha256:5435c5ce14a56431208ca0996416d310f1598e8c2c8ba707688985a16bb82dbe\n";

/// What builds environments.
#[derive(Debug, Clone)]
pub enum Tool {
    /// uv, at this path.
    Uv(PathBuf),
    /// The interpreter's own `venv` and pip: slower, but always there.
    Pip,
}

/// Finds the tool once.
#[derive(Debug)]
pub struct Tools {
    folder: PathBuf,
    named: Option<PathBuf>,
    found: OnceCell<Tool>,
}

impl Tools {
    /// What is fetched goes below `folder`.
    pub fn new(folder: PathBuf, named: Option<PathBuf>) -> Self {
        Self { folder, named, found: OnceCell::new() }
    }

    /// The tool; `interpreter` fetches it if need be.
    pub async fn get(&self, interpreter: &Interpreter) -> Tool {
        self.found.get_or_init(|| self.find(interpreter)).await.clone()
    }

    async fn find(&self, interpreter: &Interpreter) -> Tool {
        let fetched = self.folder.join("uv/bin/uv");
        if let Some(uv) = self.named.clone().or_else(on_host).or_else(|| fetched.is_file().then(|| fetched.clone())) {
            return Tool::Uv(uv);
        }
        match self.fetch(&interpreter.program).await {
            Ok(()) if fetched.is_file() => Tool::Uv(fetched),
            Ok(()) => Tool::Pip,
            Err(error) => {
                tracing::warn!(%error, "uv is neither here nor could it be fetched; environments are built with venv and pip, slowly");
                Tool::Pip
            }
        }
    }

    /// Installs the wheel through the user's own pip configuration, beside everything else, and renames it into place.
    async fn fetch(&self, python: &Path) -> Result<(), super::EnvironmentError> {
        let draft = self.folder.join(format!("tmp-{}", foundation::id::random_suffix(10)));
        let io = |source| super::EnvironmentError::Io { step: "fetch uv into", path: self.folder.clone(), source };
        std::fs::create_dir_all(&draft).map_err(io)?;
        let list = draft.join("requirements.txt");
        std::fs::write(&list, WHEEL).map_err(io)?;
        let (target, list) = (draft.join("uv"), list.to_string_lossy().into_owned());
        let target_text = target.to_string_lossy().into_owned();
        let words = ["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"];
        let words: Vec<&str> = words.into_iter().chain(["--target", &target_text, "-r", &list]).collect();
        let answer = build::run(python, &words).await;
        let answer = match answer {
            Ok(()) => std::fs::rename(&target, self.folder.join("uv")).map_err(io),
            Err(error) => Err(error),
        };
        let _ = std::fs::remove_dir_all(&draft);
        answer
    }
}

fn on_host() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let own = home.iter().flat_map(|home| [home.join(".local/bin"), home.join(".cargo/bin")]);
    std::env::split_paths(&path).chain(own).map(|folder| folder.join("uv")).find(|uv| uv.is_file())
}
