//! Following a service through the gRPC door of a real member: what a follower is told when it comes
//! again, and whom it never hears of.

#[allow(dead_code, reason = "these tests need only the members of it")]
mod zookeeper_support;

use quorate_core::acl::digest_id;
use quorate_core::error::ErrorKind;
use quorate_core::registry::ServiceName;
use quorate_proto::convert::error_from_status;
use quorate_proto::v1::registry_client::RegistryClient;
use quorate_proto::v1::ring_client::RingClient;
use quorate_proto::v1::znodes_client::ZnodesClient;
use quorate_proto::v1::{self, WatchServiceResponse as News};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use zookeeper_support::{Member, PATIENCE};

const SERVICE: &str = "orders";
const OWNER: &[u8] = b"owner:secret";

/// A member, and what a test does with its service.
struct World {
    _member: Member,
    channel: Channel,
}

impl World {
    async fn start() -> World {
        let member = Member::start(&[]);
        let address = format!("http://127.0.0.1:{}", member.client_door());
        let endpoint = Channel::from_shared(address).expect("an address");
        World { channel: endpoint.connect().await.expect("the door is open"), _member: member }
    }

    fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel.clone())
    }

    fn nodes(&self) -> ZnodesClient<Channel> {
        ZnodesClient::new(self.channel.clone())
    }

    async fn register(&self, id: &str, weight: u32) {
        self.register_release(id, weight, "").await;
    }

    async fn register_release(&self, id: &str, weight: u32, release: &str) {
        let ports = [("main".to_string(), 8000)].into();
        let (address, version) = ("10.0.0.1".into(), release.into());
        let instance = v1::Instance { id: id.into(), address, ports, version, ..Default::default() };
        let instance = Some(v1::Instance { weight: Some(weight), ..instance });
        let (service, credentials) = (SERVICE.into(), owner());
        let request = v1::RegisterRequest { service, instance, credentials, ..Default::default() };
        self.registry().register(request).await.expect("registered");
    }

    async fn deregister(&self, id: &str) {
        let (service, instance_id) = (SERVICE.into(), id.into());
        let credentials = owner();
        let request = v1::DeregisterRequest { service, instance_id, credentials, ..Default::default() };
        self.registry().deregister(request).await.expect("deregistered");
    }

    /// Lets nobody but its owner see an instance.
    async fn hide(&self, id: &str) {
        let user = digest_id(OWNER).expect("user:password");
        let entries = vec![v1::AclEntry { permissions: 31, scheme: "digest".into(), id: user }];
        let path = name().instance_path(id);
        let request = v1::SetAclRequest { path, acl: Some(v1::Acl { entries }), ..Default::default() };
        self.nodes().set_acl(request).await.expect("set");
    }

    /// Removes the service with everything in it.
    async fn delete_service(&self) {
        let delete = v1::DeleteRequest { path: name().path(), recursive: true, ..Default::default() };
        self.nodes().delete(delete).await.expect("deleted");
    }

    /// Follows the service as somebody whom nobody knows.
    async fn follow(&self, since_version: Option<u64>) -> Streaming<News> {
        self.follow_as(v1::WatchServiceRequest { since_version, ..Default::default() }).await
    }

    async fn follow_as(&self, request: v1::WatchServiceRequest) -> Streaming<News> {
        let request = v1::WatchServiceRequest { service: SERVICE.into(), ..request };
        self.registry().watch_service(request).await.expect("followed").into_inner()
    }

    async fn follow_ring(&self) -> Streaming<v1::GetRingResponse> {
        let request = v1::WatchRingRequest { service: SERVICE.into(), ..Default::default() };
        RingClient::new(self.channel.clone()).watch_ring(request).await.expect("followed").into_inner()
    }
}

fn name() -> ServiceName {
    SERVICE.parse().expect("a valid name")
}

fn owner() -> Vec<v1::Credential> {
    vec![v1::Credential { scheme: "digest".into(), credential: OWNER.to_vec().into() }]
}

async fn next<M>(stream: &mut Streaming<M>) -> M {
    let news = timeout(PATIENCE, stream.message()).await.expect("told in time");
    news.expect("goes on").expect("goes on")
}

/// Whether it is a snapshot, who came or changed, who is gone.
fn shown(news: &News) -> (bool, Vec<&str>, Vec<&str>) {
    let put = news.put.iter().map(|instance| instance.id.as_str());
    (news.snapshot, put.collect(), news.removed.iter().map(String::as_str).collect())
}

#[tokio::test]
async fn whoever_comes_again_to_a_service_that_is_gone_is_told_to_forget_what_it_has() {
    let world = World::start().await;
    // A service that is yet to come.
    let mut early = world.follow(None).await;
    let first = next(&mut early).await;
    assert_eq!((shown(&first), first.version), ((true, vec![], vec![]), 0));
    world.register("a", 1).await;
    world.register("b", 1).await;
    let mut known = first;
    while known.put.iter().all(|instance| instance.id != "b") {
        known = next(&mut early).await;
    }
    drop(early);

    // Nothing has happened since.
    let again = next(&mut world.follow(Some(known.version)).await).await;
    assert_eq!((shown(&again), again.version), ((false, vec![], vec![]), known.version));

    world.delete_service().await;
    let mut resumed = world.follow(Some(known.version)).await;
    assert_eq!(shown(&next(&mut resumed).await), (true, vec![], vec![]));
    let mut rings = RingClient::new(world.channel.clone());
    let (service, version) = (SERVICE.to_string(), known.version);
    let ring = v1::GetRingRequest { service: service.clone(), version, ..Default::default() };
    let locate = v1::LocateRequest { service, version, ..Default::default() };
    let refused = [rings.get_ring(ring).await.map(drop), rings.locate(locate).await.map(drop)];
    for refused in refused.map(|answer| answer.expect_err("not remembered")) {
        assert_eq!(
            (refused.code(), error_from_status(&refused).kind),
            (Code::OutOfRange, ErrorKind::WatchGap)
        );
    }
    // And what comes then is told.
    world.register("c", 1).await;
    assert_eq!(shown(&next(&mut resumed).await), (false, vec!["c"], vec![]));
}

#[tokio::test]
async fn the_going_of_an_instance_is_told_to_those_who_may_know_of_it() {
    let world = World::start().await;
    world.register("open", 1).await;
    world.register("secret", 1).await;
    world.hide("secret").await;
    let mut stream = world.follow(None).await;
    let first = next(&mut stream).await;
    assert_eq!(shown(&first), (true, vec!["open"], vec![]));
    // It changes and goes, and nothing is said of it.
    world.register("secret", 2).await;
    world.deregister("secret").await;
    world.register("later", 1).await;
    assert_eq!(shown(&next(&mut stream).await), (false, vec!["later"], vec![]));
    // Nor to one that had a version in which it was there.
    let resumed = next(&mut world.follow(Some(first.version)).await).await;
    assert_eq!(shown(&resumed), (true, vec!["later", "open"], vec![]));

    // One that was told is gone for those who may not see it any more, and that is all they hear.
    world.hide("later").await;
    world.register("later", 2).await;
    assert_eq!(shown(&next(&mut stream).await), (false, vec![], vec!["later"]));
    world.deregister("later").await;
    world.deregister("open").await;
    assert_eq!(shown(&next(&mut stream).await), (false, vec![], vec!["open"]));
}

#[tokio::test]
async fn nothing_is_said_of_instances_that_were_not_asked_for() {
    let world = World::start().await;
    world.register_release("old", 1, "v1").await;
    world.register_release("new", 1, "v2").await;
    let filter = Some(v1::InstanceFilter { version: "v2".into(), ..Default::default() });
    let request = v1::WatchServiceRequest { filter, ..Default::default() };
    let mut stream = world.follow_as(request).await;
    assert_eq!(shown(&next(&mut stream).await), (true, vec!["new"], vec![]));
    // It changes and goes.
    world.register_release("old", 2, "v1").await;
    world.deregister("old").await;
    world.register_release("new", 2, "v2").await;
    assert_eq!(shown(&next(&mut stream).await), (false, vec!["new"], vec![]));
    // One that is not asked for any more is gone, and told so once.
    world.register_release("new", 2, "v1").await;
    assert_eq!(shown(&next(&mut stream).await), (false, vec![], vec!["new"]));
    world.register_release("new", 3, "v1").await;
    world.deregister("new").await;
    world.register_release("later", 1, "v2").await;
    assert_eq!(shown(&next(&mut stream).await), (false, vec!["later"], vec![]));
}

#[tokio::test]
async fn a_ring_is_told_when_it_differs_and_not_for_loads() {
    let world = World::start().await;
    world.register("a", 1).await;
    let mut stream = world.follow_ring().await;
    let members = |ring: &v1::GetRingResponse| -> Vec<(String, u32)> {
        ring.members.iter().map(|member| (member.instance_id.clone(), member.weight)).collect()
    };
    assert_eq!(members(&next(&mut stream).await), [("a".to_string(), 1)]);
    // Another version, whose ring is the same.
    world.register_release("a", 1, "v2").await;
    world.register("a", 2).await;
    assert_eq!(members(&next(&mut stream).await), [("a".to_string(), 2)]);
    let drain = v1::SetModeRequest {
        service: SERVICE.into(),
        instance_id: "a".into(),
        mode: v1::Mode::Draining.into(),
        credentials: owner(),
        ..Default::default()
    };
    world.registry().set_mode(drain).await.expect("drains");
    let drained = next(&mut stream).await;
    assert_eq!((members(&drained), drained.draining), (vec![], vec!["a".to_string()]));
    // The service goes and comes again.
    world.delete_service().await;
    let gone = next(&mut stream).await;
    assert_eq!((members(&gone), gone.draining), (vec![], vec![]));
    world.register("b", 1).await;
    assert_eq!(members(&next(&mut stream).await), [("b".to_string(), 1)]);
}
