//! `delete` and `deletecollection`.
//!
//! Invariant: see `handlers`.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{Call, list, shielded};
use crate::registry::deletion::Deleted;
use crate::registry::options::DeleteOptions;
use crate::registry::store::{Written, meta};
use crate::status::ApiError;
use crate::storage;

/// Deletes one object; answers a Status or the object, by kind.
pub async fn delete(call: Arc<Call>) -> Result<Response, ApiError> {
    super::body::media(&call)?;
    let options = DeleteOptions::parse(&call.body, &call.query)?;
    let work = {
        let call = call.clone();
        async move { call.store.delete(call.resource, &call.info.namespace, &call.info.name, &options).await }
    };
    match shielded(call.clone(), "delete", work).await? {
        Deleted::Marked(written) => call.object(StatusCode::OK, &written, &[]),
        Deleted::Gone(written) if call.resource.strategy.delete_answers_object() => {
            call.object(StatusCode::OK, &written, &[])
        }
        Deleted::Gone(written) => Ok(success(&call, &written)),
    }
}

fn success(call: &Call, written: &Written) -> Response {
    let object = storage::decode_at(&written.value, 0);
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": call.info.name, "kind": call.resource.name, "uid": meta(&object, "uid")},
    });
    super::respond(StatusCode::OK, "application/json", status.to_string().into(), &[])
}

/// Deletes what the selectors match; answers the list of it.
pub async fn collection(call: Arc<Call>) -> Result<Response, ApiError> {
    super::body::media(&call)?;
    let options = DeleteOptions::parse(&call.body, &call.query)?;
    let selection = list::Selection::parse(&call)?;
    let revision = call.store.db.revision();
    let work = {
        let call = call.clone();
        async move {
            let mut items = Vec::new();
            for (key, entry) in list::matching(&call, &selection) {
                let (namespace, name) = storage::place(&key);
                match call.store.delete(call.resource, namespace, name, &options).await {
                    Ok(_) => items.push(Value::Object(storage::decode(&entry))),
                    Err(error) if error.code == 404 => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(items)
        }
    };
    let items = shielded(call.clone(), "deletecollection", work).await?;
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), revision.to_string().into());
    let answer = json!({
        "kind": format!("{}List", call.resource.kind), "apiVersion": "v1", "metadata": metadata, "items": items,
    });
    Ok(call.value(StatusCode::OK, &answer, call.form(true)?, &[]))
}
