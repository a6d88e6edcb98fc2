//! A cluster of one member, in this process: the core's own state behind the `Session` service,
//! with faults that a test can turn on.
//!
//! It is not the server: nothing is replicated or kept, there are no limits and no timeouts. What
//! it shares with the server is the core and the order of things: events before the replies that
//! show them, replies in the order of the writes.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use quorate::{Client, ErrorKind, Refusal};
use quorate_core::acl::Identity;
use quorate_core::command::{CloseReason, Command, Operation, Origin, Stamp};
use quorate_core::id::{AttachEpoch, MemberId, Position, SessionId, Timestamp, WriteNumber, Zxid};
use quorate_core::reply::{Attachment, ReadReply, ReadResult, WriteReply, WriteResult};
use quorate_core::request::{ReadRequest, WatchKind};
use quorate_core::state::{Answer, Caller, State};
use quorate_core::watches::{WatcherId, Watches};
use quorate_proto::convert::results::connected;
use quorate_proto::convert::{SessionRequest, bytes16, reply_to_read, reply_to_write, status_from_error};
use quorate_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

const MEMBER: MemberId = MemberId(1);

/// The fake, listening. Dropping it stops it.
pub struct Fake {
    pub address: String,
    pub member: Arc<Member>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What can go wrong.
#[derive(Default)]
pub struct Faults {
    /// Every Connect is refused.
    pub refuse: AtomicBool,
    /// Heartbeats are not answered.
    pub deaf: AtomicBool,
    /// Frames are not read.
    pub stuck: AtomicBool,
    /// So many further writes apply; the next connection to send a write is cut instead, and with
    /// it every reply that is not delivered yet. `u64::MAX`: none is cut.
    pub writes_until_cut: AtomicU64,
    /// While set, replies are not sent (events are).
    pub mute: AtomicBool,
}

pub struct Member {
    inner: Mutex<Inner>,
    pub faults: Faults,
}

struct Inner {
    state: State,
    watches: Watches,
    connections: HashMap<u64, Connection>,
    connection_last: u64,
    clock: i64,
    /// Every write that arrived, repeats too.
    arrived: Vec<u64>,
}

struct Connection {
    session: SessionId,
    epoch: AttachEpoch,
    acknowledged: WriteNumber,
    identities: Vec<Identity>,
    frames: mpsc::UnboundedSender<Result<v1::ServerFrame, Status>>,
}

impl Fake {
    pub async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let member = Arc::new(Member {
            inner: Mutex::new(Inner {
                state: State::new(),
                watches: Watches::new(),
                connections: HashMap::new(),
                connection_last: 0,
                clock: 0,
                arrived: Vec::new(),
            }),
            faults: Faults { writes_until_cut: AtomicU64::new(u64::MAX), ..Faults::default() },
        });
        let service = v1::session_server::SessionServer::new(Door(member.clone()));
        let task = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let served =
                tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
            served.await.expect("the fake serves until it is aborted");
        });
        Fake { address, member, task }
    }

    pub async fn client(&self) -> Client {
        self.client_with_timeout(Duration::from_secs(10)).await
    }

    pub async fn client_with_timeout(&self, timeout: Duration) -> Client {
        Client::builder()
            .endpoints([self.address.clone()])
            .session_timeout(timeout)
            .connect()
            .await
            .expect("the fake accepts sessions")
    }
}

impl Member {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the lock")
    }

    /// Cuts all connections; what was not delivered is lost.
    pub fn cut(&self) {
        let mut inner = self.lock();
        for (id, connection) in std::mem::take(&mut inner.connections) {
            inner.watches.remove_watcher(WatcherId(id));
            let _ = connection.frames.send(Err(Status::unavailable("cut")));
        }
    }

    /// Lets the connection be cut behind `writes` further writes, before they are answered.
    pub fn cut_behind(&self, writes: u64) {
        self.faults.writes_until_cut.store(writes, Ordering::SeqCst);
    }

    /// Every write number that arrived, repeats too.
    pub fn arrived(&self) -> Vec<u64> {
        self.lock().arrived.clone()
    }

    pub fn connections(&self) -> usize {
        self.lock().connections.len()
    }

    pub fn sessions(&self) -> usize {
        self.lock().state.sessions().count()
    }

    /// How many watches the member keeps.
    pub fn watches(&self) -> usize {
        let inner = self.lock();
        inner.connections.keys().map(|id| inner.watches.count_of(WatcherId(*id))).sum()
    }

    pub fn zxid(&self) -> Zxid {
        self.lock().state.zxid()
    }

    /// Someone else's write.
    pub fn write(&self, operation: Operation) -> WriteReply {
        self.lock().call(operation)
    }

    /// Expires a session, as the leader would.
    pub fn expire(&self, session: SessionId) {
        let mut inner = self.lock();
        let epoch = inner.state.session(session).expect("the session lives").epoch;
        inner.apply(
            Origin::House,
            Vec::new(),
            Operation::CloseSession { session, reason: CloseReason::Expired { epoch } },
        );
    }
}

impl Inner {
    fn apply(&mut self, origin: Origin, identities: Vec<Identity>, operation: Operation) -> Answer {
        self.clock += 1;
        let mut entropy = [7; 16];
        entropy[..8].copy_from_slice(&self.clock.to_be_bytes());
        let stamp = Stamp { time: Timestamp(self.clock), entropy };
        let command = Command { origin, identities, operation };
        let applied = self.state.apply(&stamp, &command);
        let connections = &self.connections;
        for change in &applied.changes {
            self.watches.trigger(change, &mut |watcher, event, _| {
                if let Some(connection) = connections.get(&watcher.0) {
                    connection.send((&event).into());
                }
            });
        }
        if let Some(ended) = applied.ended_session {
            let closed = matches!(
                applied.answer,
                Answer::Reply(WriteReply { result: Ok(WriteResult::SessionClosed), .. })
            );
            let by_owner = closed && !matches!(command.origin, Origin::House);
            for connection in self.connections.values().filter(|connection| connection.session == ended) {
                if !by_owner {
                    let expired = Refusal::from(ErrorKind::SessionExpired);
                    let _ = connection.frames.send(Err(status_from_error(&expired)));
                }
            }
        }
        applied.answer
    }

    fn call(&mut self, operation: Operation) -> WriteReply {
        let origin = Origin::Call { member: MEMBER, ticket: 0, request: None };
        match self.apply(origin, Vec::new(), operation) {
            Answer::Reply(reply) => reply,
            other => panic!("a call without a request id was answered {other:?}"),
        }
    }

    fn attach(&mut self, operation: Operation) -> Result<Attachment, Refusal> {
        match self.call(operation).result? {
            WriteResult::SessionOpened(attachment) | WriteResult::Attached(attachment) => Ok(attachment),
            other => panic!("an attach was answered {other:?}"),
        }
    }

    fn add_watch(&mut self, id: u64, request: &ReadRequest) -> Result<ReadResult, Refusal> {
        let ReadRequest::AddWatch { id: watch, path, kind, since, with_value } = request else {
            unreachable!("called for AddWatch only")
        };
        let one_shot = !matches!(kind, WatchKind::Persistent | WatchKind::Recursive);
        if let Some(since) = since {
            for change in self.state.changes_since(*since)? {
                for (event, _) in Watches::replay(*watch, path, *kind, *with_value, &change) {
                    self.connections[&id].send((&event).into());
                    if one_shot {
                        return Ok(ReadResult::Watch);
                    }
                }
            }
        }
        self.watches.add(WatcherId(id), *watch, path, *kind, *with_value);
        Ok(ReadResult::Watch)
    }

    fn read(&mut self, id: u64, request: &ReadRequest) -> Result<ReadResult, Refusal> {
        match request {
            ReadRequest::AddWatch { .. } => return self.add_watch(id, request),
            ReadRequest::RemoveWatch { id: watch, path, kind } => {
                return self.watches.remove(WatcherId(id), *watch, path, *kind).map(|()| ReadResult::Watch);
            }
            _ => {}
        }
        let connection = &self.connections[&id];
        let caller = Caller { identities: &connection.identities, session: Some(connection.session) };
        let result = self.state.read(request, &caller);
        let leaves = match request {
            ReadRequest::Get { path, watch } => watch.map(|watch| (watch, path, WatchKind::Data)),
            ReadRequest::Exists { path, watch } => watch.map(|watch| (watch, path, WatchKind::Exists)),
            ReadRequest::List { path, watch, .. } => watch.map(|watch| (watch, path, WatchKind::Child)),
            _ => None,
        };
        if let Some((watch, path, kind)) = leaves
            && (result.is_ok() || kind == WatchKind::Exists)
        {
            self.watches.add(WatcherId(id), watch, path, kind, false);
        }
        result
    }
}

impl Connection {
    fn send(&self, message: v1::ServerMessage) {
        // The client may have gone.
        let _ = self.frames.send(Ok(v1::ServerFrame { greeting: None, messages: vec![message] }));
    }
}

struct Door(Arc<Member>);

type Frames = Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, Status>> + Send>>;

#[tonic::async_trait]
impl v1::session_server::Session for Door {
    type OpenStream = Frames;

    async fn open(&self, request: Request<Streaming<v1::ClientFrame>>) -> Result<Response<Frames>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.expect("a first frame");
        let (sender, frames) = mpsc::unbounded_channel();
        let member = self.0.clone();
        match member.greet(first, sender.clone()) {
            Ok(id) => {
                tokio::spawn(async move {
                    while let Ok(Some(frame)) = incoming.message().await {
                        while member.faults.stuck.load(Ordering::SeqCst) {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        if member.serve(id, frame).is_err() {
                            return;
                        }
                    }
                    let mut inner = member.lock();
                    inner.connections.remove(&id);
                    inner.watches.remove_watcher(WatcherId(id));
                });
            }
            Err(error) => {
                let greeting = Some(v1::server_frame::Greeting::Refused(error.into()));
                let _ = sender.send(Ok(v1::ServerFrame { greeting, messages: Vec::new() }));
            }
        }
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(frames))))
    }
}

/// The connection is cut.
struct Cut;

impl Member {
    fn greet(
        &self,
        first: v1::ClientFrame,
        frames: mpsc::UnboundedSender<Result<v1::ServerFrame, Status>>,
    ) -> Result<u64, Refusal> {
        let hello = first.connect.expect("the first frame carries a Connect");
        if self.faults.refuse.load(Ordering::SeqCst) {
            return Err(Refusal::new(ErrorKind::Unavailable, "told to refuse"));
        }
        let mut inner = self.lock();
        if inner.state.zxid().0 < hello.last_zxid_seen {
            return Err(ErrorKind::MemberBehind.into());
        }
        let timeout_ms = hello.timeout_ms;
        let attachment = match hello.resume {
            None => inner.attach(Operation::OpenSession { timeout_ms, member: MEMBER })?,
            Some(resume) => inner.attach(Operation::Attach {
                session: SessionId(resume.session_id),
                password: bytes16(&resume.password, "password")?,
                member: MEMBER,
                timeout_ms,
            })?,
        };
        let older: Vec<u64> = inner
            .connections
            .iter()
            .filter(|(_, connection)| connection.session == attachment.session)
            .map(|(id, _)| *id)
            .collect();
        for id in older {
            let moved = status_from_error(&ErrorKind::SessionMoved.into());
            let _ = inner.connections.remove(&id).expect("just found").frames.send(Err(moved));
            inner.watches.remove_watcher(WatcherId(id));
        }
        inner.connection_last += 1;
        let id = inner.connection_last;
        let greeting = connected(attachment, MEMBER, inner.state.zxid());
        let greeting = Some(v1::server_frame::Greeting::Connected(greeting));
        let _ = frames.send(Ok(v1::ServerFrame { greeting, messages: Vec::new() }));
        let identities = hello.credentials.iter().map(identity).collect();
        let acknowledged = WriteNumber(first.acknowledged);
        let (session, epoch) = (attachment.session, attachment.epoch);
        let connection = Connection { session, epoch, acknowledged, identities, frames };
        for (number, reply) in inner.state.replies_after(session, acknowledged) {
            connection.send(reply_to_write(number, reply).into());
        }
        inner.connections.insert(id, connection);
        Ok(id)
    }

    fn serve(&self, id: u64, frame: v1::ClientFrame) -> Result<(), Cut> {
        let mut inner = self.lock();
        let connection = inner.connections.get_mut(&id).ok_or(Cut)?;
        connection.acknowledged = connection.acknowledged.max(WriteNumber(frame.acknowledged));
        let session = connection.session;
        for request in frame.requests {
            match SessionRequest::from_wire(request, session).expect("the SDK says what the wire can say") {
                SessionRequest::Write { number, operation } => {
                    let left = self.faults.writes_until_cut.load(Ordering::SeqCst);
                    if left == 0 {
                        self.faults.writes_until_cut.store(u64::MAX, Ordering::SeqCst);
                        drop(inner);
                        self.cut();
                        return Err(Cut);
                    }
                    if left != u64::MAX {
                        self.faults.writes_until_cut.store(left - 1, Ordering::SeqCst);
                    }
                    inner.arrived.push(number.0);
                    let (epoch, acknowledged, identities) = {
                        let connection = &inner.connections[&id];
                        (connection.epoch, connection.acknowledged, connection.identities.clone())
                    };
                    let origin = Origin::Session { session, epoch, number, acknowledged };
                    let answer = inner.apply(origin, identities, operation);
                    // Replies that a cut is about to swallow are not sent at all.
                    let muted = left != u64::MAX || self.faults.mute.load(Ordering::SeqCst);
                    match answer {
                        Answer::Reply(reply) | Answer::Repeat(reply) if !muted => {
                            inner.connections[&id].send(reply_to_write(number, reply).into());
                        }
                        Answer::Reply(_) | Answer::Repeat(_) => {}
                        other => panic!("write {} was answered {other:?}", number.0),
                    }
                }
                SessionRequest::Read { xid, request, .. } => {
                    let result = inner.read(id, &request);
                    let reply = ReadReply { zxid: inner.state.zxid(), result };
                    if !self.faults.mute.load(Ordering::SeqCst) {
                        inner.connections[&id].send(reply_to_read(xid, reply).into());
                    }
                }
                SessionRequest::Auth { xid, scheme, credential } => {
                    let identity = identity(&v1::Credential { scheme, credential });
                    let connection = inner.connections.get_mut(&id).expect("served above");
                    connection.identities.push(identity.clone());
                    let result = Ok(ReadResult::Identities(vec![identity]));
                    connection.send(reply_to_read(xid, ReadReply { zxid: Zxid(0), result }).into());
                }
            }
        }
        if let Some(heartbeat) = frame.heartbeat
            && !self.faults.deaf.load(Ordering::SeqCst)
        {
            let zxid = inner.state.zxid();
            let answer = v1::HeartbeatAnswer {
                sequence: heartbeat.sequence,
                zxid: zxid.0,
                delivered_through: Some(Position::after(zxid).into()),
            };
            let message = Some(v1::server_message::Message::Heartbeat(answer));
            inner.connections[&id].send(v1::ServerMessage { message });
        }
        Ok(())
    }
}

fn identity(credential: &v1::Credential) -> Identity {
    Identity {
        scheme: credential.scheme.clone(),
        id: String::from_utf8_lossy(&credential.credential).into_owned(),
    }
}
