//! The client: one cheap handle to a session, with a method for each thing that can be asked.
//!
//! What a method returns is a call: set its options, then `.await` it, or `.send()` it to queue it
//! now and await it later. The calls are in calls.rs; the session's machinery is session/.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Identity};
use quorate_core::command::Operation;
use quorate_core::error::ErrorKind;
use quorate_core::id::{MemberId, SessionId, Zxid};
use quorate_core::reply::{ReadResult, SessionInfo};
use quorate_core::request::{Consistency, ReadRequest, WatchKind};
use quorate_core::znode::CreateMode;
use tokio::sync::watch;

use crate::calls::{
    AclCall, Answered, CountCall, CreateCall, DeleteCall, DeleteRecursiveCall, EphemeralsCall, ExistsCall,
    GetCall, ListCall, SetAclCall, SetCall, answer_of_read, unexpected,
};
use crate::chroot::Chroot;
use crate::error::{Error, Result};
use crate::options::ClientBuilder;
use crate::pending::Pending;
use crate::session::{Ask, Handle, Place, SessionState};
use crate::transaction::Transaction;
use crate::watch::WatchCall;

/// A handle to a session. Cheap to clone; the session is closed when the last clone is dropped.
///
/// Requests take effect in the order in which they were queued, each write exactly once, across
/// lost connections and leader changes. All methods may be called from any task.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) handle: Arc<Handle>,
    pub(crate) chroot: Chroot,
    pub(crate) consistency: Consistency,
}

impl Client {
    /// Collects how to connect.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(handle: Handle, chroot: Chroot, consistency: Consistency) -> Client {
        Client { handle: Arc::new(handle), chroot, consistency }
    }

    /// The same session seen from `path` (below this client's own root): all paths of the returned
    /// client are below it. It is not created.
    ///
    /// # Errors
    /// [`Error::BadArguments`] if `path` does not start with "/".
    pub fn chroot(&self, path: &str) -> Result<Client> {
        Chroot::new(path)?;
        let chroot = Chroot::new(&self.chroot.outward(path))?;
        Ok(Client { chroot, ..self.clone() })
    }

    /// Creates a node, persistent and open to everyone unless said otherwise.
    ///
    /// # Errors
    /// `NodeExists`, `NoNode` (the parent is missing), `NoChildrenForEphemerals`, `NoAuth`,
    /// `InvalidAcl`, `BadArguments`, `TooLarge`, `QuotaExceeded`.
    pub fn create(&self, path: &str, data: impl Into<Bytes>) -> CreateCall<'_> {
        CreateCall::new(self, path, data.into())
    }

    /// Reads a node's data and Stat.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn get(&self, path: &str) -> GetCall<'_> {
        GetCall::new(self, path)
    }

    /// Reads a node's Stat; `None` if there is no such node.
    ///
    /// # Errors
    /// `NoAuth`.
    pub fn exists(&self, path: &str) -> ExistsCall<'_> {
        ExistsCall::new(self, path)
    }

    /// Lists a node's children in name order.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth`.
    pub fn list(&self, path: &str) -> ListCall<'_> {
        ListCall::new(self, path)
    }

    /// Sets a node's data.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `NoAuth`, `TooLarge`, `QuotaExceeded`.
    pub fn set(&self, path: &str, data: impl Into<Bytes>) -> SetCall<'_> {
        SetCall::new(self, path, data.into())
    }

    /// Deletes a childless node.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `NotEmpty`, `NoAuth`.
    pub fn delete(&self, path: &str) -> DeleteCall<'_> {
        DeleteCall::new(self, path)
    }

    /// Deletes a node and everything below it in one transaction.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `NoAuth`, `TooLarge` (more nodes than the limit).
    pub fn delete_recursive(&self, path: &str) -> DeleteRecursiveCall<'_> {
        DeleteRecursiveCall::new(self, path)
    }

    /// Gathers operations to be done all or none.
    pub fn transaction(&self) -> Transaction<'_> {
        Transaction::new(self)
    }

    /// Reads a node's ACL.
    ///
    /// # Errors
    /// `NoNode`, `NoAuth` (neither READ nor ADMIN).
    pub fn acl(&self, path: &str) -> AclCall<'_> {
        AclCall::new(self, path)
    }

    /// Sets a node's ACL.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion` (of the ACL), `NoAuth`, `InvalidAcl`.
    pub fn set_acl(&self, path: &str, acl: Vec<AclEntry>) -> SetAclCall<'_> {
        SetAclCall::new(self, path, acl)
    }

    /// Watches a node: every event until the stream is dropped, across lost connections.
    ///
    /// # Errors
    /// `WatchGap` if `since` was given and lies too far back, `BadArguments` for a bad path.
    pub fn watch(&self, path: &str) -> WatchCall<'_> {
        WatchCall::new(self, path, WatchKind::Persistent)
    }

    /// The paths of this session's own ephemeral nodes.
    pub fn ephemerals(&self) -> EphemeralsCall<'_> {
        EphemeralsCall::new(self)
    }

    /// How many nodes are below `path`.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn count_descendants(&self, path: &str) -> CountCall<'_> {
        CountCall::new(self, path)
    }

    /// A quorum barrier: later reads of this client, session-consistent ones too, see everything
    /// committed before.
    ///
    /// # Errors
    /// Only those of the session.
    pub fn sync(&self, path: &str) -> Pending<Zxid> {
        let request = ReadRequest::Sync { path: self.chroot.outward(path) };
        self.read(request, Consistency::Linearizable, Place::Open, |answer, _| Ok(answer?.zxid))
    }

    /// Proves another identity; later requests carry it, on later connections too.
    ///
    /// # Errors
    /// `AuthFailed`: the connection ends, the session resumes without this credential.
    pub fn auth(&self, scheme: &str, credential: impl Into<Bytes>) -> Pending<()> {
        let receiver = self.handle.ask(Ask::Auth(scheme.into(), credential.into()));
        Pending::new(receiver, |answer| answer.map(drop))
    }

    /// The identities that this session's requests carry.
    pub fn identities(&self) -> Pending<Vec<Identity>> {
        self.read(ReadRequest::WhoAmI, Consistency::Session, Place::Open, |answer, _| {
            match answer_of_read(answer)? {
                ReadResult::Identities(identities) => Ok(identities),
                other => Err(unexpected(&other)),
            }
        })
    }

    /// All sessions of the cluster, without passwords (operators).
    ///
    /// # Errors
    /// `NoAuth`.
    pub fn sessions(&self) -> Pending<Vec<SessionInfo>> {
        self.read(ReadRequest::Sessions, self.consistency, Place::Open, |answer, _| {
            match answer_of_read(answer)? {
                ReadResult::Sessions(sessions) => Ok(sessions),
                other => Err(unexpected(&other)),
            }
        })
    }

    /// Creates the missing nodes of a path, persistent, open and without data. Those that exist
    /// stay as they are.
    ///
    /// # Errors
    /// Those of [`Client::create`] but `NodeExists`.
    ///
    /// # Cancel safety
    /// All creations are queued when this is first polled.
    pub async fn ensure_path(&self, path: &str) -> Result<()> {
        if self.exists(path).consistency(Consistency::Session).await?.is_some() {
            return Ok(());
        }
        let ends = path.match_indices('/').map(|(end, _)| end).skip(1).chain([path.len()]);
        self.ensure_nodes(path, ends.map(|end| (&path[..end], CreateMode::Persistent))).await
    }

    /// Creates these nodes, from the top, as far as they are missing; the last is `path`.
    pub(crate) async fn ensure_nodes<'a>(
        &self,
        path: &str,
        nodes: impl Iterator<Item = (&'a str, CreateMode)>,
    ) -> Result<()> {
        let creations: Vec<_> =
            nodes.map(|(node, mode)| self.create(node, Bytes::new()).mode(mode).send()).collect();
        let mut forbidden = None;
        for creation in creations {
            match creation.await {
                Ok(_) => forbidden = None,
                Err(error) if error.kind() == ErrorKind::NodeExists => forbidden = None,
                // Said of a node that exists, too, whose parent may not be written.
                Err(error) if error.kind() == ErrorKind::NoAuth => forbidden = Some(error),
                Err(error) if error.kind() == ErrorKind::NoNode => return Err(forbidden.unwrap_or(error)),
                Err(error) => return Err(error),
            }
        }
        match forbidden {
            Some(error) if self.exists(path).consistency(Consistency::Session).await?.is_none() => Err(error),
            _ => Ok(()),
        }
    }

    /// Closes the session at once: its ephemeral nodes go. All requests queued before are still
    /// done; all clones of this client are closed too.
    ///
    /// # Errors
    /// [`Error::SessionExpired`] if it was over already; [`Error::OutcomeUnknown`] if no member answered
    /// before the session's deadline. The cluster then ends it by its timeout.
    ///
    /// # Cancel safety
    /// The end is queued when this is called; only the wait for it is lost.
    pub fn close(self) -> Pending<()> {
        let receiver = self.handle.ask(Ask::Close);
        Pending::new(receiver, |answer| match answer {
            Ok(_) | Err(Error::Closed) => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// The session's state, now and whenever it changes.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.handle.state()
    }

    /// Waits until the session is over, and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&self) -> Error {
        let mut state = self.handle.state();
        // An error means that the task is gone, which is an end too.
        let _ = state.wait_for(|state| state.is_over()).await;
        self.handle.ended()
    }

    /// The client to go on with: this one as long as its session is not over, else one with another
    /// session, opened as this one's was and with all credentials that it has proved. Whoever asks
    /// clones of one client shares that session. Ephemeral nodes, locks, registrations and watches
    /// ended with the old one: they are to be made again.
    ///
    /// # Errors
    /// [`Error::Closed`] if this client was closed rather than lost; those of
    /// [`ClientBuilder::connect`](crate::ClientBuilder::connect).
    ///
    /// # Cancel safety
    /// A session that was opened already ends by its timeout.
    pub async fn successor(&self) -> Result<Client> {
        Ok(Client { handle: self.handle.successor().await?, ..self.clone() })
    }

    /// The session's identifier.
    pub fn session_id(&self) -> SessionId {
        self.handle.session_id()
    }

    /// The session's negotiated timeout.
    pub fn session_timeout(&self) -> Duration {
        self.handle.timeout()
    }

    /// The member that the session is, or was last, attached to.
    pub fn member_id(&self) -> MemberId {
        self.handle.member_id()
    }

    /// The newest transaction that this client has seen: another client's read with
    /// [`Consistency::AtLeast`] of it sees all that this one has seen.
    pub fn last_zxid(&self) -> Zxid {
        self.handle.last_zxid()
    }

    pub(crate) fn read<T: 'static>(
        &self,
        request: ReadRequest,
        consistency: Consistency,
        place: Place,
        finish: impl FnOnce(Answered, &Chroot) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let receiver = self.handle.ask(Ask::Read(request, consistency, place, None));
        let chroot = self.chroot.clone();
        Pending::new(receiver, move |answer| finish(answer, &chroot))
    }

    /// Deletes the node that `created` made; nothing happens if it is gone, or if another stands there.
    pub(crate) async fn delete_own(&self, path: &str, created: Zxid) -> Result<()> {
        match self.deletion(path, created).await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::GuardFailed | ErrorKind::NoNode) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The same without waiting, behind all that was asked before.
    pub(crate) fn take_away(&self, path: &str, created: Zxid) {
        self.handle.ask_surely(self.deletion(path, created).into_operation());
    }

    fn deletion(&self, path: &str, created: Zxid) -> Transaction<'_> {
        self.transaction().guard_created(path, created).delete(path)
    }

    pub(crate) fn write<T: 'static>(
        &self,
        operation: Operation,
        finish: impl FnOnce(Answered, &Chroot) -> Result<T> + Send + 'static,
    ) -> Pending<T> {
        let receiver = self.handle.ask(Ask::Write(operation));
        let chroot = self.chroot.clone();
        Pending::new(receiver, move |answer| finish(answer, &chroot))
    }
}
