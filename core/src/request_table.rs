//! Request ids of unary writes with their first answers, for a window of state time.
//!
//! Bounded twice: by the window (older ids are answered "outcome unknown") and by bytes (a full
//! table refuses new ids). `floor` only grows, so an id that was forgotten is never taken for new,
//! even if the window is widened later.

use std::collections::BTreeMap;

use crate::command::RequestId;
use crate::id::Timestamp;
use crate::record::{RecordId, element_hash};
use crate::tree::node::Mark;

/// What an entry costs besides its answer.
const ENTRY_BYTES: u64 = 64;

/// One remembered write.
#[derive(Debug)]
pub(crate) struct Remembered {
    /// The encoded answer.
    pub reply: Box<[u8]>,
    /// Whether a checkpoint has to write the entry.
    pub mark: Mark,
}

/// All remembered writes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    entries: BTreeMap<RequestId, Remembered>,
    bytes: u64,
    /// Ids issued before this are forgotten.
    pub floor: Timestamp,
}

impl RequestTable {
    /// An empty table that has forgotten everything before `floor`.
    pub fn with_floor(floor: Timestamp) -> RequestTable {
        RequestTable { floor, ..RequestTable::default() }
    }

    /// Bytes of all entries, as the limit counts them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries there are.
    pub fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The first answer of a remembered write.
    pub fn get(&self, id: &RequestId) -> Option<&Remembered> {
        self.entries.get(id)
    }

    /// The same, to change its mark.
    pub fn get_mut(&mut self, id: &RequestId) -> Option<&mut Remembered> {
        self.entries.get_mut(id)
    }

    /// Remembers a new id.
    pub fn insert(&mut self, id: RequestId, reply: Box<[u8]>, mark: Mark) {
        self.bytes += ENTRY_BYTES + reply.len() as u64;
        self.entries.insert(id, Remembered { reply, mark });
    }

    /// Takes out the oldest entry if it was issued before the floor.
    pub fn evict(&mut self) -> Option<(RequestId, Remembered)> {
        let (oldest, _) = self.entries.first_key_value()?;
        if oldest.issued >= self.floor {
            return None;
        }
        let (id, entry) = self.entries.pop_first()?;
        self.bytes -= ENTRY_BYTES + entry.reply.len() as u64;
        Some((id, entry))
    }

    /// All entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&RequestId, &Remembered)> {
        self.entries.iter()
    }
}

/// What an entry adds to the digest.
pub(crate) fn request_element(id: &RequestId, reply: &[u8], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    RecordId::Request(id.clone()).put_prefix(scratch);
    scratch.extend_from_slice(reply);
    element_hash(scratch)
}
