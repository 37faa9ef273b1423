//! Kubeflow Pipelines: the IR, the engine, the v2beta1 API and the launcher.

pub mod api;
pub mod controller;
pub mod engine;
pub mod ir;
pub mod launcher;
pub mod logs;
pub mod operations;
pub mod store;
pub mod types;
