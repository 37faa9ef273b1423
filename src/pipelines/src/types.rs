//! The nouns of pipelines and their states: closed enums, no wire names, no storage.

pub mod artifact;
pub mod experiment;
pub mod pipeline;
pub mod run;
pub mod task;
