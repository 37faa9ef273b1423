//! Strategies of group "", one file a kind.
//!
//! Invariant: the list here is the whole of what is served.

use super::strategy::Strategy;

pub mod config_map;
pub mod event;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod pod_checks;
pub mod pod_columns;
pub mod pod_defaults;
pub mod pod_update;
pub mod secret;
pub mod service_account;

/// Bindings are only created, through `pods/<name>/binding` or `bindings`.
struct Binding;

impl Strategy for Binding {}

/// Strategy by resource.
pub fn strategies() -> Vec<(&'static str, &'static dyn Strategy)> {
    vec![
        ("bindings", &Binding),
        ("configmaps", &config_map::ConfigMap),
        ("events", &event::Event),
        ("namespaces", &namespace::Namespace),
        ("nodes", &node::Node),
        ("pods", &pod::Pod),
        ("secrets", &secret::Secret),
        ("serviceaccounts", &service_account::ServiceAccount),
    ]
}
