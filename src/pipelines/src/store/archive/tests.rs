//! Runs of a real store in a temporary folder: out of memory and back.

use std::path::Path;

use foundation::clock::Clock;
use jiff::Timestamp;
use records::{Db, Options};
use serde_json::{Map, Value, json};

use crate::engine::{Cache, Item, Write};
use crate::store::tables::{ARCHIVE, ARCHIVED, ITEMS, REQUESTS, TASKS, chunk_key};
use crate::store::{Error, NewRun, RunParts, Store};
use crate::types::experiment::Storage;
use crate::types::run::{Request, StartedBy, State, Summary};
use crate::types::task::{self, Kind, Task};

const DOCUMENT: &str = r#"{
    "pipelineInfo": {"name": "numbers"}, "schemaVersion": "2.1.0",
    "root": {"dag": {"tasks": {"a": {"taskInfo": {"name": "a"}, "componentRef": {"name": "comp-a"}}}}},
    "components": {"comp-a": {"executorLabel": "exec-a"}},
    "deploymentSpec": {"executors": {"exec-a": {"container": {"image": "alpine", "command": ["true"]}}}}
}"#;

fn open(folder: &Path) -> (Db, Store) {
    let db = Db::open(Options::at(folder)).expect("a store");
    (db.clone(), Store::open(db, Clock::system()).expect("tables"))
}

fn summary(id: &str, state: State) -> Summary {
    Summary {
        id: id.to_owned(),
        name: "a run".to_owned(),
        description: String::new(),
        namespace: "kubeflow".to_owned(),
        experiment_id: "experiment".to_owned(),
        experiment_name: "Default".to_owned(),
        pipeline_id: None,
        version_id: None,
        pipeline_name: "numbers".to_owned(),
        version_name: None,
        state,
        storage: Storage::Available,
        created_at: Timestamp::UNIX_EPOCH,
        scheduled_at: Timestamp::UNIX_EPOCH,
        finished_at: None,
        history: Vec::new(),
        started_by: StartedBy::default(),
        steps_done: 0,
        steps_known: 0,
        strip: Vec::new(),
        failure: None,
        metrics: Map::new(),
    }
}

fn task(path: &str, text: &str) -> Task {
    let mut task = crate::engine::leaves::blank(Kind::Container);
    task.path = path.to_owned();
    task.name = path.to_owned();
    task.state = task::State::Succeeded;
    task.fingerprint = Some(format!("print of {path}"));
    task.outputs.parameters.insert("text".to_owned(), Value::String(text.to_owned()));
    task
}

/// A run that has ended in `state` with these tasks.
async fn finished(store: &Store, id: &str, state: State, tasks: Vec<Task>) -> RunParts {
    finished_of(store, id, state, tasks, serde_json::from_str(DOCUMENT).expect("JSON")).await
}

async fn finished_of(store: &Store, id: &str, state: State, tasks: Vec<Task>, document: Value) -> RunParts {
    let request = Request {
        document,
        parameters: Map::new(),
        pipeline_root: "minio://mlpipeline/v2/artifacts".to_owned(),
        service_account: String::new(),
        resource_name: "numbers-abcde".to_owned(),
        pipeline_root_given: String::new(),
    };
    let running = summary(id, State::Running);
    store.create_run(NewRun { summary: running.clone(), request }, Vec::new()).await.expect("stored");
    assert!(!store.archive(id).await.expect("looked at"), "a run at work stays");
    let version = store.run_version(id).expect("read").expect("at work");
    let mut writes = vec![Write::Items("loop".to_owned(), vec![Item::Value(json!(1)), Item::Value(json!("two"))])];
    for task in tasks {
        let (fingerprint, path) = (task.fingerprint.clone().unwrap_or_default(), task.path.clone());
        writes.push(Write::Task(Box::new(task)));
        writes.push(Write::Cache { fingerprint, path });
    }
    writes.push(Write::Run(Box::new(summary(id, state))));
    store.commit(&running, version, writes).await.expect("committed");
    store.run(id).await.expect("there")
}

fn rows_in_memory(db: &Db) -> usize {
    db.read(|view| [REQUESTS.raw(), TASKS.raw(), ITEMS.raw()].map(|table| view.range(table, b"", None, 99_999).len()))
        .iter()
        .sum()
}

fn same(a: &RunParts, b: &RunParts) {
    assert_eq!((&a.summary, &a.request, &a.tasks), (&b.summary, &b.request, &b.tasks));
}

/// After a start the index may still be made.
async fn read(store: &Store, id: &str) -> RunParts {
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match store.run(id).await {
            Err(Error::Cold(_)) if std::time::Instant::now() < give_up => tokio::task::yield_now().await,
            found => return found.expect("there"),
        }
    }
}

#[tokio::test]
async fn a_finished_run_leaves_memory_and_reads_as_before_also_after_a_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, store) = open(folder.path());
    let before = finished(&store, "one", State::Succeeded, vec![task("a", "x"), task("b", "ünï\n")]).await;
    assert_eq!(rows_in_memory(&db), 4);
    assert_eq!(store.unarchived(), ["one"]);
    assert!(store.archive("one").await.expect("archived"));
    assert!(!store.archive("one").await.expect("again"), "it is there already");
    assert_eq!((rows_in_memory(&db), store.unarchived()), (0, Vec::new()));
    same(&read(&store, "one").await, &before);
    let hit = store.cache("kubeflow", "numbers").find("print of b").expect("the cache needs no row of the run");
    assert_eq!(hit.outputs.parameters.get("text"), Some(&json!("ünï\n")));
    db.close().await.expect("closed");
    drop((db, store));
    let (_db, store) = open(folder.path());
    same(&read(&store, "one").await, &before);
}

#[tokio::test]
async fn a_run_that_does_not_fit_one_transaction_moves_in_parts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, store) = open(folder.path());
    let mut noise = 7u64;
    let mut text = || -> String {
        let mut next = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + u8::try_from((noise >> 40) % 90).unwrap_or_default())
        };
        (0..60_000).map(|_| next()).collect()
    };
    let tasks: Vec<Task> = (0..50).map(|number| task(&format!("t{number:03}"), &text())).collect();
    let before = finished(&store, "big", State::Failed, tasks).await;
    assert!(store.archive("big").await.expect("archived"));
    let archived = db.read(|view| ARCHIVED.get(view, "big")).expect("read").expect("archived");
    assert!(archived.chunks > 1, "{archived:?}");
    same(&read(&store, "big").await, &before);
    store.unarchive("big").await.expect("moved back");
    assert_eq!(rows_in_memory(&db), 52);
    same(&store.run("big").await.expect("there"), &before);
}

#[tokio::test]
async fn a_retried_run_comes_back_first_and_can_leave_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, store) = open(folder.path());
    let before = finished(&store, "one", State::Failed, vec![task("a", "x")]).await;
    store.archive("one").await.expect("archived");
    assert!(matches!(store.load("one"), Err(Error::NotFound { .. })), "the engine never sees half a run");
    store.unarchive("one").await.expect("moved back");
    store.unarchive("one").await.expect("twice changes nothing");
    let loaded = store.load("one").expect("whole");
    let mut again = loaded.state.run.clone();
    again.state = State::Running;
    store.commit(&loaded.state.run, 0, vec![Write::Run(Box::new(again.clone()))]).await.expect("goes on");
    assert!(!store.archive("one").await.expect("looked at"), "it is at work again");
    let version = store.run_version("one").expect("read").expect("at work");
    store.commit(&again, version, vec![Write::Run(Box::new(before.summary.clone()))]).await.expect("ended");
    assert!(store.archive("one").await.expect("archived"));
    same(&read(&store, "one").await, &before);
    assert_eq!(rows_in_memory(&db), 0);
}

#[tokio::test]
async fn a_deleted_run_leaves_nothing_and_serves_no_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let (db, store) = open(folder.path());
    finished(&store, "one", State::Succeeded, vec![task("a", "x")]).await;
    finished(&store, "two", State::Succeeded, vec![task("z", "x")]).await;
    store.archive("one").await.expect("archived");
    store.delete_run("one").await.expect("deleted");
    assert!(matches!(store.run("one").await, Err(Error::NotFound { .. })));
    let cold = db.cold().get(ARCHIVE, chunk_key("one", 0).as_bytes()).await;
    assert_eq!(cold.expect("answered"), None);
    let results = store.cache("kubeflow", "numbers");
    assert!(results.find("print of a").is_none());
    store.trim_results().await.expect("trimmed");
    let left = db.read(|view| crate::store::tables::CACHE.range(view, "", None, 9)).expect("read");
    assert_eq!(left.iter().map(|(_, row)| row.run_id.as_str()).collect::<Vec<_>>(), ["two"]);
    assert!(results.find("print of z").is_some());
}

/// Fills the folder that `KUBEFLOW_RUNS_FOLDER` names, for measurements of large stores (with `KUBEFLOW_RUNS` runs, 10,000 by
/// default). Without the variable it makes a few in a folder of its own, so that it cannot rot.
#[tokio::test(flavor = "multi_thread")]
async fn makes_finished_runs() {
    let own = tempfile::tempdir().expect("a folder");
    let wanted = std::env::var("KUBEFLOW_RUNS_FOLDER").ok();
    let default = if wanted.is_some() { 10_000 } else { 3 };
    let folder = wanted.unwrap_or_else(|| own.path().join("db").display().to_string());
    let count: usize = std::env::var("KUBEFLOW_RUNS").map_or(default, |count| count.parse().expect("a number"));
    let stay = std::env::var("KUBEFLOW_RUNS_STAY").is_ok();
    let (db, store) = open(Path::new(&folder));
    let document: Value =
        serde_saphyr::from_str(include_str!("../../../../../config/samples/digits/pipeline.yaml")).expect("YAML");
    let ids: Vec<String> = (0..count).map(|number| format!("run-{number:06}")).collect();
    for some in ids.chunks(32) {
        let runs = some.iter().map(|id| {
            let (store, document) = (store.clone(), document.clone());
            async move {
                let tasks = (0..20).map(|number| task(&format!("for-loop-1/{number}/train"), "a few words")).collect();
                finished_of(&store, id, State::Succeeded, tasks, document).await;
                if !stay {
                    assert!(store.archive(id).await.expect("archived"));
                }
            }
        });
        futures::future::join_all(runs).await;
    }
    db.close().await.expect("closed");
}
