//! Watches: nothing lost, nothing twice, across lost connections and slow listeners.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate::{CreateMode, Error, ErrorKind, EventKind, NodeEvent, Position, Value, Watch, WatchEvent, Zxid};
use quorate_core::acl::AclEntry;
use quorate_core::command::{Create, Operation};
use quorate_core::settings::Setting;
use support::Fake;

async fn next(watch: &mut Watch) -> NodeEvent {
    let told = tokio::time::timeout(Duration::from_secs(5), watch.next()).await.expect("told in time");
    match told.expect("not over").expect("no error") {
        WatchEvent::Node(event) => event,
        WatchEvent::Gap(position) => panic!("a gap behind {position:?}"),
    }
}

fn set(path: &str, data: &str) -> Operation {
    Operation::SetData { path: path.into(), data: Some(data.to_string().into()), version: -1 }
}

fn create(path: &str) -> Operation {
    Operation::Create(Create {
        path: path.into(),
        data: None,
        acl: AclEntry::open(),
        mode: CreateMode::Persistent,
    })
}

fn text(event: &NodeEvent) -> &str {
    let Some(Value::Kept(Some(data))) = &event.value else { panic!("no value: {event:?}") };
    std::str::from_utf8(data).expect("text")
}

async fn no_watches(fake: &Fake) {
    let gone = async {
        while fake.member.watches() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("removed in time");
}

#[tokio::test]
async fn a_watch_that_writes_sent_behind_it_have_overtaken_is_none() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "0").await.expect("created");
    let start = Position::after(fake.member.zxid());
    fake.member.faults.mute.store(true, Ordering::SeqCst);
    let once = client.get("/w").and_watch().send();
    let lasting = client.watch("/w").send();
    let placed = client.watch("/w").since(start).send();
    let set = client.set("/w", "1").send();
    while fake.member.arrived().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fake.member.faults.mute.store(false, Ordering::SeqCst);
    fake.member.cut();

    // Left now, neither would hear of what was sent behind it.
    assert_eq!(once.await.expect_err("overtaken"), Error::Overtaken);
    assert_eq!(lasting.await.expect_err("overtaken"), Error::Overtaken);
    set.await.expect("set");
    // This one says where it begins.
    let mut placed = placed.await.expect("watched");
    let told = placed.next().await.expect("not over").expect("alive");
    assert!(matches!(told, WatchEvent::Node(event) if event.kind == EventKind::NodeDataChanged));
    assert_eq!(fake.member.watches(), 1, "the others left nothing behind");
    drop(placed);
    no_watches(&fake).await;
}

#[tokio::test]
async fn a_persistent_watch_tells_all_four_kinds() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let mut watch = client.watch("/w").await.expect("watched");
    client.create("/w", "").await.expect("created");
    client.create("/w/c", "").await.expect("created");
    client.set("/w", "x").await.expect("set");
    client.delete_recursive("/w").await.expect("deleted");
    let mut kinds = Vec::new();
    for _ in 0..5 {
        let event = next(&mut watch).await;
        assert_eq!((event.path.as_str(), &event.value), ("/w", &None));
        kinds.push(event.kind);
    }
    use EventKind::*;
    assert_eq!(kinds, [NodeCreated, NodeChildrenChanged, NodeDataChanged, NodeChildrenChanged, NodeDeleted]);
}

#[tokio::test]
async fn an_event_comes_before_the_reply_that_shows_its_change() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let (_, mut changed) = client.get("/w").and_watch().await.expect("read");
    client.set("/w", "x").await.expect("set");
    let ready = futures_util::FutureExt::now_or_never(&mut changed);
    assert_eq!(ready.expect("told already").expect("told").kind, EventKind::NodeDataChanged);
}

#[tokio::test]
async fn a_watch_resumes_behind_its_position_without_loss_or_repeat() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let mut watch = client.watch("/w").with_value().await.expect("watched");
    let mut expected = 0;
    for round in 0..10 {
        // Before, during and after the connection is down.
        for phase in 0..3 {
            if phase == 1 {
                fake.member.cut();
            }
            for _ in 0..round {
                fake.member.write(set("/w", &expected.to_string()));
                expected += 1;
            }
        }
        client.exists("/w").await.expect("connected again");
    }
    let mut last = Position::default();
    for number in 0..expected {
        let event = next(&mut watch).await;
        assert_eq!(text(&event), number.to_string());
        assert!(event.position > last);
        last = event.position;
    }
    client.set("/w", "end").await.expect("set");
    assert_eq!(text(&next(&mut watch).await), "end", "and nothing twice");
}

#[tokio::test]
async fn a_quiet_watch_advances_with_the_heartbeats() {
    let fake = Fake::start().await;
    let client = fake.client_with_timeout(Duration::from_millis(600)).await;
    client.create("/quiet", "").await.expect("created");
    let mut watch = client.watch("/quiet").await.expect("watched");
    client.create("/busy", "").await.expect("created");
    for number in 0..50 {
        fake.member.write(set("/busy", &format!("{number:01000}")));
    }
    // Several heartbeats later the log forgets all of that; the quiet watch does not mind.
    tokio::time::sleep(Duration::from_millis(700)).await;
    fake.member.write(Operation::Set(Setting::ChangeLogBytes(1)));
    fake.member.cut();
    client.exists("/").await.expect("connected again");
    fake.member.write(set("/quiet", "x"));
    assert_eq!(next(&mut watch).await.kind, EventKind::NodeDataChanged);
}

#[tokio::test]
async fn a_gap_is_told_and_what_follows_it_is_not_lost() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let mut watch = client.watch("/w").with_value().await.expect("watched");
    fake.member.write(Operation::Set(Setting::ChangeLogBytes(1)));
    fake.member.cut();
    for number in 0..10 {
        fake.member.write(set("/w", &number.to_string()));
    }
    let told = watch.next().await.expect("not over").expect("alive");
    let WatchEvent::Gap(position) = told else { panic!("not a gap: {told:?}") };
    let node = client.get("/w").await.expect("read");
    assert_eq!(node.data.as_deref(), Some(&b"9"[..]));
    assert!(Position::after(node.zxid) >= position);
    client.set("/w", "behind").await.expect("set");
    assert_eq!(text(&next(&mut watch).await), "behind");
}

#[tokio::test]
async fn a_watch_can_begin_in_the_past_or_be_refused() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let node = client.get("/w").await.expect("read");
    client.set("/w", "1").await.expect("set");
    client.set("/w", "2").await.expect("set");
    let since = Position::after(node.zxid);
    let mut watch = client.watch("/w").since(since).with_value().await.expect("watched");
    assert_eq!(text(&next(&mut watch).await), "1");
    assert_eq!(text(&next(&mut watch).await), "2");

    fake.member.write(Operation::Set(Setting::ChangeLogBytes(1)));
    fake.member.write(set("/w", "3"));
    fake.member.write(set("/w", "4"));
    let refused = client.watch("/w").since(Position::after(Zxid(1))).await.expect_err("forgotten");
    assert_eq!(refused.kind(), ErrorKind::WatchGap);
}

#[tokio::test]
async fn a_slow_listener_catches_up_without_loss() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let mut watch = client.watch("/w").with_value().capacity(3).await.expect("watched");
    for number in 0..100 {
        client.set("/w", number.to_string()).await.expect("set");
    }
    for number in 0..100 {
        assert_eq!(text(&next(&mut watch).await), number.to_string());
    }
    client.set("/w", "end").await.expect("set");
    assert_eq!(text(&next(&mut watch).await), "end");
}

#[tokio::test]
async fn a_long_past_is_told_through_a_short_queue() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let created = client.create("/w", "").await.expect("created");
    for number in 0..50 {
        client.set("/w", number.to_string()).await.expect("set");
    }
    let since = Position::after(created.stat.czxid);
    let mut watch = client.watch("/w").since(since).with_value().capacity(4).await.expect("watched");
    for number in 0..50 {
        assert_eq!(text(&next(&mut watch).await), number.to_string());
    }
    client.set("/w", "end").await.expect("set");
    assert_eq!(text(&next(&mut watch).await), "end");
    assert_eq!(fake.member.watches(), 1);
}

#[tokio::test]
async fn a_slow_listener_catches_up_across_a_lost_connection() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let mut watch = client.watch("/w").with_value().capacity(2).await.expect("watched");
    for number in 0..20 {
        if number % 7 == 3 {
            fake.member.cut();
        }
        client.set("/w", number.to_string()).await.expect("set");
    }
    for number in 0..20 {
        assert_eq!(text(&next(&mut watch).await), number.to_string());
    }
}

#[tokio::test]
async fn one_shot_watches_fire_once_even_if_the_connection_was_down() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let (_, data) = client.get("/w").and_watch().await.expect("read");
    let (stat, missing) = client.exists("/new").and_watch().await.expect("asked");
    assert!(stat.is_none());
    let (_, children) = client.list("/w").and_watch().await.expect("listed");
    fake.member.cut();
    fake.member.write(set("/w", "x"));
    fake.member.write(create("/new"));
    fake.member.write(create("/w/child"));
    assert_eq!(data.await.expect("told").kind, EventKind::NodeDataChanged);
    assert_eq!(missing.await.expect("told").kind, EventKind::NodeCreated);
    assert_eq!(children.await.expect("told").kind, EventKind::NodeChildrenChanged);
}

#[tokio::test]
async fn a_dropped_watch_is_removed_at_the_member() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let watch = client.watch("/w").await.expect("watched");
    let (_, changed) = client.get("/w").and_watch().await.expect("read");
    assert_eq!(fake.member.watches(), 2);
    drop(watch);
    drop(changed);
    no_watches(&fake).await;
    // The connection breaks while it is being left again.
    let watch = client.watch("/w").await.expect("watched");
    fake.member.cut();
    drop(watch);
    client.exists("/").await.expect("connected again");
    no_watches(&fake).await;
    // Called and given up before the answer: nothing stays behind either.
    drop(client.watch("/w").send());
    client.exists("/").await.expect("answered behind it");
    no_watches(&fake).await;
}

#[tokio::test]
async fn a_watch_ends_with_its_session() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let mut watch = client.watch("/").recursive().await.expect("watched");
    fake.member.expire(client.session_id());
    assert_eq!(watch.next().await, Some(Err(quorate::Error::SessionExpired)));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn many_watches_share_an_event_and_each_hears_it_once() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/w", "").await.expect("created");
    let mut watches = Vec::new();
    for number in 0..10 {
        let call = client.watch("/w");
        watches.push(if number % 2 == 0 { call.recursive().await } else { call.await }.expect("watched"));
    }
    client.set("/w", "1").await.expect("set");
    fake.member.cut();
    client.set("/w", "2").await.expect("set");
    for watch in &mut watches {
        assert_eq!(next(watch).await.stat.version, 1);
        assert_eq!(next(watch).await.stat.version, 2);
        assert!(futures_util::FutureExt::now_or_never(watch.next()).is_none());
    }
}
