//! The generic store: create, update and delete of any kind through its strategy, each one transaction. Called by the
//! handlers; knows no kind.
//!
//! Invariant: nothing is answered as written before its transaction is on disk; a write that changes nothing is none.

use std::sync::Arc;

use foundation::clock::Clock;
use foundation::id;
use foundation::tasks::Tasks;
use jiff::Timestamp;
use records::{Db, Entry};
use serde_json::{Map, Value};

use super::Resource;
use super::options::WriteOptions;
use super::strategy::{Door, Reader};
use crate::facts::normal::zero_struct;
use crate::patch::fields;
use crate::status::{ApiError, FieldError};
use crate::storage::{self, OBJECTS, Object};
use crate::{time, validation};

const NAME_TRIES: usize = 8;
const UPDATE_TRIES: usize = 16;
const BASE_LIMIT: usize = 58;

/// A stored (or, for a dry run, only computed) object.
#[derive(Clone, Debug)]
pub struct Written {
    /// Stored form.
    pub value: Arc<[u8]>,
    /// Version; none for a dry run of a create.
    pub revision: Option<u64>,
}

impl Written {
    pub(super) fn stored(entry: Entry) -> Self {
        Self { value: entry.value, revision: Some(entry.revision) }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    /// The records.
    pub db: Db,
    /// Now.
    pub clock: Clock,
    /// Writes go on here when their caller leaves.
    pub tasks: Tasks,
}

/// Why a transaction of ours did not happen.
pub(super) enum Refused {
    /// Another write came first: read again.
    Stale,
    /// The name is taken.
    Exists,
    /// An answer.
    Answer(ApiError),
}

struct Snapshot<'a, 'b>(&'a records::View<'b>);

impl Reader for Snapshot<'_, '_> {
    fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        self.0.get(OBJECTS, &storage::key(resource, namespace, name)).map(|e| storage::decode(&e))
    }
}

/// Metadata of an object, made if absent.
pub fn metadata_of(object: &mut Object) -> &mut Map<String, Value> {
    let entry = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut().expect("made an object two lines above")
}

/// A string of metadata, empty if absent.
pub fn meta<'a>(object: &'a Object, name: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(name)).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn storage_error(error: records::Error<Refused>) -> Result<Refused, ApiError> {
    match error {
        records::Error::Refused(refused) => Ok(refused),
        other => {
            tracing::error!(error = %other, "a write to the store failed");
            let mut answer = ApiError::unavailable(format!("the store cannot take writes: {other}"));
            answer.retry_after = Some(1);
            Err(answer)
        }
    }
}

fn namespace_check(resource: &Resource, namespace: &str, name: &str, found: Option<Entry>) -> Result<(), ApiError> {
    if namespace.is_empty() {
        return Ok(());
    }
    match found {
        None => Err(ApiError::not_found("namespaces", namespace)),
        Some(entry) if storage::peek(&entry.value).metadata.deletion_timestamp.is_some() => {
            Err(ApiError::namespace_terminating(resource.name, name, namespace))
        }
        Some(_) => Ok(()),
    }
}

impl Store {
    /// The object, or NotFound.
    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Entry, ApiError> {
        let key = storage::key(resource.name, namespace, name);
        self.db.read(|view| view.get(OBJECTS, &key)).ok_or_else(|| ApiError::not_found(resource.name, name))
    }

    /// Creates an object that was decoded and defaulted; `namespace` is the URL's.
    pub async fn create(
        &self,
        resource: &'static Resource,
        namespace: &str,
        mut object: Object,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        self.begin(resource, namespace, &mut object)?;
        let generated = meta(&object, "name").is_empty() && !meta(&object, "generateName").is_empty();
        let before = zero_struct(resource.table);
        if generated {
            draw_name(&mut object);
        }
        fields::on_update(resource, &before, &mut object, &options.manager, "", self.clock.now());
        self.db.read(|view| {
            let found = view.get(OBJECTS, &storage::key("namespaces", "", namespace));
            namespace_check(resource, namespace, meta(&object, "name"), found)?;
            resource.strategy.admit(&Snapshot(view), namespace, &mut object)
        })?;
        resource.strategy.prepare_create(&mut object);
        if resource.strategy.has_generation() {
            metadata_of(&mut object).insert("generation".into(), 1.into());
        }
        for _ in 0..NAME_TRIES {
            let mut errors = Vec::new();
            check(resource, &object, &mut errors);
            if !errors.is_empty() {
                return Err(ApiError::invalid(resource.kind, meta(&object, "name"), errors));
            }
            match self.insert(resource, namespace, &object, options.dry_run).await? {
                Ok(written) => return Ok(written),
                Err(Refused::Answer(answer)) => return Err(answer),
                Err(_) if generated => draw_name(&mut object),
                Err(_) => break,
            }
        }
        Err(self.taken(resource, namespace, meta(&object, "name")))
    }

    fn taken(&self, resource: &Resource, namespace: &str, name: &str) -> ApiError {
        let key = storage::key(resource.name, namespace, name);
        let going = self
            .db
            .read(|view| view.get(OBJECTS, &key))
            .is_some_and(|e| storage::peek(&e.value).metadata.deletion_timestamp.is_some());
        if going { ApiError::being_deleted(resource.name, name) } else { ApiError::already_exists(resource.name, name) }
    }

    /// Server-set metadata of a new object.
    fn begin(&self, resource: &Resource, namespace: &str, object: &mut Object) -> Result<(), ApiError> {
        let own = meta(object, "namespace");
        if !own.is_empty() && own != namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if !meta(object, "resourceVersion").is_empty() {
            return Err(ApiError::internal("resourceVersion should not be set on objects to be created"));
        }
        let now = time::seconds(self.clock.now());
        let metadata = metadata_of(object);
        for name in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"] {
            metadata.remove(name);
        }
        metadata.insert("uid".into(), id::uuid().into());
        metadata.insert("creationTimestamp".into(), now.into());
        if namespace.is_empty() {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".into(), namespace.into());
        }
        if resource.has_status()
            && !resource.strategy.status_on_create()
            && let Some(Value::Object(zero)) = zero_struct(resource.table).remove("status")
        {
            object.insert("status".into(), Value::Object(zero));
        }
        Ok(())
    }

    async fn insert(
        &self,
        resource: &'static Resource,
        namespace: &str,
        object: &Object,
        dry_run: bool,
    ) -> Result<Result<Written, Refused>, ApiError> {
        let name = meta(object, "name").to_owned();
        let key = storage::key(resource.name, namespace, &name);
        let bytes = storage::encode(object);
        if dry_run {
            if self.db.read(|view| view.get(OBJECTS, &key)).is_some() {
                return Ok(Err(Refused::Exists));
            }
            return Ok(Ok(Written { value: bytes.into(), revision: None }));
        }
        let value: Arc<[u8]> = bytes.clone().into();
        let namespace = namespace.to_owned();
        let committed = self
            .db
            .transact(move |tx| {
                let found = tx.get(OBJECTS, &storage::key("namespaces", "", &namespace));
                namespace_check(resource, &namespace, &name, found).map_err(Refused::Answer)?;
                if tx.get(OBJECTS, &key).is_some() {
                    return Err(Refused::Exists);
                }
                Ok(tx.put(OBJECTS, &key, bytes))
            })
            .await;
        match committed {
            Ok(done) => Ok(Ok(Written { value, revision: Some(done.value) })),
            Err(error) => storage_error(error).map(Err),
        }
    }

    /// Reads, changes and writes an object until no other write came between. `change` gets the stored object and gives
    /// the decoded new one.
    pub async fn update(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        door: Door,
        options: &WriteOptions,
        change: &(dyn Fn(&Object) -> Result<Object, ApiError> + Send + Sync),
    ) -> Result<Written, ApiError> {
        for _ in 0..UPDATE_TRIES {
            let entry = self.get(resource, namespace, name)?;
            let old = storage::decode(&entry);
            let new = change(&old)?;
            let wanted = meta(&new, "resourceVersion").to_owned();
            if !wanted.is_empty() && wanted != meta(&old, "resourceVersion") {
                return Err(ApiError::modified(resource.name, name));
            }
            let new = prepare(resource, &old, new, door, options, self.clock.now())?;
            let bytes = storage::encode(&new);
            if bytes == *entry.value {
                return Ok(Written::stored(entry));
            }
            if options.dry_run {
                return Ok(Written { value: bytes.into(), revision: Some(entry.revision) });
            }
            let gone = may_go(resource, &new);
            match self.replace(resource, namespace, name, entry.revision, bytes, gone).await? {
                Ok(written) => return Ok(written),
                Err(Refused::Answer(answer)) => return Err(answer),
                Err(_) => {}
            }
        }
        Err(ApiError::modified(resource.name, name))
    }

    /// Writes `bytes` over the version `revision`, or removes the object when it may go.
    async fn replace(
        &self,
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        revision: u64,
        bytes: Vec<u8>,
        gone: bool,
    ) -> Result<Result<Written, Refused>, ApiError> {
        let key = storage::key(resource.name, namespace, name);
        let value: Arc<[u8]> = bytes.clone().into();
        let name = name.to_owned();
        let committed = self
            .db
            .transact(move |tx| match tx.get(OBJECTS, &key) {
                None => Err(Refused::Answer(ApiError::not_found(resource.name, &name))),
                Some(now) if now.revision != revision => Err(Refused::Stale),
                Some(_) if gone => Ok(tx.delete(OBJECTS, &key).unwrap_or(revision)),
                Some(_) => Ok(tx.put(OBJECTS, &key, bytes)),
            })
            .await;
        match committed {
            Ok(done) => Ok(Ok(Written { value, revision: Some(done.value) })),
            Err(error) => storage_error(error).map(Err),
        }
    }
}

fn draw_name(object: &mut Object) {
    let base: String = meta(object, "generateName").chars().take(BASE_LIMIT).collect();
    let name = format!("{base}{}", id::random_suffix(5));
    metadata_of(object).insert("name".into(), name.into());
}

fn check(resource: &Resource, object: &Object, errors: &mut Vec<FieldError>) {
    let empty = Map::new();
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    validation::metadata(metadata, resource.strategy.names(), errors);
    resource.strategy.validate(object, errors);
}

/// A marked object that nothing holds any more.
pub(super) fn may_go(resource: &Resource, object: &Object) -> bool {
    let Some(metadata) = object.get("metadata").and_then(Value::as_object) else { return false };
    metadata.contains_key("deletionTimestamp")
        && metadata.get("finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && metadata.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0
        && resource.strategy.may_go(object)
}

/// Members of metadata that a client cannot change.
fn carry(new: &mut Object, old: &Object) {
    let before = old.get("metadata").and_then(Value::as_object);
    let of = |name: &str| before.and_then(|b| b.get(name)).cloned();
    let metadata = metadata_of(new);
    for name in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        match of(name) {
            Some(value) => metadata.insert(name.into(), value),
            None => metadata.remove(name),
        };
    }
    for name in ["uid", "name", "namespace", "generateName"] {
        if !metadata.contains_key(name)
            && let Some(value) = of(name)
        {
            metadata.insert(name.into(), value);
        }
    }
}

/// Gives `new` the members of `old` but for the free ones; what is equal is not copied.
fn keep(new: &mut Map<String, Value>, old: &Map<String, Value>, free: impl Fn(&str) -> bool) {
    new.retain(|name, _| free(name) || old.contains_key(name));
    for (name, value) in old {
        if !free(name) && new.get(name) != Some(value) {
            new.insert(name.clone(), value.clone());
        }
    }
}

/// Takes from `new` only what may come through the door.
fn settle_door(resource: &Resource, new: &mut Object, old: &Object, door: Door) {
    match door {
        Door::Main if resource.has_status() => match old.get("status") {
            Some(status) if new.get("status") == Some(status) => {}
            Some(status) => drop(new.insert("status".into(), status.clone())),
            None => drop(new.remove("status")),
        },
        Door::Status => {
            keep(new, old, |name| matches!(name, "status" | "metadata"));
            let free = |name: &str| match name {
                "labels" | "annotations" | "resourceVersion" | "uid" | "managedFields" => true,
                "finalizers" => resource.strategy.has_generation(),
                _ => false,
            };
            if let Some(Value::Object(before)) = old.get("metadata") {
                keep(metadata_of(new), before, free);
            }
        }
        Door::Main | Door::Finalize | Door::Ephemeral | Door::Resize | Door::Binding => {}
    }
}

fn subresource(door: Door) -> &'static str {
    match door {
        Door::Main => "",
        Door::Status => "status",
        Door::Finalize => "finalize",
        Door::Ephemeral => "ephemeralcontainers",
        Door::Resize => "resize",
        Door::Binding => "binding",
    }
}

fn prepare(
    resource: &'static Resource,
    old: &Object,
    mut new: Object,
    door: Door,
    options: &WriteOptions,
    now: Timestamp,
) -> Result<Object, ApiError> {
    let name = meta(old, "name").to_owned();
    carry(&mut new, old);
    settle_door(resource, &mut new, old, door);
    if door == Door::Binding {
        return Ok(new);
    }
    resource.strategy.prepare_update(&mut new, old, door);
    generation(resource, old, &mut new);
    fields::on_update(resource, old, &mut new, &options.manager, subresource(door), now);
    let empty = Map::new();
    let mut errors = Vec::new();
    validation::metadata_update(
        new.get("metadata").and_then(Value::as_object).unwrap_or(&empty),
        old.get("metadata").and_then(Value::as_object).unwrap_or(&empty),
        &mut errors,
    );
    if errors.is_empty() {
        if door == Door::Main {
            check(resource, &new, &mut errors);
        }
        resource.strategy.validate_update(&new, old, door, &mut errors);
    }
    if errors.is_empty() { Ok(new) } else { Err(ApiError::invalid(resource.kind, &name, errors)) }
}

/// Counts a change outside metadata and status.
fn generation(resource: &Resource, old: &Object, new: &mut Object) {
    let before = old.get("metadata").and_then(|m| m.get("generation")).and_then(Value::as_i64);
    let mut value = before;
    if resource.strategy.has_generation() {
        let relevant = |o: &Object, name: &str| o.get(name).cloned();
        let names = ["spec"];
        if names.iter().any(|n| relevant(old, n) != relevant(new, n)) {
            value = Some(before.unwrap_or(0) + 1);
        }
    }
    let metadata = metadata_of(new);
    match value {
        Some(number) => drop(metadata.insert("generation".into(), number.into())),
        None => drop(metadata.remove("generation")),
    }
}
