//! The log's bytes: segment headers, batch headers, records. No files here, only slices.
//!
//! docs/formats.md ("Log") has the same as tables; change both together and raise [`VERSION`].
//!
//! ```text
//! segment   header (64) | batch | batch | ... | zeros
//! batch     header (24) | record | record | ... | end mark (1) | zeros to a multiple of 8
//! record    tag (1) | length (4) | content
//! ```
//!
//! One batch is one group commit: written by one write, followed by one sync. All integers are
//! little-endian. Every checksum covers the segment's number, so bytes of another segment, say
//! from a copied or reused file, never pass for this one's.

use bytes::Bytes;
use openraft::entry::RaftEntry;
use openraft::vote::RaftLeaderIdExt;
use serde::{Serialize, de::DeserializeOwned};

use super::state::State;
use crate::replica::types::{Entry, EntryPayload, LeaderId, LogId, Membership, Payload, Vote};

/// The format that this code writes and reads. A higher one is refused, never guessed at.
pub const VERSION: u32 = 1;
/// Bytes in a segment's header. The first batch starts behind it.
pub const SEGMENT_HEADER: usize = 64;
/// Bytes in a batch's header.
pub const BATCH_HEADER: usize = 24;
/// Batches start at multiples of this.
pub const ALIGNMENT: usize = 8;
/// Stands behind a batch's body. Not zero, so that a body whose last bytes were never written can
/// be told from one that was changed later.
pub const END_MARK: u8 = 0xa5;
/// Bytes before a record's content.
pub const RECORD_HEADER: usize = 5;
/// Bytes of an entry record's content before the payload: checksum, term, member, index.
const ENTRY_FIELDS: usize = 28;
/// No batch has a longer body; a longer claim is damage.
pub const BODY_LIMIT: usize = 128 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"QUORLOG1";
const BATCH_MAGIC: [u8; 4] = *b"QBAT";

/// Why some bytes are not what they should be. The caller adds the file and the offset.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number; its file name says the same.
    pub number: u64,
    /// The sequence number of its first batch.
    pub first_sequence: u64,
}

/// What a segment's header turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum SegmentHeaderRead {
    /// Whole.
    Whole(SegmentHeader),
    /// Of a format that this code does not know.
    UnknownVersion(u32),
    /// Not a header.
    Damaged,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub fn decode(bytes: &[u8]) -> SegmentHeaderRead {
        if bytes.len() < SEGMENT_HEADER || bytes[..8] != SEGMENT_MAGIC {
            return SegmentHeaderRead::Damaged;
        }
        if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return SegmentHeaderRead::Damaged;
        }
        match u32_at(bytes, 8) {
            VERSION => SegmentHeaderRead::Whole(SegmentHeader {
                number: u64_at(bytes, 16),
                first_sequence: u64_at(bytes, 24),
            }),
            version => SegmentHeaderRead::UnknownVersion(version),
        }
    }
}

/// A batch's header, already checked against its own checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes in the body, without padding.
    pub length: usize,
    /// Counts the log's batches; dense across segments.
    pub sequence: u64,
    body_crc: u32,
}

impl BatchHeader {
    /// Reads a header; `None` if these bytes are not one of this segment.
    pub fn decode(bytes: &[u8], segment: u64) -> Option<BatchHeader> {
        if bytes.len() < BATCH_HEADER || bytes[..4] != BATCH_MAGIC {
            return None;
        }
        if header_crc(segment, &bytes[..20]) != u32_at(bytes, 20) {
            return None;
        }
        let length = u32_at(bytes, 4) as usize;
        if length > BODY_LIMIT {
            return None;
        }
        Some(BatchHeader { length, sequence: u64_at(bytes, 8), body_crc: u32_at(bytes, 16) })
    }

    /// Whether these are the bytes that the batch was written with.
    pub fn matches(&self, segment: u64, body: &[u8]) -> bool {
        body_crc(segment, self.sequence, body) == self.body_crc
    }

    /// Bytes from the start of this batch to the start of the next.
    pub fn span(&self) -> usize {
        (BATCH_HEADER + self.length + 1).next_multiple_of(ALIGNMENT)
    }
}

/// Gathers records into one batch: header space, records, padding; sealed by [`Batch::finish`].
pub struct Batch {
    bytes: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::new()
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch { bytes: vec![0; BATCH_HEADER] }
    }

    /// Empties it, and gives memory back if one huge batch had grown it beyond `keep`.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.truncate(BATCH_HEADER);
        self.bytes.shrink_to(keep);
    }

    /// Whether no record was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == BATCH_HEADER
    }

    /// Bytes so far: where the next record will start, relative to the batch.
    pub fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Adds an entry; tells how many bytes its record takes.
    pub fn add_entry(&mut self, entry: &Entry) -> Result<usize, Malformed> {
        let start = self.bytes.len();
        let membership;
        let (tag, payload): (u8, &[u8]) = match &entry.payload {
            EntryPayload::Blank => (tag::BLANK, &[]),
            EntryPayload::Normal(payload) => (tag::NORMAL, &payload.0),
            EntryPayload::Membership(value) => {
                membership = to_postcard(value)?;
                (tag::MEMBERSHIP, &membership)
            }
        };
        self.begin(tag, ENTRY_FIELDS + payload.len())?;
        let fields = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let leader = entry.log_id.committed_leader_id();
        self.bytes.extend_from_slice(&leader.term.to_le_bytes());
        self.bytes.extend_from_slice(&leader.node_id.to_le_bytes());
        self.bytes.extend_from_slice(&entry.log_id.index.to_le_bytes());
        self.bytes.extend_from_slice(payload);
        let crc = entry_crc(tag, &self.bytes[fields + 4..]);
        self.bytes[fields..fields + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(self.bytes.len() - start)
    }

    /// Adds a record other than an entry.
    pub fn add(&mut self, record: &Control) -> Result<(), Malformed> {
        let (tag, content) = match record {
            Control::State(state) => (tag::STATE, to_postcard(state)?),
            Control::Vote(vote) => (tag::VOTE, to_postcard(vote)?),
            Control::Truncate(last) => (tag::TRUNCATE, to_postcard(last)?),
            Control::Purge(upto) => (tag::PURGE, to_postcard(upto)?),
            Control::Committed(committed) => (tag::COMMITTED, to_postcard(committed)?),
            Control::Sealed => (tag::SEALED, Vec::new()),
        };
        self.begin(tag, content.len())?;
        self.bytes.extend_from_slice(&content);
        Ok(())
    }

    /// Fills the header in and pads: these are the bytes to write.
    pub fn finish(&mut self, segment: u64, sequence: u64) -> Result<&[u8], Malformed> {
        let length = self.bytes.len() - BATCH_HEADER;
        if length > BODY_LIMIT {
            return Err(Malformed(format!("a batch of {length} bytes is above the limit of {BODY_LIMIT}")));
        }
        let crc = body_crc(segment, sequence, &self.bytes[BATCH_HEADER..]);
        let header = &mut self.bytes[..BATCH_HEADER];
        header[..4].copy_from_slice(&BATCH_MAGIC);
        header[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        header[8..16].copy_from_slice(&sequence.to_le_bytes());
        header[16..20].copy_from_slice(&crc.to_le_bytes());
        let crc = header_crc(segment, &header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        self.bytes.push(END_MARK);
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(&self.bytes)
    }

    fn begin(&mut self, tag: u8, length: usize) -> Result<(), Malformed> {
        if length > BODY_LIMIT {
            return Err(Malformed(format!("a record of {length} bytes is above the limit of {BODY_LIMIT}")));
        }
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
        Ok(())
    }
}

/// A record that is not an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Control {
    /// The first record of every segment: what the segments before it amount to, so that they can
    /// be deleted without losing a vote.
    State(State),
    /// A vote was given.
    Vote(Vote),
    /// Everything behind this id was removed; `None` removes every entry.
    Truncate(Option<LogId>),
    /// Everything up to this id was purged.
    Purge(LogId),
    /// Everything up to this id is known to be committed.
    Committed(Option<LogId>),
    /// The last record of a segment: the next segment exists.
    Sealed,
}

/// One record of a batch.
#[derive(Debug)]
pub enum Record {
    /// An entry: its id, and where its record starts and how long it is, relative to the body.
    Entry { id: LogId, offset: usize, length: usize },
    /// Anything else.
    Control(Control),
}

/// Reads a body's records in order. The body's checksum was verified; a malformed record
/// nonetheless is an error, never a panic.
pub fn records(body: &[u8]) -> impl Iterator<Item = Result<Record, Malformed>> + '_ {
    let mut offset = 0;
    std::iter::from_fn(move || {
        if offset >= body.len() {
            return None;
        }
        let start = offset;
        // After a malformed record nothing behind it can be trusted.
        offset = body.len();
        match split_record(&body[start..]) {
            Ok((tag, content)) => {
                let length = RECORD_HEADER + content.len();
                offset = start + length;
                Some(decode_record(tag, content, start, length))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

/// Decodes one entry record, as found at its location in a segment, and verifies its own checksum.
/// The payload shares `record`'s memory.
pub fn decode_entry(record: &Bytes) -> Result<Entry, Malformed> {
    let (tag, content) = split_record(record)?;
    let id = entry_id(tag, content)?;
    if RECORD_HEADER + content.len() != record.len() {
        return Err(Malformed("an entry shorter than its place".into()));
    }
    if entry_crc(tag, &content[4..]) != u32_at(content, 0) {
        return Err(Malformed(format!("the checksum of entry {} does not match", id.index)));
    }
    let payload = record.slice(RECORD_HEADER + ENTRY_FIELDS..);
    let payload = match tag {
        tag::BLANK => EntryPayload::Blank,
        tag::NORMAL => EntryPayload::Normal(Payload(payload)),
        _ => EntryPayload::Membership(from_postcard::<Membership>(&payload)?),
    };
    Ok(Entry::new(id, payload))
}

mod tag {
    pub const STATE: u8 = 1;
    pub const VOTE: u8 = 2;
    pub const BLANK: u8 = 3;
    pub const NORMAL: u8 = 4;
    pub const MEMBERSHIP: u8 = 5;
    pub const TRUNCATE: u8 = 6;
    pub const PURGE: u8 = 7;
    pub const COMMITTED: u8 = 8;
    pub const SEALED: u8 = 9;
}

fn split_record(bytes: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    if bytes.len() < RECORD_HEADER {
        return Err(Malformed("a record without room for its header".into()));
    }
    let length = u32_at(bytes, 1) as usize;
    match bytes.get(RECORD_HEADER..RECORD_HEADER + length) {
        Some(content) => Ok((bytes[0], content)),
        None => Err(Malformed(format!("a record of {length} bytes that is cut short"))),
    }
}

fn decode_record(tag: u8, content: &[u8], offset: usize, length: usize) -> Result<Record, Malformed> {
    let control = match tag {
        tag::BLANK | tag::NORMAL | tag::MEMBERSHIP => {
            return Ok(Record::Entry { id: entry_id(tag, content)?, offset, length });
        }
        tag::STATE => Control::State(from_postcard(content)?),
        tag::VOTE => Control::Vote(from_postcard(content)?),
        tag::TRUNCATE => Control::Truncate(from_postcard(content)?),
        tag::PURGE => Control::Purge(from_postcard(content)?),
        tag::COMMITTED => Control::Committed(from_postcard(content)?),
        tag::SEALED => Control::Sealed,
        unknown => return Err(Malformed(format!("a record of the unknown kind {unknown}"))),
    };
    Ok(Record::Control(control))
}

fn entry_id(tag: u8, content: &[u8]) -> Result<LogId, Malformed> {
    if !matches!(tag, tag::BLANK | tag::NORMAL | tag::MEMBERSHIP) || content.len() < ENTRY_FIELDS {
        return Err(Malformed("not an entry".into()));
    }
    let leader = LeaderId::new_committed(u64_at(content, 4), u64_at(content, 12));
    Ok(LogId::new(leader, u64_at(content, 20)))
}

fn entry_crc(tag: u8, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[tag]);
    hasher.update(content);
    hasher.finalize()
}

fn body_crc(segment: u64, sequence: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

fn header_crc(segment: u64, header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(header);
    hasher.finalize()
}

fn to_postcard<T: Serialize>(value: &T) -> Result<Vec<u8>, Malformed> {
    postcard::to_allocvec(value).map_err(|error| Malformed(format!("not encodable: {error}")))
}

fn from_postcard<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(Malformed("a record with bytes behind its content".into())),
        Err(error) => Err(Malformed(format!("a record that does not decode: {error}"))),
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, payload: &'static [u8]) -> Entry {
        let id = LogId::new(LeaderId::new_committed(3, 2), index);
        Entry::new(id, EntryPayload::Normal(Payload(Bytes::from_static(payload))))
    }

    #[test]
    fn a_batch_reads_back_as_written() {
        let mut batch = Batch::new();
        batch.add(&Control::Vote(Vote::new(4, 1))).expect("fits");
        let length = batch.add_entry(&entry(7, b"abc")).expect("fits");
        let bytes = batch.finish(9, 5).expect("fits").to_vec();
        assert_eq!(bytes.len() % ALIGNMENT, 0);

        let header = BatchHeader::decode(&bytes, 9).expect("a header");
        assert_eq!(header.sequence, 5);
        assert_eq!(header.span(), bytes.len());
        let body = Bytes::copy_from_slice(&bytes[BATCH_HEADER..BATCH_HEADER + header.length]);
        assert!(header.matches(9, &body));
        let read: Vec<Record> = records(&body).collect::<Result<_, _>>().expect("records");
        assert!(matches!(&read[0], Record::Control(Control::Vote(vote)) if *vote == Vote::new(4, 1)));
        let Record::Entry { id, offset, length: found } = &read[1] else { panic!("an entry") };
        assert_eq!((id.index, *found), (7, length));
        assert_eq!(decode_entry(&body.slice(*offset..offset + length)).expect("whole"), entry(7, b"abc"));
    }

    #[test]
    fn a_batch_of_another_segment_is_not_ours() {
        let mut batch = Batch::new();
        batch.add(&Control::Sealed).expect("fits");
        let bytes = batch.finish(1, 1).expect("fits");
        assert!(BatchHeader::decode(bytes, 2).is_none());
    }

    #[test]
    fn a_flipped_bit_of_an_entry_is_noticed() {
        let mut batch = Batch::new();
        let length = batch.add_entry(&entry(7, b"abc")).expect("fits");
        let good = batch.bytes[BATCH_HEADER..BATCH_HEADER + length].to_vec();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(&Bytes::from(bad)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for body in [&[1u8][..], &[4, 255, 255, 255, 255], &[77, 0, 0, 0, 0], &[4, 1, 0, 0, 0, 9]] {
            assert!(records(body).any(|record| record.is_err()), "{body:?}");
        }
    }
}
