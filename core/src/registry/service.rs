//! A service at a version: its instances, its policy, and its ring. Immutable: share it.
//!
//! Everyone who has a service at version v has the same instances, and so the same ring.

use std::sync::{Arc, OnceLock};

use super::{Filter, Instance, Policy, ServiceName, Status};
use crate::id::{SessionId, Zxid};
use crate::ring::{Member, Placement, Ring};

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record.
    pub instance: Instance,
    /// The transaction that registered it.
    pub registered: Zxid,
    /// The transaction that last changed the record.
    pub changed: Zxid,
    /// The record's version, for conditional writes.
    pub version: i32,
    /// The session whose life it shares; 0: none.
    pub owner: SessionId,
}

/// A service's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyEntry {
    /// The record.
    pub policy: Policy,
    /// The transaction that last changed it.
    pub changed: Zxid,
    /// Its version, for conditional writes.
    pub version: i32,
}

/// A service at a version.
#[derive(Debug)]
pub struct Service {
    name: ServiceName,
    version: Zxid,
    /// Sorted by id.
    entries: Arc<[Arc<Entry>]>,
    policy: Option<Arc<PolicyEntry>>,
    /// Nodes that should be instances and cannot be read as such.
    unreadable: u32,
    ring: OnceLock<Arc<ServiceRing>>,
    /// The ring with those that drain, if there are any.
    owning: OnceLock<Option<Arc<Ring>>>,
    /// An earlier version's, to make this one's from.
    base: Option<Arc<ServiceRing>>,
}

/// A service's ring: those to whom new work may go.
#[derive(Debug)]
pub struct ServiceRing {
    /// The ring; its members' ids are the instances'.
    pub ring: Arc<Ring>,
    /// The instances, in the order of the ring's members.
    pub entries: Vec<Arc<Entry>>,
    /// Too few are usable: all that are not in maintenance take part.
    pub is_panicking: bool,
}

/// What differs between two versions of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// New or changed.
    pub put: Vec<Arc<Entry>>,
    /// Ids of those that are gone.
    pub removed: Vec<String>,
    /// The policy, if it differs: `Some(None)` if it is gone.
    pub policy: Option<Option<Arc<PolicyEntry>>>,
}

impl Service {
    /// A service without anything.
    pub fn empty(name: ServiceName, version: Zxid) -> Service {
        Service::new(name, version, Arc::default(), None, 0, None)
    }

    pub(super) fn new(
        name: ServiceName,
        version: Zxid,
        entries: Arc<[Arc<Entry>]>,
        policy: Option<Arc<PolicyEntry>>,
        unreadable: u32,
        base: Option<Arc<ServiceRing>>,
    ) -> Service {
        debug_assert!(entries.is_sorted_by(|a, b| a.instance.id < b.instance.id));
        let (ring, owning) = (OnceLock::new(), OnceLock::new());
        Service { name, version, entries, policy, unreadable, ring, owning, base }
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The last transaction that changed anything of it: the ring's version.
    pub fn version(&self) -> Zxid {
        self.version
    }

    /// All instances, by id.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// One instance.
    pub fn entry(&self, id: &str) -> Option<&Arc<Entry>> {
        let found = self.entries.binary_search_by(|entry| entry.instance.id.as_str().cmp(id));
        found.ok().map(|index| &self.entries[index])
    }

    /// The instances asked for.
    pub fn filtered(&self, filter: &Filter) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().filter(|entry| filter.matches(&entry.instance))
    }

    /// The policy's entry, if one was set.
    pub fn policy_entry(&self) -> Option<&Arc<PolicyEntry>> {
        self.policy.as_ref()
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.policy.as_ref().map_or_else(Policy::default, |entry| entry.policy.clone())
    }

    /// Nodes that should be instances and cannot be read as such.
    pub fn unreadable(&self) -> u32 {
        self.unreadable
    }

    /// The ring that was built for this version already, or the one that it would be made from.
    pub(super) fn known_ring(&self) -> Option<Arc<ServiceRing>> {
        self.ring.get().or(self.base.as_ref()).cloned()
    }

    /// Those to whom new work may go, and whether too few are usable, so that all but those in
    /// maintenance are named.
    pub fn serving(&self) -> (Vec<Arc<Entry>>, bool) {
        let with = |wanted: fn(Status) -> bool| -> Vec<Arc<Entry>> {
            self.entries.iter().filter(|entry| wanted(entry.instance.status())).cloned().collect()
        };
        let usable = with(Status::is_usable);
        // Those that drain or are in maintenance are not ill: they do not count.
        let could_be = with(|status| status.is_usable() || status == Status::Critical);
        let permille = self
            .policy
            .as_ref()
            .map_or(Policy::default().panic_permille, |entry| entry.policy.panic_permille);
        let is_panicking = (usable.len() as u64) * 1000 < u64::from(permille) * could_be.len() as u64;
        if is_panicking { (could_be, true) } else { (usable, false) }
    }

    /// The ring of this version; built when first asked for, from an earlier version's if there is one.
    pub fn ring(&self) -> Arc<ServiceRing> {
        self.ring.get_or_init(|| Arc::new(self.build_ring())).clone()
    }

    fn build_ring(&self) -> ServiceRing {
        let (entries, is_panicking) = self.serving();
        let policy = self.policy();
        let members: Vec<Member> = entries.iter().map(|entry| member(entry, &policy.port)).collect();
        let ring = match &self.base {
            Some(base) if base.ring.sizing() == policy.sizing() => match base.ring.members() == members {
                true => base.ring.clone(),
                false => Arc::new(base.ring.update(members)),
            },
            _ => Arc::new(Ring::new(members, policy.sizing())),
        };
        ServiceRing { ring, entries, is_panicking }
    }

    /// Who must have let go of a hash before its owner may start: the draining instance that owned
    /// it, until it is gone. `None`: the owner may start.
    pub fn handing_over(&self, hash: u64) -> Option<&Arc<Entry>> {
        let owning = self.owning.get_or_init(|| self.build_owning()).as_ref()?;
        let owner = owning.owner(hash)?;
        self.entry(&owning.members()[owner].id).filter(|entry| entry.instance.status() == Status::Draining)
    }

    fn build_owning(&self) -> Option<Arc<Ring>> {
        let draining = self.entries.iter().filter(|entry| entry.instance.status() == Status::Draining);
        let port = self.policy().port;
        let leaving: Vec<Member> = draining.map(|entry| member(entry, &port)).collect();
        if leaving.is_empty() {
            return None;
        }
        let ring = self.ring();
        let all = ring.ring.members().iter().cloned().chain(leaving);
        Some(Arc::new(ring.ring.update(all)))
    }

    /// What changed from `old` (of the same service) to this.
    pub fn since(&self, old: &Service) -> Delta {
        let mut delta = Delta::default();
        let mut before = old.entries.iter().peekable();
        for entry in self.entries.iter() {
            while let Some(gone) = before.next_if(|old| old.instance.id < entry.instance.id) {
                delta.removed.push(gone.instance.id.clone());
            }
            match before.next_if(|old| old.instance.id == entry.instance.id) {
                Some(old) if old == entry => {}
                _ => delta.put.push(entry.clone()),
            }
        }
        delta.removed.extend(before.map(|gone| gone.instance.id.clone()));
        if self.policy != old.policy {
            delta.policy = Some(self.policy.clone());
        }
        delta
    }
}

impl ServiceRing {
    /// The instance that owns a key and those that stand in for it: `count` different ones, or all.
    pub fn locate(&self, key: &[u8], count: usize) -> Vec<&Arc<Entry>> {
        let owners = self.ring.replicas(crate::ring::hash_key(key), count);
        owners.into_iter().map(|owner| &self.entries[owner]).collect()
    }
}

fn member(entry: &Entry, port: &str) -> Member {
    let instance = &entry.instance;
    Member::new(instance.id.as_str(), instance.endpoint(port), instance.weight)
}
