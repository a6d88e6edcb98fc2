//! The HTTP door: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts or routes.
//!
//! - `/healthz`: the process lives and its disk has not failed;
//! - `/readyz`: it can serve: a leader is known and a quorum answers.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::coordinator::Coordinator;

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, coordinator: Coordinator) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(coordinator);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the HTTP door has closed");
    }
}

async fn metrics(State(coordinator): State<Coordinator>) -> impl IntoResponse {
    coordinator.refresh_gauges();
    let text = coordinator.metrics().show();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(coordinator): State<Coordinator>) -> impl IntoResponse {
    match coordinator.wait_ready().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {error}\n")),
    }
}
