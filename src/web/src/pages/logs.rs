//! The log of a step: its end drawn on the server, what comes after it fetched as it is written.

use askama::Template;
use auth::caller::Caller;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use foundation::problem::Problem;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use pipelines::engine::executor_input::task_id;
use pipelines::operations::LogLines;
use serde::Deserialize;

use crate::layout::{Frame, page, percent};
use crate::{Web, problem};

/// Lines that a page begins with, from the end of the log.
const LINES: u64 = 2000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    task: String,
    from: u64,
    n: Option<u64>,
}

#[derive(Template)]
#[template(path = "runs/log.html")]
struct Show {
    frame: Frame,
    run_id: String,
    run_name: String,
    step: String,
    topic: String,
    url: String,
    download: String,
    file_name: String,
    first: u64,
    total: u64,
    complete: bool,
    lines: Vec<(u64, String)>,
}

pub(crate) async fn show(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    Path((ns, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    match read(&web, &caller, frame.clone(), &ns, &id, &wanted.task).await {
        Ok(show) => page(http::StatusCode::OK, &show),
        Err(error) => problem::page(frame, error),
    }
}

async fn read(web: &Web, caller: &Caller, frame: Frame, ns: &str, id: &str, name: &str) -> Result<Show, Problem> {
    let run = web.operations.run(caller, id).await?;
    let task = web.operations.find_task(caller, id, name).await?;
    let progress = *web.operations.log_progress(caller, id, &task.path).await?.borrow();
    let whole = progress.lines;
    let first = whole.saturating_sub(LINES);
    let wanted = LogLines { from: first, count: Some(whole - first), follow: false, timestamps: false };
    let text = web.operations.log_text(caller, id, &task.path, wanted).await?;
    let url = format!("/ns/{}/runs/{id}/logs/lines?task={}", percent(ns), percent(&task.path));
    Ok(Show {
        run_name: run.summary.name,
        topic: format!("log/{id}/{}", task_id(id, &task.path, task.epoch)),
        download: format!("/apis/v1alpha1/runs/{id}/nodes/{}/log?timestamps=true", percent(&task.path)),
        file_name: format!("{}.log", task.path.replace('/', "-")),
        step: task.path,
        first,
        total: whole,
        complete: progress.complete,
        lines: text.lines().zip(first + 1..).map(|(line, number)| (number, line.to_owned())).collect(),
        run_id: id.to_owned(),
        url,
        frame,
    })
}

/// A range of lines as text; `X-Log-Complete` says whether more may come.
pub(crate) async fn lines(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    Path((_, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let range = LogLines {
        from: wanted.from,
        count: Some(wanted.n.unwrap_or(LINES).min(LINES)),
        follow: false,
        timestamps: false,
    };
    let progress = web.operations.log_progress(&caller, &id, &wanted.task).await;
    let complete = progress.map(|progress| progress.borrow().complete);
    let text = web.operations.log_text(&caller, &id, &wanted.task, range).await;
    match (complete, text) {
        (Ok(complete), Ok(text)) => {
            let headers = [
                (CONTENT_TYPE, "text/plain; charset=utf-8"),
                (CACHE_CONTROL, "no-store"),
                (http::HeaderName::from_static("x-log-complete"), if complete { "true" } else { "false" }),
            ];
            (headers, text).into_response()
        }
        (Err(error), _) | (_, Err(error)) => problem::page(frame, error),
    }
}
