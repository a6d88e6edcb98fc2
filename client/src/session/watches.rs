//! What this session watches, and how far each watch has come.
//!
//! Invariants:
//! - a watch's position only grows, and only with what was handed to its listener (or with the
//!   member's word that there was nothing), so leaving it again behind its position neither loses
//!   nor repeats an event;
//! - a listener that does not keep up pauses its watch: its queue is bounded, what it missed is
//!   asked of the cluster when it has caught up;
//! - a watch has a new wire id each time it is left again, so that events on their way to the old
//!   one cannot be mistaken.

use std::collections::HashMap;
use std::sync::Arc;

use quorate_core::change::{EventBody, WatchEvent};
use quorate_core::error::ErrorKind;
use quorate_core::id::{Position, Zxid};
use quorate_core::request::{Consistency, ReadRequest, WatchId, WatchKind};
use quorate_proto::convert::read_request;
use quorate_proto::v1;
use tokio::sync::mpsc;

use crate::error::Error;

/// Marks the xids of requests that no call made: leaving watches again.
const AGAIN: u64 = 1 << 63;
/// Marks the xids of requests whose answers do not matter: removing watches.
const IGNORED: u64 = 1 << 62;

/// What a listener hears.
#[derive(Debug)]
pub(crate) enum Told {
    Event(Arc<EventBody>),
    /// Events were lost; what follows lies behind this position.
    Gap(Position),
    /// The queue was full: nothing more comes until the listener, having heard all before this,
    /// asks for it.
    Paused,
    /// The watch is over.
    Failed(Error),
}

/// The telling end of a watch, made by the call that leaves it.
#[derive(Debug)]
pub(crate) struct WatchSender {
    /// The client's name for the watch, for as long as it lives.
    pub(crate) key: u64,
    pub(crate) path: String,
    pub(crate) kind: WatchKind,
    pub(crate) since: Option<Position>,
    pub(crate) with_value: bool,
    /// Its last place is kept for [`Told::Paused`].
    pub(crate) told: mpsc::Sender<Told>,
}

#[derive(Debug)]
struct Watch {
    sender: WatchSender,
    wire: u64,
    position: Option<Position>,
    /// Whether the member has confirmed it on this connection.
    stands: bool,
    /// Whether it ever stood: then it is left again on a new connection.
    stood: bool,
    /// Whether the listener is yet to hear of a gap.
    gap: bool,
    /// Whether the listener's queue was full, and it has not asked for more yet.
    paused: bool,
}

/// See the file's comment.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    by_key: HashMap<u64, Watch>,
    keys: HashMap<u64, u64>,
    wires: u64,
    /// Requests of our own that wait to be sent.
    requests: Vec<v1::Request>,
}

impl Watches {
    /// A call is about to leave a watch; events may come from now on. Returns its wire id.
    pub(crate) fn expect(&mut self, sender: WatchSender) -> WatchId {
        let (key, position) = (sender.key, sender.since);
        let watch =
            Watch { sender, wire: 0, position, stands: false, stood: false, gap: false, paused: false };
        self.by_key.insert(key, watch);
        WatchId(self.rename(key))
    }

    /// The position behind which a call that is sent again must leave its watch.
    pub(crate) fn since(&self, key: u64) -> Option<Position> {
        self.by_key.get(&key)?.position
    }

    /// The call's answer came: the watch stands, behind `zxid` if it was not to begin earlier.
    pub(crate) fn stands(&mut self, key: u64, zxid: Zxid) {
        let Some(watch) = self.by_key.get_mut(&key) else { return };
        watch.stood = true;
        watch.stands = !watch.paused;
        watch.position.get_or_insert(Position::after(zxid));
        if watch.sender.told.is_closed() {
            self.remove(key);
        }
    }

    /// The call was refused: there is no such watch.
    pub(crate) fn forget(&mut self, key: u64) {
        if let Some(watch) = self.by_key.remove(&key) {
            self.keys.remove(&watch.wire);
        }
    }

    /// Nobody listens: forgets the watch, here and at the member. One whose call has no answer yet
    /// goes when it stands, because only then is its removal sure to come behind it.
    pub(crate) fn remove(&mut self, key: u64) {
        let Some(watch) = self.by_key.get_mut(&key) else { return };
        if !watch.stood {
            return;
        }
        if !watch.paused {
            self.requests.push(removal(watch));
        }
        self.forget(key);
    }

    /// The listener has caught up: leaves the watch again behind the last event it heard.
    pub(crate) fn resume(&mut self, key: u64) {
        if let Some(watch) = self.by_key.get_mut(&key)
            && std::mem::take(&mut watch.paused)
        {
            self.leave_again(key);
        }
    }

    /// A new connection: all watches that stood are left again, each behind its position.
    pub(crate) fn reconnected(&mut self) {
        self.requests.clear();
        let mut keys = Vec::with_capacity(self.by_key.len());
        for (key, watch) in &mut self.by_key {
            watch.stands = false;
            if watch.stood && !watch.paused {
                keys.push(*key);
            }
        }
        keys.sort_unstable();
        for key in keys {
            self.leave_again(key);
        }
    }

    /// Requests that must be sent before any of the calls'.
    pub(crate) fn take_requests(&mut self) -> Vec<v1::Request> {
        std::mem::take(&mut self.requests)
    }

    pub(crate) fn has_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether the answer with this xid is for us; if so, it has been dealt with.
    pub(crate) fn answered(
        &mut self,
        xid: u64,
        zxid: Zxid,
        refusal: Option<&quorate_core::error::Error>,
    ) -> bool {
        if xid & IGNORED != 0 {
            return true;
        }
        if xid & AGAIN == 0 {
            return false;
        }
        let Some(key) = self.keys.get(&(xid & !AGAIN)).copied() else { return true };
        match refusal {
            None => {
                self.stands(key, zxid);
                if self.by_key.get(&key).is_some_and(|watch| watch.gap) {
                    self.tell(key, Told::Gap(Position::after(zxid)));
                }
            }
            Some(error) => {
                let watch = self.by_key.get_mut(&key).expect("keys and by_key hold the same watches");
                if error.kind == ErrorKind::WatchGap && is_lasting(watch.sender.kind) {
                    (watch.gap, watch.position) = (true, None);
                    self.leave_again(key);
                } else {
                    self.tell(key, Told::Failed(Error::Refused { error: error.clone(), zxid }));
                }
            }
        }
        true
    }

    /// Tells an event to all listeners of its watches.
    pub(crate) fn event(&mut self, event: &WatchEvent) {
        let position = event.body.position;
        for wire in &event.watches {
            let Some(key) = self.keys.get(&wire.0).copied() else { continue };
            let watch = &self.by_key[&key];
            if watch.position.is_some_and(|reached| position <= reached) {
                continue;
            }
            self.tell(key, Told::Event(event.body.clone()));
        }
    }

    /// The member has sent every event up to here.
    pub(crate) fn delivered_through(&mut self, position: Position) {
        for watch in self.by_key.values_mut().filter(|watch| watch.stands && !watch.gap) {
            watch.position = watch.position.max(Some(position));
        }
    }

    /// An event cannot be understood: its listeners hear why and hear no more.
    pub(crate) fn fail_some(&mut self, wires: &[u64], error: &Error) {
        for wire in wires {
            if let Some(key) = self.keys.get(wire).copied() {
                self.tell(key, Told::Failed(error.clone()));
            }
        }
    }

    /// The session is over: every listener hears why.
    pub(crate) fn fail(&mut self, error: &Error) {
        for (_, watch) in self.by_key.drain() {
            // A full queue says the same by its end.
            let _ = watch.sender.told.try_send(Told::Failed(error.clone()));
        }
        self.keys.clear();
    }

    fn tell(&mut self, key: u64, told: Told) {
        let Some(watch) = self.by_key.get_mut(&key) else { return };
        let (reached, ends) = match &told {
            Told::Event(body) => (Some(body.position), !is_lasting(watch.sender.kind)),
            Told::Gap(position) => (Some(*position), false),
            Told::Paused => (None, false),
            Told::Failed(_) => (None, true),
        };
        if !ends && watch.sender.told.capacity() <= 1 {
            // The member's end goes; the listener asks for the rest when it has caught up.
            self.requests.push(removal(watch));
            watch.stands = false;
            watch.paused = true;
            if watch.gap {
                // Still to be told: left again from anywhere else, its events would come before it.
                watch.position = None;
            }
            self.keys.remove(&watch.wire);
            if watch.sender.told.try_send(Told::Paused).is_err() {
                self.remove(key);
            }
            return;
        }
        if watch.sender.told.try_send(told).is_err() {
            return self.remove(key);
        }
        watch.position = reached.or(watch.position);
        watch.gap = false;
        if ends {
            if is_lasting(watch.sender.kind) && watch.stands {
                self.requests.push(removal(watch));
            }
            self.forget(key);
        }
    }

    fn leave_again(&mut self, key: u64) {
        let wire = self.rename(key);
        let Some(watch) = self.by_key.get_mut(&key) else { return };
        watch.stands = false;
        let request = ReadRequest::AddWatch {
            id: WatchId(wire),
            path: watch.sender.path.clone(),
            kind: watch.sender.kind,
            since: watch.position,
            with_value: watch.sender.with_value,
        };
        let request = read_request(AGAIN | wire, request, Consistency::Session);
        self.requests.push(request.expect("only multi reads can be refused"));
    }

    fn rename(&mut self, key: u64) -> u64 {
        self.wires += 1;
        if let Some(watch) = self.by_key.get_mut(&key) {
            self.keys.remove(&watch.wire);
            watch.wire = self.wires;
            self.keys.insert(self.wires, key);
        }
        self.wires
    }
}

/// Whether a watch of this kind outlives its first event.
fn is_lasting(kind: WatchKind) -> bool {
    matches!(kind, WatchKind::Persistent | WatchKind::Recursive)
}

fn removal(watch: &Watch) -> v1::Request {
    let request = ReadRequest::RemoveWatch {
        id: Some(WatchId(watch.wire)),
        path: watch.sender.path.clone(),
        kind: Some(watch.sender.kind),
    };
    read_request(IGNORED | watch.wire, request, Consistency::Session)
        .expect("only multi reads can be refused")
}

#[cfg(test)]
mod tests {
    use quorate_core::change::{EventKind, Value};
    use quorate_core::znode::Stat;

    use super::*;

    const KEY: u64 = 1;

    fn at(zxid: u64) -> Position {
        Position { zxid: Zxid(zxid), ordinal: 0 }
    }

    /// The requests that wait, by the position from which each leaves a watch; `None` for a removal.
    fn sent(watches: &mut Watches) -> Vec<(u64, Option<Option<Position>>)> {
        let requests = watches.take_requests().into_iter();
        requests
            .map(|request| match request.operation {
                Some(v1::request::Operation::AddWatch(add)) => (request.xid, Some(add.since.map(Into::into))),
                _ => (request.xid, None),
            })
            .collect()
    }

    fn event(wire: u64, zxid: u64) -> WatchEvent {
        let body = EventBody {
            position: at(zxid),
            kind: EventKind::NodeDataChanged,
            path: "/a".into(),
            stat: Stat::default(),
            value: Value::NotKept,
        };
        WatchEvent { body: Arc::new(body), with_value: false, watches: vec![WatchId(wire)] }
    }

    #[test]
    fn a_gap_is_told_before_what_follows_it_even_to_a_listener_whose_queue_is_full() {
        let mut watches = Watches::default();
        let (told, mut listener) = mpsc::channel(2);
        let (path, kind) = ("/a".to_owned(), WatchKind::Persistent);
        let sender = WatchSender { key: KEY, path, kind, since: None, with_value: false, told };
        let WatchId(wire) = watches.expect(sender);
        watches.stands(KEY, Zxid(5));
        watches.event(&event(wire, 6));
        // The queue holds one event and is full; the cluster no longer knows what came behind it.
        watches.reconnected();
        let (again, since) = sent(&mut watches)[0];
        assert_eq!(since, Some(Some(at(6))));
        let gap = quorate_core::error::Error::new(ErrorKind::WatchGap, "forgotten");
        assert!(watches.answered(again, Zxid(20), Some(&gap)));
        let (again, since) = sent(&mut watches)[0];
        assert_eq!(since, Some(None));
        assert!(watches.answered(again, Zxid(20), None));
        assert_eq!(sent(&mut watches), [(IGNORED | (again & !AGAIN), None)], "paused");

        assert!(matches!(listener.try_recv(), Ok(Told::Event(_))));
        assert!(matches!(listener.try_recv(), Ok(Told::Paused)));
        watches.resume(KEY);
        let (again, since) = sent(&mut watches)[0];
        assert_eq!(since, Some(None), "from anywhere else, events would be told before the gap");
        watches.answered(again, Zxid(30), None);
        assert!(
            matches!(listener.try_recv(), Ok(Told::Gap(position)) if position == Position::after(Zxid(30)))
        );
        watches.event(&event(again & !AGAIN, 31));
        assert!(matches!(listener.try_recv(), Ok(Told::Event(_))));
    }
}
