//! Comparing the members' digests of content at one place of the log.
//!
//! A mark goes through the log; each member notes its digest when it applies the mark. Equal logs
//! must give equal digests: a member that differs from a majority has a damaged state.

use std::time::Duration;

use quorate_core::command::Operation;
use quorate_core::error::Error;
use quorate_core::id::{MemberId, Zxid};

use tokio::time::sleep;

use super::Coordinator;
pub use crate::replica::MemberDigest;

/// All members' digests at one mark.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Where, as this member applied it.
    pub applied_index: u64,
    /// The last transaction at the mark.
    pub zxid: Zxid,
    /// The ticket of the call that set the mark.
    pub mark: u64,
    /// In id order; why there is none for those that did not answer.
    pub members: Vec<(MemberId, Result<MemberDigest, String>)>,
}

impl Comparison {
    /// Whether all answered and agree.
    pub fn agree(&self) -> bool {
        let Some((_, Ok(first))) = self.members.first() else { return false };
        self.members.iter().all(|(_, digest)| {
            digest.as_ref().is_ok_and(|member| {
                member.digest == first.digest && member.recomputed.is_none_or(|again| again == member.digest)
            })
        })
    }
}

impl Comparison {
    /// The digest that more than half of all members have, and the members that have another one.
    pub fn minority(&self) -> Option<(u128, Vec<MemberId>)> {
        let digests = || {
            self.members.iter().filter_map(|(member, digest)| Some((*member, digest.as_ref().ok()?.digest)))
        };
        let (_, majority) = digests().find(|(_, candidate)| {
            digests().filter(|(_, digest)| digest == candidate).count() * 2 > self.members.len()
        })?;
        let others = digests().filter(|(_, digest)| *digest != majority).map(|(member, _)| member).collect();
        Some((majority, others))
    }
}

/// How often the leader compares.
const COMPARE: Duration = Duration::from_secs(60);

impl Coordinator {
    /// Compares while this member leads, for as long as it lives; members whose state differs from
    /// the majority's are stopped.
    pub async fn run_comparisons(self) {
        loop {
            sleep(COMPARE).await;
            if self.shared.replica.leadership().borrow().leader != Some(self.shared.member) {
                continue;
            }
            match self.compare_digests(false).await {
                Ok(compared) => {
                    if let Some((majority, others)) = compared.minority()
                        && !others.is_empty()
                    {
                        self.shared.replica.stop_different(compared.mark, majority, &others).await;
                    }
                }
                Err(error) => tracing::debug!(%error, "digests could not be compared; trying again"),
            }
        }
    }

    /// Compares all members' digests.
    pub async fn compare_digests(&self, recompute: bool) -> Result<Comparison, Error> {
        let ticket = self.next_ticket();
        let reply = self.call(ticket, Vec::new(), Operation::DigestMark, None, None).await?;
        reply.result?;
        let members = self.shared.replica.digests_at(ticket, recompute).await;
        let applied_index = self.shared.local.progress_now().index;
        Ok(Comparison { applied_index, zxid: reply.zxid, mark: ticket, members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(digests: &[u128]) -> Comparison {
        let members = digests.iter().enumerate().map(|(index, digest)| {
            (MemberId(index as u64 + 1), Ok(MemberDigest { digest: *digest, recomputed: None }))
        });
        Comparison { applied_index: 1, zxid: Zxid(1), mark: 1, members: members.collect() }
    }

    #[test]
    fn the_minority_is_named_only_against_a_majority() {
        assert_eq!(compared(&[7, 7, 9]).minority(), Some((7, vec![MemberId(3)])));
        assert_eq!(compared(&[7, 7, 7]).minority(), Some((7, Vec::new())));
        assert_eq!(compared(&[7, 8, 9]).minority(), None, "nobody knows who is right");
        assert!(compared(&[7, 7, 7]).agree() && !compared(&[7, 7, 9]).agree());
    }
}
