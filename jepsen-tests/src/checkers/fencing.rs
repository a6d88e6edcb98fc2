//! Fencing: a holder that has lost the lock without noticing never gets through.
//!
//! - every grant has its own token, and a grant that began after another was known has a greater one;
//! - the uses that were accepted, in the order of their transactions, carry tokens that never shrink;
//! - nothing is accepted under a token whose release was acknowledged before, or that began after a
//!   greater token's grant was known, from its holder or from an accepted use.
//!
//! That two holders *believe* in the lock at once is possible and no anomaly: that is why there are
//! tokens.

use std::collections::BTreeMap;

use super::known::Greatest;
use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Fencing;

impl Checker for Fencing {
    fn name(&self) -> &'static str {
        "fencing"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut anomalies = Vec::new();
        let mut grants: Vec<(usize, usize, u64)> = Vec::new();
        let mut owners: BTreeMap<u64, usize> = BTreeMap::new();
        let mut released: BTreeMap<u64, usize> = BTreeMap::new();
        // (zxid, token, begin, end) of every accepted use.
        let mut uses: Vec<(Option<u64>, u64, usize, usize)> = Vec::new();
        let mut refused = 0;
        for pair in history.pairs() {
            let (Kind::Ok, Some(completion), Some(end)) = (pair.kind(), pair.completion, pair.end) else {
                continue;
            };
            match completion.operation {
                Operation::Acquire { token: Some(token) } => {
                    if let Some(other) = owners.insert(token, end) {
                        anomalies
                            .push(Anomaly::new(format!("token {token} was granted twice"), [other, end]));
                    }
                    grants.push((pair.begin, end, token));
                }
                Operation::Release { token } => {
                    released.insert(token, end);
                }
                Operation::UseLock { token, accepted: Some(true) } => {
                    uses.push((completion.zxid, token, pair.begin, end));
                }
                Operation::UseLock { accepted: Some(false), .. } => refused += 1,
                _ => {}
            }
        }
        let granted = grants.iter().map(|(_, end, token)| (*end, *token));
        let greatest = Greatest::of(granted.chain(uses.iter().map(|(_, token, _, end)| (*end, *token))));
        for (begin, end, token) in &grants {
            if let Some((greater, known)) = greatest.before(*begin)
                && greater >= *token
            {
                anomalies.push(Anomaly::new(
                    format!("token {token} was granted after token {greater}"),
                    [known, *begin, *end],
                ));
            }
        }
        let mut in_order: Vec<(u64, u64, usize)> =
            uses.iter().filter_map(|(zxid, token, _, end)| Some(((*zxid)?, *token, *end))).collect();
        in_order.sort_unstable();
        for pair in in_order.windows(2) {
            let [(before, old, first), (zxid, token, second)] = pair else { continue };
            if token < old {
                anomalies.push(Anomaly::new(
                    format!("token {token} was accepted at zxid {zxid}, after token {old} at {before}"),
                    [*first, *second],
                ));
            }
        }
        for (zxid, token, begin, end) in &uses {
            let place = zxid.map(|zxid| format!(" at zxid {zxid}")).unwrap_or_default();
            if let Some(release) = released.get(token)
                && release < begin
            {
                anomalies.push(Anomaly::new(
                    format!("token {token} was accepted{place}, after its release"),
                    [*release, *begin, *end],
                ));
            }
            // Whoever was granted the lock has it: nobody before holds it any more.
            if let Some((greater, known)) = greatest.before(*begin)
                && greater > *token
            {
                anomalies.push(Anomaly::new(
                    format!("token {token} was accepted{place}, after the grant of token {greater}"),
                    [known, *begin, *end],
                ));
            }
        }
        if anomalies.is_empty() && uses.is_empty() {
            return Verdict::Unknown { reason: "nothing was done under the lock".into() };
        }
        Verdict::of(
            anomalies,
            format!("{} grants, {} uses accepted, {refused} refused", grants.len(), uses.len()),
        )
    }
}
