//! Deletion: preconditions, propagation finalizers, grace, finalizers, and what is answered.
//!
//! Invariant: an object with finalizers is only marked; marking and removing in one go are two revisions of one
//! transaction, so that watchers see both.

use records::Entry;
use serde_json::{Map, Value};

use super::store::{Refused, Store, Written, may_go, meta, metadata_of, storage_error};
use crate::registry::Resource;
use crate::registry::options::{DeleteOptions, Propagation};
use crate::registry::strategy::Graceful;
use crate::status::ApiError;
use crate::storage::{self, OBJECTS, Object};
use crate::time;

const DELETE_TRIES: usize = 16;

/// What a deletion did.
#[derive(Debug)]
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(Written),
    /// The object is marked (or was already); this is its state.
    Marked(Written),
}

/// The next step for one object.
enum Step {
    /// Nothing to do: marked already.
    Keep,
    /// Remove as it is.
    Remove,
    /// Write this state; then remove it too if the flag says so.
    Mark(Object, bool),
}

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

fn finalizers(object: &Object) -> Vec<String> {
    let list = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect()
}

/// Finalizers after the asked propagation had its say.
fn propagate(object: &Object, propagation: Option<Propagation>) -> Vec<String> {
    let mut list = finalizers(object);
    if let Some(policy) = propagation {
        list.retain(|f| f != FOREGROUND && f != ORPHAN);
        match policy {
            Propagation::Foreground => list.push(FOREGROUND.into()),
            Propagation::Orphan => list.push(ORPHAN.into()),
            Propagation::Background => {}
        }
    }
    list
}

fn preconditions(resource: &Resource, name: &str, object: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    if let Some(uid) = &options.preconditions.uid
        && uid != meta(object, "uid")
    {
        let text = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            meta(object, "uid")
        );
        return Err(ApiError::conflict(resource.kind, name, &text));
    }
    if let Some(version) = &options.preconditions.resource_version
        && version != meta(object, "resourceVersion")
    {
        let text = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            meta(object, "resourceVersion")
        );
        return Err(ApiError::conflict(resource.kind, name, &text));
    }
    Ok(())
}

fn step(resource: &Resource, object: &Object, options: &DeleteOptions, now: jiff::Timestamp) -> Step {
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let marked = metadata.contains_key("deletionTimestamp");
    let own = finalizers(object);
    let wanted = propagate(object, options.propagation);
    let graceful = resource.strategy.graceful(object, options.grace);
    let mut next = object.clone();
    if wanted != own {
        let list: Vec<Value> = wanted.iter().map(|f| f.as_str().into()).collect();
        match list.is_empty() {
            true => drop(metadata_of(&mut next).remove("finalizers")),
            false => drop(metadata_of(&mut next).insert("finalizers".into(), Value::Array(list))),
        }
    }
    match graceful {
        Graceful::Not if wanted.is_empty() => return Step::Remove,
        Graceful::Not if marked && wanted == own => return Step::Keep,
        Graceful::Not => {
            if !marked {
                mark(resource, &mut next, now, Some(0));
            }
        }
        Graceful::Marked if marked && wanted == own => {
            return if may_go(resource, &next) { Step::Remove } else { Step::Keep };
        }
        Graceful::Marked => {
            if !marked {
                mark(resource, &mut next, now, None);
            }
        }
        Graceful::After(seconds) => {
            let before = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
            if marked && before.is_some_and(|b| seconds >= b) && wanted == own {
                return Step::Keep;
            }
            if marked {
                shorten(&mut next, seconds, now);
            } else {
                mark(resource, &mut next, now, Some(seconds));
            }
        }
    }
    let gone = may_go(resource, &next);
    Step::Mark(next, gone)
}

fn shorten(object: &mut Object, seconds: i64, now: jiff::Timestamp) {
    let metadata = metadata_of(object);
    let before = metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(i64::MAX);
    if seconds < before {
        metadata.insert("deletionGracePeriodSeconds".into(), seconds.into());
        metadata.insert("deletionTimestamp".into(), time::seconds(later(now, seconds)).into());
    }
}

fn later(now: jiff::Timestamp, seconds: i64) -> jiff::Timestamp {
    now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(now)
}

fn mark(resource: &Resource, object: &mut Object, now: jiff::Timestamp, grace: Option<i64>) {
    let counts = resource.strategy.has_generation();
    let metadata = metadata_of(object);
    metadata.insert("deletionTimestamp".into(), time::seconds(later(now, grace.unwrap_or(0))).into());
    if let Some(seconds) = grace {
        metadata.insert("deletionGracePeriodSeconds".into(), seconds.into());
    }
    if counts {
        let before = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
        metadata.insert("generation".into(), (before + 1).into());
    }
    resource.strategy.mark(object);
}

impl Store {
    /// Deletes an object.
    pub async fn delete(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        resource.strategy.may_delete(name)?;
        for _ in 0..DELETE_TRIES {
            let entry = self.get(resource, namespace, name)?;
            let object = storage::decode(&entry);
            preconditions(resource, name, &object, options)?;
            let step = step(resource, &object, options, self.clock.now());
            let (bytes, remove) = match step {
                Step::Keep => return Ok(Deleted::Marked(Written::stored(entry))),
                Step::Remove => (None, true),
                Step::Mark(next, gone) => (Some(storage::encode(&next)), gone),
            };
            if options.dry_run {
                let value = bytes.map_or(entry.value, Into::into);
                let written = Written { value, revision: Some(entry.revision) };
                return Ok(if remove { Deleted::Gone(written) } else { Deleted::Marked(written) });
            }
            match self.carry_out(resource, namespace, name, entry, bytes, remove).await? {
                Ok(deleted) => return Ok(deleted),
                Err(Refused::Answer(answer)) => return Err(answer),
                Err(_) => {}
            }
        }
        Err(ApiError::modified(resource.name, name))
    }

    async fn carry_out(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        entry: Entry,
        bytes: Option<Vec<u8>>,
        remove: bool,
    ) -> Result<Result<Deleted, Refused>, ApiError> {
        let key = storage::key(resource.name, namespace, name);
        let name = name.to_owned();
        let value = bytes.as_ref().map_or_else(|| entry.value.clone(), |b| b.clone().into());
        let committed = self
            .db
            .transact(move |tx| {
                match tx.get(OBJECTS, &key) {
                    None => return Err(Refused::Answer(ApiError::not_found(resource.name, &name))),
                    Some(now) if now.revision != entry.revision => return Err(Refused::Stale),
                    Some(_) => {}
                }
                let mut revision = entry.revision;
                if let Some(bytes) = bytes {
                    revision = tx.put(OBJECTS, &key, bytes);
                }
                if remove {
                    tx.delete(OBJECTS, &key);
                }
                Ok(revision)
            })
            .await;
        match committed {
            Ok(done) => {
                let written = Written { value, revision: Some(done.value) };
                Ok(Ok(if remove { Deleted::Gone(written) } else { Deleted::Marked(written) }))
            }
            Err(error) => storage_error(error).map(Err),
        }
    }
}
