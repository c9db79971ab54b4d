//! `/metrics` for Prometheus, on an address of its own.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use guardian_gateway::sql::Gateway;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How often an address that is taken is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Serves on an address that another process may hold for a while yet.
pub(super) async fn serve_later(address: String, gateway: Arc<Gateway>, stop: CancellationToken) -> io::Result<()> {
    loop {
        match TcpListener::bind(&address).await {
            Ok(listener) => return serve(listener, gateway, stop).await,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => {
                tracing::warn!(%error, "cannot serve metrics on {address} (gateway.metrics_listen in guardian.toml)");
                return Err(error);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

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
