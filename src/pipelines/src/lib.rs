//! Kubeflow Pipelines: the IR, the engine, the v2beta1 API and the launcher.

pub mod engine;
pub mod ir;
pub mod types;
