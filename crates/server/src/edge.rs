//! What every request passes before it reaches an endpoint: its id, its span, its time limit, and the bound on how many are
//! served at once.
//!
//! Logged are method, route, status and time; never headers, queries or bodies.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tracing::Instrument;
use uuid::Uuid;

use crate::problem::{ApiError, Kind};

/// Requests served at once; one more is refused, because a queue in front of a slow database only grows.
const REQUESTS_MAX: usize = 256;
/// Requests at once that wait for a change, and so may be many.
const WAITING_MAX: usize = 512;
/// Where they wait.
const WAITING_ROUTE: &str = "/v1/snapshot/changes";
/// Public, and asks the database.
const KEY_SET_ROUTE: &str = "/.well-known/jwks.json";
/// How long a request may take. What takes longer (a run, an operation) goes on by itself and is asked about.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a request may take that looks at everything there is.
pub(crate) const LONG_REQUEST_TIMEOUT: Duration = Duration::from_mins(5);
/// Such requests: they go through whole tables, all places, or the whole log.
const LONG_ROUTES: [&str; 3] = ["/v1/hardening", "/v1/migrations", "/v1/audit-log/verify"];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_LEN_MAX: usize = 64;

/// Gives the request an id (the caller's, when it has a sane one) and a span, and logs how it ended.
pub(crate) async fn trace(request: Request, next: Next) -> Response {
    let id = request.headers().get(&REQUEST_ID).filter(|value| is_sane(value)).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&Uuid::now_v7().simple().to_string()).ok());
    let span = tracing::info_span!(
        "request",
        "request.id" = id.as_ref().and_then(|id| id.to_str().ok()),
        "http.method" = %request.method(),
        "http.route" = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str),
    );
    let started = Instant::now();
    async move {
        let mut response = next.run(request).await;
        tracing::debug!(
            "http.status" = response.status().as_u16(),
            duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "answered a request"
        );
        let headers = response.headers_mut();
        if let Some(id) = id {
            headers.insert(REQUEST_ID, id);
        }
        // Answers hold secrets and fast-changing state.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
    .instrument(span)
    .await
}

fn is_sane(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=REQUEST_ID_LEN_MAX).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The places of the requests that are being served.
#[derive(Clone)]
pub(crate) struct Slots {
    requests: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { requests: Arc::new(Semaphore::new(REQUESTS_MAX)), waiting: Arc::new(Semaphore::new(WAITING_MAX)) }
    }
}

/// Refuses what no endpoint can read, what is too much at once, and what takes too long.
pub(crate) async fn bound(State(slots): State<Slots>, request: Request, next: Next) -> Response {
    // PostgreSQL's text cannot hold a NUL, and no path or query here has use for one.
    if request.uri().path_and_query().is_some_and(|text| text.as_str().contains("%00")) {
        return ApiError::new(Kind::Malformed, "path and query may not contain the character %00").into_response();
    }
    // Probes must see that the process is alive while it is busy.
    if !request.uri().path().starts_with("/v1/") && request.uri().path() != KEY_SET_ROUTE {
        return next.run(request).await;
    }
    let (slots, max) =
        if request.uri().path() == WAITING_ROUTE { (&slots.waiting, WAITING_MAX) } else { (&slots.requests, REQUESTS_MAX) };
    let Ok(_slot) = slots.try_acquire() else {
        let detail = format!("{max} requests are being served, the most at once; try again in a second");
        return ApiError::new(Kind::Overloaded, detail).into_response();
    };
    let is_long = LONG_ROUTES.contains(&request.uri().path());
    let limit = if is_long { LONG_REQUEST_TIMEOUT } else { REQUEST_TIMEOUT };
    let answered = tokio::time::timeout(limit, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let seconds = limit.as_secs();
        let detail = format!("given up after {seconds} s; what it began may still happen, so look before asking again");
        ApiError::new(Kind::Timeout, detail).into_response()
    })
}
