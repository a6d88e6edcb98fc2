//! Selections and pickers over instances that need no connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_core::id::{SessionId, Zxid};
use quorate_core::registry::policy::{CircuitBreaker, Split};
use quorate_core::registry::{Balancing, Catalog, Policy, ServiceName};
use quorate_core::ring::hash_key;
use quorate_core::znode::Stat;

use super::selection::{Locale, Selection};
use super::target::Target;
use crate::registry::{Instance, Service};

/// Instances with the targets that stand for them.
struct World {
    service: Arc<Service>,
    targets: BTreeMap<String, Arc<Target>>,
}

impl World {
    fn new(policy: Policy, instances: Vec<Instance>) -> World {
        let name: ServiceName = "orders".parse().expect("valid");
        let mut catalog = Catalog::new(Zxid(0));
        let stat = |zxid| Stat {
            czxid: Zxid(zxid),
            mzxid: Zxid(zxid),
            pzxid: Zxid(zxid),
            ephemeral_owner: SessionId(0),
            ..Stat::default()
        };
        let mut targets = BTreeMap::new();
        for (zxid, instance) in (2..).zip(&instances) {
            catalog.put(&name.instance_path(&instance.id), Some(&instance.encode()), &stat(zxid));
            targets.insert(instance.id.clone(), Target::standing(policy.outlier, Arc::default()));
        }
        catalog.put(&name.policy_path(), Some(&policy.encode()), &stat(1));
        catalog.settle();
        World { service: catalog.service(&name).expect("known").clone(), targets }
    }

    fn select(&self, locale: &Locale) -> Selection {
        let (serving, _) = self.service.serving();
        let known = serving.into_iter().map(|entry| {
            let target = self.targets[&entry.instance.id].clone();
            (entry, target, 1.0)
        });
        Selection::new(&self.service, self.service.policy(), known.collect(), locale, None)
    }
}

fn instance(number: usize, weight: u32) -> Instance {
    Instance { weight, ..Instance::new(format!("i{number:02}"), format!("10.0.0.{number}"), 80) }
}

fn instances(weights: &[u32]) -> Vec<Instance> {
    weights.iter().enumerate().map(|(number, weight)| instance(number, *weight)).collect()
}

fn with(balancing: Balancing) -> Policy {
    Policy { balancing, ..Policy::default() }
}

fn shares(selection: &Selection, picks: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..picks {
        let picked = selection.pick(None).expect("somebody is there");
        *shares.entry(picked.entry.instance.id.clone()).or_default() += 1;
    }
    shares
}

#[test]
fn turns_are_taken_by_weight_and_evenly() {
    let world = World::new(with(Balancing::WeightedRoundRobin), instances(&[1, 2, 7]));
    let selection = world.select(&Locale::default());
    // In every run of a hundred, not only in the long run.
    for _ in 0..50 {
        let shares = shares(&selection, 100);
        for (id, due) in [("i00", 10), ("i01", 20), ("i02", 70)] {
            assert!(shares[id].abs_diff(due) <= 2, "{id}: {shares:?}");
        }
    }
    let world = World::new(with(Balancing::RoundRobin), instances(&[1, 2, 7]));
    assert!(shares(&world.select(&Locale::default()), 99).values().all(|share| *share == 33));
}

#[test]
fn chance_follows_the_weights_if_asked() {
    for (balancing, due) in [(Balancing::WeightedRandom, 0.7), (Balancing::Random, 1.0 / 3.0)] {
        let world = World::new(with(balancing), instances(&[1, 2, 7]));
        let share = shares(&world.select(&Locale::default()), 20_000)["i02"] as f64 / 20_000.0;
        assert!((share - due).abs() < 0.03, "{balancing:?}: {share}");
    }
}

#[test]
fn the_better_of_two_is_picked() {
    let loaded = |balancing, load: fn(&World)| {
        let mut some = instances(&[1, 1]);
        (some[0].load, some[1].load) = (Some(900), Some(100));
        let world = World::new(with(balancing), some);
        load(&world);
        shares(&world.select(&Locale::default()), 200)
    };
    let busy = |world: &World| {
        world.targets["i00"].in_flight.fetch_add(5, Ordering::Relaxed);
    };
    assert_eq!(loaded(Balancing::LeastRequest, busy)["i01"], 200);
    let slow = |world: &World| {
        world.targets["i00"].succeed(std::time::Duration::from_millis(100));
        world.targets["i01"].succeed(std::time::Duration::from_millis(1));
    };
    assert_eq!(loaded(Balancing::PeakEwma, slow)["i01"], 200);
    let hanging = |world: &World| {
        world.targets["i00"].begin();
        world.targets["i01"].succeed(std::time::Duration::from_millis(500));
    };
    assert_eq!(loaded(Balancing::PeakEwma, hanging)["i01"], 200, "it has never answered");
    assert_eq!(loaded(Balancing::LeastLoad, |_| {})["i01"], 200);
}

#[test]
fn a_key_stays_with_its_owner_until_that_is_full() {
    for balancing in [Balancing::RingHash, Balancing::Maglev] {
        let world = World::new(with(balancing), instances(&[1; 5]));
        let selection = world.select(&Locale::default());
        let pick =
            |key: &str| selection.pick(Some(hash_key(key))).expect("somebody").entry.instance.id.clone();
        let owner = pick("customer-42");
        assert!((0..20).all(|_| pick("customer-42") == owner), "{balancing:?}");
        if balancing == Balancing::RingHash {
            let ring = world.service.ring();
            assert_eq!(ring.locate(b"customer-42", 1)[0].instance.id, owner, "as everybody else has it");
        }
        // All requests have one key: no instance gets more than a quarter above the mean.
        for placed in 1..=100u64 {
            let id = pick("customer-42");
            let held = world.targets[&id].in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            assert!(held <= (1250 * placed).div_ceil(5000), "{balancing:?}: {held} of {placed}");
        }
    }
}

#[test]
fn the_own_zone_is_used_until_too_few_of_it_are_left() {
    let mut all = instances(&[1; 4]);
    for (instance, zone) in all.iter_mut().zip(["z1", "z1", "z1", "z2"]) {
        instance.locality.zone = zone.into();
    }
    let policy = Policy { is_zone_aware: true, ..Policy::default() };
    let world = World::new(policy, all);
    let ids = |zone: &str| -> String {
        let selection = world.select(&Locale { zone: zone.into(), cluster: String::new() });
        let ids: Vec<String> =
            selection.candidates().map(|candidate| candidate.entry.instance.id[2..].to_string()).collect();
        ids.concat()
    };
    assert_eq!((ids("z1"), ids("z2"), ids("")), ("012".into(), "3".into(), "0123".into()));
    world.targets["i00"].disconnect();
    assert_eq!(ids("z1"), "12");
    world.targets["i01"].disconnect();
    assert_eq!(ids("z1"), "23", "less than half of the zone is left");
}

#[test]
fn priorities_and_clusters_come_in_order() {
    let mut all = instances(&[1; 3]);
    (all[1].priority, all[2].cluster) = (1, "far".into());
    let world = World::new(Policy::default(), all);
    let first = |world: &World| {
        let selection = world.select(&Locale::default());
        selection.candidates().map(|candidate| candidate.entry.instance.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(first(&world), ["i00"]);
    world.targets["i00"].disconnect();
    assert_eq!(first(&world), ["i01"]);
    world.targets["i01"].disconnect();
    assert_eq!(first(&world), ["i02"]);
}

#[test]
fn a_split_gives_releases_their_parts_and_an_absent_one_gives_its_part_away() {
    let mut all = instances(&[1; 4]);
    for (instance, version) in all.iter_mut().zip(["v1", "v1", "v1", "v2"]) {
        instance.version = version.into();
    }
    let part = |version: &str, weight| Split { version: version.into(), weight };
    let split = vec![part("v1", 90), part("v2", 10), part("v3", 500), part("v4", 0)];
    let world = World::new(Policy { split, ..Policy::default() }, all);
    let share = shares(&world.select(&Locale::default()), 20_000)["i03"] as f64 / 20_000.0;
    assert!((share - 0.1).abs() < 0.02, "{share}");
}

#[test]
fn what_is_full_or_broken_is_not_picked() {
    let breaker = Some(CircuitBreaker { requests: 2, pending: 0 });
    let world = World::new(Policy { circuit_breaker: breaker, ..Policy::default() }, instances(&[1; 3]));
    let selection = world.select(&Locale::default());
    // Broken after the selection was made.
    world.targets["i00"].disconnect();
    for _ in 0..4 {
        let picked = selection.pick(None).expect("room").entry.instance.id.clone();
        world.targets[&picked].in_flight.fetch_add(1, Ordering::Relaxed);
    }
    let held = |id: &str| world.targets[id].in_flight.load(Ordering::Relaxed);
    assert_eq!((held("i00"), held("i01"), held("i02")), (0, 2, 2));
    assert!(selection.pick(None).is_none());
}
