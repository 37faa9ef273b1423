//! The v2beta1 REST API of Kubeflow Pipelines: protobuf JSON over the operations.
//!
//! Source: KFP's `backend/api/v2beta1` protos as the HTTP gateway renders them. Empty results are `{}`, creation is 200.

pub mod error;
mod experiments;
mod filter;
mod pipelines;
mod query;
mod runs;
mod tasks;
mod upload;
mod wire;

use auth::routes::{Access, Routes};
use axum::extract::{DefaultBodyLimit, Request};
use axum::response::Response;
use axum::{Json, Router};
use foundation::problem::{Kind, Problem};
use http::Method;
use serde_json::{Value, json};

use crate::ir::package::PACKAGE_MAX_BYTES;
use crate::operations::Operations;
use error::Refusal;

/// A request that holds a package, its envelope included.
const BODY_MAX_BYTES: usize = PACKAGE_MAX_BYTES as usize + (1 << 20);

/// What the API says of the server. Source: KFP `GetHealthzResponse`.
#[derive(Debug, Clone)]
pub struct About {
    /// `0.1.0`.
    pub version: &'static str,
    /// The commit it was built from, if known.
    pub commit: &'static str,
}

/// The state of handlers.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) operations: Operations,
    pub(crate) tasks: foundation::tasks::Tasks,
    about: About,
}

/// All routes of the API, below `/apis`.
pub fn routes(
    operations: Operations,
    tasks: foundation::tasks::Tasks,
    about: About,
) -> (Router, Vec<auth::routes::Route>) {
    use Access::{Checked, Public};
    let routes = Routes::new(unauthenticated)
        .route(Method::GET, "/apis/v2beta1/healthz", Public, healthz)
        .route(Method::GET, "/apis/v1beta1/healthz", Public, healthz)
        .route(Method::GET, "/apis/v2beta1/pipelines", Checked, pipelines::list)
        .route(Method::POST, "/apis/v2beta1/pipelines", Checked, pipelines::create)
        .route(Method::POST, "/apis/v2beta1/pipelines/create", Checked, pipelines::create_with_version)
        .route(Method::POST, "/apis/v2beta1/pipelines/upload", Checked, upload::pipeline)
        .route(Method::POST, "/apis/v2beta1/pipelines/upload_version", Checked, upload::version)
        .route(Method::GET, "/apis/v2beta1/pipelines/names/{name}", Checked, pipelines::get_by_name)
        .route(Method::GET, "/apis/v2beta1/pipelines/{id}", Checked, pipelines::get)
        .route(Method::PATCH, "/apis/v2beta1/pipelines/{id}", Checked, pipelines::update)
        .route(Method::DELETE, "/apis/v2beta1/pipelines/{id}", Checked, pipelines::delete)
        .route(Method::GET, "/apis/v2beta1/pipelines/{id}/versions", Checked, pipelines::list_versions)
        .route(Method::POST, "/apis/v2beta1/pipelines/{id}/versions", Checked, pipelines::create_version)
        .route(Method::GET, "/apis/v2beta1/pipelines/{id}/versions/{version}", Checked, pipelines::get_version)
        .route(Method::PATCH, "/apis/v2beta1/pipelines/{id}/versions/{version}", Checked, pipelines::update_version)
        .route(Method::DELETE, "/apis/v2beta1/pipelines/{id}/versions/{version}", Checked, pipelines::delete_version)
        .route(Method::GET, "/apis/v2beta1/experiments", Checked, experiments::list)
        .route(Method::POST, "/apis/v2beta1/experiments", Checked, experiments::create)
        .route(Method::GET, "/apis/v2beta1/experiments/{id}", Checked, experiments::get)
        .route(Method::DELETE, "/apis/v2beta1/experiments/{id}", Checked, experiments::delete)
        .route(Method::POST, "/apis/v2beta1/experiments/{id}", Checked, experiments::act)
        .route(Method::GET, "/apis/v2beta1/runs", Checked, runs::list)
        .route(Method::POST, "/apis/v2beta1/runs", Checked, runs::create)
        .route(Method::GET, "/apis/v2beta1/runs/{id}", Checked, runs::get)
        .route(Method::DELETE, "/apis/v2beta1/runs/{id}", Checked, runs::delete)
        .route(Method::POST, "/apis/v2beta1/runs/{id}", Checked, runs::act)
        .route(Method::GET, "/apis/v2beta1/runs/{id}/tasks", Checked, tasks::list)
        .route(Method::GET, "/apis/v2beta1/runs/{id}/tasks/{task}", Checked, tasks::get)
        .route(Method::GET, "/apis/v1alpha1/runs/{id}/nodes/{node}/log", Checked, tasks::log);
    let table = routes.table().to_vec();
    let api = Api { operations, tasks, about };
    let router = routes.into_router().layer(DefaultBodyLimit::max(BODY_MAX_BYTES)).with_state(api);
    (router, table)
}

/// What is not there answers in the API's own shape, and a feature that does not exist here says so.
pub async fn fallback(request: Request) -> Response {
    let path = request.uri().path();
    let absent = ["/recurringruns", "/visualizations", "/auth", "/filters", "/workflows", "/scheduledworkflows"];
    let problem = if absent.iter().any(|part| path.contains(part)) {
        Problem::new(Kind::Unimplemented, format!("{path} is not available in this version"))
    } else {
        Problem::not_found(format!("{} {path} not found", request.method()))
    };
    axum::response::IntoResponse::into_response(Refusal::from(problem))
}

/// The answer to a request without a caller.
pub fn unauthenticated(_: &Request) -> Response {
    let problem = Problem::new(Kind::Unauthenticated, "No valid credentials")
        .remedy("Pass a bearer token; `kubeflow token` prints one.");
    axum::response::IntoResponse::into_response(Refusal::from(problem))
}

async fn healthz(axum::extract::State(api): axum::extract::State<Api>) -> Json<Value> {
    Json(json!({
        "commit_sha": api.about.commit,
        "tag_name": api.about.version,
        "multi_user": false,
        "pipeline_store": "database",
    }))
}

impl Api {
    /// Runs a change to its end even if the client goes away in the middle.
    async fn shield<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Refusal> {
        match self.tasks.shield("api change", work).await {
            Ok(result) => result.map_err(Refusal::from),
            Err(lost) => Err(Problem::internal("The change was interrupted", lost).into()),
        }
    }
}
