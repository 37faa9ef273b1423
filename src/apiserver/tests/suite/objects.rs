//! Objects: locking, no-ops, finalizers, paging at one revision, pods' life in the store, events.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::house::{House, code};

#[tokio::test]
async fn a_stale_replace_conflicts_and_a_write_without_a_change_is_none() {
    let house = House::new().await;
    let maps = house.maps();
    let first = house.map("a").await;
    let mut changed = first.clone();
    changed.data.get_or_insert_default().insert("k".into(), "w".into());
    let second = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(code(maps.replace("a", &PostParams::default(), &first).await), 409);
    let same = maps.replace("a", &PostParams::default(), &second).await.unwrap();
    assert_eq!(same.resource_version(), second.resource_version());
    let patch = Patch::Merge(json!({"data": {"k": "w", "absent": null}}));
    let same = maps.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(same.resource_version(), second.resource_version());
}

#[tokio::test]
async fn an_object_with_finalizers_stays_until_the_last_is_gone() {
    let house = House::new().await;
    let maps = house.maps();
    let body = json!({"metadata": {"name": "f", "finalizers": ["x.example/a"]}});
    maps.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let marked = maps.delete("f", &DeleteParams::default()).await.unwrap().left().expect("the object stays");
    assert!(marked.metadata.deletion_timestamp.is_some());
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["x.example/a", "x.example/b"]}}));
    assert_eq!(code(maps.patch("f", &PatchParams::default(), &more).await), 422);
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("f", &PatchParams::default(), &none).await.unwrap();
    assert_eq!(code(maps.get("f").await), 404);
}

#[tokio::test]
async fn all_pages_of_a_list_show_one_state() {
    let house = House::new().await;
    let maps = house.maps();
    for number in 0..7 {
        house.map(&format!("c{number}")).await;
    }
    let mut params = ListParams::default().limit(3);
    let first = maps.list(&params).await.unwrap();
    house.map("c00").await;
    maps.delete("c6", &DeleteParams::default()).await.unwrap();
    let mut names: Vec<String> = first.iter().map(|m| m.name_any()).collect();
    assert_eq!(first.metadata.remaining_item_count, Some(4));
    let mut token = first.metadata.continue_.clone();
    while let Some(next) = token.filter(|t| !t.is_empty()) {
        params = ListParams::default().limit(3).continue_token(&next);
        let page = maps.list(&params).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        names.extend(page.iter().map(|m| m.name_any()));
        token = page.metadata.continue_.clone();
    }
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
}

#[tokio::test]
async fn a_pod_is_bound_once_and_goes_gracefully() {
    let house = House::new().await;
    let pods: Api<Pod> = Api::default_namespaced(house.client());
    let body = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pod = pods.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
    let spec = pod.spec.clone().unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Always"));
    let bind = |node: &str| {
        let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": node}});
        let pods = pods.clone();
        async move { pods.create_subresource::<_, Value>("binding", "p", &PostParams::default(), &binding).await }
    };
    bind("n1").await.unwrap();
    assert_eq!(code(bind("n2").await), 409);
    let status = json!({"status": {"phase": "Running", "podIP": "10.0.0.1"}, "spec": {"nodeName": "zz"}});
    let running = pods.patch_status("p", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(running.spec.unwrap().node_name.as_deref(), Some("n1"));
    let main = json!({"status": {"phase": "Failed"}, "metadata": {"labels": {"a": "b"}}});
    let labelled = pods.patch("p", &PatchParams::default(), &Patch::Merge(main)).await.unwrap();
    assert_eq!(labelled.status.unwrap().phase.as_deref(), Some("Running"));
    let found = pods.list(&ListParams::default().fields("spec.nodeName=n1,status.phase=Running").labels("a=b")).await;
    assert_eq!(found.unwrap().items.len(), 1);
    let going = pods.delete("p", &DeleteParams::default()).await.unwrap().left().expect("it stays for its grace");
    assert_eq!(going.metadata.deletion_grace_period_seconds, Some(30));
    assert_eq!(going.metadata.generation, Some(2));
    let wrong = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some("other".into()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(code(pods.delete("p", &wrong).await), 409);
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(code(pods.get("p").await), 404);
}

#[tokio::test]
async fn creates_need_a_namespace_that_is_not_ending() {
    let house = House::new().await;
    let spaces: Api<Namespace> = Api::all(house.client());
    spaces
        .create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": "x"}})).unwrap())
        .await
        .unwrap();
    spaces.delete("x", &DeleteParams::default()).await.unwrap();
    let body: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    let there: Api<ConfigMap> = Api::namespaced(house.client(), "x");
    assert_eq!(code(there.create(&PostParams::default(), &body).await), 403);
    let absent: Api<ConfigMap> = Api::namespaced(house.client(), "nonesuch");
    assert_eq!(code(absent.create(&PostParams::default(), &body).await), 404);
    assert_eq!(code(spaces.delete("default", &DeleteParams::default()).await), 403);
}

#[tokio::test]
async fn objects_and_revisions_outlive_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..3 {
        let db = records::Db::open(records::Options::at(folder.path())).unwrap();
        let clock = foundation::clock::Clock::system();
        let authorizer = auth::authorizer::Authorizer::default();
        let server = apiserver::server::Server::new(apiserver::server::Config {
            authenticator: auth::authenticator::Authenticator::new(
                auth::tokens::Tokens::new(db.clone(), clock.clone()),
                auth::sessions::Sessions::new(db.clone(), clock.clone()),
                None,
                authorizer.clone(),
            ),
            db: db.clone(),
            authorizer,
            clock,
            tasks: foundation::tasks::Tasks::root("test"),
            node_proxy: apiserver::node_proxy::NodeProxy::default(),
            metrics: telemetry::metrics::Metrics::default(),
        });
        server.bootstrap().await.unwrap();
        let nodes: Api<Node> = Api::all(server.client(auth::identity::Identity::service("test"), "default"));
        let body = json!({"metadata": {"name": format!("n{round}")}});
        let made = nodes.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.unwrap();
        let revision: u64 = made.resource_version().unwrap().parse().unwrap();
        assert!(revision > last);
        last = revision;
        assert_eq!(nodes.list(&ListParams::default()).await.unwrap().items.len(), round + 1);
        db.close().await.unwrap();
    }
}
