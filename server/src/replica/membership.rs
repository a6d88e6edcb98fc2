//! Membership: adding, promoting, removing members and moving the leadership.
//!
//! A change asked of a follower is carried to the leader. Ids are never reused: adding one that was
//! removed is refused. [`reconfiguration`] takes the steps, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::MemberId;
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::peers::{PeerRequest, PeerResponse};
use super::types::{MemberAddress, StoredMembership};
use super::{Inner, Replica, reconfiguration};

/// A learner may be promoted when it lags by no more than this many entries.
const PROMOTE_LAG_MAX: u64 = 1_000;
/// How long a promotion waits for its learner to catch up.
const CATCH_UP: Duration = Duration::from_secs(120);
/// How long a forwarded change may take.
const PATIENCE: Duration = Duration::from_secs(150);

/// How long the leader may take to note that a learner begins anew.
const BEGINS_ANEW: Duration = Duration::from_millis(500);

/// How long a removal waits until the member's id is published: the leader looks twice a second.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks of one that waits for that.
const LOOK: Duration = Duration::from_millis(50);

/// Where the leader publishes the membership.
pub const PUBLISHED: &str = "/zookeeper/config";

/// The ids that a published membership says were ever used.
pub fn used_ids(published: &str) -> BTreeSet<u64> {
    let line = published.lines().find_map(|line| line.strip_prefix("used="));
    line.unwrap_or_default().split(',').filter_map(|id| id.parse().ok()).collect()
}

/// A change of the membership.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MembershipChange {
    // The order is part of the wire format: append only.
    /// Add a member that receives everything and votes on nothing.
    AddLearner {
        /// Its id: never used before.
        member: u64,
        /// Where it is reached.
        address: MemberAddress,
    },
    /// Make a learner a voter, once it has caught up.
    Promote {
        /// The learner.
        member: u64,
    },
    /// Remove a voter or learner.
    Remove {
        /// The member.
        member: u64,
    },
    /// Replace a lost disk: remove `lost`, add `member` and promote it.
    Replace {
        /// The member whose disk is lost.
        lost: u64,
        /// The new member's id.
        member: u64,
        /// Where it is reached.
        address: MemberAddress,
    },
    /// Move the leadership to this voter.
    Transfer {
        /// The voter.
        to: u64,
    },
}

/// One member as the membership has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Where it is reached.
    pub address: MemberAddress,
    /// Whether it votes.
    pub is_voter: bool,
}

impl Replica {
    /// The members, in id order, as this member's log has them: a change that is not committed yet
    /// counts, and may be undone.
    pub fn members(&self) -> Vec<Member> {
        members_of(&self.inner.membership())
    }

    /// The members that the cluster has agreed on, in id order, and the log index of that membership.
    pub fn agreed_members(&self) -> (Vec<Member>, u64) {
        let agreed = self.inner.raft.server_metrics().borrow_watched().committed_membership_config.clone();
        (members_of(&agreed), agreed.log_id().as_ref().map_or(0, |log_id| log_id.index()))
    }

    /// Whether both sets of voters of an unfinished change are in force.
    pub fn is_between_members(&self) -> bool {
        reconfiguration::is_joint(&self.inner)
    }

    /// Changes the membership, here or at the leader.
    ///
    /// # Errors
    /// `BadArguments` for a change that makes no sense; `Unavailable` without a leader;
    /// `OutcomeUnknown` if the leader did not answer (look at the status before repeating).
    pub async fn change_membership(&self, change: MembershipChange) -> Result<(), Error> {
        let leader = self.inner.leadership.borrow().leader;
        match leader {
            None => Err(Error::new(ErrorKind::Unavailable, "no leader: is there a quorum?")),
            Some(leader) if leader == self.inner.member => self.inner.change_membership_here(change).await,
            Some(MemberId(leader)) => {
                match self.inner.ask_member(leader, &PeerRequest::Membership(change), PATIENCE).await {
                    Ok(PeerResponse::Done) => Ok(()),
                    Ok(PeerResponse::Failed(error)) => Err(error),
                    Ok(other) => Err(Error::new(ErrorKind::Internal, format!("unexpected answer {other:?}"))),
                    Err(super::peers::PeerError::Refused(reason)) => {
                        Err(Error::new(ErrorKind::BadArguments, reason))
                    }
                    Err(error) => Err(Error::new(ErrorKind::OutcomeUnknown, error.to_string())),
                }
            }
        }
    }
}

impl Inner {
    pub(super) fn membership(&self) -> Arc<StoredMembership> {
        self.raft.server_metrics().borrow_watched().membership_config.clone()
    }

    /// Changes the membership; only a leader can.
    pub(super) async fn change_membership_here(&self, change: MembershipChange) -> Result<(), Error> {
        if !matches!(change, MembershipChange::Transfer { .. }) {
            self.steps.settle().await?;
        }
        let stored = self.membership();
        let known: BTreeMap<u64, MemberAddress> =
            stored.membership().nodes().map(|(id, address)| (*id, address.clone())).collect();
        let voters: BTreeSet<u64> = stored.membership().voter_ids().collect();
        match change {
            MembershipChange::AddLearner { member, address } => {
                self.check_new(member, &known).await?;
                self.add_learner(member, address).await
            }
            MembershipChange::Promote { member } => {
                if !known.contains_key(&member) {
                    return Err(bad(format!("member {member} is not in the cluster; add it first")));
                }
                if voters.contains(&member) {
                    return Ok(());
                }
                self.promote(member).await
            }
            MembershipChange::Remove { member } => {
                if !known.contains_key(&member) {
                    return Err(bad(format!("member {member} is not in the cluster")));
                }
                if voters.len() == 1 && voters.contains(&member) {
                    return Err(bad(format!("member {member} is the only voter; the cluster would end")));
                }
                self.remove(member, voters.contains(&member)).await
            }
            MembershipChange::Replace { lost, member, address } => {
                // One that was cut short, by a leader change say, goes on where it stood.
                let is_begun = known.get(&member) == Some(&address) && !known.contains_key(&lost);
                if is_begun && voters.contains(&member) {
                    return Ok(());
                }
                if is_begun {
                    return self.promote(member).await;
                }
                self.check_new(member, &known).await?;
                if !known.contains_key(&lost) && !self.ids_used().contains(&lost) {
                    return Err(bad(format!("member {lost} is not in the cluster and never was")));
                }
                if lost == self.member.0 {
                    return Err(bad(format!("member {lost} leads, so its disk is not lost")));
                }
                if known.contains_key(&lost) {
                    self.remove(lost, voters.contains(&lost)).await?;
                }
                self.add_learner(member, address).await?;
                self.promote(member).await
            }
            MembershipChange::Transfer { to } => {
                if !voters.contains(&to) {
                    return Err(bad(format!("member {to} is no voter")));
                }
                self.raft.trigger().transfer_leader(to).await.map_err(unavailable)?;
                let mut leadership = self.leadership.clone();
                let moved = leadership.wait_for(|now| now.leader == Some(MemberId(to)));
                match timeout(Duration::from_secs(5), moved).await {
                    Ok(Ok(_)) => Ok(()),
                    _ => Err(Error::new(
                        ErrorKind::OutcomeUnknown,
                        format!("member {to} did not take over within 5 s; see the status"),
                    )),
                }
            }
        }
    }

    async fn check_new(&self, member: u64, known: &BTreeMap<u64, MemberAddress>) -> Result<(), Error> {
        if member == 0 {
            return Err(bad("member id 0 is reserved".into()));
        }
        if known.contains_key(&member) {
            return Err(bad(format!("member {member} is in the cluster already")));
        }
        // What was published anywhere before this.
        self.read_barrier().await?;
        if self.ids_used().contains(&member) {
            return Err(bad(format!(
                "member id {member} was used before; ids are never reused, take a new one"
            )));
        }
        Ok(())
    }

    /// Every id that was ever a member's, as published in the tree.
    fn ids_used(&self) -> BTreeSet<u64> {
        let read = ReadRequest::Get { path: PUBLISHED.into(), watch: None };
        match self.local.read(&[], &read).result {
            Ok(ReadResult::Data { data: Some(data), .. }) => used_ids(&String::from_utf8_lossy(&data)),
            _ => BTreeSet::new(),
        }
    }

    async fn add_learner(&self, member: u64, address: MemberAddress) -> Result<(), Error> {
        self.steps.take(ChangeMembers::AddNodes(BTreeMap::from([(member, address)]))).await
    }

    async fn promote(&self, member: u64) -> Result<(), Error> {
        self.wait_caught_up(member).await?;
        self.steps.take(ChangeMembers::AddVoterIds(BTreeSet::from([member]))).await
    }

    async fn remove(&self, member: u64, is_voter: bool) -> Result<(), Error> {
        self.wait_published(member).await?;
        if is_voter {
            self.steps.take(ChangeMembers::RemoveVoters(BTreeSet::from([member]))).await?;
        }
        if self.membership().membership().get_node(&member).is_some() {
            self.steps.take(ChangeMembers::RemoveNodes(BTreeSet::from([member]))).await?;
        }
        Ok(())
    }

    /// Waits until a member's id is published: of one that is removed before, nothing would tell that it
    /// was ever used.
    async fn wait_published(&self, member: u64) -> Result<(), Error> {
        let published = async {
            while !self.ids_used().contains(&member) {
                sleep(LOOK).await;
            }
        };
        timeout(PUBLISHED_WITHIN, published).await.map_err(|_| {
            unavailable(format!("member {member} is not published in {PUBLISHED} yet; try again"))
        })
    }

    /// A member begins with an empty disk. If it is a learner that had some of the log, the leader must
    /// not go on believing that it has: it would send what comes behind that, again and again. (A voter
    /// does not begin: it is refused.)
    pub(super) async fn begins_anew(&self, member: u64) -> Result<(), Error> {
        let stored = self.membership();
        let is_learner = stored.membership().get_node(&member).is_some()
            && stored.membership().voter_ids().all(|voter| voter != member);
        let leader = self.leadership.borrow().leader;
        match leader {
            _ if !is_learner => Ok(()),
            None => Err(Error::new(ErrorKind::Unavailable, "no leader: is there a quorum?")),
            Some(leader) if leader == self.member => self.begins_anew_here(member).await,
            Some(MemberId(leader)) => {
                let asked = self.ask_member(leader, &PeerRequest::BeginsAnew(member), BEGINS_ANEW).await;
                asked.map(drop).map_err(unavailable)
            }
        }
    }

    /// The leader's part of [`Inner::begins_anew`].
    pub(super) async fn begins_anew_here(&self, learner: u64) -> Result<(), Error> {
        if self.matched().get(&learner).is_some_and(Option::is_some) {
            tracing::info!(learner, "a learner begins anew with an empty disk");
            self.raft
                .trigger()
                .allow_next_revert(&learner, true)
                .await
                .map_err(unavailable)?
                .map_err(unavailable)?;
        }
        Ok(())
    }

    /// Waits until a learner has nearly everything.
    async fn wait_caught_up(&self, member: u64) -> Result<(), Error> {
        let mut metrics = self.raft.metrics();
        let caught_up = async {
            loop {
                {
                    let now = metrics.borrow_watched();
                    let last = now.last_log_index.unwrap_or(0);
                    let matched = now
                        .replication
                        .as_ref()
                        .and_then(|peers| peers.get(&member))
                        .and_then(|matched| matched.as_ref().map(|log_id| log_id.index()));
                    if matched.is_some_and(|matched| matched + PROMOTE_LAG_MAX >= last) {
                        return Ok(());
                    }
                }
                if metrics.changed().await.is_err() {
                    return Err(Error::new(ErrorKind::Unavailable, "this member is stopping"));
                }
            }
        };
        timeout(CATCH_UP, caught_up).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!("learner {member} did not catch up within {} s: is it running?", CATCH_UP.as_secs()),
            ))
        })
    }
}

fn members_of(stored: &StoredMembership) -> Vec<Member> {
    let voters: BTreeSet<u64> = stored.membership().voter_ids().collect();
    let members = stored.membership().nodes().map(|(id, address)| Member {
        id: MemberId(*id),
        address: address.clone(),
        is_voter: voters.contains(id),
    });
    members.collect()
}

fn bad(reason: String) -> Error {
    Error::new(ErrorKind::BadArguments, reason)
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, error.to_string())
}
