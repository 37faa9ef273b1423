//! What does not live for ever: logs of finished runs that are old or too many, and results kept for the cache.
//!
//! Invariant: the log of a run that is not over is never touched; logs go run by run, so that what is left is whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundation::problem::chain;
use jiff::Timestamp;

use super::Controller;
use crate::logs::Keep;

const FIRST_SWEEP_AFTER: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// The logs of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Logs {
    folder: PathBuf,
    bytes: u64,
    /// When the run ended; `None` for one that has not.
    ended_at: Option<Timestamp>,
}

impl Controller {
    /// Sweeps now and then until the platform stops.
    pub(super) async fn retain(&self) {
        let mut wait = FIRST_SWEEP_AFTER;
        while self.context.tasks.pause(wait).await {
            wait = SWEEP_EVERY;
            self.sweep_logs().await;
            if let Err(error) = self.context.store.trim_results().await {
                tracing::warn!(error = %chain(&error), "old results stay in the cache");
            }
        }
    }

    async fn sweep_logs(&self) {
        let (book, store) = (self.context.logs.clone(), self.context.store.clone());
        let sweep = move || {
            let ended = |id: &str| match store.library().run(id) {
                // What a deletion has left behind.
                None => Some(Timestamp::MIN),
                Some(run) if run.state.is_final() => Some(run.finished_at.unwrap_or(run.created_at)),
                Some(_) => None,
            };
            let found = look(book.folder(), ended)?;
            let doomed = doomed(found, book.keep(), store.now());
            for logs in &doomed {
                std::fs::remove_dir_all(&logs.folder)?;
            }
            Ok::<_, std::io::Error>(doomed.len())
        };
        match foundation::tasks::blocking("sweep logs", sweep).await {
            Ok(Ok(0)) => {}
            Ok(Ok(runs)) => tracing::info!(runs, "removed the logs of old runs"),
            Ok(Err(error)) => tracing::warn!(%error, "old logs stay"),
            Err(lost) => tracing::warn!(error = %lost, "old logs stay"),
        }
    }
}

fn look(folder: &Path, ended: impl Fn(&str) -> Option<Timestamp>) -> std::io::Result<Vec<Logs>> {
    let mut found = Vec::new();
    let runs = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        runs => runs?,
    };
    for run in runs {
        let run = run?;
        if !run.file_type()?.is_dir() {
            continue;
        }
        let mut bytes = 0;
        for file in std::fs::read_dir(run.path())? {
            bytes += file?.metadata()?.len();
        }
        found.push(Logs { folder: run.path(), bytes, ended_at: ended(&run.file_name().to_string_lossy()) });
    }
    Ok(found)
}

/// Which logs go: the old ones, and the oldest of what is too much.
fn doomed(mut found: Vec<Logs>, keep: Keep, now: Timestamp) -> Vec<Logs> {
    let mut total: u64 = found.iter().map(|logs| logs.bytes).sum();
    found.retain(|logs| logs.ended_at.is_some());
    found.sort_by(|a, b| (a.ended_at, &a.folder).cmp(&(b.ended_at, &b.folder)));
    let is_old = |at: Timestamp| keep.days > 0 && now.duration_since(at).as_hours() >= i64::from(keep.days) * 24;
    let mut doomed = Vec::new();
    for logs in found {
        let too_much = keep.bytes > 0 && total > keep.bytes;
        if too_much || logs.ended_at.is_some_and(is_old) {
            total -= logs.bytes;
            doomed.push(logs);
        }
    }
    doomed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, bytes: u64, ended_at: Option<i64>) -> Logs {
        let ended_at = ended_at.map(|at| Timestamp::from_second(at).expect("a time"));
        Logs { folder: name.into(), bytes, ended_at }
    }

    #[test]
    fn the_old_go_and_the_oldest_of_too_much_but_never_those_at_work() {
        let now = Timestamp::from_second(40 * 86_400).expect("a time");
        let all = || {
            vec![
                run("new", 40, Some(39 * 86_400)),
                run("works", 500, None),
                run("older", 60, Some(20 * 86_400)),
                run("ancient", 10, Some(86_400)),
            ]
        };
        let names = |keep| -> Vec<String> {
            doomed(all(), keep, now).iter().map(|logs| logs.folder.display().to_string()).collect()
        };
        assert_eq!(names(Keep { days: 30, bytes: 1000 }), ["ancient"]);
        assert_eq!(names(Keep { days: 30, bytes: 540 }), ["ancient", "older"]);
        assert_eq!(names(Keep { days: 0, bytes: 0 }), Vec::<String>::new());
        assert_eq!(names(Keep { days: 0, bytes: 1 }), ["ancient", "older", "new"]);
    }

    #[test]
    fn a_look_counts_every_file_of_each_run() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(look(&folder.path().join("none"), |_| None).expect("read"), []);
        std::fs::create_dir_all(folder.path().join("a")).expect("a folder");
        std::fs::write(folder.path().join("a/1.log"), "12345").expect("a file");
        std::fs::write(folder.path().join("a/1.idx"), "12345678").expect("a file");
        let found = look(folder.path(), |id| (id == "a").then_some(Timestamp::UNIX_EPOCH)).expect("read");
        assert_eq!(found, [Logs { folder: folder.path().join("a"), bytes: 13, ended_at: Some(Timestamp::UNIX_EPOCH) }]);
    }
}
