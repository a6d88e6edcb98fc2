//! The tree: fills a cluster with nodes, a thousand below each parent, in transactions of 100.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Shape, ensure};
use crate::cluster::{Cluster, MEMBERS};
use crate::failure::Outcome;
use crate::targets::Connection;

/// Nodes below one parent.
const CHILDREN: u64 = 1000;
/// Nodes of one transaction: etcd's default limit is 128 operations.
const BATCH: u64 = 100;
/// Transactions that each session keeps in flight.
const IN_FLIGHT: usize = 4;

/// The path of node `index`.
pub(super) fn path(index: u64) -> String {
    format!("/tree/{}/{}", index / CHILDREN, index % CHILDREN)
}

/// Creates the nodes `from..to`.
pub(super) async fn fill(cluster: &Cluster, shape: &Shape, from: u64, to: u64) -> Outcome<()> {
    let first = cluster.connect(0).await?;
    ensure(&*first, "/tree").await;
    let parents: Vec<String> =
        (from / CHILDREN..to.div_ceil(CHILDREN)).map(|parent| format!("/tree/{parent}")).collect();
    for some in parents.chunks(BATCH as usize) {
        let creations = some.iter().map(|path| first.create(path, &bytes::Bytes::new()));
        // The first may exist from an earlier part.
        let _ = futures_util::future::join_all(creations).await;
    }
    first.close().await?;

    let batches: VecDeque<u64> = (from..to).step_by(BATCH as usize).collect();
    let batches = std::cell::RefCell::new(batches);
    let sessions = FuturesUnordered::new();
    for index in 0..MEMBERS {
        let connection = cluster.connect(index).await?;
        sessions.push(fill_some(connection, shape, &batches, to));
    }
    sessions.collect::<Vec<_>>().await.into_iter().collect()
}

async fn fill_some(
    connection: Box<dyn Connection>,
    shape: &Shape,
    batches: &std::cell::RefCell<VecDeque<u64>>,
    to: u64,
) -> Outcome<()> {
    let value = shape.value();
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < IN_FLIGHT {
            let Some(start) = batches.borrow_mut().pop_front() else { break };
            let paths: Vec<String> = (start..to.min(start + BATCH)).map(path).collect();
            under_way.push(connection.create_many(&paths, &value));
        }
        match under_way.next().await {
            Some(answer) => answer?,
            None => return connection.close().await,
        }
    }
}
