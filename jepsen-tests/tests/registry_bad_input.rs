//! Bad registrations get typed errors, an instance that flaps is damped, and neither concerns others:
//! on a cluster of real processes, through the door that any language uses.

use std::time::{Duration, Instant};

use jepsen_tests::cluster::{Cluster, Options, admin};
use jepsen_tests::run_local;
use jepsen_tests::scenarios::Failure;
use quorate::proto::registry_client::RegistryClient;
use quorate::proto::{DeregisterRequest, Instance, InstanceReport, RegisterRequest, ReportRequest};
use quorate::{Client, ErrorKind, error_from_status, proto, registry};
use tonic::Status;
use tonic::transport::Channel;

const CALM: &str = "calm";
const WILD: &str = "wild";

fn instance(id: &str) -> Instance {
    let ports = [("main".to_string(), 8080)].into();
    Instance { id: id.into(), address: "10.0.0.1".into(), ports, ..Instance::default() }
}

fn request(service: &str, instance: Instance) -> RegisterRequest {
    RegisterRequest { service: service.into(), instance: Some(instance), ..RegisterRequest::default() }
}

async fn refusal(client: &RegistryClient<Channel>, request: RegisterRequest) -> (ErrorKind, String) {
    let answer = client.clone().max_encoding_message_size(64 << 20).register(request).await;
    let error = error_from_status(&answer.expect_err("a bad registration"));
    (error.kind, error.detail)
}

#[test]
fn bad_registrations_are_refused_and_flapping_is_damped_and_others_notice_nothing() -> Result<(), Failure> {
    run_local(async {
        let mut cluster = Cluster::start(Options::members(3)).await?;
        cluster.wait_all_ready().await?;
        let channel = admin::channel(&cluster.member(1).client).await.map_err(Failure::Broken)?;
        let door = RegistryClient::new(channel);
        let client = Client::builder().endpoints(cluster.endpoints()).connect().await?;
        let calm = registry::Instance::new("a", "10.0.0.1", 80);
        let calm = client.registry().register(CALM, calm).await?;
        let follower = client.registry().follow(CALM).await?;
        let calm_version = follower.current().version();

        door.clone().register(request(WILD, instance("a"))).await.expect("a good one");
        let mut second = request(WILD, instance("a"));
        second.ttl_ms = 4000;
        assert_eq!(refusal(&door, second).await.0, ErrorKind::NodeExists);
        for name in ["", ".", "..", "../x", "a/b", "A", "a b", "-a", "a-", "ä", "a\0", &"x".repeat(64)] {
            let (kind, detail) = refusal(&door, request(WILD, instance(name))).await;
            let is_typed = matches!(kind, ErrorKind::BadArguments | ErrorKind::TooLarge);
            assert!(is_typed && detail.contains("instance.id"), "{name:?}: {kind:?} {detail}");
            let (kind, detail) = refusal(&door, request(name, instance("b"))).await;
            let is_typed = matches!(kind, ErrorKind::BadArguments | ErrorKind::TooLarge);
            assert!(is_typed && detail.contains("service"), "{name:?}: {kind:?} {detail}");
        }
        let mut large = instance("b");
        large.metadata.insert("blob".into(), "x".repeat(1 << 20));
        assert_eq!(refusal(&door, request(WILD, large)).await.0, ErrorKind::TooLarge);
        for weight in [0, u32::MAX] {
            let weighed = Instance { weight: Some(weight), ..instance("b") };
            let (kind, detail) = refusal(&door, request(WILD, weighed)).await;
            assert_eq!(
                (kind, detail.contains("instance.weight")),
                (ErrorKind::BadArguments, true),
                "{detail}"
            );
        }
        let kind = Some(proto::health_check::Kind::Http(proto::HttpCheck { path: "/latest".into() }));
        let check = Some(proto::HealthCheck { kind, ..Default::default() });
        let probing = Instance { address: "169.254.169.254".into(), check, ..instance("b") };
        let (kind, detail) = refusal(&door, request(WILD, probing)).await;
        assert_eq!((kind, detail.contains("instance.address")), (ErrorKind::BadArguments, true), "{detail}");

        let changes = report_all_the_time(&client, &door).await?;
        let throttled = come_and_go(&door).await;
        println!("{changes}; registered {throttled} times before it was throttled");
        assert_eq!(follower.current().version(), calm_version, "who follows another service hears nothing");
        calm.update(|instance| instance.weight = 2).await?;
        assert!(cluster.panics().is_empty());
        Ok(())
    })
}

/// One that says a hundred times a second that it is well, or is not: what comes of it.
async fn report_all_the_time(client: &Client, door: &RegistryClient<Channel>) -> Result<String, Failure> {
    let before = client.registry().service(WILD).await?.entry("a").expect("registered").version;
    let started = Instant::now();
    let mut reports = 0;
    while started.elapsed() < Duration::from_secs(3) {
        reports += 1;
        let health = match reports % 2 {
            0 => proto::Health::Passing,
            _ => proto::Health::Critical,
        };
        let report = InstanceReport {
            instance_id: "a".into(),
            health: Some(health.into()),
            ..InstanceReport::default()
        };
        let request =
            ReportRequest { service: WILD.into(), reports: vec![report], ..ReportRequest::default() };
        door.clone().report(request).await.expect("taken in");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = started.elapsed();
    let after = client.registry().service(WILD).await?.entry("a").expect("registered").version;
    let written = (after - before) as u64;
    assert!(written >= 1, "what it says counts");
    assert!(written <= 2 + took.as_secs(), "{written} writes for {reports} reports in {took:?}");
    Ok(format!("{written} writes for {reports} reports in {took:?}"))
}

/// One that comes and goes all the time: how often, before it is refused.
async fn come_and_go(door: &RegistryClient<Channel>) -> u32 {
    for times in 0..400 {
        let refused: Status = match door.clone().register(request(WILD, instance("c"))).await {
            Err(status) => status,
            Ok(_) => {
                let service = WILD.into();
                let gone = DeregisterRequest { service, instance_id: "c".into(), ..Default::default() };
                door.clone().deregister(gone).await.expect("removed");
                continue;
            }
        };
        let error = error_from_status(&refused);
        assert_eq!(error.kind, ErrorKind::Throttled, "{refused}");
        return times;
    }
    panic!("it comes and goes as it likes");
}
