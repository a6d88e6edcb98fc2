//! A session's numbered writes from submission until they have applied on this member.
//!
//! Kept encoded, in number order, so that after a leader change or a broken peer connection they
//! are proposed again as they were: apply recognises repeats by number and refuses gaps, so
//! sending one too often is harmless and sending one too few is noticed.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_core::id::WriteNumber;

/// The writes of one attached session that have not applied here yet.
#[derive(Debug, Default)]
pub struct InFlight {
    writes: VecDeque<(WriteNumber, Bytes)>,
    bytes: usize,
}

impl InFlight {
    /// Adds the next write. Numbers grow by one.
    pub fn push(&mut self, number: WriteNumber, command: Bytes) {
        debug_assert!(self.writes.back().is_none_or(|(last, _)| last.next() == number));
        self.bytes += command.len();
        self.writes.push_back((number, command));
    }

    /// Forgets all writes up to `number`; whether `number` itself was among them.
    pub fn applied(&mut self, number: WriteNumber) -> bool {
        let mut found = false;
        while let Some((first, command)) = self.writes.front() {
            if *first > number {
                break;
            }
            found = *first == number;
            self.bytes -= command.len();
            self.writes.pop_front();
        }
        found
    }

    /// All of them, in order, for proposing again.
    pub fn commands(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.writes.iter().map(|(_, command)| command.clone())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Their encoded size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_applied_write_is_forgotten_with_all_before_it() {
        let mut in_flight = InFlight::default();
        for number in 1..=4 {
            in_flight.push(WriteNumber(number), Bytes::from_static(b"xy"));
        }
        assert!(in_flight.applied(WriteNumber(2)));
        assert_eq!((in_flight.len(), in_flight.bytes()), (2, 4));
        assert!(!in_flight.applied(WriteNumber(1)), "a repeat finds nothing to forget");
    }
}
