//! Lists: filter, sort and page over anything with named fields.
//!
//! Source: KFP's `list_options` and `filter.proto`. The token of a page holds where the last one ended, so a list that
//! grows in between neither repeats nor skips what was there.

use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use foundation::problem::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Source: KFP's default.
pub const PAGE_SIZE: usize = 20;
/// Source: KFP's limit.
pub const PAGE_SIZE_MAX: usize = 200;

/// A field's value, to be compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Field {
    /// A text.
    Text(String),
    /// A number.
    Number(f64),
    /// A time.
    Time(Timestamp),
    /// Not there; before everything else.
    None,
}

impl Field {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            (Self::None, Self::None) => Ordering::Equal,
            (Self::None, _) => Ordering::Less,
            (_, Self::None) => Ordering::Greater,
            _ => Ordering::Equal,
        }
    }
}

/// Something that can be listed.
pub trait Listed {
    /// What one such thing is called in messages.
    const KIND: &'static str;
    /// Its id: decides where fields are equal.
    fn id(&self) -> &str;
    /// A field by the name that clients use; `None` for a name that is no field.
    fn field(&self, name: &str) -> Option<Field>;
    /// Whether a name is a field; asked even when the list is empty.
    fn has_field(name: &str) -> bool;
}

/// How a predicate compares. Source: KFP `Predicate.Operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operation {
    Equals,
    NotEquals,
    GreaterThan,
    GreaterThanEquals,
    LessThan,
    LessThanEquals,
    In,
    IsSubstring,
}

/// One condition of a filter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicate {
    /// How.
    pub operation: Operation,
    /// Which field.
    pub key: String,
    /// With what; several for `In` only.
    pub values: Vec<Field>,
}

/// What a client wants to see of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// All must hold.
    pub filter: Vec<Predicate>,
    /// The field to sort by.
    pub sort: String,
    /// Greatest first.
    pub descending: bool,
    /// At most so many.
    pub page_size: usize,
    /// Where the last page ended.
    pub after: Option<Cursor>,
}

impl Default for Query {
    fn default() -> Self {
        Self { filter: Vec::new(), sort: "created_at".to_owned(), descending: false, page_size: PAGE_SIZE, after: None }
    }
}

/// Where a page ended; opaque to clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    sort: String,
    descending: bool,
    filter: Vec<Predicate>,
    last: Field,
    id: String,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: usize,
    /// The token of the next page.
    pub next: Option<String>,
}

impl Cursor {
    /// Reads a token; a sort or filter beside it must be the one it was made with.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn parse(token: &str) -> Result<Self, Problem> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let cursor = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        cursor.ok_or_else(|| Problem::invalid("Invalid input error: the page token is not valid"))
    }

    /// Turns a query into that of the page after this cursor.
    ///
    /// # Errors
    /// When the query names another sort or filter.
    pub fn resume(self, mut query: Query, sort_given: bool, filter_given: bool) -> Result<Query, Problem> {
        let mixed =
            |what| Problem::invalid(format!("Invalid input error: the page token was made with another {what}"));
        if sort_given && (query.sort != self.sort || query.descending != self.descending) {
            return Err(mixed("sort order"));
        }
        if filter_given && query.filter != self.filter {
            return Err(mixed("filter"));
        }
        query.sort = self.sort.clone();
        query.descending = self.descending;
        query.filter = self.filter.clone();
        query.after = Some(self);
        Ok(query)
    }
}

/// The page of `items` that `query` asks for.
///
/// # Errors
/// When the query names a field that these things do not have, or compares it with something of another kind.
pub fn page<T: Listed>(items: Vec<T>, query: &Query) -> Result<Page<T>, Problem> {
    let unknown = |key: &str| Problem::invalid(format!("Invalid input error: {} has no field {key:?}", T::KIND));
    if !T::has_field(&query.sort) {
        return Err(unknown(&query.sort));
    }
    if let Some(predicate) = query.filter.iter().find(|predicate| !T::has_field(&predicate.key)) {
        return Err(unknown(&predicate.key));
    }
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        if query.filter.iter().all(|predicate| holds(&item, predicate)) {
            let field = item.field(&query.sort).unwrap_or(Field::None);
            found.push((field, item));
        }
    }
    let order = |a: &(Field, T), b: &(Field, T)| {
        let order = a.0.order(&b.0).then_with(|| a.1.id().cmp(b.1.id()));
        if query.descending { order.reverse() } else { order }
    };
    found.sort_by(order);
    let total = found.len();
    let start = query.after.as_ref().map_or(0, |after| {
        found.partition_point(|(field, item)| {
            let order = field.order(&after.last).then_with(|| item.id().cmp(&after.id));
            if query.descending { order != Ordering::Less } else { order != Ordering::Greater }
        })
    });
    let rest = found.len().saturating_sub(start);
    let mut page: Vec<(Field, T)> = found.into_iter().skip(start).take(query.page_size).collect();
    let more = rest > page.len();
    let next = page.last().filter(|_| more).map(|(field, item)| token(query, field, item.id()));
    Ok(Page { items: page.drain(..).map(|(_, item)| item).collect(), total, next })
}

fn token(query: &Query, last: &Field, id: &str) -> String {
    let cursor = Cursor {
        sort: query.sort.clone(),
        descending: query.descending,
        filter: query.filter.clone(),
        last: last.clone(),
        id: id.to_owned(),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
}

fn holds<T: Listed>(item: &T, predicate: &Predicate) -> bool {
    let Some(field) = item.field(&predicate.key) else { return false };
    let first = predicate.values.first().unwrap_or(&Field::None);
    match predicate.operation {
        Operation::Equals => same(&field, first),
        Operation::NotEquals => !same(&field, first),
        Operation::GreaterThan => compare(&field, first) == Some(Ordering::Greater),
        Operation::GreaterThanEquals => matches!(compare(&field, first), Some(Ordering::Greater | Ordering::Equal)),
        Operation::LessThan => compare(&field, first) == Some(Ordering::Less),
        Operation::LessThanEquals => matches!(compare(&field, first), Some(Ordering::Less | Ordering::Equal)),
        Operation::In => predicate.values.iter().any(|value| same(&field, value)),
        Operation::IsSubstring => match (&field, first) {
            (Field::Text(text), Field::Text(part)) => text.to_lowercase().contains(&part.to_lowercase()),
            _ => false,
        },
    }
}

fn same(field: &Field, value: &Field) -> bool {
    compare(field, value) == Some(Ordering::Equal)
}

/// Times compare as whole seconds, as upstream stores them.
fn compare(field: &Field, value: &Field) -> Option<Ordering> {
    match (field, value) {
        (Field::Text(a), Field::Text(b)) => Some(a.cmp(b)),
        (Field::Number(a), Field::Number(b)) => a.partial_cmp(b),
        (Field::Time(a), Field::Time(b)) => Some(a.as_second().cmp(&b.as_second())),
        (Field::Time(a), Field::Number(b)) => (a.as_second() as f64).partial_cmp(b),
        (Field::Time(a), Field::Text(b)) => b.parse::<Timestamp>().ok().map(|b| a.as_second().cmp(&b.as_second())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Debug)]
    struct Thing(String, f64);

    impl Listed for Thing {
        const KIND: &'static str = "Thing";
        fn id(&self) -> &str {
            &self.0
        }
        fn field(&self, name: &str) -> Option<Field> {
            match name {
                "id" => Some(Field::Text(self.0.clone())),
                "size" => Some(Field::Number(self.1)),
                _ => None,
            }
        }
        fn has_field(name: &str) -> bool {
            matches!(name, "id" | "size")
        }
    }

    fn things(count: usize) -> Vec<Thing> {
        (0..count).map(|index| Thing(format!("t{index:03}"), (index % 5) as f64)).collect()
    }

    #[test]
    fn pages_cover_everything_once_in_both_directions() {
        for descending in [false, true] {
            let mut query = Query { sort: "size".to_owned(), descending, page_size: 7, ..Query::default() };
            let mut seen = Vec::new();
            loop {
                let page = page(things(23), &query).expect("a page");
                assert_eq!(page.total, 23);
                seen.extend(page.items);
                let Some(next) = page.next else { break };
                query =
                    Cursor::parse(&next).and_then(|cursor| cursor.resume(query, true, false)).expect("the next page");
            }
            let mut all = things(23);
            all.sort_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
            if descending {
                all.reverse();
            }
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn a_token_does_not_fit_another_question_and_unknown_fields_are_named() {
        let query = Query { sort: "size".to_owned(), page_size: 2, ..Query::default() };
        let next = page(things(5), &query).expect("a page").next.expect("more");
        let other = Query { sort: "id".to_owned(), ..query.clone() };
        assert!(Cursor::parse(&next).expect("a token").resume(other, true, false).is_err());
        assert!(Cursor::parse("garbage").is_err());
        let odd = Query { sort: "colour".to_owned(), ..query };
        assert!(page(things(0), &odd).expect_err("unknown").what.contains("colour"));
    }
}
