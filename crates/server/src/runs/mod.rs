//! Long work that outlives the request that asked for it: a task of the server, with its progress in the store.
//!
//! A run belongs to the process that holds its lease. When that process ends, another one (or the same, started anew) takes
//! the run up: it computes from facts what is left to do. So each kind has a `resume` beside its `start`. The lease alone
//! does not stop a statement that a killed process left behind, so each kind also takes a lock in the database where it
//! acts, and confirms its lease under it (as the steps of operations do).

pub(crate) mod adopt;
pub(crate) mod apply;
pub(crate) mod migrate;
mod progress;
pub(crate) mod renew;
pub(crate) mod rotate;

use std::time::Duration;

use guardian_model::{
    RunId,
    api::{Run, RunKind},
};
use guardian_postgres::connect::ConnectError;
use guardian_store::RunClaim;

use self::progress::Progress;
use crate::{
    AppState,
    problem::{ApiError, ApiResult, chain},
};

/// From look to look whether a run lost its process.
const LOOK: Duration = Duration::from_secs(1);
/// How often a run is taken up: one that kills every process that works on it must not do so for ever.
const CLAIMS_MAX: i64 = 12;

/// Takes up the runs of processes that ended, until told to stop.
pub(crate) async fn take_up(state: AppState) {
    while state.stop().run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        loop {
            match state.store.claim_run(state.lifecycle.lease()).await {
                Ok(Some(claim)) => resume(&state, claim).await,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot look for runs to take up; trying again");
                    break;
                }
            }
        }
    }
}

async fn resume(state: &AppState, claim: RunClaim) {
    let (id, kind, fence) = (claim.id, claim.kind, claim.fence);
    let progress = Progress::of(state, claim);
    if fence > CLAIMS_MAX {
        progress.give_up(&format!("{CLAIMS_MAX} processes began it, and none came to its end")).await;
        return;
    }
    tracing::info!(run.id = %id, kind = kind.as_str(), run.fence = fence, "going on with a run whose process ended");
    match kind {
        RunKind::Apply => apply::resume(state, progress),
        RunKind::Migrate => migrate::resume(state, progress),
        RunKind::Adopt => adopt::resume(state, progress),
        RunKind::RotateKey => rotate::resume(state, progress),
        RunKind::RotateSecrets => renew::resume(state, progress),
    }
}

/// The run as it stands.
async fn shown(state: &AppState, id: RunId) -> ApiResult<Run> {
    state.store.run(id).await?.ok_or_else(|| ApiError::not_found(format!("there is no run `{id}`")))
}

/// Whether the server is there but the database is not.
fn is_absent(error: &ConnectError) -> bool {
    matches!(error, ConnectError::Refused { source, .. }
        if source.as_database_error().is_some_and(|error| error.code().as_deref() == Some("3D000")))
}
