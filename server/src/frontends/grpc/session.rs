//! `Session.Open`: a client's stream.
//!
//! The reading half understands frames and puts requests into the session's inbox, in order; when
//! the inbox is full it stops reading, and HTTP/2's flow control slows the client. The writing half
//! empties the outbox: all that waits goes into one frame.

use std::pin::Pin;

use futures_util::Stream;
use prometheus::Histogram;
use quorate_core::command::Operation;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, SessionId, WriteNumber, Zxid};
use quorate_proto::convert::results::connected;
use quorate_proto::convert::{SessionRequest, bytes16, reply_to_read, reply_to_write};
use quorate_proto::v1;
use tonic::{Request, Response, Status, Streaming};

use super::caller::{Callers, refused};
use crate::coordinator::connection::{Connect, Connection, ConnectionGuard};
use crate::sessions::inbox::{InboxSender, Incoming};
use crate::sessions::outbox::{Outbox, OutboxReader, Outgoing};
use crate::tasks::TaskGuard;

/// Messages in one frame.
const FRAME_MESSAGES: usize = 256;

/// The `Session` service.
#[derive(Debug)]
pub struct SessionDoor {
    callers: Callers,
}

impl SessionDoor {
    /// On one member.
    pub fn new(callers: Callers) -> SessionDoor {
        SessionDoor { callers }
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<v1::ServerFrame, Status>> + Send>>;

#[tonic::async_trait]
impl v1::session_server::Session for SessionDoor {
    type OpenStream = Frames;

    async fn open(&self, request: Request<Streaming<v1::ClientFrame>>) -> Result<Response<Frames>, Status> {
        let address = request.remote_addr();
        let mut incoming = request.into_inner();
        let Some(first) = incoming.message().await? else {
            return Err(Status::invalid_argument("connect: the first frame must carry it"));
        };
        let Some(hello) = first.connect else {
            return Err(Status::invalid_argument("connect: the first frame must carry it"));
        };
        let greeted = async {
            let identities = self.callers.identities(address, &hello.credentials)?;
            let resume = match hello.resume {
                None => None,
                Some(resume) => Some((
                    SessionId(resume.session_id),
                    bytes16(&resume.password, "connect.resume.password")?,
                )),
            };
            let connect = Connect {
                resume,
                timeout_ms: hello.timeout_ms,
                last_zxid_seen: Zxid(hello.last_zxid_seen),
                acknowledged: WriteNumber(first.acknowledged),
                identities,
            };
            self.callers.coordinator.connect(connect).await
        };
        let connection: Connection = match greeted.await {
            Ok(connection) => connection,
            Err(error) => {
                let greeting = Some(v1::server_frame::Greeting::Refused(error.into()));
                let frame = v1::ServerFrame { greeting, messages: Vec::new() };
                return Ok(Response::new(Box::pin(futures_util::stream::once(async move { Ok(frame) }))));
            }
        };
        let greeting = connected(connection.attachment, self.callers.coordinator.member(), connection.zxid);
        let reader = Reader {
            callers: self.callers.clone(),
            session: connection.attachment.session,
            epoch: connection.attachment.epoch,
            acknowledged: first.acknowledged,
            inbox: connection.inbox,
            closer: connection.closer,
        };
        let writer = Writer {
            greeting: Some(v1::server_frame::Greeting::Connected(greeting)),
            outbox: connection.outbox,
            delivery: self.callers.coordinator.metrics().delivery.clone(),
            _reader: TaskGuard::spawn(
                "session reader",
                reader.run(first.requests, first.heartbeat, incoming),
            ),
            _connection: connection.guard,
        };
        let frames = futures_util::stream::unfold(Some(writer), |writer| async move {
            let mut writer = writer?;
            match writer.next_frame().await {
                Ok(Some(frame)) => Some((Ok(frame), Some(writer))),
                Ok(None) => None,
                Err(reason) => Some((Err(refused(reason)), None)),
            }
        });
        Ok(Response::new(Box::pin(frames)))
    }
}

/// The reading half.
struct Reader {
    callers: Callers,
    session: SessionId,
    epoch: AttachEpoch,
    acknowledged: u64,
    inbox: InboxSender,
    closer: Outbox,
}

/// The connection ends.
struct Ended;

impl Reader {
    async fn run(
        mut self,
        requests: Vec<v1::Request>,
        heartbeat: Option<v1::Heartbeat>,
        mut incoming: Streaming<v1::ClientFrame>,
    ) {
        let mut served = self.take(requests, heartbeat).await;
        while served.is_ok() {
            match incoming.message().await {
                Ok(Some(frame)) => {
                    self.acknowledged = self.acknowledged.max(frame.acknowledged);
                    served = self.take(frame.requests, frame.heartbeat).await;
                }
                Ok(None) => return, // goodbye: the inbox closes with this task
                Err(status) => {
                    self.closer.close(Error::new(ErrorKind::Unavailable, status.message()));
                    return;
                }
            }
        }
    }

    async fn take(
        &mut self,
        requests: Vec<v1::Request>,
        heartbeat: Option<v1::Heartbeat>,
    ) -> Result<(), Ended> {
        if let Some(heartbeat) = heartbeat {
            // Nobody would be told the answers any more: a client that only sends is not kept alive.
            if self.closer.is_closed() {
                return Err(Ended);
            }
            // Not behind the requests, which may have to wait: whether the leader has heard of the session
            // has nothing to do with them.
            self.callers.coordinator.heartbeat(self.session, self.epoch, heartbeat.sequence);
        }
        for request in requests {
            if let Some(incoming) = self.understand(request) {
                self.inbox.send(incoming).await.map_err(|_| Ended)?;
            }
        }
        Ok(())
    }

    fn understand(&self, request: v1::Request) -> Option<Incoming> {
        let (xid, number) = (request.xid, request.write_number);
        let acknowledged = WriteNumber(self.acknowledged);
        let operations = match &request.operation {
            Some(v1::request::Operation::Multi(multi)) => multi.operations.len(),
            Some(v1::request::Operation::MultiRead(multi)) => multi.reads.len(),
            _ => 0,
        };
        let understood = match self.callers.coordinator.limits().check_operations(operations) {
            Ok(()) => SessionRequest::from_wire(request, self.session).map_err(Error::from),
            Err(error) => Err(error),
        };
        match understood {
            Ok(SessionRequest::Write { number, operation }) => {
                Some(Incoming::Write { number, acknowledged, operation })
            }
            Ok(SessionRequest::Read { xid, request, consistency }) => {
                Some(Incoming::Read { xid, request, consistency })
            }
            Ok(SessionRequest::Auth { xid, scheme, credential }) => {
                match self.callers.prove(&scheme, &credential) {
                    Ok(identities) => Some(Incoming::Identified { xid, identities }),
                    Err(error) => {
                        self.closer.push(Outgoing::Read {
                            xid,
                            reply: quorate_core::reply::ReadReply {
                                zxid: Zxid(0),
                                result: Err(error.clone()),
                            },
                        });
                        self.closer.close(error);
                        None
                    }
                }
            }
            // A write that cannot be understood still fills its number, so that later ones follow.
            Err(error) if number > 0 => Some(Incoming::Write {
                number: WriteNumber(number),
                acknowledged,
                operation: Operation::Refused(error),
            }),
            Err(error) => Some(Incoming::Refused { xid, error }),
        }
    }
}

/// The writing half; dropping it detaches the session.
struct Writer {
    greeting: Option<v1::server_frame::Greeting>,
    outbox: OutboxReader,
    delivery: Histogram,
    _reader: TaskGuard,
    _connection: ConnectionGuard,
}

impl Writer {
    /// The next frame; `None` when the connection has ended in good order.
    async fn next_frame(&mut self) -> Result<Option<v1::ServerFrame>, Error> {
        if let Some(greeting) = self.greeting.take() {
            return Ok(Some(v1::ServerFrame { greeting: Some(greeting), messages: Vec::new() }));
        }
        let taken = self.outbox.take(FRAME_MESSAGES).await?;
        if taken.is_empty() {
            return Ok(None);
        }
        let _timer = self.delivery.start_timer();
        let messages = taken.into_iter().map(message).collect();
        Ok(Some(v1::ServerFrame { greeting: None, messages }))
    }
}

fn message(outgoing: Outgoing) -> v1::ServerMessage {
    match outgoing {
        Outgoing::Write { number, reply } => reply_to_write(number, reply).into(),
        Outgoing::Read { xid, reply } => reply_to_read(xid, reply).into(),
        Outgoing::Event(event) => (&event).into(),
        Outgoing::Heartbeat { sequence, zxid, delivered_through } => {
            let answer = v1::HeartbeatAnswer {
                sequence,
                zxid: zxid.0,
                delivered_through: Some(delivered_through.into()),
            };
            v1::ServerMessage { message: Some(v1::server_message::Message::Heartbeat(answer)) }
        }
    }
}
