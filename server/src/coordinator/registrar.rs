//! How instances get into the registry and out of it, for callers without a session of their own.
//!
//! A leased instance is an ephemeral node of a session that exists for it (or of one that the caller
//! has already); keeping the lease touches that session, which nothing logs. Which write registers an
//! instance is core/registry's to say; here it is tried until nobody else's write comes between.
//!
//! Not here: how services are shown (directory), what checks and reports change (reports, checks).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_core::acl::{AclEntry, Identity};
use quorate_core::command::{Create, Operation, RequestId};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, WriteNumber, Zxid};
use quorate_core::registry::{Entry, Instance, Mode, Policy, ServiceName, registration};
use quorate_core::reply::WriteReply;
use quorate_core::request::{Consistency, ReadRequest};
use quorate_core::znode::CreateMode;
use tokio::time::Instant;

use super::Coordinator;
use super::connection::{Connect, Connection};
use crate::sessions::inbox::Incoming;
use crate::sessions::outbox::Outgoing;

/// Looks at what stands, and tries, so often before it is told to the caller.
const TRIES: usize = 8;
/// Registrations of one instance in one [`WINDOW`]; beyond it they are refused as Throttled.
const REGISTRATIONS_MAX: u32 = 20;
/// See [`REGISTRATIONS_MAX`].
const WINDOW: Duration = Duration::from_secs(10);
/// Instances whose registrations are counted; beyond it old counts are forgotten.
const COUNTED_MAX: usize = 65_536;

/// How long an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is removed.
    Lasting,
    /// With a session of its own, of this timeout.
    Leased {
        /// In milliseconds; clamped.
        ttl_ms: u32,
    },
    /// With this session.
    Shared {
        /// The session.
        session: SessionId,
        /// Its password.
        password: [u8; 16],
    },
}

/// A registered instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The transaction.
    pub zxid: Zxid,
    /// The session that it lives with: id, password and timeout in milliseconds.
    pub lease: Option<(SessionId, [u8; 16], u32)>,
}

/// Counts registrations, so that an instance that comes and goes all the time is damped.
#[derive(Debug, Default)]
pub(super) struct Damper {
    counts: Mutex<HashMap<(ServiceName, String), (Instant, u32)>>,
}

impl Damper {
    fn admit(&self, service: &ServiceName, id: &str) -> Result<(), Error> {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= COUNTED_MAX {
            counts.retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
            if counts.len() >= COUNTED_MAX {
                counts.clear();
            }
        }
        let (since, count) = counts.entry((service.clone(), id.into())).or_insert((now, 0));
        if now.duration_since(*since) >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > REGISTRATIONS_MAX {
            let seconds = WINDOW.as_secs();
            return Err(Error::new(
                ErrorKind::Throttled,
                format!(
                    "instance {id} of {service} registers more than {REGISTRATIONS_MAX} times in {seconds} s"
                ),
            ));
        }
        Ok(())
    }
}

/// Ends a session that was opened for one call when the call comes to nothing: it is refused, or its
/// caller goes.
///
/// Under a request id the session is not this call's alone: a retry, on any member, goes on with it. Then
/// nothing is ended here, and a session that nobody goes on with ends by its timeout.
#[derive(Debug)]
pub struct Abandon {
    coordinator: Coordinator,
    session: Option<(SessionId, [u8; 16])>,
}

impl Abandon {
    /// Of the session that `lease` has, opened for a call with this request id.
    pub fn new(coordinator: &Coordinator, lease: &Connection, request: Option<&RequestId>) -> Abandon {
        let session = (lease.attachment.session, lease.attachment.password);
        Abandon { coordinator: coordinator.clone(), session: request.is_none().then_some(session) }
    }

    /// The session is the caller's now, or has ended.
    pub fn keep(&mut self) {
        self.session = None;
    }

    /// How the call ended: whose session was moved has nothing to end.
    pub fn settle<T>(&mut self, outcome: &Result<T, Error>) {
        if outcome.as_ref().err().is_none_or(|error| error.kind == ErrorKind::SessionMoved) {
            self.keep();
        }
    }
}

impl Drop for Abandon {
    fn drop(&mut self) {
        if let Some((session, password)) = self.session {
            self.coordinator.abandon_session(session, password);
        }
    }
}

impl Coordinator {
    /// Registers an instance.
    ///
    /// # Errors
    /// `NodeExists` if another's registration of the same or a higher generation stands;
    /// `Throttled` if it comes and goes too often; `BadArguments` and `TooLarge` by field.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the outcome unknown; a lease that was opened for it ends, at once or,
    /// under a request id, by its timeout.
    pub async fn register(
        &self,
        service: &ServiceName,
        mut instance: Instance,
        lifetime: Lifetime,
        request: Option<RequestId>,
        identities: Vec<Identity>,
    ) -> Result<Registered, Error> {
        instance.validate()?;
        self.shared.limits.check_targets.check(&instance)?;
        self.shared.damper.admit(service, &instance.id)?;
        self.wait_directory(Consistency::Linearizable).await?;
        // Refused before a session is opened for it.
        let standing = self.service(service).entry(&instance.id).cloned();
        if let (Some(standing), Lifetime::Leased { .. }, None) = (&standing, lifetime, &request) {
            registration::register(service, &instance, Some(SessionId(0)), Some(standing))?;
        }
        instance.begin(standing.as_ref().map(|standing| &standing.instance));
        let mut abandon = None;
        let mut lease = match lifetime {
            Lifetime::Lasting => None,
            Lifetime::Shared { session, password } => {
                Some(self.connect_lease(Some((session, password)), 0, &identities).await?)
            }
            Lifetime::Leased { ttl_ms } => {
                let resume = match request.clone() {
                    Some(request) => Some(self.open_session_once(ttl_ms, identities.clone(), request).await?),
                    None => None,
                };
                let lease = self.connect_lease(resume, ttl_ms, &identities).await?;
                abandon = Some(Abandon::new(self, &lease, request.as_ref()));
                Some(lease)
            }
        };
        let registered = self.register_with(service, &instance, lease.as_mut(), &identities).await;
        if let Some(abandon) = &mut abandon {
            abandon.settle(&registered);
        }
        let zxid = registered?;
        let lease = lease.map(|lease| lease.attachment);
        let lease = lease.map(|lease| (lease.session, lease.password, lease.timeout_ms));
        Ok(Registered { zxid, lease })
    }

    async fn register_with(
        &self,
        service: &ServiceName,
        instance: &Instance,
        mut lease: Option<&mut Connection>,
        identities: &[Identity],
    ) -> Result<Zxid, Error> {
        let session = lease.as_ref().map(|lease| lease.attachment.session);
        let mut last = Error::from(ErrorKind::Overloaded);
        for _ in 0..TRIES {
            let standing = self.service(service).entry(&instance.id).cloned();
            let operation = registration::register(service, instance, session, standing.as_deref())?;
            let reply = match &mut lease {
                None => self.write(identities.to_vec(), operation, None).await?,
                Some(lease) => self.write_in_lease(lease, operation).await?,
            };
            match reply.result {
                Ok(_) => return Ok(reply.zxid),
                Err(error) => match error.kind {
                    ErrorKind::NoNode => {
                        self.make_parents(service, identities).await?;
                        last = error;
                    }
                    // Somebody else's write came between.
                    ErrorKind::NodeExists | ErrorKind::BadVersion | ErrorKind::GuardFailed => last = error,
                    _ => return Err(of_the_whole(error)),
                },
            }
        }
        Err(of_the_whole(last))
    }

    /// A connection to a lease's session, or to a new one.
    async fn connect_lease(
        &self,
        resume: Option<(SessionId, [u8; 16])>,
        timeout_ms: u32,
        identities: &[Identity],
    ) -> Result<Connection, Error> {
        let timeout_ms = match resume {
            Some((session, _)) if timeout_ms == 0 => {
                let known = self.shared.local.with_state(|state| state.session(session));
                known.map_or(0, |known| known.timeout_ms)
            }
            _ => timeout_ms,
        };
        let connect = Connect {
            resume,
            timeout_ms,
            last_zxid_seen: Zxid(0),
            // Whoever asked before has been answered, or has given up.
            acknowledged: WriteNumber(u64::MAX),
            identities: identities.to_vec(),
        };
        self.connect(connect).await
    }

    /// One write of a lease's session.
    async fn write_in_lease(
        &self,
        lease: &mut Connection,
        operation: Operation,
    ) -> Result<WriteReply, Error> {
        self.shared.limits.check(&operation)?;
        let acknowledged = lease.attachment.last_applied;
        let number = acknowledged.next();
        lease.attachment.last_applied = number;
        let write = Incoming::Write { number, acknowledged, operation };
        if lease.inbox.send(write).await.is_err() {
            return Err(Error::new(ErrorKind::Unavailable, "the lease's session was lost"));
        }
        loop {
            for outgoing in lease.outbox.take(16).await? {
                if let Outgoing::Write { number: answered, reply } = outgoing
                    && answered == number
                {
                    return Ok(reply);
                }
            }
        }
    }

    /// Creates the nodes above a service's instances.
    pub(super) async fn make_parents(
        &self,
        service: &ServiceName,
        identities: &[Identity],
    ) -> Result<(), Error> {
        let mode = |is_container| if is_container { CreateMode::Container } else { CreateMode::Persistent };
        let nodes = service.parents().into_iter().map(|(path, is_container)| (path, mode(is_container)));
        self.make_nodes(nodes, identities).await
    }

    /// Creates nodes, each below the one before; those that exist stay as they are.
    pub async fn make_nodes(
        &self,
        nodes: impl IntoIterator<Item = (String, CreateMode)>,
        identities: &[Identity],
    ) -> Result<(), Error> {
        let mut forbidden = None;
        for (path, mode) in nodes {
            let create = Create { path: path.clone(), data: None, acl: AclEntry::open(), mode };
            match self.write(identities.to_vec(), Operation::Create(create), None).await?.result {
                Ok(_) => forbidden = None,
                Err(error) => match error.kind {
                    ErrorKind::NodeExists => forbidden = None,
                    // Said of a node that exists, too, whose parent may not be written.
                    ErrorKind::NoAuth => forbidden = Some((path, error)),
                    ErrorKind::NoNode => return Err(forbidden.map_or(error, |(_, forbidden)| forbidden)),
                    _ => return Err(error),
                },
            }
        }
        let Some((path, forbidden)) = forbidden else { return Ok(()) };
        let exists = ReadRequest::Exists { path, watch: None };
        match self.read(identities, &exists, Consistency::Linearizable).await?.result {
            Err(error) if error.kind == ErrorKind::NoNode => Err(forbidden),
            _ => Ok(()),
        }
    }

    /// Removes an instance; the transaction, or 0 if it was not registered. One that takes its place
    /// meanwhile stays.
    pub async fn deregister(
        &self,
        service: &ServiceName,
        id: &str,
        identities: &[Identity],
    ) -> Result<Zxid, Error> {
        let mut judged = None;
        let removal = |entry: &Entry| {
            let is_same = *judged.get_or_insert(entry.registered) == entry.registered;
            Ok(is_same.then(|| registration::deregister(service, entry)))
        };
        match self.change_entry(service, id, identities, removal).await {
            Err(error) if error.kind == ErrorKind::NoNode => Ok(Zxid(0)),
            outcome => outcome,
        }
    }

    /// Changes an instance's mode.
    ///
    /// # Errors
    /// `NoNode` if it is not registered.
    pub async fn set_mode(
        &self,
        service: &ServiceName,
        id: &str,
        mode: Mode,
        identities: &[Identity],
    ) -> Result<Zxid, Error> {
        let change = |entry: &Entry| {
            let instance = Instance { mode, ..entry.instance.clone() };
            registration::change(service, entry, &instance).map(Some)
        };
        self.change_entry(service, id, identities, change).await
    }

    /// Writes what `change` makes of an instance as it stands, until nobody else comes between; the
    /// transaction, or 0 if there is nothing to change.
    pub(super) async fn change_entry(
        &self,
        service: &ServiceName,
        id: &str,
        identities: &[Identity],
        mut change: impl FnMut(&Entry) -> Result<Option<Operation>, Error>,
    ) -> Result<Zxid, Error> {
        self.wait_directory(Consistency::Linearizable).await?;
        let mut last = Error::from(ErrorKind::Overloaded);
        for _ in 0..TRIES {
            let Some(entry) = self.service(service).entry(id).cloned() else {
                return Err(Error::new(ErrorKind::NoNode, format!("{service} has no instance {id:?}")));
            };
            let Some(operation) = change(&entry)? else { return Ok(Zxid(0)) };
            let reply = self.write(identities.to_vec(), operation, None).await?;
            match reply.result {
                Ok(_) => return Ok(reply.zxid),
                Err(error) => match error.kind {
                    ErrorKind::BadVersion | ErrorKind::GuardFailed | ErrorKind::NoNode => last = error,
                    _ => return Err(of_the_whole(error)),
                },
            }
        }
        Err(of_the_whole(last))
    }

    /// Sets a service's policy, or removes it.
    ///
    /// # Errors
    /// `BadVersion` unless it is at `version`; `BadArguments` and `TooLarge` by field.
    pub async fn set_policy(
        &self,
        service: &ServiceName,
        policy: Option<&Policy>,
        version: Option<i32>,
        identities: &[Identity],
    ) -> Result<Zxid, Error> {
        let path = service.policy_path();
        let Some(policy) = policy else {
            let delete = Operation::Delete { path, version: version.unwrap_or(-1) };
            let reply = self.write(identities.to_vec(), delete, None).await?;
            return match reply.result {
                Ok(_) => Ok(reply.zxid),
                Err(error) if error.kind == ErrorKind::NoNode => Ok(Zxid(0)),
                Err(error) => Err(error),
            };
        };
        policy.validate()?;
        let data = Some(policy.encode());
        let mut last = Error::from(ErrorKind::Overloaded);
        for _ in 0..TRIES {
            let set =
                Operation::SetData { path: path.clone(), data: data.clone(), version: version.unwrap_or(-1) };
            let reply = self.write(identities.to_vec(), set, None).await?;
            match reply.result {
                Ok(_) => return Ok(reply.zxid),
                Err(error) if error.kind == ErrorKind::NoNode && version.is_none() => {}
                Err(error) => return Err(error),
            }
            self.make_parents(service, identities).await?;
            let create = Create {
                path: path.clone(),
                data: data.clone(),
                acl: AclEntry::open(),
                mode: CreateMode::Persistent,
            };
            let reply = self.write(identities.to_vec(), Operation::Create(create), None).await?;
            match reply.result {
                Ok(_) => return Ok(reply.zxid),
                Err(error) if matches!(error.kind, ErrorKind::NodeExists | ErrorKind::NoNode) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }
}

/// The refusal of a call that its caller did not make as a multi.
fn of_the_whole(error: Error) -> Error {
    Error { operation: None, ..error }
}
