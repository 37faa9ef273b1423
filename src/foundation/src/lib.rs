//! The few mechanisms that every crate shares: a closed list, not a drawer.
//!
//! Invariant: nothing here knows a capability, a protocol or a file format; a new module needs a reason in
//! `ARCHITECTURE.md`.

pub mod backoff;
pub mod clock;
pub mod id;
pub mod problem;
pub mod progress;
pub mod secret;
pub mod tasks;
