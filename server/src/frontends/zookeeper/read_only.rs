//! A client that is content with a member that has no quorum: what this member last knew, and no
//! writes.
//!
//! Nothing can change here while there is no quorum, so watches need not be kept: the connection ends
//! when the quorum is back, and the client leaves its watches again on its next one. The session is
//! this connection's own, unless the client names one that this member knows: that one is then still
//! there, but not attached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use quorate_core::acl::Identity;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, Zxid};
use quorate_core::reply::ReadResult;
use quorate_core::request::{Consistency, ReadRequest};
use quorate_core::state::Caller;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::Door;
use super::connection::{BUFFER_KEPT, Frames, PARTING};
use super::jute::Reader as Jute;
use super::records::{
    ConnectRequest, XID_PING, begin_frame, end_frame, opcode, put_connect_response, put_reply_header,
};
use super::replies::put_read;
use super::requests::{self, Asked, Shape};
use crate::coordinator::Coordinator;

/// A quorum that does not answer for this long is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long a client that has seen more than this member is let wait for it.
const CATCH_UP: Duration = Duration::from_millis(500);
/// Sessions of such connections have ids that no log ever gives.
const FIRST_SESSION: u64 = 0x7f00_0000_0000_0000;

static LAST_SESSION: AtomicU64 = AtomicU64::new(FIRST_SESSION);

/// Whether a quorum answers this member now.
pub async fn has_quorum(coordinator: &Coordinator) -> bool {
    matches!(timeout(PATIENCE, coordinator.wait_fresh(Consistency::Linearizable)).await, Ok(Ok(())))
}

/// Serves reads until the client goes or the quorum is back.
pub(super) async fn serve<R, W>(
    door: Door,
    mut frames: Frames<R>,
    mut writer: W,
    hello: ConnectRequest,
    identities: Vec<Identity>,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send,
{
    let local = door.coordinator.local().clone();
    let seen = Zxid(hello.last_zxid_seen.max(0).unsigned_abs());
    if door.coordinator.wait_zxid(seen, CATCH_UP).await.is_err() {
        return;
    }
    let (session, password) = match hello.resume() {
        // One of such a connection, which has ended with it: there was nothing in it to resume.
        Some((session, _)) if session.0 >= FIRST_SESSION => new_session(),
        // One that is not known here may be known to others: only a quorum can say that it has ended.
        Some((session, password)) => match local.with_state(|state| state.check_password(session, &password))
        {
            true => (session, password),
            false => return,
        },
        None => new_session(),
    };
    let asked = u32::try_from(hello.timeout_ms).unwrap_or(0);
    let timeout_ms = door.coordinator.limits().session_timeout_ms(asked);
    let mut out = BytesMut::new();
    let granted = i32::try_from(timeout_ms).unwrap_or(i32::MAX);
    put_connect_response(&mut out, granted, session.0.cast_signed(), &password, Some(true));
    let mut reading = Reading { door, identities, session };
    let silence = Duration::from_millis(timeout_ms.into());
    let coordinator = reading.door.coordinator.clone();
    let mut quorum_is_back = std::pin::pin!(async move {
        while !has_quorum(&coordinator).await {
            sleep(ASK_AGAIN).await;
        }
    });
    loop {
        let written =
            timeout(silence, async { writer.write_all(&out).await.and(writer.flush().await) }).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        if out.capacity() > BUFFER_KEPT {
            out = BytesMut::new();
        }
        out.clear();
        let frame = tokio::select! {
            frame = timeout(silence, frames.next()) => frame,
            () = &mut quorum_is_back => break,
        };
        let Ok(Some(frame)) = frame else { break };
        let mut jute = Jute::new(frame);
        let (Ok(xid), Ok(code)) = (jute.int(), jute.int()) else { break };
        if !reading.answer(&mut out, xid, code, &mut jute).await {
            let _ = timeout(PARTING, writer.write_all(&out)).await; // it may have gone
            break;
        }
    }
    let _ = timeout(PARTING, writer.shutdown()).await; // it may have gone first
}

fn new_session() -> (SessionId, [u8; 16]) {
    (SessionId(LAST_SESSION.fetch_add(1, Ordering::Relaxed)), [0; 16])
}

struct Reading {
    door: Door,
    identities: Vec<Identity>,
    session: SessionId,
}

impl Reading {
    /// Puts the answer to a request; false if the connection ends behind it.
    async fn answer(&mut self, out: &mut BytesMut, xid: i32, code: i32, jute: &mut Jute) -> bool {
        let zxid = self.door.coordinator.local().progress_now().zxid.0;
        let (asked, shape) = requests::read(code, jute, self.session);
        let is_last = matches!(&asked, Asked::Refused(_, true)) || code == opcode::CLOSE_SESSION;
        let result = match asked {
            Asked::Ping => {
                let frame = begin_frame(out);
                put_reply_header(out, XID_PING, zxid, 0);
                end_frame(out, frame);
                return true;
            }
            Asked::Auth { scheme, credential } => {
                let result = self.door.prove(&mut self.identities, &scheme, &credential);
                let result = result.map(|_| ReadResult::Watch);
                put_read(out, (xid, 0), &Shape::Empty, &result);
                return result.is_ok();
            }
            Asked::Write(_) if code == opcode::CLOSE_SESSION => Ok(ReadResult::Watch),
            Asked::Write(_) | Asked::Reconfig(_) => Err(not_here()),
            Asked::Read(request) => self.read(&request).await,
            Asked::Rearm { .. } => Ok(ReadResult::Watch),
            Asked::Refused(error, _) => Err(error),
        };
        put_read(out, (xid, zxid), &shape, &result);
        !is_last
    }

    async fn read(&self, request: &ReadRequest) -> Result<ReadResult, Error> {
        match request {
            ReadRequest::Sync { .. } => Err(not_here()),
            ReadRequest::WhoAmI => Ok(ReadResult::Identities(self.identities.clone())),
            ReadRequest::Ephemerals { prefix } => {
                let coordinator = &self.door.coordinator;
                coordinator.limits().check_path(prefix)?;
                let caller = Caller { identities: &self.identities, session: Some(self.session) };
                coordinator.local().with_state(|state| state.read(request, &caller))
            }
            ReadRequest::AddWatch { .. } => Ok(ReadResult::Watch),
            ReadRequest::RemoveWatch { path, .. } | ReadRequest::CheckWatch { path, .. } => {
                Err(Error::new(ErrorKind::NoWatcher, path.clone()))
            }
            request => {
                self.door.coordinator.read(&self.identities, request, Consistency::Session).await?.result
            }
        }
    }
}

fn not_here() -> Error {
    Error::new(ErrorKind::NotReadOnly, "this member has no quorum")
}
