//! What commands ask a running platform through its unix socket, beside the APIs that are mounted there too.

use std::sync::Arc;
use std::time::Duration;

use auth::identity::Identity;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::platform::{Facade, USER};

/// A token that nobody revokes ends after this time.
const TOKEN_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);

/// What `status` shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The platform, as it describes itself.
    pub platform: Value,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Unfinished runs.
    pub active_runs: usize,
    /// All runs.
    pub runs: usize,
}

#[derive(Debug, Deserialize)]
struct LinkQuery {
    #[serde(default)]
    path: String,
}

type Failure = (StatusCode, String);

/// The routes, for the socket only.
pub fn routes(facade: Arc<Facade>) -> Router {
    Router::new()
        .route("/control/status", get(status))
        .route("/control/token", post(token))
        .route("/control/link", post(link))
        .route("/control/kubeconfig", get(kubeconfig))
        .route("/control/stop", post(stop))
        .with_state(facade)
}

async fn status(State(facade): State<Arc<Facade>>) -> Result<Json<Status>, Failure> {
    let library = facade.operations.library();
    let active = library.runs(|run| !run.state.is_final()).len();
    Ok(Json(Status {
        platform: serde_json::to_value(&facade.about).map_err(internal)?,
        uptime_seconds: facade.uptime().as_secs(),
        active_runs: active,
        runs: library.run_count(),
    }))
}

async fn token(State(facade): State<Arc<Facade>>) -> Result<Json<Value>, Failure> {
    let minted = facade.tokens.mint("command line", Identity::admin(USER), Some(TOKEN_LIFETIME)).await;
    let token = minted.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, foundation::problem::chain(&error)))?;
    Ok(Json(json!({"token": token.expose()})))
}

async fn link(State(facade): State<Arc<Facade>>, Query(query): Query<LinkQuery>) -> Result<Json<Value>, Failure> {
    let path = if query.path.starts_with('/') { query.path } else { "/".to_owned() };
    let link = facade.link(&path).await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")))?;
    Ok(Json(json!({"link": link})))
}

async fn kubeconfig(State(facade): State<Arc<Facade>>) -> Json<Value> {
    Json(facade.kubeconfig.clone())
}

async fn stop(State(facade): State<Arc<Facade>>) -> Json<Value> {
    facade.stop.notify_one();
    Json(json!({}))
}

fn internal(error: serde_json::Error) -> Failure {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
