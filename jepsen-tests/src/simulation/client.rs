//! A simulated client: a session that outlives its connections, as the SDK keeps one.
//!
//! Writes are numbered and kept until they are answered; after a lost connection the session is
//! resumed, here or on another member, and what had not taken effect is sent again. Now and then the
//! client does what the attachment's epoch allows: it takes unanswered writes behind the session's
//! last number for *never done* and gives their numbers to others.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use quorate_core::command::Operation;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, WriteNumber, Zxid};
use quorate_core::reply::{ReadReply, WriteReply};
use quorate_core::request::{Consistency, ReadRequest};
use quorate_server::coordinator::connection::Connect;
use quorate_server::sessions::inbox::Incoming;
use quorate_server::sessions::outbox::Outgoing;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::host::Shared;
use super::invariants::session_view::SessionView;
use super::life::Node;
use super::link::{Down, Greeting, Link, NoLink, connect};
use super::watcher::Watcher;

/// Without an answer for so long, the client tries another member.
const PATIENCE: Duration = Duration::from_secs(4);
/// Requests of all slots that may wait for the client.
const ASKS: usize = 64;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It may have happened.
    Unknown,
    /// It did not happen and never will.
    NotDone,
}

/// A request to the client.
pub enum Ask {
    /// A numbered write.
    Write(Operation, oneshot::Sender<Result<WriteReply, Lost>>),
    /// A read.
    Read(ReadRequest, Consistency, oneshot::Sender<Result<ReadReply, Lost>>),
}

/// Asks a client. Cheap to clone.
#[derive(Clone)]
pub struct Asker {
    asks: mpsc::Sender<Ask>,
}

impl Asker {
    /// Writes; ordered by the call.
    pub async fn write(&self, operation: Operation) -> Result<WriteReply, Lost> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Write(operation, answer)).await.map_err(|_| Lost::Unknown)?;
        answered.await.unwrap_or(Err(Lost::Unknown))
    }

    /// Reads.
    pub async fn read(&self, request: ReadRequest, consistency: Consistency) -> Result<ReadReply, Lost> {
        let (answer, answered) = oneshot::channel();
        self.asks.send(Ask::Read(request, consistency, answer)).await.map_err(|_| Lost::Unknown)?;
        answered.await.unwrap_or(Err(Lost::Unknown))
    }
}

struct PendingWrite {
    number: WriteNumber,
    operation: Operation,
    floor: u64,
    answer: oneshot::Sender<Result<WriteReply, Lost>>,
}

struct PendingRead {
    consistency: Consistency,
    floor: u64,
    answer: oneshot::Sender<Result<ReadReply, Lost>>,
}

#[derive(Clone, Copy)]
struct Session {
    id: SessionId,
    password: [u8; 16],
    timeout: Duration,
}

/// A client.
pub struct Client {
    node: Node,
    shared: Shared,
    random: fastrand::Rng,
    asks: mpsc::Receiver<Ask>,
    timeout_ms: u32,
    session: Option<Session>,
    view: SessionView,
    next: WriteNumber,
    writes: VecDeque<PendingWrite>,
    reads: BTreeMap<u64, PendingRead>,
    xid: u64,
    /// Answers from the reply table follow, up to here.
    repeats_up_to: WriteNumber,
    heartbeats: BTreeMap<u64, Instant>,
    sequence: u64,
    watcher: Option<Watcher>,
    watch_xid: Option<u64>,
}

/// Why a connection ended.
enum End {
    /// Connect again.
    Again,
    /// Nobody asks any more, and all is answered.
    Done,
}

impl Client {
    /// A client that has not connected yet, and the way to ask it.
    pub fn new(
        node: Node,
        shared: Shared,
        mut random: fastrand::Rng,
        watcher: Option<Watcher>,
    ) -> (Client, Asker) {
        let (asks, receiver) = mpsc::channel(ASKS);
        let timeout_ms = random.u32(4_000..9_000);
        let client = Client {
            node,
            shared,
            random,
            asks: receiver,
            timeout_ms,
            session: None,
            view: SessionView::default(),
            next: WriteNumber(1),
            writes: VecDeque::new(),
            reads: BTreeMap::new(),
            xid: 0,
            repeats_up_to: WriteNumber(0),
            heartbeats: BTreeMap::new(),
            sequence: 0,
            watcher,
            watch_xid: None,
        };
        (client, Asker { asks })
    }

    /// Serves until nobody asks any more, all is answered, and its watch has heard to the end.
    pub async fn run(mut self) {
        loop {
            let member = self.random.choice(self.shared.network.members()).unwrap_or_default();
            let hello = Connect {
                resume: self.session.map(|session| (session.id, session.password)),
                timeout_ms: self.timeout_ms,
                last_zxid_seen: self.view.seen(),
                acknowledged: self.view.answered(),
                identities: Vec::new(),
            };
            match connect(&self.shared.network, self.node, member, hello).await {
                Ok((link, greeting)) => {
                    self.greeted(&greeting);
                    if matches!(self.serve(link).await, End::Done) {
                        return;
                    }
                }
                Err(NoLink::Refused(error)) if error.kind == ErrorKind::SessionExpired => self.expired(),
                Err(_) => {}
            }
            sleep(Duration::from_millis(self.random.u64(10..400))).await;
        }
    }

    fn check(&self, outcome: Result<(), String>) {
        self.shared
            .verdicts
            .check("session view", outcome.map_err(|what| format!("client {}: {what}", self.node)));
    }

    fn greeted(&mut self, greeting: &Greeting) {
        let attachment = greeting.attachment;
        if self.session.is_none() {
            self.view.new_session();
            self.next = WriteNumber(1);
        }
        self.view.new_connection();
        self.session = Some(Session {
            id: attachment.session,
            password: attachment.password,
            timeout: Duration::from_millis(u64::from(attachment.timeout_ms)),
        });
        self.repeats_up_to = attachment.last_applied;
        let last_sent = self.next.0 - 1;
        if attachment.last_applied.0 > last_sent || attachment.last_applied < self.view.answered() {
            self.shared.verdicts.violated(
                "session view",
                format_args!(
                    "client {} was told that write {} had taken effect; it had sent {last_sent} and been answered {}",
                    self.node,
                    attachment.last_applied.0,
                    self.view.answered().0
                ),
            );
        }
        self.check(self.sees_greeting(greeting.zxid));
        if self.random.u32(..4) == 0 {
            // Behind this attachment, nothing of the older ones takes effect any more.
            while let Some(write) = self.writes.pop_back_if(|write| write.number > attachment.last_applied) {
                let _ = write.answer.send(Err(Lost::NotDone));
            }
            self.next = WriteNumber(attachment.last_applied.0.max(self.view.answered().0) + 1);
        }
    }

    fn sees_greeting(&self, zxid: Zxid) -> Result<(), String> {
        if zxid < self.view.seen() {
            return Err(format!("had seen zxid {} and was greeted with {zxid}", self.view.seen()));
        }
        Ok(())
    }

    /// The session is gone: what was not answered stays unknown.
    fn expired(&mut self) {
        self.shared.network.trace.note(format_args!("c{} expired", self.node));
        self.session = None;
        for write in self.writes.drain(..) {
            let _ = write.answer.send(Err(Lost::Unknown));
        }
        self.lose_reads();
    }

    fn lose_reads(&mut self) {
        for (_, read) in std::mem::take(&mut self.reads) {
            let _ = read.answer.send(Err(Lost::Unknown));
        }
    }

    /// Serves one connection.
    async fn serve(&mut self, mut link: Link) -> End {
        self.heartbeats.clear();
        self.watch_xid = None;
        self.leave_watch(&mut link);
        let acknowledged = self.view.answered();
        for write in &self.writes {
            // What took effect already is answered without being sent again, and ignored if it is.
            let (number, operation) = (write.number, write.operation.clone());
            link.send(Incoming::Write { number, acknowledged, operation });
        }
        let end = self.talk(&mut link).await;
        self.lose_reads();
        end
    }

    async fn talk(&mut self, link: &mut Link) -> End {
        let timeout = self.session.map_or(PATIENCE, |session| session.timeout);
        let mut heartbeat = Instant::now() + timeout / 3;
        let mut heard = Instant::now();
        let mut closed = false;
        loop {
            if closed && self.is_idle() {
                link.goodbye();
                while link.receive().await.is_some() {}
                return End::Done;
            }
            tokio::select! {
                biased;
                down = link.receive() => match down {
                    None => return End::Again,
                    Some(Down::Ended(reason)) => {
                        self.shared.network.trace.note(format_args!("c{} cut off: {reason:?}", self.node));
                        if reason.is_some_and(|reason| reason.kind == ErrorKind::SessionExpired) {
                            self.expired();
                        }
                        return End::Again;
                    }
                    Some(Down::Message(message)) => {
                        heard = Instant::now();
                        self.take(message, link);
                    }
                },
                ask = self.asks.recv(), if !closed => match ask {
                    None => closed = true,
                    Some(ask) => {
                        if !self.send(ask, link) {
                            return End::Again;
                        }
                        if self.random.u32(..200) == 0 {
                            return End::Again; // some clients just move
                        }
                    }
                },
                () = sleep_until(heartbeat) => {
                    heartbeat = Instant::now() + timeout / 3;
                    self.sequence += 1;
                    self.heartbeats.insert(self.sequence, Instant::now());
                    link.send(Incoming::Heartbeat { sequence: self.sequence });
                },
                () = sleep_until(heard + PATIENCE) => return End::Again,
            }
        }
    }

    fn is_idle(&self) -> bool {
        let has_heard = self.watcher.as_ref().is_none_or(Watcher::has_heard_all);
        self.writes.is_empty() && self.reads.is_empty() && has_heard
    }

    fn leave_watch(&mut self, link: &mut Link) {
        let Some(watcher) = &mut self.watcher else { return };
        self.xid += 1;
        let request = watcher.request(self.view.seen());
        link.send(Incoming::Read { xid: self.xid, request, consistency: Consistency::Session });
        self.watch_xid = Some(self.xid);
    }

    fn send(&mut self, ask: Ask, link: &mut Link) -> bool {
        let floor = self.shared.inspector.floor();
        match ask {
            Ask::Write(operation, answer) => {
                let number = self.next;
                self.next = number.next();
                self.writes.push_back(PendingWrite { number, operation: operation.clone(), floor, answer });
                let acknowledged = self.view.answered();
                link.send(Incoming::Write { number, acknowledged, operation })
            }
            Ask::Read(request, consistency, answer) => {
                self.xid += 1;
                self.reads.insert(self.xid, PendingRead { consistency, floor, answer });
                link.send(Incoming::Read { xid: self.xid, request, consistency })
            }
        }
    }

    fn take(&mut self, message: Outgoing, link: &mut Link) {
        match message {
            Outgoing::Write { number, reply } => {
                let outcome = self.view.reply(number, reply.zxid, number <= self.repeats_up_to);
                self.check(outcome);
                let Some(write) = self.writes.pop_front_if(|write| write.number == number) else {
                    self.shared.verdicts.violated(
                        "session view",
                        format_args!(
                            "client {} was answered write {}, which it does not await",
                            self.node, number.0
                        ),
                    );
                    return;
                };
                self.shared.inspector.wrote(write.floor, reply.zxid.0);
                let _ = write.answer.send(Ok(reply));
            }
            Outgoing::Read { xid, reply } if self.watch_xid == Some(xid) => self.watch_answered(&reply, link),
            Outgoing::Read { xid, reply } => {
                let Some(read) = self.reads.remove(&xid) else { return };
                self.check_read(&read, &reply);
                let _ = read.answer.send(Ok(reply));
            }
            Outgoing::Event(event) => {
                let outcome = self.view.event(event.body.position);
                self.check(outcome);
                if let Some(watcher) = &mut self.watcher {
                    watcher.event(&event);
                }
            }
            Outgoing::Heartbeat { sequence, zxid, delivered_through } => {
                let outcome = self.view.sees(zxid);
                self.check(outcome);
                if let (Some(sent), Some(session)) = (self.heartbeats.remove(&sequence), self.session) {
                    let ago = sent.elapsed().as_micros() as u64;
                    let sent_us = self.shared.network.trace.now_us().saturating_sub(ago);
                    let timeout_us = session.timeout.as_micros() as u64;
                    self.shared.inspector.heartbeat_answered(session.id, sent_us, timeout_us);
                }
                if let Some(watcher) = &mut self.watcher
                    && self.watch_xid.is_none()
                {
                    watcher.delivered(delivered_through);
                }
            }
        }
    }

    fn check_read(&mut self, read: &PendingRead, reply: &ReadReply) {
        if is_unserved(&reply.result.as_ref().err()) {
            return;
        }
        let outcome = self.view.sees(reply.zxid);
        self.check(outcome);
        if read.consistency == Consistency::Linearizable {
            self.shared.inspector.read(read.floor, reply.zxid.0);
        }
    }

    fn watch_answered(&mut self, reply: &ReadReply, link: &mut Link) {
        let outcome = self.view.sees(reply.zxid);
        self.check(outcome);
        self.watch_xid = None;
        let Some(watcher) = &mut self.watcher else { return };
        match &reply.result {
            Ok(_) => {
                self.view.watches();
            }
            Err(error) if error.kind == ErrorKind::WatchGap => {
                watcher.gap(reply.zxid);
                self.view.event_gap();
                self.leave_watch(link);
            }
            Err(error) => {
                self.shared.verdicts.violated("watch", format_args!("client {}: {error}", self.node));
            }
        }
    }
}

/// Whether a read was refused for want of freshness: it saw nothing.
fn is_unserved(error: &Option<&Error>) -> bool {
    error.is_some_and(|error| error.kind.is_retryable() || error.kind == ErrorKind::OutcomeUnknown)
}
