//! `/metrics` for Prometheus, on an address of its own.

use std::{io, sync::Arc};

use axum::{Router, http::header, routing::get};
use guardian_gateway::sql::Gateway;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until told to stop.
pub(super) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, stop: CancellationToken) -> io::Result<()> {
    let metrics = get(move || {
        let gateway = Arc::clone(&gateway);
        async move {
            let text = tokio::task::spawn_blocking(move || gateway.metrics()).await.unwrap_or_default();
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
        }
    });
    axum::serve(listener, Router::new().route("/metrics", metrics)).with_graceful_shutdown(stop.cancelled_owned()).await
}
