//! A set: an element whose addition was acknowledged is in every later read; nothing else is there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Set;

/// One attempt to add an element.
struct Attempt {
    kind: Kind,
    begin: usize,
    end: Option<usize>,
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
                let attempt = Attempt { kind: pair.kind(), begin: pair.begin, end: pair.end };
                attempts.insert(element, attempt);
            }
        }
        let mut anomalies = Vec::new();
        let mut reads = 0;
        let mut last_read = None;
        for pair in pairs.iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            let Operation::ReadSet { elements: Some(elements) } = &completion.operation else { continue };
            reads += 1;
            last_read = last_read.max(Some(pair.begin));
            let present: BTreeSet<u64> = elements.iter().copied().collect();
            if present.len() != elements.len() {
                anomalies.push(Anomaly::new("an element is in the set twice", [end]));
            }
            for (element, attempt) in &attempts {
                let must = attempt.kind == Kind::Ok && attempt.end.is_some_and(|added| added < pair.begin);
                if must && !present.contains(element) {
                    anomalies.push(Anomaly::new(
                        format!("element {element} was acknowledged and is lost"),
                        [Some(attempt.begin), attempt.end, Some(end)]
                            .into_iter()
                            .flatten()
                            .collect::<Vec<_>>(),
                    ));
                }
            }
            for element in &present {
                match attempts.get(element) {
                    None => anomalies.push(Anomaly::new(format!("nobody added element {element}"), [end])),
                    Some(attempt) if attempt.kind == Kind::Fail => anomalies.push(Anomaly::new(
                        format!("element {element} was refused and is there"),
                        [attempt.begin, end],
                    )),
                    Some(attempt) if attempt.begin > end => anomalies.push(Anomaly::new(
                        format!("element {element} was read before it was added"),
                        [end, attempt.begin],
                    )),
                    Some(_) => {}
                }
            }
        }
        let acknowledged = attempts.values().filter(|attempt| attempt.kind == Kind::Ok).count();
        let last_ok = attempts.values().filter(|a| a.kind == Kind::Ok).filter_map(|a| a.end).max();
        if anomalies.is_empty() {
            if acknowledged == 0 {
                return Verdict::Unknown { reason: "no addition was acknowledged".into() };
            }
            if last_read.is_none_or(|read| last_ok.is_some_and(|added| added > read)) {
                return Verdict::Unknown { reason: "the set was not read after the last addition".into() };
            }
        }
        Verdict::of(anomalies, format!("{acknowledged} acknowledged additions, {reads} reads"))
    }
}
