//! What gateways run on: the whole once, and every change from then on. Secrets of every tenant are in it.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream::unfold;
use guardian_model::{
    Permission, TokenId,
    access::Permit,
    query::ChangesQuery,
    snapshot::{Cursor, Delta},
};
use guardian_store::{AuditRecord, Outcome};
use serde::Serialize;
use tokio::{sync::mpsc, time::timeout};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    AppState,
    auth::OnPlatform,
    extract::QueryOf,
    feed::{FeedError, WAIT_MAX, Whole},
    problem::{ApiError, ApiResult, Kind, chain},
};

/// How long the reader of a snapshot may take for one part of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a part.
const PART_BYTES: usize = 64 * 1024;

pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(changes))
}

/// Read the whole snapshot that a gateway runs on
///
/// It comes as it is read from the database, and holds the secrets of every tenant. Each reading is in the audit log.
#[utoipa::path(
    get, path = "/v1/snapshot", tag = "snapshot", operation_id = "snapshot.read",
    extensions(("x-guardian-permission" = json!(Permission::SnapshotRead))),
    responses((status = 200, description = "The snapshot, for a gateway of this version", body = serde_json::Value)),
)]
async fn read(State(state): State<AppState>, OnPlatform(permit): OnPlatform) -> ApiResult<Response> {
    let Ok(slot) = state.snapshots().clone().try_acquire_owned() else {
        let detail = "as many snapshots as can be are on their way out; try again in a second";
        return Err(ApiError::new(Kind::Overloaded, detail));
    };
    let whole = state.publisher().whole().await?;
    state.store.record(&AuditRecord::of(&permit, "snapshot.read", None, Outcome::Allowed)).await?;
    let (parts, receiver) = mpsc::channel(2);
    let work = state.clone();
    state.tasks().spawn(async move {
        if let Err(error) = send(&work, whole, &parts).await {
            tracing::warn!(error = chain(&error), "a snapshot was cut short");
            // The reader sees a body that breaks off, and no sound document.
            let _ = timeout(PATIENCE, parts.send(Err(error))).await;
        }
        drop(slot);
    });
    let body = unfold(receiver, async |mut receiver| receiver.recv().await.map(|part| (part, receiver)));
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

/// Why a snapshot was cut short.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("cannot read it")]
    Feed(#[from] FeedError),
    #[error("the reader went away, or read nothing for {} s", PATIENCE.as_secs())]
    Reader,
    #[error("cannot write it down")]
    Json(#[from] serde_json::Error),
}

type Parts = mpsc::Sender<Result<Bytes, SendError>>;

/// One JSON document, in parts.
async fn send(state: &AppState, mut whole: Whole, parts: &Parts) -> Result<(), SendError> {
    let mut text = format!("{{\"cursor\":{},\"installation\":", whole.cursor.0).into_bytes();
    serde_json::to_writer(&mut text, &whole.installation)?;
    text.extend_from_slice(b",\"tenants\":[");
    let mut is_first = true;
    while let Some(page) = whole.tenants().await.map_err(FeedError::from)? {
        items(&mut text, &page, &mut is_first, parts).await?;
    }
    text.extend_from_slice(b"],\"api_keys\":[");
    is_first = true;
    while let Some(page) = whole.api_keys().await.map_err(FeedError::from)? {
        items(&mut text, &page, &mut is_first, parts).await?;
    }
    text.extend_from_slice(b"],\"access\":[");
    is_first = true;
    while let Some(page) = whole.access().await.map_err(FeedError::from)? {
        items(&mut text, &page, &mut is_first, parts).await?;
    }
    text.push(b']');
    // After the tenants, so that every tenant's tier is among them.
    field(&mut text, "tiers", &state.store.tiers().await.map_err(FeedError::from)?)?;
    field(&mut text, "logins", &state.store.feed_logins().await.map_err(FeedError::from)?)?;
    field(&mut text, "adoption", &whole.adoption().await.map_err(FeedError::from)?)?;
    text.push(b'}');
    give(parts, text).await
}

/// Some of the items of a list, whose parts go out as they fill.
async fn items<T: Serialize + Sync>(
    text: &mut Vec<u8>,
    page: &[T],
    is_first: &mut bool,
    parts: &Parts,
) -> Result<(), SendError> {
    for item in page {
        if !std::mem::take(is_first) {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, item)?;
        if text.len() >= PART_BYTES {
            give(parts, std::mem::take(text)).await?;
        }
    }
    Ok(())
}

fn field(text: &mut Vec<u8>, name: &str, value: &impl Serialize) -> Result<(), SendError> {
    text.extend_from_slice(format!(",\"{name}\":").as_bytes());
    Ok(serde_json::to_writer(text, value)?)
}

async fn give(parts: &Parts, text: Vec<u8>) -> Result<(), SendError> {
    match timeout(PATIENCE, parts.send(Ok(text.into()))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(SendError::Reader),
    }
}

/// Wait for what changes in it
///
/// Answers at once when something has changed since the cursor, or when the next thing does; with an empty answer when
/// nothing did for as long as asked.
#[utoipa::path(
    get, path = "/v1/snapshot/changes", tag = "snapshot", operation_id = "snapshot.changes",
    extensions(("x-guardian-permission" = json!(Permission::SnapshotRead))),
    params(ChangesQuery),
    responses(
        (status = 200, description = "What changed, for a gateway of this version", body = serde_json::Value),
        (status = 410, description = "The cursor is not known here: read the whole snapshot again"),
    ),
)]
async fn changes(
    State(state): State<AppState>,
    OnPlatform(permit): OnPlatform,
    QueryOf(query): QueryOf<ChangesQuery>,
) -> ApiResult<Json<Delta>> {
    let wait = query.wait_seconds.map_or(WAIT_MAX, |seconds| Duration::from_secs(u64::from(seconds)));
    if wait > WAIT_MAX {
        return Err(ApiError::invalid(format!("`wait_seconds` may be {} at most", WAIT_MAX.as_secs())));
    }
    let since = Cursor(query.since);
    let delta = tokio::select! {
        delta = state.publisher().changes(since, wait) => delta?,
        () = state.stop().cancelled() => state.publisher().changes(since, Duration::ZERO).await?,
    };
    refuse_revoked(&state, &permit).await?;
    Ok(Json(Delta::clone(&delta)))
}

/// The token may have been revoked while its bearer waited.
async fn refuse_revoked(state: &AppState, permit: &Permit) -> ApiResult<()> {
    let token = permit.actor().name.strip_prefix("token:").and_then(|id| id.parse::<TokenId>().ok());
    match token {
        Some(token) if state.store.is_in_force(token).await? => Ok(()),
        Some(_) | None => Err(ApiError::new(Kind::Unauthenticated, "the token was revoked")),
    }
}
