//! Set: each session sets its own 100 nodes in turn.

use std::sync::Arc;

use super::{Figures, Shape, Subject, closed_loop, ensure_hundred, hundred};
use crate::failure::Outcome;

pub(super) async fn run(label: &str, subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let connections = subject.connect_all(shape.connections).await?;
    let value = shape.value();
    for (index, connection) in connections.iter().enumerate() {
        ensure_hundred(&**connection, &format!("/bench/set/{index}"), &value).await;
    }
    let paths = hundred("/bench/set", connections.len());
    let send: Arc<closed_loop::Send> = Arc::new(move |connection, session, count| {
        connection.set(&paths[session][count as usize % 100], &value)
    });
    Ok(vec![closed_loop::run(label, connections, &subject.pids, shape, send).await?])
}
