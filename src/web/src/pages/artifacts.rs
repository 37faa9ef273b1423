//! An artifact: shown by its type, downloaded as it is, and never run in our origin.

use askama::Template;
use auth::caller::Caller;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use foundation::problem::Problem;
use http::StatusCode;
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use pipelines::types::artifact::Artifact;
use serde::Deserialize;

use crate::layout::{Frame, page, percent};
use crate::view::{self, chart, markdown};
use crate::{Web, problem};

/// What is shown without being asked for.
const PREVIEW_BYTES: u64 = 256 << 10;
/// A page of somebody else's is shown in a frame up to this size.
const HTML_MAX_BYTES: u64 = 16 << 20;
/// Metadata that have a drawing of their own.
const DRAWN: [&str; 2] = ["confusionMatrix", "confidenceMetrics"];
/// A page of a user's gets an origin of its own that is like no other: no cookies, no API, no way out of its frame.
const SANDBOX: &str = "sandbox allow-scripts; default-src 'unsafe-inline' data: blob:; frame-ancestors 'self'";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    task: String,
    output: String,
    index: usize,
    #[serde(rename = "as")]
    shown_as: String,
}

#[derive(Template)]
#[template(path = "runs/artifact.html")]
struct Show {
    frame: Frame,
    run_id: String,
    run_name: String,
    name: String,
    kind: String,
    size: String,
    uri: String,
    download: Option<String>,
    pairs: Vec<(String, String)>,
    matrix: Option<chart::Matrix>,
    roc: Option<chart::Roc>,
    prose: Option<markdown::Rendered>,
    frame_src: Option<String>,
    text: Option<String>,
    cut: bool,
}

pub(crate) async fn show(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    Path((ns, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    match build(&web, &caller, frame.clone(), &ns, &id, &wanted).await {
        Ok(show) => page(StatusCode::OK, &show),
        Err(error) => problem::page(frame, error),
    }
}

async fn build(web: &Web, caller: &Caller, frame: Frame, ns: &str, id: &str, wanted: &Wanted) -> Result<Show, Problem> {
    let run = web.operations.run(caller, id).await?;
    let artifact = web.operations.artifact(caller, id, &wanted.task, &wanted.output, wanted.index).await?;
    let content = format!(
        "/ns/{}/runs/{id}/artifact/content?task={}&output={}&index={}",
        percent(ns),
        percent(&wanted.task),
        percent(&wanted.output),
        wanted.index
    );
    let is_file = artifact.sha256.is_some();
    let kind = artifact.schema_title().trim_start_matches("system.").to_owned();
    let mut show = Show {
        frame,
        run_id: id.to_owned(),
        run_name: run.summary.name,
        name: format!("{} / {}", wanted.task, wanted.output),
        size: artifact.size_bytes.map(view::size).unwrap_or_default(),
        uri: artifact.uri.clone(),
        download: is_file.then(|| format!("{content}&as=download")),
        pairs: pairs(&artifact),
        matrix: chart::matrix(&artifact.metadata),
        roc: chart::roc(&artifact.metadata),
        prose: None,
        frame_src: None,
        text: None,
        cut: false,
        kind,
    };
    if is_file {
        preview(web, &artifact, &content, &mut show).await?;
    }
    Ok(show)
}

async fn preview(web: &Web, artifact: &Artifact, content: &str, show: &mut Show) -> Result<(), Problem> {
    if show.kind == "HTML" {
        show.frame_src = Some(format!("{content}&as=page"));
        return Ok(());
    }
    let bytes = web.operations.artifact_head(artifact, PREVIEW_BYTES).await?;
    let cut = artifact.size_bytes.is_some_and(|size| size > bytes.len() as u64);
    // Something that is not text is not shown; it can be downloaded.
    let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
    if text.contains('\0') || text.is_empty() {
        return Ok(());
    }
    if show.kind == "Markdown" {
        show.prose = Some(markdown::render(&text));
    } else {
        show.text = Some(text);
    }
    show.cut = cut;
    Ok(())
}

fn pairs(artifact: &Artifact) -> Vec<(String, String)> {
    let shown = artifact.metadata.iter().filter(|(key, _)| !DRAWN.contains(&key.as_str()) && *key != "display_name");
    shown.map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
}

/// The bytes: as a download, or, for a page, in a sandbox.
pub(crate) async fn content(
    State(web): State<Web>,
    caller: Caller,
    frame: Frame,
    Path((_, id)): Path<(String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let read = async {
        let artifact = web.operations.artifact(&caller, &id, &wanted.task, &wanted.output, wanted.index).await?;
        if wanted.shown_as == "page" {
            let bytes = web.operations.artifact_head(&artifact, HTML_MAX_BYTES).await?;
            return Ok::<_, Problem>(Body::from(bytes));
        }
        web.operations.artifact_content(&artifact).await
    };
    match read.await {
        Ok(body) => {
            let mut response = body.into_response();
            let headers = response.headers_mut();
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
            if wanted.shown_as == "page" {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            } else {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
                let name: String =
                    wanted.output.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
                if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
                    headers.insert(CONTENT_DISPOSITION, value);
                }
            }
            response
        }
        Err(error) => problem::page(frame, error),
    }
}
