//! Services on a cluster of real processes: instances live with their owners, survive the members'
//! restarts, are checked by whoever leads, and a balanced channel stops calling one that was killed.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jepsen_tests::cluster::{Cluster, Options};
use jepsen_tests::run_local;
use quorate::registry::{Check, CheckKind, Health, Instance, Mode, ServiceFollower};
use quorate::{Client, ErrorKind, balance};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

/// Within this everything that is waited for has come about, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tells a process of this test binary to be a service, and where.
const SERVE_AT: &str = "QUORATE_TEST_SERVE_AT";

fn run(test: impl Future<Output = ()>) {
    let ran = run_local(async {
        test.await;
        Ok::<(), std::io::Error>(())
    });
    ran.expect("a runtime");
}

async fn cluster() -> Cluster {
    let mut cluster = Cluster::start(Options::members(3)).await.expect("a cluster");
    cluster.wait_all_ready().await.expect("ready");
    cluster
}

async fn client(cluster: &Cluster) -> Client {
    let builder = Client::builder().endpoints(cluster.endpoints()).session_timeout(Duration::from_secs(20));
    builder.connect().await.expect("connected")
}

fn ids(follower: &ServiceFollower) -> Vec<String> {
    follower.current().entries().iter().map(|entry| entry.instance.id.clone()).collect()
}

/// Waits until a followed service is as wanted.
async fn until(follower: &mut ServiceFollower, what: &str, wanted: impl Fn(&ServiceFollower) -> bool) {
    let waiting = async {
        while !wanted(follower) {
            follower.changed().await.expect("the session lives");
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{what}: still {:?}", follower.current().entries());
}

#[test]
fn instances_outlive_a_rolling_restart_and_go_with_their_owner() {
    run(async {
        let mut cluster = cluster().await;
        let owner = client(&cluster).await;
        let reader = client(&cluster).await;
        let mut registrations = Vec::new();
        for number in 0..20u16 {
            let instance = Instance::new(format!("i-{number}"), "10.0.0.1", 8000 + number);
            registrations.push(owner.registry().register("orders", instance).await.expect("registered"));
        }
        let mut follower = reader.registry().follow("orders").await.expect("followed");
        assert_eq!(follower.current().entries().len(), 20);
        let owned: Vec<String> = (0..100)
            .map(|key| follower.locate(format!("key-{key}")).expect("owned").instance.id.clone())
            .collect();
        for id in cluster.ids() {
            cluster.terminate(id, PATIENCE).await.expect("stopped");
            cluster.restart(id).await.expect("restarted");
            cluster.wait_ready(id).await.expect("ready");
            // None lost, none invented: neither as the tree has it nor as the follower saw it.
            let now = reader.registry().service("orders").await.expect("read");
            assert_eq!(now.entries().len(), 20, "after the restart of {id}");
            assert_eq!(follower.current().entries().len(), 20);
            for (key, owner) in owned.iter().enumerate() {
                let located = follower.locate(format!("key-{key}")).expect("owned");
                assert_eq!(located.instance.id, *owner);
            }
        }
        // A duplicate is refused, a higher generation replaces.
        let refused = reader.registry().register("orders", Instance::new("i-0", "10.0.0.2", 1)).await;
        assert_eq!(refused.expect_err("a duplicate").kind(), ErrorKind::NodeExists);
        let newer = Instance { generation: 1, ..Instance::new("i-0", "10.0.0.2", 1) };
        let newer = reader.registry().register("orders", newer).await.expect("replaced");
        owner.close().await.expect("closed");
        until(&mut follower, "only the replacement is left", |follower| ids(follower) == ["i-0"]).await;
        newer.deregister().await.expect("left");
        until(&mut follower, "nobody is left", |follower| ids(follower).is_empty()).await;
    });
}

#[test]
fn a_draining_instance_is_removed_when_its_window_ends_also_by_a_new_leader() {
    run(async {
        let mut cluster = cluster().await;
        let client = client(&cluster).await;
        let registry = client.registry();
        for id in ["a", "b"] {
            let instance = Instance::new(id, format!("{id}.example"), 80);
            registry.register_lasting("orders", instance).await.expect("registered");
        }
        let mut follower = registry.follow("orders").await.expect("followed");
        let key = (0..)
            .map(|key: u32| key.to_string())
            .find(|key| follower.locate(key).is_some_and(|owner| owner.instance.id == "a"));
        let key = key.expect("a owns something");
        assert!(follower.may_own("a", &key) && !follower.may_own("b", &key));
        registry.set_mode("orders", "a", Mode::Draining { window_ms: 1500 }).await.expect("drains");
        until(&mut follower, "a drains", |follower| follower.locate(&key).expect("owned").instance.id == "b")
            .await;
        assert!(!follower.may_own("b", &key), "a must let go first");
        let leader = cluster.leader().await.expect("a leader");
        cluster.kill(leader).expect("killed");
        until(&mut follower, "a is removed", |follower| ids(follower) == ["b"]).await;
        assert!(follower.may_own("b", &key));
    });
}

#[test]
fn the_leader_checks_health_and_writes_only_what_changes() {
    run(async {
        let cluster = cluster().await;
        let client = client(&cluster).await;
        let registry = client.registry();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let checked = |kind| Check { interval_ms: 100, timeout_ms: 1000, ..Check::new(kind) };
        let instance = Instance {
            check: Some(checked(CheckKind::Grpc { service: String::new() })),
            ..Instance::new("a", "127.0.0.1", address.port())
        };
        registry.register_lasting("orders", instance).await.expect("registered");
        let mut follower = registry.follow("orders").await.expect("followed");
        let health = |follower: &ServiceFollower| follower.current().entries()[0].instance.health;
        assert_eq!(health(&follower), Health::Critical, "not before it has passed");
        let (reporter, service) = tonic_health::server::health_reporter();
        let incoming = TcpListenerStream::new(listener);
        let serving = tokio::spawn(
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
        );
        until(&mut follower, "it passes", |follower| health(follower) == Health::Passing).await;
        let passing_since = follower.current().version();
        reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        until(&mut follower, "it falls", |follower| health(follower) == Health::Critical).await;
        let entry = follower.current().entries()[0].clone();
        assert_eq!(entry.instance.reason, "NOT_SERVING");
        // Many checks have been made; two of them have changed anything.
        assert_eq!(entry.version, 2);
        assert!(entry.changed > passing_since);
        reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
        until(&mut follower, "it rises", |follower| health(follower) == Health::Passing).await;
        serving.abort();
        until(&mut follower, "nobody answers", |follower| health(follower) == Health::Critical).await;
    });
}

/// Not a test: what the processes of the test below do.
#[test]
#[ignore = "a service for another test"]
fn serve_until_killed() {
    let Ok(address) = std::env::var(SERVE_AT) else { return };
    run(async move {
        let (_reporter, service) = tonic_health::server::health_reporter();
        let address = address.parse().expect("an address");
        tonic::transport::Server::builder().add_service(service).serve(address).await.expect("serves");
    });
}

/// A service's process; killed when dropped.
struct Process(Child);

impl Process {
    fn start(address: &str) -> Process {
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "serve_until_killed", "--ignored"])
            .env(SERVE_AT, address)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(child.expect("started"))
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("reaped");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
    }
}

#[test]
fn a_killed_instance_is_called_no_more_after_its_first_failures() {
    run(async {
        let cluster = cluster().await;
        let client = client(&cluster).await;
        let mut processes = Vec::new();
        for number in 0..3 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            let port = listener.local_addr().expect("bound").port();
            drop(listener);
            processes.push(Process::start(&format!("127.0.0.1:{port}")));
            let instance = Instance::new(format!("p-{number}"), "127.0.0.1", port);
            client.registry().register_lasting("health", instance).await.expect("registered");
        }
        let channel = balance::channel(&client, "health").await.expect("a channel");
        let waiting = async {
            while channel.selection().candidates().count() < 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("all three are connected");

        // Eight callers; how many calls failed before and after the kill was noticed.
        let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (channel, sent, failed) = (channel.clone(), sent.clone(), failed.clone());
                tokio::spawn(async move {
                    let mut health = HealthClient::new(channel);
                    loop {
                        let answer = health.check(HealthCheckRequest::default()).await;
                        sent.fetch_add(1, Ordering::Relaxed);
                        failed.fetch_add(u64::from(answer.is_err()), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let calls = async |more: u64| {
            let goal = sent.load(Ordering::Relaxed) + more;
            let waiting = async {
                while sent.load(Ordering::Relaxed) < goal {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, waiting).await.expect("calls are answered");
        };
        calls(3000).await;
        assert_eq!(failed.load(Ordering::Relaxed), 0);
        processes[1].kill();
        let waiting = async {
            while channel.selection().candidates().any(|candidate| candidate.entry.instance.id == "p-1") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the killed one is put aside");
        calls(16).await;
        let at_ejection = failed.load(Ordering::Relaxed);
        calls(5000).await;
        let later = failed.load(Ordering::Relaxed) - at_ejection;
        println!(
            "{at_ejection} calls failed by the kill of 1 of 3 under 8 callers; {later} of 5000 afterwards"
        );
        assert_eq!(later, 0);
        // At most what was under way to it.
        assert!(at_ejection <= 8, "{at_ejection}");
        for caller in callers {
            caller.abort();
        }
    });
}
