//! Label and field selectors: parsing with Kubernetes' own error texts, and matching. Called by list, watch and
//! deletecollection.
//!
//! Invariant: pure; an empty selector matches everything.

use std::collections::BTreeMap;

mod lexer;

pub use lexer::parse as parse_labels;

/// What one requirement asks of a label's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Present with one of the values.
    In(Vec<String>),
    /// Absent, or present with none of the values.
    NotIn(Vec<String>),
    /// Present.
    Exists,
    /// Absent.
    Absent,
    /// Present and a greater integer.
    Greater(i64),
    /// Present and a smaller integer.
    Less(i64),
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Label.
    pub key: String,
    /// Test.
    pub operator: Operator,
}

/// Terms joined by AND.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<Requirement>);

impl Labels {
    /// Whether the labels fulfil every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|v| values.contains(v)),
                Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::Greater(limit) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *limit),
                Operator::Less(limit) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *limit),
            }
        })
    }

    /// Matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Label of the field, as `metadata.name`.
    pub field: String,
    /// `=` or `!=`.
    pub equal: bool,
    /// Value.
    pub value: String,
}

/// Terms joined by AND.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<FieldTerm>);

impl Fields {
    /// Parses `a=b,c!=d`; the error is the text Kubernetes answers.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        for part in split_escaped(text) {
            if part.is_empty() {
                continue;
            }
            let found = ["!=", "==", "="]
                .iter()
                .filter_map(|op| part.find(op).map(|at| (at, *op)))
                .min_by_key(|(at, op)| (*at, 2 - op.len()));
            let Some((at, op)) = found else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(FieldTerm {
                field: part[..at].trim().to_owned(),
                equal: op != "!=",
                value: unescape(part[at + op.len()..].trim()),
            });
        }
        Ok(Self(terms))
    }

    /// Whether every term holds; `get` reads a field's value (absent reads as empty).
    pub fn matches<'a>(&self, mut get: impl FnMut(&str) -> Option<std::borrow::Cow<'a, str>>) -> bool {
        self.0.iter().all(|term| {
            let value = get(&term.field);
            (value.as_deref().unwrap_or_default() == term.value) == term.equal
        })
    }

    /// Matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that `field` must have, if an `=` term says so.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }
}

fn split_escaped(text: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        let split = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        if split {
            out.push(String::new());
        } else if let Some(last) = out.last_mut() {
            last.push(c);
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse_labels(selector).unwrap().matches(&labels)
    }

    #[test]
    fn label_selectors_match_as_kubernetes_matches() {
        let labels = [("env", "dev"), ("n", "3")];
        for (selector, expected) in [
            ("env=dev", true),
            ("env==dev,n", true),
            ("env!=dev", false),
            ("other!=x", true),
            ("env in (dev, prod)", true),
            ("env notin (dev)", false),
            ("!env", false),
            ("!other", true),
            ("n>2,n<4", true),
            ("n>3", false),
            ("env=", false),
            ("env in ()", false),
            ("", true),
            ("x-y.example/a=b", false),
        ] {
            assert_eq!(check(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn label_selectors_are_refused_with_kubernetes_texts() {
        for (selector, text) in [
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("=", "found '=', expected: !, identifier, or 'end of string'"),
            ("a=b c!", "found 'c', expected: ',' or 'end of string'"),
            ("env,", "found '', expected: identifier after ','"),
        ] {
            assert_eq!(parse_labels(selector).unwrap_err(), text, "{selector}");
        }
    }

    #[test]
    fn field_selectors() {
        let fields = Fields::parse("metadata.name=a,status.phase!=Running").unwrap();
        assert_eq!(fields.required("metadata.name"), Some("a"));
        assert!(fields.matches(|f| (f == "metadata.name").then(|| "a".into())));
        assert_eq!(Fields::parse("a").unwrap_err(), "invalid selector: 'a'; can't understand 'a'");
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(text in ".{0,40}") {
            let _ = parse_labels(&text);
            let _ = Fields::parse(&text);
        }
    }
}
