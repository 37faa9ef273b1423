//! What became of a step whose pod ended: its report, its exit code, its last words.

use std::collections::BTreeMap;

use foundation::problem::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use super::Controller;
use super::watch::{main, summary};
use crate::engine::executor_input::{task_id, task_root};
use crate::engine::{Event, Outcome, PodOf};
use crate::launcher::{self, Made, Report};
use crate::logs;
use crate::types::artifact::Artifact;
use crate::types::task::{Failure, Task, Values};

/// Of the end of a log, for the failure.
const LAST_LINES: usize = 20;
/// A report holds parameters, which may be large, and facts about artifacts, which are not.
const REPORT_MAX_BYTES: u64 = 128 << 20;
/// With this a node says that nobody knows how a container ended: the machine went down, or its shim with it.
const LOST: &str = "ContainerStatusUnknown";

impl Controller {
    /// Reads what a pod left behind and tells its run.
    pub(super) async fn collect(&self, run_id: &str, of: PodOf, pod: Pod) {
        let ended = main(&pod).and_then(|status| status.state.as_ref()?.terminated.clone());
        let at = ended.as_ref().and_then(|ended| ended.finished_at.as_ref()).map(|at| self.precisely(at.0));
        let at = at.unwrap_or_else(|| self.context.store.now());
        self.logs.finish(run_id, &of, &pod).await;
        let outcome = self.outcome(run_id, &of, &pod, ended, at).await;
        self.tell(run_id, Event::PodEnded { of, outcome, at, pod: summary(&pod) }).await;
    }

    async fn outcome(
        &self,
        run_id: &str,
        of: &PodOf,
        pod: &Pod,
        ended: Option<ContainerStateTerminated>,
        at: Timestamp,
    ) -> Outcome {
        let status = pod.status.clone().unwrap_or_default();
        let pod_reason = status.reason.clone().unwrap_or_default();
        if ended.as_ref().is_some_and(|ended| ended.reason.as_deref() == Some(LOST)) {
            return Outcome::Lost;
        }
        let report = self.report(run_id, of).await;
        if status.phase.as_deref() == Some("Succeeded") {
            return match report {
                Ok((task, report)) if report.error.is_none() => Outcome::Succeeded(values(run_id, &task, report, at)),
                Ok((_, report)) => failed(report.error.unwrap_or_default(), "InvalidOutput"),
                Err(why) => failed(format!("The step ended well but its report cannot be read: {why}"), "NoReport"),
            };
        }
        let said = report.ok().and_then(|(_, report)| report.error);
        let file = self.context.logs.file(run_id, &of.path, of.epoch, of.attempt);
        let read = move || logs::last_lines(&file, LAST_LINES);
        let last_lines = foundation::tasks::blocking("read a log's end", read).await.unwrap_or_default();
        let exit_code = ended.as_ref().map(|ended| ended.exit_code);
        let reason = ended.as_ref().and_then(|ended| ended.reason.clone()).filter(|_| pod_reason.is_empty());
        let reason = reason.unwrap_or(pod_reason);
        let verbatim = last_lines.iter().rev().find(|line| !line.trim().is_empty()).cloned();
        let message = said
            .or_else(|| special(&reason, &status.message))
            .or_else(|| ended.and_then(|ended| ended.message).filter(|message| !message.trim().is_empty()))
            .or(verbatim)
            .unwrap_or_else(|| format!("The command ended with exit code {}.", exit_code.unwrap_or(1)));
        Outcome::Failed(Failure { message: message.trim().to_owned(), reason, exit_code, last_lines })
    }

    async fn report(&self, run_id: &str, of: &PodOf) -> Result<(Task, Report), String> {
        let parts = self.context.store.task(run_id, &of.path).map_err(|error| chain(&error))?;
        let task = parts.ok_or("the task is gone")?;
        let (summary, request) = self.context.store.head(run_id).map_err(|error| chain(&error))?;
        let uri = format!("{}/{}", task_root(&request, &summary, &task), launcher::report_file(of.attempt));
        let store = self.context.artifacts.clone();
        let read = move || {
            let bytes = store.get(&uri, REPORT_MAX_BYTES).map_err(|error| chain(&error))?;
            serde_json::from_slice::<Report>(&bytes).map_err(|error| error.to_string())
        };
        let report = foundation::tasks::blocking("read a report", read).await.map_err(|lost| lost.to_string())?;
        Ok((task, report?))
    }
}

/// What the platform ended says why itself; a log's last line would mislead.
fn special(reason: &str, message: &Option<String>) -> Option<String> {
    match reason {
        "OOMKilled" => Some("The step used more memory than it may.".to_owned()),
        "DeadlineExceeded" | "Evicted" => Some(message.clone().unwrap_or_else(|| reason.to_owned())),
        _ => None,
    }
}

fn failed(message: String, reason: &str) -> Outcome {
    Outcome::Failed(Failure { message, reason: reason.to_owned(), ..Failure::default() })
}

fn values(run_id: &str, task: &Task, report: Report, at: Timestamp) -> Values {
    let artifacts: BTreeMap<String, Vec<Artifact>> = report
        .artifacts
        .into_iter()
        .map(|(output, list)| {
            let list = list.into_iter().enumerate();
            (output.clone(), list.map(|(index, made)| artifact(run_id, task, &output, index, made, at)).collect())
        })
        .collect();
    Values { parameters: report.parameters, artifacts }
}

fn artifact(run_id: &str, task: &Task, output: &str, index: usize, made: Made, at: Timestamp) -> Artifact {
    Artifact {
        id: task_id(run_id, &format!("{}#{output}#{index}", task.path), task.epoch),
        name: output.to_owned(),
        kind: made.kind,
        uri: made.uri,
        metadata: made.metadata,
        custom_path: made.custom_path,
        size_bytes: made.size_bytes,
        sha256: made.sha256,
        created_at: at,
    }
}
