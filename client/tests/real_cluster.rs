//! The same promises against a real cluster, through proxies that cut connections, and while the
//! leadership is handed around.
//!
//! `quorated dev`, then
//! `QUORATE_ENDPOINTS=127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420 cargo test -p quorate --test real_cluster -- --ignored`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate::proto::cluster_client::ClusterClient;
use quorate::proto::{StatusRequest, TransferLeaderRequest};
use quorate::recipes::{Counter, Lock};
use quorate::{Client, CreateMode, Error, Position, SessionState, Value, WatchEvent};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards to a member; cuts its connections when told to, and for good when dropped.
struct Proxy {
    address: String,
    cut: watch::Sender<u64>,
}

impl Proxy {
    async fn start(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut cuts) = (target.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut member) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut member) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Proxy { address, cut }
    }
}

fn members() -> Vec<String> {
    let given = std::env::var("QUORATE_ENDPOINTS").expect("QUORATE_ENDPOINTS names the members");
    given.split(',').map(str::to_string).collect()
}

async fn proxies() -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for member in members() {
        proxies.push(Proxy::start(member).await);
    }
    proxies
}

async fn client(proxies: &[Proxy]) -> Client {
    let endpoints = proxies.iter().map(|proxy| proxy.address.clone());
    let builder = Client::builder().endpoints(endpoints).session_timeout(Duration::from_secs(20));
    builder.connect().await.expect("connected")
}

async fn fresh_path(client: &Client, name: &str) -> String {
    client.ensure_path("/sdk-test").await.expect("created");
    let prefix = format!("/sdk-test/{name}-");
    client.create(&prefix, "").mode(CreateMode::PersistentSequential).await.expect("created").path
}

/// Cuts all connections every `pause`, and hands the leadership around, until dropped.
struct Trouble(tokio::task::JoinHandle<()>);

impl Trouble {
    fn start(proxies: Arc<Vec<Proxy>>, pause: Duration) -> Trouble {
        Trouble(tokio::spawn(async move {
            let channel = Client::builder().endpoints(members()).channel().await.expect("a member");
            let mut cluster = ClusterClient::new(channel);
            for round in 0.. {
                tokio::time::sleep(pause).await;
                if round % 4 == 3 {
                    let asked = std::time::Instant::now();
                    let transferred = cluster.transfer_leader(TransferLeaderRequest { to: None }).await;
                    let leader = transferred.map(|answer| answer.into_inner().leader_id);
                    println!("leadership: {leader:?} after {:?}", asked.elapsed());
                }
                for proxy in proxies.iter() {
                    proxy.cut.send_modify(|count| *count += 1);
                }
            }
        }))
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a running cluster: see the file's comment"]
async fn writes_take_effect_once_and_in_order() {
    let proxies = Arc::new(proxies().await);
    let client = client(&proxies).await;
    let session = client.session_id();
    let path = fresh_path(&client, "once").await;
    let prefix = format!("{path}/n-");
    let trouble = Trouble::start(proxies.clone(), Duration::from_millis(300));
    let mut names = Vec::new();
    for _ in 0..40 {
        let calls: Vec<_> = (0..50)
            .map(|_| client.create(&prefix, "").mode(CreateMode::PersistentSequential).send())
            .collect();
        for call in calls {
            names.push(call.await.expect("created once").path);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(trouble);
    let expected: Vec<String> = (0..2000).map(|number| format!("{prefix}{number:010}")).collect();
    assert_eq!(names, expected);
    assert_eq!(client.count_descendants(&path).await.expect("counted"), 2000);
    assert_eq!(client.session_id(), session);
    client.delete_recursive(&path).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a running cluster: see the file's comment"]
async fn a_watch_hears_everything_once() {
    let proxies = Arc::new(proxies().await);
    let listener = client(&proxies).await;
    let direct = Client::builder().endpoints(members()).connect().await.expect("connected");
    let path = fresh_path(&direct, "watch").await;
    let mut watch = listener.watch(&path).with_value().capacity(16).await.expect("watched");
    let trouble = Trouble::start(proxies.clone(), Duration::from_millis(400));
    let writer = tokio::spawn({
        let path = path.clone();
        async move {
            for number in 0..500 {
                direct.set(&path, number.to_string()).await.expect("set");
            }
            direct
        }
    });
    let mut last = Position::default();
    for number in 0..500 {
        let told = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("told in time");
        let WatchEvent::Node(event) = told.expect("not over").expect("alive") else { panic!("a gap") };
        assert!(event.position > last);
        last = event.position;
        let Some(Value::Kept(Some(data))) = event.value else { panic!("no value") };
        assert_eq!(data, number.to_string());
    }
    drop(trouble);
    writer.await.expect("no panic").delete(&path).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a running cluster: see the file's comment"]
async fn a_lock_and_a_counter_stand_the_trouble() {
    let proxies = Arc::new(proxies().await);
    let first = client(&proxies).await;
    let path = fresh_path(&first, "lock").await;
    let trouble = Trouble::start(proxies.clone(), Duration::from_millis(400));
    let inside = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (client, inside, path) = (client(&proxies).await, inside.clone(), path.clone());
        tasks.push(tokio::spawn(async move {
            let lock = Lock::new(&client, format!("{path}/lock"));
            let counter = Counter::new(&client, format!("{path}/count"));
            let mut tokens = Vec::new();
            for _ in 0..10 {
                let guard = lock.acquire().await.expect("acquired");
                assert!(!inside.swap(true, Ordering::SeqCst), "alone");
                counter.add(1).await.expect("added");
                inside.store(false, Ordering::SeqCst);
                tokens.push(guard.token());
                guard.release().await.expect("released");
            }
            assert!(tokens.is_sorted());
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    drop(trouble);
    assert_eq!(Counter::new(&first, format!("{path}/count")).value().await.expect("read"), 40);
    assert_eq!(first.list(&format!("{path}/lock")).await.expect("listed").children.len(), 0);
    first.delete_recursive(&path).await.expect("deleted");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a running cluster: see the file's comment"]
async fn a_session_ends_at_its_deadline_and_its_ephemerals_go() {
    let proxies = proxies().await;
    let endpoints: Vec<String> = proxies.iter().map(|proxy| proxy.address.clone()).collect();
    let timeout = Duration::from_secs(4);
    let lonely = Client::builder().endpoints(endpoints).session_timeout(timeout).connect().await;
    let lonely = lonely.expect("connected");
    let path = fresh_path(&lonely, "ends").await;
    lonely.create(&format!("{path}/e"), "").mode(CreateMode::Ephemeral).await.expect("created");
    let direct = Client::builder().endpoints(members()).connect().await.expect("connected");
    let (_, gone) = direct.exists(&format!("{path}/e")).and_watch().await.expect("asked");

    // No way any more: the proxies' listeners are gone with this runtime's tasks only at the end,
    // so every new connection is cut again and again.
    let cutter = tokio::spawn(async move {
        loop {
            for proxy in &proxies {
                proxy.cut.send_modify(|count| *count += 1);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(lonely.ended().await, Error::SessionExpired);
    assert_eq!(*lonely.state().borrow(), SessionState::Expired);
    let known = std::time::Instant::now();
    let exists = direct.exists(&format!("{path}/e")).await.expect("asked");
    assert!(exists.is_some(), "the client knows of the end before anybody else sees it");
    tokio::time::timeout(timeout * 3, gone).await.expect("expired").expect("told");
    println!("the cluster followed after {:?}", known.elapsed());
    cutter.abort();
    direct.delete(&path).await.expect("deleted");
}

#[tokio::test]
#[ignore = "needs a running cluster: see the file's comment"]
async fn the_services_without_a_session_are_reachable_through_a_channel() {
    let channel = Client::builder().endpoints(members()).channel().await.expect("a member");
    let status = ClusterClient::new(channel).status(StatusRequest {}).await.expect("told").into_inner();
    assert_eq!(status.members.len(), members().len());
}
