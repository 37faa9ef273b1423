//! Kubeflow Pipelines: the IR, the engine, the v2beta1 API and the launcher.
