//! Carries out `pip install` lines in a fresh environment. The home of the child processes uv, Python and pip.

use super::EnvironmentError;
use super::tools::{Tool, Tools};
use crate::host_config;
use crate::python::Interpreter;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How long a build may take: large packages over a slow line.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// So much of what a failed program said is kept.
const SAID_BYTES_MAX: usize = 4 << 10;
/// Options that change nothing about what is installed.
const SILENT: [&str; 7] = [
    "-q",
    "--quiet",
    "--no-warn-script-location",
    "--disable-pip-version-check",
    "--no-cache-dir",
    "--no-input",
    "--root-user-action=ignore",
];
/// Options with a value that uv takes as pip does.
const WITH_VALUE: [&str; 4] = ["--index-url", "-i", "--extra-index-url", "--find-links"];

/// True if a line says nothing that only the real pip could do.
pub fn is_understood(line: &[String]) -> bool {
    let mut words = line.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(&word.as_str()) {
            if words.next().is_none() {
                return false;
            }
        } else if word == "--trusted-host" {
            words.next();
        } else if word.starts_with('-') && word != "--no-deps" && !SILENT.contains(&word.as_str()) {
            return false;
        }
    }
    true
}

/// True if every requirement of the line names one version (or nothing is left open).
pub fn is_pinned(line: &[String]) -> bool {
    line.iter().filter(|word| !word.starts_with('-')).all(|word| {
        let requirement = word.split(';').next().unwrap_or_default();
        requirement.contains("==") && !requirement.contains('*') || word.contains("python_version<")
    })
}

/// Makes an environment at `venv` (does not exist) and installs the lines in order.
pub async fn build(
    tools: &Tools,
    interpreter: &Interpreter,
    lines: &[Vec<String>],
    venv: &Path,
) -> Result<(), EnvironmentError> {
    let program = interpreter.program.to_string_lossy();
    let target = venv.to_string_lossy();
    match tools.get(interpreter).await {
        Tool::Uv(uv) => {
            let make = ["venv", "--quiet", "--no-project", "--relocatable", "--python", &program, &target];
            if let Err(error) = run(&uv, &[&make[..], &["--seed"]].concat()).await {
                // Without an index there is no pip to seed; a step whose packages are there does not need one.
                tracing::info!(%error, "an environment is made without pip");
                let _ = std::fs::remove_dir_all(venv);
                run(&uv, &make).await?;
            }
            let inside = venv.join("bin/python3");
            for line in lines.iter().filter(|line| line.iter().any(|word| !word.starts_with('-'))) {
                let inside = inside.to_string_lossy();
                let mut words = vec!["pip", "install", "--quiet", "--compile-bytecode", "--python", &inside];
                words.extend(uv_words(line));
                run(&uv, &words).await?;
            }
            // Seeds and what was there before: every step would compile them again in its own layer.
            run(&inside, &["-m", "compileall", "-q", "-j", "0", &venv.join("lib").to_string_lossy()])
                .await
                .or_else(ignore_program)
        }
        Tool::Pip => {
            run(Path::new(&*program), &["-m", "venv", &target]).await?;
            let inside = venv.join("bin/python3");
            for line in lines {
                let mut words = vec!["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
                words.extend(line.iter().map(String::as_str));
                run(&inside, &words).await?;
            }
            Ok(())
        }
    }
}

/// A file that does not compile (templates, tests for another version) does not matter.
fn ignore_program(error: EnvironmentError) -> Result<(), EnvironmentError> {
    match error {
        EnvironmentError::Program { .. } => Ok(()),
        error @ EnvironmentError::Io { .. } => Err(error),
    }
}

/// The line's words without those that uv does not know.
fn uv_words(line: &[String]) -> Vec<&str> {
    let mut words = line.iter().map(String::as_str);
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "--trusted-host" {
            kept.push("--allow-insecure-host");
            kept.extend(words.next());
        } else if !SILENT.contains(&word) {
            kept.push(word);
        }
    }
    kept
}

/// Runs a program to its end with the platform's environment and what uv learns from pip's files.
pub async fn run(program: &Path, arguments: &[&str]) -> Result<(), EnvironmentError> {
    let io = |source| EnvironmentError::Io { step: "run", path: program.to_owned(), source };
    #[expect(clippy::disallowed_methods, reason = "the home of uv, Python and pip (ARCHITECTURE.md, child processes)")]
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).envs(host_config::uv_variables()).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("VIRTUAL_ENV").env_remove("CONDA_PREFIX").env_remove("PYTHONPATH").env_remove("PYTHONHOME");
    let output = tokio::time::timeout(BUILD_LIMIT, command.output()).await;
    let output = output.map_err(|_| io(std::io::ErrorKind::TimedOut.into()))?.map_err(io)?;
    if output.status.success() {
        return Ok(());
    }
    let both = [output.stderr, output.stdout].concat();
    let tail = both.get(both.len().saturating_sub(SAID_BYTES_MAX)..).unwrap_or_default();
    let said = String::from_utf8_lossy(tail).trim().to_owned();
    Err(EnvironmentError::Program { program: program.display().to_string(), said })
}

/// Runs a program and gives what it printed; none if it failed. Blocks.
pub fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the home of uv, Python and pip (ARCHITECTURE.md, child processes)")]
    let mut command = std::process::Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The `*.dist-info` folders of an environment.
pub fn distributions(venv: &Path) -> Vec<String> {
    let libraries = std::fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let packages = libraries.map(|library| library.path().join("site-packages"));
    let entries = packages.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<String> = names.filter(|name| name.ends_with(".dist-info")).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn which_lines_are_understood_and_which_are_pinned() {
        let kfp = line(&["kfp==2.17.0", "--no-deps", "typing-extensions>=3.7.4,<5; python_version<\"3.9\""]);
        assert!(is_understood(&kfp) && is_pinned(&kfp));
        let open = line(&["pandas", "six==1.16.0"]);
        assert!(is_understood(&open) && !is_pinned(&open));
        assert!(is_understood(&line(&["--index-url", "https://a/simple", "x==1"])));
        assert!(!is_understood(&line(&["--target", "/x", "x==1"])));
        assert!(!is_understood(&line(&["x==1", "--index-url"])));
        assert!(!is_pinned(&line(&["x==1.*"])));
        assert_eq!(uv_words(&line(&["-q", "--trusted-host", "h", "x"])), ["--allow-insecure-host", "h", "x"]);
    }
}
