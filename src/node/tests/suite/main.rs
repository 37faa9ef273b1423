//! The node agent, for real: pods of a small API in memory become boxed processes of this machine.
//!
//! This test program is also the shim and the pip front that the agent starts (see [`role`]).
#![allow(clippy::unwrap_used)] // a test's failure is its panic

mod api;
mod ordinary;
mod pods;
mod python;
mod role;
mod world;
