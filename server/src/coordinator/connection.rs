//! Connections: opening and resuming sessions, and a session's requests in the order sent.
//!
//! Nothing is served until the Attach has applied on this member. From then on one task takes the
//! session's requests from its inbox, in order:
//! - writes follow each other without waiting (bounded by count and bytes);
//! - a read waits until the session's earlier writes have applied here, and later writes wait for
//!   the read; neighbouring reads share one wait and one barrier;
//! - reads wait while the client has not taken what was answered before.
//!
//! So a client's pipelined requests take effect in the order sent, and their answers leave in it.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::acl::Identity;
use quorate_core::command::{CloseReason, Operation, RequestId};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, SessionId, WriteNumber, Zxid};
use quorate_core::reply::{Attachment, ReadReply, ReadResult, WriteResult};
use quorate_core::request::{Consistency, ReadRequest};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::Coordinator;
use super::auth::gather;
use super::read::{check_paths, needed};
use crate::local_state::Attaching;
use crate::sessions::inbox::{InboxReceiver, InboxSender, Incoming, Waiting, inbox};
use crate::sessions::outbox::{Outbox, OutboxReader, Outgoing, outbox};
use crate::tasks::TaskGuard;

/// Requests taken from an inbox at once.
const TAKE_MAX: usize = 512;
/// How long a resuming client waits for this member to catch up with what it has seen.
const CATCH_UP: Duration = Duration::from_millis(500);

/// A client for whom many answers wait must take some within this.
const TAKES_NOTHING: Duration = Duration::from_secs(10);

/// What a client asks for when it connects.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Resume this session, or open a new one.
    pub resume: Option<(SessionId, [u8; 16])>,
    /// The timeout asked for.
    pub timeout_ms: u32,
    /// The last transaction that the client has seen.
    pub last_zxid_seen: Zxid,
    /// The client holds all replies up to here.
    pub acknowledged: WriteNumber,
    /// Proved so far.
    pub identities: Vec<Identity>,
}

/// A connection that owns a session. Dropping it detaches the session, which lives on.
#[derive(Debug)]
pub struct Connection {
    /// What the client is told.
    pub attachment: Attachment,
    /// The last transaction applied here when the session was attached.
    pub zxid: Zxid,
    /// Where the door puts requests.
    pub inbox: InboxSender,
    /// Where the door takes replies and events.
    pub outbox: OutboxReader,
    /// Ends the connection from the door's side.
    pub closer: Outbox,
    /// Ends the session's task and detaches it.
    pub guard: ConnectionGuard,
}

/// Ends a connection's task and detaches its session when dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    coordinator: Coordinator,
    session: SessionId,
    epoch: AttachEpoch,
    _task: TaskGuard,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.coordinator.shared.local.detach(self.session, self.epoch);
    }
}

impl Coordinator {
    /// Opens or resumes a session on a new connection.
    ///
    /// # Errors
    /// `MemberBehind` if the client has seen more than this member; `SessionExpired` for an unknown
    /// session or a wrong password; `Unavailable` without a quorum.
    pub async fn connect(&self, connect: Connect) -> Result<Connection, Error> {
        self.wait_zxid(connect.last_zxid_seen, CATCH_UP).await?;
        let timeout_ms = self.shared.limits.session_timeout_ms(connect.timeout_ms);
        let member = self.shared.member;
        let operation = match connect.resume {
            None => Operation::OpenSession { timeout_ms, member },
            Some((session, password)) => Operation::Attach { session, password, member, timeout_ms },
        };
        let (outbox, outbox_reader) = outbox();
        let progress = Arc::new(Notify::new());
        let attaching = Attaching {
            outbox: outbox.clone(),
            identities: connect.identities.clone(),
            acknowledged: connect.acknowledged,
            progress: progress.clone(),
        };
        let reply = self
            .call(self.next_ticket(), connect.identities.clone(), operation, None, Some(attaching))
            .await?;
        let attachment = match reply.result? {
            WriteResult::SessionOpened(attachment) | WriteResult::Attached(attachment) => attachment,
            other => return Err(Error::new(ErrorKind::Internal, format!("attach answered {other:?}"))),
        };
        let (inbox, requests) = inbox();
        let closer = outbox.clone();
        let session = SessionLoop {
            coordinator: self.clone(),
            id: (attachment.session, attachment.epoch),
            timeout: Duration::from_millis(attachment.timeout_ms.into()),
            identities: connect.identities,
            outbox,
            progress,
            submitted: attachment.last_applied,
        };
        let guard = ConnectionGuard {
            coordinator: self.clone(),
            session: attachment.session,
            epoch: attachment.epoch,
            _task: TaskGuard::spawn("session", session.run(requests)),
        };
        let zxid = self.shared.local.progress_now().zxid;
        Ok(Connection { attachment, zxid, inbox, outbox: outbox_reader, closer, guard })
    }

    /// Opens a session that no connection owns yet, exactly once for this request id.
    pub async fn open_session_once(
        &self,
        timeout_ms: u32,
        identities: Vec<Identity>,
        request: RequestId,
    ) -> Result<(SessionId, [u8; 16]), Error> {
        let timeout_ms = self.shared.limits.session_timeout_ms(timeout_ms);
        let operation = Operation::OpenSession { timeout_ms, member: self.shared.member };
        match self.call(self.next_ticket(), identities, operation, Some(request), None).await?.result? {
            WriteResult::SessionOpened(attachment) => Ok((attachment.session, attachment.password)),
            other => Err(Error::new(ErrorKind::Internal, format!("open session answered {other:?}"))),
        }
    }

    /// Ends a session for whoever holds its password; the transaction that did.
    pub async fn close_session(&self, session: SessionId, password: [u8; 16]) -> Result<Zxid, Error> {
        let reason = CloseReason::ByPassword(password);
        let reply = self.write(Vec::new(), Operation::CloseSession { session, reason }, None).await?;
        reply.result.map(|_| reply.zxid)
    }

    /// Ends a session without waiting; if that is lost, its timeout ends it.
    pub fn abandon_session(&self, session: SessionId, password: [u8; 16]) {
        let reason = CloseReason::ByPassword(password);
        if let Err(error) = self.propose_for_nobody(Operation::CloseSession { session, reason }) {
            tracing::debug!(%session, %error, "an abandoned session is left to its timeout");
        }
    }

    /// Counts a session's client as alive, whatever else it waits for.
    pub(crate) fn touch(&self, session: SessionId, epoch: AttachEpoch) {
        self.shared.heartbeats.touch(session, epoch);
    }

    /// Answers a client's heartbeat once the leader has heard of it, behind the events queued until then.
    /// Requests that wait do not hold it up.
    pub(crate) fn heartbeat(&self, session: SessionId, epoch: AttachEpoch, sequence: u64) {
        self.shared.heartbeats.expect_answer(session, epoch, sequence);
    }

    /// Keeps a session alive that has no connection (a lease held over unary calls); its timeout.
    ///
    /// # Errors
    /// `SessionExpired` for an unknown session or a wrong password; `Unavailable` without a quorum.
    pub async fn keep_alive(&self, session: SessionId, password: [u8; 16]) -> Result<u32, Error> {
        self.wait_fresh(Consistency::Linearizable).await?;
        let known = self
            .shared
            .local
            .with_state(|state| state.session(session).filter(|_| state.check_password(session, &password)));
        let Some(known) = known else {
            return Err(Error::new(ErrorKind::SessionExpired, "unknown session or wrong password"));
        };
        let touched = self.shared.replica.touch(vec![(session, known.epoch)]).await?;
        if !touched.ending.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "the session is just being ended; ask again"));
        }
        self.shared.local.wait_applied(touched.index).await?;
        if self.shared.local.with_state(|state| state.session(session).is_none()) {
            return Err(Error::new(ErrorKind::SessionExpired, "the session has just ended"));
        }
        Ok(known.timeout_ms)
    }
}

/// One connected session's requests, in order.
struct SessionLoop {
    coordinator: Coordinator,
    id: (SessionId, AttachEpoch),
    timeout: Duration,
    identities: Vec<Identity>,
    outbox: Outbox,
    progress: Arc<Notify>,
    submitted: WriteNumber,
}

/// The connection has lost its session; the door learns why from the outbox.
struct Ended;

impl SessionLoop {
    async fn run(mut self, requests: InboxReceiver) {
        // The client said goodbye: what it sent before is still answered.
        if self.serve(requests).await.is_ok() && self.wait_in_flight(0, 0).await.is_ok() {
            self.outbox.finish();
        }
    }

    async fn serve(&mut self, mut requests: InboxReceiver) -> Result<(), Ended> {
        let (coordinator, (session, epoch), slice) = (self.coordinator.clone(), self.id, self.timeout / 3);
        let mut taken = Vec::new();
        while requests.recv_many(&mut taken, TAKE_MAX).await > 0 {
            // Nobody would be told the answers any more: a client that only sends is not served.
            if self.outbox.is_closed() {
                return Err(Ended);
            }
            coordinator.touch(session, epoch);
            // What the client sends meanwhile waits behind these, heartbeats too: until they are served it
            // counts as alive.
            let mut serving = std::pin::pin!(self.serve_some(&mut taken));
            loop {
                match timeout(slice, &mut serving).await {
                    Ok(served) => break served?,
                    Err(_) => coordinator.touch(session, epoch),
                }
            }
        }
        Ok(())
    }

    async fn serve_some(&mut self, taken: &mut Vec<Waiting>) -> Result<(), Ended> {
        let (session, epoch) = self.id;
        let mut reads = Vec::new();
        for waiting in taken.drain(..) {
            match waiting.incoming {
                Incoming::Read { xid, request, consistency } => {
                    reads.push((xid, request, consistency));
                    continue;
                }
                Incoming::Write { number, acknowledged, operation } => {
                    self.serve_reads(&mut reads).await?;
                    self.submit(number, acknowledged, operation).await?;
                }
                Incoming::Heartbeat { sequence } => self.coordinator.heartbeat(session, epoch, sequence),
                Incoming::Rearm { xid, since, watches } => {
                    self.serve_reads(&mut reads).await?;
                    self.wait_in_flight(0, 0).await?;
                    let limits = self.coordinator.limits();
                    let checked = watches.iter().try_for_each(|(_, path)| limits.check_path(path));
                    if checked.is_ok() {
                        let local = &self.coordinator.shared.local;
                        local.rearm_for_session(session, epoch, &self.identities, since, &watches);
                    }
                    self.answer_read(xid, checked.map(|()| ReadResult::Watch));
                }
                Incoming::Identified { xid, identities } => {
                    self.serve_reads(&mut reads).await?;
                    self.wait_in_flight(0, 0).await?;
                    let gathered = gather(&mut self.identities, &identities);
                    self.coordinator.shared.local.identify(session, epoch, &self.identities);
                    self.answer_read(xid, gathered.map(|()| ReadResult::Identities(identities)));
                }
                Incoming::Refused { xid, error } => {
                    self.serve_reads(&mut reads).await?;
                    self.wait_in_flight(0, 0).await?;
                    self.answer_read(xid, Err(error));
                }
            }
        }
        self.serve_reads(&mut reads).await
    }

    async fn submit(
        &mut self,
        number: WriteNumber,
        acknowledged: WriteNumber,
        operation: Operation,
    ) -> Result<(), Ended> {
        if number <= self.submitted {
            return Ok(()); // sent again on a resumed connection: answered from the reply table
        }
        if number != self.submitted.next() {
            self.outbox.close(Error::new(
                ErrorKind::BadArguments,
                format!("write_number: {} follows {}, numbers are dense", number.0, self.submitted.0),
            ));
            return Err(Ended);
        }
        let limits = self.coordinator.limits();
        let (writes, bytes) = (limits.session_writes - 1, limits.session_write_bytes);
        self.wait_in_flight(writes, bytes).await?;
        self.submitted = number;
        let accepted = self
            .coordinator
            .write_for_session(self.id, &self.identities, number, acknowledged, operation)
            .await;
        if accepted { Ok(()) } else { Err(Ended) }
    }

    /// Serves neighbouring reads behind the session's earlier writes and one barrier.
    async fn serve_reads(&mut self, reads: &mut Vec<(u64, ReadRequest, Consistency)>) -> Result<(), Ended> {
        if reads.is_empty() {
            return Ok(());
        }
        self.wait_in_flight(0, 0).await?;
        let mut is_linearizable = false;
        let mut at_least = None;
        for (_, request, consistency) in reads.iter() {
            match needed(request, *consistency) {
                Consistency::Linearizable => is_linearizable = true,
                Consistency::AtLeast(zxid) => at_least = at_least.max(Some(zxid)),
                Consistency::Session => {}
            }
        }
        let mut fresh = Ok(());
        if is_linearizable {
            fresh = self.coordinator.wait_fresh(Consistency::Linearizable).await;
        }
        if let (Ok(()), Some(zxid)) = (&fresh, at_least) {
            fresh = self.coordinator.wait_fresh(Consistency::AtLeast(zxid)).await;
        }
        let (session, epoch) = self.id;
        let local = &self.coordinator.shared.local;
        for (xid, request, consistency) in reads.drain(..) {
            if !self.outbox.has_room() {
                self.wait_room().await?;
            }
            let refusal = match &fresh {
                Err(error) if needed(&request, consistency) != Consistency::Session => Some(error.clone()),
                _ => check_paths(&self.coordinator, &request).err(),
            };
            match refusal {
                None => {
                    let read = || local.read_for_session(session, epoch, &self.identities, xid, &request);
                    self.coordinator.in_turn(&request, read).await;
                }
                Some(error) => self.answer_read(xid, Err(error)),
            }
            if matches!(request, ReadRequest::AddWatch { since: Some(_), .. }) {
                // The whole change log may have been looked through: others have their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits while many answers wait for the client: reads are answered faster than any network takes the
    /// answers. A client that takes none for a while is cut.
    async fn wait_room(&self) -> Result<(), Ended> {
        let mut taken = Instant::now();
        while !self.outbox.has_room() {
            match timeout(self.timeout / 3, self.outbox.taken()).await {
                Ok(()) => taken = Instant::now(),
                Err(_) if taken.elapsed() < TAKES_NOTHING => {}
                Err(_) => self.outbox.close(Error::new(
                    ErrorKind::Overloaded,
                    format!("client reads too slowly: it took nothing for {} s", TAKES_NOTHING.as_secs()),
                )),
            }
            if self.outbox.is_closed() {
                return Err(Ended);
            }
        }
        Ok(())
    }

    fn answer_read(&self, xid: u64, result: Result<ReadResult, Error>) {
        let zxid = self.coordinator.shared.local.progress_now().zxid;
        self.outbox.push(Outgoing::Read { xid, reply: ReadReply { zxid, result } });
    }

    /// Waits until at most so many writes, of so many bytes, are under way.
    async fn wait_in_flight(&self, count_max: usize, bytes_max: usize) -> Result<(), Ended> {
        let (session, epoch) = self.id;
        loop {
            match self.coordinator.shared.local.in_flight(session, epoch) {
                None => return Err(Ended),
                Some((count, bytes)) if count <= count_max && bytes <= bytes_max => return Ok(()),
                Some(_) => self.progress.notified().await,
            }
        }
    }
}
