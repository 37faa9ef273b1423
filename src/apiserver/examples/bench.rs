//! Times calls of an unchanged kube-rs client in process: `cargo run --profile e2e -p apiserver --example bench -- FOLDER`.
//!
//! Invariant: prints medians of this run on this machine, nothing else.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use apiserver::node_proxy::NodeProxy;
use apiserver::server::{Config, Server};
use auth::authenticator::Authenticator;
use auth::authorizer::Authorizer;
use auth::identity::Identity;
use auth::sessions::Sessions;
use auth::tokens::Tokens;
use foundation::clock::Clock;
use foundation::tasks::Tasks;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchParams};
use records::{Db, Options};
use serde_json::{Value, json};

const ROUNDS: usize = 300;
const TOGETHER: usize = 32;

fn server(folder: &str) -> Result<(Server, Db)> {
    let db = Db::open(Options::at(folder))?;
    let clock = Clock::system();
    let authorizer = Authorizer::default();
    let (tokens, sessions) = (Tokens::new(db.clone(), clock.clone()), Sessions::new(db.clone(), clock.clone()));
    let server = Server::new(Config {
        db: db.clone(),
        authenticator: Authenticator::new(tokens, sessions, None, authorizer.clone()),
        authorizer,
        clock,
        tasks: Tasks::root("bench"),
        node_proxy: NodeProxy::default(),
        metrics: telemetry::metrics::Metrics::default(),
    });
    Ok((server, db))
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_micros();
    println!("{what:34} p50 {:6} µs   p99 {:6} µs", at(50), at(99));
}

async fn timed<T, F: Future<Output = kube::Result<T>>>(what: &str, mut call: impl FnMut(usize) -> F) -> Result<()> {
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        call(round).await?;
        times.push(begun.elapsed());
    }
    report(what, times);
    Ok(())
}

fn pod(name: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": false, "containers": [{
            "name": "main", "image": "busybox:1.36", "command": ["sh", "-c", "true"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        }]},
    }))?)
}

fn running() -> Value {
    json!({"status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0, "image": "busybox:1.36",
            "imageID": "x", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}})
}

async fn watch_latency(maps: &Api<ConfigMap>) -> Result<()> {
    let params = WatchParams::default().timeout(200);
    let now = maps.list(&ListParams::default().limit(1)).await?.metadata.resource_version.context("a version")?;
    let mut events = maps.watch(&params, &now).await?.boxed();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let patch = Patch::Merge(json!({"data": {"k": format!("w{round}")}}));
        maps.patch("m0", &PatchParams::default(), &patch).await?;
        events.try_next().await?.context("an event")?;
        times.push(begun.elapsed());
    }
    report("patch until its watch event", times);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("usage: bench FOLDER")?;
    let (server, db) = server(&folder)?;
    server.bootstrap().await?;
    let client = server.client(Identity::service("bench"), "default");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let (post, patch) = (PostParams::default(), PatchParams::default());
    for number in 0..100 {
        let map = json!({"metadata": {"name": format!("m{number}")}, "data": {"k": "v"}});
        maps.create(&post, &serde_json::from_value(map)?).await?;
    }
    timed("get one ConfigMap", |_| maps.get("m1")).await?;
    let all = ListParams::default();
    timed("list 100 ConfigMaps", |_| maps.list(&all)).await?;
    let bodies: Vec<Pod> = (0..ROUNDS).map(|n| pod(&format!("p{n}"))).collect::<Result<_>>()?;
    timed("create a pod (durable)", |n| pods.create(&post, &bodies[n])).await?;
    let status = Patch::Strategic(running());
    let names: Vec<String> = (0..ROUNDS).map(|n| format!("p{n}")).collect();
    timed("patch a pod's status (durable)", |n| pods.patch_status(&names[n], &patch, &status)).await?;
    timed("get one pod", |n| pods.get(&names[n])).await?;
    watch_latency(&maps).await?;
    let begun = Instant::now();
    let many = 2000;
    stream::iter(0..many)
        .map(|n| {
            let (pods, post) = (pods.clone(), post.clone());
            async move { pods.create(&post, &pod(&format!("q{n}")).expect("a pod")).await }
        })
        .buffer_unordered(TOGETHER)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    println!("{TOGETHER} writers: {:.0} creates/s", many as f64 / begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let listed = pods.list(&all).await?.items.len();
    println!("list of {listed} pods: {} ms", begun.elapsed().as_millis());
    db.close().await?;
    Ok(())
}
