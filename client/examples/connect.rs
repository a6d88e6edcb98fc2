//! Connects, creates a node, reads it back and closes.
//!
//! Run a cluster first (`quorated dev`), then `cargo run -p quorate --example connect`. Other
//! endpoints: as arguments.

use quorate::{Client, CreateMode};

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let client = Client::builder().endpoints(endpoints()).connect().await?;
    println!("session {} at member {}", client.session_id(), client.member_id());

    client.ensure_path("/examples").await?;
    let node = client.create("/examples/hello-", "hello").mode(CreateMode::EphemeralSequential).await?;
    println!("created {} in transaction {}", node.path, node.stat.czxid);

    let read = client.get(&node.path).await?;
    println!("it holds {:?}", read.data);
    for name in client.list("/examples").await?.names() {
        println!("child {name}");
    }
    client.close().await
}

fn endpoints() -> Vec<String> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if given.is_empty() { vec!["127.0.0.1:7400".into()] } else { given }
}
