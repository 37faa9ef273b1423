//! The data folder and who holds it.
//!
//! Invariant: a lock of the kernel's says whether a platform runs, never a file's content; so a killed one is recognised.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// What a running platform says of itself beside its lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Address of the dashboard and the APIs.
    pub listen: String,
    /// Address of the Kubernetes API.
    pub kube_listen: String,
}

/// A data folder that this process holds.
#[derive(Debug)]
pub struct Instance {
    lock: File,
}

/// The unix socket through which commands reach a running platform.
pub fn control_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

impl Instance {
    /// Takes the data folder; makes it, readable for its owner only, if it is not there.
    ///
    /// # Errors
    /// When another platform holds it, or it belongs to somebody else.
    pub fn lock(data_dir: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .with_context(|| format!("make the data folder {} (--data-dir names another)", data_dir.display()))?;
        let mode = fs::metadata(data_dir).context("look at the data folder")?.permissions();
        if mode.mode() & 0o077 != 0 {
            fs::set_permissions(data_dir, fs::Permissions::from_mode(0o700))
                .with_context(|| format!("make {} readable for you only", data_dir.display()))?;
        }
        let path = data_dir.join("platform.lock");
        let lock = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            match holder(data_dir) {
                Some(holder) => bail!(
                    "the data folder {} is held by a platform that runs already: process {}, at http://{}. \
                     Stop it with `kubeflow down`, or choose another folder with --data-dir",
                    data_dir.display(),
                    holder.pid,
                    holder.listen
                ),
                None => bail!("the data folder {} is held by another process", data_dir.display()),
            }
        }
        Ok(Self { lock })
    }

    /// Writes down who holds the folder, for others to read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&mut self, holder: &Holder) -> Result<()> {
        let text = serde_json::to_string(holder).context("describe this platform")?;
        self.lock.rewind().and_then(|()| self.lock.set_len(0)).context("write the lock file")?;
        self.lock.write_all(text.as_bytes()).context("write the lock file")
    }
}

/// Who holds a data folder now; none when nobody does.
pub fn holder(data_dir: &Path) -> Option<Holder> {
    let mut lock = File::open(data_dir.join("platform.lock")).ok()?;
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// Starts this program again in the background, with its output in `log`, and gives its pid.
///
/// # Errors
/// When it cannot be started.
pub fn detach(arguments: &[String], log: &Path) -> Result<std::process::Child> {
    if let Some(folder) = log.parent() {
        // The data folder is made on the way: for its owner only, from the first moment.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("make {} (--data-dir names another data folder)", folder.display()))?;
    }
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(log)
        .with_context(|| format!("open {}", log.display()))?;
    let program = std::env::current_exe().context("find this program")?;
    #[expect(clippy::disallowed_methods, reason = "detaching is one of the five homes of children")]
    let mut command = std::process::Command::new(program);
    // A group of its own: Ctrl-C in this terminal is not meant for it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.args(arguments).stdin(std::process::Stdio::null());
    command.stdout(output.try_clone().context("share the log")?).stderr(output);
    command.spawn().context("start in the background")
}
