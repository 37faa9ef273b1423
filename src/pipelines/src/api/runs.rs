//! `/runs`.

use auth::caller::Caller;
use axum::Json;
use axum::body::Body as Content;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use foundation::problem::Problem;
use futures::StreamExt;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, USER_AGENT};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::query::{Body, Listing};
use super::{Api, wire};
use crate::ir::package::Package;
use crate::operations::{NewRun, RunSource};
use crate::types::experiment::Storage;

/// KFP `Run`, as a client sends it; what the server decides is read and ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "fields of the message that are the server's to say")]
pub(super) struct RunBody {
    #[serde(alias = "experimentId")]
    experiment_id: Option<String>,
    #[serde(alias = "displayName")]
    display_name: String,
    description: Option<String>,
    #[serde(alias = "pipelineVersionId")]
    pipeline_version_id: Option<String>,
    #[serde(alias = "pipelineSpec")]
    pipeline_spec: Option<Value>,
    #[serde(alias = "pipelineVersionReference")]
    pipeline_version_reference: Option<ReferenceBody>,
    #[serde(alias = "runtimeConfig")]
    runtime_config: Option<ConfigBody>,
    #[serde(alias = "serviceAccount")]
    service_account: Option<String>,
    #[serde(alias = "pluginsInput")]
    plugins_input: Option<Value>,
    #[serde(alias = "pluginsOutput")]
    plugins_output: Option<Value>,
    #[serde(alias = "runId")]
    run_id: Value,
    #[serde(alias = "storageState")]
    storage_state: Value,
    #[serde(alias = "createdAt")]
    created_at: Value,
    #[serde(alias = "scheduledAt")]
    scheduled_at: Value,
    #[serde(alias = "finishedAt")]
    finished_at: Value,
    state: Value,
    error: Value,
    #[serde(alias = "runDetails")]
    run_details: Value,
    #[serde(alias = "recurringRunId")]
    recurring_run_id: Value,
    #[serde(alias = "stateHistory")]
    state_history: Value,
}

/// KFP `PipelineVersionReference`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReferenceBody {
    #[serde(alias = "pipelineId")]
    pipeline_id: String,
    #[serde(alias = "pipelineVersionId")]
    pipeline_version_id: Option<String>,
}

/// KFP `RuntimeConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfigBody {
    parameters: Option<Map<String, Value>>,
    #[serde(alias = "pipelineRoot")]
    pipeline_root: Option<String>,
}

pub(super) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Result<Json<Value>, Refusal> {
    let experiment = listing.experiment_id.clone().filter(|id| !id.is_empty());
    let page = api.operations.runs(&caller, experiment.as_deref(), &listing.query()?)?;
    Ok(Json(wire::page("runs", page, |one| wire::run_summary(&one))))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<RunBody>,
) -> Result<Json<Value>, Refusal> {
    let new = new_run(body, &headers)?;
    let operations = api.operations.clone();
    let view = api.shield(async move { operations.create_run(&caller, new).await }).await?;
    Ok(Json(wire::run(&view)))
}

fn new_run(body: RunBody, headers: &HeaderMap) -> Result<NewRun, Problem> {
    let set = |text: Option<String>| text.filter(|text| !text.is_empty());
    if body.plugins_output.is_some_and(|value| !value.is_null()) {
        return Err(Problem::invalid("Invalid input error: plugins_output is the server's to say"));
    }
    let source = match (body.pipeline_spec, body.pipeline_version_reference, set(body.pipeline_version_id)) {
        (Some(spec), None, None) => RunSource::Inline(Box::new(Package::from_json(spec)?)),
        (None, Some(reference), _) => {
            RunSource::Version { pipeline_id: reference.pipeline_id, version_id: set(reference.pipeline_version_id) }
        }
        (None, None, Some(version)) => RunSource::Version { pipeline_id: String::new(), version_id: Some(version) },
        (None, None, None) => {
            return Err(Problem::invalid(
                "Invalid input error: a run needs a pipeline_spec or a pipeline_version_reference",
            ));
        }
        _ => {
            return Err(Problem::invalid("Invalid input error: a run takes a pipeline_spec or a reference, not both"));
        }
    };
    let config = body.runtime_config.unwrap_or_default();
    Ok(NewRun {
        name: body.display_name,
        description: body.description.unwrap_or_default(),
        experiment_id: set(body.experiment_id),
        source,
        parameters: config.parameters.unwrap_or_default(),
        pipeline_root: set(config.pipeline_root),
        service_account: body.service_account.unwrap_or_default(),
        from: client(headers).to_owned(),
    })
}

/// What kind of client asks; records say it. The SDK is a generated client and says so.
fn client(headers: &HeaderMap) -> &'static str {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.contains("OpenAPI-Generator") || agent.contains("python") {
        "sdk"
    } else if agent.starts_with("kubeflow/") {
        "cli"
    } else {
        "api"
    }
}

pub(super) async fn get(State(api): State<Api>, caller: Caller, Path(id): Path<String>) -> Result<Response, Refusal> {
    match id.strip_suffix(":watch") {
        Some(id) => watch(&api, &caller, id).await,
        None => Ok(Json(wire::run(&api.operations.run(&caller, &id).await?)).into_response()),
    }
}

/// `GET /runs/{id}:watch`, ours: the run with its tasks now and after each change, a JSON object a line, until it is over.
async fn watch(api: &Api, caller: &Caller, id: &str) -> Result<Response, Refusal> {
    let runs = api.operations.follow_run(caller, id).await?;
    let lines = runs.map(|view| {
        let line = json!({"run": wire::run(&view), "tasks": wire::tasks(&view)});
        Ok::<_, std::convert::Infallible>(format!("{line}\n"))
    });
    let stop = api.tasks.cancelled();
    let content = Content::from_stream(lines.take_until(stop));
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], content).into_response())
}

pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    api.shield(async move { operations.delete_run(&caller, &id).await }).await?;
    Ok(Json(json!({})))
}

/// `POST /runs/{id}:archive`, `:unarchive`, `:terminate`, `:retry`.
pub(super) async fn act(
    State(api): State<Api>,
    caller: Caller,
    Path(target): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let unknown = || Problem::not_found(format!("POST /runs/{target} not found"));
    let (id, act) = target.rsplit_once(':').map(|(id, act)| (id.to_owned(), act.to_owned())).ok_or_else(unknown)?;
    if !matches!(act.as_str(), "archive" | "unarchive" | "terminate" | "retry") {
        return Err(unknown().into());
    }
    let operations = api.operations.clone();
    let work = async move {
        match act.as_str() {
            "archive" => operations.archive_run(&caller, &id, Storage::Archived).await,
            "unarchive" => operations.archive_run(&caller, &id, Storage::Available).await,
            "terminate" => operations.terminate_run(&caller, &id).await,
            _ => operations.retry_run(&caller, &id).await,
        }
    };
    api.shield(work).await?;
    Ok(Json(json!({})))
}
