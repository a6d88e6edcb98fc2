//! Growth: what a set of a random node costs in a small tree and in a large one.

use std::sync::Arc;

use super::{Figures, Meter, Shape, Subject, closed_loop, tree};
use crate::cluster::Cluster;
use crate::failure::Outcome;

/// Nodes of the small tree.
const SMALL: u64 = 1000;
/// So much longer than other workloads: what a server does at intervals, checkpoints say, counts.
const LONGER: u32 = 4;

pub(super) async fn run(cluster: &Cluster, shape: &Shape) -> Outcome<Vec<Figures>> {
    let subject =
        Subject { protocol: cluster.protocol(), endpoints: cluster.endpoints(), pids: cluster.pids() };
    let mut figures = Vec::new();
    tree::fill(cluster, shape, 0, SMALL.min(shape.nodes)).await?;
    // Once to warm up, as a server that has been up for a while is.
    measure(&subject, shape, "", SMALL).await?;
    figures.push(measure(&subject, shape, "set in a small tree", SMALL).await?);
    let meter = Meter::start(&subject.pids);
    tree::fill(cluster, shape, SMALL.min(shape.nodes), shape.nodes).await?;
    figures.push(meter.finish("load, 100 a transaction", shape.nodes - SMALL.min(shape.nodes)));
    figures.push(measure(&subject, shape, "set in a large tree", shape.nodes).await?);
    Ok(figures)
}

async fn measure(subject: &Subject, shape: &Shape, label: &str, nodes: u64) -> Outcome<Figures> {
    subject.settle().await;
    let shape = &Shape { duration: shape.duration * LONGER, ..shape.clone() };
    let connections = subject.connect_all(shape.connections).await?;
    let value = shape.value();
    let send: Arc<closed_loop::Send> =
        Arc::new(move |connection, _, _| connection.set(&tree::path(fastrand::u64(..nodes)), &value));
    closed_loop::run(label, connections, &subject.pids, shape, send).await
}
