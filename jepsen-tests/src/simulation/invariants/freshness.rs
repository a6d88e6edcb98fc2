//! Freshness: the order of transactions agrees with real time.
//!
//! What a client asks for after any client was told of transaction N is answered from N or later: a
//! write gets a greater number, a linearizable read at least N.

/// The last transaction that anybody was told of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freshness {
    told: u64,
}

impl Freshness {
    /// Where an operation that begins now must stand.
    pub fn floor(&self) -> u64 {
        self.told
    }

    /// A write of these floors was answered.
    pub fn wrote(&mut self, floor: u64, zxid: u64) -> Result<(), String> {
        self.told = self.told.max(zxid);
        if zxid > floor {
            return Ok(());
        }
        Err(format!("a write was given zxid {zxid} though {floor} had been acknowledged before it was sent"))
    }

    /// A linearizable read was answered.
    pub fn read(&mut self, floor: u64, zxid: u64) -> Result<(), String> {
        self.told = self.told.max(zxid);
        if zxid >= floor {
            return Ok(());
        }
        Err(format!(
            "a linearizable read saw zxid {zxid} though {floor} had been acknowledged before it was sent"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_older_than_what_was_acknowledged_before_is_noticed() {
        let mut rule = Freshness::default();
        let first = rule.floor();
        assert!(rule.wrote(first, 4).is_ok());
        let later = rule.floor();
        assert!(rule.read(first, 3).is_ok(), "it was sent before");
        assert!(rule.read(later, 3).is_err());
        assert!(rule.read(later, 4).is_ok());
        assert!(rule.wrote(later, 4).is_err());
    }
}
