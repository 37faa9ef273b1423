//! Runs that are over leave memory, a little after their end.
//!
//! Invariant: only asks [`Store::archive`](crate::store::Store::archive), which moves nothing that is not over; whatever is
//! missed here is found by the next look at everything.

use std::collections::BTreeSet;
use std::time::Duration;

use foundation::problem::chain;
use tokio::sync::broadcast::error::RecvError;

use super::Controller;

/// Who waits for a run looks at it once more when it ends: until then it stays where reading is quickest.
const LINGER: Duration = Duration::from_secs(10);

impl Controller {
    /// Archives runs as they end, until the platform stops.
    pub(super) async fn archive_runs(&self) {
        let store = &self.context.store;
        let mut changes = store.changes();
        let cancelled = self.context.tasks.cancelled();
        let mut ticks = tokio::time::interval(LINGER);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(cancelled);
        let mut fresh: BTreeSet<String> = store.unarchived().into_iter().collect();
        let mut ripe = BTreeSet::new();
        loop {
            tokio::select! {
                () = &mut cancelled => return,
                changed = changes.recv() => match changed {
                    Ok(run) => if store.library().run(&run).is_some_and(|run| run.state.is_final()) {
                        fresh.insert(run);
                    },
                    Err(RecvError::Lagged(_)) => fresh.extend(store.unarchived()),
                    Err(RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    for run in std::mem::replace(&mut ripe, std::mem::take(&mut fresh)) {
                        if let Err(error) = store.archive(&run).await {
                            tracing::warn!(run.id = run, error = %chain(&error), "a finished run stays in memory");
                            fresh.insert(run);
                        }
                    }
                }
            }
        }
    }
}
