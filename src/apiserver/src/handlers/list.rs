//! `list`: selectors, paging at one revision, resourceVersion × match, and the forms of lists.
//!
//! Invariant: all pages of a list show one state; what is gone is 410, never a newer state unasked.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use records::Entry;
use serde_json::{Map, Value, json};

use super::{Call, respond};
use crate::negotiate::{Form, Shape};
use crate::registry::Resource;
use crate::registry::store::Store;
use crate::selector::{Fields, Labels, parse_labels};
use crate::status::{ApiError, FieldError};
use crate::storage::continue_token::Token;
use crate::storage::{self, OBJECTS};
use crate::table;

const FUTURE_WAIT: Duration = Duration::from_secs(3);
const FUTURE_STEP: Duration = Duration::from_millis(20);
/// Most objects one read of the store takes at a time.
const CHUNK: usize = 1000;

/// Which objects of a collection are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Labels.
    pub labels: Labels,
    /// Fields.
    pub fields: Fields,
    /// Namespace or empty for all.
    pub namespace: String,
}

fn check_fields(resource: &Resource, fields: &Fields) -> Result<(), ApiError> {
    let own = resource.strategy.field_labels();
    for term in &fields.0 {
        let general = term.field == "metadata.name" || (resource.namespaced && term.field == "metadata.namespace");
        if general || own.contains(&term.field.as_str()) {
            continue;
        }
        return Err(ApiError::bad_request(if own.is_empty() {
            format!("{:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"", term.field)
        } else {
            format!("field label not supported: {}", term.field)
        }));
    }
    Ok(())
}

impl Selection {
    /// Reads the selectors of a request.
    pub fn parse(call: &Call) -> Result<Self, ApiError> {
        let labels =
            parse_labels(call.query.get("labelSelector").unwrap_or_default()).map_err(ApiError::bad_request)?;
        let mut fields =
            Fields::parse(call.query.get("fieldSelector").unwrap_or_default()).map_err(ApiError::bad_request)?;
        check_fields(call.resource, &fields)?;
        if !call.info.name.is_empty() {
            fields.0.push(crate::selector::FieldTerm {
                field: "metadata.name".into(),
                equal: true,
                value: call.info.name.clone(),
            });
        }
        Ok(Self { labels, fields, namespace: call.info.namespace.clone() })
    }

    /// Matches everything.
    pub fn is_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is meant; decodes only as much as the selectors ask for.
    pub fn matches(&self, resource: &Resource, key: &[u8], value: &[u8]) -> bool {
        if self.is_all() {
            return true;
        }
        let (namespace, name) = storage::place(key);
        let mut decoded = None;
        let fields = self.fields.matches(|field| match field {
            "metadata.name" => Some(Cow::Borrowed(name)),
            "metadata.namespace" => Some(Cow::Borrowed(namespace)),
            other => {
                let object = decoded.get_or_insert_with(|| storage::decode_at(value, 0));
                resource.strategy.field(object, other).map(Cow::Owned)
            }
        });
        fields && (self.labels.is_empty() || self.labels.matches(&storage::peek(value).metadata.labels))
    }

    /// Prefix of all keys that can match.
    pub fn prefix(&self, resource: &Resource) -> Vec<u8> {
        let namespace = match self.fields.required("metadata.namespace") {
            Some(only) if self.namespace.is_empty() && resource.namespaced && !only.is_empty() => only,
            _ => &self.namespace,
        };
        storage::prefix(resource.name, namespace)
    }
}

/// Everything that matches now, whole.
pub fn matching(call: &Call, selection: &Selection) -> Vec<(Arc<[u8]>, Entry)> {
    let prefix = selection.prefix(call.resource);
    call.store.db.read(|view| {
        let all = view.range(OBJECTS, &prefix, None, usize::MAX);
        all.into_iter().filter(|(key, entry)| selection.matches(call.resource, key, &entry.value)).collect()
    })
}

/// A resourceVersion of a list or get.
pub fn parse_version(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: \
             invalid syntax"
        ))
    })
}

/// Waits until the store has reached `revision`; 504 after three seconds.
pub async fn wait_for(store: &Store, revision: u64) -> Result<(), ApiError> {
    let started = tokio::time::Instant::now();
    while store.db.revision() < revision {
        if started.elapsed() >= FUTURE_WAIT {
            return Err(ApiError::too_large_version(revision, store.db.revision()));
        }
        tokio::time::sleep(FUTURE_STEP).await;
    }
    Ok(())
}

fn forbidden(errors: &mut Vec<FieldError>, field: &'static str, text: &str) {
    errors.push(FieldError::forbidden(field, text));
}

/// Checks the list options that exclude each other.
pub fn check_options(call: &Call, watch: bool) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let version = call.query.get("resourceVersion");
    let matching = call.query.get("resourceVersionMatch");
    let initial = call.query.get("sendInitialEvents");
    if let Some(matching) = matching {
        let name = "resourceVersionMatch";
        if watch && initial.is_none() && call.query.get("continue").is_none() {
            forbidden(
                &mut errors,
                name,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        } else if call.query.get("continue").is_some() {
            forbidden(&mut errors, name, "resourceVersionMatch is forbidden when continue is provided");
        } else if version.is_none() && !watch {
            forbidden(&mut errors, name, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        } else if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(FieldError::unsupported(name, &matching.into(), &["Exact", "NotOlderThan", ""]));
        } else if matching == "Exact" && version == Some("0") {
            forbidden(&mut errors, name, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        } else if watch && matching == "Exact" {
            forbidden(&mut errors, name, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
    } else if watch && initial.is_some() {
        let text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        forbidden(&mut errors, "resourceVersionMatch", text);
    }
    if !watch && initial.is_some() {
        forbidden(&mut errors, "sendInitialEvents", "sendInitialEvents is forbidden for list");
    }
    if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("ListOptions.meta.k8s.io", "", errors)) }
}

struct Page {
    items: Vec<(Arc<[u8]>, Entry)>,
    revision: u64,
    resume: Option<String>,
    remaining: Option<usize>,
}

/// Where a list is read.
enum At {
    Now,
    Exactly(u64, records::Past),
}

impl At {
    fn range(&self, store: &Store, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<(Arc<[u8]>, Entry)> {
        match self {
            Self::Now => store.db.read(|view| view.range(OBJECTS, prefix, after, limit)),
            Self::Exactly(_, past) => past.range(OBJECTS, prefix, after, limit),
        }
    }
}

fn past(store: &Store, revision: u64, gone: impl FnOnce() -> ApiError) -> Result<At, ApiError> {
    match store.db.at(revision) {
        Ok(past) => Ok(At::Exactly(revision, past)),
        Err(_) => Err(gone()),
    }
}

struct Wanted {
    limit: usize,
    after: Option<Vec<u8>>,
    at: At,
}

fn limit_of(call: &Call) -> Result<usize, ApiError> {
    let Some(text) = call.query.get("limit") else { return Ok(0) };
    let number: i64 = text
        .parse()
        .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?;
    Ok(usize::try_from(number).unwrap_or(0))
}

async fn wanted(call: &Call, prefix: &[u8]) -> Result<Wanted, ApiError> {
    let limit = limit_of(call)?;
    let version = call.query.get("resourceVersion");
    let matching = call.query.get("resourceVersionMatch");
    if let Some(text) = call.query.get("continue") {
        if version.is_some_and(|v| v != "0") {
            return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let token = Token::decode(text).map_err(|e| ApiError::bad_request(format!("invalid continue token: {e}")))?;
        let after = Some([prefix, token.last().as_bytes()].concat());
        let at = match token.revision() {
            None => At::Now,
            Some(revision) => past(&call.store, revision, || expired_token(&token))?,
        };
        return Ok(Wanted { limit, after, at });
    }
    let Some(text) = version else { return Ok(Wanted { limit, after: None, at: At::Now }) };
    let revision = parse_version(text)?;
    if revision == 0 {
        return Ok(Wanted { limit: 0, after: None, at: At::Now });
    }
    wait_for(&call.store, revision).await?;
    let exact = matching == Some("Exact") || (matching.is_none() && limit > 0);
    let at = if exact {
        past(&call.store, revision, || ApiError::expired("The resourceVersion for the provided list is too old."))?
    } else {
        At::Now
    };
    Ok(Wanted { limit, after: None, at })
}

fn expired_token(token: &Token) -> ApiError {
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.resume = Some(token.inconsistent().encode());
    error
}

fn page(call: &Call, selection: &Selection, prefix: &[u8], wanted: Wanted) -> Page {
    let mut at = wanted.at;
    let revision = match &at {
        At::Exactly(revision, _) => *revision,
        At::Now => call.store.db.revision(),
    };
    // The state of one revision for all chunks of this page; the current one is always in the history window.
    if matches!(at, At::Now)
        && wanted.limit > 0
        && let Ok(past) = call.store.db.at(revision)
    {
        at = At::Exactly(revision, past);
    }
    let mut items = Vec::new();
    if wanted.limit == 0 {
        let (found, revision) = match &at {
            At::Now => {
                call.store.db.read(|v| (v.range(OBJECTS, prefix, wanted.after.as_deref(), usize::MAX), v.revision()))
            }
            At::Exactly(revision, past) => {
                (past.range(OBJECTS, prefix, wanted.after.as_deref(), usize::MAX), *revision)
            }
        };
        items.extend(found.into_iter().filter(|(key, entry)| selection.matches(call.resource, key, &entry.value)));
        return Page { items, revision, resume: None, remaining: None };
    }
    let mut after = wanted.after;
    loop {
        let chunk = at.range(&call.store, prefix, after.as_deref(), CHUNK.max(wanted.limit + 1));
        let last = chunk.len() < CHUNK.max(wanted.limit + 1);
        for (key, entry) in chunk {
            if items.len() == wanted.limit {
                let resume = items.last().map(|(key, _): &(Arc<[u8]>, Entry)| token(prefix, key, revision));
                return Page { remaining: remaining(call, selection, &at, prefix, &items), items, revision, resume };
            }
            after = Some(key.to_vec());
            if selection.matches(call.resource, &key, &entry.value) {
                items.push((key, entry));
            }
        }
        if last {
            return Page { items, revision, resume: None, remaining: None };
        }
    }
}

fn token(prefix: &[u8], key: &[u8], revision: u64) -> String {
    let last = String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned();
    Token::after(&last, revision).encode()
}

fn remaining(
    call: &Call,
    selection: &Selection,
    at: &At,
    prefix: &[u8],
    items: &[(Arc<[u8]>, Entry)],
) -> Option<usize> {
    if !selection.is_all() {
        return None;
    }
    let last = items.last().map(|(key, _)| key.to_vec());
    Some(at.range(&call.store, prefix, last.as_deref(), usize::MAX).len())
}

/// Answers a list.
pub async fn list(call: &Call) -> Result<Response, ApiError> {
    check_timeout(call)?;
    check_options(call, false)?;
    let form = call.form(true)?;
    let selection = Selection::parse(call)?;
    let prefix = selection.prefix(call.resource);
    let wanted = wanted(call, &prefix).await?;
    let page = page(call, &selection, &prefix, wanted);
    Ok(render(call, &page, form))
}

/// The `timeout` parameter must be a duration.
pub fn check_timeout(call: &Call) -> Result<(), ApiError> {
    let Some(text) = call.query.get("timeout") else { return Ok(()) };
    let valid = text.chars().all(|c| c.is_ascii_digit() || ".hmsuµn".contains(c))
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(['h', 'm', 's'])
        || text == "0";
    if valid {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "invalid timeout specified in the request URL - time: invalid duration {text:?}"
    )))
}

fn list_metadata(page: &Page) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), page.revision.to_string().into());
    if let Some(resume) = &page.resume {
        metadata.insert("continue".into(), resume.clone().into());
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    metadata
}

/// A `PartialObjectMetadataList` with its members in Kubernetes' order.
fn metadata_list(call: &Call, metadata: Map<String, Value>, items: Vec<Value>, form: Form) -> Response {
    let (version, metadata, items) = (form.version, Value::Object(metadata), Value::Array(items));
    if form.yaml || form.pretty {
        let value = json!({
            "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": metadata, "items": items,
        });
        return call.value(StatusCode::OK, &value, form, &[]);
    }
    let text = format!(
        "{{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{metadata},\
         \"items\":{items}}}"
    );
    respond(StatusCode::OK, "application/json", text.into(), &[])
}

fn render(call: &Call, page: &Page, form: Form) -> Response {
    let metadata = list_metadata(page);
    if form.shape == Shape::Object && !form.yaml && !form.pretty {
        let mut out = Vec::with_capacity(page.items.iter().map(|(_, e)| e.value.len() + 64).sum::<usize>() + 256);
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(call.resource.kind.as_bytes());
        out.extend_from_slice(b"List\",\"apiVersion\":\"v1\",\"metadata\":");
        out.extend_from_slice(Value::Object(metadata).to_string().as_bytes());
        out.extend_from_slice(b",\"items\":[");
        for (at, (_, entry)) in page.items.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            storage::render(None, &entry.value, entry.revision, &mut out);
        }
        out.extend_from_slice(b"]}");
        return respond(StatusCode::OK, "application/json", out.into(), &[]);
    }
    let objects = page.items.iter().map(|(_, entry)| storage::decode(entry));
    let now = call.store.clock.now();
    let value = match form.shape {
        Shape::Table(include) => {
            let rows = objects.map(|o| table::row(call.resource, &o, include, form.version, now)).collect();
            table::table(call.resource, Value::Object(metadata), rows, true, form.version)
        }
        Shape::Metadata => {
            let items: Vec<Value> = objects.map(|o| table::partial(&o, form.version)).collect();
            return metadata_list(call, metadata, items, form);
        }
        Shape::Object => json!({
            "kind": format!("{}List", call.resource.kind), "apiVersion": "v1", "metadata": metadata,
            "items": objects.map(Value::Object).collect::<Vec<_>>(),
        }),
    };
    call.value(StatusCode::OK, &value, form, &[])
}
