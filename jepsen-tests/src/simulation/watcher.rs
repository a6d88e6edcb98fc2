//! A client's recursive watch over all its connections: it resumes behind the last position heard.

use quorate_core::change::{EventKind, Value, WatchEvent};
use quorate_core::id::{Position, Zxid};
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use tokio::sync::watch;

use super::verdicts::Diary;
use crate::history::{Kind, Operation, Process};

/// The top of what is watched.
pub const WATCHED: &str = "/watched";

/// One client's watch.
pub struct Watcher {
    process: Process,
    diary: Diary,
    since: Option<Position>,
    /// Set once all changes are made: the last one's transaction.
    last_change: watch::Receiver<Option<u64>>,
    has_heard_all: bool,
}

impl Watcher {
    /// A watch that is not left yet. It ends once it has heard everything up to `last_change`.
    pub fn new(process: Process, diary: Diary, last_change: watch::Receiver<Option<u64>>) -> Watcher {
        Watcher { process, diary, since: None, last_change, has_heard_all: false }
    }

    /// What leaves it on a new connection.
    pub fn request(&mut self, seen: Zxid) -> ReadRequest {
        if self.since.is_none() {
            self.begin(seen);
        }
        ReadRequest::AddWatch {
            id: WatchId(1),
            path: WATCHED.to_owned(),
            kind: WatchKind::Recursive,
            since: self.since,
            with_value: true,
        }
    }

    fn begin(&mut self, behind: Zxid) {
        self.since = Some(Position::after(behind));
        let operation = Operation::Watch { since: Some(behind.0) };
        self.diary.note(self.process, Kind::Ok, operation, None, None);
    }

    /// It missed something and goes on from here.
    pub fn gap(&mut self, zxid: Zxid) {
        self.since = Some(Position::after(zxid));
        self.diary.note(self.process, Kind::Ok, Operation::Gap, Some(zxid.0), None);
    }

    /// It heard of a change.
    pub fn event(&mut self, event: &WatchEvent) {
        let body = &event.body;
        self.since = Some(body.position);
        if body.kind != EventKind::NodeDataChanged {
            return;
        }
        let node = body.path.rsplit('/').next().and_then(|name| name.parse().ok());
        let number = match &body.value {
            Value::Kept(Some(data)) => std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        // What cannot be read shows as a change that nobody made.
        let operation = Operation::Event {
            node: node.unwrap_or(u32::MAX),
            number: number.unwrap_or(u64::MAX),
            ordinal: body.position.ordinal,
        };
        self.diary.note(self.process, Kind::Ok, operation, Some(body.position.zxid.0), None);
    }

    /// Every event up to here has been delivered.
    pub fn delivered(&mut self, through: Position) {
        self.since = self.since.max(Some(through));
        let last = *self.last_change.borrow();
        if !self.has_heard_all && last.is_some_and(|last| through.zxid.0 >= last) {
            self.has_heard_all = true;
            self.diary.note(self.process, Kind::Ok, Operation::Caught, None, None);
        }
    }

    /// Whether it has heard of every change there will be.
    pub fn has_heard_all(&self) -> bool {
        self.has_heard_all
    }
}
