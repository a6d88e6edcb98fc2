//! Stands as a candidate, leads for ten seconds, resigns.
//!
//! Start it several times: `cargo run -p quorate --example election [endpoint...]`

use std::time::Duration;

use quorate::Client;
use quorate::recipes::Election;

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let endpoints = if given.is_empty() { vec!["127.0.0.1:7400".into()] } else { given };
    let client = Client::builder().endpoints(endpoints).connect().await?;
    let election = Election::new(&client, "/examples/election");

    if let Some(leader) = election.leader().await? {
        println!("{:?} leads with token {}; waiting", leader.value, leader.token);
    }
    let leadership = election.campaign(format!("process {}", std::process::id())).await?;
    println!("leading with token {}", leadership.token());
    tokio::select! {
        error = leadership.lost() => println!("lost: {error}"),
        () = tokio::time::sleep(Duration::from_secs(10)) => leadership.resign().await?,
    }
    client.close().await
}
