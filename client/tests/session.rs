//! Sessions: order, exactly-once across lost connections, and an end that is told.

mod support;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate::{Client, Consistency, CreateMode, Error, ErrorKind, SessionState, WriteResult};
use support::Fake;

#[tokio::test]
async fn a_client_creates_reads_sets_lists_and_deletes() {
    let fake = Fake::start().await;
    let client = fake.client().await;

    let created = client.create("/a", "one").await.expect("created");
    assert_eq!(created.path, "/a");
    assert_eq!(client.get("/a").await.expect("read").data.as_deref(), Some(&b"one"[..]));
    let stat = client.set("/a", "two").version(0).await.expect("set");
    assert_eq!(stat.version, 1);
    let refused = client.set("/a", "three").version(0).await.expect_err("an old version");
    assert_eq!(refused.kind(), ErrorKind::BadVersion);
    assert!(client.exists("/b").await.expect("asked").is_none());
    for name in ["x", "y", "z"] {
        client.create(&format!("/a/{name}"), name).await.expect("created");
    }
    let list = client.list("/a").with_data().after("x").limit(1).await.expect("listed");
    assert_eq!(list.names().collect::<Vec<_>>(), ["y"]);
    assert_eq!(list.children[0].data.as_deref(), Some(&b"y"[..]));
    assert!(list.more);
    assert_eq!(client.delete("/a").await.expect_err("children").kind(), ErrorKind::NotEmpty);
    assert_eq!(client.delete_recursive("/a").await.expect("deleted"), 4);
    assert_eq!(client.get("/a").await.expect_err("gone").kind(), ErrorKind::NoNode);
}

#[tokio::test]
async fn null_is_not_empty() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/null", "").without_data().await.expect("created");
    client.create("/empty", "").await.expect("created");
    assert_eq!(client.get("/null").await.expect("read").data, None);
    assert_eq!(client.get("/empty").await.expect("read").data.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn pipelined_requests_take_effect_in_the_order_of_their_calls() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/log", "").await.expect("created");

    // Sent in order, awaited backwards, a read among them.
    let mut calls = Vec::new();
    for number in 0..500 {
        calls.push(client.set("/log", number.to_string()).send());
    }
    let read = client.get("/log").consistency(Consistency::Session).send();
    let last = client.set("/log", "last").send();
    assert_eq!(last.await.expect("set").version, 501);
    assert_eq!(read.await.expect("read").data.as_deref(), Some(&b"499"[..]));
    for (number, call) in calls.into_iter().enumerate().rev() {
        assert_eq!(call.await.expect("set").version as usize, number + 1);
    }
}

#[tokio::test]
async fn a_write_takes_effect_though_its_future_was_dropped() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    drop(client.create("/dropped", "").send());
    assert!(client.exists("/dropped").await.expect("asked").is_some());
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing_and_names_the_failing_operation() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let committed = client.transaction().create("/t", "1").set("/t", "2").check("/t", 1).await.expect("done");
    assert_eq!(committed.results.len(), 3);
    assert!(matches!(&committed.results[0], WriteResult::Created { path, .. } if path == "/t"));

    let refused = client.transaction().set("/t", "3").guard_absent("/t").await.expect_err("it is there");
    assert_eq!(refused.kind(), ErrorKind::GuardFailed);
    let Error::Refused { error, .. } = refused else { panic!("not refused: {refused}") };
    assert_eq!(error.operation, Some(1));
    assert_eq!(client.get("/t").await.expect("read").data.as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn writes_survive_lost_connections_and_take_effect_once() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/seq", "").await.expect("created");

    // Again and again the connection breaks behind writes that applied and were not answered.
    let mut created = Vec::new();
    for round in 0..20 {
        fake.member.cut_behind(round % 4);
        let calls: Vec<_> = (0..10)
            .map(|_| client.create("/seq/n-", "").mode(CreateMode::PersistentSequential).send())
            .collect();
        for call in calls {
            created.push(call.await.expect("created once").path);
        }
    }
    let expected: Vec<String> = (0..200).map(|number| format!("/seq/n-{number:010}")).collect();
    assert_eq!(created, expected, "each call has its own number, in order, none is skipped");
    assert_eq!(client.list("/seq").await.expect("listed").children.len(), 200);
    assert_eq!(fake.member.sessions(), 1, "always the same session");
}

#[tokio::test]
async fn applied_writes_are_not_sent_again() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    fake.member.cut_behind(3);
    let calls: Vec<_> = (0..6).map(|number| client.create(&format!("/n{number}"), "").send()).collect();
    for call in calls {
        call.await.expect("created");
    }
    assert_eq!(
        fake.member.arrived(),
        [1, 2, 3, 4, 5, 6],
        "three applied before the cut, three came after it"
    );
}

#[tokio::test]
async fn reads_are_asked_again_after_a_lost_connection() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/r", "value").await.expect("created");
    fake.member.faults.mute.store(true, Ordering::SeqCst);
    let read = client.get("/r").send();
    client.state().borrow_and_update();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fake.member.faults.mute.store(false, Ordering::SeqCst);
    fake.member.cut();
    assert_eq!(read.await.expect("read").data.as_deref(), Some(&b"value"[..]));
}

/// Cuts the connection when so many writes have applied; none of what was asked before is answered.
async fn cut_behind_effect(fake: &Fake, writes: usize) {
    while fake.member.arrived().len() < writes {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fake.member.faults.mute.store(false, Ordering::SeqCst);
    fake.member.cut();
}

#[tokio::test]
async fn a_read_that_was_sent_before_writes_never_sees_them() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/r", "0").await.expect("created");
    fake.member.faults.mute.store(true, Ordering::SeqCst);
    let before = client.get("/r").send();
    let one = client.set("/r", "1").send();
    let between = client.get("/r").send();
    let deletion = client.delete("/r").send();
    let behind = client.exists("/r").send();
    cut_behind_effect(&fake, 3).await;

    // The first would read nothing now, and so would the second: neither is what there was.
    let late = before.await.expect_err("overtaken");
    assert_eq!((&late, late.kind(), late.is_retryable()), (&Error::Overtaken, ErrorKind::Unavailable, true));
    assert_eq!(between.await, Err(Error::Overtaken));
    assert_eq!(one.await.expect("set").version, 1);
    deletion.await.expect("deleted");
    assert_eq!(behind.await, Ok(None), "nothing was sent behind it");
    assert_eq!(client.get("/r").await.expect_err("deleted").kind(), ErrorKind::NoNode);
}

#[tokio::test]
async fn a_read_that_is_awaited_has_its_answer_whatever_others_write() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/r", "0").await.expect("created");
    fake.member.faults.mute.store(true, Ordering::SeqCst);
    let reader = client.clone();
    let read = tokio::spawn(async move { reader.get("/r").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let write = client.set("/r", "1").send();
    cut_behind_effect(&fake, 2).await;
    assert_eq!(read.await.expect("no panic").expect("read").data.as_deref(), Some(&b"1"[..]));
    write.await.expect("set");
}

#[tokio::test]
async fn the_state_tells_of_a_lost_and_a_new_connection() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let session = client.session_id();
    let mut state = client.state();
    assert_eq!(*state.borrow_and_update(), SessionState::Connected);
    fake.member.faults.refuse.store(true, Ordering::SeqCst);
    fake.member.cut();
    state.wait_for(|state| *state == SessionState::Suspended).await.expect("told");
    fake.member.faults.refuse.store(false, Ordering::SeqCst);
    state.wait_for(|state| *state == SessionState::Connected).await.expect("told");
    assert_eq!(client.session_id(), session);
}

#[tokio::test]
async fn a_session_without_a_member_ends_at_its_deadline() {
    let fake = Fake::start().await;
    let timeout = Duration::from_millis(900);
    let client = fake.client_with_timeout(timeout).await;
    client.create("/before", "").await.expect("created");
    fake.member.faults.refuse.store(true, Ordering::SeqCst);
    fake.member.cut_behind(0);
    let sent = client.create("/sent", "").send();
    let mut state = client.state();
    state.wait_for(|state| *state == SessionState::Suspended).await.expect("told");
    let unsent = client.create("/unsent", "").send();
    let read = client.get("/before").send();

    let waited = Instant::now();
    assert_eq!(sent.await, Err(Error::OutcomeUnknown), "it was sent, and never answered");
    assert!(waited.elapsed() <= timeout + Duration::from_millis(500), "waited {:?}", waited.elapsed());
    assert_eq!(unsent.await, Err(Error::SessionExpired), "it was never sent");
    assert_eq!(read.await, Err(Error::SessionExpired));
    assert_eq!(client.ended().await, Error::SessionExpired);
    assert_eq!(*client.state().borrow(), SessionState::Expired);

    // The way is free again, but this session never returns and sends nothing.
    fake.member.faults.refuse.store(false, Ordering::SeqCst);
    assert_eq!(client.create("/after", "").await, Err(Error::SessionExpired));
    let other = fake.client().await;
    for path in ["/sent", "/unsent", "/after"] {
        assert!(other.exists(path).await.expect("asked").is_none(), "{path}");
    }
}

#[tokio::test]
async fn the_deadline_counts_from_the_sending_of_the_last_answered_heartbeat() {
    let fake = Fake::start().await;
    let timeout = Duration::from_millis(1200);
    let client = fake.client_with_timeout(timeout).await;
    // Answered heartbeats carry it far beyond one timeout.
    tokio::time::sleep(timeout * 2).await;
    assert_eq!(*client.state().borrow(), SessionState::Connected);
    // Requests are still answered, heartbeats are not, and nobody else takes the session.
    fake.member.faults.deaf.store(true, Ordering::SeqCst);
    let deaf = Instant::now();
    fake.member.faults.refuse.store(true, Ordering::SeqCst);
    while client.exists("/").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.ended().await, Error::SessionExpired);
    let lasted = deaf.elapsed();
    assert!(lasted <= timeout + Duration::from_millis(500), "{lasted:?}");
    assert!(lasted >= timeout / 2, "{lasted:?}: an answered heartbeat is at most a third old");
}

#[tokio::test]
async fn a_member_that_answers_requests_but_no_heartbeats_is_left_while_there_is_time() {
    let fake = Fake::start().await;
    let timeout = Duration::from_millis(1200);
    let client = fake.client_with_timeout(timeout).await;
    let (session, mut state) = (client.session_id(), client.state());
    tokio::time::sleep(timeout / 4).await;
    let reader = client.clone();
    let reads = tokio::spawn(async move {
        while reader.exists("/").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    // Others take the session.
    fake.member.faults.deaf.store(true, Ordering::SeqCst);
    state.wait_for(|state| *state != SessionState::Connected).await.expect("told");
    assert_eq!(*state.borrow(), SessionState::Suspended);
    fake.member.faults.deaf.store(false, Ordering::SeqCst);
    state.wait_for(|state| *state == SessionState::Connected).await.expect("told");
    assert_eq!(client.session_id(), session);
    // Nobody does.
    tokio::time::sleep(timeout / 2).await;
    fake.member.faults.deaf.store(true, Ordering::SeqCst);
    fake.member.faults.refuse.store(true, Ordering::SeqCst);
    state.wait_for(|state| *state != SessionState::Connected).await.expect("told");
    let left = Instant::now();
    assert_eq!(client.ended().await, Error::SessionExpired);
    assert!(left.elapsed() >= timeout / 5, "there were {:?} for finding another", left.elapsed());
    reads.await.expect("no panic");
}

#[tokio::test]
async fn a_member_is_not_left_for_a_heartbeat_that_was_late_here() {
    let fake = Fake::start().await;
    let timeout = Duration::from_millis(1200);
    let client = fake.client_with_timeout(timeout).await;
    let state = client.state();
    tokio::time::sleep(timeout / 4).await;
    // The client's own thread stands still beyond the time at which its member would be left.
    std::thread::sleep(timeout / 2);
    tokio::time::sleep(timeout).await;
    assert!(!state.has_changed().expect("it lives"), "{:?}", *state.borrow());
}

#[tokio::test]
async fn a_member_that_does_not_read_is_left_while_there_is_time() {
    let fake = Fake::start().await;
    let timeout = Duration::from_millis(1200);
    let client = fake.client_with_timeout(timeout).await;
    let (session, mut state) = (client.session_id(), client.state());
    client.create("/bulk", "").await.expect("created");
    // More than fits on the way: no heartbeat can be sent.
    fake.member.faults.stuck.store(true, Ordering::SeqCst);
    let data = vec![0; 256 << 10];
    let writes: Vec<_> = (0..16).map(|_| client.set("/bulk", data.clone()).send()).collect();
    state.wait_for(|state| *state != SessionState::Connected).await.expect("told");
    assert_eq!(*state.borrow(), SessionState::Suspended);
    fake.member.faults.stuck.store(false, Ordering::SeqCst);
    for (number, write) in writes.into_iter().enumerate() {
        assert_eq!(write.await.expect("set").version as usize, number + 1);
    }
    assert_eq!(client.session_id(), session);
}

#[tokio::test]
async fn a_session_that_the_cluster_ended_is_expired() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    fake.member.expire(client.session_id());
    assert_eq!(client.ended().await, Error::SessionExpired);
    assert_eq!(client.get("/").await, Err(Error::SessionExpired));
}

#[tokio::test]
async fn clones_of_a_lost_client_have_one_successor_with_all_its_credentials() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    assert_eq!(client.successor().await.expect("alive").session_id(), client.session_id());
    client.auth("digest", "alice:secret").await.expect("proved");
    let known = client.identities().await.expect("told");
    client.create("/mine", "").mode(CreateMode::Ephemeral).await.expect("created");
    fake.member.expire(client.session_id());
    client.ended().await;
    let clone = client.clone();
    let (one, two) = tokio::join!(client.successor(), clone.successor());
    let (one, two) = (one.expect("opened"), two.expect("opened"));
    assert_eq!(one.session_id(), two.session_id());
    assert_ne!(one.session_id(), client.session_id());
    assert_eq!(one.identities().await.expect("told"), known);
    assert!(one.exists("/mine").await.expect("asked").is_none(), "it was the lost session's");
    assert!(!format!("{one:?}").contains("secret"));
    // Nobody has it any more: the next one to ask gets a new one.
    let second = one.session_id();
    drop((one, two));
    assert_ne!(client.successor().await.expect("opened").session_id(), second);
}

#[tokio::test]
async fn closing_ends_the_session_behind_all_that_was_asked() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let last = client.create("/last", "").send();
    client.create("/mine", "").mode(CreateMode::Ephemeral).await.expect("created");
    let clone = client.clone();
    client.close().await.expect("closed");
    last.await.expect("done before the end");
    assert_eq!(clone.get("/last").await, Err(Error::Closed));
    assert_eq!(fake.member.sessions(), 0);
    let other = fake.client().await;
    assert!(other.exists("/mine").await.expect("asked").is_none());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_session() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let mut state = client.state();
    drop(client.create("/last", "").send());
    drop(client);
    state.wait_for(|state| *state == SessionState::Closed).await.expect("told");
    assert_eq!(fake.member.sessions(), 0);
    assert!(fake.client().await.exists("/last").await.expect("asked").is_some());
}

#[tokio::test]
async fn a_chroot_maps_paths_both_ways() {
    let fake = Fake::start().await;
    let whole = fake.client().await;
    whole.create("/app", "root").await.expect("created");
    let client = whole.chroot("/app").expect("a path");
    let created = client.create("/x-", "").mode(CreateMode::EphemeralSequential).await.expect("created");
    assert_eq!(created.path, "/x-0000000000");
    assert_eq!(client.get("/").await.expect("read").data.as_deref(), Some(&b"root"[..]));
    whole.create("/application", "").mode(CreateMode::Ephemeral).await.expect("created");
    assert_eq!(client.ephemerals().await.expect("listed"), ["/x-0000000000"], "a namesake is outside");
    let committed = client.transaction().create("/t", "").await.expect("done");
    assert!(matches!(&committed.results[0], WriteResult::Created { path, .. } if path == "/t"));
    let mut watch = client.watch("/").recursive().await.expect("watched");
    client.set("/t", "1").await.expect("set");
    let event = watch.next().await.expect("not over").expect("alive");
    assert!(matches!(event, quorate::WatchEvent::Node(event) if event.path == "/t"));
    assert_eq!(whole.list("/app").await.expect("listed").children.len(), 2);
}

#[tokio::test]
async fn identities_are_proved_again_on_a_new_connection() {
    let fake = Fake::start().await;
    let client = Client::builder()
        .endpoints([fake.address.clone()])
        .auth("digest", "alice:a")
        .connect()
        .await
        .expect("connected");
    client.auth("digest", "bob:b").await.expect("proved");
    fake.member.cut();
    let ids: Vec<String> = client.identities().await.expect("asked").into_iter().map(|who| who.id).collect();
    assert_eq!(ids, ["alice:a", "bob:b"]);
}

#[tokio::test]
async fn too_many_requests_are_refused_and_those_before_them_are_not() {
    let fake = Fake::start().await;
    let builder = Client::builder().endpoints([fake.address.clone()]).outstanding_max(8);
    let client = builder.connect().await.expect("connected");
    // The task cannot run in between: this test has one thread, and does not wait.
    let calls: Vec<_> = (0..20).map(|number| client.create(&format!("/n{number}"), "").send()).collect();
    for (number, call) in calls.into_iter().enumerate() {
        match call.await {
            Ok(_) => assert!(number < 8),
            Err(error) => {
                assert!(number >= 8);
                assert_eq!(error, Error::TooManyRequests { limit: 8 });
            }
        }
    }
}

#[tokio::test]
async fn a_cluster_that_cannot_be_reached_is_an_error_in_time() {
    let started = Instant::now();
    let builder = Client::builder().endpoints(["127.0.0.1:1"]).connect_timeout(Duration::from_millis(300));
    assert!(matches!(builder.connect().await, Err(Error::Connect(_))));
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(matches!(Client::builder().connect().await, Err(Error::BadArguments(_))));
    let relative = Client::builder().endpoints(["127.0.0.1:1"]).chroot("app");
    assert!(matches!(relative.connect().await, Err(Error::BadArguments(_))));
}

#[tokio::test]
async fn an_unreachable_endpoint_beside_a_good_one_is_passed_over() {
    let fake = Fake::start().await;
    let endpoints = ["127.0.0.1:1".to_string(), fake.address.clone()];
    for _ in 0..5 {
        let client = Client::builder().endpoints(endpoints.clone()).connect().await.expect("connected");
        client.exists("/").await.expect("served");
    }
}

#[tokio::test]
async fn missing_parents_are_created() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.ensure_path("/a/b/c").await.expect("created");
    client.ensure_path("/a/b/c").await.expect("there already");
    client.ensure_path("/").await.expect("there always");
    assert!(client.exists("/a/b/c").await.expect("asked").is_some());
}

#[tokio::test]
async fn the_largest_bounds_that_can_be_said_are_taken() {
    let fake = Fake::start().await;
    let builder = Client::builder().endpoints([fake.address.clone()]);
    let builder = builder.connect_timeout(Duration::MAX).outstanding_max(usize::MAX);
    let client = builder.session_timeout(Duration::MAX).connect().await.expect("connected");
    client.create("/a", "").await.expect("created");
    let mut watch = client.watch("/a").capacity(usize::MAX).await.expect("watched");
    client.set("/a", "1").await.expect("set");
    assert!(watch.next().await.expect("not over").is_ok());
}
