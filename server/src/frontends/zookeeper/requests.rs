//! A request off the wire becomes what the coordinator takes, and what its answer will look like.
//! The rules themselves (SEMANTICS.md) are the core's; only what the wire alone can say wrong is
//! judged here: codes, flags, modes, shapes.

use bytes::Bytes;
use quorate_core::command::{CloseReason, Create, MultiOperation, Operation};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, Zxid};
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use quorate_core::znode::CreateMode;

use super::jute::{Malformed, Reader};
use super::records::{opcode, read_acl};

/// The one name that a connection's watches have here: ZooKeeper's events name only paths.
const WATCH: WatchId = WatchId(0);

/// What flags become that name no mode: a TTL that cannot be.
const NO_MODE: CreateMode = CreateMode::Ttl { ttl_ms: i64::MIN };

/// What the answer to a request looks like when it succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A header and nothing more.
    Empty,
    /// The created path.
    Path,
    /// The created path and its Stat.
    PathAndStat,
    /// A Stat.
    Stat,
    /// Data and Stat.
    Data,
    /// ACL and Stat.
    Acl,
    /// Children.
    Children,
    /// Children and the parent's Stat.
    ChildrenAndStat,
    /// Paths.
    Paths,
    /// A count.
    Count,
    /// The path that was asked about.
    Synced,
    /// Scheme and id of each identity.
    Identities,
    /// A zero.
    Zero,
    /// One result for each of these operations.
    Multi(Vec<i32>),
    /// One result for each of these reads.
    MultiRead(Vec<i32>),
}

/// Which members there shall be, in ZooKeeper's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersAsked {
    /// `server.N=…`, comma-separated.
    pub joining: Option<String>,
    /// Ids, comma-separated.
    pub leaving: Option<String>,
    /// All of them, instead of the two above.
    pub members: Option<String>,
    /// The version that this changes; −1 for any.
    pub version: i64,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A write.
    Write(Operation),
    /// A read.
    Read(ReadRequest),
    /// Proof of an identity.
    Auth {
        /// Its scheme.
        scheme: String,
        /// Its credential.
        credential: Bytes,
    },
    /// Watches of an earlier connection.
    Rearm {
        /// What the client has seen.
        since: Zxid,
        /// Kinds and paths.
        watches: Vec<(WatchKind, String)>,
    },
    /// Other members.
    Reconfig(MembersAsked),
    /// Alive.
    Ping,
    /// Cannot be understood, or not allowed; whether the connection ends behind the answer.
    Refused(Error, bool),
}

/// Reads a request's body.
pub fn read(code: i32, reader: &mut Reader, session: SessionId) -> (Asked, Shape) {
    match understand(code, reader, session) {
        Ok(asked) => asked,
        Err(Malformed) => {
            let error = Error::new(ErrorKind::MarshallingError, format!("operation {code}: malformed"));
            // Of all that is malformed, ZooKeeper counts only a multi as a transaction.
            match code {
                opcode::MULTI => (Asked::Write(Operation::Refused(error)), Shape::Empty),
                _ => (Asked::Refused(error, false), Shape::Empty),
            }
        }
    }
}

fn understand(code: i32, reader: &mut Reader, session: SessionId) -> Result<(Asked, Shape), Malformed> {
    let write = |operation, shape| Ok((Asked::Write(operation), shape));
    let read = |request, shape| Ok((Asked::Read(request), shape));
    match code {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            let shape = if code == opcode::CREATE { Shape::Path } else { Shape::PathAndStat };
            let create = read_create(code, reader)?
                .map(|create| Create { mode: mode_by_operation(code, create.mode), ..create });
            let operation = create.map_or_else(no_path, Operation::Create);
            write(operation, shape)
        }
        opcode::DELETE => {
            let (path, version) = (reader.nullable_string()?, reader.int()?);
            write(path.map_or_else(no_path, |path| Operation::Delete { path, version }), Shape::Empty)
        }
        opcode::SET_DATA => {
            // Here a null path is a bad one.
            let path = reader.nullable_string()?.unwrap_or_default();
            let (data, version) = (reader.buffer()?, reader.int()?);
            write(Operation::SetData { path, data, version }, Shape::Stat)
        }
        opcode::SET_ACL => {
            let path = reader.nullable_string()?.unwrap_or_default();
            let (acl, version) = (read_acl(reader)?, reader.int()?);
            write(Operation::SetAcl { path, acl, version }, Shape::Stat)
        }
        opcode::MULTI => read_multi(reader),
        opcode::CLOSE_SESSION => {
            write(Operation::CloseSession { session, reason: CloseReason::ByOwner }, Shape::Empty)
        }
        opcode::EXISTS => {
            let (path, watch) = read_watched(reader)?;
            read(ReadRequest::Exists { path, watch }, Shape::Stat)
        }
        opcode::GET_DATA => {
            let (path, watch) = read_watched(reader)?;
            read(ReadRequest::Get { path, watch }, Shape::Data)
        }
        opcode::GET_CHILDREN => read(read_list(reader)?, Shape::Children),
        opcode::GET_CHILDREN2 => read(read_list(reader)?, Shape::ChildrenAndStat),
        opcode::GET_ACL => read(ReadRequest::GetAcl { path: reader.string()? }, Shape::Acl),
        opcode::SYNC => read(ReadRequest::Sync { path: reader.string()? }, Shape::Synced),
        opcode::GET_EPHEMERALS => read(
            ReadRequest::Ephemerals { prefix: reader.nullable_string()?.unwrap_or_default() },
            Shape::Paths,
        ),
        opcode::GET_ALL_CHILDREN_NUMBER => {
            read(ReadRequest::CountDescendants { path: reader.string()? }, Shape::Count)
        }
        opcode::WHO_AM_I => read(ReadRequest::WhoAmI, Shape::Identities),
        opcode::MULTI_READ => read_multi_read(reader),
        opcode::ADD_WATCH => {
            let (path, mode) = (reader.string()?, reader.int()?);
            let kind = match mode {
                0 => WatchKind::Persistent,
                1 => WatchKind::Recursive,
                _ => return Err(Malformed),
            };
            let request = ReadRequest::AddWatch { id: WATCH, path, kind, since: None, with_value: false };
            read(request, Shape::Zero)
        }
        opcode::CHECK_WATCHES | opcode::REMOVE_WATCHES => {
            // Nobody watches a null path.
            let path = reader.nullable_string()?.unwrap_or_default();
            let kind = match reader.int()? {
                1 => Some(WatchKind::Child),
                2 => Some(WatchKind::Data),
                3 => None,
                4 => Some(WatchKind::Persistent),
                5 => Some(WatchKind::Recursive),
                _ => return Err(Malformed),
            };
            match code {
                opcode::CHECK_WATCHES => read(ReadRequest::CheckWatch { path, kind }, Shape::Empty),
                _ => read(ReadRequest::RemoveWatch { id: None, path, kind }, Shape::Empty),
            }
        }
        opcode::SET_WATCHES | opcode::SET_WATCHES2 => {
            let since = Zxid(reader.long()?.max(0).unsigned_abs());
            let mut kinds = vec![WatchKind::Data, WatchKind::Exists, WatchKind::Child];
            if code == opcode::SET_WATCHES2 {
                kinds.extend([WatchKind::Persistent, WatchKind::Recursive]);
            }
            let mut watches = Vec::new();
            for kind in kinds {
                watches.extend(reader.vector(4, Reader::string)?.into_iter().map(|path| (kind, path)));
            }
            Ok((Asked::Rearm { since, watches }, Shape::Empty))
        }
        opcode::AUTH => {
            let _kind = reader.int()?;
            let scheme = reader.nullable_string()?.unwrap_or_default();
            let credential = reader.buffer()?.unwrap_or_default();
            Ok((Asked::Auth { scheme, credential }, Shape::Empty))
        }
        opcode::PING => Ok((Asked::Ping, Shape::Empty)),
        opcode::RECONFIG => {
            let (joining, leaving) = (reader.nullable_string()?, reader.nullable_string()?);
            let (members, version) = (reader.nullable_string()?, reader.long()?);
            Ok((Asked::Reconfig(MembersAsked { joining, leaving, members, version }), Shape::Data))
        }
        _ => {
            let error = Error::new(ErrorKind::Unimplemented, format!("operation {code}"));
            Ok((Asked::Refused(error, true), Shape::Empty))
        }
    }
}

/// A write without a path: refused, but counted as a transaction.
fn no_path() -> Operation {
    Operation::Refused(Error::new(ErrorKind::MarshallingError, "path: null"))
}

fn read_watched(reader: &mut Reader) -> Result<(String, Option<WatchId>), Malformed> {
    Ok((reader.string()?, reader.boolean()?.then_some(WATCH)))
}

fn read_list(reader: &mut Reader) -> Result<ReadRequest, Malformed> {
    let (path, watch) = read_watched(reader)?;
    Ok(ReadRequest::List { path, after: None, limit: 0, with_stat: false, with_data: false, watch })
}

/// A create of any kind. Flags that are none become [`NO_MODE`]: the core refuses that as bad
/// arguments before it looks at anything else, as ZooKeeper refuses the flags.
/// `None` for a null path.
fn read_create(code: i32, reader: &mut Reader) -> Result<Option<Create>, Malformed> {
    let path = reader.nullable_string()?;
    let data = reader.buffer()?;
    let acl = read_acl(reader)?;
    let flags = reader.int()?;
    let ttl_ms = if code == opcode::CREATE_TTL { Some(reader.long()?) } else { None };
    let mode = match (flags, ttl_ms) {
        (0, None) => CreateMode::Persistent,
        (1, None) => CreateMode::Ephemeral,
        (2, None) => CreateMode::PersistentSequential,
        (3, None) => CreateMode::EphemeralSequential,
        (4, None) => CreateMode::Container,
        (5, Some(ttl_ms)) => CreateMode::Ttl { ttl_ms },
        (6, Some(ttl_ms)) => CreateMode::TtlSequential { ttl_ms },
        _ => NO_MODE,
    };
    Ok(path.map(|path| Create { path, data, acl, mode }))
}

/// What becomes of a create on its own: whether it makes a container says its operation, not its flags
/// (in a multi the flags alone say what is made).
fn mode_by_operation(code: i32, mode: CreateMode) -> CreateMode {
    match (code, mode) {
        (opcode::CREATE | opcode::CREATE2, CreateMode::Container) => CreateMode::Persistent,
        (opcode::CREATE_CONTAINER, CreateMode::Persistent | CreateMode::Ephemeral) => CreateMode::Container,
        (_, mode) => mode,
    }
}

/// The header before each operation of a multi: its code, or `None` behind the last.
fn read_multi_header(reader: &mut Reader) -> Result<Option<i32>, Malformed> {
    let (code, is_done, _error) = (reader.int()?, reader.boolean()?, reader.int()?);
    Ok((!is_done).then_some(code))
}

fn read_multi(reader: &mut Reader) -> Result<(Asked, Shape), Malformed> {
    let (mut operations, mut codes) = (Vec::new(), Vec::new());
    while let Some(code) = read_multi_header(reader)? {
        let operation = match code {
            opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
                let create = read_create(code, reader)?.ok_or(Malformed)?;
                if create.mode == NO_MODE && code != opcode::CREATE_TTL {
                    return Err(Malformed);
                }
                MultiOperation::Create(create)
            }
            opcode::DELETE => {
                let (path, version) = (reader.string()?, reader.int()?);
                MultiOperation::Delete { path, version }
            }
            opcode::SET_DATA => {
                let (path, data, version) = (reader.string()?, reader.buffer()?, reader.int()?);
                MultiOperation::SetData { path, data, version }
            }
            opcode::CHECK => {
                let (path, version) = (reader.string()?, reader.int()?);
                MultiOperation::Check { path, version }
            }
            _ => return Err(Malformed),
        };
        codes.push(code);
        operations.push(operation);
    }
    Ok((Asked::Write(Operation::Multi(operations)), Shape::Multi(codes)))
}

fn read_multi_read(reader: &mut Reader) -> Result<(Asked, Shape), Malformed> {
    let (mut requests, mut codes) = (Vec::new(), Vec::new());
    while let Some(code) = read_multi_header(reader)? {
        requests.push(match code {
            opcode::GET_DATA => ReadRequest::Get { path: read_watched(reader)?.0, watch: None },
            opcode::GET_CHILDREN => {
                let path = read_watched(reader)?.0;
                let (after, watch) = (None, None);
                ReadRequest::List { path, after, limit: 0, with_stat: false, with_data: false, watch }
            }
            _ => return Err(Malformed),
        });
        codes.push(code);
    }
    Ok((Asked::Read(ReadRequest::Multi(requests)), Shape::MultiRead(codes)))
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::super::jute::put_string;
    use super::*;

    /// The mode of a create of this operation and flags, on its own or in a multi; `None` if it is refused.
    fn mode(code: i32, flags: i32, is_in_multi: bool) -> Option<CreateMode> {
        let mut record = BytesMut::new();
        if is_in_multi {
            record.put_i32(code);
            record.put_slice(&[0, 0, 0, 0, 0]);
        }
        put_string(&mut record, "/a");
        record.put_i32(-1);
        record.put_i32(-1);
        record.put_i32(flags);
        if is_in_multi {
            record.put_slice(&[0, 0, 0, 0, 1, 0, 0, 0, 0]);
        }
        let code = if is_in_multi { opcode::MULTI } else { code };
        let mode = match read(code, &mut Reader::new(record.freeze()), SessionId(1)).0 {
            Asked::Write(Operation::Create(create)) => create.mode,
            Asked::Write(Operation::Multi(operations)) => match &operations[..] {
                [MultiOperation::Create(create)] => create.mode,
                other => panic!("{other:?}"),
            },
            _ => return None,
        };
        (mode != NO_MODE).then_some(mode)
    }

    #[test]
    fn the_operation_says_what_is_a_container_and_in_a_multi_the_flags_do() {
        for code in [opcode::CREATE, opcode::CREATE2] {
            assert_eq!(mode(code, 4, false), Some(CreateMode::Persistent));
            assert_eq!(mode(code, 4, true), Some(CreateMode::Container));
            assert_eq!(mode(code, 1, false), Some(CreateMode::Ephemeral));
        }
        for flags in [0, 1, 4] {
            assert_eq!(mode(opcode::CREATE_CONTAINER, flags, false), Some(CreateMode::Container));
        }
        assert_eq!(mode(opcode::CREATE_CONTAINER, 0, true), Some(CreateMode::Persistent));
        for flags in [-1, 5, 7] {
            assert_eq!(mode(opcode::CREATE_CONTAINER, flags, false), None);
        }
    }
}
