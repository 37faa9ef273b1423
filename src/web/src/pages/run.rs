//! A run: what became of it, its steps as a tree, its artifacts; and what can be done with it.

use askama::Template;
use auth::caller::Caller;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use foundation::problem::Problem;
use http::header::IF_NONE_MATCH;
use http::{HeaderMap, StatusCode};
use pipelines::ir::package::Package;
use pipelines::operations::{NewRun, RunSource, RunView};
use pipelines::types::experiment::Storage;
use pipelines::types::run::State as RunState;
use pipelines::types::task::{State as TaskState, Task};
use serde::Deserialize;

use super::Signed;
use super::runs::{elapsed, milliseconds};
use crate::layout::{Frame, fragments, may_write, page_at, percent};
use crate::view::steps::{Step, log_link, steps};
use crate::view::{self, state, time};
use crate::{Web, problem};

/// A loop of thousands must not make a page of thousands.
const ARTIFACTS_MAX: usize = 400;
/// Failed steps that are shown in full.
const FAILURES_MAX: usize = 3;
/// Of a parameter's value.
const VALUE_MAX_CHARS: usize = 2000;

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    _f: Option<String>,
}

#[derive(Template)]
#[template(path = "runs/show.html")]
struct Show {
    frame: Frame,
    rev: u64,
    head: Head,
    failures: Vec<Failure>,
    steps: Vec<Step>,
    hidden_steps: usize,
    artifacts: Vec<ArtifactRow>,
    parameters: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "runs/_head.html")]
struct HeadPart<'a> {
    frame: &'a Frame,
    head: &'a Head,
    failures: &'a [Failure],
}

#[derive(Template)]
#[template(path = "runs/_steps.html")]
struct StepsPart<'a> {
    head: &'a Head,
    steps: &'a [Step],
    hidden_steps: usize,
}

#[derive(Template)]
#[template(path = "runs/_artifacts.html")]
struct ArtifactsPart<'a> {
    artifacts: &'a [ArtifactRow],
}

struct Head {
    id: String,
    name: String,
    state: state::Shown,
    over: bool,
    pipeline: String,
    experiment: String,
    started: time::Shown,
    duration: String,
    /// While it is not over, in milliseconds: the page counts on.
    ticks_from: Option<i64>,
    by: String,
    done: u32,
    known: u32,
    progress: String,
    actions: Vec<Action>,
}

struct Action {
    path: &'static str,
    word: &'static str,
    class: &'static str,
}

struct Failure {
    step: String,
    message: String,
    facts: String,
    lines: Vec<String>,
    log: String,
}

struct ArtifactRow {
    name: String,
    kind: String,
    size: String,
    href: String,
}

pub(crate) async fn show(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    headers: HeaderMap,
    Path((_, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let view = match web.operations.run(&caller, &id).await {
        Ok(view) => view,
        Err(error) => return problem::page(frame, error),
    };
    let rev = view.revision;
    let tag = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    if wanted._f.is_some() && tag == Some(format!("\"{rev}\"").as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let now = web.operations.now();
    let head = head(&view, now, &frame);
    let failures = failures(&view, &frame);
    let (steps, hidden_steps) = steps(&view, now, &frame);
    let artifacts = artifacts(&view, &frame);
    if wanted._f.is_some() {
        return fragments(
            rev,
            &[
                ("head", HeadPart { frame: &frame, head: &head, failures: &failures }.render()),
                ("steps", StepsPart { head: &head, steps: &steps, hidden_steps }.render()),
                ("artifacts", ArtifactsPart { artifacts: &artifacts }.render()),
            ],
        );
    }
    let parameters = view.request.parameters.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), text.chars().take(VALUE_MAX_CHARS).collect())
    });
    let parameters = parameters.collect();
    page_at(rev, &Show { frame, rev, head, failures, steps, hidden_steps, artifacts, parameters })
}

fn head(view: &RunView, now: jiff::Timestamp, frame: &Frame) -> Head {
    let run = &view.summary;
    let action = |path, word, class| Action { path, word, class };
    let mut actions = Vec::new();
    match run.state {
        RunState::Pending | RunState::Running => actions.push(action("cancel", "Cancel run", "button--danger")),
        RunState::Failed | RunState::Canceled => {
            actions.push(action("retry", "Retry from failed step", "button--primary"))
        }
        RunState::Succeeded | RunState::Canceling => {}
    }
    if run.state.is_final() {
        actions.push(action("again", "Run again", ""));
        match run.storage {
            Storage::Available => actions.push(action("archive", "Archive", "")),
            Storage::Archived => {
                actions.push(action("restore", "Restore", ""));
                actions.push(action("delete", "Delete", "button--danger"));
            }
        }
    }
    Head {
        id: run.id.clone(),
        name: run.name.clone(),
        state: state::of_run(run.state),
        over: run.state.is_final(),
        pipeline: run.pipeline_name.clone(),
        experiment: run.experiment_name.clone(),
        started: time::show(run.created_at, now, &frame.zone),
        duration: milliseconds(run.created_at, run.finished_at.unwrap_or(now)),
        ticks_from: run.finished_at.is_none().then(|| elapsed(run.created_at, now)),
        by: run.started_by.user.clone(),
        done: run.steps_done,
        known: run.steps_known,
        progress: progress(view),
        actions,
    }
}

/// While it runs how far it is, afterwards what became of its steps: what never started was not done.
fn progress(view: &RunView) -> String {
    let run = &view.summary;
    if !run.state.is_final() {
        return format!("{} of {} steps done", run.steps_done, run.steps_known);
    }
    let count = |state| view.tasks.iter().filter(|task| task.kind.is_leaf() && task.state == state).count();
    let kinds = [
        (TaskState::Failed, "failed"),
        (TaskState::Succeeded, "succeeded"),
        (TaskState::Cached, "cached"),
        (TaskState::Canceled, "canceled"),
        (TaskState::Skipped, "not started"),
    ];
    let said = kinds.into_iter().map(|(state, word)| (count(state), word)).filter(|(count, _)| *count > 0);
    said.map(|(count, word)| format!("{count} {word}")).collect::<Vec<_>>().join(" · ")
}

/// The steps that failed by themselves, earliest first: the first is the cause.
fn failures(view: &RunView, frame: &Frame) -> Vec<Failure> {
    let mut failed: Vec<&Task> =
        view.tasks.iter().filter(|task| task.state == TaskState::Failed && task.kind.is_leaf()).collect();
    failed.sort_by_key(|task| task.times.ended_at);
    let show = |task: &&Task| {
        let failure = task.failure.clone().unwrap_or_default();
        let code = failure.exit_code.map(|code| format!("exit code {code}"));
        let attempt = (task.attempt > 0).then(|| format!("attempt {}", task.attempt + 1));
        let facts: Vec<String> = code
            .into_iter()
            .chain(attempt)
            .chain(Some(failure.reason.clone()))
            .filter(|fact| !fact.is_empty())
            .collect();
        Failure {
            step: task.path.clone(),
            message: failure.message,
            facts: facts.join(" · "),
            lines: failure.last_lines,
            log: log_link(frame, &view.summary.id, &task.path),
        }
    };
    failed.iter().take(FAILURES_MAX).map(show).collect()
}

fn artifacts(view: &RunView, frame: &Frame) -> Vec<ArtifactRow> {
    let mut rows = Vec::new();
    for task in view.tasks.iter().filter(|task| task.kind.is_leaf()) {
        for (output, list) in &task.outputs.artifacts {
            for (index, artifact) in list.iter().enumerate() {
                let (task_path, output_name) = (percent(&task.path), percent(output));
                rows.push(ArtifactRow {
                    name: format!("{} / {output}", task.path),
                    kind: artifact.schema_title().trim_start_matches("system.").to_owned(),
                    size: artifact.size_bytes.map(view::size).unwrap_or_default(),
                    href: format!(
                        "/ns/{}/runs/{}/artifact?task={task_path}&output={output_name}&index={index}",
                        frame.namespace, view.summary.id
                    ),
                });
            }
        }
    }
    rows.truncate(ARTIFACTS_MAX);
    rows
}

/// `POST …/cancel`, `retry`, `again`, `archive`, `restore`, `delete`: 303 back to what it is about.
pub(crate) async fn act(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    Path((ns, id, act)): Path<(String, String, String)>,
    Form(form): Form<Signed>,
) -> Response {
    if !may_write(&caller, &form.csrf) {
        return super::not_ours(frame);
    }
    let runs = format!("/ns/{ns}/runs");
    let tasks = web.tasks.clone();
    let done = tasks.shield("act on a run", async move { perform(&web, &caller, &id, &act).await }).await;
    match done {
        Ok(Ok(Some(run))) => Redirect::to(&format!("{runs}/{run}")).into_response(),
        Ok(Ok(None)) => Redirect::to(&runs).into_response(),
        Ok(Err(error)) => problem::page(frame, error),
        Err(lost) => problem::page(frame, Problem::internal("The change was interrupted", lost)),
    }
}

/// Gives the run to show next; none for the list.
async fn perform(web: &Web, caller: &Caller, id: &str, act: &str) -> Result<Option<String>, Problem> {
    let operations = &web.operations;
    match act {
        "cancel" => operations.terminate_run(caller, id).await?,
        "retry" => operations.retry_run(caller, id).await?,
        "archive" => operations.archive_run(caller, id, Storage::Archived).await?,
        "restore" => operations.archive_run(caller, id, Storage::Available).await?,
        "delete" => {
            operations.delete_run(caller, id).await?;
            return Ok(None);
        }
        "again" => return again(web, caller, id).await.map(Some),
        other => return Err(Problem::not_found(format!("A run cannot be asked to {other}"))),
    }
    Ok(Some(id.to_owned()))
}

/// The same pipeline with the same parameters.
async fn again(web: &Web, caller: &Caller, id: &str) -> Result<String, Problem> {
    let old = web.operations.run(caller, id).await?;
    let new = NewRun {
        name: old.summary.name.clone(),
        description: old.summary.description.clone(),
        experiment_id: Some(old.summary.experiment_id.clone()),
        source: RunSource::Inline(Box::new(Package::from_json(old.request.document.clone())?)),
        parameters: old.request.parameters.clone(),
        pipeline_root: Some(old.request.pipeline_root.clone()),
        service_account: old.request.service_account.clone(),
        from: "ui".to_owned(),
    };
    Ok(web.operations.create_run(caller, new).await?.summary.id)
}
