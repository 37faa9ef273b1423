//! `/pipelines` and their versions.

use std::collections::BTreeMap;

use auth::caller::Caller;
use axum::Json;
use axum::extract::{Path, Query as UrlQuery, State};
use foundation::problem::{Kind, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::Refusal;
use super::query::{Body, Listing};
use super::{Api, wire};
use crate::ir::package::Package;
use crate::operations::NewVersion;

/// KFP `Pipeline`, as a client sends it; what the server decides is read and ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "fields of the message that are the server's to say")]
pub(super) struct PipelineBody {
    #[serde(alias = "pipelineId")]
    pipeline_id: Value,
    name: Option<String>,
    #[serde(alias = "displayName")]
    display_name: Option<String>,
    description: Option<String>,
    #[serde(alias = "createdAt")]
    created_at: Value,
    namespace: Value,
    tags: Option<BTreeMap<String, String>>,
    error: Value,
}

/// KFP `PipelineVersion`, likewise.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "fields of the message that are the server's to say")]
pub(super) struct VersionBody {
    #[serde(alias = "pipelineId")]
    pipeline_id: Value,
    #[serde(alias = "pipelineVersionId")]
    pipeline_version_id: Value,
    name: Option<String>,
    #[serde(alias = "displayName")]
    display_name: Option<String>,
    description: Option<String>,
    #[serde(alias = "createdAt")]
    created_at: Value,
    #[serde(alias = "packageUrl")]
    package_url: Option<Value>,
    #[serde(alias = "codeSourceUrl")]
    code_source_url: Option<String>,
    #[serde(alias = "pipelineSpec")]
    pipeline_spec: Option<Value>,
    tags: Option<BTreeMap<String, String>>,
    error: Value,
}

/// `CreatePipelineAndVersionRequest`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "fields of the message that are the server's to say")]
pub(super) struct CreateBody {
    pipeline: PipelineBody,
    #[serde(alias = "pipelineVersion")]
    pipeline_version: VersionBody,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Cascade {
    #[serde(default)]
    cascade: bool,
}

impl VersionBody {
    fn package(&self) -> Result<Package, Problem> {
        match (&self.pipeline_spec, &self.package_url) {
            (Some(spec), _) => Ok(Package::from_json(spec.clone())?),
            (None, Some(_)) => {
                Err(Problem::new(Kind::Unimplemented, "Packages are not downloaded from a URL in this version")
                    .remedy("Upload the file instead."))
            }
            (None, None) => Err(Problem::invalid("Invalid input error: a version needs a pipeline_spec")),
        }
    }

    fn into_new(self, package: &Package) -> NewVersion {
        let name = self.name.or_else(|| self.display_name.clone()).filter(|name| !name.is_empty());
        NewVersion {
            name: name.unwrap_or_else(|| package.ir.pipeline_info.name.clone()),
            display_name: self.display_name,
            description: self.description.unwrap_or_default(),
            tags: self.tags.unwrap_or_default(),
            code_source_url: self.code_source_url.unwrap_or_default(),
        }
    }
}

pub(super) async fn list(State(api): State<Api>, caller: Caller, listing: Listing) -> Result<Json<Value>, Refusal> {
    let page = api.operations.pipelines(&caller, &listing.query()?)?;
    Ok(Json(wire::page("pipelines", page, |one| wire::pipeline(&one))))
}

pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<PipelineBody>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    let work = async move {
        let name = body.name.or_else(|| body.display_name.clone()).unwrap_or_default();
        let (description, tags) = (body.description.unwrap_or_default(), body.tags.unwrap_or_default());
        operations.create_pipeline(&caller, &name, body.display_name, description, tags).await
    };
    Ok(Json(wire::pipeline(&api.shield(work).await?)))
}

pub(super) async fn create_with_version(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> Result<Json<Value>, Refusal> {
    let package = body.pipeline_version.package()?;
    let operations = api.operations.clone();
    let work = async move {
        let name = body.pipeline.name.or_else(|| body.pipeline.display_name.clone()).unwrap_or_default();
        let (description, tags) =
            (body.pipeline.description.unwrap_or_default(), body.pipeline.tags.unwrap_or_default());
        let made = operations.create_pipeline(&caller, &name, body.pipeline.display_name, description, tags).await?;
        let new = body.pipeline_version.into_new(&package);
        operations.create_version(&caller, &made.id, &package, new).await?;
        Ok(made)
    };
    Ok(Json(wire::pipeline(&api.shield(work).await?)))
}

pub(super) async fn get(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(wire::pipeline(&api.operations.pipeline(&caller, &id)?)))
}

pub(super) async fn get_by_name(
    State(api): State<Api>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(wire::pipeline(&api.operations.pipeline_by_name(&caller, &name)?)))
}

pub(super) async fn update(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<PipelineBody>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    let work =
        async move { operations.change_pipeline(&caller, &id, body.display_name, body.description, body.tags).await };
    Ok(Json(wire::pipeline(&api.shield(work).await?)))
}

pub(super) async fn delete(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    UrlQuery(query): UrlQuery<Cascade>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    api.shield(async move { operations.delete_pipeline(&caller, &id, query.cascade).await }).await?;
    Ok(Json(json!({})))
}

pub(super) async fn list_versions(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    listing: Listing,
) -> Result<Json<Value>, Refusal> {
    let page = api.operations.versions(&caller, &id, &listing.query()?)?;
    Ok(Json(wire::page("pipeline_versions", page, |one| wire::version(&one))))
}

pub(super) async fn create_version(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<VersionBody>,
) -> Result<Json<Value>, Refusal> {
    let package = body.package()?;
    let operations = api.operations.clone();
    let work = async move {
        let new = body.into_new(&package);
        operations.create_version(&caller, &id, &package, new).await
    };
    Ok(Json(wire::version(&api.shield(work).await?)))
}

pub(super) async fn get_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    Ok(Json(wire::version(&api.operations.version(&caller, &id, &version)?)))
}

pub(super) async fn update_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
    Body(body): Body<VersionBody>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    let work = async move {
        operations.change_version(&caller, (&id, &version), body.display_name, body.description, body.tags).await
    };
    Ok(Json(wire::version(&api.shield(work).await?)))
}

pub(super) async fn delete_version(
    State(api): State<Api>,
    caller: Caller,
    Path((id, version)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let operations = api.operations.clone();
    api.shield(async move { operations.delete_version(&caller, &id, &version).await }).await?;
    Ok(Json(json!({})))
}
