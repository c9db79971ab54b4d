//! A run at work, as its task sees it: progress that only the holder of the lease can write, and the lease itself.

use std::{sync::Arc, time::Duration};

use guardian_model::{
    RunId,
    access::Permit,
    api::{RunKind, RunState},
};
use guardian_store::{Lease, RunClaim, RunClaimError, Store};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    AppState,
    problem::{ApiResult, chain},
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Progress {
    store: Store,
    lease: Lease,
    claim: Arc<RunClaim>,
    /// Cancelled when a write is refused because the run is in other hands.
    lost: CancellationToken,
}

impl Progress {
    /// A new run of these items, in the hands of this process.
    pub(super) async fn begin(
        state: &AppState,
        permit: &Permit,
        kind: RunKind,
        arguments: serde_json::Value,
        items: &[(String, String)],
    ) -> ApiResult<Self> {
        let claim = state.store.start_run(permit, kind, arguments, items, state.lifecycle.lease()).await?;
        Ok(Self::of(state, claim))
    }

    pub(super) fn of(state: &AppState, claim: RunClaim) -> Self {
        let lease = state.lifecycle.lease().clone();
        Self { store: state.store.clone(), lease, claim: Arc::new(claim), lost: CancellationToken::new() }
    }

    /// This process's hold, for writes that name it.
    pub(super) fn claim(&self) -> &RunClaim {
        &self.claim
    }

    pub(super) fn id(&self) -> RunId {
        self.claim.id
    }

    /// What was asked for when the run began.
    pub(super) fn arguments(&self) -> &serde_json::Value {
        &self.claim.arguments
    }

    /// Carries the run out in a task of the server, and notes its end. The work is dropped where it stands when the lease is
    /// lost or the server stops; in the second case another process may go on at once.
    pub(super) fn spawn(self, state: &AppState, work: impl Future<Output = Result<(), String>> + Send + 'static) {
        let stop = state.stop().clone();
        state.tasks().spawn(async move {
            tokio::select! {
                ended = work => self.end(ended.err().as_deref()).await,
                () = self.keep() => tracing::warn!(run.id = %self.id(), "let go of a run: its lease was lost"),
                () = stop.cancelled() => self.give_back().await,
            }
        });
    }

    /// Notes where an item stands. Lost progress does not stop the work; a lost lease does.
    pub(super) async fn item(&self, position: usize, state: RunState, detail: Option<&str>, took: Option<Duration>) {
        let duration_us = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        match self.store.run_item(&self.claim, position, state, detail, duration_us).await {
            Ok(()) => {}
            Err(error @ RunClaimError::Fenced(_)) => {
                tracing::warn!(run.id = %self.id(), error = chain(&error), "cannot note the progress of a run");
                self.lost.cancel();
                // The task is dropped where it stands.
                std::future::pending::<()>().await;
            }
            Err(error) => tracing::warn!(run.id = %self.id(), error = chain(&error), "cannot note the progress of a run"),
        }
    }

    /// Makes sure that the run is still this process's, from now on for the length of the lease.
    pub(super) async fn confirm(&self) -> Result<(), String> {
        self.store.renew_run(&self.claim, &self.lease).await.map_err(|error| chain(&error))
    }

    /// Replaces what the run has left to do; gives the position of the first new item.
    pub(super) async fn replan(&self, items: &[(String, String)]) -> Result<usize, String> {
        self.store.replan_run(&self.claim, items).await.map_err(|error| chain(&error))
    }

    /// Gives the run up for good.
    pub(super) async fn give_up(&self, reason: &str) {
        tracing::error!(run.id = %self.id(), reason, "gave a run up");
        if let Err(error) = self.store.interrupt_run(&self.claim, reason).await {
            tracing::error!(run.id = %self.id(), error = chain(&error), "cannot note the end of a run");
        }
    }

    /// Renews the lease until it is lost: to another process, or because the store was away for as long as it lasts.
    async fn keep(&self) {
        let mut confirmed_at = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.lease.duration / 3) => {}
                () = self.lost.cancelled() => return,
            }
            let asked_at = Instant::now();
            let left = self.lease.duration.saturating_sub(confirmed_at.elapsed());
            match tokio::time::timeout(left, self.store.renew_run(&self.claim, &self.lease)).await {
                Ok(Ok(())) => confirmed_at = asked_at,
                Ok(Err(RunClaimError::Fenced(_))) => return,
                Ok(Err(error)) => tracing::warn!(run.id = %self.id(), error = chain(&error), "cannot renew a run's lease"),
                Err(_) => {}
            }
            if confirmed_at.elapsed() >= self.lease.duration {
                return;
            }
        }
    }

    async fn give_back(&self) {
        match self.store.release_run(&self.claim).await {
            Ok(()) => {
                tracing::info!(run.id = %self.id(), "gave a run back; whoever runs or starts next goes on with it");
            }
            Err(error) => tracing::warn!(run.id = %self.id(), error = chain(&error), "cannot give a run back yet"),
        }
    }

    async fn end(&self, error: Option<&str>) {
        if let Err(failure) = self.store.finish_run(&self.claim, error).await {
            tracing::error!(run.id = %self.id(), error = chain(&failure), "cannot note the end of a run");
            return;
        }
        match error {
            None => tracing::info!(run.id = %self.id(), "run done"),
            Some(error) => tracing::warn!(run.id = %self.id(), error, "run failed"),
        }
    }
}
