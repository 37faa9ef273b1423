//! The `python3` and `pip` that stand first on a step's PATH: answers `pip install` of what is there, hands on the rest.
//!
//! Called first thing in `main`, by the name it was started under ([`NAMES`]): no runtime, no configuration, no network.
//! A compiled step runs `python3 -m pip install …` each time; the real pip needs 0.6 s of CPU to find that nothing is to do.
//! Invariant: whatever is not surely satisfied is done by the real program, unchanged.

use crate::environments::{RECORD, Record};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The names under which the front is reached in a pod.
pub const NAMES: [&str; 4] = ["python3", "python", "pip", "pip3"];
/// The folder of the front's links inside a pod.
const FRONT_FOLDER: &str = "/kubeflow/bin";
/// Options of `pip install` that change nothing about whether the packages are there.
const SILENT: [&str; 7] = [
    "-q",
    "--quiet",
    "--no-warn-script-location",
    "--no-deps",
    "--disable-pip-version-check",
    "--no-cache-dir",
    "--root-user-action=ignore",
];
/// Variables of pip that change nothing about it either; any other one leads to the real pip.
const HARMLESS: [&str; 13] = [
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_TRUSTED_HOST",
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_NO_CACHE_DIR",
    "PIP_CACHE_DIR",
    "PIP_QUIET",
    "PIP_ROOT_USER_ACTION",
    "PIP_NO_INPUT",
];

/// True if the program was started as the front: under one of its names, from inside a pod.
pub fn is_front(program: &str) -> bool {
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    NAMES.contains(&name)
}

/// Answers or becomes the real program. `arguments` are all of the process's own, the program's name first.
pub fn run(arguments: Vec<OsString>) -> ! {
    let name = arguments.first().and_then(|program| Path::new(program).file_name()).map(OsString::from);
    let name = name.unwrap_or_else(|| OsString::from("python3"));
    let texts: Option<Vec<&str>> = arguments.iter().skip(1).map(|word| word.to_str()).collect();
    let is_pip = name.to_str().is_some_and(|name| name.starts_with("pip"));
    let pip_words = texts.and_then(|words| match words.as_slice() {
        words if is_pip => Some(words.to_vec()),
        ["-m", "pip", rest @ ..] => Some(rest.to_vec()),
        _ => None,
    });
    let real = real_program(&name);
    if let (Some(["install", words @ ..]), Some(real)) = (pip_words.as_deref(), &real)
        && variables_are_harmless()
        && environment_of(real).is_some_and(|(venv, minor)| is_satisfied(words, &venv, minor))
    {
        std::process::exit(0)
    }
    let Some(real) = real else {
        eprintln!("{}: not found", name.to_string_lossy());
        std::process::exit(127)
    };
    become_program(&real, &arguments)
}

/// The next program of this name on PATH behind the front.
fn real_program(name: &OsString) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder != Path::new(FRONT_FOLDER));
    let own = std::env::current_exe().ok();
    let real = |candidate: &PathBuf| candidate.is_file() && candidate.canonicalize().ok() != own;
    folders.map(|folder| folder.join(name)).find(real).or_else(|| {
        let usual = Path::new("/venv/bin").join(name);
        real(&usual).then_some(usual)
    })
}

/// Replaces this process; the program sees its own path as its name, by which Python finds its environment.
fn become_program(program: &Path, arguments: &[OsString]) -> ! {
    let text = |word: &std::ffi::OsStr| CString::new(word.as_bytes()).unwrap_or_default();
    let words: Vec<CString> =
        std::iter::once(text(program.as_os_str())).chain(arguments.iter().skip(1).map(|word| text(word))).collect();
    let error = sandbox::spawn::replace(program, &words);
    eprintln!("{}: {error}", program.display());
    std::process::exit(126)
}

fn variables_are_harmless() -> bool {
    std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).all(|name| {
        let known = HARMLESS.contains(&name.as_str()) || name == "PIP_CONFIG_FILE";
        (!name.starts_with("PIP_") || known) && name != "PYTHONHOME" && name != "PYTHONPATH"
    })
}

/// The environment that a program in its `bin` belongs to, and the minor version of its Python.
fn environment_of(program: &Path) -> Option<(PathBuf, u32)> {
    let venv = program.parent()?.parent()?.to_owned();
    let config = std::fs::read_to_string(venv.join("pyvenv.cfg")).ok()?;
    let version = config.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        matches!(key.trim(), "version" | "version_info").then(|| value.trim().to_owned())
    })?;
    Some((venv, version.split('.').nth(1)?.parse().ok()?))
}

/// True if `pip install words…` would change nothing in `venv`.
fn is_satisfied(words: &[&str], venv: &Path, minor: u32) -> bool {
    let packages = venv.join(format!("lib/python3.{minor}/site-packages"));
    let Ok(entries) = std::fs::read_dir(packages) else { return false };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let there: Vec<String> = names.filter(|name| name.ends_with(".dist-info")).collect();
    if was_built_from(words, venv, &there) {
        return true;
    }
    let mut any = false;
    for word in words {
        if SILENT.contains(word) {
            continue;
        }
        match requirement(word, minor) {
            Requirement::Exact { name, version } if has(&there, &name, Some(&version)) => any = true,
            Requirement::Any { name } if has(&there, &name, None) => any = true,
            Requirement::DoesNotApply => any = true,
            _ => return false,
        }
    }
    any
}

/// True if the environment was made by this very line and still holds all that the build left.
fn was_built_from(words: &[&str], venv: &Path, there: &[String]) -> bool {
    let record = std::fs::read(venv.join(RECORD)).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
    let Some(record) = record else { return false };
    let essence = |line: &mut Vec<&str>| {
        line.retain(|word| !SILENT.contains(word) || *word == "--no-deps");
        line.sort_unstable();
    };
    let mut asked = words.to_vec();
    essence(&mut asked);
    let same = record.lines.iter().any(|line| {
        let mut built: Vec<&str> = line.iter().map(String::as_str).collect();
        essence(&mut built);
        built == asked
    });
    same && record.distributions.iter().all(|left| there.contains(left))
}

/// What one word of the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Requirement {
    Exact {
        name: String,
        version: String,
    },
    Any {
        name: String,
    },
    /// Its marker excludes this Python.
    DoesNotApply,
    /// Only the real pip knows.
    Other,
}

fn requirement(word: &str, minor: u32) -> Requirement {
    let (what, marker) = word.split_once(';').map_or((word, None), |(what, marker)| (what, Some(marker)));
    match marker.map(|marker| applies(marker, minor)) {
        Some(Some(false)) => return Requirement::DoesNotApply,
        Some(None) => return Requirement::Other,
        Some(Some(true)) | None => {}
    }
    let is_name = |text: &str| {
        let plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
        plain && text.starts_with(|letter: char| letter.is_ascii_alphanumeric()) && !text.ends_with(".whl")
    };
    let what = what.trim();
    match what.split_once("==") {
        Some((name, version)) if is_name(name.trim()) && is_version(version.trim()) => {
            Requirement::Exact { name: normal(name.trim()), version: version.trim().to_owned() }
        }
        None if is_name(what) && !what.contains('.') => Requirement::Any { name: normal(what) },
        _ => Requirement::Other,
    }
}

fn is_version(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || ".+".contains(letter))
}

/// Whether a marker holds; only `python_version<"3.N"` and its like are understood.
fn applies(marker: &str, minor: u32) -> Option<bool> {
    let rest = marker.trim().strip_prefix("python_version")?.trim();
    let operators = ["<=", ">=", "==", "<", ">"];
    let operator = operators.into_iter().find(|operator| rest.starts_with(operator))?;
    let version = rest.strip_prefix(operator)?.trim();
    let bare = version.trim_matches(['"', '\'']);
    let wanted: u32 = bare.strip_prefix("3.")?.parse().ok()?;
    Some(match operator {
        "<=" => minor <= wanted,
        ">=" => minor >= wanted,
        "==" => minor == wanted,
        "<" => minor < wanted,
        _ => minor > wanted,
    })
}

/// Package names are equal without regard to case and to `-`, `_` and `.`.
fn normal(name: &str) -> String {
    let mut result = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if result.ends_with('-') => {}
            '-' | '_' | '.' => result.push('-'),
            letter => result.push(letter.to_ascii_lowercase()),
        }
    }
    result
}

fn has(there: &[String], name: &str, version: Option<&str>) -> bool {
    there.iter().any(|folder| {
        let Some((known, known_version)) = folder.strip_suffix(".dist-info").and_then(|stem| stem.split_once('-'))
        else {
            return false;
        };
        normal(known) == name && version.is_none_or(|version| version == known_version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(installed: &[&str], line: &[&str], expected: bool) {
        let venv = tempfile::tempdir().expect("folder");
        let packages = venv.path().join("lib/python3.11/site-packages");
        for name in installed {
            std::fs::create_dir_all(packages.join(name)).expect("folder");
        }
        assert_eq!(is_satisfied(line, venv.path(), 11), expected, "{line:?} with {installed:?}");
    }

    #[test]
    fn lines_of_compiled_steps() {
        let kfp = ["kfp-2.17.0.dist-info"];
        let line = [
            "--quiet",
            "--no-warn-script-location",
            "kfp==2.17.0",
            "--no-deps",
            "typing-extensions>=3.7.4,<5; python_version<\"3.9\"",
        ];
        check(&kfp, &line, true);
        check(&["kfp-2.16.0.dist-info"], &line, false);
        check(&["scikit_learn-1.5.0.dist-info"], &["scikit-learn==1.5.0"], true);
        check(&["Pillow-10.0.0.dist-info"], &["pillow"], true);
        check(&["pandas-2.2.2.dist-info"], &["pandas==2.2.2", "six"], false);
    }

    #[test]
    fn whatever_is_not_sure_goes_to_the_real_pip() {
        let kfp = ["kfp-2.17.0.dist-info"];
        for line in [
            vec!["kfp>=2.17.0"],
            vec!["-U", "kfp==2.17.0"],
            vec!["--target", "/x", "kfp==2.17.0"],
            vec!["./kfp"],
            vec!["kfp[all]==2.17.0"],
            vec!["kfp==2.17.*"],
            vec!["git+https://host/kfp"],
            vec!["kfp==2.17.0; sys_platform=='win32'"],
            vec!["kfp-2.17.0.whl"],
            vec![],
        ] {
            check(&kfp, &line, false);
        }
    }

    #[test]
    fn a_line_that_built_the_environment_is_answered_while_all_of_it_is_there() {
        let venv = tempfile::tempdir().expect("folder");
        let packages = venv.path().join("lib/python3.11/site-packages");
        std::fs::create_dir_all(packages.join("pandas-2.3.0.dist-info")).expect("folder");
        let record = r#"{"lines":[["pandas>=2","--no-deps"]],"builtAt":"2026-01-01T00:00:00Z","distributions":["pandas-2.3.0.dist-info"]}"#;
        std::fs::write(venv.path().join(RECORD), record).expect("record");
        assert!(is_satisfied(&["--quiet", "--no-deps", "pandas>=2"], venv.path(), 11));
        assert!(!is_satisfied(&["pandas>=2"], venv.path(), 11), "dependencies were not asked for when it was built");
        std::fs::remove_dir(packages.join("pandas-2.3.0.dist-info")).expect("removed");
        assert!(!is_satisfied(&["--no-deps", "pandas>=2"], venv.path(), 11));
    }
}
