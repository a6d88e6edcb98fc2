//! Following services across the end of a session: what goes on by itself, and what must not.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate::balance::{self, Balanced};
use quorate::registry::{Instance, Mode, ServiceName};
use quorate::{AclEntry, Client, Error, ErrorKind, Permissions};
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

#[tokio::test]
async fn a_registration_changes_only_what_it_registered() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let registered = async |client: &Client, generation| {
        let instance = Instance { generation, ..instance(&fake, "a") };
        client.registry().register("orders", instance).await.expect("registered")
    };
    let old = registered(&one, 1).await;
    old.update(|instance| instance.weight = 7).await.expect("its own");
    let newer = registered(&two, 2).await;
    let lost = old.drain(Duration::from_secs(30)).await.expect_err("the registration is lost");
    assert_eq!(lost.kind(), ErrorKind::NoNode);
    let service = one.registry().service("orders").await.expect("read");
    assert_eq!(service.entry("a").expect("it stands").instance.mode, Mode::Serving);
    newer.drain(Duration::from_secs(30)).await.expect("its own");
}

#[tokio::test]
async fn who_may_not_create_at_the_top_registers_where_the_parents_stand() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let read_only = || vec![AclEntry { permissions: Permissions::READ, ..AclEntry::open().remove(0) }];
    client.ensure_path("/quorate/registry").await.expect("created");
    client.set_acl("/", read_only()).await.expect("closed");
    register(&client, &fake, "a").await;
    // Nor there, and this service is not known yet.
    client.set_acl("/quorate/registry", read_only()).await.expect("closed");
    let registry = client.registry();
    let refused = registry.register_lasting("elsewhere/orders", instance(&fake, "a")).await;
    assert_eq!(refused.expect_err("a new namespace").kind(), ErrorKind::NoAuth);
    register(&client, &fake, "b").await;
}

#[tokio::test]
async fn a_follower_shows_no_transaction_by_half() {
    const ROUNDS: u32 = 300;
    let fake = Fake::start().await;
    let (client, other) = (fake.client().await, fake.client().await);
    let ids: Vec<String> = (0..20).map(|number| format!("i{number:02}")).collect();
    for id in &ids {
        register(&other, &fake, id).await;
    }
    let name: ServiceName = "orders".parse().expect("a name");
    let mut follower = client.registry().follow("orders").await.expect("followed");
    let writer = async {
        for weight in 2..=ROUNDS {
            let mut transaction = other.transaction();
            for id in &ids {
                let record = Instance { weight, ..instance(&fake, id) }.encode();
                transaction = transaction.set(&name.instance_path(id), record);
            }
            transaction.await.expect("committed");
        }
    };
    let reader = async {
        loop {
            let service = follower.changed().await.expect("alive");
            let weights: Vec<u32> = service.entries().iter().map(|entry| entry.instance.weight).collect();
            assert!(weights.iter().all(|weight| *weight == weights[0]), "{weights:?}");
            if weights[0] == ROUNDS {
                return;
            }
        }
    };
    timeout(PATIENCE, async { tokio::join!(writer, reader) }).await.expect("in time");
}
