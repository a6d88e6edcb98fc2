//! Checkpoints in memory, for the simulator: what is committed is durable, the rest goes in a crash.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quorate_core::record::RecordWrite;

use super::{CheckpointError, CheckpointMeta, CheckpointStore, Replacement, Ticket, Visitor};

/// Checkpoints in memory. Clones share them, so one survives its simulated member.
#[derive(Clone, Default)]
pub struct MemoryCheckpoints(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    records: BTreeMap<Bytes, Bytes>,
    meta: Option<CheckpointMeta>,
    ticket: u64,
    life: u64,
    gathering: Vec<RecordWrite>,
    failures: u32,
}

impl MemoryCheckpoints {
    /// An empty store.
    pub fn new() -> MemoryCheckpoints {
        MemoryCheckpoints::default()
    }

    /// The member dies: what was not committed is gone, and its tickets and replacements are void.
    pub fn crash(&self) {
        let mut stored = self.lock();
        stored.ticket += 1;
        stored.life += 1;
        stored.gathering.clear();
    }

    /// Makes the next commit fail, once, leaving the old checkpoint.
    pub fn fail_next_commit(&self) {
        self.lock().failures += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().expect("no code panics while it holds the checkpoint")
    }
}

impl Stored {
    fn check(&self, ticket: Ticket) -> Result<(), CheckpointError> {
        if self.ticket == ticket.0 { Ok(()) } else { Err(CheckpointError::Superseded) }
    }

    fn fail_if_asked(&mut self) -> Result<(), CheckpointError> {
        if self.failures == 0 {
            return Ok(());
        }
        self.failures -= 1;
        Err(CheckpointError::Io {
            action: "sync",
            path: PathBuf::from("memory"),
            source: io::Error::other("injected"),
        })
    }
}

impl CheckpointStore for MemoryCheckpoints {
    fn meta(&self) -> Result<Option<CheckpointMeta>, CheckpointError> {
        Ok(self.lock().meta.clone())
    }

    fn begin(&self) -> Result<Ticket, CheckpointError> {
        let mut stored = self.lock();
        stored.ticket += 1;
        stored.gathering.clear();
        Ok(Ticket(stored.ticket))
    }

    fn stage(&self, ticket: Ticket, writes: Vec<RecordWrite>) -> Result<(), CheckpointError> {
        let mut stored = self.lock();
        stored.check(ticket)?;
        stored.gathering.extend(writes);
        Ok(())
    }

    fn commit(&self, ticket: Ticket, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        let mut stored = self.lock();
        stored.check(ticket)?;
        stored.fail_if_asked()?;
        for write in std::mem::take(&mut stored.gathering) {
            match write.value {
                Some(value) => stored.records.insert(write.key, value),
                None => stored.records.remove(&write.key),
            };
        }
        stored.meta = Some(meta.clone());
        Ok(())
    }

    fn visit(&self, visitor: Visitor<'_>) -> Result<(), CheckpointError> {
        let records = self.lock().records.clone();
        for (key, value) in &records {
            if visitor(key, value) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }

    fn begin_replacement(&self) -> Result<Box<dyn Replacement>, CheckpointError> {
        let life = self.lock().life;
        Ok(Box::new(MemoryReplacement { store: self.clone(), life, records: BTreeMap::new(), meta: None }))
    }
}

struct MemoryReplacement {
    store: MemoryCheckpoints,
    life: u64,
    records: BTreeMap<Bytes, Bytes>,
    /// There once it was sealed.
    meta: Option<CheckpointMeta>,
}

impl Replacement for MemoryReplacement {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), CheckpointError> {
        self.records.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Ok(())
    }

    fn seal(&mut self, meta: &CheckpointMeta) -> Result<(), CheckpointError> {
        self.meta = Some(meta.clone());
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), CheckpointError> {
        let mut stored = self.store.lock();
        // A task of a member that died must not write into its next life.
        if stored.life != self.life || self.meta.is_none() {
            return Err(CheckpointError::Superseded);
        }
        stored.fail_if_asked()?;
        stored.ticket += 1;
        stored.gathering.clear();
        stored.records = self.records;
        stored.meta = self.meta;
        Ok(())
    }
}
