//! Uploads: a multipart body with one file part named `uploadfile`, everything else in the query.
//!
//! Source: KFP's `pipeline_upload_server`, a plain HTTP handler whose errors have a shape of their own.

use std::collections::BTreeMap;

use auth::caller::Caller;
use axum::Json;
use axum::extract::{Multipart, Query, State};
use foundation::problem::{Kind, Problem};
use serde::Deserialize;
use serde_json::Value;

use super::error::Refusal;
use super::{Api, wire};
use crate::ir::package::{PACKAGE_MAX_BYTES, Package};
use crate::operations::{NewVersion, Upload};

/// Source: KFP `MaxFileNameLength`.
const FILE_NAME_MAX_CHARS: usize = 100;
const PART: &str = "uploadfile";

#[derive(Debug, Default, Deserialize)]
pub(super) struct Names {
    name: Option<String>,
    display_name: Option<String>,
    description: Option<String>,
    tags: Option<String>,
    code_source_url: Option<String>,
    pipelineid: Option<String>,
}

impl Names {
    fn tags(&self) -> Result<BTreeMap<String, String>, Problem> {
        match self.tags.as_deref().filter(|text| !text.is_empty()) {
            None => Ok(BTreeMap::new()),
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Problem::invalid(format!("Invalid input error: tags are not a JSON map of texts: {error}"))
            }),
        }
    }
}

pub(super) async fn pipeline(
    State(api): State<Api>,
    caller: Caller,
    Query(names): Query<Names>,
    body: Multipart,
) -> Result<Json<Value>, Refusal> {
    let work = async {
        let (file_name, bytes) = file(body).await?;
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let upload = Upload {
            file_name,
            bytes,
            name: set(&names.name),
            display_name: set(&names.display_name),
            description: set(&names.description),
            tags: names.tags()?,
            code_source_url: names.code_source_url.clone().unwrap_or_default(),
        };
        let operations = api.operations.clone();
        let change = async move { operations.upload_pipeline(&caller, upload).await };
        let lost = |error| Problem::internal("The upload was interrupted", error);
        let (pipeline, _) = api.tasks.shield("upload", change).await.map_err(lost)??;
        Ok(Json(wire::pipeline(&pipeline)))
    };
    work.await.map_err(Refusal::of_upload)
}

pub(super) async fn version(
    State(api): State<Api>,
    caller: Caller,
    Query(names): Query<Names>,
    body: Multipart,
) -> Result<Json<Value>, Refusal> {
    let work = async {
        let (file_name, bytes) = file(body).await?;
        let pipeline_id = names.pipelineid.clone().unwrap_or_default();
        let package = Package::from_file(&file_name, &bytes)?;
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let new = NewVersion {
            name: set(&names.name).or_else(|| set(&names.display_name)).unwrap_or(file_name),
            display_name: set(&names.display_name),
            description: names.description.clone().unwrap_or_default(),
            tags: names.tags()?,
            code_source_url: names.code_source_url.clone().unwrap_or_default(),
        };
        let operations = api.operations.clone();
        let change = async move { operations.create_version(&caller, &pipeline_id, &package, new).await };
        let lost = |error| Problem::internal("The upload was interrupted", error);
        let version = api.tasks.shield("upload", change).await.map_err(lost)??;
        Ok(Json(wire::version(&version)))
    };
    work.await.map_err(Refusal::of_upload)
}

async fn file(mut body: Multipart) -> Result<(String, Vec<u8>), Problem> {
    let unreadable = |error: axum::extract::multipart::MultipartError| {
        let kind = if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE { Kind::TooLarge } else { Kind::Invalid };
        Problem::new(kind, "Invalid input error: the upload cannot be read").because(error.body_text())
    };
    while let Some(mut field) = body.next_field().await.map_err(unreadable)? {
        if field.name() != Some(PART) {
            continue;
        }
        let name = field.file_name().unwrap_or("pipeline.yaml").to_owned();
        if name.chars().count() > FILE_NAME_MAX_CHARS {
            let text = format!("Invalid input error: the file name is longer than {FILE_NAME_MAX_CHARS} characters");
            return Err(Problem::invalid(text));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
            if (bytes.len() + chunk.len()) as u64 > PACKAGE_MAX_BYTES {
                return Err(crate::ir::package::Error::TooLarge.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        return Ok((name, bytes));
    }
    Err(Problem::invalid(format!("Invalid input error: the upload has no part named {PART:?}")))
}
