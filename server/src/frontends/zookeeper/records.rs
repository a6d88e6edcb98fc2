//! ZooKeeper's records: requests as they come off the wire, replies and events as they go onto it.
//! What a request means to us is [`super::requests`]'s business.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_core::acl::{AclEntry, Permissions};
use quorate_core::change::EventKind;
use quorate_core::id::SessionId;
use quorate_core::znode::Stat;

use super::jute::{Malformed, Reader, put_string, put_vector};

/// Operation codes.
pub mod opcode {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;
}

/// The xid of a watch event.
pub const XID_EVENT: i32 = -1;
/// The xid of a ping.
pub const XID_PING: i32 = -2;

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The last transaction that the client has seen.
    pub last_zxid_seen: i64,
    /// Asked for, in milliseconds.
    pub timeout_ms: i32,
    /// 0: a new session.
    pub session: i64,
    /// Sixteen bytes.
    pub password: Bytes,
    /// Whether a member without a quorum would do; `None` from clients before 3.4.
    pub read_only: Option<bool>,
}

impl ConnectRequest {
    /// Reads one.
    pub fn read(reader: &mut Reader) -> Result<ConnectRequest, Malformed> {
        let _protocol_version = reader.int()?;
        Ok(ConnectRequest {
            last_zxid_seen: reader.long()?,
            timeout_ms: reader.int()?,
            session: reader.long()?,
            password: reader.buffer()?.unwrap_or_default(),
            read_only: if reader.remaining() > 0 { Some(reader.boolean()?) } else { None },
        })
    }

    /// The session to resume, with its password; `None` for a new one.
    pub fn resume(&self) -> Option<(SessionId, [u8; 16])> {
        let password = self.password[..].try_into().unwrap_or_default();
        (self.session != 0).then_some((SessionId(self.session.cast_unsigned()), password))
    }
}

/// Puts the answer to a [`ConnectRequest`]; session 0 says "expired". `read_only`: whether this member
/// is; not told to clients that did not speak of it.
pub fn put_connect_response(
    out: &mut BytesMut,
    timeout_ms: i32,
    session: i64,
    password: &[u8; 16],
    read_only: Option<bool>,
) {
    let frame = begin_frame(out);
    out.put_i32(0);
    out.put_i32(timeout_ms);
    out.put_i64(session);
    super::jute::put_buffer(out, Some(password));
    if let Some(read_only) = read_only {
        out.put_u8(read_only.into());
    }
    end_frame(out, frame);
}

/// Reads an ACL.
pub fn read_acl(reader: &mut Reader) -> Result<Vec<AclEntry>, Malformed> {
    reader.vector(12, |reader| {
        let permissions = Permissions((reader.int()? & 31) as u8);
        // Some clients send an empty id ("auth" has none) as a null one.
        let mut text = || reader.nullable_string().map(Option::unwrap_or_default);
        Ok(AclEntry { permissions, scheme: text()?, id: text()? })
    })
}

/// Puts an ACL.
pub fn put_acl(out: &mut BytesMut, acl: &[AclEntry]) {
    put_vector(out, acl, |out, entry| {
        out.put_i32(entry.permissions.0.into());
        put_string(out, &entry.scheme);
        put_string(out, &entry.id);
    });
}

/// Puts a Stat.
pub fn put_stat(out: &mut BytesMut, stat: &Stat) {
    out.put_u64(stat.czxid.0);
    out.put_u64(stat.mzxid.0);
    out.put_i64(stat.ctime.0);
    out.put_i64(stat.mtime.0);
    out.put_i32(stat.version);
    out.put_i32(stat.cversion);
    out.put_i32(stat.aversion);
    out.put_u64(stat.ephemeral_owner.0);
    out.put_i32(stat.data_length);
    out.put_i32(stat.num_children);
    out.put_u64(stat.pzxid.0);
}

/// Puts a reply's header.
pub fn put_reply_header(out: &mut BytesMut, xid: i32, zxid: u64, error: i32) {
    out.put_i32(xid);
    out.put_u64(zxid);
    out.put_i32(error);
}

/// Puts a whole event frame.
pub fn put_event(out: &mut BytesMut, zxid: u64, kind: EventKind, path: &str) {
    /// The connection is up.
    const SYNC_CONNECTED: i32 = 3;
    let frame = begin_frame(out);
    put_reply_header(out, XID_EVENT, zxid, 0);
    out.put_i32(match kind {
        EventKind::NodeCreated => 1,
        EventKind::NodeDeleted => 2,
        EventKind::NodeDataChanged => 3,
        EventKind::NodeChildrenChanged => 4,
    });
    out.put_i32(SYNC_CONNECTED);
    put_string(out, path);
    end_frame(out, frame);
}

/// Leaves room for a frame's length.
pub fn begin_frame(out: &mut BytesMut) -> usize {
    let start = out.len();
    out.put_i32(0);
    start
}

/// Fills the length in.
pub fn end_frame(out: &mut BytesMut, start: usize) {
    let length = i32::try_from(out.len() - start - 4).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
