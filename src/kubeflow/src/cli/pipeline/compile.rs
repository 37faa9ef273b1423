//! Compiles a Python file with the user's own kfp.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Temporary;

/// The interpreters that are asked, the user's environment first: `python` is what an activated one has.
const INTERPRETERS: [&str; 2] = ["python3", "python"];

/// The compiled package.
///
/// # Errors
/// When there is no interpreter with kfp, or the file does not compile; what Python said stands in the message.
pub(super) fn python(file: &Path) -> Result<String> {
    let target =
        std::env::temp_dir().join(format!("kubeflow-{}-{}.yaml", std::process::id(), foundation::id::random_suffix(8)));
    let target = Temporary(target);
    let mut missing = Vec::new();
    for interpreter in INTERPRETERS {
        #[expect(clippy::disallowed_methods, reason = "the user's own kfp compiles: one of the five homes of children")]
        let mut command = std::process::Command::new(interpreter);
        command
            .args(["-c", "from kfp.cli.__main__ import main; main()", "dsl", "compile", "--py"])
            .arg(file)
            .arg("--output")
            .arg(&target.0);
        let done = match command.output() {
            Ok(done) => done,
            Err(error) => {
                missing.push(format!("{interpreter}: {error}"));
                continue;
            }
        };
        let said = String::from_utf8_lossy(&done.stderr);
        if done.status.success() {
            return std::fs::read_to_string(&target.0).context("read the compiled pipeline");
        }
        if said.contains("No module named") && said.contains("kfp") {
            missing.push(format!("{interpreter} has no kfp"));
            continue;
        }
        bail!("compile {}: {}", file.display(), said.trim());
    }
    bail!(
        "compile {}: {}. Install kfp in the environment that you use (pip install kfp), or compile the file yourself",
        file.display(),
        missing.join("; ")
    )
}
