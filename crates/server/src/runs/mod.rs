//! Long work that outlives the request that asked for it: a task of the server, with its progress in the store.

pub(crate) mod apply;
pub(crate) mod migrate;

use std::time::Duration;

use guardian_model::{
    RunId,
    api::{Run, RunState},
};
use guardian_postgres::connect::ConnectError;
use guardian_store::Store;

use crate::{
    AppState,
    problem::{ApiError, ApiResult, chain},
};

/// A run at work, as its task sees it.
#[derive(Clone)]
struct Progress {
    store: Store,
    id: RunId,
}

impl Progress {
    /// Notes where an item stands. Lost progress does not stop the work.
    async fn item(&self, position: usize, state: RunState, detail: Option<&str>, took: Option<Duration>) {
        let duration_us = took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if let Err(error) = self.store.run_item(self.id, position, state, detail, duration_us).await {
            tracing::warn!(run.id = %self.id, error = chain(&error), "cannot note the progress of a run");
        }
    }

    /// Notes the end.
    async fn end(&self, error: Option<&str>) {
        if let Err(failure) = self.store.finish_run(self.id, error).await {
            tracing::error!(run.id = %self.id, error = chain(&failure), "cannot note the end of a run");
        }
        match error {
            None => tracing::info!(run.id = %self.id, "run done"),
            Some(error) => tracing::warn!(run.id = %self.id, error, "run failed"),
        }
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
