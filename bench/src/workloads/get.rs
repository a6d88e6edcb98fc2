//! Get: each session reads its own 100 nodes in turn.

use std::sync::Arc;

use super::{Figures, Shape, Subject, closed_loop, ensure_hundred, hundred};
use crate::failure::Outcome;
use crate::targets::Freshness;

pub(super) async fn run(subject: &Subject, shape: &Shape, freshness: Freshness) -> Outcome<Vec<Figures>> {
    let label = match freshness {
        Freshness::Local => "get, local",
        Freshness::Linearizable => "get, linearizable",
    };
    let connections = subject.connect_all(shape.connections).await?;
    let value = shape.value();
    for (index, connection) in connections.iter().enumerate() {
        ensure_hundred(&**connection, &format!("/bench/get/{index}"), &value).await;
        // A local read may go to a member that has not applied the last creation yet.
        connection.get(&format!("/bench/get/{index}/99"), Freshness::Linearizable).await?;
    }
    let paths = hundred("/bench/get", connections.len());
    let send: Arc<closed_loop::Send> = Arc::new(move |connection, session, count| {
        let answer = connection.get(&paths[session][count as usize % 100], freshness);
        Box::pin(async move { answer.await.map(drop) })
    });
    Ok(vec![closed_loop::run(label, connections, &subject.pids, shape, send).await?])
}
