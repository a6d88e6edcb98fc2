//! One client's connection: the handshake, then a reading half that fills the session's inbox and a
//! writing half that empties its outbox.
//!
//! The protocol has no numbers of its own for writes, and its answers carry no hint of what they
//! answer but their order. So the reading half numbers the writes and notes, for each request, what
//! its answer must look like; the coordinator answers in the order of the requests; the writing half
//! takes one note an answer. Events and pings stand outside that order.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_core::acl::Identity;
use quorate_core::command::Operation;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{WriteNumber, Zxid};
use quorate_core::reply::Attachment;
use quorate_core::request::Consistency;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::Door;
use super::jute::{Reader as Jute, take_frame};
use super::records::{
    ConnectRequest, XID_PING, begin_frame, end_frame, put_connect_response, put_event, put_reply_header,
};
use super::replies::{put_read, put_write};
use super::requests::{self, Asked, MembersAsked, Shape};
use super::traffic::Traffic;
use super::{four_letter, read_only, reconfig};
use crate::coordinator::connection::{Connect, Connection};
use crate::sessions::inbox::{InboxSender, Incoming};
use crate::sessions::outbox::{OutboxReader, Outgoing};
use crate::tasks::TaskGuard;

/// A frame above this closes the connection: ZooKeeper's `jute.maxbuffer`.
const FRAME_BYTES_MAX: usize = 0xf_ffff;
/// How long a client may take to greet.
const GREETING: Duration = Duration::from_secs(10);
/// A client whose session is not there after this long is let wait only while there is a quorum.
const QUORUM_PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts to attach while the leader changes.
const ATTACH_AGAIN: Duration = Duration::from_millis(50);
/// Between two looks whether all that was asked has been answered.
const ANSWERED_AGAIN: Duration = Duration::from_millis(10);
/// The socket is read in pieces of about this size.
const READ_BYTES: usize = 64 << 10;
/// The socket is written in pieces of this size.
const WRITE_BYTES: usize = 64 << 10;
/// Messages taken from the outbox at once.
const TAKE_MAX: usize = 512;
/// A write buffer that grew beyond this is given back.
pub(super) const BUFFER_KEPT: usize = 256 << 10;

/// How long a client may take to take what is left when its connection ends.
pub(super) const PARTING: Duration = Duration::from_secs(10);

/// What the next answer must look like.
#[derive(Debug)]
struct Note {
    xid: i32,
    shape: Shape,
    /// The connection ends behind this answer.
    is_last: bool,
    /// Told as the last transaction instead of the one that was: of an authentication 0, of an
    /// operation that is none −1.
    zxid: Option<i64>,
    /// When the request came.
    since: Instant,
}

type Notes = Arc<Mutex<VecDeque<Note>>>;

/// Serves one connection to its end. `identities`: what the connection itself proves.
pub async fn serve<R, W>(door: Door, reader: R, writer: W, address: SocketAddr, identities: Vec<Identity>)
where
    R: AsyncRead + Unpin + Send + Sync + 'static,
    W: AsyncWrite + Unpin + Send,
{
    let mut frames = Frames { reader, buffer: BytesMut::with_capacity(4096) };
    match timeout(GREETING, frames.begin()).await {
        Ok(Some(Beginning::Word(word))) => four_letter::answer(&door, word, writer).await,
        Ok(Some(Beginning::Frame(frame))) => {
            let Ok(hello) = ConnectRequest::read(&mut Jute::new(frame)) else { return };
            if hello.read_only == Some(true) && !read_only::has_quorum(&door.coordinator).await {
                read_only::serve(door, frames, writer, hello, identities).await;
            } else {
                open(door, frames, writer, (address, hello), identities).await;
            }
        }
        Ok(None) | Err(_) => {}
    }
}

/// The greeting, then the session.
async fn open<R, W>(
    door: Door,
    frames: Frames<R>,
    mut writer: W,
    (address, hello): (SocketAddr, ConnectRequest),
    identities: Vec<Identity>,
) where
    R: AsyncRead + Unpin + Send + Sync + 'static,
    W: AsyncWrite + Unpin + Send,
{
    let connect = Connect {
        resume: hello.resume(),
        timeout_ms: u32::try_from(hello.timeout_ms).unwrap_or(0),
        last_zxid_seen: Zxid(hello.last_zxid_seen.max(0).unsigned_abs()),
        // This protocol repeats nothing: what an earlier connection was not told stays untold.
        acknowledged: WriteNumber(u64::MAX),
        identities: identities.clone(),
    };
    let read_only = hello.read_only.map(|_| false);
    let mut out = BytesMut::new();
    let connection = match attach(&door, &connect).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%address, %error, "a ZooKeeper client was not let in");
            if error.kind == ErrorKind::SessionExpired {
                put_connect_response(&mut out, 0, 0, &[0; 16], read_only);
                let _ = writer.write_all(&out).await; // it may have gone
                let _ = writer.shutdown().await;
            }
            return;
        }
    };
    let attachment = connection.attachment;
    let timeout_ms = i32::try_from(attachment.timeout_ms).unwrap_or(i32::MAX);
    let session = attachment.session.0.cast_signed();
    put_connect_response(&mut out, timeout_ms, session, &attachment.password, read_only);
    if writer.write_all(&out).await.and(writer.flush().await).is_err() {
        return;
    }
    let traffic = Arc::new(Traffic::default());
    let _listed = door.connections.list(address, attachment.session, attachment.timeout_ms, traffic.clone());
    converse(door, frames, writer, connection, (identities, traffic)).await;
}

/// Opens or resumes the session. A client of a member without a quorum is soon turned away, to go on to
/// another member; one that comes while a leader is elected waits for it.
async fn attach(door: &Door, connect: &Connect) -> Result<Connection, Error> {
    let started = Instant::now();
    loop {
        let mut attempt = std::pin::pin!(door.coordinator.connect(connect.clone()));
        let result = loop {
            match timeout(QUORUM_PATIENCE, &mut attempt).await {
                Ok(result) => break result,
                Err(_) if read_only::has_quorum(&door.coordinator).await => {}
                Err(_) => return Err(Error::new(ErrorKind::Unavailable, "no quorum")),
            }
        };
        match result {
            // The way to the leader broke; attaching again is harmless.
            Err(error) if error.kind == ErrorKind::Unavailable && started.elapsed() < QUORUM_PATIENCE => {
                sleep(ATTACH_AGAIN).await;
            }
            result => return result,
        }
    }
}

async fn converse<R, W>(
    door: Door,
    frames: Frames<R>,
    writer: W,
    connection: Connection,
    (identities, traffic): (Vec<Identity>, Arc<Traffic>),
) where
    R: AsyncRead + Unpin + Send + Sync + 'static,
    W: AsyncWrite + Unpin + Send,
{
    let notes = Notes::default();
    let Connection { attachment, zxid, inbox, outbox, closer, guard } = connection;
    let counters = [door.traffic.clone(), traffic];
    let reading = ReadingHalf {
        door,
        counters: counters.clone(),
        frames,
        inbox,
        notes: notes.clone(),
        attachment,
        submitted: attachment.last_applied,
        identities,
        is_over: false,
    };
    let reader = TaskGuard::spawn("zookeeper reader", async move {
        let reason = reading.run().await;
        closer.close(Error::new(ErrorKind::Unavailable, reason));
    });
    let writing = WritingHalf { writer, outbox, notes, counters, zxid: zxid.0 };
    writing.run().await;
    drop(reader);
    drop(guard);
}

/// What a connection begins with.
enum Beginning {
    /// A frame.
    Frame(Bytes),
    /// A four-letter word.
    Word([u8; 4]),
}

/// Frames off the socket.
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    async fn begin(&mut self) -> Option<Beginning> {
        while self.buffer.len() < 4 {
            self.fill().await?;
        }
        let word = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        if word.iter().all(u8::is_ascii_lowercase) {
            return Some(Beginning::Word(word));
        }
        self.next().await.map(Beginning::Frame)
    }

    /// The next frame; `None` at the end, or when what comes is no frame.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Some(frame);
            }
            self.fill().await?;
        }
    }

    /// A frame that is there already; the outer `None`: what is there is no frame.
    fn buffered(&mut self) -> Option<Option<Bytes>> {
        take_frame(&mut self.buffer, FRAME_BYTES_MAX).ok()
    }

    async fn fill(&mut self) -> Option<()> {
        if self.buffer.capacity() - self.buffer.len() < 4096 {
            self.buffer.reserve(READ_BYTES);
        }
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(()),
        }
    }
}

struct ReadingHalf<R> {
    door: Door,
    /// The door's and this connection's.
    counters: [Arc<Traffic>; 2],
    frames: Frames<R>,
    inbox: InboxSender,
    notes: Notes,
    attachment: Attachment,
    submitted: WriteNumber,
    identities: Vec<Identity>,
    /// The connection ends behind an answer that is noted already: nothing more is taken.
    is_over: bool,
}

impl<R: AsyncRead + Unpin> ReadingHalf<R> {
    /// Reads until the connection or the session ends; why.
    async fn run(mut self) -> &'static str {
        while let Some(frame) = self.frames.next().await {
            self.counters.iter().for_each(|counter| counter.receive());
            let mut jute = Jute::new(frame);
            let (Ok(xid), Ok(code)) = (jute.int(), jute.int()) else { return "a frame without a header" };
            let (asked, shape) = requests::read(code, &mut jute, self.attachment.session);
            let is_close = matches!(&asked, Asked::Write(Operation::CloseSession { .. }));
            if !self.take(xid, asked, shape).await {
                return "the session has ended";
            }
            if self.is_over {
                // The answer is still to come; the writing half ends behind it. Whoever does not wait for
                // it is not waited for without end either.
                while self.frames.next().await.is_some() {}
                sleep(PARTING).await;
                if is_close {
                    // Perhaps its own close never came through: then this one may.
                    let Attachment { session, password, .. } = self.attachment;
                    self.door.coordinator.abandon_session(session, password);
                }
                return "the client has gone";
            }
        }
        "the client has gone"
    }

    /// Hands one request on; false when nobody takes any more.
    async fn take(&mut self, xid: i32, asked: Asked, shape: Shape) -> bool {
        match asked {
            Asked::Write(operation) => {
                self.submitted = self.submitted.next();
                let is_last = matches!(operation, Operation::CloseSession { .. });
                self.note(Note { xid, shape, is_last, zxid: None, since: Instant::now() });
                let acknowledged = WriteNumber(self.submitted.0 - 1);
                self.send(Incoming::Write { number: self.submitted, acknowledged, operation }).await
            }
            Asked::Read(request) => {
                self.note(Note { xid, shape, is_last: false, zxid: None, since: Instant::now() });
                self.send(Incoming::Read { xid: 0, request, consistency: Consistency::Session }).await
            }
            Asked::Rearm { since, watches } => {
                self.note(Note { xid, shape, is_last: false, zxid: None, since: Instant::now() });
                self.send(Incoming::Rearm { xid: 0, since, watches }).await
            }
            Asked::Reconfig(change) => {
                let changed = self.reconfigure(&change).await;
                let since = Instant::now();
                self.note(Note { xid, shape, is_last: false, zxid: None, since });
                match changed {
                    Ok(()) => {
                        let request = reconfig::configuration();
                        self.send(Incoming::Read { xid: 0, request, consistency: Consistency::Session }).await
                    }
                    Err(error) => self.send(Incoming::Refused { xid: 0, error }).await,
                }
            }
            Asked::Ping => self.send(Incoming::Heartbeat { sequence: 0 }).await,
            Asked::Auth { scheme, credential } => self.authenticate(xid, &scheme, &credential).await,
            Asked::Refused(error, is_last) => {
                let zxid = is_last.then_some(-1);
                self.note(Note { xid, shape, is_last, zxid, since: Instant::now() });
                self.send(Incoming::Refused { xid: 0, error }).await
            }
        }
    }

    /// Waits until all that was sent before has been answered, and so has taken effect. The writing half
    /// ends the wait if it ends.
    async fn wait_answered(&self) {
        while !self.notes.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            sleep(ANSWERED_AGAIN).await;
        }
    }

    /// Changes the members, which may take its time: the client's own requests, its pings among them, wait
    /// behind this one and count as heard.
    async fn reconfigure(&self, asked: &MembersAsked) -> Result<(), Error> {
        let Attachment { session, epoch, timeout_ms, .. } = self.attachment;
        let mut changing = std::pin::pin!(async {
            self.wait_answered().await;
            reconfig::change(&self.door, &self.identities, asked).await
        });
        loop {
            match timeout(Duration::from_millis(u64::from(timeout_ms) / 3), &mut changing).await {
                Ok(changed) => return changed,
                Err(_) => self.door.coordinator.touch(session, epoch),
            }
        }
    }

    async fn authenticate(&mut self, xid: i32, scheme: &str, credential: &[u8]) -> bool {
        let proved = self.door.prove(&mut self.identities, scheme, credential);
        let (is_last, since) = (proved.is_err(), Instant::now());
        self.note(Note { xid, shape: Shape::Empty, is_last, zxid: Some(0), since });
        match proved {
            Ok(identities) => self.send(Incoming::Identified { xid: 0, identities }).await,
            Err(error) => self.send(Incoming::Refused { xid: 0, error }).await,
        }
    }

    fn note(&mut self, note: Note) {
        self.is_over |= note.is_last;
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push_back(note);
    }

    async fn send(&self, incoming: Incoming) -> bool {
        self.inbox.send(incoming).await.is_ok()
    }
}

struct WritingHalf<W> {
    writer: W,
    outbox: OutboxReader,
    notes: Notes,
    counters: [Arc<Traffic>; 2],
    /// The highest transaction told so far: it never goes back for a client.
    zxid: u64,
}

impl<W: AsyncWrite + Unpin> WritingHalf<W> {
    async fn run(mut self) {
        let mut out = BytesMut::new();
        // A client that reads nothing would hold a write for ever.
        let signal = self.outbox.signal();
        let mut parting = std::pin::pin!(async move {
            signal.closed().await;
            sleep(PARTING).await;
        });
        while let Ok(taken) = self.outbox.take(TAKE_MAX).await {
            if taken.is_empty() {
                return;
            }
            let mut goes_on = true;
            for outgoing in taken {
                goes_on = self.put(&mut out, outgoing);
                if !goes_on {
                    break;
                }
            }
            let (writer, outbox) = (&mut self.writer, &self.outbox);
            let write = async {
                // In pieces, so that a slow client is not taken for one that takes nothing.
                for piece in out.chunks(WRITE_BYTES) {
                    writer.write_all(piece).await?;
                    outbox.note_progress();
                }
                writer.flush().await
            };
            let is_written = tokio::select! {
                biased;
                written = write => written.is_ok(),
                () = &mut parting => false,
            };
            if !is_written || !goes_on {
                break;
            }
            if out.capacity() > BUFFER_KEPT {
                out = BytesMut::new();
            }
            out.clear();
        }
        // The peer may have gone first.
        let _ = timeout(PARTING, self.writer.shutdown()).await;
    }

    /// Puts one message; false if the connection ends behind it.
    fn put(&mut self, out: &mut BytesMut, outgoing: Outgoing) -> bool {
        self.counters.iter().for_each(|counter| counter.send());
        match outgoing {
            Outgoing::Event(event) => {
                put_event(out, event.body.position.zxid.0, event.body.kind, &event.body.path);
                true
            }
            Outgoing::Heartbeat { zxid, .. } => {
                let frame = begin_frame(out);
                put_reply_header(out, XID_PING, self.told(zxid), 0);
                end_frame(out, frame);
                true
            }
            Outgoing::Write { reply, .. } => {
                let Some(note) = self.next_note() else { return false };
                put_write(out, (note.xid, self.told(reply.zxid)), &note.shape, &reply.result);
                !note.is_last
            }
            Outgoing::Read { reply, .. } => {
                let Some(note) = self.next_note() else { return false };
                let zxid = note.zxid.map_or_else(|| self.told(reply.zxid), i64::cast_unsigned);
                put_read(out, (note.xid, zxid), &note.shape, &reply.result);
                !note.is_last
            }
        }
    }

    fn told(&mut self, zxid: Zxid) -> u64 {
        self.zxid = self.zxid.max(zxid.0);
        self.zxid
    }

    /// An answer without a note would shift all behind it: the connection ends instead.
    fn next_note(&self) -> Option<Note> {
        let note = self.notes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        self.counters.iter().for_each(|counter| counter.answer(note.since.elapsed()));
        Some(note)
    }
}
