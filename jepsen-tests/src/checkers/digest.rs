//! The members' contents are equal when all is over: their digests, recomputed from the records.

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Digest {
    /// How many members must have answered.
    pub members: u32,
}

impl Checker for Digest {
    fn name(&self) -> &'static str {
        "digest"
    }

    fn check(&self, history: &History) -> Verdict {
        let last =
            history.entries.iter().enumerate().rev().find_map(|(index, entry)| match entry.operation {
                Operation::Digest { agree: Some(agree), members: Some(members) }
                    if entry.kind == Kind::Ok =>
                {
                    Some((index, agree, members))
                }
                _ => None,
            });
        match last {
            None => Verdict::Unknown { reason: "nobody asked for the digests".into() },
            Some((index, false, _)) => {
                let what = "the members' contents differ at one place of the log";
                Verdict::Invalid { anomalies: vec![Anomaly::new(what, [index])] }
            }
            Some((_, true, members)) if members < self.members => {
                Verdict::Unknown { reason: format!("only {members} of {} members answered", self.members) }
            }
            Some((_, true, members)) => Verdict::Valid { summary: format!("{members} members agree") },
        }
    }
}
