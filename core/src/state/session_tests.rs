//! What scripts cannot say briefly: a session's bound on ephemerals, and the end of a large one.

use super::{Answer, Applied, EPHEMERALS_MAX, State};
use crate::acl::AclEntry;
use crate::command::{CloseReason, Command, Create, MultiOperation, Operation, Origin, Stamp};
use crate::error::ErrorKind;
use crate::id::{AttachEpoch, MemberId, SessionId, WriteNumber};
use crate::znode::CreateMode;

fn apply(state: &mut State, origin: Origin, operation: Operation) -> Applied {
    state.apply(&Stamp::default(), &Command { origin, identities: vec![], operation })
}

fn write(state: &mut State, number: u64, operation: Operation) -> Applied {
    let origin = Origin::Session {
        session: SessionId(1),
        epoch: AttachEpoch(1),
        number: WriteNumber(number),
        acknowledged: WriteNumber(number - 1),
    };
    apply(state, origin, operation)
}

fn ephemeral(number: usize) -> Create {
    let mode = CreateMode::Ephemeral;
    Create { path: format!("/e{number}"), data: None, acl: AclEntry::open(), mode }
}

#[test]
fn a_session_owns_no_more_ephemerals_than_the_bound_and_they_all_go_at_once() {
    let mut state = State::new();
    let origin = Origin::Call { member: MemberId(1), ticket: 0, request: None };
    apply(&mut state, origin, Operation::OpenSession { timeout_ms: 4000, member: MemberId(1) });
    let nodes_before = state.tree.count();
    for round in 0..10 {
        let start = round * EPHEMERALS_MAX / 10;
        let creates = (start..start + EPHEMERALS_MAX / 10).map(|n| MultiOperation::Create(ephemeral(n)));
        let applied = write(&mut state, round as u64 + 1, Operation::Multi(creates.collect()));
        assert!(matches!(applied.answer, Answer::Reply(reply) if reply.result.is_ok()));
    }
    let applied = write(&mut state, 11, Operation::Create(ephemeral(EPHEMERALS_MAX)));
    let Answer::Reply(reply) = applied.answer else { panic!("refused by the rules, so a reply") };
    assert_eq!(reply.result.map_err(|error| error.kind), Err(ErrorKind::TooLarge));
    assert_eq!(state.counts().ephemerals, EPHEMERALS_MAX as u64);

    let zxid = state.zxid();
    let reason = CloseReason::Expired { epoch: AttachEpoch(1) };
    let end = Operation::CloseSession { session: SessionId(1), reason };
    let applied = apply(&mut state, Origin::House, end);
    assert_eq!(applied.ended_session, Some(SessionId(1)));
    assert_eq!(applied.zxid.0, zxid.0 + 1);
    assert_eq!(applied.changes.len(), EPHEMERALS_MAX);
    assert!(applied.changes.iter().zip(0..).all(|(change, ordinal)| change.position.ordinal == ordinal));
    assert_eq!((state.counts().ephemerals, state.tree.count()), (0, nodes_before));
    assert_eq!(state.digest(), state.recompute_digest());
}
