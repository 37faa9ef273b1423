//! Follows the logs of pods into the files that live with their runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foundation::problem::chain;
use foundation::tasks::Tasks;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use kube::{Api, ResourceExt};
use tokio::sync::watch;

use super::pods::CONTAINER;
use crate::engine::PodOf;
use crate::logs::{LogBook, Progress, Writer};

/// A pod that ended has its log complete; this is for the last bytes to arrive.
const FINISH_WITHIN: Duration = Duration::from_secs(15);
const CHUNK: usize = 64 << 10;

/// Follows logs. Cheap to clone.
#[derive(Clone)]
pub(super) struct Logs {
    client: kube::Client,
    book: LogBook,
    tasks: Tasks,
}

impl Logs {
    pub(super) fn new(client: kube::Client, book: LogBook, tasks: Tasks) -> Self {
        Self { client, book, tasks }
    }

    /// Starts following a pod's log, unless somebody does already; gives what tells how far it has come.
    pub(super) fn follow(&self, run_id: &str, of: &PodOf, pod: &Pod) -> watch::Receiver<Progress> {
        let path = self.book.file(run_id, &of.path, of.epoch, of.attempt);
        let Some(sender) = self.book.begin(&path) else { return self.book.progress(&path) };
        let receiver = sender.subscribe();
        let (own, pod) = (self.clone(), pod.clone());
        self.tasks.spawn("log", async move {
            let cancelled = own.tasks.cancelled();
            tokio::select! {
                () = cancelled => {}
                result = own.copy(&pod, &path, &sender) => if let Err(error) = result {
                    tracing::warn!(pod.name = pod.name_any(), error, "a step's log is incomplete");
                },
            }
            own.book.end(&path, &sender);
        });
        receiver
    }

    /// Waits until the log of a pod that ended is complete.
    pub(super) async fn finish(&self, run_id: &str, of: &PodOf, pod: &Pod) {
        let mut progress = self.follow(run_id, of, pod);
        let complete = progress.wait_for(|progress| progress.complete);
        if tokio::time::timeout(FINISH_WITHIN, complete).await.is_err() {
            tracing::warn!(pod.name = pod.name_any(), "a step's log did not end in time");
        }
    }

    async fn copy(&self, pod: &Pod, path: &Path, sender: &watch::Sender<Progress>) -> Result<(), String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let parameters =
            LogParams { container: Some(CONTAINER.to_owned()), follow: true, timestamps: true, ..LogParams::default() };
        let stream = match api.log_stream(&pod.name_any(), &parameters).await {
            Ok(stream) => stream,
            // Never started, so there is no log.
            Err(kube::Error::Api(status)) if status.code == 400 || status.code == 404 => return Ok(()),
            Err(error) => return Err(chain(&error)),
        };
        let target: PathBuf = path.to_owned();
        let lost = |lost: foundation::tasks::Lost| lost.to_string();
        let opened = foundation::tasks::blocking("open a log", move || Writer::create(&target)).await;
        let mut writer = opened.map_err(lost)?.map_err(|error| error.to_string())?;
        futures::pin_mut!(stream);
        let mut chunk = vec![0; CHUNK];
        loop {
            let len = stream.read(&mut chunk).await.map_err(|error| error.to_string())?;
            if len == 0 {
                return Ok(());
            }
            let bytes = chunk.get(..len).unwrap_or_default().to_vec();
            let write = move || writer.write(&bytes).map(|lines| (writer, lines));
            let written = foundation::tasks::blocking("write a log", write).await;
            let lines;
            (writer, lines) = written.map_err(lost)?.map_err(|error| error.to_string())?;
            sender.send_modify(|progress| progress.lines = lines);
        }
    }
}
