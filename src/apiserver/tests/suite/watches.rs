//! Watches: nothing is lost between list and watch, streaming lists, bookmarks, 410, selectors.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::house::{House, LIMIT};

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it did not happen in time")
}

fn applied(event: Event<ConfigMap>) -> Option<String> {
    match event {
        Event::InitApply(map) | Event::Apply(map) => Some(map.name_any()),
        _ => None,
    }
}

#[tokio::test]
async fn a_write_between_list_and_watch_is_not_lost() {
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let house = House::new().await;
        house.map("a").await;
        let mut events = watcher::watcher(house.maps(), config).boxed();
        // The watcher has listed but not begun to watch.
        loop {
            if matches!(within(events.next()).await.unwrap().unwrap(), Event::InitDone) {
                break;
            }
        }
        house.map("b").await;
        house.maps().delete("a", &DeleteParams::default()).await.unwrap();
        let next = within(events.next()).await.unwrap().unwrap();
        assert_eq!(applied(next).as_deref(), Some("b"));
        assert!(matches!(within(events.next()).await.unwrap().unwrap(), Event::Delete(m) if m.name_any() == "a"));
    }
}

#[tokio::test]
async fn an_old_revision_is_answered_with_410_and_the_watcher_lists_again() {
    let house = House::with(|options| {
        options.history = Duration::ZERO;
        options.history_bytes = 0;
    })
    .await;
    house.map("a").await;
    let maps = house.maps();
    let old = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    for name in ["b", "c", "d"] {
        house.map(name).await;
    }
    let stream = maps.watch(&WatchParams::default(), &old).await.unwrap();
    let events: Vec<WatchEvent<ConfigMap>> = within(stream.try_collect()).await.unwrap();
    assert!(matches!(&events[..], [WatchEvent::Error(status)] if status.code == 410), "{events:?}");
}

#[tokio::test]
async fn bookmarks_come_before_the_end_and_carry_the_revision() {
    let house = House::new().await;
    let maps = house.maps();
    let params = WatchParams::default().timeout(3);
    let stream = maps.watch(&params, "0").await.unwrap();
    house.map("a").await;
    let events: Vec<WatchEvent<ConfigMap>> = within(stream.try_collect()).await.unwrap();
    let last = maps.get("a").await.unwrap().resource_version().unwrap();
    assert!(
        matches!(&events[..], [.., WatchEvent::Bookmark(mark)] if mark.metadata.resource_version == last),
        "{events:?}"
    );
}

#[tokio::test]
async fn selectors_turn_changes_into_added_and_deleted() {
    let house = House::new().await;
    let maps = house.maps();
    let params = WatchParams::default().labels("in=yes").timeout(20);
    let mut stream = maps.watch(&params, "0").await.unwrap().boxed();
    house.map("a").await;
    let label = async |value: &str| {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"in": value}}}));
        maps.patch("a", &PatchParams::default(), &patch).await.unwrap()
    };
    let added = label("yes").await;
    let changed = label("no").await;
    let first = within(stream.try_next()).await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Added(m) if m.resource_version() == added.resource_version()));
    let second = within(stream.try_next()).await.unwrap().unwrap();
    let WatchEvent::Deleted(gone) = second else { panic!("not deleted: {second:?}") };
    assert_eq!(gone.resource_version(), changed.resource_version());
    assert_eq!(gone.labels()["in"], "yes");
}

#[tokio::test]
async fn a_write_goes_on_when_its_caller_leaves() {
    let house = House::new().await;
    let maps = house.maps();
    for number in 0..20 {
        let name = format!("m{number}");
        let body: ConfigMap = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        let params = kube::api::PostParams::default();
        let mut create = Box::pin(maps.create(&params, &body));
        // Polled until it is on its way, then dropped.
        for _ in 0..50 {
            tokio::select! {
                biased;
                _ = &mut create => break,
                () = tokio::task::yield_now() => {}
            }
        }
        drop(create);
    }
    let api: Api<ConfigMap> = house.maps();
    let all_there = async {
        loop {
            if api.list(&ListParams::default()).await.unwrap().items.len() == 20 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within(all_there).await;
}
