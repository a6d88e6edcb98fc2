//! How fast the registry is, on a cluster that runs: registration rate, and how long a change takes
//! to reach those who follow the service.
//!
//! `QUORATE_ENDPOINTS=… cargo run --release --example registry_load -- [instances] [services] [watchers]`
//!
//! Leaves nothing behind: all instances are its sessions'. Times are from before the write is sent to
//! the moment when a follower has the new service, in this one process.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use quorate::registry::{Instance, ServiceFollower};
use quorate::{Client, Result};

/// Sessions that share the instances and the watchers.
const SESSIONS: usize = 20;
/// Registrations under way in each session.
const PIPELINED: usize = 64;
/// Changes measured.
const CHANGES: usize = 200;
/// Followers of the one service of the last measurement.
const AUDIENCE: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let instances: usize = numbers.next().unwrap_or(10_000);
    let services: usize = numbers.next().unwrap_or(500);
    let watchers: usize = numbers.next().unwrap_or(2_000);
    let endpoints = std::env::var("QUORATE_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:7400".into());
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        let builder = Client::builder().endpoints(endpoints.split(',').map(str::to_string));
        clients.push(builder.session_timeout(Duration::from_secs(30)).connect().await?);
    }
    let service = |number: usize| format!("load/s{}", number % services);
    let registries: Vec<_> = clients.iter().map(Client::registry).collect();

    let start = Instant::now();
    let registering = (0..instances).map(|number| {
        let registry = registries[number % SESSIONS].clone();
        let address = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
        let instance = Instance::new(format!("i{number}"), address, 8080);
        async move { registry.register(&service(number), instance).await }
    });
    let registrations: Vec<_> =
        stream::iter(registering).buffer_unordered(SESSIONS * PIPELINED).collect().await;
    let registrations = registrations.into_iter().collect::<Result<Vec<_>>>()?;
    let took = start.elapsed();
    println!(
        "{instances} instances in {services} services: {:.0} registrations/s",
        instances as f64 / took.as_secs_f64()
    );

    let start = Instant::now();
    let following = (0..watchers).map(|number| {
        let registry = registries[(number + 7) % SESSIONS].clone();
        async move { Ok::<_, quorate::Error>((number % services, registry.follow(&service(number)).await?)) }
    });
    let followers: Vec<_> = stream::iter(following).buffer_unordered(256).collect().await;
    let mut followers = followers.into_iter().collect::<Result<Vec<_>>>()?;
    let seen: usize = followers.iter().map(|(_, follower)| follower.current().entries().len()).sum();
    println!("{watchers} watchers see {seen} instances after {:?}", start.elapsed());

    let mut times = Vec::new();
    for change in 0..CHANGES.min(instances) {
        let number = change % services;
        let mut audience: Vec<&mut ServiceFollower> =
            followers.iter_mut().filter_map(|(of, follower)| (*of == number).then_some(follower)).collect();
        times.extend(measure(&registries[change % SESSIONS], &service(number), number, &mut audience).await?);
    }
    report("a change, to its service's watchers", &mut times);
    drop(followers);

    let following = (0..AUDIENCE).map(|number| registries[number % SESSIONS].follow("load/s0"));
    let followers: Vec<_> = stream::iter(following).buffer_unordered(256).collect().await;
    let mut followers = followers.into_iter().collect::<Result<Vec<_>>>()?;
    let mut times = Vec::new();
    for _ in 0..30 {
        let mut audience: Vec<&mut ServiceFollower> = followers.iter_mut().collect();
        times.extend(measure(&registries[0], "load/s0", 0, &mut audience).await?);
    }
    report("a change, to 1,000 followers of one service", &mut times);
    drop((followers, registrations));
    for client in clients {
        client.close().await?;
    }
    Ok(())
}

/// Changes an instance's weight; how long each of the audience takes to have it.
async fn measure(
    registry: &quorate::registry::Registry,
    service: &str,
    instance: usize,
    audience: &mut [&mut ServiceFollower],
) -> Result<Vec<Duration>> {
    let id = format!("i{instance}");
    let weight = 2 + fastrand::u32(..60_000);
    let start = Instant::now();
    let waiting = audience.iter_mut().map(|follower| async {
        let has_it = |follower: &ServiceFollower| {
            follower.current().entry(&id).is_some_and(|entry| entry.instance.weight == weight)
        };
        while !has_it(follower) {
            follower.changed().await?;
        }
        Ok::<Duration, quorate::Error>(start.elapsed())
    });
    let waiting = futures_util::future::join_all(waiting);
    let update = registry.update(service, &id, |instance| instance.weight = weight);
    let (updated, times) = tokio::join!(update, waiting);
    updated?;
    times.into_iter().collect()
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, most {:?} ({} samples)", at(0.5), at(0.99), at(1.0), times.len());
}
