//! The list of runs: filtered, sorted, paged; everything in the URL.

use std::sync::Arc;

use askama::Template;
use auth::caller::Caller;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use foundation::problem::Problem;
use http::HeaderMap;
use http::StatusCode;
use http::header::IF_NONE_MATCH;
use pipelines::ir::package::Package;
use pipelines::operations::listing::{Cursor, Page, Query as ListQuery};
use pipelines::operations::{NewRun, RunSource};
use pipelines::types::experiment::Storage;
use pipelines::types::run::Summary;
use serde::Deserialize;

use super::Signed;
use crate::layout::{Frame, fragments, may_write, page_at, percent};
use crate::view::{self, state, time};
use crate::{Web, problem};

/// Rows of a page.
const ROWS: usize = 50;
/// The sample that a newcomer starts with one click.
const DIGITS: &str = include_str!("../../../../config/samples/digits/pipeline.yaml");
const STATES: [(&str, &str); 6] = [
    ("pending", "Pending"),
    ("running", "Running"),
    ("succeeded", "Succeeded"),
    ("failed", "Failed"),
    ("canceling", "Canceling"),
    ("canceled", "Canceled"),
];

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    q: String,
    state: String,
    storage: String,
    experiment: String,
    sort: String,
    page: String,
    _f: Option<String>,
}

#[derive(Template)]
#[template(path = "runs/list.html")]
struct List {
    frame: Frame,
    rev: u64,
    q: String,
    state: String,
    states: &'static [(&'static str, &'static str)],
    archived: bool,
    filtered: bool,
    rows: Vec<Row>,
    shown: String,
    next: Option<String>,
    wanted: Wanted,
}

#[derive(Template)]
#[template(path = "runs/_rows.html")]
struct Rows<'a> {
    frame: &'a Frame,
    filtered: bool,
    rows: &'a [Row],
    shown: &'a str,
    next: &'a Option<String>,
    wanted: &'a Wanted,
}

/// A run as a row.
struct Row {
    id: String,
    name: String,
    state: state::Shown,
    pipeline: String,
    experiment: String,
    strip: Vec<&'static str>,
    steps: String,
    started: time::Shown,
    duration: String,
    /// While it is not over, in milliseconds: the page counts on.
    ticks_from: Option<i64>,
    by: String,
    failure: Option<String>,
}

impl Wanted {
    fn sort(&self) -> (&str, bool) {
        match self.sort.strip_prefix('-') {
            Some(field) => (field, true),
            None if self.sort.is_empty() => ("created_at", true),
            None => (&self.sort, false),
        }
    }

    fn link(&self, changes: &[(&str, &str)]) -> String {
        let mut pairs = vec![
            ("q", self.q.as_str()),
            ("state", self.state.as_str()),
            ("storage", self.storage.as_str()),
            ("experiment", self.experiment.as_str()),
            ("sort", self.sort.as_str()),
        ];
        for (name, value) in changes {
            pairs.retain(|(own, _)| own != name);
            pairs.push((name, value));
        }
        let set = pairs.iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> = set.map(|(name, value)| format!("{name}={}", percent(value))).collect();
        format!("?{}", query.join("&"))
    }

    fn sort_link(&self, field: &str) -> String {
        let (own, descending) = self.sort();
        let next = if own == field && descending { field.to_owned() } else { format!("-{field}") };
        self.link(&[("sort", &next)])
    }

    fn sort_mark(&self, field: &str) -> &'static str {
        match self.sort() {
            (own, true) if own == field => " ↓",
            (own, false) if own == field => " ↑",
            _ => "",
        }
    }

    fn accepts(&self, run: &Summary) -> bool {
        let archived = run.storage == Storage::Archived;
        let text = self.q.trim().to_lowercase();
        archived == (self.storage == "archived")
            && (self.state.is_empty() || state::of_run(run.state).name == self.state)
            && (self.experiment.is_empty() || run.experiment_id == self.experiment)
            && (text.is_empty()
                || run.name.to_lowercase().contains(&text)
                || run.pipeline_name.to_lowercase().contains(&text)
                || run.id.starts_with(&text))
    }

    fn is_filtered(&self) -> bool {
        [&self.q, &self.state, &self.storage, &self.experiment].iter().any(|value| !value.is_empty())
    }
}

impl List {
    fn sort_link(&self, field: &str) -> String {
        self.wanted.sort_link(field)
    }

    fn sort_mark(&self, field: &str) -> &'static str {
        self.wanted.sort_mark(field)
    }
}

impl Rows<'_> {
    fn sort_link(&self, field: &str) -> String {
        self.wanted.sort_link(field)
    }

    fn sort_mark(&self, field: &str) -> &'static str {
        self.wanted.sort_mark(field)
    }
}

pub(crate) async fn list(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Response {
    let rev = web.operations.revision();
    let tag = headers.get(IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    if wanted._f.is_some() && tag == Some(format!("\"{rev}\"").as_str()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let page = match find(&web, &caller, &wanted) {
        Ok(page) => page,
        Err(error) => return problem::page(frame, error),
    };
    let now = web.operations.now();
    let rows: Vec<Row> = page.items.iter().map(|run| row(run, now, &frame)).collect();
    let shown = format!("{} of {} runs", rows.len(), page.total);
    let next = page.next.map(|token| wanted.link(&[("page", &token)]));
    let filtered = wanted.is_filtered();
    if wanted._f.is_some() {
        let part = Rows { frame: &frame, filtered, rows: &rows, shown: &shown, next: &next, wanted: &wanted };
        return fragments(rev, &[("rows", part.render())]);
    }
    let (q, state) = (wanted.q.clone(), wanted.state.clone());
    let archived = wanted.storage == "archived";
    page_at(rev, &List { frame, rev, q, state, states: &STATES, archived, filtered, rows, shown, next, wanted })
}

fn find(web: &Web, caller: &Caller, wanted: &Wanted) -> Result<Page<Arc<Summary>>, Problem> {
    let (sort, descending) = wanted.sort();
    let query = ListQuery { sort: sort.to_owned(), descending, page_size: ROWS, ..ListQuery::default() };
    let query = if wanted.page.is_empty() { query } else { Cursor::parse(&wanted.page)?.resume(query, true, false)? };
    web.operations.runs_where(caller, |run| wanted.accepts(run), &query)
}

fn row(run: &Summary, now: jiff::Timestamp, frame: &Frame) -> Row {
    let ended = run.finished_at.unwrap_or(now);
    let version = run.version_name.as_ref().filter(|name| **name != run.pipeline_name);
    Row {
        id: run.id.clone(),
        name: run.name.clone(),
        state: state::of_run(run.state),
        pipeline: match version {
            Some(version) => format!("{} {version}", run.pipeline_name),
            None => run.pipeline_name.clone(),
        },
        experiment: run.experiment_name.clone(),
        strip: run.strip.iter().map(|cell| state::of_task(cell.state).name).collect(),
        steps: format!("{} of {} steps done", run.steps_done, run.steps_known),
        started: time::show(run.created_at, now, &frame.zone),
        duration: milliseconds(run.created_at, ended),
        ticks_from: run.finished_at.is_none().then(|| elapsed(run.created_at, now)),
        by: run.started_by.user.clone(),
        failure: run.failure.as_ref().map(|failure| format!("{}: {}", failure.task, first_line(&failure.message))),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

pub(super) fn milliseconds(from: jiff::Timestamp, to: jiff::Timestamp) -> String {
    view::duration(elapsed(from, to))
}

pub(super) fn elapsed(from: jiff::Timestamp, to: jiff::Timestamp) -> i64 {
    i64::try_from(to.duration_since(from).as_millis()).unwrap_or(i64::MAX)
}

/// Starts the sample: the first thing that a newcomer sees do something.
pub(crate) async fn digits(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    Path(ns): Path<String>,
    Form(form): Form<Signed>,
) -> Response {
    if !may_write(&caller, &form.csrf) {
        return super::not_ours(frame);
    }
    let start = async {
        let package = Package::from_yaml(DIGITS)?;
        let new = NewRun {
            name: "digits".to_owned(),
            description: "The sample: handwritten digits".to_owned(),
            experiment_id: None,
            source: RunSource::Inline(Box::new(package)),
            parameters: serde_json::Map::new(),
            pipeline_root: None,
            service_account: String::new(),
            from: "ui".to_owned(),
        };
        let (operations, tasks) = (web.operations.clone(), web.tasks.clone());
        let started = tasks.shield("start a run", async move { operations.create_run(&caller, new).await }).await;
        started.map_err(|lost| Problem::internal("The run was not started", lost))?
    };
    match start.await {
        Ok(run) => Redirect::to(&format!("/ns/{ns}/runs/{}", run.summary.id)).into_response(),
        Err(error) => problem::page(frame, error),
    }
}
