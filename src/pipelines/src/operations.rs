//! What a caller may ask for: the same for the API, the pages and the command line.
//!
//! Each operation takes the [`Caller`] first and asks what it may do before it does anything. Nothing here knows HTTP.

mod artifacts;
mod experiments;
mod follow;
pub mod listing;
mod pipelines;
mod runs;

use ::artifacts::store::Store as Artifacts;
use auth::authorizer::Attributes;
use auth::caller::Caller;
use foundation::problem::{Kind, Problem};

use crate::logs::LogBook;
use crate::store::{Error, Store};

pub use experiments::NewExperiment;
pub use follow::LogLines;
pub use pipelines::{NewVersion, Upload};
pub(crate) use runs::state_name;
pub use runs::{NewRun, RunSource, RunView};

/// The API group that rights on pipelines are about. Source: KFP's SubjectAccessReviews.
const GROUP: &str = "pipelines.kubeflow.org";

/// The operations. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    pub(crate) store: Store,
    pub(crate) artifacts: Artifacts,
    namespace: String,
    pub(crate) logs: LogBook,
}

impl Operations {
    /// Operations over a store, for one user whose runs live in `namespace`; logs of steps are in `logs`.
    pub fn new(store: Store, artifacts: Artifacts, namespace: &str, logs: LogBook) -> Self {
        Self { store, artifacts, namespace: namespace.to_owned(), logs }
    }

    /// The ids of runs as they change.
    pub fn changes(&self) -> tokio::sync::broadcast::Receiver<String> {
        self.store.changes()
    }

    /// The revision up to which everything that is read now is known.
    pub fn revision(&self) -> u64 {
        self.store.revision()
    }

    /// The time of day.
    pub fn now(&self) -> jiff::Timestamp {
        self.store.now()
    }

    /// What lists are made of, for parts of the platform.
    pub fn library(&self) -> &crate::store::Library {
        self.store.library()
    }

    /// Where runs live. With one user the wire prints no namespace and any that is given is ignored, as upstream does.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn allow(&self, caller: &Caller, verb: &str, resource: &str) -> Result<(), Problem> {
        caller.may(&Attributes { verb, group: GROUP, resource, namespace: &self.namespace, ..Attributes::default() })
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NotFound { .. } => Self::not_found(text),
            Error::AlreadyExists { .. } => Self::new(Kind::AlreadyExists, text),
            Error::Stale(_) => Self::new(Kind::Conflict, text).remedy("Try again."),
            Error::Full { .. } => Self::new(Kind::Full, text).remedy("Free some space; nothing was changed."),
            Error::Row(source) => Self::internal("A stored row could not be read or written", source),
            Error::TooLarge { .. } => Self::new(Kind::TooLarge, text),
            Error::Damaged(_) => Self::new(Kind::Internal, text),
            Error::Cold(source) => Self::new(Kind::Unavailable, "Finished runs cannot be read now")
                .caused_by(source)
                .remedy("Try again soon."),
            Error::Unavailable(source) => {
                Self::new(Kind::Unavailable, "The store does not take writes").caused_by(source)
            }
        }
    }
}
