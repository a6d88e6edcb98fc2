//! Failover: the leader is killed under load. Measured is the time from the signal to the first
//! acknowledgement of a write that was sent after it.
//!
//! Every session keeps writes in flight, and besides sends one every few milliseconds whatever the
//! others do, so that a write is always about to be sent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::closed_loop::micros;
use super::{Figures, Shape, ensure_hundred, histogram};
use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::targets::{Connection, within};

/// Between two writes that wait for nothing.
const PROBE: Duration = Duration::from_millis(5);
/// For one write.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// For the cluster to write again.
const FAILOVER_PATIENCE: Duration = Duration::from_secs(60);
/// Load before a kill, and after everybody is back.
const SETTLE: Duration = Duration::from_secs(2);

/// When the leader was killed, and what came first afterwards.
#[derive(Default)]
struct Watcher {
    killed_and_first: Mutex<(Option<Instant>, Option<Instant>)>,
    is_back: Notify,
}

impl Watcher {
    fn killed(&self, at: Instant) {
        *self.killed_and_first.lock().unwrap_or_else(PoisonError::into_inner) = (Some(at), None);
    }

    fn acknowledged(&self, sent: Instant) {
        let mut state = self.killed_and_first.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(killed), None) = *state
            && sent > killed
        {
            state.1 = Some(Instant::now());
            self.is_back.notify_one();
        }
    }

    async fn outage(&self) -> Duration {
        loop {
            if let (Some(killed), Some(first)) =
                *self.killed_and_first.lock().unwrap_or_else(PoisonError::into_inner)
            {
                return first - killed;
            }
            self.is_back.notified().await;
        }
    }
}

pub(super) async fn run(cluster: &mut Cluster, shape: &Shape) -> Outcome<Vec<Figures>> {
    let mut times = histogram();
    for kill in 0..shape.kills {
        let outage = one_kill(cluster, shape).await.map_err(|error| format!("kill {}: {error}", kill + 1))?;
        times.record(micros(outage))?;
    }
    Ok(vec![Figures::named("failover").with_times(&times)])
}

async fn one_kill(cluster: &mut Cluster, shape: &Shape) -> Outcome<Duration> {
    let watcher = Arc::new(Watcher::default());
    let mut load = JoinSet::new();
    let endpoints = cluster.endpoints();
    for index in 0..shape.connections {
        // Every session may go on at another member.
        let mut own = endpoints.clone();
        own.rotate_left(index % endpoints.len());
        let connection: Arc<dyn Connection> = cluster.protocol().connect(&own).await?.into();
        let root = format!("/bench/failover/{index}");
        ensure_hundred(&*connection, &root, &shape.value()).await;
        for _ in 0..shape.in_flight {
            load.spawn(write_on(connection.clone(), format!("{root}/1"), shape.value(), watcher.clone()));
        }
        load.spawn(probe(connection, format!("{root}/2"), shape.value(), watcher.clone()));
    }
    tokio::time::sleep(SETTLE).await;
    let leader = cluster.leader().await?;
    watcher.killed(cluster.signal_kill(leader)?);
    let outage = within(FAILOVER_PATIENCE, "the next write", async { Ok(watcher.outage().await) }).await?;
    load.shutdown().await;
    cluster.kill(leader)?;
    cluster.launch(leader)?;
    cluster.wait_ready(leader).await?;
    Ok(outage)
}

/// Writes, one after the other, whatever happens.
async fn write_on(connection: Arc<dyn Connection>, path: String, value: Bytes, watcher: Arc<Watcher>) {
    loop {
        let sent = Instant::now();
        match within(WRITE_PATIENCE, "a write", connection.set(&path, &value)).await {
            Ok(()) => watcher.acknowledged(sent),
            Err(_) => tokio::time::sleep(PROBE).await,
        }
    }
}

/// Writes every few milliseconds; dropping it drops the writes that are under way.
async fn probe(connection: Arc<dyn Connection>, path: String, value: Bytes, watcher: Arc<Watcher>) {
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(PROBE);
    loop {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let (sent, answer, watcher) = (Instant::now(), connection.set(&path, &value), watcher.clone());
        under_way.spawn(async move {
            if within(WRITE_PATIENCE, "a write", answer).await.is_ok() {
                watcher.acknowledged(sent);
            }
        });
    }
}
