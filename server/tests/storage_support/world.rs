//! A small world of znodes that changes, can be frozen, and knows what it should look like.

use std::ops::ControlFlow;
use std::sync::Mutex;

use bytes::Bytes;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Command, Create, Operation, Origin, Stamp};
use quorate_core::id::{MemberId, Timestamp};
use quorate_core::record::{Record, RecordWrite};
use quorate_core::state::State;
use quorate_core::znode::CreateMode;
use quorate_server::replica::checkpoint::{CheckpointMeta, CheckpointStore, FrozenSource};
use quorate_server::replica::types::StoredMembership;

use super::{Dice, id};

pub struct World(Mutex<Inner>);

struct Inner {
    state: State,
    applied: u64,
    nodes: u64,
    dice: Dice,
}

impl World {
    pub fn new() -> World {
        World(Mutex::new(Inner { state: State::new(), applied: 0, nodes: 0, dice: Dice(5) }))
    }

    /// Applies so many commands: creations, changes (some large), deletions.
    pub fn change(&self, commands: u64) {
        let mut inner = self.0.lock().expect("not poisoned");
        for _ in 0..commands {
            inner.step();
        }
    }

    /// Creates so many nodes with so much data.
    pub fn grow(&self, nodes: u64, bytes: usize) {
        let mut inner = self.0.lock().expect("not poisoned");
        for _ in 0..nodes {
            inner.create(bytes);
        }
    }

    /// What a whole checkpoint of the state as it is now holds.
    pub fn records(&self) -> Vec<Record> {
        self.0.lock().expect("not poisoned").state.all_records().collect()
    }

    pub fn meta(&self) -> CheckpointMeta {
        self.0.lock().expect("not poisoned").meta()
    }
}

impl Inner {
    fn step(&mut self) {
        let choice = self.dice.below(10);
        let some = self.dice.below(self.nodes.max(1));
        let large = self.dice.below(40) == 0;
        let length = self.dice.below(if large { 200_000 } else { 300 }) as usize;
        let path = format!("/n{some:08}");
        match choice {
            0..5 => self.create(length),
            5..9 => {
                let data = Some(Bytes::from(vec![choice as u8; length]));
                self.apply(Operation::SetData { path, data, version: -1 });
            }
            _ => self.apply(Operation::Delete { path, version: -1 }),
        }
    }

    fn create(&mut self, length: usize) {
        let path = format!("/n{:08}", self.nodes);
        self.nodes += 1;
        let data = Some(Bytes::from(vec![self.nodes as u8; length]));
        let mode = CreateMode::Persistent;
        self.apply(Operation::Create(Create { path, data, acl: AclEntry::open(), mode }));
    }

    fn apply(&mut self, operation: Operation) {
        self.applied += 1;
        let time = Timestamp(1_700_000_000_000 + self.applied as i64);
        let stamp = Stamp { time, entropy: [self.applied as u8; 16] };
        let origin = Origin::Call { member: MemberId(1), ticket: self.applied, request: None };
        // Refusals (a node that is gone) change the state as well.
        self.state.apply(&stamp, &Command { origin, identities: vec![], operation });
    }

    fn meta(&self) -> CheckpointMeta {
        CheckpointMeta {
            applied: id(1, self.applied),
            membership: StoredMembership::default(),
            zxid: self.state.zxid(),
            digest: self.state.digest(),
        }
    }
}

impl FrozenSource for World {
    fn begin(&self) -> Option<CheckpointMeta> {
        let mut inner = self.0.lock().expect("not poisoned");
        inner.state.freeze();
        Some(inner.meta())
    }

    fn chunk(&self, bytes_max: usize) -> Vec<RecordWrite> {
        let mut inner = self.0.lock().expect("not poisoned");
        let chunk = inner.state.frozen_chunk(bytes_max);
        // Life goes on while a checkpoint is written.
        if !chunk.is_empty() && inner.applied > 0 {
            inner.step();
        }
        chunk
    }

    fn abandon(&self) {
        self.0.lock().expect("not poisoned").state.abandon_frozen();
    }
}

/// Everything a store holds.
pub fn stored(store: &dyn CheckpointStore) -> Vec<Record> {
    let mut records = Vec::new();
    store
        .visit(&mut |key, value| {
            let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            records.push(Record { key, value });
            ControlFlow::Continue(())
        })
        .expect("readable");
    records
}
