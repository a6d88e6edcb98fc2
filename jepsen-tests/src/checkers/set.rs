//! A set: an element whose addition was acknowledged, or that was read, is in every later read; nothing
//! else is there.

use std::collections::{BTreeMap, BTreeSet};

use super::known::note;
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Set;

/// One attempt to add an element.
struct Attempt {
    kind: Kind,
    begin: usize,
    /// Where it was acknowledged.
    acknowledged: Option<usize>,
    /// Where it was known first: acknowledged or read.
    known: Option<usize>,
}

impl Checker for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn check(&self, history: &History) -> Verdict {
        let pairs = history.pairs();
        let mut attempts: BTreeMap<u64, Attempt> = BTreeMap::new();
        for pair in &pairs {
            if let Operation::Add { element } = pair.invoke.operation {
                let acknowledged = pair.end.filter(|_| pair.kind() == Kind::Ok);
                let attempt =
                    Attempt { kind: pair.kind(), begin: pair.begin, acknowledged, known: acknowledged };
                attempts.insert(element, attempt);
            }
        }
        // (begin, end, elements) of every read, in the order of beginnings.
        let mut reads: Vec<(usize, usize, &[u64])> = Vec::new();
        for pair in pairs.iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            let Operation::ReadSet { elements: Some(elements) } = &completion.operation else { continue };
            reads.push((pair.begin, end, elements));
            for element in elements {
                if let Some(attempt) = attempts.get_mut(element) {
                    note(&mut attempt.known, end);
                }
            }
        }
        let mut anomalies = Vec::new();
        for (begin, end, elements) in &reads {
            let present: BTreeSet<u64> = elements.iter().copied().collect();
            if present.len() != elements.len() {
                anomalies.push(Anomaly::new("an element is in the set twice", [*end]));
            }
            for (element, attempt) in &attempts {
                let Some(known) = attempt.known.filter(|known| known < begin) else { continue };
                if !present.contains(element) {
                    let how = if attempt.acknowledged == Some(known) { "acknowledged" } else { "read" };
                    let what = format!("element {element} was {how} and is lost");
                    anomalies.push(Anomaly::new(what, [attempt.begin, known, *end]));
                }
            }
            for element in &present {
                match attempts.get(element) {
                    None => anomalies.push(Anomaly::new(format!("nobody added element {element}"), [*end])),
                    Some(attempt) if attempt.kind == Kind::Fail => anomalies.push(Anomaly::new(
                        format!("element {element} was refused and is there"),
                        [attempt.begin, *end],
                    )),
                    Some(attempt) if attempt.begin > *end => anomalies.push(Anomaly::new(
                        format!("element {element} was read before it was added"),
                        [*end, attempt.begin],
                    )),
                    Some(_) => {}
                }
            }
        }
        let acknowledged = attempts.values().filter(|attempt| attempt.acknowledged.is_some()).count();
        if anomalies.is_empty() {
            let last_added = attempts.values().filter_map(|attempt| attempt.acknowledged).max();
            if last_added.is_none() {
                return Verdict::Unknown { reason: "no addition was acknowledged".into() };
            }
            if reads.last().map(|(begin, ..)| *begin) < last_added {
                return Verdict::Unknown { reason: "the set was not read after the last addition".into() };
            }
        }
        Verdict::of(anomalies, format!("{acknowledged} acknowledged additions, {} reads", reads.len()))
    }
}
