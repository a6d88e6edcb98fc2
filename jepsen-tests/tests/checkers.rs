//! Every checker rejects a history that is known to be bad, accepts one that is good, and never
//! calls "nothing seen" or "unknown" a pass.

mod story;

use std::time::Duration;

use jepsen_tests::checkers::availability::Availability;
use jepsen_tests::checkers::digest::Digest;
use jepsen_tests::checkers::fencing::Fencing;
use jepsen_tests::checkers::linearizable::Linearizable;
use jepsen_tests::checkers::sequence::Sequence;
use jepsen_tests::checkers::set::Set;
use jepsen_tests::checkers::watch::Watch;
use jepsen_tests::history::{History, Kind, NEMESIS, Operation, Process};
use story::Story;

const REGISTER: Linearizable = Linearizable { initial: (0, 0) };

fn read(value: Option<(u64, i32)>) -> Operation {
    Operation::Read { key: 1, value }
}

fn write(value: u64, version: Option<i32>) -> Operation {
    Operation::Write { key: 1, value, version }
}

fn compare_and_set(expected: i32, value: u64, applied: Option<bool>) -> Operation {
    Operation::CompareAndSet { key: 1, expected, value, applied }
}

// --- linearizable -------------------------------------------------------------------------------

#[test]
fn a_read_may_see_a_write_that_is_under_way_or_not() {
    Story::default()
        .invoke(1, write(5, None))
        .alone(2, read(None), read(Some((0, 0))))
        .alone(2, read(None), read(Some((5, 1))))
        .ok(1, write(5, Some(1)))
        .alone(2, read(None), read(Some((5, 1))))
        .is_valid(REGISTER);
}

#[test]
fn a_stale_read_is_rejected() {
    Story::default()
        .alone(1, write(5, None), write(5, Some(1)))
        .alone(2, read(None), read(Some((0, 0))))
        .is_rejected(REGISTER, "register 1");
}

#[test]
fn a_value_that_goes_back_is_rejected() {
    Story::default()
        .invoke(1, write(5, None))
        .alone(2, read(None), read(Some((5, 1))))
        .alone(3, read(None), read(Some((0, 0))))
        .ok(1, write(5, Some(1)))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn a_lost_write_is_rejected() {
    Story::default()
        .alone(1, write(5, None), write(5, Some(1)))
        .alone(1, write(6, None), write(6, Some(1)))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn a_write_applied_twice_is_rejected() {
    Story::default()
        .alone(1, write(5, None), write(5, Some(1)))
        .alone(2, read(None), read(Some((5, 2))))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn two_successful_compare_and_sets_of_one_version_are_rejected() {
    Story::default()
        .invoke(1, compare_and_set(0, 7, None))
        .invoke(2, compare_and_set(0, 8, None))
        .ok(1, compare_and_set(0, 7, Some(true)))
        .ok(2, compare_and_set(0, 8, Some(true)))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn a_compare_and_set_refused_without_a_reason_is_rejected() {
    Story::default()
        .alone(1, compare_and_set(0, 7, None), compare_and_set(0, 7, Some(false)))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn an_unknown_write_may_have_happened_late_or_never() {
    let story = Story::default().invoke(1, write(5, None)).info(1, write(5, None)).alone(
        2,
        read(None),
        read(Some((0, 0))),
    );
    story.is_valid(REGISTER);
    Story(story.0).alone(2, read(None), read(Some((5, 1)))).is_valid(REGISTER);
}

#[test]
fn an_unknown_write_cannot_happen_twice() {
    Story::default()
        .invoke(1, write(5, None))
        .info(1, write(5, None))
        .alone(2, read(None), read(Some((5, 1))))
        .alone(2, write(6, None), write(6, Some(2)))
        .alone(2, read(None), read(Some((5, 3))))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn a_refused_write_must_not_be_seen() {
    Story::default()
        .invoke(1, write(5, None))
        .fail(1, write(5, None))
        .alone(2, read(None), read(Some((5, 1))))
        .is_rejected(REGISTER, "no order");
}

#[test]
fn an_answered_read_without_a_value_is_rejected() {
    Story::default().alone(1, read(None), read(None)).is_rejected(REGISTER, "no order");
    Story::default().alone(1, read(None), read(Some((0, 0)))).invoke(2, read(None)).is_valid(REGISTER);
}

#[test]
fn keys_are_judged_each_by_itself() {
    Story::default()
        .alone(1, write(5, None), write(5, Some(1)))
        .alone(2, Operation::Read { key: 2, value: None }, Operation::Read { key: 2, value: Some((0, 0)) })
        .is_valid(REGISTER);
}

#[test]
fn a_long_concurrent_history_is_judged_in_time() {
    // Five clients, a thousand rounds: every client's write of a round overlaps all others'.
    let mut story = Story::default();
    let mut version = 0;
    for round in 0..1000_u64 {
        for process in 0..5 {
            story = story.invoke(process, write(round * 5 + u64::from(process), None));
        }
        for process in (0..5).rev() {
            version += 1;
            story = story.ok(process, write(round * 5 + u64::from(process), Some(version)));
        }
    }
    story.is_valid(REGISTER);
    story.alone(9, read(None), read(Some((1, 1)))).is_rejected(REGISTER, "no order");
}

#[test]
fn a_history_without_operations_proves_nothing() {
    Story::default().is_unknown(REGISTER);
    Story::default().invoke(1, write(5, None)).info(1, write(5, None)).is_unknown(REGISTER);
}

// --- set ----------------------------------------------------------------------------------------

fn add(element: u64) -> Operation {
    Operation::Add { element }
}

fn elements(elements: &[u64]) -> Operation {
    Operation::ReadSet { elements: Some(elements.to_vec()) }
}

const READ_SET: Operation = Operation::ReadSet { elements: None };

fn additions() -> Story {
    Story::default()
        .alone(1, add(1), add(1))
        .invoke(1, add(2))
        .info(1, add(2))
        .invoke(1, add(3))
        .fail(1, add(3))
}

#[test]
fn an_unknown_addition_may_be_there_or_not() {
    additions().alone(2, READ_SET, elements(&[1])).is_valid(Set);
    additions().alone(2, READ_SET, elements(&[1, 2])).is_valid(Set);
}

#[test]
fn a_lost_element_is_rejected() {
    additions().alone(2, READ_SET, elements(&[2])).is_rejected(Set, "element 1 was acknowledged and is lost");
}

#[test]
fn an_element_that_nobody_added_is_rejected() {
    additions().alone(2, READ_SET, elements(&[1, 9])).is_rejected(Set, "nobody added element 9");
}

#[test]
fn a_refused_element_that_is_there_is_rejected() {
    additions().alone(2, READ_SET, elements(&[1, 3])).is_rejected(Set, "element 3 was refused");
}

#[test]
fn an_element_of_unknown_outcome_that_was_read_must_stay() {
    let read = || additions().alone(2, READ_SET, elements(&[1, 2]));
    read().alone(2, READ_SET, elements(&[1])).is_rejected(Set, "element 2 was read and is lost");
    // One that was under way with it may have come before.
    additions().invoke(3, READ_SET).alone(2, READ_SET, elements(&[1, 2])).ok(3, elements(&[1])).is_valid(Set);
}

#[test]
fn a_set_that_nobody_read_at_the_end_proves_nothing() {
    additions().is_unknown(Set);
    additions().alone(2, READ_SET, elements(&[1])).alone(1, add(4), add(4)).is_unknown(Set);
}

// --- sequence -----------------------------------------------------------------------------------

fn create(tag: u64, number: Option<u64>) -> Operation {
    Operation::Sequence { tag, number }
}

fn nodes(nodes: &[(u64, u64)]) -> Operation {
    Operation::ReadSequence { nodes: Some(nodes.to_vec()) }
}

const LIST: Operation = Operation::ReadSequence { nodes: None };

fn creates() -> Story {
    Story::default()
        .alone(1, create(70, None), create(70, Some(0)))
        .alone(1, create(71, None), create(71, Some(1)))
        .invoke(2, create(72, None))
        .info(2, create(72, None))
}

#[test]
fn an_unknown_create_may_be_there_once() {
    creates().alone(3, LIST, nodes(&[(0, 70), (1, 71)])).is_valid(Sequence);
    creates().alone(3, LIST, nodes(&[(0, 70), (1, 71), (2, 72)])).is_valid(Sequence);
}

#[test]
fn a_create_applied_twice_is_rejected() {
    creates()
        .alone(3, LIST, nodes(&[(0, 70), (1, 71), (2, 71)]))
        .is_rejected(Sequence, "create 71 was applied twice");
    creates()
        .alone(3, LIST, nodes(&[(0, 70), (1, 71), (2, 72), (3, 72)]))
        .is_rejected(Sequence, "create 72 was applied twice");
}

#[test]
fn a_lost_create_is_rejected() {
    creates()
        .alone(3, LIST, nodes(&[(0, 70)]))
        .is_rejected(Sequence, "number 1 was acknowledged and is lost");
}

#[test]
fn a_number_given_twice_is_rejected() {
    creates()
        .alone(1, create(73, None), create(73, Some(1)))
        .alone(3, LIST, nodes(&[(0, 70), (1, 71)]))
        .is_rejected(Sequence, "number 1 was given twice");
}

#[test]
fn a_number_that_goes_back_is_rejected() {
    Story::default()
        .alone(1, create(70, None), create(70, Some(5)))
        .alone(2, create(71, None), create(71, Some(4)))
        .alone(3, LIST, nodes(&[(4, 71), (5, 70)]))
        .is_rejected(Sequence, "number 4 was given after 5");
}

/// A create that was acknowledged is lost, and another one has its number.
#[test]
fn a_number_that_another_create_took_is_rejected() {
    let story = || {
        Story::default()
            .alone(1, create(70, None), create(70, Some(0)))
            .invoke(2, create(71, None))
            .info(2, create(71, None))
    };
    let lost = "number 0 was acknowledged and is lost";
    story().alone(3, LIST, nodes(&[(0, 71)])).is_rejected(Sequence, lost);
    story().alone(3, LIST, nodes(&[(0, 70), (0, 71)])).is_rejected(Sequence, "number 0 is there twice");
    // Asked for after 0 was known, it must have a greater number.
    let late = Story::default()
        .alone(1, create(70, None), create(70, Some(5)))
        .invoke(2, create(71, None))
        .info(2, create(71, None));
    late.alone(3, LIST, nodes(&[(3, 71), (5, 70)])).is_rejected(Sequence, "number 3 was given after 5");
}

#[test]
fn a_create_of_unknown_outcome_that_was_listed_must_stay() {
    creates()
        .alone(3, LIST, nodes(&[(0, 70), (1, 71), (2, 72)]))
        .alone(3, LIST, nodes(&[(0, 70), (1, 71)]))
        .is_rejected(Sequence, "number 2 was listed and is lost");
    Story::default()
        .alone(1, create(70, None), create(70, None))
        .is_rejected(Sequence, "acknowledged without a number");
}

#[test]
fn creates_that_nobody_listed_at_the_end_prove_nothing() {
    creates().is_unknown(Sequence);
    Story::default().alone(3, LIST, nodes(&[])).is_unknown(Sequence);
}

// --- fencing ------------------------------------------------------------------------------------

const ACQUIRE: Operation = Operation::Acquire { token: None };

fn granted(token: u64) -> Operation {
    Operation::Acquire { token: Some(token) }
}

fn using(token: u64, accepted: Option<bool>) -> Operation {
    Operation::UseLock { token, accepted }
}

#[test]
fn a_stale_holder_that_is_refused_is_no_anomaly() {
    Story::default()
        .alone(1, ACQUIRE, granted(10))
        .invoke(1, using(10, None))
        .ok_at(1, 11, using(10, Some(true)))
        .alone(2, ACQUIRE, granted(20))
        .invoke(2, using(20, None))
        .ok_at(2, 21, using(20, Some(true)))
        .alone(1, using(10, None), using(10, Some(false)))
        .is_valid(Fencing);
}

#[test]
fn a_stale_holder_that_gets_through_is_rejected() {
    Story::default()
        .alone(1, ACQUIRE, granted(10))
        .alone(2, ACQUIRE, granted(20))
        .invoke(2, using(20, None))
        .ok_at(2, 21, using(20, Some(true)))
        .invoke(1, using(10, None))
        .ok_at(1, 22, using(10, Some(true)))
        .is_rejected(Fencing, "token 10 was accepted at zxid 22, after token 20");
}

/// The new holder's first use comes later: the order of uses alone shows nothing.
#[test]
fn a_use_that_begins_after_a_greater_tokens_grant_is_rejected() {
    let expired = || Story::default().alone(1, ACQUIRE, granted(10));
    expired()
        .alone(2, ACQUIRE, granted(20))
        .invoke(1, using(10, None))
        .ok_at(1, 100, using(10, Some(true)))
        .invoke(2, using(20, None))
        .ok_at(2, 101, using(20, Some(true)))
        .is_rejected(Fencing, "token 10 was accepted at zxid 100, after the grant of token 20");
    // One that was under way may have come before the grant.
    expired()
        .invoke(1, using(10, None))
        .alone(2, ACQUIRE, granted(20))
        .ok_at(1, 15, using(10, Some(true)))
        .invoke(2, using(20, None))
        .ok_at(2, 21, using(20, Some(true)))
        .is_valid(Fencing);
}

#[test]
fn a_token_that_does_not_grow_is_rejected() {
    let story = |second| Story::default().alone(1, ACQUIRE, granted(10)).alone(2, ACQUIRE, granted(second));
    story(9).is_rejected(Fencing, "token 9 was granted after token 10");
    story(10).is_rejected(Fencing, "token 10 was granted twice");
}

#[test]
fn a_use_after_the_release_is_rejected() {
    Story::default()
        .alone(1, ACQUIRE, granted(10))
        .alone(1, Operation::Release { token: 10 }, Operation::Release { token: 10 })
        .invoke(1, using(10, None))
        .ok_at(1, 12, using(10, Some(true)))
        .is_rejected(Fencing, "after its release");
}

/// Two of the rules need no transaction.
#[test]
fn a_use_without_a_zxid_is_judged_by_time() {
    let held = || Story::default().alone(1, ACQUIRE, granted(10));
    held()
        .alone(2, ACQUIRE, granted(20))
        .alone(2, using(20, None), using(20, Some(true)))
        .alone(1, using(10, None), using(10, Some(true)))
        .is_rejected(Fencing, "token 10 was accepted, after the grant of token 20");
    // Nobody was told of the grant, but its holder got through.
    held()
        .invoke(2, ACQUIRE)
        .info(2, ACQUIRE)
        .alone(3, using(20, None), using(20, Some(true)))
        .alone(1, using(10, None), using(10, Some(true)))
        .is_rejected(Fencing, "token 10 was accepted, after the grant of token 20");
}

#[test]
fn a_lock_that_nobody_used_proves_nothing() {
    Story::default().alone(1, ACQUIRE, granted(10)).is_unknown(Fencing);
}

// --- watch --------------------------------------------------------------------------------------

const WATCHER: Process = 9;

fn change(number: u64) -> Operation {
    Operation::Change { node: 0, number }
}

fn event(number: u64) -> Operation {
    Operation::Event { node: 0, number, ordinal: 0 }
}

/// Changes 1, 2, 3 at zxids 11, 12, 13 after a watcher started behind 10.
fn changes() -> Story {
    let mut story = Story::default().ok(WATCHER, Operation::Watch { since: Some(10) });
    for number in 1..=3 {
        story = story.invoke(1, change(number)).ok_at(1, 10 + number, change(number));
    }
    story
}

fn hears(mut story: Story, events: &[(u64, u64)]) -> Story {
    for (zxid, number) in events {
        story = story.ok_at(WATCHER, *zxid, event(*number));
    }
    story.ok(WATCHER, Operation::Caught)
}

#[test]
fn a_watcher_that_hears_all_in_order_is_valid() {
    hears(changes(), &[(11, 1), (12, 2), (13, 3)]).is_valid(Watch);
}

#[test]
fn a_lost_event_is_rejected() {
    hears(changes(), &[(11, 1), (13, 3)]).is_rejected(Watch, "never heard of change 2");
}

#[test]
fn changes_that_have_no_place_of_their_own_are_rejected() {
    let story = || Story::default().ok(WATCHER, Operation::Watch { since: Some(10) });
    let same =
        story().invoke(1, change(1)).ok_at(1, 11, change(1)).invoke(1, change(2)).ok_at(1, 11, change(2));
    hears(same, &[(11, 2)]).is_rejected(Watch, "changes 1 and 2 of node 0 are both at zxid 11");
    let nowhere = story().invoke(1, change(1)).ok_at(1, 11, change(1)).alone(1, change(2), change(2));
    hears(nowhere, &[(11, 1)]).is_rejected(Watch, "change 2 of node 0 was acknowledged without a zxid");
    // Two nodes may change in one transaction.
    let other = Operation::Change { node: 1, number: 2 };
    let both =
        story().invoke(1, change(1)).ok_at(1, 11, change(1)).invoke(1, other.clone()).ok_at(1, 11, other);
    both.ok_at(WATCHER, 11, event(1))
        .ok_at(WATCHER, 11, Operation::Event { node: 1, number: 2, ordinal: 1 })
        .ok(WATCHER, Operation::Caught)
        .is_valid(Watch);
}

#[test]
fn a_repeated_event_is_rejected() {
    hears(changes(), &[(11, 1), (12, 2), (12, 2), (13, 3)]).is_rejected(Watch, "was repeated");
}

#[test]
fn events_out_of_order_are_rejected() {
    hears(changes(), &[(12, 2), (11, 1), (13, 3)]).is_rejected(Watch, "out of order");
}

#[test]
fn an_event_with_a_wrong_value_is_rejected() {
    hears(changes(), &[(11, 1), (12, 1), (13, 3)])
        .is_rejected(Watch, "heard of change 1 of node 0 at zxid 12");
}

#[test]
fn an_invented_event_is_rejected() {
    hears(changes(), &[(11, 1), (12, 2), (13, 3), (14, 4)]).is_rejected(Watch, "which nobody made");
}

#[test]
fn an_event_from_before_the_watch_is_rejected() {
    hears(changes(), &[(9, 1), (11, 1), (12, 2), (13, 3)]).is_rejected(Watch, "began behind 10");
}

#[test]
fn a_change_that_took_effect_twice_is_rejected() {
    let story = Story::default().ok(WATCHER, Operation::Watch { since: Some(9) });
    let story = story.invoke(1, change(1)).ok_at(1, 20, change(1));
    hears(story, &[(10, 1), (20, 1)]).is_rejected(Watch, "at zxid 10, which took effect at 20");
    // Nor may one of unknown outcome.
    let story = changes().invoke(1, change(4)).info(1, change(4));
    let twice = hears(story, &[(11, 1), (12, 2), (13, 3), (14, 4), (15, 4)]);
    twice.is_rejected(Watch, "at zxid 15, which took effect at 14");
}

#[test]
fn a_change_of_unknown_outcome_happened_for_all_watchers_or_for_none() {
    const OTHER: Process = 8;
    // Change 2 is of unknown outcome.
    let story = || {
        Story::default()
            .ok(WATCHER, Operation::Watch { since: Some(10) })
            .ok(OTHER, Operation::Watch { since: Some(10) })
            .invoke(1, change(1))
            .ok_at(1, 11, change(1))
            .invoke(1, change(2))
            .info(1, change(2))
            .invoke(1, change(3))
            .ok_at(1, 13, change(3))
    };
    let other = |mut story: Story, events: &[(u64, u64)]| {
        for (zxid, number) in events {
            story = story.ok_at(OTHER, *zxid, event(*number));
        }
        story.ok(OTHER, Operation::Caught)
    };
    let heard = || hears(story(), &[(11, 1), (12, 2), (13, 3)]);
    other(heard(), &[(11, 1), (12, 2), (13, 3)]).is_valid(Watch);
    other(hears(story(), &[(11, 1), (13, 3)]), &[(11, 1), (13, 3)]).is_valid(Watch);
    other(heard(), &[(11, 1), (13, 3)]).is_rejected(Watch, "watcher 8 never heard of change 2");
    // One that was told of a gap there need not have heard it, nor one that did not come so far.
    let gap = heard().ok_at(OTHER, 11, event(1)).ok_at(OTHER, 12, Operation::Gap);
    other(gap, &[(13, 3)]).is_valid(Watch);
    let late = hears(story(), &[(11, 1), (13, 3), (14, 2)]);
    other(late, &[(11, 1), (13, 3)]).is_valid(Watch);
}

#[test]
fn after_a_gap_that_was_told_the_watch_is_judged_from_there() {
    let story = changes()
        .ok_at(WATCHER, 11, event(1))
        .ok_at(WATCHER, 12, Operation::Gap)
        .ok_at(WATCHER, 13, event(3))
        .ok(WATCHER, Operation::Caught);
    story.is_valid(Watch);
    let story = changes()
        .ok_at(WATCHER, 11, event(1))
        .ok_at(WATCHER, 11, Operation::Gap)
        .ok_at(WATCHER, 13, event(3))
        .ok(WATCHER, Operation::Caught);
    story.is_rejected(Watch, "never heard of change 2");
}

#[test]
fn a_watcher_that_heard_nothing_proves_nothing() {
    Story::default().ok(WATCHER, Operation::Watch { since: Some(10) }).is_unknown(Watch);
}

// --- digest, availability -----------------------------------------------------------------------

#[test]
fn differing_digests_are_rejected_and_missing_ones_prove_nothing() {
    let digest = |agree, members| {
        let asked = Operation::Digest { agree: None, members: None };
        Story::default().alone(5, asked, Operation::Digest { agree: Some(agree), members: Some(members) })
    };
    let checker = Digest { members: 3 };
    digest(true, 3).is_valid(checker);
    digest(false, 3).is_rejected(checker, "differ");
    digest(true, 2).is_unknown(checker);
    Story::default().is_unknown(checker);
}

fn fault(healed: bool) -> Operation {
    Operation::Fault { nemesis: "kill-one".into(), healed, members: vec![1] }
}

#[test]
fn a_cluster_that_does_not_come_back_is_rejected() {
    let checker = Availability { recovery_max: Duration::from_millis(5) };
    let hurt = || {
        Story::default().alone(1, add(1), add(1)).entry(NEMESIS, Kind::Info, fault(false), None).entry(
            NEMESIS,
            Kind::Info,
            fault(true),
            None,
        )
    };
    hurt().alone(1, add(2), add(2)).is_valid(checker);
    let mut dead = hurt();
    for element in 2..12 {
        dead = dead.invoke(1, add(element)).info(1, add(element));
    }
    let late = Story(dead.0.clone()).alone(1, add(99), add(99));
    dead.is_rejected(checker, "ms after kill-one was healed");
    late.is_rejected(checker, "ms after kill-one was healed");
    // What lies behind the next fault's beginning is that fault's.
    let mut again = hurt().entry(NEMESIS, Kind::Info, fault(false), None);
    for element in 2..12 {
        again = again.invoke(1, add(element)).info(1, add(element));
    }
    again.entry(NEMESIS, Kind::Info, fault(true), None).alone(1, add(99), add(99)).is_valid(checker);
    Story::default().is_rejected(checker, "nothing ever succeeded");
}

/// Falling silent needs no cluster.
#[test]
fn a_client_that_fell_silent_is_no_sign_of_life() {
    let checker = Availability { recovery_max: Duration::from_millis(5) };
    let silence = Operation::EndSession { session: 1, closes: false };
    let mut dead = Story::default()
        .alone(1, add(1), add(1))
        .entry(NEMESIS, Kind::Info, fault(false), None)
        .entry(NEMESIS, Kind::Info, fault(true), None)
        .alone(1, silence.clone(), silence);
    for element in 2..12 {
        dead = dead.invoke(1, add(element)).info(1, add(element));
    }
    dead.is_rejected(checker, "ms after kill-one was healed");
}

// --- the file -----------------------------------------------------------------------------------

#[test]
fn a_history_survives_its_file() {
    let story = changes().entry(NEMESIS, Kind::Info, fault(false), None).alone(2, READ_SET, elements(&[1]));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let lines = lines_of(&story);
    std::fs::write(file.path(), &lines).expect("writes");
    assert_eq!(History::read(file.path()).expect("reads"), story.0);

    std::fs::write(file.path(), lines.replacen("\"type\":\"ok\"", "\"type\":\"perhaps\"", 1))
        .expect("writes");
    let error = History::read(file.path()).expect_err("an unknown type is no history").to_string();
    assert!(error.contains(":1:") && error.contains("perhaps"), "{error}");
}

fn lines_of(story: &Story) -> String {
    let line = |entry| serde_json::to_string(entry).expect("serialises") + "\n";
    story.0.entries.iter().map(line).collect()
}

#[test]
fn a_file_whose_lines_do_not_fit_each_other_is_refused() {
    let refusal = |story: Story| {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), lines_of(&story)).expect("writes");
        History::read(file.path()).expect_err("no history").to_string()
    };
    let twice = refusal(Story::default().invoke(1, add(1)).invoke(1, add(2)));
    assert!(twice.contains(":2:") && twice.contains("under way already"), "{twice}");
    let other = refusal(Story::default().alone(1, add(1), add(2)));
    assert!(other.contains(":2:") && other.contains("asked something else"), "{other}");
    let mut back = Story::default().stopped(Duration::from_secs(1)).invoke(1, add(1));
    back.0.entries[1].time_us = 5;
    let back = refusal(back);
    assert!(back.contains(":2:") && back.contains("time_us goes back"), "{back}");
}
