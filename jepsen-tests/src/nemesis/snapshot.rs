//! A member is dead until the others have thrown away the log that it would need; it takes a snapshot while clients work.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::Client;

use super::Nemesis;
use crate::cluster::{Cluster, ClusterError, admin};

/// Written at a time while the member is dead, to one node: so many values of so many bytes.
const BALLAST: (usize, usize) = (20, 100_000);
/// The pause after a refusal.
const AGAIN: Duration = Duration::from_millis(200);
/// How long that may take.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot;

impl Nemesis for Snapshot {
    fn name(&self) -> &'static str {
        "snapshot"
    }

    fn about(&self) -> &'static str {
        "a member is dead until the log it needs is purged: it installs a snapshot"
    }

    fn inflict<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        random: &'a mut fastrand::Rng,
    ) -> LocalBoxFuture<'a, Result<Vec<u64>, ClusterError>> {
        async move {
            let victim = super::any(cluster, random);
            let had = admin::status(&cluster.member(victim).client).await;
            // What it has is the measure of what it lacks later: unknown, there is none.
            let Ok(had) = had.map(|status| status.last_log_index) else { return Ok(Vec::new()) };
            cluster.kill(victim)?;
            let others: Vec<String> =
                cluster.running().iter().map(|id| cluster.member(*id).client.clone()).collect();
            let purged = write_much(others, had).await.map_err(|detail| ClusterError::TooLate {
                what: "the log is written on and purged".into(),
                patience: WRITE_PATIENCE,
                detail,
            })?;
            match purged {
                true => Ok(vec![victim]),
                // It would come back by the log, as after any other kill.
                false => super::unhurt(cluster, victim).await,
            }
        }
        .boxed_local()
    }

    fn heal<'a>(
        &'a self,
        cluster: &'a mut Cluster,
        members: &'a [u64],
    ) -> LocalBoxFuture<'a, Result<(), ClusterError>> {
        super::launch(cluster, members).boxed_local()
    }
}

/// Writes until no member has the log behind this index any more, or time is up: a leader that has
/// kept it for longer has another reason. Whether it is gone.
async fn write_much(endpoints: Vec<String>, had: u64) -> Result<bool, String> {
    let builder = Client::builder().endpoints(endpoints.clone()).connect_timeout(WRITE_PATIENCE);
    let client = builder.connect().await.map_err(|error| error.to_string())?;
    client.ensure_path("/ballast").await.map_err(|error| error.to_string())?;
    let started = Instant::now();
    let mut is_gone = false;
    while !is_gone && started.elapsed() < WRITE_PATIENCE {
        for _ in 0..BALLAST.0 {
            match client.set("/ballast", vec![b'b'; BALLAST.1]).await {
                Ok(_) => {}
                // A small disk may be filled faster than checkpoints are written: it is purged behind them.
                Err(error) if error.is_retryable() => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(error.to_string()),
            }
        }
        let mut purged = u64::MAX;
        for endpoint in &endpoints {
            purged = purged.min(admin::status(endpoint).await.map_or(0, |status| status.purged_index));
        }
        is_gone = purged > had;
    }
    client.close().await.map_err(|error| error.to_string())?;
    Ok(is_gone)
}
