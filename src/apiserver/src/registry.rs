//! The served resources: what discovery says about each, its type table and its strategy. Called by the handlers.
//!
//! Invariant: a resource is served exactly when the facts list it and a strategy stands here.

use std::sync::LazyLock;

use crate::facts::{ResourceFacts, Struct, facts};

pub mod core;
pub mod deletion;
pub mod options;
pub mod store;
pub mod strategy;

use strategy::Strategy;

/// A served resource.
pub struct Resource {
    /// Plural name.
    pub name: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What discovery says.
    pub facts: &'static ResourceFacts,
    /// Its type.
    pub table: &'static Struct,
    /// What its kind adds to the generic store.
    pub strategy: &'static dyn Strategy,
    subresources: Vec<&'static ResourceFacts>,
}

impl Resource {
    /// The subresource of this name, if served.
    pub fn subresource(&self, name: &str) -> Option<&'static ResourceFacts> {
        self.subresources.iter().copied().find(|s| s.name.split_once('/').is_some_and(|(_, sub)| sub == name))
    }

    /// Whether `/status` is its own door.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

static RESOURCES: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    let all = &facts().resources;
    let strategies = core::strategies();
    let served = all.iter().filter(|r| !r.name.contains('/')).filter_map(|found| {
        let strategy = strategies.iter().find(|(name, _)| *name == found.name).map(|(_, s)| *s)?;
        Some(Resource {
            name: &found.name,
            kind: &found.kind,
            namespaced: found.namespaced,
            facts: found,
            table: facts().named(&found.kind)?,
            strategy,
            subresources: all
                .iter()
                .filter(|r| r.name.split_once('/').is_some_and(|(of, _)| of == found.name))
                .collect(),
        })
    });
    served.collect()
});

/// All served resources.
pub fn all() -> &'static [Resource] {
    &RESOURCES
}

/// The served resource with this plural name.
pub fn find(name: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.name == name)
}
