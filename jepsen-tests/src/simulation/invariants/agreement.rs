//! Agreement: at one log index there is one content, on every member and in every life.
//!
//! The content's digest covers the tree, sessions, reply tables, change log and settings, so two
//! members whose logs differ anywhere below an index differ here. A member that loses what it had
//! applied may apply it again, but only the same.

use std::collections::BTreeMap;

use quorate_core::id::{MemberId, Zxid};
use quorate_core::state::Digest;

/// The digests of all indexes applied anywhere.
#[derive(Debug, Default)]
pub struct Agreement {
    at: BTreeMap<u64, (Digest, Zxid, MemberId)>,
}

impl Agreement {
    /// A member has applied everything up to `index`.
    pub fn applied(
        &mut self,
        member: MemberId,
        index: u64,
        zxid: Zxid,
        digest: Digest,
    ) -> Result<(), String> {
        let (known, known_zxid, first) = *self.at.entry(index).or_insert((digest, zxid, member));
        if (known, known_zxid) == (digest, zxid) {
            return Ok(());
        }
        Err(format!(
            "at log index {index} member {member} has zxid {zxid} and digest {:032x}, member {first} had zxid \
             {known_zxid} and digest {:032x}",
            digest.0, known.0
        ))
    }

    /// The highest index applied anywhere.
    pub fn highest(&self) -> u64 {
        self.at.last_key_value().map_or(0, |(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_content_at_the_same_index_is_noticed() {
        let mut agreement = Agreement::default();
        assert!(agreement.applied(MemberId(1), 5, Zxid(3), Digest(7)).is_ok());
        assert!(agreement.applied(MemberId(2), 5, Zxid(3), Digest(7)).is_ok());
        assert!(agreement.applied(MemberId(2), 5, Zxid(3), Digest(8)).is_err());
        assert!(agreement.applied(MemberId(3), 5, Zxid(4), Digest(7)).is_err());
        assert_eq!(agreement.highest(), 5);
    }
}
