//! Expiry: an answered heartbeat is a promise. The session does not expire before a whole timeout has
//! passed since the client *sent* it.

use std::collections::BTreeMap;

use quorate_core::id::SessionId;

/// Promises made and sessions expired; times in simulated microseconds.
#[derive(Debug, Default)]
pub struct Expiry {
    promised: BTreeMap<SessionId, u64>,
    expired: BTreeMap<SessionId, u64>,
}

impl Expiry {
    /// A client was told that a heartbeat has been heard.
    pub fn answered(&mut self, session: SessionId, sent_us: u64, timeout_us: u64) -> Result<(), String> {
        let until = self.promised.entry(session).or_default();
        *until = (*until).max(sent_us + timeout_us);
        self.judge(session)
    }

    /// The session expired: the first member has applied it.
    pub fn expired(&mut self, session: SessionId, now_us: u64) -> Result<(), String> {
        self.expired.entry(session).or_insert(now_us);
        self.judge(session)
    }

    fn judge(&self, session: SessionId) -> Result<(), String> {
        match (self.promised.get(&session), self.expired.get(&session)) {
            (Some(promised), Some(expired)) if expired < promised => Err(format!(
                "session {session} expired {} ms before the end of what its client was promised",
                (promised - expired) / 1000
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_before_the_promised_end_is_noticed_whichever_comes_first() {
        let mut rule = Expiry::default();
        assert!(rule.answered(SessionId(1), 100, 1000).is_ok());
        assert!(rule.expired(SessionId(1), 1100).is_ok());
        let mut rule = Expiry::default();
        assert!(rule.answered(SessionId(1), 100, 1000).is_ok());
        assert!(rule.expired(SessionId(1), 1099).is_err());
        let mut rule = Expiry::default();
        assert!(rule.expired(SessionId(1), 1099).is_ok());
        assert!(rule.answered(SessionId(1), 100, 1000).is_err());
    }
}
