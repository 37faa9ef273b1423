//! Requests: the listing parameters and protobuf-JSON bodies.

use axum::extract::{FromRequest, FromRequestParts, Query as UrlQuery, Request};
use foundation::problem::{Kind, Problem};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use super::filter;
use crate::operations::listing::{Cursor, PAGE_SIZE, PAGE_SIZE_MAX, Query};

/// The parameters that every list takes, and the few that only some do.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Listing {
    page_token: Option<String>,
    page_size: Option<i64>,
    sort_by: Option<String>,
    filter: Option<String>,
    pub(super) experiment_id: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Listing {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let UrlQuery(listing) = UrlQuery::<Self>::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::invalid(format!("Invalid input error: {}", error.body_text())))?;
        Ok(listing)
    }
}

impl Listing {
    /// The query that these parameters ask for. Clients send empty texts for what they do not set.
    pub(super) fn query(&self) -> Result<Query, Problem> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let page_size = match self.page_size.unwrap_or_default() {
            0 => PAGE_SIZE,
            size if size < 0 => {
                return Err(Problem::invalid("Invalid input error: the page size must not be negative"));
            }
            size => usize::try_from(size).unwrap_or(PAGE_SIZE_MAX).min(PAGE_SIZE_MAX),
        };
        let mut query = Query { page_size, ..Query::default() };
        let (sort, wanted) = (set(&self.sort_by), set(&self.filter));
        if let Some(sort) = &sort {
            (query.sort, query.descending) = parse_sort(sort)?;
        }
        if let Some(wanted) = &wanted {
            query.filter = filter::parse(wanted)?;
        }
        match set(&self.page_token) {
            Some(token) => Cursor::parse(&token)?.resume(query, sort.is_some(), wanted.is_some()),
            None => Ok(query),
        }
    }
}

/// `field`, `field asc`, `field desc`; the words in any case.
fn parse_sort(text: &str) -> Result<(String, bool), Problem> {
    let mut words = text.split_whitespace();
    let field = words.next().unwrap_or_default().to_owned();
    let direction = words.next().unwrap_or("asc").to_ascii_lowercase();
    match (direction.as_str(), words.next()) {
        ("asc", None) => Ok((field, false)),
        ("desc", None) => Ok((field, true)),
        _ => Err(Problem::invalid(format!("Invalid input error: cannot sort by {text:?}"))),
    }
}

/// A protobuf-JSON body: its fields in snake_case or camelCase, an unknown one is refused.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let bytes = bytes::Bytes::from_request(request, state).await.map_err(|error| {
            let kind =
                if error.status() == http::StatusCode::PAYLOAD_TOO_LARGE { Kind::TooLarge } else { Kind::Invalid };
            Problem::new(kind, "The request's body cannot be read").because(error.body_text())
        })?;
        let text = if bytes.is_empty() { b"{}".as_slice() } else { &bytes };
        let body =
            serde_json::from_slice(text).map_err(|error| Problem::invalid(format!("Invalid input error: {error}")))?;
        Ok(Self(body))
    }
}
