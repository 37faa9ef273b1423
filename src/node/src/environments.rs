//! Python environments: built once per (interpreter, requirement groups), then mounted read-only under every step's layer.
//!
//! Called by `images` at launch. Builds with uv (the host's, else its pinned wheel, else `venv` and pip); whoever asks for the
//! same environment meanwhile waits for the one build.
//! Invariant: an environment appears whole (built beside, renamed) and is never changed afterwards: uv hard-links into its cache.

mod build;
mod tools;

use crate::python::{self, Interpreter, Interpreters};
use foundation::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

/// Requirements without an exact version are resolved again after this.
const UNPINNED_FRESH: SignedDuration = SignedDuration::from_hours(24);
/// An environment that no step has asked for since then is removed (its packages stay in uv's cache).
const UNUSED_KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);
/// How exactly the last use is noted.
const USE_NOTED: SignedDuration = SignedDuration::from_hours(24);
/// The file in an environment that says what it was built from; the pip front reads it in the pod.
pub const RECORD: &str = ".kubeflow-environment.json";
/// Layout of environments; a change builds all anew.
const LAYOUT: u32 = 1;

/// Why an environment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The file system refused.
    #[error("{step} {path}")]
    Io {
        /// What was attempted.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A program (uv, Python, pip) failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Which.
        program: String,
        /// The end of what it said.
        said: String,
    },
}

/// What an environment was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Arguments of `pip install`, line by line, as the step will run them.
    pub lines: Vec<Vec<String>>,
    /// When.
    pub built_at: Timestamp,
    /// The `*.dist-info` folders that the build left.
    pub distributions: Vec<String>,
}

/// An environment that is there.
#[derive(Debug, Clone)]
pub struct Built {
    /// Identifies its content.
    pub key: String,
    /// The folder to mount.
    pub venv: PathBuf,
}

/// All environments of this node.
pub struct Environments {
    folder: PathBuf,
    tools: tools::Tools,
    clock: Clock,
    interpreters: OnceCell<Interpreters>,
    locks: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Environments {
    /// Environments below `data_dir`; `uv` names a program to use instead of looking for one.
    pub fn new(data_dir: &Path, uv: Option<PathBuf>, clock: Clock) -> Self {
        let folder = data_dir.join("environments");
        // What a killed platform was building.
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for draft in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp-")) {
            let _ = std::fs::remove_dir_all(draft.path());
        }
        Self {
            folder,
            tools: tools::Tools::new(data_dir.join("tools"), uv),
            clock,
            interpreters: OnceCell::new(),
            locks: Mutex::new(HashMap::new()),
        }
    }

    /// The interpreters of this machine; looked for once.
    pub async fn interpreters(&self) -> &Interpreters {
        let look = || async {
            foundation::tasks::blocking("find interpreters", || python::find(build::ask)).await.unwrap_or_default()
        };
        self.interpreters.get_or_init(look).await
    }

    /// True if [`Self::get`] will answer at once.
    pub async fn is_built(&self, minor: Option<u32>, lines: &[Vec<String>]) -> bool {
        match self.interpreters().await.nearest(minor) {
            Some(interpreter) => {
                let folder = self.folder.join(key(interpreter, lines));
                read_record(&folder).is_some_and(|record| self.is_fresh(&record))
            }
            None => true,
        }
    }

    /// The environment of `interpreter` in which the `pip install` lines have been carried out.
    ///
    /// Lines that cannot be carried out (a package that does not exist, no network) are left to the real pip in the step,
    /// which says so in the step's own log: then the environment is the bare one.
    pub async fn get(&self, interpreter: &Interpreter, lines: &[Vec<String>]) -> Result<Built, EnvironmentError> {
        let lines: Vec<Vec<String>> = lines.iter().filter(|line| build::is_understood(line)).cloned().collect();
        match self.ready(interpreter, &lines).await {
            Err(EnvironmentError::Program { program, said }) if !lines.is_empty() => {
                tracing::info!(%program, %said, "a step's requirements are left to pip in the step");
                self.ready(interpreter, &[]).await
            }
            answer => answer,
        }
    }

    async fn ready(&self, interpreter: &Interpreter, lines: &[Vec<String>]) -> Result<Built, EnvironmentError> {
        let key = key(interpreter, lines);
        let folder = self.folder.join(&key);
        let built = Built { key: key.clone(), venv: folder.join("venv") };
        if read_record(&folder).is_some_and(|record| self.is_fresh(&record)) {
            self.note_use(&folder);
            return Ok(built);
        }
        let lock = self.locks.lock().await.entry(key.clone()).or_default().clone();
        let _one_build = lock.lock().await;
        let old = read_record(&folder);
        if old.as_ref().is_some_and(|record| self.is_fresh(record)) {
            return Ok(built);
        }
        match self.build(interpreter, lines, &folder).await {
            // Without a network a stale environment is better than none.
            Err(error) if old.is_some() => {
                tracing::info!(%error, "an environment could not be resolved again and stays as it is");
                Ok(built)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(built),
        }
    }

    async fn build(
        &self,
        interpreter: &Interpreter,
        lines: &[Vec<String>],
        folder: &Path,
    ) -> Result<(), EnvironmentError> {
        let draft = self.folder.join(format!("tmp-{}", foundation::id::random_suffix(10)));
        let failed = |step: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| EnvironmentError::Io { step, path, source }
        };
        std::fs::create_dir_all(&draft).map_err(failed("make folder", &draft))?;
        let answer = build::build(&self.tools, interpreter, lines, &draft.join("venv")).await;
        if let Err(error) = answer {
            let _ = std::fs::remove_dir_all(&draft);
            return Err(error);
        }
        let distributions = build::distributions(&draft.join("venv"));
        let record = Record { lines: lines.to_vec(), built_at: self.clock.now(), distributions };
        let text = serde_json::to_vec(&record).map_err(|error| failed("write", &draft)(error.into()))?;
        for place in [draft.join("venv").join(RECORD), draft.join(RECORD)] {
            std::fs::write(&place, &text).map_err(failed("write", &place))?;
        }
        if folder.exists() {
            // Steps that run keep the old one through their mounts.
            let old = self.folder.join(format!("tmp-{}", foundation::id::random_suffix(10)));
            std::fs::rename(folder, &old).map_err(failed("set aside", folder))?;
            let _ = std::fs::remove_dir_all(old);
        }
        std::fs::rename(&draft, folder).map_err(failed("rename", folder))
    }

    /// How long ago a step last asked for the environment.
    fn unused_for(&self, folder: &Path) -> Option<SignedDuration> {
        let noted = std::fs::metadata(folder.join(RECORD)).ok()?.modified().ok()?;
        Some(self.clock.now().duration_since(Timestamp::try_from(noted).ok()?))
    }

    fn note_use(&self, folder: &Path) {
        if self.unused_for(folder).is_some_and(|unused| unused > USE_NOTED)
            && let Ok(file) = std::fs::File::options().write(true).open(folder.join(RECORD))
        {
            let _ = file.set_modified(self.clock.now().into());
        }
    }

    /// Removes what no step has asked for in a long time. Blocks.
    pub fn tidy(&self) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for folder in entries
            .map(|entry| entry.path())
            .filter(|folder| self.unused_for(folder).is_some_and(|unused| unused > UNUSED_KEPT))
        {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(%error, folder = %folder.display(), "an unused environment could not be removed");
            }
        }
    }

    fn is_fresh(&self, record: &Record) -> bool {
        let pinned = record.lines.iter().all(|line| build::is_pinned(line));
        pinned || self.clock.now().duration_since(record.built_at) < UNPINNED_FRESH
    }
}

fn read_record(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(folder.join(RECORD)).ok()?).ok()
}

/// Names an environment by what it is made of.
fn key(interpreter: &Interpreter, lines: &[Vec<String>]) -> String {
    let mut sorted = lines.to_vec();
    sorted.iter_mut().for_each(|line| line.sort());
    sorted.sort();
    let parts = serde_json::json!([LAYOUT, interpreter.version, interpreter.program, sorted]);
    Sha256::digest(parts.to_string()).iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn record(lines: &[&[&str]], built_at: Timestamp) -> Record {
        let lines = lines.iter().map(|line| line.iter().map(|word| (*word).to_owned()).collect()).collect();
        Record { lines, built_at, distributions: Vec::new() }
    }

    #[test]
    fn open_requirements_grow_stale_and_unused_environments_go() {
        let data = tempfile::tempdir().expect("folder");
        let clock = Clock::manual(Clock::system().now());
        let environments = Environments::new(data.path(), None, clock.clone());
        let pinned = record(&[&["kfp==2.17.0", "--no-deps"]], clock.now());
        let open = record(&[&["pandas"]], clock.now());
        let (used, unused) = (environments.folder.join("used"), environments.folder.join("unused"));
        for folder in [&used, &unused] {
            std::fs::create_dir_all(folder).expect("folder");
            std::fs::write(folder.join(RECORD), serde_json::to_vec(&pinned).expect("JSON")).expect("file");
        }
        assert!(environments.is_fresh(&pinned) && environments.is_fresh(&open));
        clock.advance(Duration::from_secs(25 * 3600));
        assert!(environments.is_fresh(&pinned) && !environments.is_fresh(&open));
        clock.advance(Duration::from_secs(29 * 24 * 3600));
        environments.note_use(&used);
        environments.tidy();
        assert!(used.exists() && !unused.exists());
    }

    #[test]
    fn the_key_knows_the_lines_but_not_their_order() {
        let interpreter = Interpreter {
            version: "3.11.2".to_owned(),
            major: 3,
            minor: 11,
            prefix: "/usr".into(),
            program: "/usr/bin/python3.11".into(),
        };
        let lines = |lines: &[&[&str]]| record(lines, Timestamp::UNIX_EPOCH).lines;
        let key_of = |wanted: &[&[&str]]| key(&interpreter, &lines(wanted));
        assert_eq!(key_of(&[&["a==1", "b==2"], &["c"]]), key_of(&[&["c"], &["b==2", "a==1"]]));
        assert_ne!(key_of(&[&["a==1"]]), key_of(&[&["a==1", "--no-deps"]]));
    }
}
