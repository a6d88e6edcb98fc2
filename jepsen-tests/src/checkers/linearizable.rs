//! Linearizability of versioned registers, each key by itself (which together is linearizability of
//! all, because it is local).
//!
//! The search is Wing and Gong's with Lowe's memoisation. It walks over the beginnings and ends of
//! operations in the order of time: it takes any operation that has begun and whose result fits the
//! register as it stands, lifts it out and starts over; at the end of an operation that was not
//! taken it goes back to the last choice. A set of (taken operations, register) keeps it from going
//! the same way twice.
//!
//! ```text
//!   p1  |--- write 1 ---|            taken: write 1, read 1, write 2, read 2: linearizable
//!   p2        |--- write 2 ---|
//!   p3            |read 1|   |read 2|
//! ```
//!
//! An operation of unknown outcome never ends: it may be taken anywhere or nowhere. The search gives
//! up, and says unknown, beyond [`STEPS_MAX`] and [`SEEN_BYTES_MAX`].

use std::collections::{BTreeMap, HashSet};

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation, Pair};

/// Steps of the search a key; beyond it the verdict is unknown. About ten seconds.
const STEPS_MAX: u64 = 20_000_000;
/// What the ways gone already may take, a key; beyond it the verdict is unknown, too.
const SEEN_BYTES_MAX: usize = 2 << 30;

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Linearizable {
    /// Every register's value and version before the first operation.
    pub initial: (u64, i32),
}

/// One operation as the search sees it.
#[derive(Clone, Debug)]
struct Call {
    action: Action,
    /// Entries of the history.
    begin: usize,
    end: Option<usize>,
    /// Whether its outcome is known; then it must be taken.
    is_known: bool,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Read { value: u64, version: i32 },
    Write { value: u64, version: Option<i32> },
    CompareAndSet { expected: i32, value: u64, applied: Option<bool> },
}

/// A register: value and version.
type Register = (u64, i32);

impl Action {
    /// The register afterwards; `None` if the result does not fit.
    fn apply(self, (value, version): Register) -> Option<Register> {
        match self {
            Action::Read { value: seen, version: at } => {
                (seen == value && at == version).then_some((value, version))
            }
            Action::Write { value: new, version: made } => {
                let next = version + 1;
                made.is_none_or(|made| made == next).then_some((new, next))
            }
            Action::CompareAndSet { expected, value: new, applied } => {
                let fits = expected == version;
                match applied {
                    Some(applied) if applied != fits => None,
                    _ if fits => Some((new, version + 1)),
                    _ => Some((value, version)),
                }
            }
        }
    }
}

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut keys: BTreeMap<u32, Vec<Call>> = BTreeMap::new();
        for pair in history.pairs() {
            if let Some((key, call)) = call(&pair) {
                keys.entry(key).or_default().push(call);
            }
        }
        let known = keys.values().flatten().filter(|call| call.is_known).count();
        if known == 0 {
            return Verdict::Unknown { reason: "no register was read or written".into() };
        }
        let mut anomalies = Vec::new();
        for (key, calls) in &keys {
            match search(calls, self.initial) {
                Search::Linearizable => {}
                Search::Stuck(entries) => anomalies.push(Anomaly::new(
                    format!("register {key}: no order of its operations explains what was seen"),
                    entries,
                )),
                // An anomaly of another key is still one.
                Search::TooLong if anomalies.is_empty() => {
                    return Verdict::Unknown {
                        reason: format!(
                            "register {key}: more than {STEPS_MAX} steps, or {SEEN_BYTES_MAX} bytes of them"
                        ),
                    };
                }
                Search::TooLong => {}
            }
        }
        Verdict::of(anomalies, format!("{known} operations on {} registers", keys.len()))
    }
}

/// A pair as the search sees it; `None` if it is no register's or cannot matter.
fn call(pair: &Pair<'_>) -> Option<(u32, Call)> {
    let kind = pair.kind();
    if kind == Kind::Fail {
        return None;
    }
    let is_known = kind == Kind::Ok;
    let operation = match (is_known, pair.completion) {
        (true, Some(completion)) => &completion.operation,
        _ => &pair.invoke.operation,
    };
    let (key, action) = match *operation {
        Operation::Read { key, value } => {
            let (value, version) = match value {
                Some(seen) => seen,
                // No register is ever like that.
                None if is_known => (u64::MAX, i32::MIN),
                // A read without an answer constrains nothing.
                None => return None,
            };
            (key, Action::Read { value, version })
        }
        Operation::Write { key, value, version } => (key, Action::Write { value, version }),
        Operation::CompareAndSet { key, expected, value, applied } => {
            (key, Action::CompareAndSet { expected, value, applied })
        }
        _ => return None,
    };
    let end = if is_known { pair.end } else { None };
    Some((key, Call { action, begin: pair.begin, end, is_known }))
}

enum Search {
    Linearizable,
    /// The entries around the place that the search could not pass.
    Stuck(Vec<usize>),
    TooLong,
}

/// A beginning or an end of a call, in a doubly linked list over the history's order.
#[derive(Clone, Copy, Debug)]
struct Node {
    call: usize,
    is_begin: bool,
    previous: usize,
    next: usize,
}

/// The list: node 0 is its head and its end.
struct List {
    nodes: Vec<Node>,
    /// Each call's nodes: its beginning and, if it has one, its end.
    places: Vec<(usize, Option<usize>)>,
}

impl List {
    fn new(calls: &[Call]) -> List {
        let mut points: Vec<(usize, bool, usize)> = Vec::with_capacity(calls.len() * 2);
        for (index, call) in calls.iter().enumerate() {
            points.push((call.begin, true, index));
            points.extend(call.end.map(|end| (end, false, index)));
        }
        points.sort_unstable();
        let last = points.len();
        let mut nodes =
            vec![Node { call: usize::MAX, is_begin: false, previous: last, next: usize::from(last > 0) }];
        let mut places = vec![(0, None); calls.len()];
        for (index, (_, is_begin, call)) in points.into_iter().enumerate() {
            let place = index + 1;
            nodes.push(Node {
                call,
                is_begin,
                previous: index,
                next: if place == last { 0 } else { place + 1 },
            });
            if is_begin {
                places[call].0 = place;
            } else {
                places[call].1 = Some(place);
            }
        }
        List { nodes, places }
    }

    fn unlink(&mut self, place: usize) {
        let Node { previous, next, .. } = self.nodes[place];
        self.nodes[previous].next = next;
        self.nodes[next].previous = previous;
    }

    fn relink(&mut self, place: usize) {
        let Node { previous, next, .. } = self.nodes[place];
        self.nodes[previous].next = place;
        self.nodes[next].previous = place;
    }

    fn lift(&mut self, call: usize) {
        let (begin, end) = self.places[call];
        self.unlink(begin);
        if let Some(end) = end {
            self.unlink(end);
        }
    }

    /// Undoes [`List::lift`]; must be called in the reverse order.
    fn put_back(&mut self, call: usize) {
        let (begin, end) = self.places[call];
        if let Some(end) = end {
            self.relink(end);
        }
        self.relink(begin);
    }
}

/// Which calls have been taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }
}

fn search(calls: &[Call], initial: Register) -> Search {
    let mut list = List::new(calls);
    let mut register = initial;
    let mut taken = Taken(vec![0; calls.len().div_ceil(64)]);
    let mut left = calls.iter().filter(|call| call.is_known).count();
    let mut seen: HashSet<(Taken, Register)> = HashSet::new();
    let mut stack: Vec<(usize, Register)> = Vec::new();
    let mut place = list.nodes[0].next;
    let mut farthest = 0;
    let mut steps = 0_u64;
    while left > 0 {
        steps += 1;
        if steps > STEPS_MAX || seen.len() * size_of_val(&taken.0[..]) > SEEN_BYTES_MAX {
            return Search::TooLong;
        }
        let node = list.nodes[place];
        if place != 0 && node.is_begin {
            let call = &calls[node.call];
            if let Some(next) = call.action.apply(register) {
                taken.flip(node.call);
                if seen.insert((taken.clone(), next)) {
                    stack.push((node.call, register));
                    register = next;
                    left -= usize::from(call.is_known);
                    list.lift(node.call);
                    place = list.nodes[0].next;
                    continue;
                }
                taken.flip(node.call);
            }
            place = node.next;
            continue;
        }
        // The end of a call that was not taken (or of the history): the last choice was wrong.
        if place != 0 {
            farthest = farthest.max(calls[node.call].end.unwrap_or(0));
        }
        let Some((call, before)) = stack.pop() else {
            return Search::Stuck(around(calls, farthest));
        };
        list.put_back(call);
        taken.flip(call);
        register = before;
        left += usize::from(calls[call].is_known);
        place = list.nodes[list.places[call].0].next;
    }
    Search::Linearizable
}

/// The entries of the calls under way at, and just before, the place that could not be passed.
fn around(calls: &[Call], farthest: usize) -> Vec<usize> {
    let mut near: Vec<&Call> = calls.iter().filter(|call| call.begin <= farthest).collect();
    near.sort_by_key(|call| call.end.unwrap_or(usize::MAX).min(farthest + 1));
    let mut entries: Vec<usize> =
        near.iter().rev().take(12).flat_map(|call| [Some(call.begin), call.end]).flatten().collect();
    entries.sort_unstable();
    entries
}
