//! What the storage tests share: entries, dice, and running a future that never waits.

#![allow(dead_code)] // each test uses its own part of it

use std::future::Future;
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::vote::RaftLeaderIdExt;
use quorate_server::replica::log_store::LogStore;
use quorate_server::replica::types::{Entry, EntryPayload, LeaderId, LogId, Payload, TypeConfig};

pub fn id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new_committed(term, 1), index)
}

/// An entry whose payload can be told from any other's.
pub fn entry(term: u64, index: u64, length: usize) -> Entry {
    let byte = |position: usize| (index as usize * 31 + term as usize * 7 + position) as u8 | 1;
    let payload: Vec<u8> = (0..length).map(byte).collect();
    Entry { log_id: id(term, index), payload: EntryPayload::Normal(Payload(Bytes::from(payload))) }
}

/// Runs a future that is ready at once, as everything is with an inline writer.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("an inline store does not wait"),
    }
}

/// Appends and waits until the entries are durable.
pub fn append(log: &mut LogStore, entries: impl IntoIterator<Item = Entry>) -> io::Result<()> {
    let entries: Vec<Entry> = entries.into_iter().collect();
    let (sender, answer) = TypeConfig::oneshot();
    block_on(log.append(entries, IOFlushed::signal(sender)))?;
    block_on(answer).expect("the callback is told")
}

pub fn read_all(log: &mut LogStore) -> Vec<Entry> {
    block_on(log.reader().try_get_log_entries(..)).expect("readable")
}

/// Numbers that look random and are the same every time.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound.max(1)
    }
}
