//! Following services across the end of a session: what goes on by itself, and what must not.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate::balance::{self, Balanced};
use quorate::registry::Instance;
use quorate::{Client, Error};
use support::Fake;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// An instance that anybody can connect to: the fake itself.
fn instance(fake: &Fake, id: &str) -> Instance {
    let (address, port) = fake.address.rsplit_once(':').expect("host:port");
    Instance::new(id, address, port.parse().expect("a port"))
}

async fn register(client: &Client, fake: &Fake, id: &str) {
    client.registry().register_lasting("orders", instance(fake, id)).await.expect("registered");
}

/// Waits until the channel picks among exactly these.
async fn until_ids(channel: &Balanced, wanted: &[&str]) {
    let waiting = async {
        loop {
            let selection = channel.selection();
            let ids: Vec<&str> = selection.candidates().map(|one| one.entry.instance.id.as_str()).collect();
            if ids == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "still {:?} rather than {wanted:?}", channel.selection());
}

#[tokio::test]
async fn a_balanced_channel_follows_on_in_another_session_when_its_own_is_lost() {
    let fake = Fake::start().await;
    let (client, other) = (fake.client().await, fake.client().await);
    register(&other, &fake, "a").await;
    let channel = balance::channel(&client, "orders").await.expect("followed");
    until_ids(&channel, &["a"]).await;
    fake.member.expire(client.session_id());
    assert_eq!(client.ended().await, Error::SessionExpired);
    register(&other, &fake, "b").await;
    until_ids(&channel, &["a", "b"]).await;
    // And again, by another way: nobody can be reached for longer than a session lives. What is known
    // is used meanwhile.
    let next = client.successor().await.expect("connected");
    fake.member.faults.refuse.store(true, Ordering::SeqCst);
    fake.member.expire(next.session_id());
    assert_eq!(next.ended().await, Error::SessionExpired);
    other.registry().deregister("orders", "a").await.expect("removed");
    until_ids(&channel, &["a", "b"]).await;
    fake.member.faults.refuse.store(false, Ordering::SeqCst);
    until_ids(&channel, &["b"]).await;
}

#[tokio::test]
async fn a_balanced_channel_of_a_closed_client_opens_no_session() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    register(&client, &fake, "a").await;
    let channel = balance::channel(&client, "orders").await.expect("followed");
    until_ids(&channel, &["a"]).await;
    client.clone().close().await.expect("closed");
    assert_eq!(client.successor().await.expect_err("it was closed"), Error::Closed);
    until_ids(&channel, &["a"]).await;
    assert_eq!(fake.member.sessions(), 0);
}

#[tokio::test]
async fn nobody_may_own_anything_by_what_a_lost_session_told() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    register(&client, &fake, "a").await;
    let follower = client.registry().follow("orders").await.expect("followed");
    assert!(follower.may_own("a", "key"));
    fake.member.expire(client.session_id());
    client.ended().await;
    assert!(!follower.may_own("a", "key"), "the cluster counts this owner as gone");
    assert!(follower.locate("key").is_some(), "what is known may still be used for finding others");
    let next = client.successor().await.expect("connected");
    let follower = next.registry().follow("orders").await.expect("followed");
    assert!(follower.may_own("a", "key"));
}

#[tokio::test]
async fn a_registration_removes_only_what_it_registered() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let registered = async |client: &Client, generation| {
        let instance = Instance { generation, ..instance(&fake, "a") };
        client.registry().register("orders", instance).await.expect("registered")
    };
    let stands = async || {
        let service = one.registry().service("orders").await.expect("read");
        service.entry("a").is_some()
    };
    let old = registered(&one, 1).await;
    let newer = registered(&two, 2).await;
    old.deregister().await.expect("nothing to remove is no failure");
    assert!(stands().await, "another's, with a higher generation");
    let again = registered(&two, 2).await;
    drop(newer);
    two.sync("/").await.expect("behind it");
    assert!(stands().await, "the same session's, of the same generation");
    drop(again);
    two.sync("/").await.expect("behind it");
    assert!(!stands().await);
}
