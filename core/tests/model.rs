//! Random commands against a naive model, and against other copies of the same state.
//!
//! `PROPTEST_CASES` sets how often each property is tried.

mod naive;
mod runs;
mod steps;

use std::collections::BTreeMap;

use naive::watches::{Heard, NaiveWatches};
use naive::{Model, may};
use proptest::prelude::*;
use quorate_core::acl::Identity;
use quorate_core::change::Value;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{SessionId, WriteNumber};
use quorate_core::reply::{Child, ReadResult, WriteReply, WriteResult};
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use quorate_core::state::{Answer, Applied, Caller, State, StateLoader};
use quorate_core::watches::{WatcherId, Watches};
use runs::config;
use steps::{Step, aim, bare, identities, steps};

/// Steps in one run.
const LENGTH: usize = 100;

/// What is promised of an answer: everything but the words, and passwords, which nobody can guess.
fn promised(mut applied: Applied) -> Applied {
    match &mut applied.answer {
        Answer::Reply(reply) | Answer::Repeat(reply) => *reply = promised_reply(reply),
        Answer::Stale(error) => *error = bare(error),
        Answer::Forgotten | Answer::Gap { .. } => {}
    }
    applied
}

fn promised_reply(reply: &WriteReply) -> WriteReply {
    let mut reply = reply.clone();
    match &mut reply.result {
        Ok(WriteResult::SessionOpened(attachment) | WriteResult::Attached(attachment)) => {
            attachment.password = [0; 16];
        }
        Err(error) => *error = bare(error),
        Ok(_) => {}
    }
    reply
}

/// The model learns a new session's password.
fn learn(model: &mut Model, applied: &Applied) {
    if let Answer::Reply(WriteReply { result: Ok(WriteResult::SessionOpened(attachment)), .. }) =
        &applied.answer
    {
        let session = model.sessions.get_mut(&attachment.session.0).expect("the model opened it too");
        session.password = attachment.password;
    }
}

/// What clients do with watches between writes.
#[derive(Clone, Debug)]
enum WatchStep {
    Add { watcher: u64, id: u64, path: String, kind: WatchKind, with_value: bool },
    Remove { watcher: u64, id: Option<u64>, path: String, kind: Option<WatchKind> },
    RemoveWatcher { watcher: u64 },
}

fn watch_steps() -> impl Strategy<Value = Vec<WatchStep>> {
    let path = || {
        let paths = [
            Just("/"),
            Just("/a"),
            Just("/b"),
            Just("/c"),
            Just("/a/a"),
            Just("/a/b"),
            Just("/a/b/c"),
            Just("/b/a"),
        ];
        proptest::strategy::Union::new(paths).prop_map(str::to_owned)
    };
    let kind = || {
        prop_oneof![
            Just(WatchKind::Data),
            Just(WatchKind::Exists),
            Just(WatchKind::Child),
            Just(WatchKind::Persistent),
            Just(WatchKind::Recursive)
        ]
    };
    let step = prop_oneof![
        12 => (0u64..4, 0u64..3, path(), kind(), any::<bool>())
            .prop_map(|(watcher, id, path, kind, with_value)| WatchStep::Add { watcher, id, path, kind, with_value }),
        3 => (0u64..4, proptest::option::of(0u64..3), path(), proptest::option::of(kind()))
            .prop_map(|(watcher, id, path, kind)| WatchStep::Remove { watcher, id, path, kind }),
        1 => (0u64..4).prop_map(|watcher| WatchStep::RemoveWatcher { watcher }),
    ];
    proptest::collection::vec(step, LENGTH)
}

fn watch(step: &WatchStep, watches: &mut Watches, naive: &mut NaiveWatches) {
    match step {
        WatchStep::Add { watcher, id, path, kind, with_value } => {
            let is_new = watches.add(WatcherId(*watcher), WatchId(*id), path, *kind, *with_value);
            assert_eq!(is_new, naive.add(*watcher, *id, path, *kind, *with_value), "{step:?}");
        }
        WatchStep::Remove { watcher, id, path, kind } => {
            let known = watches.contains(WatcherId(*watcher), path, *kind);
            assert_eq!(known, naive.contains(*watcher, path, *kind), "{step:?}");
            let removed = watches.remove(WatcherId(*watcher), id.map(WatchId), path, *kind);
            let expected = naive.remove(*watcher, *id, path, *kind);
            assert_eq!(removed.map_err(|error| error.kind).is_ok(), expected, "{step:?}");
        }
        WatchStep::RemoveWatcher { watcher } => {
            watches.remove_watcher(WatcherId(*watcher));
            naive.remove_watcher(*watcher);
        }
    }
    assert_eq!(watches.counts().watches, naive.watches.len());
}

fn hear(applied: &Applied, watches: &mut Watches, naive: &mut NaiveWatches) {
    for change in &applied.changes {
        let mut heard: Vec<Heard> = Vec::new();
        watches.trigger(change, &mut |watcher, event, acl| {
            let body = &event.body;
            let is_own = body.path == change.path;
            assert_eq!(*acl, if is_own { change.acl.clone() } else { change.parent_acl.clone() });
            assert_eq!(body.value, if is_own { change.value.clone() } else { Value::NotKept });
            assert_eq!(body.position, change.position);
            let ids = event.watches.iter().map(|id| id.0).collect();
            heard.push((watcher.0, body.kind, body.path.to_string(), ids, event.with_value));
        });
        assert_eq!(heard, naive.trigger(change), "{change:?}");
    }
}

/// Everything that a reader can see.
fn compare(state: &State, model: &Model) {
    let root = identities(4);
    let caller = Caller { identities: &root, session: None };
    for (path, node) in &model.nodes {
        let get = state.read(&ReadRequest::Get { path: path.clone(), watch: None }, &caller);
        assert_eq!(get, Ok(ReadResult::Data { data: node.data.clone(), stat: model.stat(path) }), "{path}");
        let acl = state.read(&ReadRequest::GetAcl { path: path.clone() }, &caller);
        assert_eq!(acl, Ok(ReadResult::Acl { acl: node.acl.clone(), stat: model.stat(path) }), "{path}");
        let count = state.read(&ReadRequest::CountDescendants { path: path.clone() }, &caller);
        assert_eq!(count, Ok(ReadResult::Count(model.descendants(path).len() as u64)), "{path}");
        let children = model.children(path).into_iter();
        let children: Vec<Child> = children.map(|name| Child { name, stat: None, data: None }).collect();
        let list = state.read(&list(path, None, 0, false), &caller);
        assert_eq!(
            list,
            Ok(ReadResult::Children { children, stat: model.stat(path), more: false }),
            "{path}"
        );
    }
    let counts = state.counts();
    let data_bytes: usize =
        model.nodes.values().map(|node| node.data.as_ref().map_or(0, |data| data.len())).sum();
    assert_eq!(counts.znodes, model.nodes.len() as u64);
    assert_eq!(counts.data_bytes, data_bytes as u64);
    assert_eq!(counts.sessions, model.sessions.len() as u64);
    assert_eq!(counts.changes, model.changes);
    assert_eq!(counts.request_ids, model.requests.len() as u64);
    assert_eq!((state.zxid().0, state.time().0), (model.zxid, model.time));
    compare_sessions(state, model);
}

fn compare_sessions(state: &State, model: &Model) {
    assert!(state.sessions().map(|session| session.session.0).eq(model.sessions.keys().copied()));
    let mut ephemerals = 0;
    for (id, session) in &model.sessions {
        let owned = model.nodes.iter().filter(|(_, node)| node.kind == naive::Kind::Ephemeral(*id));
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        ephemerals += owned.len() as u64;
        let view = state.session(SessionId(*id)).expect("listed above");
        assert_eq!(view.ephemerals as usize, owned.len());
        assert_eq!((view.epoch.0, view.last_applied.0), (session.epoch, session.last_applied));
        assert_eq!((view.member.0, view.timeout_ms), (session.member, session.timeout_ms));
        assert!(state.check_password(SessionId(*id), &session.password));
        let replies = state.replies_after(SessionId(*id), WriteNumber(0));
        let replies: BTreeMap<u64, WriteReply> =
            replies.into_iter().map(|(number, reply)| (number.0, promised_reply(&reply))).collect();
        assert_eq!(replies, session.replies);
        let caller = Caller { identities: &[], session: Some(SessionId(*id)) };
        let list = state.read(&ReadRequest::Ephemerals { prefix: "/".into() }, &caller);
        assert_eq!(list, Ok(ReadResult::Ephemerals(owned)));
    }
    assert_eq!(state.counts().ephemerals, ephemerals);
}

fn list(path: &str, after: Option<String>, limit: u32, with_all: bool) -> ReadRequest {
    ReadRequest::List {
        path: path.into(),
        after,
        limit,
        with_stat: with_all,
        with_data: with_all,
        watch: None,
    }
}

/// What somebody may see of one node, by pages.
fn compare_as(state: &State, model: &Model, path: &str, who: &[Identity], limit: u32) {
    let caller = Caller { identities: who, session: None };
    let node = &model.nodes[path];
    let exists = state.read(&ReadRequest::Exists { path: path.into(), watch: None }, &caller);
    let exists = exists.map_err(|error| bare(&error));
    if !may(&node.acl, 1, who) {
        assert_eq!(exists, Err(Error::from(ErrorKind::NoAuth)), "{path}");
        return;
    }
    assert_eq!(exists, Ok(ReadResult::Exists(model.stat(path))), "{path}");
    let mut seen: Vec<Child> = Vec::new();
    loop {
        let after = seen.last().map(|child| child.name.clone());
        match state.read(&list(path, after, limit, true), &caller) {
            Ok(ReadResult::Children { children, more, .. }) => {
                assert!(children.len() <= limit as usize);
                seen.extend(children);
                if !more {
                    break;
                }
            }
            other => panic!("a list of {path} was answered {other:?}"),
        }
    }
    let expected = model.children(path).into_iter().map(|name| {
        let path = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
        let child = &model.nodes[&path];
        let is_shown = may(&child.acl, 1, who);
        Child {
            stat: is_shown.then(|| model.stat(&path)),
            data: child.data.clone().filter(|_| is_shown),
            name,
        }
    });
    assert!(seen.into_iter().eq(expected), "{path}");
}

fn reloaded(state: &State) -> State {
    let mut loader = StateLoader::new();
    for record in state.all_records() {
        loader.push(&record.key, &record.value).expect("records of a state load");
    }
    loader.finish().expect("records of a state load")
}

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn records(state: &State) -> Records {
    let records: Vec<_> =
        state.all_records().map(|record| (record.key.to_vec(), record.value.to_vec())).collect();
    assert!(records.is_sorted_by(|one, other| one.0 < other.0), "records are in the order of their keys");
    records.into_iter().collect()
}

/// Plays steps on a state beside a model, which says what the steps are aimed at.
struct Stage {
    model: Model,
    clock: i64,
    count: u64,
}

impl Stage {
    fn new() -> Stage {
        Stage { model: Model::new(), clock: 1000, count: 0 }
    }

    /// Applies a step to the state and the model, which must agree.
    fn apply(&mut self, step: &Step, state: &mut State) -> Option<(Applied, quorate_core::command::Command)> {
        self.count += 1;
        let (stamp, command) = aim(step, &mut self.clock, self.count, &self.model)?;
        let applied = state.apply(&stamp, &command);
        let expected = self.model.apply(&stamp, &command);
        assert_eq!(promised(applied.clone()), promised(expected), "{command:?}");
        learn(&mut self.model, &applied);
        assert_eq!(state.digest(), state.recompute_digest(), "{command:?}");
        Some((applied, command))
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn the_core_agrees_with_the_naive_model(
        steps in steps(LENGTH),
        watch_steps in watch_steps(),
        limit in 1u32..4,
    ) {
        let (mut state, mut stage) = (State::new(), Stage::new());
        let (mut watches, mut naive) = (Watches::new(), NaiveWatches::default());
        for (step, watch_step) in steps.iter().zip(&watch_steps) {
            watch(watch_step, &mut watches, &mut naive);
            let Some((applied, command)) = stage.apply(step, &mut state) else { continue };
            hear(&applied, &mut watches, &mut naive);
            if let Some(change) = applied.changes.first()
                && stage.model.nodes.contains_key(&*change.path)
            {
                compare_as(&state, &stage.model, &change.path, &command.identities, limit);
            }
        }
        compare(&state, &stage.model);
        for path in stage.model.nodes.keys() {
            for who in 0..5 {
                compare_as(&state, &stage.model, path, &identities(who), limit);
            }
        }
    }

    #[test]
    fn states_fed_alike_are_alike(steps in steps(LENGTH), seed: u64) {
        let (mut one, mut other, mut stage) = (State::new(), State::with_index_seed(seed), Stage::new());
        for step in &steps {
            let (mut clock, count) = (stage.clock, stage.count + 1);
            let command = aim(step, &mut clock, count, &stage.model);
            let Some((applied, _)) = stage.apply(step, &mut one) else { continue };
            let (stamp, command) = command.expect("aimed in the same way");
            prop_assert_eq!(applied, other.apply(&stamp, &command));
            prop_assert_eq!(one.digest(), other.digest());
        }
        prop_assert_eq!(records(&one), records(&other));
    }

    #[test]
    fn a_reloaded_state_goes_on_alike(steps in steps(LENGTH), at in 0..LENGTH, again in 0..LENGTH) {
        let (mut one, mut other, mut stage) = (State::new(), State::new(), Stage::new());
        for (index, step) in steps.iter().enumerate() {
            let (mut clock, count) = (stage.clock, stage.count + 1);
            let command = aim(step, &mut clock, count, &stage.model);
            if index == at || index == again {
                other = reloaded(&other);
                prop_assert_eq!(one.digest(), other.digest());
            }
            let Some((applied, _)) = stage.apply(step, &mut one) else { continue };
            let (stamp, command) = command.expect("aimed in the same way");
            prop_assert_eq!(applied, other.apply(&stamp, &command));
        }
        compare(&other, &stage.model);
        prop_assert_eq!(records(&one), records(&other));
        prop_assert_eq!(other.digest(), other.recompute_digest());
    }

    /// A checkpoint: the frozen view is drained a little at a time while commands go on.
    #[test]
    fn a_frozen_view_is_the_state_when_it_was_frozen(
        steps in steps(LENGTH),
        drains in proptest::collection::vec(prop_oneof![2 => Just(None), 3 => (1usize..400).prop_map(Some)], LENGTH),
    ) {
        let (mut state, mut stage) = (State::new(), Stage::new());
        let mut stored = Records::new();
        let mut frozen: Option<(Records, quorate_core::state::Digest)> = None;
        for (step, drain) in steps.iter().zip(&drains) {
            stage.apply(step, &mut state);
            match (&frozen, drain) {
                (None, Some(_)) => {
                    frozen = Some((records(&state), state.digest()));
                    state.freeze();
                    prop_assert_eq!(state.frozen_digest(), Some(state.digest()));
                }
                (Some(expected), Some(bytes)) => {
                    prop_assert_eq!(state.frozen_digest(), Some(expected.1));
                    if store(&mut state, *bytes, &mut stored) {
                        prop_assert_eq!(&stored, &expected.0);
                        frozen = None;
                    }
                }
                (_, None) => {}
            }
        }
        if let Some((expected, _)) = frozen {
            while !store(&mut state, 100, &mut stored) {}
            prop_assert_eq!(&stored, &expected);
        }
        state.freeze();
        while !store(&mut state, 1000, &mut stored) {}
        prop_assert_eq!(stored, records(&state));
    }
}

/// Writes one part of the frozen view to the store; whether that was all.
fn store(state: &mut State, bytes: usize, stored: &mut Records) -> bool {
    let chunk = state.frozen_chunk(bytes);
    for write in &chunk {
        match &write.value {
            Some(value) => stored.insert(write.key.to_vec(), value.to_vec()),
            None => stored.remove(&write.key.to_vec()),
        };
    }
    chunk.is_empty()
}
