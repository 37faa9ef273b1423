//! Lists in pages: filter, sort, and a cursor that says where the next page begins.
//!
//! Every list API parses its own syntax into a [`Query`] and answers with a [`Page`]; web pages use the same. Pure: rows
//! come in, rows go out.
//!
//! Invariants: rows are ordered by the sort field and then by key, so every row has one place and a page never repeats or
//! skips a row that stays as it is, whatever is added or removed between two pages; a cursor is signed, carries the whole
//! query, and is refused for another list, another order or another filter.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// No honest cursor is longer: it holds one filter and one sort value.
const TOKEN_BYTES_MAX: usize = 64 << 10;
/// Half of an HMAC-SHA-256: still far beyond guessing, and the token stays short.
const TAG_BYTES: usize = 16;

/// What a field of a row holds, comparable with any other: nothing < booleans < numbers < text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// The field is not set.
    Nothing,
    /// Yes or no.
    Bool(bool),
    /// A whole number; also times, as seconds or microseconds since 1970, whichever the list says.
    Integer(i64),
    /// Any other number.
    Real(#[serde(with = "bits")] f64),
    /// Text, in the order of its bytes.
    Text(String),
}

/// JSON has no NaN and prints numbers its own way; the bits come back as they were.
mod bits {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(real: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(real.to_bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        u64::deserialize(deserializer).map(f64::from_bits)
    }
}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Bool(_) => 1,
            Self::Integer(_) | Self::Real(_) => 2,
            Self::Text(_) => 3,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Integer(a), Self::Real(b)) => compare_mixed(*a, *b),
            (Self::Real(a), Self::Integer(b)) => compare_mixed(*b, *a).reverse(),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// Compares without losing the low digits of large integers, which a conversion to `f64` would.
fn compare_mixed(integer: i64, real: f64) -> Ordering {
    let whole = real.floor();
    if whole.is_nan() {
        return 0f64.total_cmp(&real);
    }
    // `as` saturates: beyond the range of i64 the comparison of the ends still says the right thing but for equality.
    match i128::from(integer).cmp(&(whole as i128)) {
        Ordering::Equal if real > whole => Ordering::Less,
        order => order,
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

/// How a field is compared with a predicate's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal to the value.
    Equals,
    /// Not equal to the value.
    NotEquals,
    /// Greater than the value.
    Greater,
    /// Greater than the value or equal to it.
    GreaterOrEquals,
    /// Less than the value.
    Less,
    /// Less than the value or equal to it.
    LessOrEquals,
    /// Equal to one of the values.
    OneOf,
    /// Text that contains the value, without regard to case.
    Contains,
}

/// One condition on a row. A field that is not set meets only [`Comparison::NotEquals`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    /// The field's name.
    pub field: String,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what: one value, or any number for [`Comparison::OneOf`].
    pub values: Vec<Value>,
}

impl Predicate {
    fn holds(&self, value: &Value) -> bool {
        let first = self.values.first();
        let ordered = |wanted: fn(Ordering) -> bool| {
            first.is_some_and(|first| {
                first.rank() == value.rank() && *value != Value::Nothing && wanted(value.cmp(first))
            })
        };
        match self.comparison {
            Comparison::Equals => first == Some(value),
            Comparison::NotEquals => first != Some(value),
            Comparison::Greater => ordered(Ordering::is_gt),
            Comparison::GreaterOrEquals => ordered(Ordering::is_ge),
            Comparison::Less => ordered(Ordering::is_lt),
            Comparison::LessOrEquals => ordered(Ordering::is_le),
            Comparison::OneOf => self.values.contains(value),
            Comparison::Contains => match (value, first) {
                (Value::Text(text), Some(Value::Text(part))) => text.to_lowercase().contains(&part.to_lowercase()),
                _ => false,
            },
        }
    }
}

/// The order of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// The field's name.
    pub field: String,
    /// Greatest first; then also the keys, which decide among equals, are in descending order.
    pub descending: bool,
}

/// What is asked of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Which list: its kind, and what narrows it beside the filter, such as a namespace.
    pub list: String,
    /// All of these must hold.
    pub filter: Vec<Predicate>,
    /// The order.
    pub sort: Sort,
}

/// A row that can be filtered and sorted.
pub trait Row {
    /// What tells it from all other rows of the list.
    fn key(&self) -> &str;
    /// A field's value; `Nothing` where it is not set. Unknown names are refused when the query is parsed.
    fn field(&self, name: &str) -> Value;
}

/// The place after a row, in one query's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    query: Query,
    value: Value,
    key: String,
}

impl Cursor {
    /// The query that it belongs to.
    pub fn query(&self) -> &Query {
        &self.query
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, in order.
    pub rows: Vec<T>,
    /// How many rows the whole list has under the filter.
    pub total: usize,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// Why a page token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none of ours, or has been changed.
    #[error("the page token is not valid")]
    Invalid,
    /// It belongs to another list.
    #[error("the page token belongs to another list")]
    OtherList,
    /// It was given out for another order.
    #[error("the page token was given out for another sort order")]
    OtherSort,
    /// It was given out for another filter.
    #[error("the page token was given out for another filter")]
    OtherFilter,
}

/// Selects the page of `size` rows (at least one) that follows `after`, or the first one.
pub fn select<T: Row>(
    rows: impl IntoIterator<Item = T>,
    query: &Query,
    after: Option<&Cursor>,
    size: usize,
) -> Page<T> {
    let size = size.max(1);
    let order = |a: (&Value, &str), b: (&Value, &str)| if query.sort.descending { b.cmp(&a) } else { a.cmp(&b) };
    let mut total = 0;
    let mut found: Vec<(Value, T)> = Vec::new();
    for row in rows {
        if !query.filter.iter().all(|predicate| predicate.holds(&row.field(&predicate.field))) {
            continue;
        }
        total += 1;
        let value = row.field(&query.sort.field);
        if after.is_none_or(|after| order((&value, row.key()), (&after.value, &after.key)).is_gt()) {
            found.push((value, row));
        }
    }
    let by_order = |a: &(Value, T), b: &(Value, T)| order((&a.0, a.1.key()), (&b.0, b.1.key()));
    let more = found.len() > size;
    if more {
        // Only the page is sorted, not the list.
        found.select_nth_unstable_by(size, by_order);
        found.truncate(size);
    }
    found.sort_unstable_by(by_order);
    let last = found.last().filter(|_| more);
    let next =
        last.map(|(value, row)| Cursor { query: query.clone(), value: value.clone(), key: row.key().to_owned() });
    Page { rows: found.into_iter().map(|(_, row)| row).collect(), total, next }
}

/// Makes page tokens of cursors and takes them back.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Signer(..)")
    }
}

impl Signer {
    /// A signer with a secret of any length; tokens are valid wherever the same secret is used.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"))
    }

    fn tag(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(b"records page token 1\n");
        mac.update(body);
        mac
    }

    /// The token of a cursor: opaque, safe in a URL.
    pub fn token(&self, cursor: &Cursor) -> String {
        let body = serde_json::to_vec(cursor).expect("a cursor is plain data");
        let tag = self.tag(&body).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([tag.get(..TAG_BYTES).unwrap_or_default(), &body].concat())
    }

    /// The cursor of a token for this list. `sort` and `filter` are what the caller asks for now: where it asks for
    /// something, it must be what the token was given out for (KFP v2beta1: no sort or filter beside a token is fine).
    pub fn cursor(
        &self,
        token: &str,
        list: &str,
        sort: Option<&Sort>,
        filter: Option<&[Predicate]>,
    ) -> Result<Cursor, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Invalid)?;
        let (tag, body) = bytes.split_at_checked(TAG_BYTES).ok_or(TokenError::Invalid)?;
        self.tag(body).verify_truncated_left(tag).map_err(|_| TokenError::Invalid)?;
        let cursor: Cursor = serde_json::from_slice(body).map_err(|_| TokenError::Invalid)?;
        if cursor.query.list != list {
            return Err(TokenError::OtherList);
        }
        if sort.is_some_and(|sort| *sort != cursor.query.sort) {
            return Err(TokenError::OtherSort);
        }
        if filter.is_some_and(|filter| *filter != cursor.query.filter) {
            return Err(TokenError::OtherFilter);
        }
        Ok(cursor)
    }
}

#[cfg(test)]
mod tests;
