//! The replicated sessions: whose they are, how far their writes got, which replies are kept.
//!
//! Rules about them (write numbers, attaching, ending) are in state/session_rules.rs. Invariants:
//! - the kept replies are those of the last write numbers, without holes: the newest is
//!   `last_applied`'s;
//! - `ephemerals` holds exactly the places of the nodes that the session owns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::codec::{DecodeError, Reader, put_bytes, put_u64};
use crate::id::{AttachEpoch, MemberId, SessionId, WriteNumber};
use crate::record::{ELEMENT_REPLY, RecordId, element_hash};
use crate::reply::WriteReply;
use crate::tree::node::{Mark, Slot};

/// A session's kept replies above this, whatever its client acknowledges, are forgotten: the oldest first.
const REPLIES_MAX: usize = 64 << 10;
/// The same, by their weight. A door's queue must hold them all when the session is resumed.
const REPLY_WEIGHT_MAX: usize = 32 << 20;
/// What each result of a reply weighs beside its bytes: decoded, it is larger than encoded.
const RESULT_WEIGHT: usize = 128;

/// The fixed part of a session's record.
const HEAD_BYTES: usize = 16 + 3 * 8 + 4;

/// All sessions by id.
pub(crate) type Sessions = BTreeMap<SessionId, Session>;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub password: [u8; 16],
    pub member: MemberId,
    pub epoch: AttachEpoch,
    pub timeout_ms: u32,
    pub last_applied: WriteNumber,
    /// Encoded replies of the writes up to `last_applied` that the client has not acknowledged.
    replies: VecDeque<Kept>,
    reply_bytes: usize,
    reply_weight: usize,
    /// Sum of the kept replies' hashes.
    reply_hash: u128,
    /// Hash of all else, as the digest has it.
    head_hash: u128,
    /// Nodes that go with the session.
    pub ephemerals: BTreeSet<Slot>,
    /// Whether a checkpoint has to write the session.
    pub mark: Mark,
}

/// A kept reply.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    bytes: Box<[u8]>,
    /// A multi has many.
    results: u32,
}

impl Kept {
    fn weight(&self) -> usize {
        self.bytes.len() + RESULT_WEIGHT * self.results as usize
    }
}

impl Session {
    /// A session just opened, attached for the first time.
    pub fn new(password: [u8; 16], member: MemberId, timeout_ms: u32) -> Session {
        Session {
            password,
            member,
            epoch: AttachEpoch(1),
            timeout_ms,
            last_applied: WriteNumber(0),
            replies: VecDeque::new(),
            reply_bytes: 0,
            reply_weight: 0,
            reply_hash: 0,
            head_hash: 0,
            ephemerals: BTreeSet::new(),
            mark: Mark::Clean,
        }
    }

    /// What the session adds to the digest.
    pub fn hash(&self) -> u128 {
        self.head_hash.wrapping_add(self.reply_hash)
    }

    /// Notes a change of anything but replies and ephemerals.
    pub fn rehash(&mut self, id: SessionId, scratch: &mut Vec<u8>) {
        scratch.clear();
        RecordId::Session(id).put_prefix(scratch);
        self.encode_head(scratch);
        self.head_hash = element_hash(scratch);
    }

    /// The same, from nothing.
    pub fn recompute_hash(&self, id: SessionId) -> u128 {
        let mut scratch = Vec::new();
        RecordId::Session(id).put_prefix(&mut scratch);
        self.encode_head(&mut scratch);
        let mut hash = element_hash(&scratch);
        for (number, reply) in self.replies_after(WriteNumber(0)) {
            hash = hash.wrapping_add(reply_element(id, number, reply, &mut scratch));
        }
        hash
    }

    /// The kept reply of a number, if it is kept.
    pub fn reply(&self, number: WriteNumber) -> Option<&[u8]> {
        let place = number.0.checked_sub(self.reply_first())?;
        self.replies.get(usize::try_from(place).ok()?).map(|reply| &*reply.bytes)
    }

    /// Kept replies with their numbers, behind `after`.
    pub fn replies_after(&self, after: WriteNumber) -> impl Iterator<Item = (WriteNumber, &[u8])> {
        let first = self.reply_first();
        let numbered = self.replies.iter().zip(first..);
        numbered
            .map(|(reply, number)| (WriteNumber(number), &*reply.bytes))
            .filter(move |(number, _)| *number > after)
    }

    /// Forgets the replies that the client holds.
    pub fn acknowledge(&mut self, id: SessionId, through: WriteNumber, scratch: &mut Vec<u8>) {
        while self.reply_first() <= through.0 && self.forget_oldest_reply(id, scratch) {}
        if self.replies.is_empty() && self.replies.capacity() > 64 {
            self.replies = VecDeque::new();
        }
    }

    /// Forgets the oldest kept reply; false if none is kept.
    fn forget_oldest_reply(&mut self, id: SessionId, scratch: &mut Vec<u8>) -> bool {
        let number = WriteNumber(self.reply_first());
        let Some(reply) = self.replies.pop_front() else { return false };
        self.reply_bytes -= reply.bytes.len();
        self.reply_weight -= reply.weight();
        self.reply_hash = self.reply_hash.wrapping_sub(reply_element(id, number, &reply.bytes, scratch));
        true
    }

    /// Notes the next write as applied, with its reply of so many results. What a client does not
    /// acknowledge is not kept without bound; the newest reply is kept whatever its size.
    pub fn applied(
        &mut self,
        id: SessionId,
        results: u32,
        encode: impl FnOnce(&mut Vec<u8>),
        scratch: &mut Vec<u8>,
    ) {
        self.last_applied = self.last_applied.next();
        let head = start_element(id, self.last_applied, scratch);
        encode(scratch);
        let reply = Kept { bytes: scratch[head..].into(), results };
        self.reply_bytes += reply.bytes.len();
        self.reply_weight += reply.weight();
        self.reply_hash = self.reply_hash.wrapping_add(element_hash(scratch));
        self.replies.push_back(reply);
        while self.replies.len() > 1
            && (self.replies.len() > REPLIES_MAX || self.reply_weight > REPLY_WEIGHT_MAX)
        {
            self.forget_oldest_reply(id, scratch);
        }
    }

    /// At least the length of the encoding.
    pub fn encoded_length_max(&self) -> usize {
        HEAD_BYTES + 10 + self.reply_bytes + self.replies.len() * 5
    }

    /// Appends the record's value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_head(out);
        put_u64(out, self.replies.len() as u64);
        for reply in &self.replies {
            put_bytes(out, &reply.bytes);
        }
    }

    /// Reads a record's value.
    pub fn decode(id: SessionId, value: &[u8]) -> Result<Session, DecodeError> {
        let mut reader = Reader::new(value, "session record");
        let password = reader.array()?;
        let member = MemberId(u64::from_le_bytes(reader.array()?));
        let epoch = AttachEpoch(u64::from_le_bytes(reader.array()?));
        let last_applied = u64::from_le_bytes(reader.array()?);
        let timeout_ms = u32::from_le_bytes(reader.array()?);
        let count = reader.u64()?;
        let mut session = Session { epoch, ..Session::new(password, member, timeout_ms) };
        session.last_applied = WriteNumber(last_applied.checked_sub(count).ok_or(reader.error())?);
        let mut scratch = Vec::new();
        for _ in 0..count {
            let reply = reader.bytes()?;
            let results = WriteReply::results_in(reply);
            session.applied(id, results, |out| out.extend_from_slice(reply), &mut scratch);
        }
        session.rehash(id, &mut scratch);
        reader.finish()?;
        Ok(session)
    }

    fn encode_head(&self, out: &mut Vec<u8>) {
        let mut head = [0; HEAD_BYTES];
        head[..16].copy_from_slice(&self.password);
        head[16..24].copy_from_slice(&self.member.0.to_le_bytes());
        head[24..32].copy_from_slice(&self.epoch.0.to_le_bytes());
        head[32..40].copy_from_slice(&self.last_applied.0.to_le_bytes());
        head[40..].copy_from_slice(&self.timeout_ms.to_le_bytes());
        out.extend_from_slice(&head);
    }

    fn reply_first(&self) -> u64 {
        self.last_applied.0 + 1 - self.replies.len() as u64
    }
}

fn reply_element(id: SessionId, number: WriteNumber, reply: &[u8], scratch: &mut Vec<u8>) -> u128 {
    start_element(id, number, scratch);
    scratch.extend_from_slice(reply);
    element_hash(scratch)
}

/// Puts what stands before a reply in its digest element into `scratch`; returns its length.
fn start_element(id: SessionId, number: WriteNumber, scratch: &mut Vec<u8>) -> usize {
    let mut head = [0; 17];
    head[0] = ELEMENT_REPLY;
    head[1..9].copy_from_slice(&id.0.to_be_bytes());
    head[9..].copy_from_slice(&number.0.to_be_bytes());
    scratch.clear();
    scratch.extend_from_slice(&head);
    head.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_kept_until_acknowledged_and_survive_a_record() {
        let (id, mut scratch) = (SessionId(7), Vec::new());
        let mut session = Session::new([1; 16], MemberId(2), 4000);
        for reply in [b"one", b"two", b"tri"] {
            session.applied(id, 1, |out| out.extend_from_slice(reply), &mut scratch);
        }
        assert_eq!(session.reply(WriteNumber(1)), Some(&b"one"[..]));
        session.acknowledge(id, WriteNumber(1), &mut scratch);
        assert_eq!((session.reply(WriteNumber(1)), session.reply(WriteNumber(2))), (None, Some(&b"two"[..])));
        assert_eq!((session.reply(WriteNumber(0)), session.reply(WriteNumber(4))), (None, None));
        session.rehash(id, &mut scratch);
        assert_eq!(session.hash(), session.recompute_hash(id));
        let mut value = Vec::new();
        session.encode(&mut value);
        assert!(value.len() <= session.encoded_length_max());
        let loaded = Session::decode(id, &value).expect("just encoded");
        assert_eq!(loaded.hash(), session.hash());
        assert_eq!(loaded.replies, session.replies);
        session.acknowledge(id, WriteNumber(99), &mut scratch);
        assert_eq!(session.replies_after(WriteNumber(0)).count(), 0);
        session.applied(id, 1, |out| out.extend_from_slice(b"four"), &mut scratch);
        assert_eq!(session.reply(WriteNumber(4)), Some(&b"four"[..]));
        assert!(Session::decode(id, &value[..value.len() - 1]).is_err());
    }

    #[test]
    fn what_is_never_acknowledged_is_not_kept_without_bound() {
        let (id, mut scratch) = (SessionId(7), Vec::new());
        let mut session = Session::new([1; 16], MemberId(2), 4000);
        let writes = REPLIES_MAX as u64 + 10;
        for _ in 0..writes {
            session.applied(id, 1, |out| out.push(1), &mut scratch);
        }
        assert_eq!(session.replies_after(WriteNumber(0)).count(), REPLIES_MAX);
        assert_eq!((session.reply(WriteNumber(10)), session.reply(WriteNumber(11))), (None, Some(&[1][..])));
        // The newest is kept whatever its size, and nothing beside it.
        session.applied(id, 1, |out| out.resize(out.len() + REPLY_WEIGHT_MAX + 1, 2), &mut scratch);
        assert_eq!(session.replies_after(WriteNumber(0)).count(), 1);
        assert!(session.reply(WriteNumber(writes + 1)).is_some());
        // Short answers to large transactions weigh as what they are in a queue.
        for _ in 0..1_000 {
            session.applied(id, 10_000, |out| out.resize(out.len() + 10_000, 3), &mut scratch);
        }
        assert_eq!(session.replies_after(WriteNumber(0)).count(), REPLY_WEIGHT_MAX / (129 * 10_000));
        session.rehash(id, &mut scratch);
        assert_eq!(session.hash(), session.recompute_hash(id));
    }
}
