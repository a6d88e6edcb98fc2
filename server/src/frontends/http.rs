//! The HTTP door: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever restarts or routes.
//!
//! - `/healthz`: the process lives and its disk has not failed;
//! - `/readyz`: it can serve: a leader is known, a quorum answers, and it is not stopping.
//!
//! The door is open before the member is part of its cluster: it may wait for others for a long time,
//! and is healthy meanwhile.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::coordinator::Coordinator;
use crate::metrics::Metrics;

/// What the door tells of.
#[derive(Clone)]
pub struct Door {
    /// The member's meters.
    pub metrics: Metrics,
    /// Empty until the member is part of its cluster.
    pub coordinator: Arc<OnceLock<Coordinator>>,
    /// True once the member stops; so it does when the sender has gone.
    pub stopping: watch::Receiver<bool>,
}

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, door: Door) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(door);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the HTTP door has closed");
    }
}

async fn metrics(State(door): State<Door>) -> impl IntoResponse {
    if let Some(coordinator) = door.coordinator.get() {
        coordinator.refresh_gauges();
    }
    let text = door.metrics.show();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn ready(State(door): State<Door>) -> impl IntoResponse {
    let Door { coordinator, mut stopping, .. } = door;
    let stop = async {
        let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
    };
    let answered = async {
        match coordinator.get() {
            Some(coordinator) => coordinator.wait_ready().await.map_err(|error| error.to_string()),
            None => Err("this member is not part of its cluster yet".to_owned()),
        }
    };
    let outcome = tokio::select! {
        biased;
        () = stop => Err("this member is stopping".to_owned()),
        outcome = answered => outcome,
    };
    match outcome {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}
