//! `/runs/{id}/tasks`, and the log of a step under the path that the stock UI reads it from.

use auth::caller::Caller;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::{Api, wire};
use crate::operations::LogLines;

/// What to read of a log; the names are Kubernetes' own where it has them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LogQuery {
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    timestamps: bool,
    #[serde(default)]
    from: u64,
    n: Option<u64>,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let view = api.operations.run(&caller, &id).await?;
    Ok(Json(json!({"tasks": wire::tasks(&view), "total_size": view.tasks.len()})))
}

pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path((id, task)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let task = api.operations.find_task(&caller, &id, &task).await?;
    Ok(Json(wire::pipeline_task(&id, &task)))
}

pub(super) async fn log(
    State(api): State<Api>,
    caller: Caller,
    Path((id, node)): Path<(String, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Response, Refusal> {
    let wanted = LogLines { from: query.from, count: query.n, follow: query.follow, timestamps: query.timestamps };
    let lines = api.operations.log(&caller, &id, &node, wanted).await?;
    let stop = api.tasks.cancelled();
    // A step's output is never taken for a page of ours.
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((kind, Body::from_stream(lines.take_until(stop))).into_response())
}
