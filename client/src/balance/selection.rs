//! Who may be picked now: of the usable instances those that are connected, near enough, and of the
//! release whose turn it is. Immutable; made anew whenever something changes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_core::registry::{Balancing, Policy};
use quorate_core::ring::{Maglev, Placement};

use super::picker::{self, Choice, Picker};
use super::target::Target;
use crate::registry::{Entry, Service, ServiceRing};

/// Nearer instances are enough while at least this part of them (in thousandths) is available.
const ENOUGH_PERMILLE: usize = 500;

/// Where a caller is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locale {
    /// Its zone; empty is unknown.
    pub zone: String,
    /// Its cluster; empty is the registry's own.
    pub cluster: String,
}

/// An instance that may be picked.
#[derive(Clone)]
pub struct Candidate {
    /// The instance.
    pub entry: Arc<Entry>,
    /// Its weight now, in thousandths: less while it comes back slowly.
    pub weight: u64,
    pub(super) target: Arc<Target>,
}

impl Candidate {
    /// Requests of this client under way to it.
    pub fn in_flight(&self) -> u64 {
        self.target.in_flight.load(Ordering::Relaxed)
    }

    /// Its peak-sensitive average latency, in seconds; `None` before the first answer.
    pub fn latency(&self) -> Option<f64> {
        self.target.latency()
    }

    /// Whether it can take a request at this moment.
    pub fn is_available(&self) -> bool {
        self.target.is_available()
    }
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("id", &self.entry.instance.id)
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// An instance that the registry names, its target, and the part of its weight (0 to 1) that it has now.
pub(super) type Known = (Arc<Entry>, Arc<Target>, f64);

/// Who may be picked now.
pub struct Selection {
    policy: Policy,
    /// By release, when the policy splits traffic; else one pool.
    pools: Vec<(u32, Pool)>,
    picker: Arc<dyn Picker>,
}

/// Candidates of one release, with what keyed pickers need.
pub struct Pool {
    /// In the order of their ids.
    pub candidates: Vec<Candidate>,
    /// Sums of the weights up to each candidate.
    pub(super) weights: Vec<u64>,
    ring: Option<KeyedPlacement>,
}

/// A placement of *all* usable instances, and which candidate each is, if it is one.
struct KeyedPlacement {
    placement: Arc<dyn Placement>,
    candidates: Vec<Option<usize>>,
}

impl Selection {
    pub(super) fn new(
        service: &Service,
        policy: Policy,
        known: Vec<Known>,
        locale: &Locale,
        picker: Option<&Arc<dyn Picker>>,
    ) -> Selection {
        let near = nearest(known, &policy, locale);
        let weighed = near.into_iter().map(|(entry, target, part)| {
            let weight = (f64::from(entry.instance.weight) * 1000.0 * part) as u64;
            Candidate { weight: weight.max(1), entry, target }
        });
        let candidates: Vec<Candidate> = weighed.collect();
        let of_release = |version: &str| -> Vec<Candidate> {
            let is_one = |candidate: &&Candidate| candidate.entry.instance.version == version;
            candidates.iter().filter(is_one).cloned().collect()
        };
        let mut pools: Vec<(u32, Pool)> = policy
            .split
            .iter()
            .filter(|part| part.weight > 0)
            .map(|part| (part.weight, Pool::new(of_release(&part.version), service, &policy)))
            // A release that has nobody gives its part to the others.
            .filter(|(_, pool)| !pool.candidates.is_empty())
            .collect();
        if pools.is_empty() {
            pools.push((1, Pool::new(candidates, service, &policy)));
        }
        let picker = picker.cloned().unwrap_or_else(|| picker::of(policy.balancing));
        Selection { policy, pools, picker }
    }

    /// The policy in force.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Everybody who may be picked.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        self.pools.iter().flat_map(|(_, pool)| &pool.candidates)
    }

    /// Picks somebody for a request whose key has this hash. `None`: nobody is available.
    pub fn pick(&self, hash: Option<u64>) -> Option<&Candidate> {
        let pool = self.pool()?;
        let limit = self.policy.circuit_breaker.map_or(u64::MAX, |breaker| breaker.requests.into());
        let choice = Choice { pool, hash, limit };
        let picked = self.picker.pick(&choice).filter(|picked| choice.is_open(*picked));
        // What broke since the selection was made, or is full: anybody else, in order.
        let picked = picked.or_else(|| {
            let (count, start) = (pool.candidates.len(), fastrand::usize(..pool.candidates.len().max(1)));
            (0..count).map(|step| (start + step) % count).find(|index| choice.is_open(*index))
        });
        picked.map(|index| &pool.candidates[index])
    }

    fn pool(&self) -> Option<&Pool> {
        if let [(_, only)] = &self.pools[..] {
            return Some(only);
        }
        let total: u64 = self.pools.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let mut point = fastrand::u64(..total.max(1));
        self.pools.iter().find_map(|(weight, pool)| match point.checked_sub((*weight).into()) {
            None => Some(pool),
            Some(rest) => {
                point = rest;
                None
            }
        })
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let candidates: Vec<&Candidate> = self.candidates().collect();
        f.debug_struct("Selection").field("candidates", &candidates).finish_non_exhaustive()
    }
}

impl Pool {
    fn new(candidates: Vec<Candidate>, service: &Service, policy: &Policy) -> Pool {
        let mut total = 0;
        let sum = |candidate: &Candidate| {
            total += candidate.weight;
            total
        };
        let weights = candidates.iter().map(sum).collect();
        let ring = match policy.balancing {
            Balancing::RingHash => Some(KeyedPlacement::new(ring_of(service.ring()), &candidates)),
            Balancing::Maglev => {
                let members = service.ring().ring.members().to_vec();
                Some(KeyedPlacement::new(Arc::new(Maglev::new(members)), &candidates))
            }
            _ => None,
        };
        Pool { candidates, weights, ring }
    }

    /// Candidates in the order in which they stand in for each other at this hash. Empty unless the
    /// policy picks by key.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let ring = self.ring.as_ref();
        ring.into_iter()
            .flat_map(move |ring| ring.placement.walk(hash).filter_map(|member| ring.candidates[member]))
    }

    /// Requests under way to all of them.
    pub fn in_flight(&self) -> u64 {
        self.candidates.iter().map(Candidate::in_flight).sum()
    }
}

fn ring_of(ring: Arc<ServiceRing>) -> Arc<dyn Placement> {
    ring.ring.clone()
}

impl KeyedPlacement {
    fn new(placement: Arc<dyn Placement>, candidates: &[Candidate]) -> KeyedPlacement {
        let by_id: BTreeMap<&str, usize> = candidates
            .iter()
            .enumerate()
            .map(|(index, candidate)| (candidate.entry.instance.id.as_str(), index))
            .collect();
        let candidates = placement.members().iter().map(|member| by_id.get(&*member.id).copied()).collect();
        KeyedPlacement { placement, candidates }
    }
}

/// The available ones of the nearest groups, as many groups as are needed.
fn nearest(known: Vec<Known>, policy: &Policy, locale: &Locale) -> Vec<Known> {
    let rank_in = |order: &[String], own: &str, name: &str| match name == own || name.is_empty() {
        true => 0,
        false => 1 + order.iter().position(|known| known == name).unwrap_or(order.len()),
    };
    let mut groups: BTreeMap<(usize, u32, usize), Vec<Known>> = BTreeMap::new();
    for found in known {
        let instance = &found.0.instance;
        let zone = match policy.is_zone_aware && !locale.zone.is_empty() {
            true => rank_in(&policy.failover_zones, &locale.zone, &instance.locality.zone),
            false => 0,
        };
        let cluster = rank_in(&policy.failover_clusters, &locale.cluster, &instance.cluster);
        groups.entry((cluster, instance.priority, zone)).or_default().push(found);
    }
    let mut near = Vec::new();
    for group in groups.into_values() {
        let all = group.len();
        let before = near.len();
        near.extend(group.into_iter().filter(|(_, target, _)| target.is_available()));
        if (near.len() - before) * 1000 >= all * ENOUGH_PERMILLE {
            break;
        }
    }
    near.sort_by(|a, b| a.0.instance.id.cmp(&b.0.instance.id));
    near
}
