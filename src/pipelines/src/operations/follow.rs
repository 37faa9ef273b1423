//! Following: a run as it changes, the log of a step as it is written.

use auth::caller::Caller;
use bytes::Bytes;
use foundation::problem::Problem;
use futures::{Stream, StreamExt};
use tokio::sync::broadcast;

use super::Operations;
use crate::logs::{Keep, Progress, read_lines, without_timestamp};
use crate::store::RunParts;
use crate::types::task::Task;

/// Lines that are read in one go.
const LINES_AT_ONCE: u64 = 2000;

/// What to read of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogLines {
    /// The first line, from 0.
    pub from: u64,
    /// At most so many; `None` is all.
    pub count: Option<u64>,
    /// Whether to stay until the step ended.
    pub follow: bool,
    /// Whether each line begins with its time.
    pub timestamps: bool,
}

impl Operations {
    /// A task of a run, by its scope path, its id, its pod's name or, where only one has it, its name.
    ///
    /// # Errors
    /// When there is none or several, or the caller may not.
    pub async fn find_task(&self, caller: &Caller, run_id: &str, name: &str) -> Result<Task, Problem> {
        self.allow(caller, "get", "runs")?;
        let parts = self.store.run(run_id).await?;
        let id = |task: &Task| crate::engine::executor_input::task_id(run_id, &task.path, task.epoch);
        let exact = |task: &&Task| {
            task.path == name || task.pod.as_ref().is_some_and(|pod| pod.name == name) || id(task) == name
        };
        if let Some(task) = parts.tasks.iter().find(exact) {
            return Ok(task.clone());
        }
        let named: Vec<&Task> = parts.tasks.iter().filter(|task| task.name == name).collect();
        match named.as_slice() {
            [task] => Ok((*task).clone()),
            [] => Err(Problem::not_found(format!("Run {run_id} has no task {name:?}"))),
            many => {
                let paths: Vec<&str> = many.iter().map(|task| task.path.as_str()).collect();
                Err(Problem::invalid(format!("Several tasks are called {name:?}: {}", paths.join(", "))))
            }
        }
    }

    /// Word of how far the log of a task's last attempt has come.
    ///
    /// # Errors
    /// When there is no such task or the caller may not.
    pub async fn log_progress(
        &self,
        caller: &Caller,
        run_id: &str,
        task: &str,
    ) -> Result<tokio::sync::watch::Receiver<Progress>, Problem> {
        let task = self.find_task(caller, run_id, task).await?;
        Ok(self.logs.progress(&self.logs.of_task(run_id, &task)))
    }

    /// The log of a task's last attempt, as it is and, if wanted, as it grows.
    ///
    /// # Errors
    /// When there is no such task or the caller may not.
    pub async fn log(
        &self,
        caller: &Caller,
        run_id: &str,
        task: &str,
        wanted: LogLines,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + 'static + use<>, Problem> {
        let task = self.find_task(caller, run_id, task).await?;
        if self.logs.is_removed(run_id, &task) {
            return Err(removed(self.logs.keep()));
        }
        let file = self.logs.of_task(run_id, &task);
        let progress = self.logs.progress(&file);
        let end = wanted.count.map(|count| wanted.from.saturating_add(count));
        let start = (wanted.from, progress, file);
        Ok(futures::stream::unfold(start, move |(mut next, mut progress, file)| async move {
            loop {
                let seen: Progress = *progress.borrow_and_update();
                let limit = end.map_or(seen.lines, |end| end.min(seen.lines));
                if next < limit {
                    let count = (limit - next).min(LINES_AT_ONCE);
                    let (path, timestamps) = (file.clone(), wanted.timestamps);
                    let read = move || read_lines(&path, next, count).map(|bytes| render(bytes, timestamps));
                    let bytes = match foundation::tasks::blocking("read a log", read).await {
                        Ok(bytes) => bytes,
                        Err(lost) => Err(std::io::Error::other(lost)),
                    };
                    next += count;
                    return Some((bytes, (next, progress, file)));
                }
                let done = seen.complete || !wanted.follow || end.is_some_and(|end| next >= end);
                if done || progress.changed().await.is_err() {
                    return None;
                }
            }
        }))
    }

    /// A range of the lines of a task's log, without timestamps.
    ///
    /// # Errors
    /// When there is no such task, the log cannot be read, or the caller may not.
    pub async fn log_text(
        &self,
        caller: &Caller,
        run_id: &str,
        task: &str,
        wanted: LogLines,
    ) -> Result<String, Problem> {
        let lines = self.log(caller, run_id, task, LogLines { follow: false, ..wanted }).await?;
        futures::pin_mut!(lines);
        let mut text = String::new();
        while let Some(bytes) = lines.next().await {
            let bytes = bytes.map_err(|error| Problem::internal("The log cannot be read", error))?;
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok(text)
    }

    /// A run now and after each change until it is over; changes that come together are seen together.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub async fn follow_run(
        &self,
        caller: &Caller,
        run_id: &str,
    ) -> Result<impl Stream<Item = RunParts> + Send + 'static + use<>, Problem> {
        let changes = self.store.changes();
        let first = self.run(caller, run_id).await?;
        let over = first.summary.state.is_final();
        let rest = (changes, self.store.clone(), run_id.to_owned(), over);
        let rest = futures::stream::unfold(rest, |(mut changes, store, id, over)| async move {
            if over {
                return None;
            }
            loop {
                match changes.recv().await {
                    Ok(changed) if changed == id => {}
                    Ok(_) => continue,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
                // What came in the meantime is seen by the same read.
                changes = changes.resubscribe();
                let parts = store.run(&id).await.ok()?;
                let over = parts.summary.state.is_final();
                return Some((parts, (changes, store, id, over)));
            }
        });
        Ok(futures::stream::once(std::future::ready(first)).chain(rest))
    }
}

fn removed(keep: Keep) -> Problem {
    let days = (keep.days > 0).then(|| format!("{} days after its run's end", keep.days));
    let bytes = (keep.bytes > 0).then(|| format!("when all logs have more than {} GiB", keep.bytes >> 30));
    let when: Vec<String> = days.into_iter().chain(bytes).collect();
    let problem = Problem::not_found("The log of this step was removed");
    if when.is_empty() { problem } else { problem.because(format!("A log is removed {}.", when.join(", or "))) }
}

fn render(bytes: Vec<u8>, timestamps: bool) -> Bytes {
    if timestamps {
        return bytes.into();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        out.push_str(without_timestamp(line));
    }
    out.into()
}
