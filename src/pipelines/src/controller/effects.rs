//! Carries effects out: each at least once, each in a way that a second time changes nothing.

use std::time::Duration;

use foundation::backoff::Backoff;
use foundation::problem::chain;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::pods::{self, Refused};
use super::{Controller, Message};
use crate::engine::state::State;
use crate::engine::{Effect, Event, Outcome, PodOf};
use crate::types::task::{self, Failure, PodSummary};

/// A step that is asked to stop gets this long to do so.
const GRACE_SECONDS: u32 = 10;
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;

/// What an effect is about, taken from the state when it was decided.
struct Job {
    run_id: String,
    namespace: String,
    effect: Effect,
}

/// How a try went.
enum Tried {
    Done,
    Again(String),
}

impl Controller {
    /// Starts carrying an effect out; tries again until it worked or is not wanted any more.
    pub(super) fn perform(&self, state: &State, effect: Effect) {
        let job = Job { run_id: state.run.id.clone(), namespace: state.run.namespace.clone(), effect };
        let prepared = match &job.effect {
            Effect::EnsurePod { path } => Some(pods::build(&self.context, state, path)),
            _ => None,
        };
        let own = self.clone();
        self.context.tasks.spawn("effect", async move {
            let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
            loop {
                let tried = {
                    let Ok(_slot) = own.slots.acquire().await else { return };
                    own.attempt(&job, prepared.as_ref()).await
                };
                match tried {
                    Tried::Done => return,
                    Tried::Again(why) => {
                        tracing::warn!(run.id = job.run_id, effect = ?job.effect, why, "an effect failed; trying again");
                    }
                }
                if !own.context.tasks.pause(backoff.next_delay()).await {
                    return;
                }
            }
        });
    }

    async fn attempt(&self, job: &Job, prepared: Option<&Result<pods::Step, Refused>>) -> Tried {
        match (&job.effect, prepared) {
            (Effect::EnsurePod { .. }, Some(Ok(step))) => self.ensure(job, step).await,
            (Effect::EnsurePod { path }, Some(Err(refused))) => self.refuse(job, path, refused).await,
            (Effect::StopPod { path }, _) => self.stop(job, path).await,
            (Effect::ReleasePod { pod }, _) => self.release(&job.namespace, pod).await,
            (Effect::EnsurePod { .. } | Effect::Wake { .. }, _) => Tried::Done,
        }
    }

    async fn ensure(&self, job: &Job, step: &pods::Step) -> Tried {
        // Decided a while ago: the task may have been stopped since.
        let wanted = match self.context.store.task(&job.run_id, &step.of.path) {
            Ok(task) => task.is_some_and(|task| {
                let same = task.epoch == step.of.epoch && task.attempt == step.of.attempt;
                same && matches!(task.state, task::State::Pending | task::State::Running)
            }),
            Err(error) => return Tried::Again(chain(&error)),
        };
        if !wanted {
            return Tried::Done;
        }
        let (artifacts, launch) = (self.context.artifacts.clone(), step.clone());
        let prepared = foundation::tasks::blocking("prepare a step", move || pods::prepare(&artifacts, &launch)).await;
        let pod = match prepared {
            Ok(Ok(pod)) => pod,
            Ok(Err(error)) => return Tried::Again(chain(&error)),
            Err(lost) => return Tried::Again(lost.to_string()),
        };
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &job.namespace);
        match api.create(&PostParams::default(), &pod).await {
            Ok(_) => Tried::Done,
            Err(kube::Error::Api(status)) if status.code == CONFLICT => self.is_ours(&api, step).await,
            Err(kube::Error::Api(status)) if (400..500).contains(&status.code) && status.code != 429 => {
                let refused = Refused(format!("The pod was refused: {}", status.message));
                self.refuse(job, &step.of.path, &refused).await
            }
            Err(error) => Tried::Again(chain(&error)),
        }
    }

    /// A pod of this name exists: fine if it is this very attempt and is not going away.
    async fn is_ours(&self, api: &Api<Pod>, step: &pods::Step) -> Tried {
        match api.get_opt(&step.pod_name).await {
            Ok(Some(pod)) if pods::identify(&pod).is_some_and(|(run, of)| run == step.run_id && of == step.of) => {
                // Its end arrives through the watch, also if it is being deleted: our finalizer holds it until then.
                Tried::Done
            }
            Ok(Some(_)) => Tried::Again(format!("pod {} belongs to somebody else", step.pod_name)),
            Ok(None) => Tried::Again(format!("pod {} was just deleted", step.pod_name)),
            Err(error) => Tried::Again(chain(&error)),
        }
    }

    async fn refuse(&self, job: &Job, path: &str, refused: &Refused) -> Tried {
        let failure = Failure { message: refused.0.clone(), reason: "InvalidStep".to_owned(), ..Failure::default() };
        self.report_end(job, path, Outcome::Failed(failure)).await
    }

    async fn stop(&self, job: &Job, path: &str) -> Tried {
        let task = match self.context.store.task(&job.run_id, path) {
            Ok(Some(task)) if !task.state.is_final() => task,
            Ok(_) => return Tried::Done,
            Err(error) => return Tried::Again(chain(&error)),
        };
        let name = pods::name(&job.run_id, &task);
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &job.namespace);
        let parameters = DeleteParams { grace_period_seconds: Some(GRACE_SECONDS), ..DeleteParams::default() };
        match api.delete(&name, &parameters).await {
            Ok(_) => Tried::Done,
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => {
                let failure = Failure { message: "Stopped before it started.".to_owned(), ..Failure::default() };
                self.report_end(job, path, Outcome::Failed(failure)).await
            }
            Err(error) => Tried::Again(chain(&error)),
        }
    }

    async fn report_end(&self, job: &Job, path: &str, outcome: Outcome) -> Tried {
        let Ok(Some(task)) = self.context.store.task(&job.run_id, path) else { return Tried::Done };
        let of = PodOf { path: path.to_owned(), epoch: task.epoch, attempt: task.attempt };
        let pod = PodSummary { name: pods::name(&job.run_id, &task), ..PodSummary::default() };
        let event = Event::PodEnded { of, outcome, at: self.context.store.now(), pod };
        match self.worker(&job.run_id).send(Message::Happened(Box::new(event))).await {
            Ok(()) => Tried::Done,
            Err(_) => Tried::Again("the run's worker ended".to_owned()),
        }
    }

    /// Takes our finalizer off a pod whose result is recorded.
    pub(super) async fn release_pod(&self, namespace: &str, pod: &str) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        match api.patch(pod, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn release(&self, namespace: &str, pod: &str) -> Tried {
        match self.release_pod(namespace, pod).await {
            Ok(()) => {
                self.janitor.finished(namespace, pod, self.context.store.now());
                Tried::Done
            }
            Err(error) => Tried::Again(chain(&error)),
        }
    }
}
