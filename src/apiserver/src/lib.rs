//! The embedded Kubernetes API: core/v1 on records, served on the TLS port and in process.
//!
//! A request walks `server` (authenticate, authorize) → `handlers` (one verb a file) → `registry` (the generic store
//! and a strategy per kind) → `storage` (records). What is known about kinds is in the tables of `facts`.
//!
//! Invariant: semantics are the real API server's; the recordings under `e2e/kube` win every argument.

pub mod discovery;
pub mod facts;
pub mod filters;
pub mod handlers;
pub mod negotiate;
pub mod node_proxy;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod registry;
pub mod request;
pub mod selector;
pub mod server;
pub mod status;
pub mod storage;
pub mod table;
pub mod time;
pub mod validation;
pub mod yaml;
