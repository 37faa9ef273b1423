//! `/experiments`.

use auth::caller::Caller;
use axum::Json;
use axum::extract::{Path, State};
use foundation::problem::Problem;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::query::{Body, Listing};
use super::{Api, wire};
use crate::operations::NewExperiment;
use crate::types::experiment::Storage;

/// KFP `Experiment`, as a client sends it; what the server decides is read and ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "fields of the message that are the server's to say")]
pub(super) struct ExperimentBody {
    #[serde(default, alias = "displayName")]
    display_name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    namespace: Value,
    #[serde(default, alias = "experimentId")]
    experiment_id: Value,
    #[serde(default, alias = "createdAt")]
    created_at: Value,
    #[serde(default, alias = "storageState")]
    storage_state: Value,
    #[serde(default, alias = "lastRunCreatedAt")]
    last_run_created_at: Value,
}

pub(super) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Result<Json<Value>, Refusal> {
    let page = api.operations.experiments(&caller, &listing.query()?)?;
    Ok(Json(wire::page("experiments", page, |one| wire::experiment(&one))))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<ExperimentBody>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    let new = NewExperiment { name: body.display_name, description: body.description };
    let made = api.shield(async move { operations.create_experiment(&caller, new).await }).await?;
    Ok(Json(wire::experiment(&made)))
}

pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(wire::experiment(&api.operations.experiment(&caller, &id)?)))
}

pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    api.shield(async move { operations.delete_experiment(&caller, &id).await }).await?;
    Ok(Json(json!({})))
}

/// `POST /experiments/{id}:archive` and `:unarchive`.
pub(super) async fn act(
    State(api): State<Api>,
    caller: Caller,
    Path(target): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let storage = match target.rsplit_once(':') {
        Some((_, "archive")) => Storage::Archived,
        Some((_, "unarchive")) => Storage::Available,
        _ => return Err(Problem::not_found(format!("POST /experiments/{target} not found")).into()),
    };
    let id = target.rsplit_once(':').map(|(id, _)| id.to_owned()).unwrap_or_default();
    let operations = api.operations.clone();
    api.shield(async move { operations.archive_experiment(&caller, &id, storage).await }).await?;
    Ok(Json(json!({})))
}
