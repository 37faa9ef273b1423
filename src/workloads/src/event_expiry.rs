//! Lets events go an hour after they happened last, as Kubernetes does.
//!
//! Invariant: reads in pages and deletes a few at a time, so that a busy hour does not come back as a burst.

use std::time::Duration;

use foundation::clock::Clock;
use foundation::tasks::Tasks;
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client};
use serde::Deserialize;

/// kube-apiserver's `--event-ttl`.
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
const LOOK_EVERY: Duration = Duration::from_secs(300);
const PAGE: u32 = 500;
const DELETES_AT_ONCE: usize = 4;

/// Starts the controller.
pub fn start(tasks: &Tasks, client: Client, clock: Clock) {
    let group = tasks.clone();
    tasks.spawn("event expiry", async move {
        while group.pause(LOOK_EVERY).await {
            if let Err(error) = round(&client, clock.now()).await {
                tracing::debug!(%error, "old events could not be removed");
            }
        }
    });
}

/// The members of an event that say when it happened last.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slim {
    metadata: ObjectMeta,
    #[serde(default)]
    last_timestamp: Option<Timestamp>,
    #[serde(default)]
    event_time: Option<Timestamp>,
    #[serde(default)]
    series: Option<Series>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Page {
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta,
    items: Vec<Slim>,
}

fn expired(event: &Slim, now: Timestamp) -> bool {
    let created = event.metadata.creation_timestamp.as_ref().and_then(|t| t.0.to_string().parse().ok());
    let series = event.series.as_ref().and_then(|s| s.last_observed_time);
    let last = [event.last_timestamp, event.event_time, series, created].into_iter().flatten().max();
    last.is_some_and(|last| now.duration_since(last) > LIFETIME)
}

async fn round(client: &Client, now: Timestamp) -> kube::Result<()> {
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let request = kube::core::Request::new("/api/v1/events").list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page = client.request(request).await?;
        let old = page.items.into_iter().filter(|e| expired(e, now)).map(|event| delete(client, event.metadata));
        stream::iter(old).buffer_unordered(DELETES_AT_ONCE).for_each(|()| async {}).await;
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(()),
        }
    }
}

async fn delete(client: &Client, metadata: ObjectMeta) {
    let (Some(namespace), Some(name)) = (metadata.namespace, metadata.name) else { return };
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: metadata.uid, resource_version: metadata.resource_version }),
        ..DeleteParams::default()
    };
    match api.delete(&name, &params).await {
        Ok(_) => {}
        // Gone, or happened again meanwhile.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::debug!(%error, namespace, "an old event could not be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(event: serde_json::Value) -> bool {
        expired(&serde_json::from_value(event).unwrap(), "2026-01-01T02:00:00Z".parse().unwrap())
    }

    #[test]
    fn an_event_lives_an_hour_after_it_happened_last() {
        let created = json!({"creationTimestamp": "2026-01-01T00:30:00Z"});
        assert!(check(json!({"metadata": created})));
        assert!(!check(json!({"metadata": {"creationTimestamp": "2026-01-01T01:30:00Z"}})));
        assert!(!check(json!({"metadata": created, "lastTimestamp": "2026-01-01T01:59:00Z", "eventTime": null})));
        let series = json!({"lastObservedTime": "2026-01-01T01:20:00.000000Z"});
        assert!(!check(json!({"metadata": created, "series": series})));
    }
}
