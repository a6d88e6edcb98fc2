//! Churn: clients that come and go. Each connects, opens a session (a lease, for etcd), creates an
//! ephemeral node, and ends the session, which deletes the node.

use std::time::Instant;

use tokio::task::JoinSet;

use super::closed_loop::micros;
use super::{Figures, Meter, Shape, Subject, ensure, histogram, unique};
use crate::failure::{Failure, Outcome};

pub(super) async fn run(subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let root = "/bench/churn";
    let first = subject.connect(0).await?;
    ensure(&*first, root).await;
    first.close().await?;
    let own = unique();
    let meter = Meter::start(&subject.pids);
    let (until, warm_until) = (meter.started() + shape.duration, meter.started() + shape.duration / 10);
    let mut clients = JoinSet::new();
    for index in 0..shape.connections {
        let (subject, value, own) = (subject.clone(), shape.value(), own.clone());
        clients.spawn(async move {
            let (mut times, mut count) = (histogram(), 0_u64);
            while Instant::now() < until {
                let started = Instant::now();
                let connection = subject.connect(index + count as usize).await?;
                connection.create_ephemeral(&format!("{root}/{own}-{index}-{count}"), &value).await?;
                connection.close().await?;
                if started >= warm_until {
                    times.record(micros(started.elapsed()))?;
                }
                count += 1;
            }
            Ok::<_, Failure>((times, count))
        });
    }
    let (mut times, mut operations) = (histogram(), 0);
    while let Some(client) = clients.join_next().await {
        let (own, count) = client??;
        times.add(&own)?;
        operations += count;
    }
    Ok(vec![meter.finish("ephemeral churn", operations).with_times(&times)])
}
