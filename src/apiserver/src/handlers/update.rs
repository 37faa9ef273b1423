//! `update`: PUT of an object or of one of its doors.
//!
//! Invariant: see `handlers`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;

use super::{Call, shielded};
use crate::registry::options::WriteOptions;
use crate::registry::store::{meta, metadata_of};
use crate::registry::strategy::Door;
use crate::status::ApiError;
use crate::storage::Object;

/// Name and namespace of the body must be the URL's.
pub fn check_place(call: &Call, object: &mut Object) -> Result<(), ApiError> {
    let (name, namespace) = (meta(object, "name").to_owned(), meta(object, "namespace").to_owned());
    if name.is_empty() {
        metadata_of(object).insert("name".into(), call.info.name.clone().into());
    } else if name != call.info.name {
        let text = format!("the name of the object ({name}) does not match the name on the URL ({})", call.info.name);
        return Err(ApiError::bad_request(text));
    }
    if namespace.is_empty() {
        if !call.info.namespace.is_empty() {
            metadata_of(object).insert("namespace".into(), call.info.namespace.clone().into());
        }
    } else if namespace != call.info.namespace {
        let text = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

fn check_uid(call: &Call, old: &Object, new: &Object) -> Result<(), ApiError> {
    let (ours, theirs) = (meta(old, "uid"), meta(new, "uid"));
    if theirs.is_empty() || theirs == ours {
        return Ok(());
    }
    let (resource, info) = (call.resource.name, &call.info);
    let place = if info.namespace.is_empty() { String::new() } else { format!("{}/", info.namespace) };
    let text = format!(
        "StorageError: invalid object, Code: 4, Key: /registry/{resource}/{place}{}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {theirs}, UID in object meta: {ours}",
        info.name
    );
    Err(ApiError::conflict(resource, &info.name, &text))
}

/// Replaces the object through a door.
pub async fn update(call: Arc<Call>, door: Door) -> Result<Response, ApiError> {
    let options = WriteOptions::parse(&call.query, "UpdateOptions", &call.manager())?;
    call.form(false)?;
    let (mut object, warnings) = call.decoded(options.validation)?;
    check_place(&call, &mut object)?;
    let (written, created) = shielded(call.clone(), "update", replace(call.clone(), object, door, options)).await?;
    call.object(if created { StatusCode::CREATED } else { StatusCode::OK }, &written, &warnings)
}

async fn replace(
    call: Arc<Call>,
    object: Object,
    door: Door,
    options: WriteOptions,
) -> Result<(crate::registry::store::Written, bool), ApiError> {
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    if call.resource.strategy.put_creates()
        && door == Door::Main
        && call.store.get(call.resource, namespace, name).is_err()
    {
        let mut fresh = object;
        metadata_of(&mut fresh).remove("resourceVersion");
        return Ok((call.store.create(call.resource, namespace, fresh, &options).await?, true));
    }
    let change = |old: &Object| {
        check_uid(&call, old, &object)?;
        Ok(object.clone())
    };
    Ok((call.store.update(call.resource, namespace, name, door, &options, &change).await?, false))
}
