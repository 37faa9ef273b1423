//! `/healthz`, `/livez`, `/readyz`, `/version` and `/metrics` of the front door.

use auth::caller::Caller;
use axum::Json;
use axum::extract::RawQuery;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;
use telemetry::health::Health;
use telemetry::metrics::{CONTENT_TYPE as METRICS_TYPE, Metrics};

/// What these routes look at.
#[derive(Clone)]
pub struct Looked {
    /// The checks.
    pub health: Health,
    /// The figures.
    pub metrics: Metrics,
}

/// Alive and ready; the listener opens only when everything is.
pub async fn ready(State(looked): State<Looked>, RawQuery(query): RawQuery) -> Response {
    let report = looked.health.report();
    let status = if report.is_good() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.unwrap_or_default().contains("verbose");
    let text = if verbose || !report.is_good() { report.verbose("readyz") } else { "ok".to_owned() };
    (status, text).into_response()
}

/// The version.
pub async fn version() -> Response {
    Json(json!({"version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// The figures, for those who may see them.
pub async fn metrics(State(looked): State<Looked>, _caller: Caller) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], looked.metrics.render()).into_response()
}
