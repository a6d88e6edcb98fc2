//! The gRPC door of real members: retries of what waits, on whichever member; reports that wait for a
//! leader; and what a member says of its own health.

#[allow(dead_code, reason = "these tests need only the members of it")]
mod zookeeper_support;

use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use quorate_core::acl::digest_id;
use quorate_core::error::ErrorKind;
use quorate_core::registry::ServiceName;
use quorate_proto::convert::error_from_status;
use quorate_proto::v1::elections_client::ElectionsClient;
use quorate_proto::v1::locks_client::LocksClient;
use quorate_proto::v1::registry_client::RegistryClient;
use quorate_proto::v1::znodes_client::ZnodesClient;
use quorate_proto::v1::{self, Health, Mode};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use zookeeper_support::{Member, PATIENCE};

const LOCK: &str = "/locks/ledger";
/// Long: what is seen before it is over has not ended by itself.
const TTL_MS: u32 = 40_000;
/// The shortest that a member grants.
const TTL_MIN_MS: u32 = 4_000;
/// By now a member has noticed that a call was given up.
const NOTICED: Duration = Duration::from_millis(500);
/// A read waits so long for a quorum before it is given up, and a little more.
const READ_GIVEN_UP: Duration = Duration::from_secs(12);

async fn connect(member: &Member) -> Channel {
    let address = format!("http://127.0.0.1:{}", member.client_door());
    let endpoint = Channel::from_shared(address).expect("an address");
    endpoint.connect().await.expect("the door is open")
}

fn request_id() -> Option<v1::RequestId> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let nonce = now.as_nanos().to_be_bytes().to_vec();
    Some(v1::RequestId { issued_at_ms: now.as_millis() as i64, nonce: nonce.into() })
}

/// Looks until something is as wanted.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let looking = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(PATIENCE, looking).await.is_ok(), "not in {PATIENCE:?}: {what}");
}

fn wanted(ttl_ms: u32, request_id: Option<v1::RequestId>) -> v1::AcquireRequest {
    v1::AcquireRequest { path: LOCK.into(), ttl_ms, request_id, ..Default::default() }
}

async fn acquire(
    mut locks: LocksClient<Channel>,
    wanted: v1::AcquireRequest,
) -> Result<Option<v1::Lease>, Status> {
    let acquired = timeout(PATIENCE, locks.acquire(wanted)).await.expect("answered in time");
    acquired.map(|answer| answer.into_inner().lease)
}

async fn holder(locks: &LocksClient<Channel>) -> Option<v1::Holder> {
    let request = v1::ObserveRequest { path: LOCK.into(), ..Default::default() };
    let mut observed = locks.clone().observe(request).await.expect("observed").into_inner();
    observed.message().await.expect("observed").expect("the present holder comes first").holder
}

async fn waiting(locks: &LocksClient<Channel>, count: u32) {
    let is_so = || async { holder(locks).await.is_some_and(|holder| holder.waiting == count) };
    until(&format!("{count} wait"), is_so).await;
}

async fn release(locks: &LocksClient<Channel>, lease: Option<v1::Lease>) {
    let released = locks.clone().release(v1::ReleaseRequest { lease }).await.expect("released");
    assert_ne!(released.into_inner().zxid, 0);
}

async fn extend(locks: &LocksClient<Channel>, lease: Option<v1::Lease>) {
    locks.clone().extend(v1::ExtendRequest { lease }).await.expect("it is held");
}

#[tokio::test]
async fn a_retry_on_another_member_gets_the_lease_of_a_call_that_still_waits() {
    let [a, b] = Member::start_pair(&[]);
    let (at_a, at_b) = (LocksClient::new(connect(&a).await), LocksClient::new(connect(&b).await));
    let held = acquire(at_b.clone(), wanted(TTL_MS, None)).await.expect("free");
    let call = wanted(TTL_MS, request_id());
    let first = tokio::spawn(acquire(at_a.clone(), call.clone()));
    waiting(&at_b, 1).await;

    let retry = tokio::spawn(acquire(at_b.clone(), call));
    let ended = first.await.expect("no panic").expect_err("the retry goes on with it");
    assert_eq!(error_from_status(&ended).kind, ErrorKind::SessionMoved);
    sleep(NOTICED).await;
    waiting(&at_b, 1).await;
    release(&at_b, held).await;
    let lease = retry.await.expect("no panic").expect("granted");
    sleep(NOTICED).await;
    extend(&at_a, lease.clone()).await;
    assert_eq!(holder(&at_a).await.map(|holder| holder.token), lease.map(|lease| lease.token));
}

#[tokio::test]
async fn a_cancelled_call_keeps_its_place_for_its_retry_and_no_longer_than_its_time() {
    let member = Member::start(&[]);
    let locks = LocksClient::new(connect(&member).await);
    let held = acquire(locks.clone(), wanted(TTL_MS, None)).await.expect("free");
    let give_up = async |call: v1::AcquireRequest| {
        let first = tokio::spawn(acquire(locks.clone(), call));
        waiting(&locks, 1).await;
        first.abort();
        sleep(NOTICED).await;
    };

    let call = wanted(TTL_MS, request_id());
    give_up(call.clone()).await;
    waiting(&locks, 1).await;
    let retry = tokio::spawn(acquire(locks.clone(), call));
    sleep(NOTICED).await;
    release(&locks, held).await;
    let held = retry.await.expect("no panic").expect("granted");
    sleep(NOTICED).await;
    extend(&locks, held.clone()).await;

    // Nobody comes back for this one: it holds the queue up no longer than its time.
    give_up(wanted(TTL_MIN_MS, request_id())).await;
    release(&locks, held).await;
    let held = acquire(locks.clone(), wanted(TTL_MS, None)).await.expect("granted");

    // Nobody can come back for one without an id: it goes at once.
    give_up(wanted(TTL_MS, None)).await;
    let gone = tokio::time::Instant::now();
    waiting(&locks, 0).await;
    assert!(gone.elapsed() < Duration::from_millis(TTL_MS.into()) / 2);
    release(&locks, held).await;
}

#[tokio::test]
async fn whose_wait_is_over_is_not_in_the_queue_any_more() {
    let member = Member::start(&[]);
    let locks = LocksClient::new(connect(&member).await);
    let only_try = |request_id| v1::AcquireRequest { wait_ms: Some(0), ..wanted(TTL_MS, request_id) };
    let held = acquire(locks.clone(), only_try(None)).await.expect("it is free");
    for request_id in [None, request_id()] {
        let call = only_try(request_id.clone());
        let refused = acquire(locks.clone(), call.clone()).await.expect_err("it is held");
        let kind = error_from_status(&refused).kind;
        assert_eq!((refused.code(), kind), (Code::Aborted, ErrorKind::NodeExists));
        // Python's and Java's helpers take details of another code for broken.
        assert_eq!(code_in_details(&refused), Code::Aborted as i32);
        assert_eq!(holder(&locks).await.map(|holder| holder.waiting), Some(0));
        if request_id.is_some() {
            let over = acquire(locks.clone(), call).await.expect_err("it was over");
            assert_eq!(error_from_status(&over).kind, ErrorKind::SessionExpired);
        }
    }
    release(&locks, held).await;
}

/// What the first field of google.rpc.Status says.
fn code_in_details(status: &Status) -> i32 {
    #[derive(prost::Message)]
    struct Details {
        #[prost(int32, tag = "1")]
        code: i32,
    }
    Details::decode(status.details()).expect("a google.rpc.Status").code
}

fn instance(id: &str) -> Option<v1::Instance> {
    let ports = [("main".to_string(), 8000)].into();
    Some(v1::Instance { id: id.into(), address: "10.0.0.1".into(), ports, ..Default::default() })
}

async fn register(
    registry: &RegistryClient<Channel>,
    ttl_ms: u32,
    request_id: Option<v1::RequestId>,
) -> v1::RegisterResponse {
    let (service, instance) = ("orders".into(), instance("a"));
    let request = v1::RegisterRequest { service, instance, ttl_ms, request_id, ..Default::default() };
    registry.clone().register(request).await.expect("registered").into_inner()
}

async fn report(
    registry: &RegistryClient<Channel>,
    health: Health,
    credentials: &[v1::Credential],
) -> Result<u32, Status> {
    let report = v1::InstanceReport {
        instance_id: "a".into(),
        health: Some(health.into()),
        reason: "said so".into(),
        load: None,
    };
    let (service, credentials) = ("orders".into(), credentials.to_vec());
    let request = v1::ReportRequest { service, reports: vec![report], credentials, ..Default::default() };
    Ok(registry.clone().report(request).await?.into_inner().unknown)
}

/// The instances as a caller with these credentials sees them.
async fn instances(registry: &RegistryClient<Channel>, credentials: &[v1::Credential]) -> Vec<v1::Instance> {
    let (service, credentials) = ("orders".into(), credentials.to_vec());
    let request = v1::DiscoverRequest { service, credentials, ..Default::default() };
    registry.clone().discover(request).await.expect("discovered").into_inner().instances
}

async fn is(registry: &RegistryClient<Channel>, health: Health, credentials: &[v1::Credential]) -> bool {
    instances(registry, credentials).await.iter().any(|instance| instance.health() == health)
}

#[tokio::test]
async fn a_registration_is_repeated_on_another_member_with_the_same_lease() {
    let [a, b] = Member::start_pair(&[]);
    let (at_a, at_b) = (RegistryClient::new(connect(&a).await), RegistryClient::new(connect(&b).await));
    let id = request_id();
    let first = register(&at_a, TTL_MS, id.clone()).await.lease.expect("leased");
    let again = register(&at_b, TTL_MS, id).await.lease.expect("leased");
    assert_eq!((first.session_id, &first.password), (again.session_id, &again.password));
    sleep(NOTICED).await;
    at_a.clone().heartbeat(v1::HeartbeatRequest { lease: Some(first) }).await.expect("it lives");
    assert_eq!(instances(&at_b, &[]).await.len(), 1);
}

#[tokio::test]
async fn a_report_that_no_leader_took_is_written_once_there_is_one() {
    let [member, other] = Member::start_pair(&[]);
    let registry = RegistryClient::new(connect(&member).await);
    register(&registry, 0, None).await;
    other.signal("STOP");
    assert_eq!(report(&registry, Health::Critical, &[]).await.expect("taken in"), 0);
    sleep(READ_GIVEN_UP).await;
    other.signal("CONT");
    until("it is told", || async {
        let (service, consistency) = ("orders".into(), Some(v1::Consistency { level: 1, zxid: 0 }));
        let request = v1::DiscoverRequest { service, consistency, ..Default::default() };
        let found = registry.clone().discover(request).await.expect("any member knows").into_inner();
        let is_told = |found: &v1::Instance| found.health() == Health::Critical && found.reason == "said so";
        found.instances.iter().any(is_told)
    })
    .await;
}

#[tokio::test]
async fn a_report_that_waits_is_displaced_by_nobody_who_may_not_change_the_instance() {
    let member = Member::start(&[]);
    let channel = connect(&member).await;
    let registry = RegistryClient::new(channel.clone());
    register(&registry, 0, None).await;
    let credential = b"owner:secret";
    let entries = |id: String| {
        let owner = v1::AclEntry { permissions: 31, scheme: "digest".into(), id };
        let others = v1::AclEntry { permissions: 1, scheme: "world".into(), id: "anyone".into() };
        vec![owner, others]
    };
    let acl = v1::Acl { entries: entries(digest_id(credential).expect("user:password")) };
    let path = "orders".parse::<ServiceName>().expect("valid").instance_path("a");
    let request = v1::SetAclRequest { path, acl: Some(acl), ..Default::default() };
    ZnodesClient::new(channel).set_acl(request).await.expect("set");

    let owner = [v1::Credential { scheme: "digest".into(), credential: credential.to_vec().into() }];
    report(&registry, Health::Critical, &owner).await.expect("its owner may");
    let refused = report(&registry, Health::Warning, &[]).await.expect_err("others may not");
    let kind = error_from_status(&refused).kind;
    assert_eq!((refused.code(), kind), (Code::PermissionDenied, ErrorKind::NoAuth));
    until("the owner's is told", || is(&registry, Health::Critical, &owner)).await;

    // The same in the calls that write at once: nobody learns of the transaction's inside.
    let (service, instance_id) = ("orders".to_string(), "a".to_string());
    let set = v1::SetModeRequest {
        service: service.clone(),
        instance_id: instance_id.clone(),
        mode: Mode::Maintenance.into(),
        ..Default::default()
    };
    let refused = registry.clone().set_mode(set.clone()).await.expect_err("others may not");
    let refused = error_from_status(&refused);
    assert_eq!((refused.kind, refused.operation), (ErrorKind::NoAuth, None));
    let set = v1::SetModeRequest { credentials: owner.to_vec(), ..set };
    registry.clone().set_mode(set).await.expect("its owner may");
    let remove = v1::DeregisterRequest { service, instance_id, ..Default::default() };
    let removed = registry.clone().deregister(remove.clone()).await.expect("removed").into_inner();
    assert_ne!(removed.zxid, 0);
    let again = registry.clone().deregister(remove).await.expect("harmless").into_inner();
    assert_eq!(again.zxid, 0);
}

async fn health(channel: &Channel, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    let answer = HealthClient::new(channel.clone()).check(request).await;
    answer.expect("any member answers").into_inner().status()
}

#[tokio::test]
async fn a_member_without_a_quorum_says_that_it_does_not_serve() {
    let [member, other] = Member::start_pair(&[]);
    let channel = connect(&member).await;
    let services = ["", "quorate.v1.Session", "quorate.v1.Locks", "quorate.v1.Registry"];
    let all_are = |status| {
        let channel = channel.clone();
        async move {
            for service in services {
                if health(&channel, service).await != status {
                    return false;
                }
            }
            true
        }
    };
    until("it serves", || all_are(ServingStatus::Serving)).await;
    other.signal("STOP");
    until("it does not", || all_are(ServingStatus::NotServing)).await;
    other.signal("CONT");
    until("it serves again", || all_are(ServingStatus::Serving)).await;
}

#[tokio::test]
async fn a_member_says_that_it_does_not_serve_before_it_stops() {
    let member = Member::start(&[]);
    let channel = connect(&member).await;
    until("it serves", || async { health(&channel, "").await == ServingStatus::Serving }).await;
    let request = HealthCheckRequest { service: String::new() };
    let watched = HealthClient::new(channel).watch(request).await.expect("watched");
    let mut watched = watched.into_inner();
    let mut told = async || timeout(PATIENCE, watched.message()).await.expect("told in time");
    assert_eq!(told().await.expect("told").expect("now").status(), ServingStatus::Serving);
    member.signal("TERM");
    assert_eq!(told().await.expect("told").expect("before the end").status(), ServingStatus::NotServing);
}

/// Creates a node, and says who may do what with it.
async fn node(nodes: &ZnodesClient<Channel>, path: &str, permissions: u32) {
    let create = v1::CreateRequest { path: path.into(), ..Default::default() };
    if path != "/" {
        nodes.clone().create(create).await.expect("created");
    }
    let entries = vec![v1::AclEntry { permissions, scheme: "world".into(), id: "anyone".into() }];
    let set = v1::SetAclRequest { path: path.into(), acl: Some(v1::Acl { entries }), ..Default::default() };
    nodes.clone().set_acl(set).await.expect("set");
}

#[tokio::test]
async fn a_stream_that_could_keep_nothing_registers_nothing() {
    let member = Member::start(&[]);
    let registry = RegistryClient::new(connect(&member).await);
    let request =
        v1::RegisterRequest { service: "orders".into(), instance: instance("a"), ..Default::default() };
    let refused = registry.clone().keep(request).await.expect_err("without ttl_ms");
    assert_eq!(error_from_status(&refused).kind, ErrorKind::BadArguments);
    assert_eq!(instances(&registry, &[]).await, []);
}

#[tokio::test]
async fn whoever_may_not_create_in_the_root_uses_what_stands_below_it() {
    let member = Member::start(&[]);
    let channel = connect(&member).await;
    let (nodes, locks) = (ZnodesClient::new(channel.clone()), LocksClient::new(channel.clone()));
    node(&nodes, "/app", 31).await;
    node(&nodes, "/quorate", 31).await;
    node(&nodes, "/", 1).await;
    register(&RegistryClient::new(channel), 0, None).await;
    let at = |path: &str| v1::AcquireRequest { path: path.into(), ..wanted(TTL_MS, None) };
    acquire(locks.clone(), at("/app/locks/ledger")).await.expect("granted");
    for path in ["/other", "/other/ledger"] {
        let refused = acquire(locks.clone(), at(path)).await.expect_err("nobody may");
        assert_eq!(error_from_status(&refused).kind, ErrorKind::NoAuth, "{path}");
    }
}

#[tokio::test]
async fn what_else_is_below_a_lock_neither_holds_it_nor_waits() {
    let member = Member::start(&[]);
    let channel = connect(&member).await;
    let (nodes, locks) = (ZnodesClient::new(channel.clone()), LocksClient::new(channel));
    for path in ["/locks", LOCK, "/locks/ledger/eu", "/locks/ledger/us"] {
        node(&nodes, path, 31).await;
    }
    assert_eq!(holder(&locks).await, None);
    let held = acquire(locks.clone(), wanted(TTL_MS, None)).await.expect("it is free");
    let token = held.as_ref().map(|lease| lease.token);
    let found = holder(&locks).await.expect("held");
    assert_eq!((Some(found.token), found.waiting), (token, 0));
    let second = tokio::spawn(acquire(locks.clone(), wanted(TTL_MS, None)));
    waiting(&locks, 1).await;
    release(&locks, held).await;
    release(&locks, second.await.expect("no panic").expect("granted")).await;
}

#[tokio::test]
async fn an_election_that_nobody_leads_has_no_leader() {
    let member = Member::start(&[]);
    let channel = connect(&member).await;
    let mut elections = ElectionsClient::new(channel.clone());
    let refused_at = async |elections: &mut ElectionsClient<Channel>| {
        let asked = v1::LeaderRequest { path: "/election".into(), ..Default::default() };
        let refused = elections.leader(asked).await.expect_err("nobody leads");
        assert_eq!((refused.code(), error_from_status(&refused).kind), (Code::NotFound, ErrorKind::NoNode));
    };
    refused_at(&mut elections).await;
    node(&ZnodesClient::new(channel), "/election", 31).await;
    refused_at(&mut elections).await;
}

#[tokio::test]
async fn a_one_shot_watch_ends_behind_its_event() {
    let member = Member::start(&[]);
    let nodes = ZnodesClient::new(connect(&member).await);
    node(&nodes, "/a", 31).await;
    let since = None;
    let kind = v1::WatchKind::Data.into();
    let asked = v1::WatchRequest { path: "/a".into(), kind, since, ..Default::default() };
    let mut watch = nodes.clone().watch(asked).await.expect("watched").into_inner();
    let mut events = 0;
    let started = watch.message().await.expect("told").expect("it has begun").news;
    assert!(matches!(started, Some(v1::watch_response::News::Started(_))), "{started:?}");
    let set = v1::SetRequest { path: "/a".into(), ..Default::default() };
    nodes.clone().set(set).await.expect("set");
    let ends = async {
        while let Some(told) = watch.message().await.expect("told") {
            events += usize::from(matches!(told.news, Some(v1::watch_response::News::Event(_))));
        }
    };
    timeout(PATIENCE, ends).await.expect("it ends");
    assert_eq!(events, 1);
}

#[tokio::test]
async fn a_list_without_a_limit_is_whole_whatever_its_data_take() {
    let member = Member::start(&[]);
    let nodes = ZnodesClient::new(connect(&member).await);
    node(&nodes, "/large", 31).await;
    for number in 0..30 {
        let (path, data) = (format!("/large/{number}"), Some(vec![b'x'; 100_000].into()));
        let create = v1::CreateRequest { path, data, ..Default::default() };
        nodes.clone().create(create).await.expect("created");
    }
    let list = async |limit| {
        let asked = v1::ListRequest { path: "/large".into(), with_data: true, limit, ..Default::default() };
        let mut pages = nodes.clone().list(asked).await.expect("listed").into_inner();
        let (mut children, mut more) = (0, false);
        while let Some(page) = pages.message().await.expect("a page") {
            children += page.children.len();
            more |= page.more;
        }
        (children, more)
    };
    assert_eq!(list(0).await, (30, false));
    let (children, more) = list(20).await;
    assert!(children < 20 && more, "{children} {more}");
}
