//! Fan-out: one writer sets a node, many watchers hear of it, each on a connection of its own.
//!
//! The next set is sent when the last watcher has heard of the one before. Measured is the time
//! until that, from the send and from the acknowledgement, which may come later than the last
//! delivery: then it counts as 1 µs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::closed_loop::micros;
use super::{Figures, Meter, Shape, Subject, ensure, histogram};
use crate::failure::Outcome;
use crate::targets::{Freshness, within};

/// For all watchers to hear of one change.
const PATIENCE: Duration = Duration::from_secs(20);
/// Watchers that connect at a time.
const CONNECTING: usize = 32;

pub(super) async fn run(subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let path = "/bench/fan-out";
    let writer = subject.connect(0).await?;
    ensure(&*writer, path).await;
    writer.set(path, &shape.value()).await?;

    let heard = Arc::new(AtomicUsize::new(0));
    // The last of a round tells when; one round is under way at a time.
    let (told, mut all_heard) = mpsc::channel::<Outcome<Instant>>(1 + shape.connections);
    let mut watchers = JoinSet::new();
    let standing: Vec<_> = futures_util::stream::iter(0..shape.connections)
        .map(|index| async move {
            let connection = subject.connect(index + 1).await?;
            // A member that is behind would else tell of the first set.
            connection.get(path, Freshness::Linearizable).await?;
            let changes = connection.watch(path).await?;
            Outcome::Ok((connection, changes))
        })
        .buffer_unordered(CONNECTING)
        .try_collect()
        .await?;
    for (connection, mut changes) in standing {
        let (heard, told, count) = (heard.clone(), told.clone(), shape.connections);
        watchers.spawn(async move {
            while let Some(change) = changes.next().await {
                let word = match change {
                    Ok(()) if (heard.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(count) => {
                        Ok(Instant::now())
                    }
                    Ok(()) => continue,
                    Err(error) => Err(error),
                };
                // Full or closed: the run has failed or is over.
                let _ = told.try_send(word);
            }
            drop(connection);
        });
    }

    let meter = Meter::start(&subject.pids);
    let until = meter.started() + shape.duration;
    let warm_until = meter.started() + shape.duration / 10;
    let (mut from_send, mut from_answer, mut rounds) = (histogram(), histogram(), 0_u64);
    let value = shape.value();
    while Instant::now() < until {
        let sent = Instant::now();
        writer.set(path, &value).await?;
        let answered = Instant::now();
        let last = within(PATIENCE, "the last delivery", async {
            all_heard.recv().await.ok_or("the watchers are gone")?
        });
        let last = last.await.map_err(|error| {
            format!(
                "{error}; {} of {} heard",
                heard.load(Ordering::Relaxed) % shape.connections,
                shape.connections
            )
        })?;
        rounds += 1;
        if sent >= warm_until {
            from_send.record(micros(last - sent))?;
            from_answer.record(micros(last.saturating_duration_since(answered)))?;
        }
    }
    let deliveries = rounds * shape.connections as u64;
    let figures = meter.finish("fan-out, send to last", deliveries).with_times(&from_send);
    let acknowledged = Figures::named("fan-out, answer to last").with_times(&from_answer);
    watchers.shutdown().await;
    writer.close().await?;
    Ok(vec![figures, acknowledged])
}
