//! Serves the API alone on plain HTTP, without controllers or a node, for the replay suite and by hand:
//! `cargo run -p apiserver --example serve -- 127.0.0.1:18080 FOLDER [open]`. Prints a token of an admin; `open` takes
//! every request as the admin's, because kubectl sends no token over plain HTTP.
//!
//! Invariant: loopback only; never part of the product.

use anyhow::{Context as _, Result, ensure};
use apiserver::node_proxy::NodeProxy;
use apiserver::server::{Config, Server};
use auth::authenticator::Authenticator;
use auth::authorizer::Authorizer;
use auth::identity::Identity;
use auth::sessions::Sessions;
use auth::tokens::Tokens;
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use records::{Db, Options};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().context("usage: serve ADDRESS FOLDER")?;
    let folder = arguments.next().context("usage: serve ADDRESS FOLDER")?;
    ensure!(listen.starts_with("127.0.0.1:"), "only loopback");
    let db = Db::open(Options::at(folder))?;
    let clock = Clock::system();
    let tokens = Tokens::new(db.clone(), clock.clone());
    let token = tokens.mint("serve", Identity::admin("admin"), None).await?;
    let sessions = Sessions::new(db.clone(), clock.clone());
    let authorizer = Authorizer::default();
    let server = Server::new(Config {
        db: db.clone(),
        authenticator: Authenticator::new(tokens, sessions, None, authorizer.clone()),
        authorizer,
        clock,
        tasks: Tasks::root("serve"),
        node_proxy: NodeProxy::default(),
        metrics: telemetry::metrics::Metrics::default(),
    });
    server.bootstrap().await?;
    println!("token {}", token.expose());
    let listener = tokio::net::TcpListener::bind(&listen).await?;
    let mut router = server.router();
    if arguments.next().as_deref() == Some("open") {
        router = router.layer(axum::Extension(Identity::admin("admin")));
    }
    axum::serve(listener, router).await?;
    Ok(())
}
