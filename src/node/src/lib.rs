//! The node agent: pods as sandboxed local processes. Pods come from the API through `kube::Client`; each is held by its shim.
//!
//! Made by `kubeflow/platform`: [`agent::Agent`]. Also here: what stands in for images ([`images`], [`environments`]), logs
//! ([`server`]), and the hidden role of our binary inside pods ([`pip_front`]).
//! Invariant: it never asks which API server answers, and knows nothing of the crates that serve it.

pub mod agent;
mod boxes;
mod connection;
pub mod down;
pub mod environments;
mod host_config;
pub mod images;
mod layers;
mod limits;
pub mod logs;
mod notices;
pub mod pip_front;
pub mod pod;
pub mod python;
mod registration;
mod server;
mod sources;
mod variables;
mod volumes;
