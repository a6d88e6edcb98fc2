//! Which steps come: all choices from one seed, and from what both sides have answered so far.
//!
//! Some things are left out because no client can rely on them:
//! - authentication behind other requests of a batch: ZooKeeper's answer may overtake theirs;
//! - anything behind a request that ends the connection;
//! - deletions below containers, whose end the servers' clocks then decide;
//! - watches added to paths that cannot be: ZooKeeper leaves them, to fire never, we refuse them;
//! - setWatches where nodes are kept from readers: ZooKeeper tells of them, we do not;
//! - a wrong password for a session that is connected: ZooKeeper ends that connection, we do not;
//! - permission bits beyond the five: ZooKeeper keeps them, we drop them;
//! - a null path to sync: ZooKeeper gives it back, we refuse it;
//! - requests right behind a setACL: in ZooKeeper the old list may still judge them;
//! - getAllChildrenNumber of "": ZooKeeper counts the root among its children;
//! - the contents of /zookeeper/config, which name the servers.

use std::collections::VecDeque;

use super::jute::Writer;
use super::request::{Field, Request, code};
use super::side::{Item, SLOTS};

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// A new session.
    Open {
        /// Which place.
        slot: usize,
        /// The timeout asked for.
        timeout_ms: i32,
        /// Whether the byte about read-only members is sent.
        with_read_only: bool,
    },
    /// A session on a new connection, whether or not an older one is open.
    Resume {
        /// Which place.
        slot: usize,
        /// With a password that is not the session's.
        wrong_password: bool,
        /// As somebody who has seen more than there is.
        from_the_future: bool,
    },
    /// The connection is cut.
    Drop {
        /// Which place.
        slot: usize,
    },
    /// Pipelined requests.
    Batch {
        /// Which place.
        slot: usize,
        /// In this order.
        requests: Vec<Request>,
    },
}

impl Step {
    /// Whose.
    pub fn slot(&self) -> usize {
        match self {
            Step::Open { slot, .. }
            | Step::Resume { slot, .. }
            | Step::Drop { slot }
            | Step::Batch { slot, .. } => *slot,
        }
    }

    /// Whether a session ends by it.
    pub fn ends_session(&self) -> bool {
        matches!(self, Step::Batch { requests, .. } if requests.last() == Some(&Request::close()))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Open { slot, timeout_ms, .. } => write!(f, "{slot}: open, timeout {timeout_ms}"),
            Step::Resume { slot, wrong_password, from_the_future } => {
                let with = if *wrong_password { " with a wrong password" } else { "" };
                let when = if *from_the_future { " from the future" } else { "" };
                write!(f, "{slot}: resume{with}{when}")
            }
            Step::Drop { slot } => write!(f, "{slot}: cut"),
            Step::Batch { slot, requests } => {
                write!(f, "{slot}: ")?;
                let texts: Vec<&str> = requests.iter().map(|request| request.text.as_str()).collect();
                f.write_str(&texts.join(" | "))
            }
        }
    }
}

impl Request {
    /// Whether the connection ends behind the answer.
    pub fn ends_connection(&self) -> bool {
        self.code == code::CLOSE_SESSION || self.text.starts_with("fatal ")
    }
}

/// See the file's comment.
pub struct Generator {
    pub(super) random: fastrand::Rng,
    /// Paths that were created with numbers.
    pub(super) learnt: VecDeque<String>,
    pub(super) is_3_9: bool,
    /// Whether nodes are made that some may not read. Every other chapter of 3.9 (3.8 shows their
    /// Stats to all): ZooKeeper's setWatches
    /// tells of such nodes what ours keeps to itself.
    pub(super) has_secrets: bool,
    /// Nulls inside a multi make ZooKeeper's decoder fail in ways of their own.
    pub(super) is_in_multi: bool,
}

impl Generator {
    /// For one chapter. `is_3_9`: the server is ZooKeeper 3.9 or later; 3.8 knows no types 4
    /// and 5 of removeWatches, looks at a multi's flags later, answers a create2
    /// inside one as a create, finds a recursive watch when asked about nodes below it, counts
    /// writes that it could not decode, forgets a persistent watch for a one-shot one on its path, and never
    /// answers again after a check outside a multi.
    pub fn new(seed: u64, chapter: u64, is_3_9: bool) -> Generator {
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ chapter);
        Generator {
            random,
            learnt: VecDeque::new(),
            is_3_9,
            has_secrets: is_3_9 && chapter % 2 == 1,
            is_in_multi: false,
        }
    }

    /// The next step; `states`: for each slot, whether it is connected and whether it has a session.
    pub fn next(&mut self, states: &[(bool, bool)]) -> Step {
        let slot = self.random.usize(..SLOTS);
        match states[slot] {
            (_, false) => {
                let timeouts = [40_000, 40_000, 40_000, 60_000, i32::MAX, 30_000];
                let timeout_ms = timeouts[self.random.usize(..timeouts.len())];
                Step::Open { slot, timeout_ms, with_read_only: self.random.u8(..4) > 0 }
            }
            (false, true) => Step::Resume {
                slot,
                wrong_password: self.random.u8(..20) == 0,
                from_the_future: self.random.u8(..20) == 0,
            },
            (true, true) => match self.random.u8(..100) {
                0..5 => Step::Drop { slot },
                5..7 => Step::Resume { slot, wrong_password: false, from_the_future: false },
                7..9 => Step::Batch { slot, requests: vec![Request::close()] },
                9..13 => Step::Batch { slot, requests: vec![self.auth()] },
                13..15 => Step::Batch { slot, requests: vec![self.fatal()] },
                15..24 if !self.has_secrets => Step::Batch { slot, requests: vec![self.set_watches()] },
                _ => {
                    let count = 1 + self.random.usize(..8);
                    let mut requests: Vec<Request> = (0..count).map(|_| self.request()).collect();
                    let acl = requests.iter().position(|request| request.code == code::SET_ACL);
                    requests.truncate(acl.map_or(count, |acl| acl + 1));
                    Step::Batch { slot, requests }
                }
            },
        }
    }

    /// Remembers what was created.
    pub fn learn(&mut self, items: &[Item]) {
        for item in items {
            let Item::Reply { fields, .. } = item else { continue };
            if let Some(Field::Text(path)) = fields.first()
                && path.ends_with(|last: char| last.is_ascii_digit())
            {
                self.learnt.push_back(path.clone());
                if self.learnt.len() > 12 {
                    self.learnt.pop_front();
                }
            }
        }
    }

    /// What brings the root back to what it is in a new tree.
    pub fn reset_root(&self) -> Vec<Request> {
        let mut acl = Writer::default();
        acl.text("/").int(1).int(31).text("world").text("anyone").int(-1);
        let mut data = Writer::default();
        data.text("/").bytes(Some(b"")).int(-1);
        vec![
            Request::new(code::SET_ACL, &acl, "setACL / open".into()),
            Request::new(code::SET_DATA, &data, "set /".into()),
        ]
    }
}
