//! The API through an unchanged kube-rs client in process: what a controller relies on.

mod house;
mod objects;
mod proxy;
mod watches;
