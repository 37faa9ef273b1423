//! The API through an unchanged kube-rs client in process: what a controller relies on.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

mod house;
mod objects;
mod proxy;
mod watches;
