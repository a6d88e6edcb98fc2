//! Restart: a follower of a grown tree is killed, a write is acknowledged without it, it is
//! started. Measured is the time from its exec until it serves that write itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::closed_loop::micros;
use super::{Figures, Shape, ensure, histogram, tree};
use crate::cluster::{Cluster, MEMBERS};
use crate::failure::Outcome;
use crate::targets::{Connection, Freshness, within};

/// Between two looks.
const ASK_AGAIN: Duration = Duration::from_millis(2);
/// For one look: a member that accepts connections may not answer yet.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// For the member to serve.
const PATIENCE: Duration = Duration::from_secs(180);
/// Whose data says what was last acknowledged.
const MARKER: &str = "/tree/marker";

pub(super) async fn run(cluster: &mut Cluster, shape: &Shape) -> Outcome<Vec<Figures>> {
    let last = tree::path(shape.nodes.saturating_sub(1));
    let first = cluster.connect(0).await?;
    if first.get(&last, Freshness::Linearizable).await.is_err() {
        tree::fill(cluster, shape, 0, shape.nodes).await?;
    }
    ensure(&*first, MARKER).await;
    first.close().await?;

    let mut times = histogram();
    for kill in 0..shape.kills {
        let leader = cluster.leader().await?;
        let follower = (leader + 1 + kill % (MEMBERS - 1)) % MEMBERS;
        cluster.kill(follower)?;
        let writer = cluster.connect(leader).await?;
        let marker = Bytes::from(kill.to_string());
        writer.set(MARKER, &marker).await?;
        writer.close().await?;
        let started = cluster.launch(follower)?;
        let served = within(PATIENCE, "the restarted member", async {
            loop {
                if let Ok(Some(at)) = within(LOOK_PATIENCE, "a look", look(cluster, follower, &marker)).await
                {
                    return Ok(at);
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        });
        times.record(micros(served.await? - started))?;
        cluster.wait_ready(follower).await?;
    }
    Ok(vec![Figures::named("restart of a follower").with_times(&times)])
}

/// When the member showed the marker, or nothing if it shows an older one.
async fn look(cluster: &Cluster, member: usize, marker: &Bytes) -> Outcome<Option<Instant>> {
    // Clients back off when nobody listens; this does not.
    while TcpStream::connect(cluster.endpoint(member)).await.is_err() {
        tokio::time::sleep(ASK_AGAIN).await;
    }
    let endpoint = [cluster.endpoint(member).to_owned()];
    let protocol = cluster.protocol();
    let connection: Box<dyn Connection> = if protocol.has_unary_calls() {
        protocol.connect_unary(&endpoint).await?
    } else {
        protocol.connect(&endpoint).await?
    };
    let found = connection.get(MARKER, Freshness::Local).await?;
    let at = Instant::now();
    connection.close().await?;
    Ok((found == marker).then_some(at))
}
