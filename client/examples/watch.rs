//! Prints everything that happens in the tree, until it is stopped.
//!
//! `cargo run -p quorate --example watch [endpoint...]`; stop and start members meanwhile: no event
//! is lost or printed twice.

use quorate::{Client, WatchEvent};

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let endpoints = if given.is_empty() { vec!["127.0.0.1:7400".into()] } else { given };
    let client = Client::builder().endpoints(endpoints).connect().await?;

    let mut watch = client.watch("/").recursive().with_value().await?;
    println!("watching; create a node from elsewhere");
    while let Some(told) = watch.next().await {
        match told? {
            WatchEvent::Node(event) => {
                println!("{:>8} {:?} {} {:?}", event.position.zxid, event.kind, event.path, event.value);
            }
            WatchEvent::Gap(position) => println!("{:>8} events were lost: read again", position.zxid),
        }
    }
    Ok(())
}
