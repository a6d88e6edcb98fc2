//! Mixed: nine local reads to one set, all of the session's own 100 nodes.

use std::sync::Arc;

use super::{Figures, Shape, Subject, closed_loop, ensure_hundred, hundred};
use crate::failure::Outcome;
use crate::targets::Freshness;

pub(super) async fn run(subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let connections = subject.connect_all(shape.connections).await?;
    let value = shape.value();
    for (index, connection) in connections.iter().enumerate() {
        ensure_hundred(&**connection, &format!("/bench/mixed/{index}"), &value).await;
        connection.get(&format!("/bench/mixed/{index}/99"), Freshness::Linearizable).await?;
    }
    let paths = hundred("/bench/mixed", connections.len());
    let send: Arc<closed_loop::Send> = Arc::new(move |connection, session, count| {
        let path = &paths[session][count as usize % 100];
        // Sessions do not write in step.
        if (count + session as u64).is_multiple_of(10) {
            return connection.set(path, &value);
        }
        let answer = connection.get(path, Freshness::Local);
        Box::pin(async move { answer.await.map(drop) })
    });
    Ok(vec![closed_loop::run("mixed 90/10", connections, &subject.pids, shape, send).await?])
}
