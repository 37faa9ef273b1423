//! Patches and managed fields. Called by the patch handler and by the store.
//!
//! Invariant: pure; works on JSON and the tables of facts only.

pub mod fields;
pub mod json;
mod lists;
pub mod merge;
pub mod strategic;
