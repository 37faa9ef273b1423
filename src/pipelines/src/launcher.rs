//! The launcher: the first process of a step's pod (hidden role `launch`).
//!
//! It reads what the platform left under the task's prefix, makes the folders that the command expects, renders the
//! placeholders, runs the command with the pod's own standard streams, and, if that ended with 0, puts the outputs on disk
//! and writes the result file. Its exit code is the command's.
//!
//! Invariant: runs inside the step. It has no connection to the platform; the result file, written whole or not at all, is
//! all that the platform reads.

mod outputs;
mod places;
mod render;

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};

use artifacts::uri::local_path;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::ir::ParameterType;

/// The folder under a task's prefix that holds what platform and launcher tell each other.
pub const FOLDER: &str = ".kfp";
/// A command that cannot be run. Source: POSIX shells.
const EXIT_NOT_FOUND: i32 = 127;
const EXIT_NOT_EXECUTABLE: i32 = 126;
/// The outputs of a command that ended well cannot be read.
const EXIT_OUTPUTS: i32 = 1;

/// What the platform asks of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// KFP's ExecutorInput, defaults included.
    pub executor_input: Value,
    /// The command with its placeholders.
    pub command: Vec<String>,
    /// The arguments with their placeholders.
    pub args: Vec<String>,
    /// Inputs that got a value; what `IfPresent` asks for.
    pub present: Vec<String>,
    /// Types of the output parameters.
    pub output_parameters: BTreeMap<String, ParameterType>,
    /// Facts about run and task, by the name of their placeholder.
    pub facts: BTreeMap<String, String>,
}

/// What a step that ended well leaves behind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Output parameters, parsed by their types.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// Output artifacts by name.
    #[serde(default)]
    pub artifacts: BTreeMap<String, Vec<Made>>,
    /// Why the outputs could not be read; then there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An artifact that a step made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The type.
    pub kind: Value,
    /// Where it is; a step may have chosen another place.
    pub uri: String,
    /// What it says of itself.
    pub metadata: Map<String, Value>,
    /// A path of the step's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_path: Option<String>,
    /// Bytes; none when there is nothing at its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// The file that tells the launcher what to do.
pub fn launch_file() -> String {
    format!("{FOLDER}/launch.json")
}

/// The file in which the launcher says what came of an attempt.
pub fn report_file(attempt: u32) -> String {
    format!("{FOLDER}/report-{attempt}.json")
}

/// Why a step could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Called with the wrong arguments.
    #[error("usage: launch <task root> <attempt>")]
    Usage,
    /// The file under the task's prefix.
    #[error("{path} cannot be read")]
    Launch {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder that the command expects.
    #[error("{path} cannot be made")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The component names none, and a stand-in for an image has no entry point of its own.
    #[error("the component has no command; the image's own entry point is not available here")]
    NoCommand,
    /// The result cannot be written.
    #[error("the result cannot be written to {path}")]
    Report {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Runs a step and gives its exit code. `args` are those after `launch`.
///
/// # Errors
/// When the step could not be started or its result not be written.
pub fn run(args: &[String]) -> Result<i32, Error> {
    let [root, attempt] = args else { return Err(Error::Usage) };
    let attempt: u32 = attempt.parse().map_err(|_| Error::Usage)?;
    let root = PathBuf::from(root);
    let places = places::Places::from_env();
    let launch = places.enter(read(&root.join(launch_file()))?);
    prepare(&launch)?;
    let argv = render::command(&launch);
    let [program, arguments @ ..] = argv.as_slice() else { return Err(Error::NoCommand) };
    // Before the child exists, so that no signal is lost in between.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]);
    let child = match start(program, arguments) {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{program}: {}", describe(&error));
            let missing = error.kind() == io::ErrorKind::NotFound;
            return Ok(if missing { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE });
        }
    };
    if let Ok(signals) = signals {
        forward(signals, child.id());
    }
    let code = wait(child);
    if code != 0 {
        return Ok(code);
    }
    let report = outputs::collect(&launch)
        .unwrap_or_else(|error| Report { error: Some(error.to_string()), ..Report::default() });
    let report = places.leave(report);
    let path = root.join(report_file(attempt));
    let bytes =
        serde_json::to_vec(&report).map_err(|error| Error::Report { path: path.clone(), source: error.into() })?;
    artifacts::durable::write_file(&path, &bytes).map_err(|source| Error::Report { path, source })?;
    match report.error {
        None => Ok(0),
        Some(error) => {
            eprintln!("{error}");
            Ok(EXIT_OUTPUTS)
        }
    }
}

fn read(path: &Path) -> Result<Launch, Error> {
    let launch = |source| Error::Launch { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(launch)?;
    serde_json::from_slice(&bytes).map_err(|error| launch(error.into()))
}

/// Makes the folders of all outputs. Source: KFP's launcher makes them before the command starts.
fn prepare(launch: &Launch) -> Result<(), Error> {
    let outputs = &launch.executor_input["outputs"];
    let files = outputs["parameters"].as_object().into_iter().flat_map(|map| map.values());
    let files = files.filter_map(|parameter| parameter["outputFile"].as_str()).map(str::to_owned);
    let artifacts = outputs["artifacts"].as_object().into_iter().flat_map(|map| map.values());
    let artifacts = artifacts.filter_map(|output| output["artifacts"][0]["uri"].as_str()).map(local_path);
    let metadata = outputs["outputFile"].as_str().map(str::to_owned);
    for file in files.chain(artifacts).chain(metadata) {
        let Some(folder) = Path::new(&file).parent() else { continue };
        std::fs::create_dir_all(folder).map_err(|source| Error::Folder { path: folder.to_owned(), source })?;
    }
    Ok(())
}

fn start(program: &str, arguments: &[String]) -> io::Result<Child> {
    #[expect(clippy::disallowed_methods, reason = "the step's command is one of the five homes of children")]
    let mut command = std::process::Command::new(program);
    command.args(arguments).spawn()
}

/// Hands signals on to the command: as the first process of a pid namespace the launcher gets them, not the command.
fn forward(mut signals: Signals, pid: u32) {
    let forward = move || {
        for signal in signals.forever() {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            let signal = rustix::process::Signal::from_named_raw(signal);
            if let (Some(pid), Some(signal)) = (pid, signal) {
                // The command may have ended in between; then there is nobody to tell.
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    };
    let started = std::thread::Builder::new().name("signals".to_owned()).spawn(forward);
    if let Err(error) = started {
        eprintln!("signals are not handed on to the command: {error}");
    }
}

fn wait(mut child: Child) -> i32 {
    match child.wait() {
        Ok(status) => code(status),
        Err(error) => {
            eprintln!("the command's end was not seen: {error}");
            1
        }
    }
}

/// The exit code as a shell gives it: 128 and the signal's number for a command that a signal ended.
fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "command not found".to_owned(),
        io::ErrorKind::PermissionDenied => "not executable".to_owned(),
        io::ErrorKind::ArgumentListTooLong => {
            "an argument is longer than the system allows (128 KiB on Linux); pass large values as artifacts".to_owned()
        }
        _ => error.to_string(),
    }
}
