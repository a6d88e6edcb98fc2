//! A watcher that comes and goes hears every event exactly once and in order, or is told of a gap.
//!
//! The connection may break anywhere, even between two events of one transaction, and the member
//! may restart meanwhile. Each watch resumes behind the last position that *it* heard.

mod naive;
mod runs;
mod steps;

use naive::Model;
use naive::watches::{events, hears};
use proptest::prelude::*;
use quorate_core::acl::AclEntry;
use quorate_core::change::{Change, EventKind, WatchEvent};
use quorate_core::command::{Command, Create, MultiOperation, Operation, Origin};
use quorate_core::error::ErrorKind;
use quorate_core::id::{Position, Zxid};
use quorate_core::request::{WatchId, WatchKind};
use quorate_core::settings::Setting;
use quorate_core::state::{State, StateLoader};
use quorate_core::watches::{WatcherId, Watches};
use quorate_core::znode::CreateMode;
use runs::config;
use steps::{Step, aim};

/// Steps in one run.
const LENGTH: usize = 200;

/// What happens between commands.
#[derive(Clone, Debug)]
enum Event {
    /// So many commands are applied.
    Commands(usize),
    /// The client leaves a watch, from now on or from the beginning of time.
    Watch {
        path: &'static str,
        kind: WatchKind,
        from_start: bool,
    },
    /// The connection breaks; this many events that were sent never arrived.
    Disconnect {
        lost: usize,
    },
    Resume {
        restarted: bool,
    },
    /// The change log is emptied.
    Cut,
}

fn happenings() -> impl Strategy<Value = Vec<Event>> {
    const PATHS: [&str; 8] = ["/", "/", "/a", "/a", "/b", "/c", "/a/b", "/b/a"];
    let kind = prop_oneof![
        Just(WatchKind::Data),
        Just(WatchKind::Exists),
        Just(WatchKind::Child),
        Just(WatchKind::Persistent),
        Just(WatchKind::Recursive)
    ];
    let event = prop_oneof![
        30 => (1usize..8).prop_map(Event::Commands),
        6 => (proptest::sample::select(&PATHS[..]), kind, prop::bool::weighted(0.2))
            .prop_map(|(path, kind, from_start)| Event::Watch { path, kind, from_start }),
        3 => prop_oneof![2 => Just(0usize), 3 => 1usize..6].prop_map(|lost| Event::Disconnect { lost }),
        8 => any::<bool>().prop_map(|restarted| Event::Resume { restarted }),
        1 => Just(Event::Cut),
    ];
    proptest::collection::vec(event, LENGTH / 4)
}

/// A watch as its client knows it.
#[derive(Debug)]
struct Kept {
    path: &'static str,
    kind: WatchKind,
    /// Behind this it wants to hear everything.
    start: Position,
    /// The last position that it heard, or a later one up to which it has heard everything.
    position: Position,
    /// A one-shot watch ends with what it hears.
    is_over: bool,
    heard: Vec<Arrived>,
    /// From where to where it was told that it missed something.
    gaps: Vec<(Position, Position)>,
}

/// An event that reached the client.
#[derive(Clone, Debug, PartialEq)]
struct Arrived {
    position: Position,
    kind: EventKind,
    path: String,
}

/// The client, its connection and the member.
struct Stage {
    state: State,
    watches: Watches,
    model: Model,
    clock: i64,
    count: u64,
    /// Everything that ever changed.
    changes: Vec<Change>,
    kept: Vec<Kept>,
    is_connected: bool,
    /// What went to the client on this connection: the watch, and what to tell it.
    sent: Vec<(usize, Arrived, Position)>,
}

const CLIENT: WatcherId = WatcherId(1);

impl Stage {
    fn new() -> Stage {
        Stage {
            state: State::new(),
            watches: Watches::new(),
            model: Model::new(),
            clock: 1000,
            count: 0,
            changes: Vec::new(),
            kept: Vec::new(),
            is_connected: true,
            sent: Vec::new(),
        }
    }

    fn command(&mut self, step: &Step) {
        self.count += 1;
        let Some((stamp, command)) = aim(step, &mut self.clock, self.count, &self.model) else { return };
        self.model.apply(&stamp, &command);
        let applied = self.state.apply(&stamp, &command);
        self.learn(&applied.answer);
        for change in applied.changes {
            let Stage { watches, kept, sent, .. } = self;
            watches.trigger(&change, &mut |watcher, event, acl| {
                assert_eq!(watcher, CLIENT);
                check_event(&event, acl, &change);
                for id in &event.watches {
                    arrive(kept, sent, id.0 as usize, &event);
                }
            });
            self.changes.push(change);
        }
    }

    /// The model must know passwords to aim at sessions.
    fn learn(&mut self, answer: &quorate_core::state::Answer) {
        use quorate_core::reply::{WriteReply, WriteResult};
        if let quorate_core::state::Answer::Reply(WriteReply {
            result: Ok(WriteResult::SessionOpened(attachment)),
            ..
        }) = answer
        {
            let session = self.model.sessions.get_mut(&attachment.session.0);
            session.expect("the model opened it too").password = attachment.password;
        }
    }

    /// Empties the change log. The model has none; it notes that two transactions passed.
    fn cut(&mut self) {
        let stamp = quorate_core::command::Stamp::default();
        let set = |setting| Command {
            origin: Origin::House,
            identities: Vec::new(),
            operation: Operation::Set(setting),
        };
        for bytes in [0, 1 << 20] {
            self.state.apply(&stamp, &set(Setting::ChangeLogBytes(bytes)));
            self.model.apply(&stamp, &set(Setting::RulesVersion(1)));
        }
        assert_eq!(self.state.counts().changes, 0);
    }

    fn watch(&mut self, path: &'static str, kind: WatchKind, from_start: bool) {
        if !self.is_connected {
            return;
        }
        let start = if from_start { Position::default() } else { Position::after(self.state.zxid()) };
        self.kept.push(Kept {
            path,
            kind,
            start,
            position: start,
            is_over: false,
            heard: Vec::new(),
            gaps: Vec::new(),
        });
        self.resume_one(self.kept.len() - 1);
    }

    fn disconnect(&mut self, lost: usize) {
        if !self.is_connected {
            return;
        }
        self.is_connected = false;
        self.watches.remove_watcher(CLIENT);
        assert_eq!(self.watches.counts(), Default::default());
        let zxid = self.state.zxid();
        // What never arrived was never heard; its watches are where they were before.
        let arrived = self.sent.len().saturating_sub(lost);
        for (index, _, before) in self.sent.drain(..).rev().take(lost) {
            let watch = &mut self.kept[index];
            watch.heard.pop();
            watch.position = before;
            watch.is_over = false;
        }
        // A heartbeat had told that everything arrived.
        if arrived % 2 == 1 && lost == 0 {
            self.kept.iter_mut().for_each(|watch| watch.position = Position::after(zxid));
        }
    }

    fn resume(&mut self, restarted: bool) {
        if self.is_connected {
            return;
        }
        if restarted {
            let mut loader = StateLoader::new();
            for record in self.state.all_records() {
                loader.push(&record.key, &record.value).expect("records of a state load");
            }
            self.state = loader.finish().expect("records of a state load");
        }
        self.is_connected = true;
        for index in 0..self.kept.len() {
            self.resume_one(index);
        }
    }

    /// What a member does with a watch that names a position: tell what it missed, then leave it.
    fn resume_one(&mut self, index: usize) {
        let Stage { state, watches, kept, sent, changes, .. } = self;
        let watch = &kept[index];
        if watch.is_over {
            return;
        }
        let (path, kind, position, id) = (watch.path, watch.kind, watch.position, WatchId(index as u64));
        match state.changes_since(position) {
            Ok(missed) => {
                for change in missed {
                    assert!(change.position > position);
                    assert!(changes.contains(&change), "the log keeps what was told: {change:?}");
                    for (event, acl) in Watches::replay(id, path, kind, false, &change) {
                        check_event(&event, &acl, &change);
                        assert_eq!(event.watches, [id]);
                        arrive(kept, sent, index, &event);
                    }
                    if kept[index].is_over {
                        return;
                    }
                }
            }
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::WatchGap);
                let now = Position::after(state.zxid());
                let is_lost = |change: &&Change| change.position > position && change.position <= now;
                assert!(changes.iter().any(|change| is_lost(&change)), "a gap without anything lost");
                kept[index].gaps.push((position, now));
                kept[index].position = now;
            }
        }
        watches.add(CLIENT, id, path, kind, false);
    }

    /// Each watch heard what there was for it to hear.
    fn check(&self) {
        for watch in &self.kept {
            let is_in_gap =
                |position: Position| watch.gaps.iter().any(|(from, to)| *from < position && position <= *to);
            let all = self.changes.iter().filter(|change| change.position > watch.start);
            let all = all.filter(|change| !is_in_gap(change.position)).flat_map(|change| {
                let heard = events(change).into_iter();
                let heard = heard.filter(|(event, path)| hears(watch.kind, watch.path, *event, path));
                heard.map(|(kind, path)| Arrived { position: change.position, kind, path })
            });
            let count = if watch.kind.is_one_shot() { 1 } else { usize::MAX };
            let expected: Vec<Arrived> = all.take(count).collect();
            assert_eq!(watch.heard, expected, "{:?} {}", watch.kind, watch.path);
            assert_eq!(watch.is_over, watch.kind.is_one_shot() && !expected.is_empty());
        }
    }
}

fn arrive(kept: &mut [Kept], sent: &mut Vec<(usize, Arrived, Position)>, index: usize, event: &WatchEvent) {
    let watch = &mut kept[index];
    let arrived =
        Arrived { position: event.body.position, kind: event.body.kind, path: event.body.path.to_string() };
    sent.push((index, arrived.clone(), watch.position));
    watch.position = arrived.position;
    watch.heard.push(arrived);
    watch.is_over = watch.kind.is_one_shot();
}

/// Live or replayed, an event says the same.
fn check_event(event: &WatchEvent, acl: &std::sync::Arc<[AclEntry]>, change: &Change) {
    let body = &event.body;
    assert_eq!(body.position, change.position);
    if body.kind == EventKind::NodeChildrenChanged {
        assert_eq!(*acl, change.parent_acl);
    } else {
        assert_eq!(
            (acl, &body.path, body.stat, &body.value),
            (&change.acl, &change.path, change.stat, &change.value)
        );
    }
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn every_event_is_heard_once_or_a_gap_is_told(
        steps in steps::steps(LENGTH),
        happenings in happenings(),
    ) {
        let mut stage = Stage::new();
        let mut steps = steps.iter();
        for happening in &happenings {
            match *happening {
                Event::Commands(count) => steps.by_ref().take(count).for_each(|step| stage.command(step)),
                Event::Watch { path, kind, from_start } => stage.watch(path, kind, from_start),
                Event::Disconnect { lost } => stage.disconnect(lost),
                Event::Resume { restarted } => stage.resume(restarted),
                Event::Cut => stage.cut(),
            }
        }
        stage.resume(false);
        stage.check();
    }
}

/// The log leaves in blocks: from every position it answers all that came later, or tells a gap
/// because something is missing.
#[test]
fn a_long_log_answers_from_every_position_or_tells_a_gap() {
    let mut state = State::new();
    let call = |operation| Command {
        origin: Origin::Call { member: quorate_core::id::MemberId(1), ticket: 1, request: None },
        identities: Vec::new(),
        operation,
    };
    state.apply(&Default::default(), &call(Operation::Set(Setting::ChangeLogBytes(60_000))));
    let mut all: Vec<Change> = Vec::new();
    for round in 0..400 {
        let data = Some(vec![b'x'; round * 7 % 900].into());
        let operation = match round {
            0 => create("/a"),
            _ => Operation::Multi(vec![
                MultiOperation::SetData { path: "/a".into(), data, version: -1 },
                MultiOperation::SetData { path: "/a".into(), data: None, version: -1 },
            ]),
        };
        all.extend(state.apply(&Default::default(), &call(operation)).changes);
    }
    let (mut gaps, mut answers) = (0, 0);
    for (index, change) in all.iter().enumerate() {
        match state.changes_since(change.position) {
            Ok(changes) => {
                assert!(changes.eq(all[index + 1..].iter().cloned()));
                answers += 1;
            }
            Err(_) => {
                gaps += 1;
                assert_eq!(answers, 0, "a gap behind an answer");
            }
        }
    }
    assert!(gaps > 300 && answers > 100, "{gaps} gaps, {answers} answers");
    assert_eq!(state.counts().changes, answers - 1, "what cannot be answered is what is not kept");
    let end = Position::after(state.zxid());
    assert_eq!(state.changes_since(end).expect("nothing is missing behind the end").count(), 0);
}

/// The smallest case that a position for the whole connection would get wrong: two watches hear of
/// one change, and the connection breaks between the two events.
#[test]
fn a_position_belongs_to_a_watch() {
    let mut state = State::new();
    let command = Command {
        origin: Origin::Call { member: quorate_core::id::MemberId(1), ticket: 1, request: None },
        identities: Vec::new(),
        operation: create("/a"),
    };
    state.apply(&Default::default(), &command);
    let heard = Position { zxid: Zxid(1), ordinal: 0 };
    let behind = |position| -> Vec<EventKind> {
        let changes = state.changes_since(position).expect("the log holds everything");
        changes
            .flat_map(|change| Watches::replay(WatchId(2), "/", WatchKind::Child, false, &change))
            .map(|(event, _)| event.body.kind)
            .collect()
    };
    // The exists watch on /a heard of the creation; the child watch on / never heard its own event.
    assert_eq!(behind(heard), []);
    assert_eq!(behind(Position::default()), [EventKind::NodeChildrenChanged]);
}

fn create(path: &str) -> Operation {
    Operation::Create(Create {
        path: path.into(),
        data: None,
        acl: AclEntry::open(),
        mode: CreateMode::Persistent,
    })
}
