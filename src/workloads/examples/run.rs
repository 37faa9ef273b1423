//! Runs the controllers alone against an API server: `cargo run -p workloads --example run -- URL TOKEN`.
//!
//! Invariant: never part of the product.

use anyhow::{Context as _, Result};
use foundation::clock::Clock;
use foundation::tasks::Tasks;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().context("usage: run URL TOKEN")?.parse().context("parse the URL")?;
    let token = arguments.next().context("usage: run URL TOKEN")?;
    let mut config = kube::Config::new(url);
    config.auth_info.token = Some(token.into());
    let client = kube::Client::try_from(config)?;
    let tasks = Tasks::root("run");
    let options = workloads::Options { clock: Clock::system(), root_ca: None };
    workloads::start(&tasks, options, |_| client.clone());
    std::future::pending().await
}
