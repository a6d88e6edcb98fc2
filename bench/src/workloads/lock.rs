//! Lock: contenders hand one lock on as fast as they can. An operation is an acquisition; its time
//! is the wait for it.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::closed_loop::micros;
use super::{Figures, Meter, Shape, Subject, ensure, histogram, unique};
use crate::failure::{Failure, Outcome};
use crate::targets::within;

/// For one acquisition: longer means that the hand-over has stalled.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) async fn run(subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let connections = subject.connect_all(shape.connections).await?;
    let path = format!("/bench/locks/{}", unique());
    ensure(&*connections[0], &path).await;
    let meter = Meter::start(&subject.pids);
    let (until, warm_until) = (meter.started() + shape.duration, meter.started() + shape.duration / 10);
    let mut contenders = JoinSet::new();
    for connection in connections {
        let path = path.clone();
        contenders.spawn(async move {
            let (mut times, mut count) = (histogram(), 0_u64);
            while Instant::now() < until {
                let asked = Instant::now();
                let held = within(PATIENCE, "the lock", connection.lock(&path)).await?;
                if asked >= warm_until {
                    times.record(micros(asked.elapsed()))?;
                }
                held.release().await?;
                count += 1;
            }
            connection.close().await?;
            Ok::<_, Failure>((times, count))
        });
    }
    let (mut times, mut operations) = (histogram(), 0);
    while let Some(contender) = contenders.join_next().await {
        let (own, count) = contender??;
        times.add(&own)?;
        operations += count;
    }
    Ok(vec![meter.finish("lock hand-over", operations).with_times(&times)])
}
