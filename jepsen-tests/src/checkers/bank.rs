//! A bank: in every read of all accounts the total is the same, and nothing is overdrawn.

use super::{Anomaly, Checker, Verdict};
use crate::history::{History, Kind, Operation};

/// See the file's comment.
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    /// What all accounts together hold.
    pub total: i64,
}

impl Checker for Bank {
    fn name(&self) -> &'static str {
        "bank"
    }

    fn check(&self, history: &History) -> Verdict {
        let mut anomalies = Vec::new();
        let (mut transfers, mut reads) = (0, 0);
        for pair in history.pairs().iter().filter(|pair| pair.kind() == Kind::Ok) {
            let (Some(completion), Some(end)) = (pair.completion, pair.end) else { continue };
            match &completion.operation {
                Operation::Transfer { amount, .. } if *amount > 0 => transfers += 1,
                Operation::ReadBalances { balances: Some(balances) } => {
                    reads += 1;
                    let total: i128 = balances.iter().map(|balance| i128::from(*balance)).sum();
                    if total != i128::from(self.total) {
                        let what = format!("the total is {total}, not {}: {balances:?}", self.total);
                        anomalies.push(Anomaly::new(what, [pair.begin, end]));
                    }
                    if balances.iter().any(|balance| *balance < 0) {
                        let what = format!("an account is overdrawn: {balances:?}");
                        anomalies.push(Anomaly::new(what, [pair.begin, end]));
                    }
                }
                _ => {}
            }
        }
        if anomalies.is_empty() && (transfers == 0 || reads == 0) {
            return Verdict::Unknown { reason: format!("{transfers} transfers and {reads} reads") };
        }
        Verdict::of(anomalies, format!("{transfers} transfers, {reads} reads of all accounts"))
    }
}
