//! `create`.
//!
//! Invariant: see `handlers`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;

use super::{Call, shielded};
use crate::registry::options::WriteOptions;
use crate::status::ApiError;

/// Creates the body's object.
pub async fn create(call: Arc<Call>) -> Result<Response, ApiError> {
    let options = WriteOptions::parse(&call.query, "CreateOptions", &call.manager())?;
    call.form(false)?;
    let (object, warnings) = call.decoded(options.validation)?;
    let work = {
        let call = call.clone();
        async move { call.store.create(call.resource, &call.info.namespace, object, &options).await }
    };
    let written = shielded(call.clone(), "create", work).await?;
    call.object(StatusCode::CREATED, &written, &warnings)
}
