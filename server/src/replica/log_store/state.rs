//! What each record does to the log's state: the same arithmetic when it is written, when it is
//! read back, and for what readers see meanwhile.

use serde::{Deserialize, Serialize};

use crate::replica::types::{LogId, Vote};

/// The log's state apart from its entries.
///
/// - `purged <= last`; entries exist for the indexes behind `purged` up to `last`, without holes.
/// - `committed` may lag behind the truth, never run ahead of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    // The order is part of the stored format: append only.
    /// The last vote given.
    pub vote: Option<Vote>,
    /// The last id known to be committed when this was written.
    pub committed: Option<LogId>,
    /// Entries up to here are gone.
    pub purged: Option<LogId>,
    /// The last entry's id, or `purged` if there is none.
    pub last: Option<LogId>,
}

impl State {
    /// The index that the next entry must have; any if there was never one.
    pub fn next_index(&self) -> Option<u64> {
        self.last.map(|id| id.index + 1)
    }

    /// The lowest index that an entry can have.
    pub fn first_index(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1)
    }

    /// An entry was added. Refused, with the reason, if it would leave a hole or overwrite one.
    pub fn append(&mut self, id: LogId) -> Result<(), String> {
        if let Some(expected) = self.next_index()
            && id.index != expected
        {
            return Err(format!("entry {} where entry {expected} must follow", id.index));
        }
        self.last = Some(id);
        Ok(())
    }

    /// Everything behind `after` was removed; `None` removes every entry. Tells the first index
    /// removed, if any was.
    pub fn truncate(&mut self, after: Option<LogId>) -> Result<Option<u64>, String> {
        let first_removed = after.map_or(0, |id| id.index + 1);
        if first_removed < self.first_index() && after.is_some() {
            return Err(format!("truncated to {} below what is purged", first_removed - 1));
        }
        match self.last {
            Some(last) if last.index >= first_removed => {
                self.last = after.or(self.purged);
                Ok(Some(first_removed.max(self.first_index())))
            }
            _ => Ok(None),
        }
    }

    /// Everything up to `upto` was purged. `false` if it was already.
    pub fn purge(&mut self, upto: LogId) -> bool {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return false;
        }
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::types::LeaderId;
    use openraft::vote::RaftLeaderIdExt;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new_committed(term, 1), index)
    }

    #[test]
    fn entries_have_no_holes() {
        let mut state = State::default();
        state.append(id(1, 1)).expect("any first index");
        state.append(id(1, 2)).expect("dense");
        assert!(state.append(id(1, 4)).is_err());
        assert!(state.append(id(1, 2)).is_err());
    }

    #[test]
    fn truncation_keeps_what_is_before_it() {
        let mut state = State { purged: Some(id(1, 3)), last: Some(id(2, 9)), ..State::default() };
        assert_eq!(state.truncate(Some(id(2, 9))), Ok(None));
        assert_eq!(state.truncate(Some(id(1, 5))), Ok(Some(6)));
        assert_eq!(state.last, Some(id(1, 5)));
        assert!(state.truncate(Some(id(1, 2))).is_err());
        assert_eq!(state.truncate(None), Ok(Some(4)));
        assert_eq!(state.last, Some(id(1, 3)));
    }

    #[test]
    fn a_purge_beyond_the_end_moves_the_end() {
        let mut state = State { last: Some(id(1, 5)), ..State::default() };
        assert!(state.purge(id(2, 8)));
        assert_eq!(state.last, Some(id(2, 8)));
        assert!(!state.purge(id(2, 7)));
        state.append(id(3, 9)).expect("follows the purge");
    }
}
