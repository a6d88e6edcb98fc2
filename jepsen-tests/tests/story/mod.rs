//! Histories for the tests of checkers, written down entry by entry.

// Each test program uses its own part of this.
#![allow(dead_code)]

use std::time::Duration;

use jepsen_tests::checkers::{Checker, Verdict};
use jepsen_tests::history::{Entry, History, Kind, NEMESIS, Operation, Process};

/// A history under construction; every entry comes 1 ms after the one before.
#[derive(Default)]
pub struct Story(pub History);

impl Story {
    pub fn entry(mut self, process: Process, kind: Kind, operation: Operation, zxid: Option<u64>) -> Story {
        let time_us = self.0.entries.last().map_or(0, |last| last.time_us + 1000);
        self.0.entries.push(Entry { time_us, process, kind, operation, zxid, error: None });
        self
    }

    pub fn invoke(self, process: Process, operation: Operation) -> Story {
        self.entry(process, Kind::Invoke, operation, None)
    }

    pub fn ok(self, process: Process, operation: Operation) -> Story {
        self.entry(process, Kind::Ok, operation, None)
    }

    pub fn ok_at(self, process: Process, zxid: u64, operation: Operation) -> Story {
        self.entry(process, Kind::Ok, operation, Some(zxid))
    }

    pub fn info(self, process: Process, operation: Operation) -> Story {
        self.entry(process, Kind::Info, operation, None)
    }

    pub fn fail(self, process: Process, operation: Operation) -> Story {
        self.entry(process, Kind::Fail, operation, None)
    }

    /// The workers are told to stop, and time goes by.
    pub fn stopped(self, time: Duration) -> Story {
        let mut story = self.entry(NEMESIS, Kind::Info, Operation::Stop, None);
        story.0.entries.last_mut().expect("just written").time_us += time.as_micros() as u64;
        story
    }

    /// An operation without anything beside it.
    pub fn alone(self, process: Process, asked: Operation, told: Operation) -> Story {
        self.invoke(process, asked).ok(process, told)
    }

    pub fn verdict(&self, checker: impl Checker) -> Verdict {
        checker.check(&self.0)
    }

    pub fn is_valid(&self, checker: impl Checker) {
        let verdict = self.verdict(checker);
        assert!(verdict.is_valid(), "{verdict:?}");
    }

    pub fn is_rejected(&self, checker: impl Checker, because: &str) {
        match self.verdict(checker) {
            Verdict::Invalid { anomalies } => {
                assert!(anomalies.iter().any(|anomaly| anomaly.what.contains(because)), "{anomalies:?}");
            }
            other => panic!("not rejected: {other:?}"),
        }
    }

    pub fn is_unknown(&self, checker: impl Checker) {
        let verdict = self.verdict(checker);
        assert!(matches!(verdict, Verdict::Unknown { .. }), "{verdict:?}");
    }
}
