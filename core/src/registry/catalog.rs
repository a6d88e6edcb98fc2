//! All services as the tree shows them, kept up to date by its changes.
//!
//! Whoever follows the registry (a member for its doors, an SDK for one service) feeds nodes and
//! changes in, in order, then settles: that makes one new [`Service`] for each that changed. Of a
//! change whose value has to be read from the node, its transaction is fed in first.
//!
//! Invariants:
//! - a service's version is the last transaction that touched it, and follows from the tree alone:
//!   max(its node's pzxid, its instances' node's pzxid, mzxid of each record). So members that
//!   followed all along and one that has just loaded name the same version;
//! - a version that was passed over is never answered with another's instances.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::layout::{Place, place};
use super::service::{Entry, PolicyEntry, Service};
use super::{Instance, Policy, ServiceName};
use crate::error::{Error, ErrorKind};
use crate::id::Zxid;
use crate::znode::Stat;

/// Earlier versions kept of each service.
const HISTORY: usize = 16;

/// All services.
#[derive(Debug, Default)]
pub struct Catalog {
    services: BTreeMap<ServiceName, Tracked>,
    dirty: BTreeMap<ServiceName, Pending>,
    zxid: Zxid,
}

#[derive(Debug)]
struct Tracked {
    current: Arc<Service>,
    /// Earlier versions, oldest first, each with the first transaction that changed it.
    history: VecDeque<(Arc<Service>, Zxid)>,
    /// Whether the service's node stands.
    stands: bool,
    /// Ids of instances' nodes that cannot be read.
    unreadable: BTreeMap<String, Zxid>,
}

/// Changes that are not settled yet.
#[derive(Debug, Default)]
struct Pending {
    entries: BTreeMap<String, Option<Arc<Entry>>>,
    unreadable: BTreeMap<String, Option<Zxid>>,
    policy: Option<Option<Arc<PolicyEntry>>>,
    stands: Option<bool>,
    first: Zxid,
    last: Zxid,
}

impl Catalog {
    /// Nothing, as of this transaction.
    pub fn new(zxid: Zxid) -> Catalog {
        Catalog { zxid, ..Catalog::default() }
    }

    /// The last transaction that is in it.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// All up to this transaction is in it, though nothing of it may have concerned services.
    pub fn advance(&mut self, zxid: Zxid) {
        self.zxid = self.zxid.max(zxid);
    }

    /// A node that exists: found when loading, created or changed.
    pub fn put(&mut self, path: &str, data: Option<&[u8]>, stat: &Stat) {
        match place(path) {
            Place::Service(name) => {
                let pending = self.pending(name, stat.pzxid);
                pending.stands = Some(true);
            }
            Place::Instances(name) => {
                // Its own creation changed the service's node.
                self.pending(name, stat.pzxid.max(stat.czxid));
            }
            Place::Instance(name, id) => {
                let record = data.unwrap_or_default();
                let entry = Instance::decode(record).ok().filter(|instance| instance.id == id);
                let entry = entry.map(|instance| {
                    Arc::new(Entry {
                        instance,
                        registered: stat.czxid,
                        changed: stat.mzxid,
                        version: stat.version,
                        owner: stat.ephemeral_owner,
                    })
                });
                let unreadable = entry.is_none().then_some(stat.mzxid);
                let pending = self.pending(name, stat.mzxid);
                pending.unreadable.insert(id.into(), unreadable);
                pending.entries.insert(id.into(), entry);
            }
            Place::Policy(name) => {
                let policy = Policy::decode(data.unwrap_or_default()).ok();
                let (changed, version) = (stat.mzxid, stat.version);
                let entry = policy.map(|policy| Arc::new(PolicyEntry { policy, changed, version }));
                self.pending(name, stat.mzxid).policy = Some(entry);
            }
            Place::Stray(name) => {
                self.pending(name, stat.czxid);
            }
            Place::Elsewhere => {}
        }
        self.advance(stat.mzxid);
    }

    /// A transaction that wrote a node's data, though what it wrote is not known: what is read of the
    /// node afterwards may be later, or nothing.
    pub fn touch(&mut self, path: &str, zxid: Zxid) {
        // The data of other nodes is no part of their service.
        if let Place::Instance(name, _) | Place::Policy(name) = place(path) {
            self.pending(name, zxid);
        }
        self.advance(zxid);
    }

    /// A node that is gone.
    pub fn remove(&mut self, path: &str, zxid: Zxid) {
        match place(path) {
            Place::Service(name) => self.pending(name, zxid).stands = Some(false),
            Place::Instance(name, id) => {
                let pending = self.pending(name, zxid);
                pending.entries.insert(id.into(), None);
                pending.unreadable.insert(id.into(), None);
            }
            Place::Policy(name) => self.pending(name, zxid).policy = Some(None),
            Place::Instances(name) | Place::Stray(name) => drop(self.pending(name, zxid)),
            Place::Elsewhere => {}
        }
        self.advance(zxid);
    }

    /// Makes new versions of the services that changed, and returns them.
    pub fn settle(&mut self) -> Vec<Arc<Service>> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().filter_map(|(name, pending)| self.settle_one(name, pending)).collect()
    }

    /// A service, if it has anything or its node stands.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(name).map(|tracked| &tracked.current)
    }

    /// A service as it was when `zxid` was the last transaction; `None` only at the beginning of all.
    ///
    /// # Errors
    /// [`ErrorKind::WatchGap`] if that is not remembered (any more): of a service that is not there
    /// nothing is, as its history went with it.
    pub fn service_at(&self, name: &ServiceName, zxid: Zxid) -> Result<Option<&Arc<Service>>, Error> {
        let Some(tracked) = self.services.get(name) else {
            return match zxid {
                Zxid(0) => Ok(None),
                _ => Err(Error::new(
                    ErrorKind::WatchGap,
                    format!("version {zxid} of {name} is not remembered"),
                )),
            };
        };
        if tracked.current.version() <= zxid {
            return Ok(Some(&tracked.current));
        }
        let earlier = tracked.history.iter().find(|(old, passed)| old.version() <= zxid && zxid < *passed);
        match earlier {
            Some((old, _)) => Ok(Some(old)),
            None => Err(Error::new(
                ErrorKind::WatchGap,
                format!("version {zxid} of {name} is gone; the current one is {}", tracked.current.version()),
            )),
        }
    }

    /// All services, by name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().map(|tracked| &tracked.current)
    }

    fn pending(&mut self, name: ServiceName, zxid: Zxid) -> &mut Pending {
        let pending = self.dirty.entry(name).or_insert_with(|| Pending { first: zxid, ..Pending::default() });
        pending.first = pending.first.min(zxid);
        pending.last = pending.last.max(zxid);
        pending
    }

    fn settle_one(&mut self, name: ServiceName, pending: Pending) -> Option<Arc<Service>> {
        let tracked = self.services.entry(name.clone()).or_insert_with(|| Tracked {
            current: Arc::new(Service::empty(name.clone(), Zxid(0))),
            history: VecDeque::new(),
            stands: false,
            unreadable: BTreeMap::new(),
        });
        let old = tracked.current.clone();
        let version = old.version().max(pending.last);
        tracked.stands = pending.stands.unwrap_or(tracked.stands);
        for (id, unreadable) in pending.unreadable {
            match unreadable {
                Some(zxid) => drop(tracked.unreadable.insert(id, zxid)),
                None => drop(tracked.unreadable.remove(&id)),
            }
        }
        let entries: Arc<[Arc<Entry>]> = match pending.entries.is_empty() {
            true => old.entries().into(),
            false => merged(old.entries(), pending.entries),
        };
        let policy = pending.policy.unwrap_or_else(|| old.policy_entry().cloned());
        let unreadable = tracked.unreadable.len() as u32;
        let base = old.known_ring();
        let service = Arc::new(Service::new(name.clone(), version, entries, policy, unreadable, base));
        tracked.current = service.clone();
        if old.version() > Zxid(0) {
            tracked.history.push_back((old, pending.first));
        }
        if tracked.history.len() > HISTORY {
            tracked.history.pop_front();
        }
        let is_over = service.entries().is_empty() && service.policy_entry().is_none();
        if is_over && !tracked.stands && tracked.unreadable.is_empty() {
            self.services.remove(&name);
        }
        Some(service)
    }
}

/// Both are sorted by id.
fn merged(old: &[Arc<Entry>], changes: BTreeMap<String, Option<Arc<Entry>>>) -> Arc<[Arc<Entry>]> {
    let mut entries = Vec::with_capacity(old.len() + changes.len());
    let mut old = old.iter().peekable();
    for (id, change) in changes {
        while let Some(kept) = old.next_if(|entry| entry.instance.id < id) {
            entries.push(kept.clone());
        }
        old.next_if(|entry| entry.instance.id == id);
        entries.extend(change);
    }
    entries.extend(old.cloned());
    entries.into()
}
