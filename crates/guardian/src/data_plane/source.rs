//! Where snapshots come from: the control plane in this process, or one elsewhere.

use std::{sync::Arc, time::Duration};

use guardian_client::{Client, ClientError};
use guardian_gateway::{
    Directory,
    sql::{Event, Gateway},
};
use guardian_model::{
    Snapshot,
    api::GatewayEvent,
    query::ChangesQuery,
    snapshot::{Cursor, Delta},
};
use guardian_server::feed::{FeedError, Publisher, WAIT_MAX};
use tokio::{
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// How long after a failure the source is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Applied at once, however many changes come in a burst: each costs a copy of some maps.
const GATHER: Duration = Duration::from_millis(5);

/// It. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Source {
    /// The control plane of this process.
    Here(guardian_server::AppState),
    /// Another process or machine.
    There(Client),
}

/// The source does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Here(#[from] FeedError),
    #[error(transparent)]
    There(#[from] ClientError),
}

impl SourceError {
    /// Whether the control plane answered, and said no.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::There(error) if error.status().is_some_and(|status| matches!(status, 401 | 403)))
    }

    /// Whether only the whole snapshot helps.
    fn is_gone(&self) -> bool {
        match self {
            Self::Here(FeedError::Gone(_)) => true,
            Self::Here(_) => false,
            Self::There(error) => error.status() == Some(410),
        }
    }
}

impl Source {
    fn publisher(state: &guardian_server::AppState) -> &Publisher {
        state.publisher()
    }

    /// Everything.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot, SourceError> {
        match self {
            Self::Here(state) => Ok(Self::publisher(state).snapshot().await?),
            Self::There(client) => Ok(client.snapshot().await?),
        }
    }

    async fn changes(&self, since: Cursor) -> Result<Delta, SourceError> {
        match self {
            Self::Here(state) => Ok(Arc::unwrap_or_clone(Self::publisher(state).changes(since, WAIT_MAX).await?)),
            Self::There(client) => {
                let query = ChangesQuery { since: since.0, wait_seconds: None };
                Ok(client.snapshot_changes(&query).await?)
            }
        }
    }

    /// Takes over changes as they happen; goes on with what is known while the source does not answer.
    pub(super) async fn follow(self, directory: &Directory, gateway: &Gateway, changed: &Notify, stop: &CancellationToken) {
        let mut is_silent = false;
        while !stop.is_cancelled() {
            let cursor = directory.view().cursor;
            let got = tokio::select! {
                got = self.changes(cursor) => got,
                () = stop.cancelled() => return,
            };
            if std::mem::replace(&mut is_silent, got.is_err()) && got.is_ok() {
                tracing::info!("the control plane answers again");
            }
            match got {
                Ok(delta) => {
                    let is_empty = delta.is_empty();
                    directory.apply(delta);
                    if !is_empty {
                        gateway.changed();
                        changed.notify_waiters();
                        sleep(GATHER).await;
                    }
                    continue;
                }
                Err(error) if error.is_gone() => match self.snapshot().await {
                    Ok(snapshot) => {
                        directory.replace(snapshot);
                        gateway.changed();
                        changed.notify_waiters();
                        continue;
                    }
                    Err(error) => tracing::warn!(%error, "cannot read a snapshot; serving with what is known"),
                },
                Err(error) => tracing::warn!(%error, "the control plane does not answer; serving with what is known"),
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Tells the control plane what the gateway saw, until told to stop. What cannot be told is dropped: it happens again if
    /// it matters.
    pub(super) async fn tell(self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = stop.cancelled() => return,
            };
            let Some(event) = event else { return };
            let told = match event {
                Event::RoleAltered { cluster, role, tenant } => GatewayEvent::RoleAltered { cluster, role, tenant },
                Event::PasswordRefused { cluster, role } => GatewayEvent::PasswordRefused { cluster, role },
            };
            let outcome = match &self {
                Self::Here(state) => state.gateway_event(&told).await,
                Self::There(client) => client.gateway_event(&told).await.map_err(|error| error.to_string()),
            };
            match outcome {
                Ok(()) => tracing::warn!(event = ?told, "a role was put right"),
                Err(error) => tracing::warn!(error, event = ?told, "cannot have a role put right"),
            }
            // A session that alters its role again and again must not keep the control plane busy.
            sleep(RETRY).await;
        }
    }
}
