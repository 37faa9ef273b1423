//! The kubelet's endpoints: logs now; the API server forwards to them with kubelet paths. Errors are plain text, as a kubelet's.

use crate::agent::Shared;
use crate::logs::{self, LogOptions};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use std::sync::Arc;

/// `/containerLogs/{namespace}/{pod}/{container}` and `/healthz`.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(shared)
}

/// The query as Kubernetes' clients write it (`true`, `True`, `1`).
#[derive(Debug, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct LogQuery {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    since_seconds: Option<i64>,
    since_time: Option<jiff::Timestamp>,
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
}

async fn container_logs(
    State(shared): State<Arc<Shared>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let Some(pod) = shared.find(&namespace, &name) else {
        return (StatusCode::NOT_FOUND, format!("pods {name:?} not found")).into_response();
    };
    let spec = pod.spec.as_ref();
    let mut known = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    if !known.any(|known| known.name == container) {
        return bad(format!("container {container} is not valid for pod {name}"));
    }
    let folder = shared.folder_of(&pod);
    let newest = (0..).take_while(|attempt| folder.log(&container, *attempt).exists()).last();
    let attempt = match (yes(query.previous.as_deref()), newest) {
        (true, Some(newest)) if newest > 0 => newest - 1,
        (true, _) => return bad(format!("previous terminated container {container:?} in pod {name:?} not found")),
        (false, Some(newest)) => newest,
        (false, None) => return bad(waiting(&pod, &name, &container)),
    };
    let since = match (query.since_time, query.since_seconds) {
        (Some(time), _) => Some(time),
        (None, Some(seconds)) => shared.clock.now().checked_sub(jiff::SignedDuration::from_secs(seconds)).ok(),
        (None, None) => None,
    };
    let options = LogOptions {
        follow: yes(query.follow.as_deref()),
        timestamps: yes(query.timestamps.as_deref()),
        since,
        tail_lines: query.tail_lines.and_then(|lines| usize::try_from(lines).ok()),
        limit_bytes: query.limit_bytes.and_then(|bytes| usize::try_from(bytes).ok()),
    };
    let stream = logs::stream(folder.log(&container, attempt), folder.exit(&container, attempt), options);
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

fn yes(value: Option<&str>) -> bool {
    matches!(value, Some("true" | "True" | "1" | ""))
}

/// What a kubelet says of a container that has no log yet.
fn waiting(pod: &Pod, name: &str, container: &str) -> String {
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    let mut statuses = lists.into_iter().flatten().flatten().flatten();
    let found = statuses.find(|status| status.name == container);
    let reason = found.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let why = match reason.as_deref() {
        Some("ErrImagePull") => "trying and failing to pull image",
        Some("ImagePullBackOff") => "image can't be pulled",
        Some(reason) => reason,
        None => "ContainerCreating",
    };
    format!("container {container:?} in pod {name:?} is waiting to start: {why}")
}

fn bad(message: String) -> Response {
    (StatusCode::BAD_REQUEST, message).into_response()
}
