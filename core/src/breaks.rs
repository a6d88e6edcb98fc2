//! Bugs on purpose: what the simulator and the harness must catch, or they prove nothing.
//!
//! Each is built in by `--cfg quorate_break="name"` and by nothing else; `"any"` builds all in and
//! lets the environment variable `QUORATE_BREAK` choose one. Such a build is refused unless the
//! runner asks for it (`QUORATE_BREAK_RUNNER` is set while compiling). In every other build
//! [`is_broken`] is a constant `false`, and nothing of this is left.

use std::sync::OnceLock;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// The log is written but never synced.
    SkipFsync,
    /// A leader takes entries for replicated as soon as they are sent.
    ReplyBeforeCommit,
    /// A write that arrives again is executed again.
    DropReplyTable,
    /// Linearizable reads are served without asking for a quorum.
    StaleReads,
    /// The writer is answered before watches fire.
    WatchesAfterReplies,
    /// Every member ends sessions that it has not heard of itself.
    ExpireByLocalClock,
    /// Commands of a session's older attachments still take effect.
    OldEpochWrites,
    /// A leader answers heartbeats without a quorum round.
    HeartbeatWithoutQuorum,
    /// A member whose disk was lost takes part under its old id.
    WipedIdVotes,
    /// A member that hears of a leader before it knows the leader's address never asks again.
    ForgetsNewLeader,
    /// A leader that was killed and is back within its term leads on in it.
    RestartedLeaderLeadsOn,
    /// A change of members that a leader change cut short stays so: the voters of before count, too.
    ChangeStaysCutShort,
}

/// All of them, with their names.
pub const BREAKS: [(Break, &str, bool); 12] = [
    (Break::SkipFsync, "skip_fsync", cfg!(quorate_break = "skip_fsync")),
    (Break::ReplyBeforeCommit, "reply_before_commit", cfg!(quorate_break = "reply_before_commit")),
    (Break::DropReplyTable, "drop_reply_table", cfg!(quorate_break = "drop_reply_table")),
    (Break::StaleReads, "stale_reads", cfg!(quorate_break = "stale_reads")),
    (Break::WatchesAfterReplies, "watches_after_replies", cfg!(quorate_break = "watches_after_replies")),
    (Break::ExpireByLocalClock, "expire_by_local_clock", cfg!(quorate_break = "expire_by_local_clock")),
    (Break::OldEpochWrites, "old_epoch_writes", cfg!(quorate_break = "old_epoch_writes")),
    (
        Break::HeartbeatWithoutQuorum,
        "heartbeat_without_quorum",
        cfg!(quorate_break = "heartbeat_without_quorum"),
    ),
    (Break::WipedIdVotes, "wiped_id_votes", cfg!(quorate_break = "wiped_id_votes")),
    (Break::ForgetsNewLeader, "forgets_new_leader", cfg!(quorate_break = "forgets_new_leader")),
    (
        Break::RestartedLeaderLeadsOn,
        "restarted_leader_leads_on",
        cfg!(quorate_break = "restarted_leader_leads_on"),
    ),
    (Break::ChangeStaysCutShort, "change_stays_cut_short", cfg!(quorate_break = "change_stays_cut_short")),
];

/// Whether the environment chooses.
const ANY: bool = cfg!(quorate_break = "any");

/// Whether this build has a bug on purpose.
pub const BUILT_BROKEN: bool = ANY || {
    let mut broken = false;
    let mut index = 0;
    while index < BREAKS.len() {
        broken |= BREAKS[index].2;
        index += 1;
    }
    broken
};

const _: () = assert!(
    !BUILT_BROKEN || option_env!("QUORATE_BREAK_RUNNER").is_some(),
    "quorate_break builds bugs in, for `jepsen-tests breaks` only; it is not for members that anybody uses"
);

/// Whether this build has this bug.
#[inline(always)]
pub fn is_broken(bug: Break) -> bool {
    BUILT_BROKEN && chosen(bug)
}

fn chosen(bug: Break) -> bool {
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    let (_, name, is_built) = BREAKS[bug as usize];
    let asked = || std::env::var("QUORATE_BREAK").ok();
    is_built || (ANY && CHOSEN.get_or_init(asked).as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_bugs() {
        for (index, (bug, _, _)) in BREAKS.iter().enumerate() {
            assert_eq!(*bug as usize, index);
        }
    }

    #[test]
    fn a_usual_build_has_none() {
        assert!(BUILT_BROKEN || BREAKS.iter().all(|(bug, _, _)| !is_broken(*bug)));
    }
}
