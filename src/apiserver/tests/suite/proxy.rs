//! The way to the node: logs, their errors, a handler that panics, and an upgrade in process.

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::get;
use futures::{SinkExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{LogParams, PostParams};
use serde_json::{Value, json};

use crate::house::{House, code};

fn node_router() -> Router {
    Router::new()
        .route("/containerLogs/default/p/c", get(|| async { "line\n" }))
        .route("/containerLogs/default/p/bad", get(|| async { (http::StatusCode::BAD_REQUEST, "is waiting to start") }))
        .route("/containerLogs/default/p/panics", get(panics))
        .route(
            "/exec/default/p/c",
            get(|upgrade: WebSocketUpgrade| async {
                upgrade.protocols(["v5.channel.k8s.io", "v4.channel.k8s.io"]).on_upgrade(|mut socket| async move {
                    while let Some(Ok(message)) = socket.next().await {
                        if matches!(message, Message::Close(_)) || socket.send(message).await.is_err() {
                            break;
                        }
                    }
                })
            }),
        )
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

async fn with_pod() -> (House, Api<Pod>) {
    let house = House::new().await;
    house.node.connect(node_router());
    let nodes: Api<Node> = Api::all(house.client());
    let node = serde_json::from_value(json!({"metadata": {"name": "n"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(house.client());
    let containers: Vec<Value> = ["c", "bad", "panics"].iter().map(|n| json!({"name": n, "image": "i"})).collect();
    let body = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}});
    pods.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    (house, pods)
}

fn container(name: &str) -> LogParams {
    LogParams { container: Some(name.into()), ..LogParams::default() }
}

#[tokio::test]
async fn logs_come_from_the_node_and_its_errors_become_status() {
    let (_house, pods) = with_pod().await;
    assert_eq!(pods.logs("p", &container("c")).await.unwrap(), "line\n");
    assert_eq!(code(pods.logs("p", &container("bad")).await), 400);
    assert_eq!(code(pods.logs("p", &container("zz")).await), 400);
    assert_eq!(code(pods.logs("p", &LogParams::default()).await), 400);
    assert_eq!(code(pods.logs("nonesuch", &container("c")).await), 404);
}

#[tokio::test]
async fn a_panic_in_a_handler_is_an_answer_and_not_the_callers_end() {
    let (_house, pods) = with_pod().await;
    assert_eq!(code(pods.logs("p", &container("panics")).await), 500);
    assert!(pods.get("p").await.is_ok());
}

#[tokio::test]
async fn an_upgrade_works_in_process() {
    let (house, _pods) = with_pod().await;
    let request = http::Request::get("/api/v1/namespaces/default/pods/p/exec?container=c&command=x&stdin=true");
    let connection = house.client().connect(request.body(Vec::new()).unwrap()).await.unwrap();
    let mut socket = connection.into_stream();
    socket.send("hello".to_owned().into()).await.unwrap();
    let back = socket.next().await.unwrap().unwrap();
    assert_eq!(back.to_text().unwrap(), "hello");
}
