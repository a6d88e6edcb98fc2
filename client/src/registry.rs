//! The service registry: registering instances that live with this client's session, and following
//! services.
//!
//! ```no_run
//! # async fn example(client: quorate::Client) -> quorate::Result<()> {
//! use quorate::registry::Instance;
//!
//! let registry = client.registry();
//! let registration = registry.register("orders", Instance::new("a-1", "10.0.0.1", 8080)).await?;
//! let mut orders = registry.follow("orders").await?;
//! println!("{:?} serves customer 42", orders.locate("customer-42"));
//! orders.changed().await?;
//! registration.deregister().await
//! # }
//! ```
//!
//! The registry is the cluster's, whatever the client's chroot. What an instance and a service are is
//! `quorate_core::registry`; calling a service's instances is [`crate::balance`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use quorate_core::change::{EventKind, Value};
use quorate_core::command::Operation;
use quorate_core::error::{Error as Refusal, ErrorKind};
use quorate_core::id::{SessionId, Zxid};
pub use quorate_core::registry::{
    Balancing, Check, CheckKind, Delta, Entry, Filter, Health, Instance, Locality, Mode, Policy, PolicyEntry,
    Service, ServiceName, ServiceRing, Status,
};
use quorate_core::registry::{Catalog, registration};
use quorate_core::request::{Consistency, ReadRequest};
use quorate_core::znode::CreateMode;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::calls::answer_of_write;
use crate::chroot::Chroot;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::session::{Place, SessionState};
use crate::watch::{NodeEvent, Watch, WatchEvent};

/// Looks at what stands, and tries, so often before a race is told to the caller.
const TRIES: usize = 8;
/// Events that may wait for a follower.
const EVENTS_WAITING: usize = 16_384;
/// Children read at once.
const PAGE: u32 = 1000;

/// The registry, over a client's session. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    client: Client,
}

impl Client {
    /// The cluster's service registry.
    pub fn registry(&self) -> Registry {
        let chroot = Chroot::new("/").expect("the cluster's own root is a good one");
        Registry { client: Client { chroot, ..self.clone() } }
    }
}

impl Registry {
    /// Registers an instance that lives as long as this client's session, or until the returned
    /// registration is dropped. One that stands with a lower generation is replaced at once.
    ///
    /// # Errors
    /// `NodeExists` if another's registration of the same or a higher generation stands;
    /// `BadArguments` and `TooLarge` by field; the session's end.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the instance registered until the session ends.
    pub async fn register(&self, service: &str, instance: Instance) -> Result<Registration> {
        let service = self.name(service)?;
        let registered = self.put(&service, &instance, Some(self.client.session_id())).await?;
        Ok(Registration { registry: self.clone(), service, id: instance.id, registered, is_gone: false })
    }

    /// Registers an instance that stays until it is removed; the cluster checks it if the instance
    /// says how.
    ///
    /// # Errors
    /// As [`Registry::register`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn register_lasting(&self, service: &str, instance: Instance) -> Result<()> {
        self.put(&self.name(service)?, &instance, None).await.map(drop)
    }

    /// Removes an instance, whoever registered it; whether there was one.
    ///
    /// # Errors
    /// `NoAuth`; the session's end.
    ///
    /// # Cancel safety
    /// The removal is queued when this is first polled.
    pub async fn deregister(&self, service: &str, id: &str) -> Result<bool> {
        match self.client.delete(&self.name(service)?.instance_path(id)).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NoNode => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A service as it is now; without instances if nobody registered any.
    ///
    /// # Errors
    /// `NoAuth`; the session's end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn service(&self, service: &str) -> Result<Arc<Service>> {
        self.client.sync("/").await?;
        Ok(self.follow(service).await?.current())
    }

    /// Follows a service: what is read of it costs no network.
    ///
    /// # Errors
    /// `NoAuth`; the session's end.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn follow(&self, service: &str) -> Result<ServiceFollower> {
        ServiceFollower::start(self.client.clone(), self.name(service)?).await
    }

    /// Changes an instance's record by what `change` does to it, until nobody else comes between.
    ///
    /// # Errors
    /// `NoNode` if it is not registered; `BadArguments` and `TooLarge` by field.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn update(&self, service: &str, id: &str, change: impl Fn(&mut Instance)) -> Result<()> {
        self.change(&self.name(service)?, id, None, change).await
    }

    /// Drains an instance, puts it into maintenance, or back to serving.
    ///
    /// # Errors
    /// As [`Registry::update`].
    ///
    /// # Cancel safety
    /// As [`Registry::update`].
    pub async fn set_mode(&self, service: &str, id: &str, mode: Mode) -> Result<()> {
        self.update(service, id, |instance| instance.mode = mode).await
    }

    /// Says how a service is to be called: replaces the whole object in one transaction.
    ///
    /// # Errors
    /// `BadArguments` and `TooLarge` by field; `NoAuth`; the session's end.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn set_policy(&self, service: &str, policy: &Policy) -> Result<()> {
        let service = self.name(service)?;
        policy.validate().map_err(|error| self.refused(error))?;
        let path = service.policy_path();
        let mut last = None;
        for _ in 0..TRIES {
            match self.client.set(&path, policy.encode()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NoNode => {}
                Err(error) => return Err(error),
            }
            self.make_parents(&service).await?;
            match self.client.create(&path, policy.encode()).await {
                Ok(_) => return Ok(()),
                Err(error) if matches!(error.kind(), ErrorKind::NodeExists | ErrorKind::NoNode) => {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Closed))
    }

    /// Changes an instance's record; only that of this registration, if one is given.
    async fn change(
        &self,
        service: &ServiceName,
        id: &str,
        registered: Option<Zxid>,
        change: impl Fn(&mut Instance),
    ) -> Result<()> {
        let no_node = |detail: String| Err(self.refused(Refusal::new(ErrorKind::NoNode, detail)));
        let mut last = None;
        for _ in 0..TRIES {
            let Some(entry) = self.entry(service, id).await? else {
                return no_node(format!("{service} has no instance {id:?}"));
            };
            if registered.is_some_and(|registered| registered != entry.registered) {
                return no_node(format!("the registration is lost: another of {id:?} stands in {service}"));
            }
            let mut instance = entry.instance.clone();
            change(&mut instance);
            let write =
                registration::change(service, &entry, &instance).map_err(|error| self.refused(error))?;
            match self.write(write).await {
                Ok(_) => return Ok(()),
                // Somebody else's write came between.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::BadVersion | ErrorKind::GuardFailed | ErrorKind::NoNode
                    ) =>
                {
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or(Error::Closed))
    }

    /// Registers an instance; gives the transaction that did.
    async fn put(
        &self,
        service: &ServiceName,
        instance: &Instance,
        session: Option<SessionId>,
    ) -> Result<Zxid> {
        let mut instance = instance.clone();
        instance.begin(None);
        let instance = &instance;
        // The common case: nobody stands there, and the service is known.
        let create = registration::register(service, instance, session, None);
        let mut write = create.map_err(|error| self.refused(error))?;
        let mut last = None;
        for _ in 0..TRIES {
            match self.write(write).await {
                Ok(zxid) => return Ok(zxid),
                Err(error) => match error.kind() {
                    ErrorKind::NoNode => {
                        self.make_parents(service).await?;
                        last = Some(error);
                    }
                    ErrorKind::NodeExists | ErrorKind::BadVersion | ErrorKind::GuardFailed => {
                        last = Some(error);
                    }
                    _ => return Err(error),
                },
            }
            let standing = self.entry(service, &instance.id).await?;
            write = match standing {
                // Our own, and somebody may hold its registration: that one must not remove this one.
                Some(own) if Some(own.owner) == session && own.instance.generation == instance.generation => {
                    registration::replace(service, instance, session, &own)
                }
                standing => registration::register(service, instance, session, standing.as_ref()),
            }
            .map_err(|error| self.refused(error))?;
        }
        Err(last.unwrap_or(Error::Closed))
    }

    /// An instance as it stands.
    async fn entry(&self, service: &ServiceName, id: &str) -> Result<Option<Entry>> {
        let node = match self.client.get(&service.instance_path(id)).await {
            Ok(node) => node,
            Err(error) if error.kind() == ErrorKind::NoNode => return Ok(None),
            Err(error) => return Err(error),
        };
        let record = node.data.unwrap_or_default();
        let instance = Instance::decode(&record).map_err(|error| self.refused(error))?;
        let stat = node.stat;
        Ok(Some(Entry {
            instance,
            registered: stat.czxid,
            changed: stat.mzxid,
            version: stat.version,
            owner: stat.ephemeral_owner,
        }))
    }

    async fn make_parents(&self, service: &ServiceName) -> Result<()> {
        let parents = service.parents();
        let nodes = parents.iter().map(|(path, is_container)| {
            let mode = if *is_container { CreateMode::Container } else { CreateMode::Persistent };
            (path.as_str(), mode)
        });
        self.client.ensure_nodes(&service.instances_path(), nodes).await
    }

    async fn write(&self, operation: Operation) -> Result<Zxid> {
        self.client.write(operation, |answer, _| Ok(answer_of_write(answer)?.1)).await
    }

    fn name(&self, service: &str) -> Result<ServiceName> {
        service.parse().map_err(|error| self.refused(error))
    }

    /// What the cluster would have refused, refused here.
    fn refused(&self, error: Refusal) -> Error {
        Error::Refused { error, zxid: self.client.last_zxid() }
    }
}

/// An instance that is registered for as long as this lives and the session does. Dropping it
/// removes the instance without waiting, unless it was replaced by a registration with a higher
/// generation or by another one of this session. Whoever wants to be registered again when the session is
/// lost awaits [`Client::ended`] and registers with [`Client::successor`].
#[derive(Debug)]
#[must_use = "dropping it removes the instance"]
pub struct Registration {
    registry: Registry,
    service: ServiceName,
    id: String,
    /// The transaction that did it: another's registration of the same id is not ours to remove.
    registered: Zxid,
    is_gone: bool,
}

impl Registration {
    /// The service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The instance.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Changes the record: weight, metadata, health, load, ….
    ///
    /// # Errors
    /// `NoNode` if the registration is lost; `BadArguments` and `TooLarge` by field.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown.
    pub async fn update(&self, change: impl Fn(&mut Instance)) -> Result<()> {
        self.registry.change(&self.service, &self.id, Some(self.registered), change).await
    }

    /// Asks for no new work; the cluster removes the instance after `window` if it has not left.
    ///
    /// # Errors
    /// As [`Registration::update`].
    ///
    /// # Cancel safety
    /// As [`Registration::update`].
    pub async fn drain(&self, window: Duration) -> Result<()> {
        let window_ms = u32::try_from(window.as_millis()).unwrap_or(u32::MAX);
        self.update(|instance| instance.mode = Mode::Draining { window_ms }).await
    }

    /// Removes the instance and waits until others see it.
    ///
    /// # Errors
    /// The session's end, which removes it too.
    ///
    /// # Cancel safety
    /// The removal is queued when this is first polled.
    pub async fn deregister(mut self) -> Result<()> {
        self.registry.client.delete_own(&self.path(), self.registered).await?;
        self.is_gone = true;
        Ok(())
    }

    fn path(&self) -> String {
        self.service.instance_path(&self.id)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if !self.is_gone {
            self.registry.client.take_away(&self.path(), self.registered);
        }
    }
}

/// A service in memory, kept up to date by a watch. Dropping it ends the watch.
///
/// Reading it costs no network and takes no lock.
#[derive(Debug)]
pub struct ServiceFollower {
    pub(crate) current: Current,
    pub(crate) session: watch::Receiver<SessionState>,
    changes: watch::Receiver<(Zxid, Option<Error>)>,
    task: JoinHandle<()>,
}

/// Where the newest version of a service is found.
pub(crate) type Current = Arc<arc_swap::ArcSwap<Service>>;

impl ServiceFollower {
    async fn start(client: Client, name: ServiceName) -> Result<ServiceFollower> {
        let session = client.state();
        let watch = client.watch(&name.path()).recursive().with_value().capacity(EVENTS_WAITING).await?;
        let catalog = Catalog::default();
        let mut source = Source { client, name, watch, held: None, catalog, has_read: false };
        source.read_all().await?;
        let first = source.catch_up().await?;
        let current: Current = Arc::new(arc_swap::ArcSwap::new(first.clone()));
        let (sender, changes) = watch::channel((first.version(), None));
        let shared = current.clone();
        let task = tokio::spawn(async move {
            let error = loop {
                match source.step().await {
                    Ok(service) => {
                        let version = service.version();
                        shared.store(service);
                        sender.send_replace((version, None));
                    }
                    Err(error) => break error,
                }
            };
            sender.send_modify(|(_, end)| *end = Some(error));
        });
        Ok(ServiceFollower { current, session, changes, task })
    }

    /// The service as it is known now.
    pub fn current(&self) -> Arc<Service> {
        self.current.load_full()
    }

    /// Waits until the service has changed since the last call (or since the start).
    ///
    /// # Errors
    /// The session is over: what is known stays as it is. Follow again with
    /// [`Client::successor`]; a balanced channel does that by itself.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Result<Arc<Service>> {
        self.changes.changed().await.map_err(|_| Error::Closed)?;
        let end = self.changes.borrow_and_update().1.clone();
        match end {
            None => Ok(self.current()),
            Some(error) => Err(error),
        }
    }
}

impl Drop for ServiceFollower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps one service up to date.
struct Source {
    client: Client,
    name: ServiceName,
    watch: Watch,
    /// An event whose transaction may not have been told in full yet.
    held: Option<NodeEvent>,
    catalog: Catalog,
    /// Something was read: it may be newer than the events so far.
    has_read: bool,
}

impl Source {
    /// Waits for changes and takes in all that have come.
    async fn step(&mut self) -> Result<Arc<Service>> {
        match self.held.take() {
            Some(event) => self.apply(event).await?,
            None => {
                let first = self.watch.next().await;
                self.take_in(first).await?;
            }
        }
        self.catch_up().await
    }

    /// A session's replies stand behind the events of all that they can show: up to this one's
    /// transaction none has been told by half. One behind it may have been.
    async fn catch_up(&mut self) -> Result<Arc<Service>> {
        loop {
            self.has_read = false;
            let shown = self.shown().await?;
            // Unconstrained: what has come is not said to be still under way, however much it is.
            while self.held.is_none()
                && let Some(event) = tokio::task::unconstrained(self.watch.next()).now_or_never()
            {
                match event {
                    Some(Ok(WatchEvent::Node(event))) if event.position.zxid > shown => {
                        self.held = Some(event)
                    }
                    event => self.take_in(event).await?,
                }
            }
            if !self.has_read {
                return Ok(self.settle());
            }
            // What was read meanwhile may be newer: up to there, then.
            if let Some(event) = self.held.take() {
                self.apply(event).await?;
            }
        }
    }

    /// The last transaction that a read shows now.
    async fn shown(&self) -> Result<Zxid> {
        let request = ReadRequest::Exists { path: self.name.path(), watch: None };
        let asked = self.client.read(request, Consistency::Session, Place::Open, |answer, _| match answer {
            Ok(answer) => Ok(answer.zxid),
            Err(Error::Refused { error, zxid }) if error.kind == ErrorKind::NoNode => Ok(zxid),
            Err(error) => Err(error),
        });
        asked.await
    }

    fn settle(&mut self) -> Arc<Service> {
        self.catalog.settle();
        let known = self.catalog.service(&self.name).cloned();
        known.unwrap_or_else(|| Arc::new(Service::empty(self.name.clone(), self.catalog.zxid())))
    }

    async fn take_in(&mut self, event: Option<Result<WatchEvent>>) -> Result<()> {
        match event {
            Some(Ok(WatchEvent::Node(event))) => self.apply(event).await,
            Some(Ok(WatchEvent::Gap(_))) => self.read_all().await,
            Some(Err(error)) => Err(error),
            None => Err(Error::Closed),
        }
    }

    async fn apply(&mut self, event: NodeEvent) -> Result<()> {
        match (event.kind, event.value) {
            (EventKind::NodeDeleted, _) => self.catalog.remove(&event.path, event.position.zxid),
            (EventKind::NodeCreated | EventKind::NodeDataChanged, Some(Value::Kept(data))) => {
                self.catalog.put(&event.path, data.as_deref(), &event.stat);
            }
            (EventKind::NodeCreated | EventKind::NodeDataChanged, _) => {
                self.catalog.touch(&event.path, event.position.zxid);
                self.read(&event.path).await?;
            }
            (EventKind::NodeChildrenChanged, _) => {}
        }
        Ok(())
    }

    /// Forgets what is known and reads everything.
    async fn read_all(&mut self) -> Result<()> {
        self.catalog = Catalog::default();
        self.has_read = true;
        let (service, instances) = (self.name.path(), self.name.instances_path());
        self.read(&service).await?;
        self.read(&instances).await?;
        self.read(&self.name.policy_path()).await?;
        let mut after: Option<String> = None;
        loop {
            let mut list = self.client.list(&instances).with_stat().with_data().limit(PAGE);
            if let Some(after) = &after {
                list = list.after(after);
            }
            let list = match list.consistency(Consistency::Session).await {
                Ok(list) => list,
                Err(error) if error.kind() == ErrorKind::NoNode => return Ok(()),
                Err(error) => return Err(error),
            };
            after = list.children.last().map(|child| child.name.clone());
            for child in list.children {
                let stat = child.stat.unwrap_or_default();
                self.catalog.put(&format!("{instances}/{}", child.name), child.data.as_deref(), &stat);
            }
            if !list.more {
                return Ok(());
            }
        }
    }

    async fn read(&mut self, path: &str) -> Result<()> {
        self.has_read = true;
        match self.client.get(path).consistency(Consistency::Session).await {
            Ok(node) => self.catalog.put(path, node.data.as_deref(), &node.stat),
            Err(error) if error.kind() == ErrorKind::NoNode => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
