//! Who leads, as observers are told: leaders follow each other, and nobody is told of an old one after
//! a new one was told of or knew that it leads.

use std::collections::BTreeSet;

use super::known::Greatest;
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Leadership;

impl Checker for Leadership {
    fn name(&self) -> &'static str {
        "leadership"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut anomalies = Vec::new();
        // (end, token) of everything that told who leads.
        let mut known: Vec<(usize, u64)> = Vec::new();
        let mut observed = BTreeSet::new();
        let mut observations = 0;
        let pairs = history.pairs();
        for pair in pairs.iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            match completion.operation {
                Operation::Observe { token: Some(token) } if token > 0 => {
                    observed.insert(token);
                    observations += 1;
                    known.push((end, token));
                }
                Operation::Acquire { token: Some(token) } => known.push((end, token)),
                _ => {}
            }
        }
        let known = Greatest::of(known);
        for pair in pairs.iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            let Operation::Observe { token: Some(token) } = completion.operation else { continue };
            if let Some((newest, told)) = known.before(pair.begin)
                && token > 0
                && token < newest
            {
                let what = format!("leader {token} was told after leader {newest} was known");
                anomalies.push(Anomaly::new(what, [told, pair.begin, end]));
            }
        }
        if anomalies.is_empty() && observed.is_empty() {
            return Verdict::Unknown { reason: "nobody was told of a leader".into() };
        }
        Verdict::of(anomalies, format!("{} leaders observed {observations} times", observed.len()))
    }
}
