//! The control plane's REST API: authentication, authorisation, problem documents, and one thin handler an endpoint.
//!
//! What it lacks, on purpose: decisions about tenants (`lifecycle`), SQL (`store`, `postgres`, `provision`), TLS (a proxy's
//! business), and any endpoint that accepts a command, a path or SQL to execute.

mod api;
pub mod audits;
mod auth;
mod config;
mod edge;
mod endpoint;
mod errors;
mod extract;
pub mod feed;
mod listen;
mod openapi;
mod problem;
mod refusals;
mod runs;
mod state;

use std::io;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
    middleware::{from_fn, from_fn_with_state},
};
use tokio::net::TcpListener;

pub use config::ConfigSource;
pub use openapi::{openapi, openapi_json};
pub use state::AppState;

use crate::{
    api::shown,
    listen::{Bounded, Peer},
    problem::{ApiError, Kind},
};

/// The API as a service.
pub fn router(state: AppState) -> Router {
    let (routes, _) = openapi::describe();
    let slots = edge::Slots::default();
    routes
        .route_layer(from_fn_with_state(state.clone(), auth::guard))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(extract::BODY_BYTES_MAX))
        .layer(from_fn_with_state(slots, edge::bound))
        .layer(from_fn(edge::trace))
        .with_state(state)
}

/// Serves the API until the state's `stop` is cancelled, then lets requests and runs end.
pub async fn serve(listener: TcpListener, state: AppState) -> io::Result<()> {
    let tasks = state.tasks().clone();
    tasks.spawn({
        let state = state.clone();
        async move { state.refusals().run(state.stop()).await }
    });
    tasks.spawn({
        let state = state.clone();
        async move { state.publisher().run(state.stop()).await }
    });
    tasks.spawn(runs::take_up(state.clone()));
    tasks.spawn(audits::run(state.clone(), state.stop().clone()));
    let stop = state.stop().clone();
    let service = router(state).into_make_service_with_connect_info::<Peer>();
    let served = axum::serve(Bounded::new(listener), service).with_graceful_shutdown(stop.cancelled_owned()).await;
    tasks.close();
    tasks.wait().await;
    served
}

async fn unknown_path(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no `{}`; see /openapi.json", shown(uri.path())))
}

async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    ApiError::new(Kind::MethodNotAllowed, format!("`{}` does not know {method}; see /openapi.json", shown(uri.path())))
}
