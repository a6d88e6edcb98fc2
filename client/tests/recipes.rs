//! Recipes: each keeps its promise between clients, when connections break and when sessions end.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use quorate::recipes::{
    Barrier, Counter, DoubleBarrier, Election, Group, Lock, LockGuard, Queue, ReadWriteLock, Semaphore,
    TreeCache,
};
use quorate::{Client, Error, ErrorKind, Zxid};
use quorate_core::acl::{AclEntry, Permissions};
use quorate_core::command::Operation;
use quorate_core::settings::Setting;
use support::Fake;
use tokio::task::JoinHandle;

/// Long enough that something which is to wait would have failed to.
const A_WHILE: Duration = Duration::from_millis(60);
const IN_TIME: Duration = Duration::from_secs(5);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(IN_TIME, future).await.expect("in time")
}

async fn waits<T>(future: impl Future<Output = T>) {
    assert!(tokio::time::timeout(A_WHILE, future).await.is_err(), "it should have waited");
}

async fn children(client: &Client, path: &str) -> usize {
    client.list(path).await.expect("listed").children.len()
}

#[tokio::test]
async fn a_lock_excludes_and_its_tokens_grow() {
    let fake = Fake::start().await;
    let inside = Arc::new(AtomicI64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let (client, inside) = (fake.client().await, inside.clone());
        tasks.push(tokio::spawn(async move {
            let lock = Lock::new(&client, "/locks/l");
            let mut tokens = Vec::new();
            for _ in 0..5 {
                let guard = lock.acquire().await.expect("acquired");
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "alone");
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                tokens.push(guard.token());
                guard.release().await.expect("released");
            }
            tokens
        }));
    }
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        fake.member.cut();
    }
    for task in tasks {
        let tokens = in_time(task).await.expect("no panic");
        assert!(tokens.is_sorted_by(|a, b| a < b));
    }
    assert_eq!(children(&fake.client().await, "/locks/l").await, 0, "nobody left a contender behind");
}

#[tokio::test]
async fn a_lock_s_token_guards_a_transaction_until_the_lock_is_lost() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    one.create("/data", "").await.expect("created");
    let guard = Lock::new(&one, "/l").acquire().await.expect("acquired");
    let token = guard.token();
    one.transaction().guard_lock("/l", token).set("/data", "mine").await.expect("still held");

    let lock = Lock::new(&two, "/l");
    assert!(lock.try_acquire().await.expect("tried").is_none());
    waits(lock.acquire()).await;
    assert!(lock.acquire_within(A_WHILE).await.expect("tried").is_none());

    fake.member.expire(one.session_id());
    assert_eq!(in_time(guard.lost()).await, Error::SessionExpired);
    let next = in_time(lock.acquire()).await.expect("acquired");
    assert!(next.token() > token);
    let stale = two.transaction().guard_lock("/l", token).set("/data", "stale").await;
    assert_eq!(stale.expect_err("lost").kind(), ErrorKind::GuardFailed);
}

#[tokio::test]
async fn a_dropped_guard_and_a_dropped_wait_release_the_lock() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let lock = Lock::new(&client, "/l");
    let guard = lock.acquire().await.expect("acquired");
    // Given up at every stage: unpolled, on its way, in the queue.
    drop(lock.acquire());
    assert!(lock.acquire().now_or_never().is_none());
    waits(lock.acquire()).await;
    drop(guard);
    let guard = in_time(lock.acquire()).await.expect("acquired");
    assert_eq!(children(&client, "/l").await, 1);
    guard.release().await.expect("released");
}

#[tokio::test]
async fn a_guard_that_is_dropped_among_too_many_requests_releases_all_the_same() {
    let fake = Fake::start().await;
    let builder = Client::builder().endpoints([fake.address.clone()]).outstanding_max(4);
    let client = builder.connect().await.expect("connected");
    let guard = Lock::new(&client, "/l").acquire().await.expect("acquired");
    // What is asked now waits, until no more may.
    fake.member.faults.refuse.store(true, Ordering::SeqCst);
    fake.member.cut();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut pending = client.create("/l/other", "").send();
        if let Some(answer) = (&mut pending).now_or_never() {
            break answer;
        }
        waiting.push(pending);
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused, Err(Error::TooManyRequests { .. })), "{refused:?}");
    drop(guard);
    fake.member.faults.refuse.store(false, Ordering::SeqCst);
    let other = fake.client().await;
    drop(in_time(Lock::new(&other, "/l").acquire()).await.expect("acquired"));
}

/// The cluster forgets what has happened, and every connection is lost.
async fn forget(fake: &Fake) {
    fake.member.cut();
    fake.member.write(Operation::Set(Setting::ChangeLogBytes(0)));
    let other = fake.client().await;
    for _ in 0..3 {
        other.create("/other", "").await.expect("created");
        other.delete("/other").await.expect("deleted");
    }
}

#[tokio::test]
async fn whoever_waits_looks_again_when_the_cluster_no_longer_knows_what_happened() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let guard = Lock::new(&one, "/l").acquire().await.expect("acquired");
    let second = tokio::spawn({
        let two = two.clone();
        async move { Lock::new(&two, "/l").acquire().await.map(|guard| guard.token()) }
    });
    while children(&one, "/l").await < 2 {
        tokio::task::yield_now().await;
    }
    waits(guard.lost()).await;
    let lost = tokio::spawn({
        let permit = Semaphore::new(&one, "/s", 1).acquire().await.expect("acquired");
        async move { permit.lost().await }
    });
    let barrier = Barrier::new(&one, "/b");
    barrier.close().await.expect("closed");
    let passed = tokio::spawn({
        let barrier = Barrier::new(&two, "/b");
        async move { barrier.wait().await }
    });
    tokio::time::sleep(A_WHILE).await;
    for _ in 0..3 {
        forget(&fake).await;
        tokio::time::sleep(A_WHILE).await;
    }
    assert!(!lost.is_finished(), "the permit is held");
    assert!(!second.is_finished() && !passed.is_finished());
    guard.release().await.expect("released");
    in_time(second).await.expect("no panic").expect("acquired");
    barrier.open().await.expect("opened");
    in_time(passed).await.expect("no panic").expect("passed");
}

/// Contenders that join in this order, each in a session of its own; whoever gets the lock tells its
/// place in the order and holds the lock until its task is aborted.
async fn contenders(fake: &Fake, count: usize) -> (Vec<(Client, JoinHandle<()>)>, Acquired) {
    let (tell, acquired) = tokio::sync::mpsc::unbounded_channel();
    let observer = fake.client().await;
    let mut tasks = Vec::new();
    for place in 0..count {
        let (client, tell) = (fake.client().await, tell.clone());
        let lock = Lock::new(&client, "/l");
        let task = tokio::spawn(async move {
            let guard = lock.acquire().await;
            tell.send((place, guard.as_ref().map(LockGuard::token).map_err(Error::kind))).expect("heard");
            if let Ok(guard) = guard {
                guard.lost().await;
            }
        });
        while observer.exists("/l").await.expect("asked").is_none()
            || children(&observer, "/l").await <= place
        {
            tokio::task::yield_now().await;
        }
        tasks.push((client, task));
    }
    (tasks, acquired)
}

type Acquired = tokio::sync::mpsc::UnboundedReceiver<(usize, Result<Zxid, ErrorKind>)>;

#[tokio::test]
async fn contenders_that_give_up_in_the_middle_let_nobody_past_who_still_waits() {
    let fake = Fake::start().await;
    let (tasks, mut acquired) = contenders(&fake, 6).await;
    assert_eq!(in_time(acquired.recv()).await.expect("told").0, 0);
    // The first two are watched by others, the last is not.
    for given_up in [2, 1, 4] {
        tasks[given_up].1.abort();
        waits(acquired.recv()).await;
    }
    for (holder, next) in [(0, 3), (3, 5)] {
        tasks[holder].1.abort();
        assert_eq!(in_time(acquired.recv()).await.expect("told").0, next);
        waits(acquired.recv()).await;
    }
    tasks[5].1.abort();
    let nothing_left = async {
        let client = fake.client().await;
        while children(&client, "/l").await > 0 || fake.member.watches() > 0 {
            tokio::task::yield_now().await;
        }
    };
    in_time(nothing_left).await;
}

#[tokio::test]
async fn a_waiter_that_was_taken_out_of_the_queue_does_not_get_the_lock() {
    let fake = Fake::start().await;
    let (tasks, mut acquired) = contenders(&fake, 3).await;
    assert_eq!(in_time(acquired.recv()).await.expect("told").0, 0);
    let client = fake.client().await;
    let mut queue = client.list("/l").await.expect("listed").children;
    client.delete(&format!("/l/{}", queue.remove(1).name)).await.expect("deleted");
    // Longer than it takes its own node for granted.
    waits(acquired.recv()).await;
    tasks[0].1.abort();
    let mut told =
        [in_time(acquired.recv()).await.expect("told"), in_time(acquired.recv()).await.expect("told")];
    told.sort_by_key(|(place, _)| *place);
    assert_eq!(told[0], (1, Err(ErrorKind::GuardFailed)));
    assert!(matches!(told[1], (2, Ok(_))));
}

#[tokio::test]
async fn a_lock_taken_away_is_lost() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let guard = Lock::new(&client, "/l").data("here").acquire().await.expect("acquired");
    assert_eq!(client.get(guard.path()).await.expect("read").data.as_deref(), Some(&b"here"[..]));
    client.set(guard.path(), "a change is no loss").await.expect("set");
    waits(guard.lost()).await;
    client.delete(guard.path()).await.expect("deleted");
    assert_eq!(in_time(guard.lost()).await.kind(), ErrorKind::GuardFailed);
}

/// In a queue that was made anew numbers begin anew.
#[tokio::test]
async fn a_lost_guard_ends_nobody_elses_lock_that_has_its_name() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let lost = Lock::new(&one, "/l").acquire().await.expect("acquired");
    one.delete_recursive("/l").await.expect("deleted");
    let held = in_time(Lock::new(&two, "/l").acquire()).await.expect("acquired");
    assert_eq!(lost.path(), held.path());
    assert_eq!(in_time(lost.lost()).await.kind(), ErrorKind::GuardFailed);
    lost.release().await.expect("there is nothing to release");
    waits(held.lost()).await;
    held.release().await.expect("released");
}

/// A node that its ACL hides, with `x` in it.
async fn hidden(client: &Client, path: &str) {
    let nobody = AclEntry { permissions: Permissions::DELETE, ..AclEntry::open()[0].clone() };
    client.create(path, "x").acl(vec![nobody]).await.expect("created");
}

#[tokio::test]
async fn what_may_not_be_read_stops_no_recipe() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    for path in ["/q", "/g", "/e", "/t"] {
        client.create(path, "").await.expect("created");
    }
    hidden(&client, "/q/item-0000000000").await;
    let queue = Queue::new(&client, "/q");
    queue.put("y").await.expect("put");
    assert_eq!(in_time(queue.take()).await.expect("taken").data, "y");

    hidden(&client, "/g/member-0000000000").await;
    assert_eq!(Group::new(&client, "/g").members().await.expect_err("hidden").kind(), ErrorKind::NoAuth);
    hidden(&client, "/e/lock-0000000000").await;
    let leader = Election::new(&client, "/e").leader().await;
    assert_eq!(leader.expect_err("hidden").kind(), ErrorKind::NoAuth);

    hidden(&client, "/t/a").await;
    client.create("/t/b", "").await.expect("created");
    let cache = TreeCache::start(&client, "/t").await.expect("started");
    assert_eq!(cache.snapshot().into_keys().collect::<Vec<_>>(), ["/t", "/t/b"]);
}

#[tokio::test]
async fn readers_share_and_a_writer_is_alone_in_the_order_of_asking() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let lock = ReadWriteLock::new(&client, "/rw");
    let one = lock.read().await.expect("read");
    let two = in_time(lock.read()).await.expect("readers share");
    let writer = tokio::spawn({
        let lock = lock.clone();
        async move { lock.write().await }
    });
    while children(&client, "/rw").await < 3 {
        tokio::task::yield_now().await;
    }
    waits(lock.read()).await;
    one.release().await.expect("released");
    assert!(!writer.is_finished());
    two.release().await.expect("released");
    let writer = in_time(writer).await.expect("no panic").expect("written");
    waits(lock.read()).await;
    client
        .transaction()
        .guard_created(writer.path(), writer.token())
        .guard_lock("/rw", writer.token())
        .await
        .expect("held");
    drop(writer);
    drop(in_time(lock.read()).await.expect("read"));
}

#[tokio::test]
async fn a_semaphore_lets_so_many_in() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let semaphore = Semaphore::new(&client, "/s", 2);
    let one = semaphore.acquire().await.expect("acquired");
    let _two = semaphore.acquire().await.expect("acquired");
    assert!(semaphore.try_acquire().await.expect("tried").is_none());
    waits(semaphore.acquire()).await;
    let third = semaphore.acquire();
    tokio::pin!(third);
    assert!(tokio::time::timeout(A_WHILE, &mut third).await.is_err());
    one.release().await.expect("released");
    drop(in_time(third).await.expect("acquired"));
    assert!(matches!(Semaphore::new(&client, "/s", 0).acquire().await, Err(Error::BadArguments(_))));
}

#[tokio::test]
async fn an_election_has_one_leader_whose_value_is_followed() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let election = Election::new(&two, "/e");
    assert_eq!(election.leader().await.expect("asked"), None);
    let mut observer = election.observe().await.expect("observed");
    assert_eq!(observer.changed().await.expect("told"), None);

    let first = Election::new(&one, "/e").campaign("one").await.expect("elected");
    let leader = in_time(observer.changed()).await.expect("told").expect("somebody leads");
    assert_eq!((leader.token, leader.value.as_deref()), (first.token(), Some(&b"one"[..])));
    first.proclaim("one, again").await.expect("proclaimed");
    let leader = in_time(observer.changed()).await.expect("told").expect("somebody leads");
    assert_eq!(leader.value.as_deref(), Some(&b"one, again"[..]));

    let second = tokio::spawn(async move { election.campaign("two").await });
    fake.member.cut();
    fake.member.expire(one.session_id());
    in_time(first.lost()).await;
    let second = in_time(second).await.expect("no panic").expect("elected");
    assert!(second.token() > first.token());
    loop {
        match in_time(observer.changed()).await.expect("told") {
            Some(leader) if leader.token == second.token() => break,
            _ => {}
        }
    }
    assert!(first.proclaim("late").await.is_err());
    second.resign().await.expect("resigned");
    assert_eq!(in_time(observer.changed()).await.expect("told"), None);
}

#[tokio::test]
async fn a_barrier_holds_until_it_is_opened() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let barrier = Barrier::new(&client, "/gates/b");
    in_time(barrier.wait()).await.expect("open");
    assert!(barrier.close().await.expect("closed"));
    assert!(!barrier.close().await.expect("closed already"));
    waits(barrier.wait()).await;
    let waiting = barrier.wait();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(A_WHILE, &mut waiting).await.is_err());
    fake.member.cut();
    assert!(barrier.open().await.expect("opened"));
    in_time(waiting).await.expect("open");
    assert!(!barrier.open().await.expect("open already"));
}

#[tokio::test]
async fn a_double_barrier_keeps_rounds_apart() {
    let fake = Fake::start().await;
    let count = Arc::new(AtomicI64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (client, count) = (fake.client().await, count.clone());
        tasks.push(tokio::spawn(async move {
            let barrier = DoubleBarrier::new(&client, "/d", 3);
            for round in 1..=4 {
                count.fetch_add(1, Ordering::SeqCst);
                let inside = barrier.enter().await.expect("entered");
                assert!(count.load(Ordering::SeqCst) >= round * 3, "nobody begins before all are in");
                inside.leave().await.expect("left");
            }
        }));
    }
    for task in tasks {
        in_time(task).await.expect("no panic");
    }
    assert_eq!(count.load(Ordering::SeqCst), 12);
}

#[tokio::test]
async fn a_double_barrier_begins_no_round_before_the_one_before_has_ended() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let (first, second) = (DoubleBarrier::new(&one, "/d", 2), DoubleBarrier::new(&two, "/d", 2));
    let (inside, other) = tokio::join!(first.enter(), second.enter());
    // One goes without a word and comes again, while the other is still in.
    drop(inside.expect("entered"));
    waits(first.enter()).await;
    // The other dies inside: nobody is left who would end the round.
    let other = other.expect("entered");
    fake.member.expire(two.session_id());
    in_time(two.ended()).await;
    drop(other);
    waits(first.enter()).await;
    let three = fake.client().await;
    let third = DoubleBarrier::new(&three, "/d", 2);
    let (one, three) = in_time(async { tokio::join!(first.enter(), third.enter()) }).await;
    let (one, three) = (one.expect("entered"), three.expect("entered"));
    let (one, three) = in_time(async { tokio::join!(one.leave(), three.leave()) }).await;
    one.and(three).expect("left");
}

#[tokio::test]
async fn a_queue_gives_each_item_to_one_consumer_in_order() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    let queue = Queue::new(&client, "/q");
    waits(queue.take()).await;
    for number in 0..40 {
        queue.put(number.to_string()).await.expect("put");
    }
    assert_eq!(queue.peek().await.expect("there").data, "0");
    let mut consumers = Vec::new();
    for _ in 0..4 {
        let queue = Queue::new(&fake.client().await, "/q");
        consumers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            for _ in 0..10 {
                let item = queue.take().await.expect("taken");
                taken.push((item.token, item.data));
            }
            taken
        }));
    }
    fake.member.cut();
    let mut all = Vec::new();
    for consumer in consumers {
        let taken = in_time(consumer).await.expect("no panic");
        assert!(taken.is_sorted());
        all.extend(taken);
    }
    all.sort();
    let numbers: Vec<String> =
        all.into_iter().map(|(_, data)| String::from_utf8_lossy(&data).into_owned()).collect();
    assert_eq!(numbers, (0..40).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_counter_counts_every_addition_once() {
    let fake = Fake::start().await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let client = fake.client().await;
        tasks.push(tokio::spawn(async move {
            let counter = Counter::new(&client, "/counters/c");
            for _ in 0..10 {
                counter.add(1).await.expect("added");
            }
        }));
    }
    for _ in 0..5 {
        fake.member.cut_behind(3);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The last one may still wait for a write that does not come before its answer.
    fake.member.cut_behind(u64::MAX);
    fake.member.cut();
    for task in tasks {
        in_time(task).await.expect("no panic");
    }
    let client = fake.client().await;
    let counter = Counter::new(&client, "/counters/c");
    assert_eq!(counter.value().await.expect("read"), 40);
    assert_eq!(counter.add(-50).await.expect("added"), -10);
    assert!(matches!(counter.add(i64::MIN).await, Err(Error::BadArguments(_))));
    client.set("/counters/c", "a word").await.expect("set");
    assert!(matches!(counter.value().await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn a_group_knows_who_is_there() {
    let fake = Fake::start().await;
    let (one, two) = (fake.client().await, fake.client().await);
    let group = Group::new(&two, "/g");
    assert_eq!(group.members().await.expect("listed"), []);
    let mut observer = group.observe().await.expect("observed");
    assert_eq!(observer.changed().await.expect("told"), []);
    let first = Group::new(&one, "/g").join("one").await.expect("joined");
    assert_eq!(in_time(observer.changed()).await.expect("told").len(), 1);
    let second = group.join("two").await.expect("joined");
    first.set("uno").await.expect("set");
    loop {
        let members = in_time(observer.changed()).await.expect("told");
        let data: Vec<_> = members.iter().map(|member| member.data.clone().expect("given")).collect();
        if data == ["uno", "two"] {
            break;
        }
    }
    fake.member.expire(one.session_id());
    in_time(first.lost()).await;
    while in_time(observer.changed()).await.expect("told").len() != 1 {}
    second.leave().await.expect("left");
    assert_eq!(in_time(observer.changed()).await.expect("told"), []);
}

#[tokio::test]
async fn a_tree_cache_follows_its_subtree() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    for path in ["/t", "/t/a", "/t/a/b", "/t/c", "/tx"] {
        client.create(path, path).await.expect("created");
    }
    let mut cache = TreeCache::start(&client, "/t").await.expect("started");
    assert_eq!(cache.snapshot().into_keys().collect::<Vec<_>>(), ["/t", "/t/a", "/t/a/b", "/t/c"]);
    assert_eq!(cache.children("/t"), ["a", "c"]);
    assert_eq!(cache.get("/t/a/b").expect("cached").data.as_deref(), Some(&b"/t/a/b"[..]));

    let other = fake.client().await;
    fake.member.cut();
    other.set("/t/c", "new").await.expect("set");
    other.create("/t/big", vec![b'x'; 10_000]).await.expect("created");
    other.delete_recursive("/t/a").await.expect("deleted");
    other.create("/t/a", "again").await.expect("created");
    let last = other.create("/t/last", "").await.expect("created").stat.czxid;
    while in_time(cache.changed()).await.expect("followed") < last {}
    assert_eq!(cache.children("/t"), ["a", "big", "c", "last"]);
    assert_eq!(cache.children("/t/a"), [""; 0]);
    assert_eq!(cache.get("/t/c").expect("cached").data.as_deref(), Some(&b"new"[..]));
    assert_eq!(cache.get("/t/big").expect("cached").data.expect("some").len(), 10_000);
    assert_eq!(cache.get("/t/a/b"), None);

    fake.member.expire(client.session_id());
    while in_time(cache.changed()).await.is_ok() {}
}

#[tokio::test]
async fn a_tree_cache_keeps_what_it_has_while_it_reads_again_behind_a_gap() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    for path in ["/t", "/t/a", "/t/a/b", "/t/c"] {
        client.create(path, path).await.expect("created");
    }
    let mut cache = TreeCache::start(&client, "/t").await.expect("started");
    let other = fake.client().await;
    fake.member.cut();
    other.delete_recursive("/t/a").await.expect("deleted");
    forget(&fake).await;
    let last = other.set("/t/c", "last").await.expect("set").mzxid;
    while in_time(cache.changed()).await.expect("followed") < last {
        assert!(cache.get("/t/c").is_some(), "it was there all the time");
    }
    assert_eq!(cache.snapshot().into_keys().collect::<Vec<_>>(), ["/t", "/t/c"]);
}

#[tokio::test]
async fn a_recipe_below_a_node_whose_parent_may_not_be_written_finds_its_way() {
    let fake = Fake::start().await;
    let client = fake.client().await;
    client.create("/app", "").await.expect("created");
    client
        .set_acl("/", vec![AclEntry { permissions: Permissions::READ, ..AclEntry::open().remove(0) }])
        .await
        .expect("set");
    client.ensure_path("/app/locks/l").await.expect("/app is there");
    let refused = client.ensure_path("/other/l").await.expect_err("nobody may");
    assert_eq!(refused.kind(), ErrorKind::NoAuth);
}
