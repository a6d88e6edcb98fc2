//! Small values: stats, positions, access lists, kinds and names.

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Identity, Permissions};
use quorate_core::command::RequestId;
use quorate_core::id::{Position, SessionId, Timestamp, Zxid};
use quorate_core::request::{Consistency, WatchKind};
use quorate_core::znode::{CreateMode, Stat};

use super::WireError;
use crate::v1;

/// The expected version that means "any".
const ANY_VERSION: i32 = -1;

/// A version as a request states it: absent is any.
pub fn expected_version(version: Option<i32>) -> i32 {
    version.unwrap_or(ANY_VERSION)
}

/// A version as a request states it: any is left out.
pub fn version_to_wire(version: i32) -> Option<i32> {
    (version != ANY_VERSION).then_some(version)
}

/// The sixteen bytes of a password, nonce or digest.
pub fn bytes16(bytes: &[u8], field: &'static str) -> Result<[u8; 16], WireError> {
    bytes.try_into().map_err(|_| WireError::Malformed { field, problem: "must have 16 bytes" })
}

impl From<Position> for v1::Position {
    fn from(position: Position) -> v1::Position {
        v1::Position { zxid: position.zxid.0, ordinal: position.ordinal }
    }
}

impl From<v1::Position> for Position {
    fn from(position: v1::Position) -> Position {
        Position { zxid: Zxid(position.zxid), ordinal: position.ordinal }
    }
}

impl From<Stat> for v1::Stat {
    fn from(stat: Stat) -> v1::Stat {
        v1::Stat {
            czxid: stat.czxid.0,
            mzxid: stat.mzxid.0,
            pzxid: stat.pzxid.0,
            ctime_ms: stat.ctime.0,
            mtime_ms: stat.mtime.0,
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            ephemeral_owner: stat.ephemeral_owner.0,
            data_length: stat.data_length,
            num_children: stat.num_children,
        }
    }
}

impl From<v1::Stat> for Stat {
    fn from(stat: v1::Stat) -> Stat {
        Stat {
            czxid: Zxid(stat.czxid),
            mzxid: Zxid(stat.mzxid),
            pzxid: Zxid(stat.pzxid),
            ctime: Timestamp(stat.ctime_ms),
            mtime: Timestamp(stat.mtime_ms),
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            ephemeral_owner: SessionId(stat.ephemeral_owner),
            data_length: stat.data_length,
            num_children: stat.num_children,
        }
    }
}

/// A mode as the wire splits it: the kind and the time to live (0 for those without).
pub fn create_mode_to_wire(mode: CreateMode) -> (v1::CreateMode, i64) {
    let kind = match mode {
        CreateMode::Persistent => v1::CreateMode::Persistent,
        CreateMode::PersistentSequential => v1::CreateMode::PersistentSequential,
        CreateMode::Ephemeral => v1::CreateMode::Ephemeral,
        CreateMode::EphemeralSequential => v1::CreateMode::EphemeralSequential,
        CreateMode::Container => v1::CreateMode::Container,
        CreateMode::Ttl { .. } => v1::CreateMode::Ttl,
        CreateMode::TtlSequential { .. } => v1::CreateMode::TtlSequential,
    };
    (kind, mode.ttl_ms().unwrap_or(0))
}

/// The mode that the wire's two fields mean.
pub fn create_mode(mode: i32, ttl_ms: i64) -> Result<CreateMode, WireError> {
    let kind =
        v1::CreateMode::try_from(mode).map_err(|_| WireError::UnknownValue { field: "mode", value: mode })?;
    let mode = match kind {
        v1::CreateMode::Persistent => CreateMode::Persistent,
        v1::CreateMode::PersistentSequential => CreateMode::PersistentSequential,
        v1::CreateMode::Ephemeral => CreateMode::Ephemeral,
        v1::CreateMode::EphemeralSequential => CreateMode::EphemeralSequential,
        v1::CreateMode::Container => CreateMode::Container,
        v1::CreateMode::Ttl => CreateMode::Ttl { ttl_ms },
        v1::CreateMode::TtlSequential => CreateMode::TtlSequential { ttl_ms },
    };
    if mode.ttl_ms().is_none() && ttl_ms != 0 {
        return Err(WireError::Malformed { field: "ttl_ms", problem: "is only for the TTL modes" });
    }
    Ok(mode)
}

impl From<AclEntry> for v1::AclEntry {
    fn from(entry: AclEntry) -> v1::AclEntry {
        v1::AclEntry { permissions: entry.permissions.0.into(), scheme: entry.scheme, id: entry.id }
    }
}

impl TryFrom<v1::AclEntry> for AclEntry {
    type Error = WireError;

    fn try_from(entry: v1::AclEntry) -> Result<AclEntry, WireError> {
        let permissions = u8::try_from(entry.permissions)
            .ok()
            .filter(|bits| *bits <= Permissions::ALL.0)
            .ok_or(WireError::Malformed { field: "permissions", problem: "must be at most 31" })?;
        Ok(AclEntry { permissions: Permissions(permissions), scheme: entry.scheme, id: entry.id })
    }
}

impl From<Vec<AclEntry>> for v1::Acl {
    fn from(acl: Vec<AclEntry>) -> v1::Acl {
        v1::Acl { entries: acl.into_iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::Acl> for Vec<AclEntry> {
    type Error = WireError;

    fn try_from(acl: v1::Acl) -> Result<Vec<AclEntry>, WireError> {
        acl.entries.into_iter().map(TryInto::try_into).collect()
    }
}

/// A request's ACL: absent is the open one.
pub fn acl_or_open(acl: Option<v1::Acl>) -> Result<Vec<AclEntry>, WireError> {
    acl.map_or_else(|| Ok(AclEntry::open()), TryInto::try_into)
}

/// A request's ACL: the open one is left out.
pub fn acl_to_wire(acl: Vec<AclEntry>) -> Option<v1::Acl> {
    let is_open = match acl.as_slice() {
        [only] => only.permissions == Permissions::ALL && only.scheme == "world" && only.id == "anyone",
        _ => false,
    };
    (!is_open).then(|| acl.into())
}

impl From<Identity> for v1::Identity {
    fn from(identity: Identity) -> v1::Identity {
        v1::Identity { scheme: identity.scheme, id: identity.id }
    }
}

impl From<v1::Identity> for Identity {
    fn from(identity: v1::Identity) -> Identity {
        Identity { scheme: identity.scheme, id: identity.id }
    }
}

impl From<RequestId> for v1::RequestId {
    fn from(id: RequestId) -> v1::RequestId {
        v1::RequestId { issued_at_ms: id.issued.0, nonce: Bytes::copy_from_slice(&id.nonce) }
    }
}

impl TryFrom<v1::RequestId> for RequestId {
    type Error = WireError;

    fn try_from(id: v1::RequestId) -> Result<RequestId, WireError> {
        Ok(RequestId { issued: Timestamp(id.issued_at_ms), nonce: bytes16(&id.nonce, "request_id.nonce")? })
    }
}

/// A read's consistency as the wire states it: the default is left out.
pub fn consistency_to_wire(consistency: Consistency) -> Option<v1::Consistency> {
    use v1::consistency::Level;
    let (level, zxid) = match consistency {
        Consistency::Linearizable => return None,
        Consistency::Session => (Level::Session, 0),
        Consistency::AtLeast(zxid) => (Level::AtLeast, zxid.0),
    };
    Some(v1::Consistency { level: level.into(), zxid })
}

/// A read's consistency: absent is linearizable.
pub fn consistency_or_default(consistency: Option<v1::Consistency>) -> Result<Consistency, WireError> {
    use v1::consistency::Level;
    let Some(wire) = consistency else { return Ok(Consistency::default()) };
    let level = Level::try_from(wire.level)
        .map_err(|_| WireError::UnknownValue { field: "consistency.level", value: wire.level })?;
    Ok(match level {
        Level::Linearizable => Consistency::Linearizable,
        Level::Session => Consistency::Session,
        Level::AtLeast => Consistency::AtLeast(Zxid(wire.zxid)),
    })
}

impl From<WatchKind> for v1::WatchKind {
    fn from(kind: WatchKind) -> v1::WatchKind {
        match kind {
            WatchKind::Data => v1::WatchKind::Data,
            WatchKind::Exists => v1::WatchKind::Exists,
            WatchKind::Child => v1::WatchKind::Child,
            WatchKind::Persistent => v1::WatchKind::Persistent,
            WatchKind::Recursive => v1::WatchKind::Recursive,
        }
    }
}

/// A watch's kind where it may be left open: unspecified is any.
pub fn watch_kind_or_any(kind: i32) -> Result<Option<WatchKind>, WireError> {
    let wire =
        v1::WatchKind::try_from(kind).map_err(|_| WireError::UnknownValue { field: "kind", value: kind })?;
    Ok(match wire {
        v1::WatchKind::Unspecified => None,
        v1::WatchKind::Data => Some(WatchKind::Data),
        v1::WatchKind::Exists => Some(WatchKind::Exists),
        v1::WatchKind::Child => Some(WatchKind::Child),
        v1::WatchKind::Persistent => Some(WatchKind::Persistent),
        v1::WatchKind::Recursive => Some(WatchKind::Recursive),
    })
}

/// A watch's kind where there must be one.
pub fn watch_kind(kind: i32) -> Result<WatchKind, WireError> {
    watch_kind_or_any(kind)?.ok_or(WireError::Missing { field: "kind" })
}

/// The wire's value for a kind that may be left open.
pub fn watch_kind_or_any_to_wire(kind: Option<WatchKind>) -> i32 {
    kind.map_or(v1::WatchKind::Unspecified, Into::into).into()
}
