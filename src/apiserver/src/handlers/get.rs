//! `get`.
//!
//! Invariant: see `handlers`.

use axum::response::Response;
use http::StatusCode;

use super::Call;
use super::list::{parse_version, wait_for};
use crate::registry::store::Written;
use crate::status::ApiError;

/// Answers one object, not older than an asked version.
pub async fn get(call: &Call) -> Result<Response, ApiError> {
    if let Some(text) = call.query.get("resourceVersion") {
        wait_for(&call.store, parse_version(text)?).await?;
    }
    let entry = call.store.get(call.resource, &call.info.namespace, &call.info.name)?;
    call.object(StatusCode::OK, &Written { value: entry.value, revision: Some(entry.revision) }, &[])
}
