//! A session's view: what one client is told never goes back.
//!
//! - replies carry transactions that never decrease, over all connections of all its sessions;
//! - writes are answered in the order of their numbers, each once;
//! - once a watch stands, an event comes before any message that exposes its transaction, and events
//!   come in the order of their positions.

use quorate_core::id::{Position, WriteNumber, Zxid};

/// One client's view.
#[derive(Clone, Copy, Debug, Default)]
pub struct SessionView {
    seen: Zxid,
    answered: WriteNumber,
    /// Since the watch stands on this connection: the last transaction that any message exposed.
    exposed: Option<Zxid>,
    event: Option<Position>,
}

impl SessionView {
    /// The last transaction seen.
    pub fn seen(&self) -> Zxid {
        self.seen
    }

    /// The last write answered.
    pub fn answered(&self) -> WriteNumber {
        self.answered
    }

    /// A new session: numbers begin again, what was seen stays seen.
    pub fn new_session(&mut self) {
        *self = SessionView { seen: self.seen, event: self.event, ..SessionView::default() };
    }

    /// A new connection: no watch stands on it.
    pub fn new_connection(&mut self) {
        self.exposed = None;
    }

    /// A message exposed everything up to a transaction.
    pub fn sees(&mut self, zxid: Zxid) -> Result<(), String> {
        if zxid < self.seen {
            return Err(format!("the session had seen zxid {} and was then shown {zxid}", self.seen));
        }
        self.seen = zxid;
        if let Some(exposed) = &mut self.exposed {
            *exposed = zxid;
        }
        Ok(())
    }

    /// A write was answered. A reply from the reply table may be older than what was seen since.
    pub fn reply(&mut self, number: WriteNumber, zxid: Zxid, is_repeat: bool) -> Result<(), String> {
        if number != self.answered.next() {
            return Err(format!("write {} was answered behind {}", number.0, self.answered.0));
        }
        self.answered = number;
        if is_repeat && zxid < self.seen { Ok(()) } else { self.sees(zxid) }
    }

    /// The watch stands.
    pub fn watches(&mut self) {
        self.exposed = Some(self.seen);
    }

    /// An event arrived.
    pub fn event(&mut self, position: Position) -> Result<(), String> {
        if let Some(exposed) = self.exposed
            && position.zxid <= exposed
        {
            return Err(format!(
                "the event of zxid {} came behind a message that exposed {exposed}",
                position.zxid
            ));
        }
        if let Some(last) = self.event.replace(position)
            && position <= last
        {
            return Err(format!("the event {position:?} came behind {last:?}"));
        }
        Ok(())
    }

    /// Events begin anew behind a position: the watch missed something and was told so.
    pub fn event_gap(&mut self) {
        self.event = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zxid: u64) -> Position {
        Position { zxid: Zxid(zxid), ordinal: 0 }
    }

    #[test]
    fn a_view_that_goes_back_is_noticed() {
        let mut view = SessionView::default();
        assert!(view.sees(Zxid(5)).is_ok());
        assert!(view.sees(Zxid(4)).is_err());
        view.new_session();
        assert!(view.sees(Zxid(4)).is_err(), "a new session does not forget");
    }

    #[test]
    fn answers_twice_missing_or_out_of_order_are_noticed() {
        let mut view = SessionView::default();
        assert!(view.reply(WriteNumber(1), Zxid(5), false).is_ok());
        assert!(view.reply(WriteNumber(1), Zxid(5), false).is_err());
        assert!(view.reply(WriteNumber(3), Zxid(6), false).is_err());
        assert!(view.reply(WriteNumber(2), Zxid(4), false).is_err(), "order of transactions");
        assert!(view.reply(WriteNumber(3), Zxid(4), true).is_ok(), "an old answer, given again");
    }

    #[test]
    fn events_behind_what_exposes_them_or_out_of_order_are_noticed() {
        let mut view = SessionView::default();
        assert!(view.event(at(1)).is_ok());
        assert!(view.event(at(1)).is_err(), "twice");
        assert!(view.sees(Zxid(7)).is_ok());
        assert!(view.event(at(6)).is_ok(), "replayed before the watch stands");
        view.watches();
        assert!(view.event(at(7)).is_err(), "behind the message that exposed it");
        assert!(view.event(at(9)).is_ok());
        assert!(view.event(at(8)).is_err(), "out of order");
    }
}
