//! Request ids: once within the window, refused without a trace outside it or when the table is full.

use super::{Answer, State};
use crate::acl::AclEntry;
use crate::command::{Command, Create, Operation, Origin, RequestId, Stamp};
use crate::error::ErrorKind;
use crate::id::{MemberId, Timestamp};
use crate::settings::Setting;
use crate::znode::CreateMode;

const START: i64 = 10_000_000;

fn house(state: &mut State, time: i64, operation: Operation) {
    let stamp = Stamp { time: Timestamp(time), entropy: [0; 16] };
    state.apply(&stamp, &Command { origin: Origin::House, identities: vec![], operation });
}

fn call(state: &mut State, time: i64, issued: i64, nonce: u8) -> Answer {
    let create = Create {
        path: "/n-".into(),
        data: None,
        acl: AclEntry::open(),
        mode: CreateMode::PersistentSequential,
    };
    let request = Some(RequestId { issued: Timestamp(issued), nonce: [nonce; 16] });
    let origin = Origin::Call { member: MemberId(1), ticket: 1, request };
    let stamp = Stamp { time: Timestamp(time), entropy: [0; 16] };
    let operation = Operation::Create(create);
    state.apply(&stamp, &Command { origin, identities: vec![], operation }).answer
}

fn refusal(answer: Answer) -> ErrorKind {
    match answer {
        Answer::Stale(error) => error.kind,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_repeat_gets_the_first_answer_and_takes_no_zxid() {
    let mut state = State::new();
    let Answer::Reply(first) = call(&mut state, START, START, 1) else { panic!("a new id is applied") };
    let zxid = state.zxid();
    assert_eq!(call(&mut state, START + 5, START, 1), Answer::Repeat(first));
    assert_eq!(state.zxid(), zxid);
}

#[test]
fn an_id_older_than_the_window_is_refused_even_if_the_window_widens() {
    let mut state = State::new();
    house(&mut state, START, Operation::Set(Setting::RequestWindowMs(1_000)));
    call(&mut state, START, START, 1);
    let zxid = state.zxid();
    assert_eq!(refusal(call(&mut state, START + 1_001, START, 1)), ErrorKind::OutcomeUnknown);
    assert_eq!(state.zxid(), zxid);
    house(&mut state, START + 1_001, Operation::Set(Setting::RequestWindowMs(1_000_000)));
    assert_eq!(refusal(call(&mut state, START + 1_001, START, 1)), ErrorKind::OutcomeUnknown);
    assert!(matches!(call(&mut state, START + 1_001, START + 1, 1), Answer::Reply(_)));
}

#[test]
fn an_id_from_the_future_is_refused() {
    let mut state = State::new();
    house(&mut state, START, Operation::Set(Setting::RequestWindowMs(1_000)));
    assert_eq!(refusal(call(&mut state, START, START + 1_001, 1)), ErrorKind::BadArguments);
    assert!(matches!(call(&mut state, START, START + 1_000, 1), Answer::Reply(_)));
    assert_eq!(refusal(call(&mut state, START, i64::MAX, 1)), ErrorKind::BadArguments);
    assert_eq!(refusal(call(&mut state, START, i64::MIN, 1)), ErrorKind::OutcomeUnknown);
}

#[test]
fn a_refusal_that_asks_for_a_retry_is_not_what_the_retry_gets() {
    let mut state = State::new();
    let refuse = |state: &mut State, nonce: u8, kind: ErrorKind| {
        let request = Some(RequestId { issued: Timestamp(START), nonce: [nonce; 16] });
        let origin = Origin::Call { member: MemberId(1), ticket: 1, request };
        let stamp = Stamp { time: Timestamp(START), entropy: [0; 16] };
        let operation = Operation::Refused(kind.into());
        state.apply(&stamp, &Command { origin, identities: vec![], operation }).answer
    };
    let zxid = state.zxid();
    assert_eq!(refusal(refuse(&mut state, 1, ErrorKind::Overloaded)), ErrorKind::Overloaded);
    assert_eq!((state.zxid(), state.counts().request_ids), (zxid, 0));
    let Answer::Reply(first) = call(&mut state, START, START, 1) else { panic!("nothing had happened") };
    // What has happened is still the answer, whatever the leader says meanwhile.
    assert_eq!(refuse(&mut state, 1, ErrorKind::Overloaded), Answer::Repeat(first));
    // Any other refusal is final.
    assert!(matches!(refuse(&mut state, 2, ErrorKind::TooLarge), Answer::Reply(_)));
    assert!(matches!(call(&mut state, START, START, 2), Answer::Repeat(_)));
}

#[test]
fn a_full_table_refuses_new_ids_until_old_ones_leave_the_window() {
    let mut state = State::new();
    house(&mut state, START, Operation::Set(Setting::RequestWindowMs(1_000)));
    house(&mut state, START, Operation::Set(Setting::RequestTableBytes(500)));
    let mut accepted = 0;
    while let Answer::Reply(_) = call(&mut state, START, START, accepted) {
        accepted += 1;
    }
    assert!((3..10).contains(&accepted), "{accepted} entries in 500 bytes");
    let (zxid, counts) = (state.zxid(), state.counts());
    assert_eq!(refusal(call(&mut state, START, START, 200)), ErrorKind::Overloaded);
    assert_eq!((state.zxid(), state.counts()), (zxid, counts));
    // What is in the table is still answered.
    assert!(matches!(call(&mut state, START, START, 0), Answer::Repeat(_)));
    assert!(matches!(call(&mut state, START + 1_001, START + 1_001, 200), Answer::Reply(_)));
    assert_eq!(state.counts().request_ids, 1);
}
