//! The Python interpreters of this machine: PATH, pyenv, conda, uv. Called by `environments`, once per start.
//!
//! Invariant: only real interpreters, each with its real prefix; a pyenv shim or a venv leads to the one behind it.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What an interpreter says about itself.
const QUESTION: &str = "import sys, json; print(json.dumps({'version': '%d.%d.%d' % sys.version_info[:3], 'major': sys.version_info[0], \
'minor': sys.version_info[1], 'prefix': sys.base_prefix, 'program': getattr(sys, '_base_executable', sys.executable)}))";

/// An interpreter of the host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Interpreter {
    /// `3.11.7`.
    pub version: String,
    /// 3.
    pub major: u32,
    /// `11`.
    pub minor: u32,
    /// The folder with its library; bound read-only at the same path.
    pub prefix: PathBuf,
    /// The program.
    pub program: PathBuf,
}

/// All that were found, the preferred ones of a minor version first.
#[derive(Debug, Clone, Default)]
pub struct Interpreters(pub Vec<Interpreter>);

impl Interpreters {
    /// The interpreter of this minor version, else the nearest (the newer one of two equally near), else none.
    pub fn nearest(&self, minor: Option<u32>) -> Option<&Interpreter> {
        let wanted = minor.unwrap_or(11);
        self.0.iter().min_by_key(|found| (found.minor.abs_diff(wanted), found.minor < wanted))
    }

    /// For messages.
    pub fn summary(&self) -> String {
        let versions: BTreeSet<&str> = self.0.iter().map(|found| found.version.as_str()).collect();
        versions.into_iter().collect::<Vec<_>>().join(", ")
    }
}

/// Finds them; asks each program once. `ask` runs a program with arguments and gives what it printed.
pub fn find(ask: impl Fn(&Path, &[&str]) -> Option<String>) -> Interpreters {
    let mut seen = BTreeSet::new();
    let mut found: Vec<Interpreter> = Vec::new();
    for candidate in candidates() {
        let Ok(real) = candidate.canonicalize() else { continue };
        if !seen.insert(real) {
            continue;
        }
        let answer = ask(&candidate, &["-I", "-c", QUESTION]);
        let Some(mut interpreter) = answer.and_then(|text| serde_json::from_str::<Interpreter>(&text).ok()) else {
            continue;
        };
        // A link from elsewhere (`~/bin/python3`) is not there in a step; what it leads to is.
        if !interpreter.program.starts_with(&interpreter.prefix)
            && let Ok(real) = interpreter.program.canonicalize()
        {
            interpreter.program = real;
        }
        if interpreter.major == 3 && !found.iter().any(|known| known.program == interpreter.program) {
            found.push(interpreter);
        }
    }
    Interpreters(found)
}

fn candidates() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let pyenv = std::env::var_os("PYENV_ROOT").map_or_else(|| home.join(".pyenv"), PathBuf::from);
    // Shims are shell scripts that choose by the working folder: the versions themselves are listed below.
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path).filter(|folder| !folder.starts_with(pyenv.join("shims"))));
    folders.extend(below(&pyenv.join("versions")));
    let conda = ["CONDA_PREFIX", "CONDA_ROOT"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = ["miniconda3", "anaconda3", "miniforge3", "mambaforge"].iter().map(|name| home.join(name));
    for root in conda.chain(usual) {
        folders.extend(below(&root.join("envs")));
        folders.push(root.join("bin"));
    }
    let data = std::env::var_os("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
    folders.extend(below(&data.join("uv/python")));
    folders.extend(["/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    folders.iter().flat_map(|folder| programs(folder)).collect()
}

/// `<root>/*/bin`, newest names first.
fn below(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

/// `python3` and every `python3.N` of a folder.
fn programs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| match name.strip_prefix("python3") {
            Some("") => true,
            Some(rest) => rest.strip_prefix('.').is_some_and(|minor| minor.parse::<u32>().is_ok()),
            None => false,
        })
        .collect();
    names.sort();
    names.into_iter().map(|name| folder.join(name)).collect()
}
