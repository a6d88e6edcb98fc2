//! Five workers share a lock; each changes a node under its fencing token.
//!
//! `cargo run -p quorate --example lock [endpoint...]`

use quorate::Client;
use quorate::recipes::Lock;

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let endpoints = if given.is_empty() { vec!["127.0.0.1:7400".into()] } else { given };
    let client = Client::builder().endpoints(endpoints).connect().await?;
    client.ensure_path("/examples/ledger").await?;

    let workers = (1..=5).map(|worker| {
        let client = client.clone();
        async move {
            let guard = Lock::new(&client, "/examples/lock").acquire().await?;
            let done = client
                .transaction()
                .guard_lock("/examples/lock", guard.token())
                .set("/examples/ledger", format!("worker {worker}"))
                .await?;
            println!("worker {worker} wrote in transaction {} under token {}", done.zxid, guard.token());
            guard.release().await
        }
    });
    futures_util::future::try_join_all(workers).await?;
    client.close().await
}
