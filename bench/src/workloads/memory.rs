//! Memory: what a member holds with a grown tree, a while after the load.

use std::time::Duration;

use super::{Figures, Shape};
use crate::cluster::{Cluster, processes};

/// For what the load left behind to be written and freed.
const SETTLE: Duration = Duration::from_secs(10);

pub(super) async fn run(cluster: &Cluster, shape: &Shape) -> Vec<Figures> {
    tokio::time::sleep(SETTLE).await;
    let mut figures = Figures::named(format!("memory, {} nodes", shape.nodes));
    figures.resident = processes::resident_mib(&cluster.pids());
    let mut rows = vec![figures];
    if let Some(heap) = cluster.live_heap_mib() {
        let mut figures = Figures::named("memory, live heap");
        figures.resident = Some(heap);
        rows.push(figures);
    }
    rows
}
