//! The checkers of transactions, sessions, ephemerals, leaders and the registry: each rejects a
//! history that is known to be bad, and accepts one that is good.

mod story;

use jepsen_tests::checkers::append::Append;
use jepsen_tests::checkers::bank::Bank;
use jepsen_tests::checkers::counter::Counter;
use jepsen_tests::checkers::ephemeral::{Ephemeral, LAST_PATIENCE};
use jepsen_tests::checkers::exactly_once::ExactlyOnce;
use jepsen_tests::checkers::leadership::Leadership;
use jepsen_tests::checkers::registry::Registry;
use jepsen_tests::checkers::session_order::SessionOrder;
use jepsen_tests::history::{Act, Kind, Operation, Process, Step};
use story::Story;

// --- append -------------------------------------------------------------------------------------

/// (list, what it was, what is appended).
type Micro<'a> = (u32, &'a [u64], Option<u64>);

fn steps(micros: &[Micro<'_>], told: bool) -> Operation {
    let step = |(list, before, append): &Micro<'_>| Step {
        list: *list,
        before: told.then(|| before.to_vec()),
        append: *append,
    };
    Operation::Transaction { steps: micros.iter().map(step).collect() }
}

trait Transactions {
    fn begins(self, process: Process, micros: &[Micro<'_>]) -> Story;
    fn ends(self, process: Process, micros: &[Micro<'_>]) -> Story;
    fn one(self, process: Process, micros: &[Micro<'_>]) -> Story;
}

impl Transactions for Story {
    fn begins(self, process: Process, micros: &[Micro<'_>]) -> Story {
        self.invoke(process, steps(micros, false))
    }

    fn ends(self, process: Process, micros: &[Micro<'_>]) -> Story {
        self.ok(process, steps(micros, true))
    }

    fn one(self, process: Process, micros: &[Micro<'_>]) -> Story {
        self.begins(process, micros).ends(process, micros)
    }
}

/// An append that reads nothing, as Elle's `[:append 1 1]`.
#[test]
fn a_blind_append_is_no_read() {
    let append = |element| {
        let step = Step { list: 1, before: None, append: Some(element) };
        Operation::Transaction { steps: vec![step] }
    };
    Story::default()
        .one(1, &[(1, &[], None)])
        .alone(1, append(1), append(1))
        .alone(1, append(2), append(2))
        .is_valid(Append);
}

#[test]
fn transactions_in_some_order_are_accepted() {
    let (a, b): (&[Micro], &[Micro]) = (&[(1, &[], Some(1)), (2, &[], None)], &[(1, &[1], Some(2))]);
    Story::default()
        .begins(1, a)
        .begins(2, b)
        .ends(2, b)
        .ends(1, a)
        .one(1, &[(1, &[1, 2], None), (2, &[], Some(3))])
        .is_valid(Append);
}

#[test]
fn a_transaction_of_unknown_outcome_may_be_there_or_not() {
    Story::default()
        .one(1, &[(1, &[], Some(1))])
        .begins(2, &[(1, &[1], Some(2))])
        .info(2, steps(&[(1, &[1], Some(2))], false))
        .begins(3, &[(1, &[], Some(9))])
        .info(3, steps(&[(1, &[], Some(9))], false))
        .one(1, &[(1, &[1, 2], None)])
        .is_valid(Append);
}

#[test]
fn a_lost_append_is_rejected() {
    Story::default()
        .one(1, &[(1, &[], Some(1))])
        .one(2, &[(1, &[], Some(2))])
        .is_rejected(Append, "neither begins with the other");
}

#[test]
fn an_element_that_is_there_twice_is_rejected() {
    Story::default().one(1, &[(1, &[], Some(1))]).one(2, &[(1, &[1, 1], None)]).is_rejected(Append, "twice");
}

#[test]
fn an_element_of_a_refused_transaction_is_rejected() {
    Story::default()
        .begins(1, &[(1, &[], Some(1))])
        .fail(1, steps(&[(1, &[], Some(1))], false))
        .one(2, &[(1, &[1], None)])
        .is_rejected(Append, "G1a");
}

#[test]
fn a_transaction_of_which_a_part_is_there_is_rejected() {
    Story::default()
        .begins(1, &[(1, &[], Some(1)), (2, &[], Some(2))])
        .ends(1, &[(1, &[], Some(1)), (2, &[], Some(2))])
        .one(2, &[(1, &[1], None)])
        .one(2, &[(2, &[], None)])
        .is_rejected(Append, "");
}

#[test]
fn a_part_of_a_transaction_of_unknown_outcome_is_rejected_only_once_it_is_known() {
    let unknown: &[Micro] = &[(1, &[], Some(1)), (2, &[], Some(2))];
    let story = || Story::default().begins(1, unknown).info(1, steps(unknown, false));
    // However early in the history that is.
    let mut half = story().one(2, &[(1, &[1], None)]).one(2, &[(2, &[], None)]);
    for element in 0..4 {
        half = half.one(3, &[(3, &(10..10 + element).collect::<Vec<_>>(), Some(10 + element))]);
    }
    half.is_rejected(Append, "list 2: of a transaction only a part is there");
    // It took effect between the two last reads.
    story().one(2, &[(2, &[], None)]).one(2, &[(1, &[1], None)]).is_valid(Append);
}

#[test]
fn writes_in_a_circle_are_g0() {
    let (a, b): (&[Micro], &[Micro]) =
        (&[(1, &[], Some(1)), (2, &[4], Some(2))], &[(1, &[1], Some(3)), (2, &[], Some(4))]);
    Story::default().begins(1, a).begins(2, b).ends(1, a).ends(2, b).is_rejected(Append, "G0");
}

#[test]
fn writes_and_reads_in_a_circle_are_g1c() {
    let (a, b): (&[Micro], &[Micro]) =
        (&[(1, &[], Some(1)), (2, &[2], None)], &[(2, &[], Some(2)), (1, &[1], None)]);
    Story::default().begins(1, a).begins(2, b).ends(1, a).ends(2, b).is_rejected(Append, "G1c");
}

#[test]
fn a_read_that_is_torn_is_g_single() {
    let (a, b): (&[Micro], &[Micro]) =
        (&[(1, &[], Some(1)), (2, &[], Some(2))], &[(1, &[1], None), (2, &[], None)]);
    Story::default().begins(1, a).begins(2, b).ends(1, a).ends(2, b).is_rejected(Append, "G-single");
}

#[test]
fn write_skew_is_g2() {
    let (a, b): (&[Micro], &[Micro]) =
        (&[(1, &[], Some(1)), (2, &[], None)], &[(2, &[], Some(2)), (1, &[], None)]);
    Story::default()
        .begins(1, a)
        .begins(2, b)
        .ends(1, a)
        .ends(2, b)
        .one(3, &[(1, &[1], None), (2, &[2], None)])
        .is_rejected(Append, "G2");
}

#[test]
fn a_stale_read_is_against_real_time() {
    Story::default()
        .one(1, &[(1, &[], Some(1))])
        .one(2, &[(1, &[], None)])
        .one(2, &[(1, &[1], None)])
        .is_rejected(Append, "real time");
}

#[test]
fn no_transaction_proves_nothing() {
    Story::default().is_unknown(Append);
}

// --- bank ---------------------------------------------------------------------------------------

const BANK: Bank = Bank { total: 30 };

fn balances(balances: Option<&[i64]>) -> Operation {
    Operation::ReadBalances { balances: balances.map(<[i64]>::to_vec) }
}

fn transfer() -> Operation {
    Operation::Transfer { from: 0, to: 1, amount: 5 }
}

#[test]
fn a_total_beyond_all_numbers_is_rejected() {
    Story::default()
        .alone(1, transfer(), transfer())
        .alone(1, balances(None), balances(Some(&[i64::MAX, i64::MAX, 32])))
        .is_rejected(BANK, "the total is 18446744073709551646");
}

#[test]
fn money_that_moves_is_accepted_and_money_that_is_made_lost_or_lent_is_not() {
    let story = || {
        Story::default().alone(1, balances(None), balances(Some(&[10, 20]))).alone(1, transfer(), transfer())
    };
    story().alone(1, balances(None), balances(Some(&[5, 25]))).is_valid(BANK);
    story().alone(1, balances(None), balances(Some(&[5, 20]))).is_rejected(BANK, "the total is 25");
    story().alone(1, balances(None), balances(Some(&[-5, 35]))).is_rejected(BANK, "overdrawn");
    Story::default().alone(1, balances(None), balances(Some(&[10, 20]))).is_unknown(BANK);
}

// --- counter ------------------------------------------------------------------------------------

fn increment(value: Option<u64>) -> Operation {
    Operation::Increment { value }
}

fn count(value: Option<u64>) -> Operation {
    Operation::ReadCounter { value }
}

#[test]
fn increments_that_count_once_are_accepted() {
    Story::default()
        .invoke(3, increment(None))
        .alone(1, increment(None), increment(Some(1)))
        .alone(2, count(None), count(Some(2)))
        .info(3, increment(None))
        .alone(1, increment(None), increment(Some(3)))
        .alone(2, count(None), count(Some(3)))
        .is_valid(Counter);
}

#[test]
fn a_lost_increment_a_stale_read_and_one_that_counts_twice_are_rejected() {
    Story::default()
        .alone(1, increment(None), increment(Some(1)))
        .alone(2, increment(None), increment(Some(1)))
        .alone(2, count(None), count(Some(1)))
        .is_rejected(Counter, "two increments came to 1");
    Story::default()
        .alone(1, increment(None), increment(Some(1)))
        .alone(1, count(None), count(Some(0)))
        .is_rejected(Counter, "though 1 was known before");
    Story::default()
        .alone(1, increment(None), increment(Some(1)))
        .alone(1, count(None), count(Some(2)))
        .is_rejected(Counter, "though only 1 increments can have come to it");
    // Nothing was known before.
    Story::default()
        .alone(1, increment(None), increment(Some(0)))
        .is_rejected(Counter, "0, though 0 was known before");
    // The other increment came to more, so it was not yet there when this one came to 2.
    Story::default()
        .invoke(1, increment(None))
        .invoke(2, increment(None))
        .ok(1, increment(Some(2)))
        .invoke(3, increment(None))
        .ok(2, increment(Some(3)))
        .info(3, increment(None))
        .alone(4, count(None), count(Some(3)))
        .is_rejected(Counter, "2, though only 1 increments can have come to it");
}

// --- exactly-once -------------------------------------------------------------------------------

fn own(act: Act, version: Option<i32>) -> Operation {
    Operation::Own { node: 1, act, version }
}

fn refused(story: Story, act: Act, why: &str) -> Story {
    let mut story = story.invoke(1, own(act, None)).entry(1, Kind::Fail, own(act, None), None);
    story.0.entries.last_mut().expect("just written").error = Some(why.into());
    story
}

fn there(nodes: Option<&[u64]>) -> Operation {
    Operation::ReadSet { elements: nodes.map(<[u64]>::to_vec) }
}

#[test]
fn nodes_of_ones_own_that_behave_are_accepted() {
    Story::default()
        .alone(1, own(Act::Create, None), own(Act::Create, None))
        .alone(1, own(Act::Set, None), own(Act::Set, Some(1)))
        .invoke(1, own(Act::Set, None))
        .info(1, own(Act::Set, None))
        .alone(1, own(Act::Set, None), own(Act::Set, Some(3)))
        .alone(1, own(Act::Delete, None), own(Act::Delete, None))
        .alone(0, there(None), there(Some(&[])))
        .is_valid(ExactlyOnce);
}

#[test]
fn writes_that_took_effect_twice_are_rejected() {
    let created = || Story::default().alone(1, own(Act::Create, None), own(Act::Create, None));
    refused(Story::default(), Act::Create, "NodeExists").is_rejected(ExactlyOnce, "Create refused");
    created().alone(1, own(Act::Set, None), own(Act::Set, Some(2))).is_rejected(ExactlyOnce, "version 2");
    refused(created(), Act::Delete, "NoNode").is_rejected(ExactlyOnce, "Delete refused");
}

#[test]
fn a_node_made_anew_begins_anew() {
    let act = |story: Story, act, version| story.alone(1, own(act, None), own(act, version));
    let lived = || {
        let set = act(act(Story::default(), Act::Create, None), Act::Set, Some(1));
        act(set, Act::Delete, None)
    };
    let again = act(act(lived(), Act::Create, None), Act::Set, Some(1));
    again.alone(0, there(None), there(Some(&[1]))).is_valid(ExactlyOnce);
    act(lived(), Act::Delete, None).is_rejected(ExactlyOnce, "Delete acknowledged, though it was not there");
    act(lived(), Act::Set, Some(1)).is_rejected(ExactlyOnce, "Set acknowledged, though it was not there");
    let twice = act(act(Story::default(), Act::Create, None), Act::Create, None);
    twice.is_rejected(ExactlyOnce, "created, though it was there");
}

#[test]
fn nodes_that_came_back_or_went_by_themselves_are_rejected_at_the_end() {
    let created = || Story::default().alone(1, own(Act::Create, None), own(Act::Create, None));
    let deleted = || created().alone(1, own(Act::Delete, None), own(Act::Delete, None));
    let ends = |story: Story, nodes: &[u64]| story.alone(0, there(None), there(Some(nodes)));
    ends(created(), &[1]).is_valid(ExactlyOnce);
    ends(created(), &[]).is_rejected(ExactlyOnce, "node 1: was created, not deleted, and is gone");
    ends(deleted(), &[]).is_valid(ExactlyOnce);
    ends(deleted(), &[1]).is_rejected(ExactlyOnce, "node 1: is there at the end");
    ends(deleted(), &[2]).is_rejected(ExactlyOnce, "nobody made node 2");
    let unknown = || created().invoke(1, own(Act::Delete, None)).info(1, own(Act::Delete, None));
    ends(unknown(), &[]).is_valid(ExactlyOnce);
    ends(unknown(), &[1]).is_valid(ExactlyOnce);
    deleted().is_unknown(ExactlyOnce);
    ends(created(), &[1]).alone(1, own(Act::Delete, None), own(Act::Delete, None)).is_unknown(ExactlyOnce);
}

// --- session order ------------------------------------------------------------------------------

/// A pipeline each of whose requests was answered.
fn pipeline(sent: &[Option<u64>], told: Option<&[(u64, Option<u64>)]>) -> Operation {
    pipeline_in(1, sent, told)
}

fn pipeline_in(session: u64, sent: &[Option<u64>], told: Option<&[(u64, Option<u64>)]>) -> Operation {
    let told = told.map(|told| told.iter().copied().map(Some).collect());
    Operation::Pipeline { session, sent: sent.to_vec(), told }
}

/// A client that was cut off goes on in another session before the members know that the first is over.
#[test]
fn a_write_of_unknown_outcome_may_take_effect_late_but_only_once() {
    let story = |reads: &[(u64, Option<u64>)]| {
        let sent: Vec<Option<u64>> = reads.iter().map(|_| None).collect();
        Story::default()
            .invoke(1, pipeline_in(1, &[Some(1), Some(2)], None))
            .info(1, pipeline_in(1, &[Some(1), Some(2)], None))
            .alone(1, pipeline_in(2, &[Some(3)], None), pipeline_in(2, &[Some(3)], Some(&[(5, None)])))
            .alone(1, pipeline_in(2, &sent, None), pipeline_in(2, &sent, Some(reads)))
    };
    story(&[(5, Some(3)), (7, Some(1)), (8, Some(2))]).is_valid(SessionOrder);
    story(&[(5, Some(3)), (8, Some(2)), (8, Some(2))]).is_valid(SessionOrder);
    // The second has overwritten the first for good, and nothing brings the third back.
    story(&[(8, Some(2)), (9, Some(1))]).is_rejected(SessionOrder, "wrote 2 and then read 1");
    story(&[(8, Some(2)), (9, Some(3))]).is_rejected(SessionOrder, "wrote 2 and then read 3");
}

#[test]
fn what_was_acknowledged_is_not_forgotten_with_its_session() {
    let unknown = [Some(6), Some(7)];
    let story = |seen| {
        Story::default()
            .alone(1, pipeline(&[Some(3)], None), pipeline(&[Some(3)], Some(&[(4, None)])))
            .alone(1, pipeline(&[Some(5)], None), pipeline(&[Some(5)], Some(&[(5, None)])))
            .invoke(1, pipeline(&unknown, None))
            .info(1, pipeline(&unknown, None))
            .alone(1, pipeline_in(2, &[None], None), pipeline_in(2, &[None], Some(&[(9, Some(seen))])))
    };
    for seen in [5, 6, 7] {
        story(seen).is_valid(SessionOrder);
    }
    for seen in [0, 3, u64::MAX] {
        story(seen).is_rejected(SessionOrder, &format!("wrote 5 and then read {seen}"));
    }
}

#[test]
fn a_session_in_order_is_accepted() {
    let sent = [Some(1), None, Some(2), None];
    let told = [(5, None), (5, Some(1)), (7, None), (8, Some(2))];
    Story::default()
        .alone(1, pipeline(&sent, None), pipeline(&sent, Some(&told)))
        .alone(1, pipeline(&[None], None), pipeline(&[None], Some(&[(8, Some(2))])))
        .is_valid(SessionOrder);
}

#[test]
fn a_session_that_goes_back_or_does_not_see_its_own_writes_is_rejected() {
    let sent = [Some(1), None];
    let story = |told: &[(u64, Option<u64>)]| {
        Story::default().alone(1, pipeline(&sent, None), pipeline(&sent, Some(told)))
    };
    story(&[(5, None), (5, Some(0))]).is_rejected(SessionOrder, "wrote 1 and then read 0");
    story(&[(5, None), (4, Some(1))]).is_rejected(SessionOrder, "a read at zxid 4 behind one at 5");
    let writes = [Some(1), Some(2)];
    Story::default()
        .alone(1, pipeline(&writes, None), pipeline(&writes, Some(&[(5, None), (5, None)])))
        .is_rejected(SessionOrder, "a write at zxid 5");
    story(&[(5, None), (5, Some(1))])
        .alone(1, pipeline(&[None], None), pipeline(&[None], Some(&[(3, Some(1))])))
        .is_rejected(SessionOrder, "behind one at 5");
}

#[test]
fn a_read_may_be_overtaken_but_nothing_else_goes_without_an_answer() {
    let sent = [Some(1), None, Some(2), None];
    let story = |told: &[Option<(u64, Option<u64>)>]| {
        let told = Operation::Pipeline { session: 1, sent: sent.to_vec(), told: Some(told.to_vec()) };
        Story::default().alone(1, pipeline(&sent, None), told)
    };
    let (one, two) = (Some((5, None)), Some((7, None)));
    story(&[one, None, two, Some((7, Some(2)))]).is_valid(SessionOrder);
    story(&[one, None, two, None]).is_valid(SessionOrder);
    // What is behind an overtaken read is judged as ever.
    story(&[one, None, two, Some((7, Some(1)))]).is_rejected(SessionOrder, "wrote 2 and then read 1");
    story(&[one, None, two, Some((6, Some(2)))])
        .is_rejected(SessionOrder, "a read at zxid 6 behind one at 7");
    // The fault that made reads say so: one that was asked again behind what followed it.
    story(&[one, Some((7, Some(2))), two, None]).is_rejected(SessionOrder, "wrote 1 and then read 2");
    story(&[one, None, None, Some((7, Some(2)))]).is_rejected(SessionOrder, "nothing of its write of 2");
    story(&[one, None, two]).is_rejected(SessionOrder, "4 requests had 3 answers");
}

// --- ephemeral ----------------------------------------------------------------------------------

fn make(name: u64) -> Operation {
    make_in(1, name)
}

fn make_in(session: u64, name: u64) -> Operation {
    Operation::CreateEphemeral { name, session }
}

fn look(session: u64, names: Option<&[u64]>) -> Operation {
    Operation::ReadEphemerals { session, names: names.map(<[u64]>::to_vec) }
}

fn end(closes: bool) -> Operation {
    Operation::EndSession { session: 1, closes }
}

#[test]
fn ephemerals_that_live_as_long_as_their_sessions_are_accepted() {
    Story::default()
        .alone(1, make(7), make(7))
        .alone(2, look(2, None), look(2, Some(&[7])))
        .alone(1, look(1, None), look(1, Some(&[7])))
        .invoke(1, end(true))
        .alone(2, look(2, None), look(2, Some(&[])))
        .ok(1, end(true))
        .alone(2, look(2, None), look(2, Some(&[])))
        .is_valid(Ephemeral);
}

#[test]
fn an_ephemeral_that_goes_too_early_or_too_late_is_rejected() {
    let made = || Story::default().alone(1, make(7), make(7));
    made()
        .alone(2, look(2, None), look(2, Some(&[])))
        .alone(1, look(1, None), look(1, Some(&[7])))
        .is_rejected(Ephemeral, "is gone, though its session lived");
    made()
        .alone(1, end(true), end(true))
        .alone(2, look(2, None), look(2, Some(&[7])))
        .is_rejected(Ephemeral, "its session was closed");
    made()
        .alone(1, end(false), end(false))
        .stopped(LAST_PATIENCE)
        .alone(2, look(2, None), look(2, Some(&[7])))
        .is_rejected(Ephemeral, "at the end, though its session has ended");
    made().alone(2, look(2, None), look(2, Some(&[7, 8]))).is_rejected(Ephemeral, "nobody made node 8");
}

/// A client that gave its session up is gone, as one is that fell silent by itself.
#[test]
fn an_ephemeral_of_a_session_that_a_fault_ended_is_rejected_at_the_end() {
    let given_up = |nodes: &[u64]| {
        Story::default()
            .alone(1, make(7), make(7))
            .invoke(1, look(1, None))
            .info(1, look(1, None))
            .alone(1, end(false), end(false))
            .alone(2, look(2, None), look(2, Some(&[7])))
            .stopped(LAST_PATIENCE)
            .alone(2, look(2, None), look(2, Some(nodes)))
    };
    given_up(&[]).is_valid(Ephemeral);
    given_up(&[7]).is_rejected(Ephemeral, "at the end, though its session has ended");
}

#[test]
fn the_nodes_of_a_session_that_ended_late_prove_nothing() {
    let seen = || Story::default().alone(1, make(7), make(7)).alone(2, look(2, None), look(2, Some(&[7])));
    seen().alone(1, end(true), end(true)).is_unknown(Ephemeral);
    seen()
        .alone(1, end(false), end(false))
        .alone(2, look(2, None), look(2, Some(&[7])))
        .is_unknown(Ephemeral);
    seen().alone(1, end(false), end(false)).alone(2, look(2, None), look(2, Some(&[]))).is_valid(Ephemeral);
}

#[test]
fn an_ephemeral_of_unknown_outcome_that_was_seen_must_stay() {
    Story::default()
        .alone(2, make_in(2, 8), make_in(2, 8))
        .invoke(1, make(7))
        .info(1, make(7))
        .alone(2, look(2, None), look(2, Some(&[7, 8])))
        .alone(2, look(2, None), look(2, Some(&[8])))
        .alone(1, look(1, None), look(1, Some(&[8])))
        .is_rejected(Ephemeral, "node 7 is gone, though its session lived");
}

// --- leadership ---------------------------------------------------------------------------------

#[test]
fn a_leader_who_comes_back_is_rejected() {
    let observe = |token| Operation::Observe { token };
    let first = || Story::default().alone(1, observe(None), observe(Some(5)));
    first()
        .alone(2, observe(None), observe(Some(0)))
        .alone(1, observe(None), observe(Some(9)))
        .is_valid(Leadership);
    first()
        .alone(1, observe(None), observe(Some(9)))
        .alone(2, observe(None), observe(Some(5)))
        .is_rejected(Leadership, "leader 5 was told after leader 9");
    // Nor when the new leader itself knows.
    let lead = |token| Operation::Acquire { token };
    first()
        .alone(3, lead(None), lead(Some(9)))
        .alone(2, observe(None), observe(Some(5)))
        .is_rejected(Leadership, "leader 5 was told after leader 9");
    Story::default().is_unknown(Leadership);
}

// --- registry -----------------------------------------------------------------------------------

fn follow(instances: Option<&[u64]>, ring: u64) -> Operation {
    Operation::Follow { instances: instances.map(<[u64]>::to_vec), ring: instances.map(|_| ring) }
}

/// What the members have.
fn have(instances: &[u64]) -> Operation {
    Operation::Follow { instances: Some(instances.to_vec()), ring: None }
}

#[test]
fn followers_that_converge_are_accepted_and_others_are_not() {
    let register = |instance| Operation::Register { instance };
    let deregister = |instance| Operation::Deregister { instance };
    let story = || {
        Story::default()
            .alone(1, register(0), register(0))
            .alone(1, register(4), register(4))
            .alone(2, register(5), register(5))
            .alone(2, deregister(5), deregister(5))
            .alone(1, follow(None, 0), follow(Some(&[0, 4]), 1))
            .ok(1, have(&[0, 4]))
    };
    story().alone(2, follow(None, 0), follow(Some(&[0, 4]), 1)).is_valid(Registry);
    story().alone(2, follow(None, 0), follow(Some(&[0]), 1)).is_rejected(Registry, "different instances");
    story().alone(2, follow(None, 0), follow(Some(&[0, 4]), 2)).is_rejected(Registry, "which owns which");
    let with = |known: &[u64]| {
        Story::default()
            .alone(1, register(0), register(0))
            .alone(2, register(5), register(5))
            .alone(2, deregister(5), deregister(5))
            .alone(1, follow(None, 0), follow(Some(known), 1))
    };
    with(&[0, 5]).is_rejected(Registry, "was taken out and is there");
    with(&[]).is_rejected(Registry, "the lasting instance is gone");
    with(&[0, 6]).is_rejected(Registry, "nobody registered instance 6");
    Story::default().is_unknown(Registry);
}

#[test]
fn followers_that_agree_on_what_the_members_do_not_have_are_rejected() {
    let register = |instance| Operation::Register { instance };
    let story = || {
        Story::default()
            .alone(1, register(0), register(0))
            .alone(1, register(4), register(4))
            .alone(1, follow(None, 0), follow(Some(&[0]), 1))
            .alone(2, follow(None, 0), follow(Some(&[0]), 1))
    };
    story().ok(1, have(&[0])).is_valid(Registry);
    story().ok(1, have(&[0, 4])).is_rejected(Registry, "a follower knows [0], the members have [0, 4]");
    story().is_unknown(Registry);
}

#[test]
fn a_follower_alone_agrees_with_nobody() {
    let register = Operation::Register { instance: 0 };
    Story::default()
        .alone(1, register.clone(), register)
        .alone(1, follow(None, 0), follow(Some(&[0]), 1))
        .ok(1, have(&[0]))
        .invoke(2, follow(None, 0))
        .info(2, follow(None, 0))
        .is_unknown(Registry);
}
