//! Sequential creates: every acknowledged one is there with its number, none is there twice, numbers
//! are unique and grow with time.
//!
//! A create is named by its tag, which is the node's data: a retry that took effect a second time
//! shows as a second node with the same tag.

use std::collections::BTreeMap;

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Sequence;

impl Checker for Sequence {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn check(&self, history: &History) -> Verdict {
        let pairs = history.pairs();
        let mut anomalies = Vec::new();
        let mut by_number: BTreeMap<u64, usize> = BTreeMap::new();
        let mut attempts: BTreeMap<u64, (Kind, Option<u64>, usize)> = BTreeMap::new();
        // (end of an acknowledged create, its number), in the order of ends.
        let mut acknowledged: Vec<(usize, usize, u64)> = Vec::new();
        for pair in &pairs {
            let Operation::Sequence { tag, .. } = pair.invoke.operation else { continue };
            let number = match pair.completion.map(|completion| &completion.operation) {
                Some(Operation::Sequence { number, .. }) if pair.kind() == Kind::Ok => *number,
                _ => None,
            };
            attempts.insert(tag, (pair.kind(), number, pair.begin));
            let (Some(number), Some(end)) = (number, pair.end) else { continue };
            acknowledged.push((pair.begin, end, number));
            if let Some(other) = by_number.insert(number, end) {
                anomalies.push(Anomaly::new(format!("number {number} was given twice"), [other, end]));
            }
        }
        anomalies.extend(out_of_order(&mut acknowledged));

        let mut last_listed = None;
        for pair in pairs.iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            let Operation::ReadSequence { nodes: Some(nodes) } = &completion.operation else { continue };
            last_listed = Some(pair.begin);
            let mut by_tag: BTreeMap<u64, u64> = BTreeMap::new();
            for (number, tag) in nodes {
                if let Some(first) = by_tag.insert(*tag, *number) {
                    let begin = attempts.get(tag).map(|(_, _, begin)| *begin);
                    anomalies.push(Anomaly::new(
                        format!("create {tag} was applied twice, as numbers {first} and {number}"),
                        begin.into_iter().chain([end]).collect::<Vec<_>>(),
                    ));
                }
                match attempts.get(tag) {
                    None => anomalies.push(Anomaly::new(format!("nobody created {tag}"), [end])),
                    Some((Kind::Fail, _, begin)) => anomalies
                        .push(Anomaly::new(format!("create {tag} was refused and is there"), [*begin, end])),
                    Some((_, Some(told), begin)) if told != number => anomalies.push(Anomaly::new(
                        format!("create {tag} was told number {told} and is there as {number}"),
                        [*begin, end],
                    )),
                    Some(_) => {}
                }
            }
            for (begin, created, number) in &acknowledged {
                let is_there = nodes.iter().any(|(present, _)| present == number);
                if *created < pair.begin && !is_there {
                    anomalies.push(Anomaly::new(
                        format!("number {number} was acknowledged and is lost"),
                        [*begin, *created, end],
                    ));
                }
            }
        }
        if anomalies.is_empty() {
            if acknowledged.is_empty() {
                return Verdict::Unknown { reason: "no create was acknowledged".into() };
            }
            let last = acknowledged.iter().map(|(_, end, _)| *end).max();
            if last_listed.is_none() || last > last_listed {
                return Verdict::Unknown { reason: "the nodes were not listed after the last create".into() };
            }
        }
        let unknown = attempts.values().filter(|(kind, _, _)| *kind == Kind::Info).count();
        Verdict::of(
            anomalies,
            format!("{} acknowledged creates, {unknown} of unknown outcome", acknowledged.len()),
        )
    }
}

/// A create that began after another was acknowledged must have a greater number.
fn out_of_order(acknowledged: &mut [(usize, usize, u64)]) -> Vec<Anomaly> {
    acknowledged.sort_unstable();
    let mut by_end: Vec<(usize, u64)> = acknowledged.iter().map(|(_, end, number)| (*end, *number)).collect();
    by_end.sort_unstable();
    let mut anomalies = Vec::new();
    let mut ended = by_end.iter().peekable();
    let mut greatest: Option<(u64, usize)> = None;
    for (begin, end, number) in acknowledged.iter() {
        while let Some((before, earlier)) = ended.next_if(|(before, _)| before < begin) {
            greatest = greatest.max(Some((*earlier, *before)));
        }
        if let Some((earlier, before)) = greatest
            && earlier > *number
        {
            anomalies.push(Anomaly::new(
                format!("number {number} was given after {earlier} had been acknowledged"),
                [before, *begin, *end],
            ));
        }
    }
    anomalies
}
