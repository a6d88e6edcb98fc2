//! A service whose instances come and go, and followers of it: when nothing changes any more all know
//! the same instances, and agree which owns which key.

use std::cell::Cell;
use std::hash::Hasher;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use quorate::Client;
use quorate::registry::{Instance, Registration, ServiceFollower};

use super::{Arena, Noted, Workload};
use crate::checkers::{Checker, registry};
use crate::history::{Operation, Process};

const SERVICE: &str = "orders";
/// Keys whose owners are compared.
const KEYS: u32 = 200;
/// Instances that a worker has at a time, at most.
const INSTANCES: usize = 4;
/// How long followers may take to hear of the last change, from when the members show no other.
const CONVERGENCE: Duration = Duration::from_secs(20);

/// See the file's comment.
#[derive(Debug, Default)]
pub struct Registry {
    /// How many workers change nothing any more.
    quiet: Cell<u32>,
}

impl Workload for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn about(&self) -> &'static str {
        "instances come and go, others follow (checker: registry: all converge, rings agree)"
    }

    fn prepare(&self, arena: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async move {
            // So that there is a service to follow.
            let client = arena.connect().await?;
            let registry = client.registry();
            registry.register_lasting(SERVICE, instance(0)).await?;
            arena.recorder.ok(0, Operation::Register { instance: 0 }, None);
            client.close().await
        }
        .boxed_local()
    }

    fn work(&self, arena: Arena, process: Process, mut random: fastrand::Rng) -> LocalBoxFuture<'_, ()> {
        async move {
            let mut count = 0;
            loop {
                let Ok(client) = arena.connect().await else { continue };
                let Ok(follower) = client.registry().follow(SERVICE).await else { continue };
                let mut own = Vec::new();
                let mut ended = false;
                while !arena.stop.get() && !ended {
                    arena.pace(&mut random).await;
                    ended = if own.len() < INSTANCES && random.bool() {
                        count += 1;
                        let number = u64::from(process) << 32 | count;
                        register(&arena, &client, process, number, &mut own).await
                    } else if own.is_empty() {
                        false
                    } else {
                        let (number, registration) = own.swap_remove(random.usize(..own.len()));
                        deregister(&arena, process, number, registration).await
                    };
                }
                if !ended {
                    self.quiet.set(self.quiet.get() + 1);
                    self.converge(&arena, process, &client, &follower).await;
                    // Until all have looked: what leaves with this session would be a change.
                    self.quiet.set(self.quiet.get() + 1);
                    while self.quiet.get() < 2 * arena.workers {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    return;
                }
            }
        }
        .boxed_local()
    }

    fn finish(&self, _: Arena) -> LocalBoxFuture<'_, quorate::Result<()>> {
        async { Ok(()) }.boxed_local()
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(registry::Registry)]
    }
}

impl Registry {
    /// Waits until nobody changes anything and the follower knows what the members have, or time is up;
    /// notes what it knows then and what they had.
    async fn converge(&self, arena: &Arena, process: Process, client: &Client, follower: &ServiceFollower) {
        while self.quiet.get() < arena.workers {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Sessions of clients that gave up may still expire: a while without a change is needed.
        let asked = Operation::Follow { instances: None, ring: None };
        let call = async {
            let mut unchanged_since = tokio::time::Instant::now();
            let mut before = Vec::new();
            let mut same = 0;
            while unchanged_since.elapsed() < CONVERGENCE && same < 3 {
                tokio::time::sleep(super::SESSION_TIMEOUT / 2).await;
                let registered = client.registry().service(SERVICE).await?;
                let truth = numbers(&registered);
                let known = numbers(&follower.current());
                if truth != before {
                    unchanged_since = tokio::time::Instant::now();
                }
                same = if truth == known && truth == before { same + 1 } else { 0 };
                before = truth;
            }
            Ok(before)
        };
        // Longer than a worker's patience with one answer.
        let noted = arena
            .note_within(CONVERGENCE * 2, process, asked, call, |_| {
                let instances = Some(numbers(&follower.current()));
                (Operation::Follow { instances, ring: Some(ring(follower)) }, None)
            })
            .await;
        if let Noted::Ok(truth) = noted {
            arena.recorder.ok(process, Operation::Follow { instances: Some(truth), ring: None }, None);
        }
    }
}

async fn register(
    arena: &Arena,
    client: &Client,
    process: Process,
    number: u64,
    own: &mut Vec<(u64, Registration)>,
) -> bool {
    let asked = Operation::Register { instance: number };
    let registry = client.registry();
    let call = registry.register(SERVICE, instance(number));
    match arena.note(process, asked.clone(), call, |_| (asked, None)).await {
        Noted::Ok(registration) => own.push((number, registration)),
        Noted::Refused(_) => {}
        Noted::Ended => return true,
    }
    false
}

async fn deregister(arena: &Arena, process: Process, number: u64, registration: Registration) -> bool {
    let asked = Operation::Deregister { instance: number };
    let noted = arena.note(process, asked.clone(), registration.deregister(), |()| (asked, None)).await;
    matches!(noted, Noted::Ended)
}

fn instance(number: u64) -> Instance {
    Instance::new(number.to_string(), "10.0.0.1", 80)
}

/// The instances' numbers.
fn numbers(service: &quorate::registry::Service) -> Vec<u64> {
    let ids = service.entries().iter().map(|entry| entry.instance.id.parse());
    // What is no number of ours shows as an instance that nobody registered.
    ids.map(|number| number.unwrap_or(u64::MAX)).collect()
}

/// A hash of the owners of some keys.
fn ring(follower: &ServiceFollower) -> u64 {
    let mut hasher = xxhash_rust::xxh64::Xxh64::new(0);
    for key in 0..KEYS {
        let owner = follower.locate(format!("key-{key}"));
        hasher.write(owner.map_or_else(String::new, |owner| owner.instance.id.clone()).as_bytes());
    }
    hasher.finish()
}
