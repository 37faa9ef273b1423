//! The shim, for real: this test program is also the shim that the tests start (see [`role`]).
//!
#![allow(clippy::unwrap_used)] // a test's failure is its panic

mod life;
mod ordinary;
mod role;
mod world;
