//! Whatever the core says arrives unchanged, and nonsense on the wire is refused by name.

use bytes::Bytes;
use prost::Message;
use quorate_core::acl::{AclEntry, Identity, Permissions};
use quorate_core::change::{EventBody, EventKind, Value, WatchEvent};
use quorate_core::command::{CloseReason, Create, Guard, MultiOperation, Operation, RequestId};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, MemberId, Position, SessionId, Timestamp, WriteNumber, Zxid};
use quorate_core::reply::{Child, ReadReply, ReadResult, SessionInfo, WriteReply, WriteResult};
use quorate_core::request::{Consistency, ReadRequest, WatchId, WatchKind};
use quorate_core::znode::{CreateMode, Stat};

use super::*;
use crate::v1;

const SESSION: SessionId = SessionId(0xfeed);

fn stat() -> Stat {
    Stat {
        czxid: Zxid(1),
        mzxid: Zxid(2),
        pzxid: Zxid(3),
        ctime: Timestamp(4),
        mtime: Timestamp(5),
        version: 6,
        cversion: -7,
        aversion: 8,
        ephemeral_owner: SessionId(u64::MAX),
        data_length: 10,
        num_children: 11,
    }
}

fn acl() -> Vec<AclEntry> {
    vec![AclEntry { permissions: Permissions::READ, scheme: "digest".into(), id: "bob:x".into() }]
}

fn create(mode: CreateMode, data: Option<Bytes>, acl: Vec<AclEntry>) -> Create {
    Create { path: "/a".into(), data, acl, mode }
}

/// Through bytes and back, as between two processes.
fn over_the_wire<M: Message + Default>(message: M) -> M {
    M::decode(message.encode_to_vec().as_slice()).expect("a message decodes from its own encoding")
}

#[test]
fn every_write_arrives_unchanged() {
    let path = || "/a".to_string();
    let data = || Some(Bytes::from_static(b"data"));
    let mut writes = vec![
        Operation::Delete { path: path(), version: -1 },
        Operation::Delete { path: path(), version: 0 },
        Operation::DeleteRecursive { path: path(), version: 3, limit: 7 },
        Operation::SetData { path: path(), data: None, version: -1 },
        Operation::SetData { path: path(), data: Some(Bytes::new()), version: 2 },
        Operation::SetAcl { path: path(), acl: acl(), version: 1 },
        Operation::SetAcl { path: path(), acl: vec![], version: -1 },
        Operation::SetAcl { path: path(), acl: AclEntry::open(), version: -1 },
        Operation::CloseSession { session: SESSION, reason: CloseReason::ByOwner },
        Operation::Multi(vec![]),
        Operation::Multi(vec![
            MultiOperation::Create(create(CreateMode::Ephemeral, data(), acl())),
            MultiOperation::Delete { path: path(), version: 4 },
            MultiOperation::SetData { path: path(), data: data(), version: -1 },
            MultiOperation::Check { path: path(), version: 0 },
            MultiOperation::Guard(Guard::Lock { path: path(), token: Zxid(9) }),
            MultiOperation::Guard(Guard::Modified { path: path(), zxid: Zxid(9) }),
            MultiOperation::Guard(Guard::Created { path: path(), zxid: Zxid(9) }),
            MultiOperation::Guard(Guard::Absent { path: path() }),
        ]),
    ];
    for mode in [
        CreateMode::Persistent,
        CreateMode::PersistentSequential,
        CreateMode::Ephemeral,
        CreateMode::EphemeralSequential,
        CreateMode::Container,
        CreateMode::Ttl { ttl_ms: 5 },
        CreateMode::TtlSequential { ttl_ms: -1 },
    ] {
        writes.push(Operation::Create(create(mode, data(), AclEntry::open())));
        writes.push(Operation::Create(create(mode, None, vec![])));
    }
    for operation in writes {
        let number = WriteNumber(17);
        let sent = over_the_wire(write_request(number, operation.clone()).expect("sessions may say this"));
        assert_eq!(SessionRequest::from_wire(sent, SESSION), Ok(SessionRequest::Write { number, operation }));
    }
}

#[test]
fn every_read_arrives_unchanged() {
    let path = || "/a".to_string();
    let get = || ReadRequest::Get { path: path(), watch: Some(WatchId(3)) };
    let list = || ReadRequest::List {
        path: path(),
        after: Some("b".into()),
        limit: 9,
        with_stat: true,
        with_data: true,
        watch: Some(WatchId(0)),
    };
    let mut reads = vec![
        get(),
        list(),
        ReadRequest::Get { path: path(), watch: None },
        ReadRequest::Exists { path: path(), watch: Some(WatchId(4)) },
        ReadRequest::GetAcl { path: path() },
        ReadRequest::Ephemerals { prefix: "/".into() },
        ReadRequest::CountDescendants { path: path() },
        ReadRequest::Multi(vec![get(), list()]),
        ReadRequest::WhoAmI,
        ReadRequest::Sync { path: path() },
        ReadRequest::Sessions,
        ReadRequest::RemoveWatch { id: None, path: path(), kind: None },
        ReadRequest::CheckWatch { path: path(), kind: Some(WatchKind::Child) },
    ];
    for kind in
        [WatchKind::Data, WatchKind::Exists, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive]
    {
        let since = Some(Position { zxid: Zxid(0), ordinal: 0 });
        reads.push(ReadRequest::AddWatch { id: WatchId(1), path: path(), kind, since, with_value: true });
        reads.push(ReadRequest::RemoveWatch { id: Some(WatchId(1)), path: path(), kind: Some(kind) });
    }
    for request in reads {
        for consistency in [Consistency::Linearizable, Consistency::Session, Consistency::AtLeast(Zxid(7))] {
            let sent = over_the_wire(read_request(5, request.clone(), consistency).expect("no odd multi"));
            assert_eq!(
                SessionRequest::from_wire(sent, SESSION),
                Ok(SessionRequest::Read { xid: 5, request: request.clone(), consistency })
            );
        }
    }
}

#[test]
fn every_reply_arrives_unchanged() {
    let error = Error::new(ErrorKind::BadVersion, "/a is at 3").at_operation(2);
    for result in [
        Ok(WriteResult::Created { path: "/a0000000001".into(), stat: stat() }),
        Ok(WriteResult::Deleted),
        Ok(WriteResult::DeletedRecursive { count: 0 }),
        Ok(WriteResult::DataSet(stat())),
        Ok(WriteResult::AclSet(stat())),
        Ok(WriteResult::Checked),
        Ok(WriteResult::Multi(vec![WriteResult::Checked, WriteResult::Deleted])),
        Ok(WriteResult::SessionClosed),
        Ok(WriteResult::Done),
        Err(error.clone()),
    ] {
        let (number, reply) = (WriteNumber(8), WriteReply { zxid: Zxid(99), result });
        let sent = over_the_wire(reply_to_write(number, reply.clone()));
        assert_eq!(SessionReply::try_from(sent), Ok(SessionReply::Write { number, reply }));
    }
    for result in [
        Ok(ReadResult::Data { data: Some(Bytes::new()), stat: stat() }),
        Ok(ReadResult::Data { data: None, stat: stat() }),
        Ok(ReadResult::Exists(stat())),
        Ok(ReadResult::Acl { acl: acl(), stat: stat() }),
        Ok(ReadResult::Children {
            children: vec![Child {
                name: "b".into(),
                stat: Some(stat()),
                data: Some(Bytes::from_static(b"x")),
            }],
            stat: stat(),
            more: true,
        }),
        Ok(ReadResult::Ephemerals(vec!["/e".into()])),
        Ok(ReadResult::Count(0)),
        Ok(ReadResult::Multi(vec![Ok(ReadResult::Count(1)), Err(error.clone())])),
        Ok(ReadResult::Identities(vec![Identity { scheme: "ip".into(), id: "::1".into() }])),
        Ok(ReadResult::Synced("/".into())),
        Ok(ReadResult::Watch),
        Ok(ReadResult::Sessions(vec![SessionInfo {
            session: SESSION,
            member: MemberId(3),
            epoch: AttachEpoch(2),
            timeout_ms: 4000,
            ephemerals: 1,
        }])),
        Err(error),
    ] {
        let reply = ReadReply { zxid: Zxid(99), result };
        let sent = over_the_wire(reply_to_read(4, reply.clone()));
        assert_eq!(SessionReply::try_from(sent), Ok(SessionReply::Read { xid: 4, reply }));
    }
}

#[test]
fn every_event_arrives_with_its_value_only_if_asked_for() {
    for kind in [
        EventKind::NodeCreated,
        EventKind::NodeDeleted,
        EventKind::NodeDataChanged,
        EventKind::NodeChildrenChanged,
    ] {
        for value in [Value::Kept(None), Value::Kept(Some(Bytes::from_static(b"v"))), Value::NotKept] {
            let event = WatchEvent {
                body: std::sync::Arc::new(EventBody {
                    position: Position { zxid: Zxid(5), ordinal: 1 },
                    kind,
                    path: "/a".into(),
                    stat: stat(),
                    value,
                }),
                with_value: true,
                watches: vec![WatchId(1), WatchId(u64::MAX)],
            };
            assert_eq!(WatchEvent::try_from(over_the_wire(v1::WatchEvent::from(&event))), Ok(event.clone()));
            let silent = WatchEvent { with_value: false, ..event };
            assert_eq!(v1::WatchEvent::from(&silent).value, None);
        }
    }
}

#[test]
fn every_error_survives_a_grpc_status() {
    for kind in super::errors::ALL_KINDS {
        let error = Error::new(*kind, "why").at_operation(0);
        let status = status_from_error(&error);
        assert_eq!(error_from_status(&status), error);
        assert_eq!(status.code() == tonic::Code::Unavailable, {
            matches!(kind, ErrorKind::MemberBehind | ErrorKind::Unavailable)
        });
    }
}

#[test]
fn a_status_without_detail_never_claims_that_nothing_happened() {
    for code in (0..=16).map(tonic::Code::from) {
        let error = error_from_status(&tonic::Status::new(code, "from a proxy"));
        assert!(!error.kind.is_retryable(), "{code:?} became {error}");
    }
}

#[test]
fn nonsense_is_refused_by_the_name_of_its_field() {
    let refused =
        |request: v1::Request| SessionRequest::from_wire(request, SESSION).expect_err("nonsense").to_string();
    use v1::request::Operation as Wire;
    let request =
        |operation| v1::Request { write_number: 1, operation: Some(operation), ..Default::default() };

    assert_eq!(refused(v1::Request::default()), "requests.operation is missing");
    assert_eq!(
        refused(request(Wire::Create(v1::Create { mode: 77, ..Default::default() }))),
        "mode has the unknown value 77"
    );
    assert_eq!(
        refused(request(Wire::Create(v1::Create { ttl_ms: 1, ..Default::default() }))),
        "ttl_ms is only for the TTL modes"
    );
    let entry = v1::AclEntry { permissions: 32, ..Default::default() };
    assert_eq!(
        refused(request(Wire::SetAcl(v1::SetAcl {
            acl: Some(v1::Acl { entries: vec![entry] }),
            ..Default::default()
        }))),
        "permissions must be at most 31"
    );
    assert_eq!(refused(request(Wire::AddWatch(v1::AddWatch::default()))), "kind is missing");
    assert_eq!(
        refused(request(Wire::Multi(v1::Multi { operations: vec![v1::MultiOperation::default()] }))),
        "operations.operation is missing"
    );
    let mut unnumbered = request(Wire::Delete(v1::Delete::default()));
    unnumbered.write_number = 0;
    assert_eq!(refused(unnumbered), "requests.write_number is missing");
    let short = v1::RequestId { issued_at_ms: 1, nonce: Bytes::from_static(b"short") };
    assert_eq!(
        RequestId::try_from(short).expect_err("short").to_string(),
        "request_id.nonce must have 16 bytes"
    );
}

#[test]
fn the_cluster_s_own_operations_are_not_for_sessions() {
    assert!(write_request(WriteNumber(1), Operation::DigestMark).is_err());
    let expiry = CloseReason::Expired { epoch: AttachEpoch(1) };
    assert!(
        write_request(WriteNumber(1), Operation::CloseSession { session: SESSION, reason: expiry }).is_err()
    );
}
