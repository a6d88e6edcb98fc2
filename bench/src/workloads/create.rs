//! Create: each session creates persistent nodes below a node of its own.

use std::sync::Arc;

use super::{Figures, Shape, Subject, closed_loop, ensure, unique};
use crate::failure::Outcome;

pub(super) async fn run(subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let connections = subject.connect_all(shape.connections).await?;
    let (root, value) = (format!("/bench/create/{}", unique()), shape.value());
    for (index, connection) in connections.iter().enumerate() {
        ensure(&**connection, &format!("{root}/{index}")).await;
    }
    let send: Arc<closed_loop::Send> = Arc::new(move |connection, session, count| {
        connection.create(&format!("{root}/{session}/{count}"), &value)
    });
    Ok(vec![closed_loop::run("create", connections, &subject.pids, shape, send).await?])
}
