//! Options of writes, read from the query: dryRun, fieldValidation, fieldManager, and the options of deletes.
//!
//! Invariant: what is not understood is refused with Kubernetes' text, never ignored.

use serde::Deserialize;
use serde_json::json;

use crate::request::Query;
use crate::status::{ApiError, FieldError};

/// What happens to unknown and duplicate fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Dropped in silence.
    Ignore,
    /// Dropped with a Warning header each.
    Warn,
    /// 400.
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Everything runs, nothing is stored.
    pub dry_run: bool,
    /// See [`FieldValidation`].
    pub validation: FieldValidation,
    /// Who owns the fields that change.
    pub manager: String,
}

const MANAGER_LIMIT: usize = 128;

fn manager_errors(manager: &str, errors: &mut Vec<FieldError>) {
    if manager.len() > MANAGER_LIMIT {
        errors.push(FieldError::too_long("fieldManager", MANAGER_LIMIT));
    }
    if let Some((at, bad)) = manager.chars().enumerate().find(|(_, c)| c.is_control()) {
        let text = format!("invalid character {} (at position {at})", format_args!("U+{:04X}", bad as u32));
        errors.push(FieldError::invalid_text("fieldManager", &quoted(manager), &text));
    }
}

/// A string as Go's `%q` prints it.
fn quoted(text: &str) -> String {
    let inner: String = text
        .chars()
        .map(|c| match c {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            c if c.is_ascii_control() => format!("\\x{:02x}", c as u32),
            c => c.to_string(),
        })
        .collect();
    format!("\"{inner}\"")
}

impl WriteOptions {
    /// Reads the query; `kind` is `CreateOptions`, `UpdateOptions` or `PatchOptions`; `fallback` names the manager when
    /// the query does not.
    pub fn parse(query: &Query, kind: &str, fallback: &str) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let dry: Vec<&str> = query.all("dryRun").filter(|d| !d.is_empty()).collect();
        if dry.iter().any(|d| *d != "All") {
            errors.push(FieldError::unsupported("dryRun", &json!(dry), &["All"]));
        }
        let manager = query.get("fieldManager").unwrap_or(fallback).to_owned();
        manager_errors(&manager, &mut errors);
        let validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let allowed = ["", "Ignore", "Strict", "Warn"];
                errors.push(FieldError::unsupported("fieldValidation", &other.into(), &allowed));
                FieldValidation::Strict
            }
        };
        if kind == "PatchOptions" && query.is_true("force") {
            errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch"));
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid(&format!("{kind}.meta.k8s.io"), "", errors));
        }
        Ok(Self { dry_run: !dry.is_empty(), validation, manager })
    }
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents go later.
    Background,
    /// Dependents go first.
    Foreground,
    /// Dependents stay.
    Orphan,
}

/// Preconditions of a delete.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    /// Required uid.
    pub uid: Option<String>,
    /// Required version.
    pub resource_version: Option<String>,
}

/// Options of deletes.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds a pod may take.
    pub grace: Option<i64>,
    /// See [`Preconditions`].
    pub preconditions: Preconditions,
    /// See [`Propagation`].
    pub propagation: Option<Propagation>,
    /// Nothing is stored.
    pub dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    kind: Option<String>,
    api_version: Option<String>,
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
}

impl DeleteOptions {
    /// Reads the body, or the query when there is no body.
    pub fn parse(body: &[u8], query: &Query) -> Result<Self, ApiError> {
        let found =
            if body.iter().all(u8::is_ascii_whitespace) { Self::from_query(query)? } else { Self::from_body(body)? };
        Self::checked(found)
    }

    fn from_body(body: &[u8]) -> Result<Body, ApiError> {
        let found: Body = serde_json::from_slice(body).map_err(|e| {
            let text = if e.is_data() { e.to_string() } else { crate::facts::syntax::explain(body) };
            ApiError::bad_request(format!(
                "the object provided is unrecognized (must be of type DeleteOptions): {text}"
            ))
        })?;
        match (found.kind.as_deref(), found.api_version.as_deref()) {
            (None | Some("" | "DeleteOptions"), _) => Ok(found),
            (Some(kind), version) => {
                let version = version.unwrap_or("v1");
                let text = format!(
                    "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
                );
                Err(ApiError::bad_request(text))
            }
        }
    }

    fn from_query(query: &Query) -> Result<Body, ApiError> {
        let grace = query.get("gracePeriodSeconds").map(|text| {
            text.parse::<i64>()
                .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
        });
        Ok(Body {
            grace_period_seconds: grace.transpose()?,
            orphan_dependents: query.get("orphanDependents").map(|o| matches!(o, "true" | "1" | "True")),
            propagation_policy: query.get("propagationPolicy").map(str::to_owned),
            dry_run: Some(query.all("dryRun").filter(|d| !d.is_empty()).map(str::to_owned).collect()),
            ..Body::default()
        })
    }

    fn checked(body: Body) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let dry = body.dry_run.unwrap_or_default();
        if dry.iter().any(|d| d != "All") {
            errors.push(FieldError::unsupported("dryRun", &json!(dry), &["All"]));
        }
        let policy = body.propagation_policy.filter(|p| !p.is_empty());
        let mut propagation = match policy.as_deref() {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let allowed = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::unsupported("propagationPolicy", &other.into(), &allowed));
                None
            }
        };
        match (body.orphan_dependents, &policy) {
            (Some(_), Some(policy)) => {
                let text = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid("propagationPolicy", &policy.as_str().into(), text));
            }
            (Some(true), None) => propagation = Some(Propagation::Orphan),
            (Some(false), None) => propagation = Some(Propagation::Background),
            (None, _) => {}
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("DeleteOptions.meta.k8s.io", "", errors));
        }
        let grace = body.grace_period_seconds.map(|g| if g < 0 { 1 } else { g });
        let preconditions = body.preconditions.unwrap_or_default();
        Ok(Self { grace, preconditions, propagation, dry_run: !dry.is_empty() })
    }
}
