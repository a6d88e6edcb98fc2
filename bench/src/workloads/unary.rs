//! Unary: creations by unary gRPC calls, against etcd's put of a new key.

use std::sync::Arc;

use super::{Figures, Shape, Subject, closed_loop, ensure, unique};
use crate::failure::Outcome;
use crate::targets::Protocol;

pub(super) async fn run(subject: &Subject, shape: &Shape) -> Outcome<Vec<Figures>> {
    let mut connections = Vec::new();
    for index in 0..shape.connections {
        let endpoint = subject.endpoints[index % subject.endpoints.len()].clone();
        connections.push(subject.protocol.connect_unary(&[endpoint]).await?);
    }
    let (root, value) = (format!("/bench/unary/{}", unique()), shape.value());
    for (index, connection) in connections.iter().enumerate() {
        ensure(&**connection, &format!("{root}/{index}")).await;
    }
    let is_put = subject.protocol == Protocol::Etcd;
    let send: Arc<closed_loop::Send> = Arc::new(move |connection, session, count| {
        let path = format!("{root}/{session}/{count}");
        if is_put { connection.set(&path, &value) } else { connection.create(&path, &value) }
    });
    Ok(vec![closed_loop::run("unary create", connections, &subject.pids, shape, send).await?])
}
