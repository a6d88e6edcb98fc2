//! The session's task: one loop that sends, receives and keeps the session alive, and that finds
//! another member when the connection is lost.
//!
//! Invariants:
//! - the deadline counts from the *sending* of the last heartbeat that was answered (or of the
//!   Connect that was accepted): the cluster cannot have expired the session before it;
//! - a write is sent again only under its number and only in its own session; when the session
//!   ends, what was sent and not answered is reported as unknown;
//! - events are told before the answers that came behind them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::change::WatchEvent;
use quorate_core::command::{CloseReason, Operation};
use quorate_core::error::{Error as Refusal, ErrorKind};
use quorate_core::id::{SessionId, WriteNumber, Zxid};
use quorate_core::reply::{ReadReply, WriteReply};
use quorate_proto::convert::{SessionReply, read_request, write_request};
use quorate_proto::v1;
use quorate_proto::v1::server_message::Message;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::requests::{Purpose, Requests};
use super::watches::Watches;
use super::{Answer, Ask, Control, Facts, Job, Outcome, Place, SessionState};
use crate::connector::{Connection, Connector, refusal};
use crate::error::{Error, Result};
use crate::options::Options;

/// Calls taken from their queue at once.
const JOBS_AT_ONCE: usize = 1024;
/// Bytes of requests gathered in a frame; a single larger request is sent alone.
const FRAME_BYTES_MAX: usize = 256 << 10;
/// About how long to wait before the next connection when the last one was of no use.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the last handle's drop may take to close the session; then it is left to its timeout.
const FAREWELL: Duration = Duration::from_secs(2);

/// A heartbeat that was sent and has not been answered.
#[derive(Clone, Copy, Debug)]
struct Heartbeat {
    sequence: u64,
    /// When it was to be sent.
    due: Instant,
    sent: Instant,
}

/// See the file's comment.
#[derive(Debug)]
pub(crate) struct Task {
    options: Options,
    connector: Connector,
    jobs: mpsc::Receiver<Job>,
    control: mpsc::UnboundedReceiver<Control>,
    state: watch::Sender<SessionState>,
    facts: Arc<Facts>,

    requests: Requests,
    watches: Watches,
    credentials: Vec<v1::Credential>,
    session: SessionId,
    password: Bytes,
    timeout: Duration,
    last_zxid: Zxid,
    deadline: Instant,
    heartbeats: VecDeque<Heartbeat>,
    heartbeat_sequence: u64,
    /// Since when one is to be sent.
    heartbeat_due: Option<Instant>,
    /// When the member last sent anything on this connection, if it has.
    heard: Option<Instant>,
    acknowledged_sent: u64,
    /// No handle is left: nobody asks for anything more.
    closing: bool,
    /// A member said that the session is over; else only its deadline has passed here.
    is_told_over: bool,
}

/// Why a connection is no longer served.
enum End {
    /// Find another member.
    Lost(Refusal),
    /// The session is over.
    Over(Error),
}

impl Task {
    pub(crate) fn new(
        options: Options,
        connector: Connector,
        jobs: mpsc::Receiver<Job>,
        control: mpsc::UnboundedReceiver<Control>,
        state: watch::Sender<SessionState>,
        facts: Arc<Facts>,
    ) -> Task {
        let credentials = options
            .credentials
            .iter()
            .map(|(scheme, credential)| v1::Credential {
                scheme: scheme.clone(),
                credential: credential.clone(),
            })
            .collect();
        let timeout = options.session_timeout;
        Task {
            options,
            connector,
            jobs,
            control,
            state,
            facts,
            requests: Requests::default(),
            watches: Watches::default(),
            credentials,
            session: SessionId(0),
            password: Bytes::new(),
            timeout,
            last_zxid: Zxid(0),
            deadline: Instant::now(),
            heartbeats: VecDeque::new(),
            heartbeat_sequence: 0,
            heartbeat_due: None,
            heard: None,
            acknowledged_sent: 0,
            closing: false,
            is_told_over: false,
        }
    }

    /// Opens the session and leaves the rest to a task of its own.
    pub(crate) async fn start(mut self) -> Result<()> {
        let give_up = Instant::now() + self.options.connect_timeout;
        let mut last = Refusal::new(ErrorKind::Unavailable, "not tried");
        let connection = loop {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Connect(last.to_string()));
            }
            match self.connector.attempt(self.hello(), left).await {
                Ok(connection) => break connection,
                Err(error) if is_final(&error) => return Err(Error::Refused { error, zxid: Zxid(0) }),
                Err(error) => last = error,
            }
            tokio::time::timeout_at(give_up, self.connector.pause()).await.ok();
        };
        self.attached(&connection);
        tokio::spawn(self.run(connection));
        Ok(())
    }

    async fn run(mut self, mut connection: Connection) {
        let error = loop {
            let reason = match self.serve(&mut connection).await {
                End::Over(error) => break error,
                End::Lost(reason) => reason,
            };
            tracing::info!(session = %self.session, %reason, "connection lost");
            if self.is_leaving() {
                // Without a connection there is nobody to say goodbye to.
                break Error::Closed;
            }
            // Ends the old stream before the new one begins.
            drop(connection);
            self.state.send_replace(SessionState::Suspended);
            if reason.kind == ErrorKind::SessionMoved || self.heard.is_none() {
                // Somebody else has the session (an attempt of ours that we gave up, or another
                // holder of the password), or members end streams at once: not in a tight loop.
                tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
            }
            match self.reconnect().await {
                Ok(next) => connection = next,
                Err(error) => break error,
            }
            self.attached(&connection);
            self.state.send_replace(SessionState::Connected);
        };
        self.end(error);
    }

    /// Serves one connection until it or the session ends.
    async fn serve(&mut self, connection: &mut Connection) -> End {
        let Connection { outbound, inbound, .. } = connection;
        let mut jobs = Vec::with_capacity(JOBS_AT_ONCE);
        let mut heartbeat = tokio::time::interval(self.timeout / 3);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = tokio::time::sleep_until(self.deadline);
        let patience = tokio::time::sleep_until(Instant::now() + self.timeout / 3);
        tokio::pin!(deadline, patience);
        loop {
            let has_room = self.requests.len() < self.options.outstanding_max;
            tokio::select! {
                count = self.jobs.recv_many(&mut jobs, JOBS_AT_ONCE), if has_room && !self.closing => {
                    if count == 0 {
                        self.closing = true;
                        if self.is_leaving() {
                            self.say_goodbye();
                            deadline.as_mut().reset(self.deadline.min(Instant::now() + FAREWELL));
                        }
                    }
                    for job in jobs.drain(..) {
                        self.accept(job);
                    }
                }
                Some(control) = self.control.recv() => self.control(control),
                permit = outbound.reserve(), if self.has_something_to_send() => match permit {
                    Ok(permit) => permit.send(self.next_frame()),
                    Err(_) => return End::Lost(Refusal::new(ErrorKind::Unavailable, "the stream was closed")),
                },
                frame = inbound.message() => match frame {
                    Ok(Some(frame)) => {
                        let before = self.deadline;
                        if let Err(end) = self.receive(frame) {
                            return end;
                        }
                        if self.deadline != before {
                            patience.as_mut().reset(self.deadline - self.timeout / 3);
                            if !self.is_leaving() {
                                deadline.as_mut().reset(self.deadline);
                            }
                        }
                    }
                    Ok(None) => return End::Lost(Refusal::new(ErrorKind::Unavailable, "the stream ended")),
                    Err(status) => return End::Lost(refusal(&status)),
                },
                _ = heartbeat.tick() => self.owe_heartbeat(),
                () = &mut patience => match self.patience() {
                    Some(until) => patience.as_mut().reset(until),
                    None => {
                        return End::Lost(Refusal::new(ErrorKind::Unavailable, "a heartbeat was not answered"));
                    }
                },
                () = &mut deadline => {
                    return End::Over(if self.is_leaving() { Error::Closed } else { Error::SessionExpired });
                }
            }
        }
    }

    fn owe_heartbeat(&mut self) {
        self.heartbeat_due.get_or_insert_with(Instant::now);
    }

    /// Until when this member may still answer a heartbeat, asked when a third of the timeout is left; `None`
    /// if it is to be left now. One that answers none, or takes none, does not keep the session alive,
    /// whatever else it answers: another may, while there is time to find it. If it answers something,
    /// a quarter of that time is its own; and it is not left for what was not asked in time.
    fn patience(&mut self) -> Option<Instant> {
        self.owe_heartbeat();
        let due = self.heartbeats.front().map(|heartbeat| heartbeat.due).or(self.heartbeat_due)?;
        let is_heard = self.heard.is_some_and(|heard| heard > due);
        let until = due + if is_heard { self.timeout * 5 / 12 } else { self.timeout / 6 };
        (until > Instant::now()).then_some(until)
    }

    /// Finds a member that takes the session, until the deadline.
    async fn reconnect(&mut self) -> Result<Connection> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::SessionExpired);
            }
            let hello = self.hello();
            let limit = left.min(self.timeout / 3).max(Duration::from_millis(100));
            let attempt = async {
                let connection = self.connector.attempt(hello, limit).await;
                if connection.is_err() {
                    self.connector.pause().await;
                }
                connection
            };
            match tokio::time::timeout_at(self.deadline, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) if error.kind == ErrorKind::SessionExpired => {
                    self.is_told_over = true;
                    return Err(Error::SessionExpired);
                }
                Ok(Err(error)) if is_final(&error) => return Err(Error::Refused { error, zxid: Zxid(0) }),
                Ok(Err(error)) => tracing::debug!(session = %self.session, %error, "not attached"),
                Err(_) => return Err(Error::SessionExpired),
            }
        }
    }

    /// The first frame of a stream.
    fn hello(&self) -> v1::ClientFrame {
        let resume = (self.session != SessionId(0))
            .then(|| v1::ResumeSession { session_id: self.session.0, password: self.password.clone() });
        let timeout = self.options.session_timeout.as_millis();
        v1::ClientFrame {
            connect: Some(v1::Connect {
                resume,
                timeout_ms: u32::try_from(timeout).unwrap_or(u32::MAX),
                last_zxid_seen: self.last_zxid.0,
                credentials: self.credentials.clone(),
            }),
            requests: Vec::new(),
            heartbeat: None,
            acknowledged: self.requests.acknowledged(),
        }
    }

    /// A member has taken the session: everything without an answer is to be sent again.
    fn attached(&mut self, connection: &Connection) {
        let connected = &connection.connected;
        let resumed = self.session != SessionId(0);
        self.session = SessionId(connected.session_id);
        self.password = connected.password.clone();
        self.timeout = Duration::from_millis(connected.timeout_ms.max(1).into());
        self.deadline = connection.asked_at + self.timeout;
        self.heartbeats.clear();
        self.heartbeat_due = None;
        self.heard = None;
        self.acknowledged_sent = self.requests.acknowledged();
        self.facts.session.store(connected.session_id, Ordering::Relaxed);
        self.facts.timeout_ms.store(connected.timeout_ms.into(), Ordering::Relaxed);
        self.facts.member.store(connected.member_id, Ordering::Relaxed);
        self.saw(Zxid(connected.zxid));
        if resumed {
            for entry in self.requests.rewind(WriteNumber(connected.last_applied_write)) {
                if let Purpose::Watch(key) = entry.purpose {
                    // Where it was left, if it was, it went with the connection.
                    self.watches.forget(key);
                }
                // The caller may have gone.
                let _ = entry.respond.send(Err(Error::Overtaken));
            }
            self.watches.reconnected();
        }
        tracing::debug!(session = %self.session, member = connected.member_id, resumed, "attached");
    }

    /// Queues a call's request.
    fn accept(&mut self, job: Job) {
        let Job { ask, respond } = job;
        let place = match &ask {
            Ask::Read(_, _, place, _) => *place,
            // A write goes by its number; a credential is the same whenever it is proved.
            Ask::Write(_) | Ask::Close | Ask::Auth(..) => Place::Open,
        };
        let (request, purpose) = match ask {
            Ask::Write(operation) => {
                (write_request(self.requests.next_write_number(), operation), Purpose::Call)
            }
            Ask::Close => (self.goodbye(), Purpose::Close),
            Ask::Read(request, consistency, _, None) => {
                (read_request(0, request, consistency), Purpose::Call)
            }
            Ask::Read(mut request, consistency, _, Some(sender)) => {
                let key = sender.key;
                let id = self.watches.expect(sender);
                use quorate_core::request::ReadRequest::{AddWatch, Exists, Get, List};
                match &mut request {
                    Get { watch, .. } | Exists { watch, .. } | List { watch, .. } => *watch = Some(id),
                    AddWatch { id: own, .. } => *own = id,
                    _ => {}
                }
                (read_request(0, request, consistency), Purpose::Watch(key))
            }
            Ask::Auth(scheme, credential) => {
                let credential = v1::Credential { scheme, credential };
                let operation = Some(v1::request::Operation::Auth(credential.clone()));
                (Ok(v1::Request { operation, ..Default::default() }), Purpose::Auth(credential))
            }
        };
        match request {
            Ok(request) => self.requests.push(request, respond, purpose, place),
            // The caller may have gone.
            Err(error) => drop(respond.send(Err(Error::BadArguments(error.to_string())))),
        }
    }

    fn goodbye(&self) -> Result<v1::Request, quorate_proto::convert::WireError> {
        let close = Operation::CloseSession { session: self.session, reason: CloseReason::ByOwner };
        write_request(self.requests.next_write_number(), close)
    }

    /// Whether no handle is left and nobody waits for the session's end: then it is ended in passing.
    fn is_leaving(&self) -> bool {
        self.closing && !self.requests.is_close_awaited()
    }

    /// Ends the session behind all that was asked.
    fn say_goodbye(&mut self) {
        let request = self.goodbye().expect("a session may close itself");
        let (respond, _) = tokio::sync::oneshot::channel();
        self.requests.push(request, respond, Purpose::Close, Place::Open);
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Remove(key) => self.watches.remove(key),
            Control::Resume(key) => self.watches.resume(key),
        }
    }

    fn has_something_to_send(&self) -> bool {
        self.heartbeat_due.is_some() || self.watches.has_requests() || self.requests.has_unsent()
    }

    fn next_frame(&mut self) -> v1::ClientFrame {
        let mut requests = self.watches.take_requests();
        let watches = &self.watches;
        requests.extend(self.requests.take_unsent(FRAME_BYTES_MAX, |purpose, request| {
            // What such a watch has heard already on an earlier connection is not to be repeated.
            if let (Purpose::Watch(key), Some(v1::request::Operation::AddWatch(add))) =
                (purpose, &mut request.operation)
            {
                add.since = watches.since(*key).map(Into::into);
            }
        }));
        let heartbeat = self.heartbeat_due.take().map(|due| {
            self.heartbeat_sequence += 1;
            let sequence = self.heartbeat_sequence;
            self.heartbeats.push_back(Heartbeat { sequence, due, sent: Instant::now() });
            v1::Heartbeat { sequence }
        });
        let acknowledged = self.requests.acknowledged();
        let news = acknowledged != std::mem::replace(&mut self.acknowledged_sent, acknowledged);
        v1::ClientFrame {
            connect: None,
            requests,
            heartbeat,
            acknowledged: if news { acknowledged } else { 0 },
        }
    }

    fn receive(&mut self, frame: v1::ServerFrame) -> Result<(), End> {
        self.heard = Some(Instant::now());
        for message in frame.messages {
            match message.message {
                Some(Message::Reply(reply)) => self.reply(reply)?,
                Some(Message::Event(event)) => self.event(event),
                Some(Message::Heartbeat(answer)) => self.heartbeat_answered(&answer),
                None => tracing::debug!("a message of a kind that this version does not know"),
            }
        }
        Ok(())
    }

    fn event(&mut self, event: v1::WatchEvent) {
        let watches = event.watch_ids.clone();
        match WatchEvent::try_from(event) {
            Ok(event) => {
                self.saw(event.body.position.zxid);
                self.watches.event(&event);
            }
            // Leaving it out would be a loss that nobody hears of.
            Err(error) => self.watches.fail_some(&watches, &Error::Protocol(error.to_string())),
        }
    }

    fn reply(&mut self, reply: v1::Reply) -> Result<(), End> {
        let (xid, number) = (reply.xid, WriteNumber(reply.write_number));
        let (entry, zxid, outcome) = match SessionReply::try_from(reply) {
            Ok(SessionReply::Write { number, reply: WriteReply { zxid, result } }) => {
                (self.requests.answer_write(number), zxid, result.map(Outcome::Write))
            }
            Ok(SessionReply::Read { xid, reply: ReadReply { zxid, result } }) => {
                self.saw(zxid);
                if self.watches.answered(xid, zxid, result.as_ref().err()) {
                    return Ok(());
                }
                (self.requests.answer(xid), zxid, result.map(Outcome::Read))
            }
            Err(error) => {
                let entry = match number {
                    WriteNumber(0) => self.requests.answer(xid),
                    number => self.requests.answer_write(number),
                };
                if let Some(entry) = entry {
                    // The caller may have gone.
                    let _ = entry.respond.send(Err(Error::Protocol(error.to_string())));
                }
                return Ok(());
            }
        };
        self.saw(zxid);
        // A second answer to a write that was sent twice.
        let Some(entry) = entry else { return Ok(()) };
        let closed = matches!(entry.purpose, Purpose::Close) && outcome.is_ok();
        match entry.purpose {
            Purpose::Call | Purpose::Close => {}
            Purpose::Auth(credential) => {
                if outcome.is_ok() && !self.credentials.contains(&credential) {
                    self.facts.prove(credential.scheme.clone(), credential.credential.clone());
                    self.credentials.push(credential);
                }
            }
            Purpose::Watch(key) => match &outcome {
                Ok(_) => self.watches.stands(key, zxid),
                // An exists leaves its watch on a missing node too.
                Err(error) if error.kind == ErrorKind::NoNode && is_exists(&entry.request) => {
                    self.watches.stands(key, zxid);
                }
                Err(_) => self.watches.forget(key),
            },
        }
        let answer = match outcome {
            Ok(outcome) => Ok(Answer { zxid, outcome }),
            Err(error) => Err(Error::Refused { error, zxid }),
        };
        // The caller may have gone.
        let _ = entry.respond.send(answer);
        if closed { Err(End::Over(Error::Closed)) } else { Ok(()) }
    }

    fn heartbeat_answered(&mut self, answer: &v1::HeartbeatAnswer) {
        while let Some(Heartbeat { sequence, sent, .. }) = self.heartbeats.front().copied() {
            if sequence > answer.sequence {
                break;
            }
            self.heartbeats.pop_front();
            if sequence == answer.sequence {
                self.deadline = self.deadline.max(sent + self.timeout);
            }
        }
        self.saw(Zxid(answer.zxid));
        if let Some(position) = answer.delivered_through {
            self.watches.delivered_through(position.into());
        }
    }

    fn saw(&mut self, zxid: Zxid) {
        if zxid > self.last_zxid {
            self.last_zxid = zxid;
            self.facts.last_zxid.store(zxid.0, Ordering::Relaxed);
        }
    }

    /// The session is over: everybody who waits hears it, and nobody can ask any more.
    fn end(mut self, error: Error) {
        tracing::info!(session = %self.session, %error, "session over");
        let _ = self.facts.ended.set(error.clone());
        self.jobs.close();
        for entry in self.requests.drain() {
            let error = match (&entry.purpose, entry.sent && entry.request.write_number != 0) {
                // Whether by this request or not, it is closed.
                (Purpose::Close, true) if self.is_told_over || error == Error::Closed => Error::Closed,
                (_, true) => Error::OutcomeUnknown,
                (_, false) => error.clone(),
            };
            // The callers may have gone.
            let _ = entry.respond.send(Err(error));
        }
        while let Ok(job) = self.jobs.try_recv() {
            let _ = job.respond.send(Err(error.clone()));
        }
        self.watches.fail(&error);
        let closed = error == Error::Closed;
        self.state.send_replace(if closed { SessionState::Closed } else { SessionState::Expired });
    }
}

fn is_exists(request: &v1::Request) -> bool {
    matches!(request.operation, Some(v1::request::Operation::Exists(_)))
}

/// Whether no member will ever answer a Connect otherwise.
fn is_final(error: &Refusal) -> bool {
    use ErrorKind::{AuthFailed, BadArguments, SessionExpired, Unimplemented};
    matches!(error.kind, AuthFailed | BadArguments | SessionExpired | Unimplemented)
}
