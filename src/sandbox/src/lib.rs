//! How a process is boxed: namespaces, mounts, limits, seccomp. Called by `shim` (containers) and by `node` (the shim itself, the probe).
//!
//! Invariant: nothing in here reads configuration or knows what a pod is; it carries out a [`spec::Spec`].
//! Invariant: what clones, unshares or joins a namespace runs in a process with a single thread.
#![allow(unsafe_code)] // the one crate that speaks to the kernel without a wrapper: clone3, mount_setattr, capset, prctl

pub mod capabilities;
pub mod error;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod rlimits;
pub mod seccomp;
pub mod spawn;
pub mod spec;
pub mod support;
mod sys;
