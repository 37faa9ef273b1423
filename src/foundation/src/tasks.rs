//! Every task is a named child of something: the only caller of `tokio::spawn`.
//!
//! A [`Tasks`] is cancelled with its parent, waits for its children when it stops, and turns a panic of a child into a
//! logged error, so that nothing dies in silence and nothing outlives the platform unseen.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The result of work that vanished: its task panicked or the runtime is going down.
#[derive(Debug, thiserror::Error)]
#[error("the task {name:?} did not finish")]
pub struct Lost {
    name: &'static str,
}

/// A group of tasks with one cancellation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tasks {
    name: &'static str,
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// The group that everything else hangs under.
    pub fn root(name: &'static str) -> Self {
        Self { name, token: CancellationToken::new(), tracker: TaskTracker::new() }
    }

    /// A group that is cancelled with this one and that this one waits for.
    pub fn child(&self, name: &'static str) -> Self {
        Self { name, token: self.token.child_token(), tracker: self.tracker.clone() }
    }

    /// Starts a task. It should watch [`Tasks::cancelled`] at each place where it waits.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let group = self.name;
        let span = tracing::Span::current();
        #[expect(clippy::disallowed_methods, reason = "this is the one home of spawn")]
        let inner = tokio::spawn(work.instrument(span));
        self.track(async move {
            if let Err(error) = inner.await
                && error.is_panic()
            {
                tracing::error!(task.group = group, task.name = name, "a task panicked");
            }
        });
    }

    /// Runs `work` to its end even if the caller's future is dropped in the middle, as happens to a handler whose client
    /// goes away. Whatever writes runs in here.
    pub async fn shield<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Lost> {
        #[expect(clippy::disallowed_methods, reason = "this is the one home of spawn")]
        let handle = tokio::spawn(self.tracker.track_future(work.in_current_span()));
        handle.await.map_err(|_| Lost { name })
    }

    /// Completes when this group is asked to stop.
    pub fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }

    /// Whether this group was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The group's cancellation, for libraries that want a token.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Waits until `after` has passed, or until the group is asked to stop: then false.
    pub async fn pause(&self, after: Duration) -> bool {
        tokio::select! {
            () = self.token.cancelled() => false,
            () = tokio::time::sleep(after) => true,
        }
    }

    /// Asks all tasks to stop and waits for them; false when some had not ended after `deadline`.
    ///
    /// Called on the root, it waits for every task of every child group.
    pub async fn stop(&self, deadline: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }

    fn track(&self, work: impl Future<Output = ()> + Send + 'static) {
        #[expect(clippy::disallowed_methods, reason = "this is the one home of spawn")]
        drop(tokio::spawn(self.tracker.track_future(work)));
    }
}

/// Runs work that blocks its thread (files, hashing, decoding) away from the tasks.
pub async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Lost> {
    #[expect(clippy::disallowed_methods, reason = "this is the one home of spawn_blocking")]
    let handle = tokio::task::spawn_blocking(work);
    handle.await.map_err(|_| Lost { name })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn stopping_the_root_ends_the_children_and_waits_for_them() {
        let root = Tasks::root("test");
        let child = root.child("child");
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let cancelled = child.cancelled();
        child.spawn("waits", async move {
            cancelled.await;
            seen.store(true, Ordering::SeqCst);
        });
        assert!(root.stop(Duration::from_secs(5)).await);
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ignores_the_stop_makes_it_say_false() {
        let root = Tasks::root("test");
        root.spawn("stubborn", std::future::pending());
        assert!(!root.stop(Duration::from_secs(1)).await);
    }

    #[tokio::test]
    async fn shielded_work_goes_on_when_its_caller_is_dropped() {
        let root = Tasks::root("test");
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, seen) = tokio::sync::oneshot::channel::<()>();
        let shield = root.clone();
        let mut caller = Box::pin(async move {
            shield
                .shield("write", async move {
                    let _ = wait.await;
                    let _ = done.send(());
                })
                .await
        });
        assert!(futures_poll_once(&mut caller).await.is_none());
        drop(caller);
        go.send(()).expect("the shielded work still listens");
        seen.await.expect("the shielded work finished");
    }

    async fn futures_poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        tokio::select! {
            biased;
            out = future => Some(out),
            () = tokio::task::yield_now() => None,
        }
    }
}
