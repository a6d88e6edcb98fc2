//! The registry as this member sees it: one catalog for all doors, kept up to date by a watch.
//!
//! Doors ask [`Coordinator::service`] or follow one with [`Coordinator::follow_service`]; whoever
//! follows shares what has been decoded once. A follower that is slow misses steps, never the end.
//!
//! Invariants:
//! - events are queued under the state's lock, so a refresh behind a read barrier
//!   shows all that the barrier covers;
//! - the catalog is read as the superuser: what a caller may see is judged at delivery
//!   ([`Coordinator::visible`]), by the ACLs in force then;
//! - locks are taken in the order directory, local state.
//!
//! Not here: what a service is (core/registry), how instances get in (registrar).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::Identity;
use quorate_core::change::{EventKind, Value};
use quorate_core::error::Error;
use quorate_core::id::Zxid;
use quorate_core::registry::{Catalog, Entry, Service, ServiceName, layout};
use quorate_core::reply::ReadResult;
use quorate_core::request::{Consistency, ReadRequest, WatchId, WatchKind};
use quorate_core::state::{Caller, State};
use quorate_core::watches::WatcherId;
use quorate_core::znode::Stat;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::Coordinator;
use crate::local_state::LocalState;
use crate::sessions::outbox::{OutboxReader, OutboxSignal, Outgoing, outbox};

/// Events taken at once.
const EVENTS: usize = 4096;
/// How often a member without a registry looks whether there is one.
const LOOK: Duration = Duration::from_secs(1);
/// The catalog starts anew at most so often in one refresh; then the next one goes on.
const STARTS_MAX: usize = 3;

/// The catalog and who follows what.
#[derive(Debug, Default)]
pub(super) struct Directory {
    inner: Mutex<Inner>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    following: Option<Following>,
    catalog: Catalog,
    /// The last transaction that loading has seen.
    loaded: Zxid,
    followers: HashMap<ServiceName, watch::Sender<Arc<Service>>>,
    /// Counts what changed, for those who look through everything.
    changes: u64,
    /// Followers that left are forgotten when there are so many.
    sweep_at: usize,
}

#[derive(Debug)]
struct Following {
    watcher: WatcherId,
    reader: OutboxReader,
}

impl Following {
    /// Everything that waits.
    fn take_all(&mut self) -> Option<Result<Vec<Outgoing>, Error>> {
        let mut all = self.reader.try_take(EVENTS)?;
        while let Ok(taken) = &mut all
            && let Some(Ok(more)) = self.reader.try_take(EVENTS)
            && !more.is_empty()
        {
            taken.extend(more);
        }
        Some(all)
    }
}

/// The one whom no ACL keeps out.
pub(super) fn superuser() -> Identity {
    Identity { scheme: Identity::SUPER.into(), id: String::new() }
}

impl Coordinator {
    /// A service as this member has it now; without instances if nobody registered any.
    pub fn service(&self, name: &ServiceName) -> Arc<Service> {
        self.directory().service(name)
    }

    /// A service as it was at a version.
    ///
    /// # Errors
    /// `WatchGap` if that is not remembered.
    pub fn service_at(&self, name: &ServiceName, version: Zxid) -> Result<Arc<Service>, Error> {
        let inner = self.directory();
        let found = inner.catalog.service_at(name, version)?;
        Ok(found.cloned().unwrap_or_else(|| Arc::new(Service::empty(name.clone(), Zxid(0)))))
    }

    /// All services, by name.
    pub fn services(&self) -> Vec<Arc<Service>> {
        self.directory().catalog.services().cloned().collect()
    }

    /// The same as fresh as asked, with the transaction up to which it is.
    pub async fn wait_directory(&self, consistency: Consistency) -> Result<Zxid, Error> {
        self.wait_fresh(consistency).await?;
        let applied = self.shared.local.progress_now().zxid;
        let mut inner = self.directory();
        inner.catalog.advance(applied);
        Ok(inner.catalog.zxid())
    }

    /// A service now and whenever it changes.
    pub fn follow_service(&self, name: &ServiceName) -> watch::Receiver<Arc<Service>> {
        let mut inner = self.directory();
        if inner.followers.len() >= inner.sweep_at {
            inner.followers.retain(|_, follower| follower.receiver_count() > 0);
            inner.sweep_at = 2 * inner.followers.len() + 64;
        }
        let current = inner.service(name);
        let followers = inner.followers.entry(name.clone());
        followers.or_insert_with(|| watch::Sender::new(current)).subscribe()
    }

    /// Those instances of a service that a caller may READ.
    pub fn visible<'a>(
        &self,
        name: &ServiceName,
        entries: impl IntoIterator<Item = &'a Arc<Entry>>,
        identities: &[Identity],
    ) -> Vec<&'a Arc<Entry>> {
        let caller = Caller { identities, session: None };
        self.shared.local.with_state(|state| {
            let may_read = |entry: &&Arc<Entry>| {
                let path = name.instance_path(&entry.instance.id);
                // One that is gone meanwhile is left out too: who may have read it is not known any
                // more, and the next version tells that it is gone.
                state.read(&ReadRequest::Exists { path, watch: None }, &caller).is_ok()
            };
            entries.into_iter().filter(may_read).collect()
        })
    }

    /// Whether a caller may READ a service's policy (or there is none).
    pub fn may_read_policy(&self, name: &ServiceName, identities: &[Identity]) -> bool {
        let caller = Caller { identities, session: None };
        let exists = ReadRequest::Exists { path: name.policy_path(), watch: None };
        self.shared.local.with_state(|state| state.read(&exists, &caller)).is_ok()
    }

    /// Grows whenever any service changes; `None` while there is no registry to follow.
    pub(super) fn directory_changes(&self) -> Option<u64> {
        let is_followed = self.shared.directory.lock().following.is_some();
        is_followed.then(|| self.directory().changes)
    }

    /// Keeps the catalog up to date once there is a registry or somebody has asked, for as long as
    /// the member lives.
    pub async fn run_directory(self) {
        loop {
            let signal = self.shared.directory.lock().signal();
            match signal {
                Some(signal) => {
                    signal.ready().await;
                    drop(self.directory());
                }
                None => {
                    if self.has_registry() && self.directory().following.is_some() {
                        continue;
                    }
                    tokio::select! {
                        () = self.shared.directory.wanted.notified() => {}
                        () = sleep(LOOK) => {}
                    }
                }
            }
        }
    }

    fn has_registry(&self) -> bool {
        let exists = ReadRequest::Exists { path: layout::ROOT.into(), watch: None };
        let identities = [superuser()];
        let caller = Caller { identities: &identities, session: None };
        self.shared.local.with_state(|state| state.read(&exists, &caller)).is_ok()
    }

    /// The directory with everything in it that has been applied here.
    fn directory(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.shared.directory.lock();
        let is_first = inner.following.is_none();
        inner.refresh(&self.shared.local);
        if is_first {
            self.shared.directory.wanted.notify_one();
        }
        inner
    }
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn signal(&self) -> Option<OutboxSignal> {
        self.following.as_ref().map(|following| following.reader.signal())
    }

    fn service(&self, name: &ServiceName) -> Arc<Service> {
        let known = self.catalog.service(name);
        known.cloned().unwrap_or_else(|| Arc::new(Service::empty(name.clone(), Zxid(0))))
    }

    /// Takes in all events that wait.
    fn refresh(&mut self, local: &LocalState) {
        let mut starts = 0;
        loop {
            if self.following.is_none() {
                if starts == STARTS_MAX {
                    return;
                }
                starts += 1;
                self.start(local);
            }
            let Some(following) = &mut self.following else { return };
            // Under the state's lock, so that no transaction is taken in by half.
            match local.with_state(|_| following.take_all()) {
                None => break,
                Some(Ok(taken)) if !taken.is_empty() => self.take_in(local, taken),
                // Cut off, by an installed snapshot or for being slow: all is read again.
                Some(_) => {
                    local.remove_watcher(following.watcher);
                    self.following = None;
                }
            }
        }
        self.settle();
    }

    /// Watches, then reads everything: no change falls between.
    fn start(&mut self, local: &LocalState) {
        let (sender, reader) = outbox();
        let watcher = local.add_watcher(sender, vec![superuser()]);
        let add = ReadRequest::AddWatch {
            id: WatchId(0),
            path: layout::ROOT.into(),
            kind: WatchKind::Recursive,
            since: None,
            with_value: true,
        };
        if let Err(error) = local.watch(watcher, &add) {
            tracing::warn!(%error, "the registry cannot be followed");
            local.remove_watcher(watcher);
            return;
        }
        let (zxid, nodes) = local.with_state(|state| (state.zxid(), read_all(state)));
        self.catalog = Catalog::new(zxid);
        self.changes += 1;
        self.loaded = zxid;
        for (path, data, stat) in nodes {
            self.catalog.put(&path, data.as_deref(), &stat);
        }
        self.following = Some(Following { watcher, reader });
        self.settle();
        // Services that went while nobody looked are told as empty.
        for (name, follower) in &self.followers {
            if self.catalog.service(name).is_none() {
                follower.send_replace(Arc::new(Service::empty(name.clone(), zxid)));
            }
        }
    }

    fn take_in(&mut self, local: &LocalState, taken: Vec<Outgoing>) {
        for outgoing in taken {
            let Outgoing::Event(event) = outgoing else { continue };
            let body = event.body;
            // The load, which came after the watch, has these already.
            if body.position.zxid <= self.loaded {
                continue;
            }
            match (body.kind, &body.value) {
                (EventKind::NodeDeleted, _) => self.catalog.remove(&body.path, body.position.zxid),
                (EventKind::NodeCreated | EventKind::NodeDataChanged, Value::Kept(data)) => {
                    self.catalog.put(&body.path, data.as_deref(), &body.stat);
                }
                (EventKind::NodeCreated | EventKind::NodeDataChanged, Value::NotKept) => {
                    // Too large for the event, so the node is read as it is now; what came between is a
                    // version of its own all the same. Deleted meanwhile: that event follows.
                    self.catalog.touch(&body.path, body.position.zxid);
                    if let Some((data, stat)) = local.with_state(|state| read_node(state, &body.path)) {
                        self.catalog.put(&body.path, data.as_deref(), &stat);
                    }
                }
                (EventKind::NodeChildrenChanged, _) => {}
            }
        }
    }

    fn settle(&mut self) {
        for service in self.catalog.settle() {
            self.changes += 1;
            if let Some(follower) = self.followers.get(service.name()) {
                follower.send_replace(service);
            }
        }
    }
}

/// A node's path, data and Stat.
type Found = (String, Option<Bytes>, Stat);

fn read_node(state: &State, path: &str) -> Option<(Option<Bytes>, Stat)> {
    let identities = [superuser()];
    let caller = Caller { identities: &identities, session: None };
    match state.read(&ReadRequest::Get { path: path.into(), watch: None }, &caller) {
        Ok(ReadResult::Data { data, stat }) => Some((data, stat)),
        _ => None,
    }
}

/// All nodes below the registry's root, parents before children.
fn read_all(state: &State) -> Vec<Found> {
    let identities = [superuser()];
    let caller = Caller { identities: &identities, session: None };
    let mut found: Vec<Found> = Vec::new();
    let mut parents = vec![layout::ROOT.to_string()];
    while let Some(parent) = parents.pop() {
        let mut after = None;
        loop {
            let list = ReadRequest::List {
                path: parent.clone(),
                after: after.take(),
                limit: 0,
                with_stat: true,
                with_data: true,
                watch: None,
            };
            let Ok(ReadResult::Children { children, more, .. }) = state.read(&list, &caller) else { break };
            after = children.last().map(|child| child.name.clone());
            for child in children {
                let Some(stat) = child.stat else { continue };
                let path = format!("{parent}/{}", child.name);
                if stat.num_children > 0 {
                    parents.push(path.clone());
                }
                found.push((path, child.data, stat));
            }
            if !more {
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use quorate_core::acl::AclEntry;
    use quorate_core::command::{Command, Create, Operation, Origin, Stamp};
    use quorate_core::error::ErrorKind;
    use quorate_core::id::MemberId;
    use quorate_core::registry::{Instance, registration};
    use quorate_core::znode::CreateMode;

    use super::*;

    /// A member's state, and the directory that follows it when it is told to.
    struct World {
        local: LocalState,
        applied: u64,
        directory: Inner,
        orders: ServiceName,
    }

    impl World {
        fn new() -> World {
            let local = LocalState::new(MemberId(1), State::new(), 0);
            let orders: ServiceName = "orders".parse().expect("a valid name");
            let mut world = World { local, applied: 0, directory: Inner::default(), orders };
            for (path, _) in world.orders.parents() {
                let (acl, mode) = (AclEntry::open(), CreateMode::Persistent);
                world.apply(Operation::Create(Create { path, data: None, acl, mode }));
            }
            world
        }

        /// Applies a write; its transaction.
        fn apply(&mut self, operation: Operation) -> Zxid {
            let before = self.local.progress_now().zxid;
            self.applied += 1;
            let command = Command { origin: Origin::House, identities: Vec::new(), operation };
            self.local.apply(self.applied, &Stamp::default(), &[command]);
            let zxid = self.local.progress_now().zxid;
            assert!(zxid > before, "the write was refused");
            zxid
        }

        fn register(&mut self, instance: &Instance) -> Zxid {
            let create = registration::register(&self.orders, instance, None, None);
            self.apply(create.expect("a valid one"))
        }

        fn rewrite(&mut self, instance: &Instance) -> Zxid {
            let (path, data) = (self.orders.instance_path(&instance.id), Some(instance.encode()));
            self.apply(Operation::SetData { path, data, version: -1 })
        }

        fn remove(&mut self, id: &str) -> Zxid {
            self.apply(Operation::Delete { path: self.orders.instance_path(id), version: -1 })
        }

        /// The version that the directory has now.
        fn refresh(&mut self) -> Zxid {
            self.directory.refresh(&self.local);
            self.directory.service(&self.orders).version()
        }

        /// Ids and weights at a version.
        fn at(&self, version: Zxid) -> Result<Vec<(String, u32)>, ErrorKind> {
            let found = self.directory.catalog.service_at(&self.orders, version);
            let service = found.map_err(|error| error.kind)?.expect("there");
            let entries = service.entries().iter();
            Ok(entries.map(|entry| (entry.instance.id.clone(), entry.instance.weight)).collect())
        }
    }

    /// Its record is more than an event brings.
    fn large(id: &str) -> Instance {
        let mut instance = Instance::new(id, "10.0.0.1", 8000);
        instance.metadata.insert("notes".into(), "x".repeat(2000));
        instance
    }

    fn shown(instances: &[(&str, u32)]) -> Result<Vec<(String, u32)>, ErrorKind> {
        Ok(instances.iter().map(|(id, weight)| ((*id).to_string(), *weight)).collect())
    }

    #[test]
    fn a_version_with_a_large_record_that_was_passed_over_is_never_anothers() {
        let mut world = World::new();
        world.refresh();
        world.register(&large("a"));
        let first = world.refresh();

        // One that came and went between two looks.
        let with_b = world.register(&large("b"));
        let without_b = world.remove("b");
        assert_eq!(world.refresh(), without_b);
        assert_eq!(world.at(with_b), Err(ErrorKind::WatchGap));
        assert_eq!(world.at(first), shown(&[("a", 1)]));

        // One that changed twice.
        let heavier = world.rewrite(&Instance { weight: 5, ..large("a") });
        let loaded = world.rewrite(&Instance { weight: 5, load: Some(9), ..large("a") });
        assert_eq!(world.refresh(), loaded);
        assert_eq!(world.at(heavier), Err(ErrorKind::WatchGap));
        assert_eq!(world.at(without_b), shown(&[("a", 1)]));
        assert_eq!(world.at(loaded), shown(&[("a", 5)]));

        // What the service's own node carries makes no version.
        let (path, data) = (world.orders.path(), Some(vec![0; 2000].into()));
        let noted = world.apply(Operation::SetData { path, data, version: -1 });
        assert_eq!(world.refresh(), loaded);
        assert_eq!(world.at(noted), shown(&[("a", 5)]));
    }
}
