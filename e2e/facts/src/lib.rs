//! Generates the tables of facts from Kubernetes' published definitions.
