//! Changes of records turned into the events of a watch: selectors translate them, versions are spliced in. Called by
//! `handlers::watch` only.
//!
//! Invariant: every change after the start is looked at once, in order.

use std::sync::Arc;

use records::Change;

use super::render;

/// Type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It began to match.
    Added,
    /// It matched before and does now.
    Modified,
    /// It ceased to match; the object is its last matching state.
    Deleted,
}

impl Kind {
    /// As on the wire.
    pub fn text(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// What a change is to a watch that selects with `matches(key, value)`.
pub fn translate(change: &Change, matches: impl Fn(&[u8], &[u8]) -> bool) -> Option<(Kind, Arc<[u8]>)> {
    let old = change.old.as_ref().filter(|e| matches(&change.key, &e.value));
    let new = change.new.as_ref().filter(|e| matches(&change.key, &e.value));
    match (old, new) {
        (None, Some(new)) => Some((Kind::Added, new.value.clone())),
        (Some(_), Some(new)) => Some((Kind::Modified, new.value.clone())),
        (Some(old), None) => Some((Kind::Deleted, old.value.clone())),
        (None, None) => None,
    }
}

/// Appends `{"type":…,"object":…}` and a newline.
pub fn event(kind: Kind, object_kind: &str, value: &[u8], revision: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.text().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    render(Some(object_kind), value, revision, out);
    out.extend_from_slice(b"}\n");
}

/// Appends a BOOKMARK.
pub fn bookmark(object_kind: &str, revision: u64, initial_end: bool, out: &mut Vec<u8>) {
    let note = if initial_end { ",\"annotations\":{\"k8s.io/initial-events-end\":\"true\"}" } else { "" };
    let text = format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{object_kind}\",\"apiVersion\":\"v1\",\"metadata\":\
         {{\"resourceVersion\":\"{revision}\"{note}}}}}}}\n"
    );
    out.extend_from_slice(text.as_bytes());
}
