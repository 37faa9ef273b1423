//! What a kind may add to the generic store: defaults, admission, preparation, validation, columns, field labels.
//!
//! Invariant: a strategy decides about one object; it never writes and never sees a request.

use jiff::Timestamp;
use serde_json::Value;

use crate::status::{ApiError, FieldError};
use crate::storage::Object;
use crate::table::Column;
use crate::validation::{self, NameRule};

/// Which door an update came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The object's own path: status is kept as it was.
    Main,
    /// `/status`: only status (and labels and annotations) changes.
    Status,
    /// `/finalize` of namespaces: only `spec.finalizers` changes.
    Finalize,
    /// `/ephemeralcontainers` of pods.
    Ephemeral,
    /// `/resize` of pods.
    Resize,
    /// What the server itself changes (binding, eviction): nobody comes to own it and generation stays.
    Binding,
}

/// Looks at other objects while one is being admitted.
pub trait Reader {
    /// The object, if it is there.
    fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<Object>;
}

/// What deletion of an object does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graceful {
    /// It goes at once.
    Not,
    /// It is marked and goes after this many seconds, or when its owner says so; 0 marks and removes.
    After(i64),
    /// It is marked, and its own finalizers decide.
    Marked,
}

/// See the module.
pub trait Strategy: Sync + Send {
    /// How names are checked.
    fn names(&self) -> NameRule {
        validation::subdomain
    }

    /// Whether `metadata.generation` counts changes.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether status may be given on create.
    fn status_on_create(&self) -> bool {
        false
    }

    /// Whether an absent object is created by PUT.
    fn put_creates(&self) -> bool {
        false
    }

    /// Whether DELETE answers the object even when it is gone.
    fn delete_answers_object(&self) -> bool {
        false
    }

    /// Fills in what Kubernetes' versioned defaults fill in.
    fn default(&self, _object: &mut Object) {}

    /// Admission of a create: may look at other objects, change the object, refuse it.
    fn admit(&self, _reader: &dyn Reader, _namespace: &str, _object: &mut Object) -> Result<(), ApiError> {
        Ok(())
    }

    /// Last changes before a create is validated.
    fn prepare_create(&self, _object: &mut Object) {}

    /// Last changes before an update is validated; status was settled by the door.
    fn prepare_update(&self, _new: &mut Object, _old: &Object, _door: Door) {}

    /// Checks an object.
    fn validate(&self, _object: &Object, _errors: &mut Vec<FieldError>) {}

    /// Checks an update besides `validate`.
    fn validate_update(&self, _new: &Object, _old: &Object, _door: Door, _errors: &mut Vec<FieldError>) {}

    /// What deletion does first.
    fn graceful(&self, _object: &Object, _grace: Option<i64>) -> Graceful {
        Graceful::Not
    }

    /// Refuses a deletion.
    fn may_delete(&self, _name: &str) -> Result<(), ApiError> {
        Ok(())
    }

    /// Changes the object when it is marked as being deleted.
    fn mark(&self, _object: &mut Object) {}

    /// Whether a marked object without finalizers may go.
    fn may_go(&self, _object: &Object) -> bool {
        true
    }

    /// Field labels besides `metadata.name` and `metadata.namespace`.
    fn field_labels(&self) -> &'static [&'static str] {
        &[]
    }

    /// The value of a field label.
    fn field(&self, _object: &Object, _label: &str) -> Option<String> {
        None
    }

    /// Columns of its Table.
    fn columns(&self) -> &'static [Column] {
        &crate::table::PLAIN
    }

    /// Cells of its row, in the order of the columns.
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![crate::table::name(object), crate::table::age(object, now)]
    }

    /// `conditions` of its row.
    fn row_conditions(&self, _object: &Object) -> Option<Value> {
        None
    }
}
