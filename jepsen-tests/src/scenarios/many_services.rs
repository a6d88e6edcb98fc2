//! Thousands of instances, hundreds of services, thousands who follow them: how fast that goes, and
//! that a rolling restart of all members loses no instance and invents none.
//!
//! Nothing changes a service while the members restart. So whoever follows one must not only know the
//! same instances afterwards but still be at the same version: an instance that had gone and come
//! back would show there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use quorate::proto::registry_client::RegistryClient;
use quorate::registry::{Health, Instance, Registration, Registry, Service, ServiceFollower};
use quorate::{Client, proto};
use tonic::transport::Channel;

use super::{Failure, Measured, PATIENCE, ensure, in_time};
use crate::cluster::{Cluster, Options, admin};

/// Sessions that share the instances and the followers.
const SESSIONS: usize = 20;
/// Registrations under way in all.
const REGISTERING: usize = 1280;
/// Other requests under way in all.
const ASKING: usize = 256;
/// Reports of health whose way to the audience is measured.
const HEALTH_CHANGES: usize = 4;
/// An instance's health is written once a second at most; what is measured is not to wait for that.
const HEALTH_PACE: Duration = Duration::from_millis(1100);
/// In which namespace all of this is.
const NAMESPACE: &str = "many";

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Instances, in all services together.
    pub instances: usize,
    /// Services.
    pub services: usize,
    /// Followers, of all services together.
    pub followers: usize,
    /// Followers of the one service of the last measurement.
    pub audience: usize,
    /// Changes whose way to followers is measured; a fifth as many to the audience.
    pub changes: usize,
}

/// Runs the scenario.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run(size: Size) -> Result<Measured, Failure> {
    let mut measured = Measured::default();
    let mut cluster = Cluster::start(Options::members(3)).await?;
    cluster.wait_all_ready().await?;
    measured.note(format!("load average at the start: {}", load_average()));
    measured.note(format!("resident memory, empty: {}", memory(&cluster)));
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        // Longer than a member's restart takes on a machine that has much to do.
        let builder = Client::builder().endpoints(cluster.endpoints());
        clients.push(builder.session_timeout(Duration::from_secs(40)).connect().await?);
    }
    let registries: Vec<Registry> = clients.iter().map(Client::registry).collect();
    let of = |number: usize| &registries[number % SESSIONS];

    let started = Instant::now();
    let registering = (0..size.instances)
        .map(|number| async move { of(number).register(&service(size, number), instance(number)).await });
    let registrations: Vec<Registration> =
        stream::iter(registering).buffer_unordered(REGISTERING).try_collect().await?;
    measured.note(format!(
        "{} instances in {} services: {:.0} registrations/s",
        size.instances,
        size.services,
        size.instances as f64 / started.elapsed().as_secs_f64()
    ));

    let started = Instant::now();
    let mut followers = follow(size.followers, |number| (of(number + 7), service(size, number))).await?;
    let seen: usize = followers.iter().map(|follower| follower.current().entries().len()).sum();
    measured.note(format!(
        "{} followers see {seen} instances after {} ms",
        size.followers,
        started.elapsed().as_millis()
    ));
    measured.note(format!("resident memory, full: {}", memory(&cluster)));

    let mut times = Vec::new();
    for change in 0..size.changes.min(size.instances) {
        let changed = service(size, change);
        let audience: Vec<&mut ServiceFollower> = followers
            .iter_mut()
            .filter(|follower| follower.current().name().to_string() == changed)
            .collect();
        times.extend(weight_change(of(change), &changed, change, audience).await?);
    }
    measured.note(format!("a changed weight, to the service's followers: {}", spread(&mut times)));
    let mut audience = follow(size.audience, |number| (of(number), service(size, 0))).await?;
    let mut times = Vec::new();
    for _ in 0..size.changes.div_ceil(5) {
        times.extend(weight_change(of(0), &service(size, 0), 0, audience.iter_mut().collect()).await?);
    }
    measured.note(format!("a changed weight, to {} followers: {}", size.audience, spread(&mut times)));
    let mut times = Vec::new();
    let channel = admin::channel(&cluster.member(1).client).await.map_err(Failure::Broken)?;
    for change in 0..HEALTH_CHANGES {
        let health = if change % 2 == 0 { Health::Critical } else { Health::Passing };
        times.extend(health_change(channel.clone(), size, health, &mut audience).await?);
        tokio::time::sleep(HEALTH_PACE).await;
    }
    measured.note(format!("a reported health, to {} followers: {}", size.audience, spread(&mut times)));
    drop(audience);

    let before = everything(of(0), size).await?;
    let count: usize = before.values().map(|known| known.1.len()).sum();
    ensure(count == size.instances, || format!("{count} of {} instances stand", size.instances))?;
    let started = Instant::now();
    for id in cluster.ids() {
        cluster.terminate(id, PATIENCE).await?;
        cluster.restart(id).await?;
        cluster.wait_ready(id).await?;
        let after = everything(of(id as usize), size).await?;
        ensure(after == before, || difference(&format!("after the restart of {id}"), &before, &after))?;
    }
    measured.note(format!("three members restarted in turn in {} ms", started.elapsed().as_millis()));
    for client in &clients {
        // Behind its answer nothing that concerns the followers is still on its way.
        in_time("every session lives", client.sync("/")).await??;
    }
    for follower in &followers {
        let name = follower.current().name().to_string();
        let known = facts(&follower.current());
        ensure(before.get(&name) == Some(&known), || {
            format!("a follower of {name} knows {known:?} rather than {:?}", before.get(&name))
        })?;
    }
    // What the members tell whoever has no session: they have just loaded their state.
    for id in cluster.ids() {
        let told = told_by(&cluster, id, size).await?;
        ensure(told == before, || difference(&format!("member {id} tells"), &before, &told))?;
    }
    measured.note(format!(
        "all {count} instances stood throughout, and nothing else: by the tree after each restart, by {} \
         followers, which saw no change, and by each member's Registry",
        size.followers
    ));
    measured.note(format!("resident memory, after the restarts: {}", memory(&cluster)));

    drop((followers, registrations));
    let closing: Vec<_> = clients.into_iter().map(Client::close).collect();
    for closed in closing {
        in_time("a session closes", closed).await??;
    }
    let witness = Client::builder().endpoints(cluster.endpoints()).connect().await?;
    let left = everything(&witness.registry(), size).await?;
    let count: usize = left.values().map(|known| known.1.len()).sum();
    ensure(count == 0, || format!("{count} instances outlived their sessions"))?;
    measured.note("no instance outlived its session");
    witness.close().await?;
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    Ok(measured)
}

fn service(size: Size, number: usize) -> String {
    format!("{NAMESPACE}/s{}", number % size.services)
}

fn instance(number: usize) -> Instance {
    let address = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
    Instance::new(format!("i{number}"), address, 8080)
}

async fn follow<'a>(
    count: usize,
    whom: impl Fn(usize) -> (&'a Registry, String),
) -> Result<Vec<ServiceFollower>, Failure> {
    let following = (0..count).map(|number| {
        let (registry, service) = whom(number);
        async move { registry.follow(&service).await }
    });
    Ok(stream::iter(following).buffer_unordered(ASKING).try_collect().await?)
}

/// Changes an instance's weight; how long it takes, from before the write is sent, until each of the
/// audience has it.
async fn weight_change(
    registry: &Registry,
    service: &str,
    number: usize,
    audience: Vec<&mut ServiceFollower>,
) -> Result<Vec<Duration>, Failure> {
    let id = format!("i{number}");
    let weight = 2 + fastrand::u32(..60_000);
    let waiting = heard(&id, audience, |instance| instance.weight == weight);
    let update = registry.update(service, &id, |instance| instance.weight = weight);
    let (updated, times) = tokio::join!(update, waiting);
    updated?;
    Ok(times?)
}

/// Reports the health of the first service's first instance, as an agent beside it does; how long it
/// takes until each of the audience has it.
async fn health_change(
    channel: Channel,
    size: Size,
    health: Health,
    audience: &mut [ServiceFollower],
) -> Result<Vec<Duration>, Failure> {
    let name = service(size, 0);
    let (namespace, service) = name.split_once('/').unwrap_or_default();
    let report = proto::InstanceReport {
        instance_id: "i0".into(),
        health: Some(match health {
            Health::Passing => proto::Health::Passing.into(),
            Health::Warning => proto::Health::Warning.into(),
            Health::Critical => proto::Health::Critical.into(),
        }),
        ..Default::default()
    };
    let request = proto::ReportRequest {
        namespace: namespace.into(),
        service: service.into(),
        reports: vec![report],
        ..Default::default()
    };
    let mut client = RegistryClient::new(channel);
    let waiting = heard("i0", audience.iter_mut().collect(), |instance| instance.health == health);
    let (reported, times) = tokio::join!(client.report(request), waiting);
    reported.map_err(|status| Failure::Broken(status.to_string()))?;
    Ok(times?)
}

/// How long each of the audience takes from now on until it knows an instance as it is to be.
async fn heard(
    id: &str,
    audience: Vec<&mut ServiceFollower>,
    is_so: impl Fn(&Instance) -> bool,
) -> quorate::Result<Vec<Duration>> {
    let started = Instant::now();
    let is_so = &is_so;
    let waiting = audience.into_iter().map(|follower| async move {
        let knows = |service: &Service| service.entry(id).is_some_and(|entry| is_so(&entry.instance));
        while !knows(&follower.current()) {
            follower.changed().await?;
        }
        Ok(started.elapsed())
    });
    join_all(waiting).await.into_iter().collect()
}

/// A service's version, and each instance with what it was registered and changed by.
type Facts = (u64, BTreeMap<String, (u64, u64)>);

fn facts(service: &Service) -> Facts {
    let instances = service
        .entries()
        .iter()
        .map(|entry| (entry.instance.id.clone(), (entry.registered.0, entry.changed.0)));
    (service.version().0, instances.collect())
}

/// Every service as the tree has it.
async fn everything(registry: &Registry, size: Size) -> Result<BTreeMap<String, Facts>, Failure> {
    let reading = (0..size.services).map(|number| {
        let name = service(size, number);
        async move {
            let read = registry.service(&name).await?;
            Ok::<_, quorate::Error>((name, facts(&read)))
        }
    });
    let reading = stream::iter(reading).buffer_unordered(ASKING).try_collect();
    Ok(in_time("all services are read", reading).await??)
}

/// Every service as one member's `Registry` tells it.
async fn told_by(cluster: &Cluster, id: u64, size: Size) -> Result<BTreeMap<String, Facts>, Failure> {
    let channel = admin::channel(&cluster.member(id).client).await.map_err(Failure::Broken)?;
    let asking = (0..size.services).map(|number| {
        let name = service(size, number);
        let mut client = RegistryClient::new(channel.clone());
        async move {
            let (namespace, service) = name.split_once('/').unwrap_or_default();
            let request = proto::DiscoverRequest {
                namespace: namespace.into(),
                service: service.into(),
                ..Default::default()
            };
            let told =
                client.discover(request).await.map_err(|status| Failure::Broken(status.to_string()))?;
            let told = told.into_inner();
            let instances = told.instances.into_iter();
            let instances = instances.map(|one| (one.id, (one.registered_zxid, one.changed_zxid))).collect();
            Ok::<_, Failure>((name, (told.version, instances)))
        }
    });
    let asking = stream::iter(asking).buffer_unordered(ASKING).try_collect();
    in_time("a member tells its services", asking).await?
}

fn difference(when: &str, before: &BTreeMap<String, Facts>, after: &BTreeMap<String, Facts>) -> String {
    let first = before.iter().find(|(name, known)| after.get(*name) != Some(known));
    match first {
        Some((name, known)) => format!("{when}: {name} was {known:?} and is {:?}", after.get(name)),
        None => format!("{when}: {} services rather than {}", after.len(), before.len()),
    }
}

/// Each member's resident memory.
fn memory(cluster: &Cluster) -> String {
    let of = |id: u64| match cluster.member(id).resident_kib() {
        Some(kib) => format!("{} MiB", kib >> 10),
        None => "gone".into(),
    };
    cluster.ids().into_iter().map(of).collect::<Vec<_>>().join(", ")
}

/// Of the whole machine: times mean little without it.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let Some(last) = times.len().checked_sub(1) else { return "nothing measured".into() };
    let at = |part: f64| times[(last as f64 * part) as usize].as_secs_f64() * 1000.0;
    format!("p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms ({} samples)", at(0.5), at(0.99), at(1.0), times.len())
}
