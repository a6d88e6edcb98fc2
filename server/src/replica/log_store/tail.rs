//! The end of the last segment: clean, torn by a crash, or damaged.
//!
//! Two facts tell torn from damaged. Each batch is synced before the next one is written, so a
//! batch behind a broken batch means that the broken one was durable once: damage. And a
//! segment holds zeros where nothing was written, so a torn batch misses whole sectors, or its
//! end, where a whole one has a mark: zeros there. A broken batch without such zeros was whole
//! once: damage.
//!
//! A torn batch's own body is a client's bytes, and may hold what looks like batches. If the torn
//! batch's header is there, it says where the body ends, and only what is behind that counts. If
//! it is not, only a whole batch counts whose sequence number is possible where it is.
//!
//! What this cannot see: damage that turns one whole sector of the very last batch to zeros, or the
//! header's sector of the one before a torn one; and a client's whole batch, checksums and number guessed right, inside a torn one that has lost its
//! header: that is refused as damage.

use std::ops::Range;

use super::error::LogError;
use super::format::{ALIGNMENT, BATCH_HEADER, BatchHeader, RECORD_HEADER};
use super::segment::Segment;
use super::window::Window;
use crate::replica::files;

/// This many bytes are written at once.
const STEP: usize = 64 << 10;
/// A batch of one empty record takes this much.
const SMALLEST_BATCH: u64 = (BATCH_HEADER + RECORD_HEADER + 1).next_multiple_of(ALIGNMENT) as u64;
/// A write survives a power loss or not in units of this size.
const SECTOR: u64 = 512;

/// What follows the last whole batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Only zeros.
    Clean,
    /// A batch that was being written when the member or the machine stopped.
    Torn,
}

/// Judges what is at `end`, where the last whole batch of an unsealed segment ends and batch
/// `sequence` must follow.
pub fn classify(segment: &Segment, end: u64, sequence: u64) -> Result<Tail, LogError> {
    let damaged = |what: String| Err(LogError::damaged(&segment.path, end, what));
    if last_byte_set(segment, end)?.is_none() {
        return Ok(Tail::Clean);
    }
    let mut window = Window::new(segment.file.as_ref(), segment.length);
    let bytes = window.bytes(end, BATCH_HEADER).map_err(LogError::io("read", &segment.path))?;
    let header = BatchHeader::decode(bytes, segment.number);
    let behind = match header {
        Some(batch) => batch_headers(segment, end + batch.span() as u64, 1)?.first().copied(),
        None => whole_batch_behind(segment, end, sequence)?,
    };
    if let Some(behind) = behind {
        return damaged(format!("the batch there is broken, and one behind it, at offset {behind}, is not"));
    }
    let header_end = end + BATCH_HEADER as u64;
    if last_byte_set(segment, header_end)?.is_none() {
        // A header without a body was never a whole batch.
        return Ok(Tail::Torn);
    }
    let Some(batch) = header else {
        if misses_a_sector(segment, end..header_end)? {
            return Ok(Tail::Torn);
        }
        return damaged("the batch header's checksum does not match".into());
    };
    let body_end = header_end + batch.length as u64;
    let mark = window.bytes(body_end, 1).map_err(LogError::io("read", &segment.path))?;
    if matches!(mark, [] | [0]) || misses_a_sector(segment, end..body_end + 1)? {
        return Ok(Tail::Torn);
    }
    damaged("the batch's checksum does not match".into())
}

/// Overwrites what follows `end` with zeros. Nothing is synced.
pub fn clear(segment: &Segment, end: u64) -> Result<(), LogError> {
    let zeros = vec![0; STEP];
    let mut offset = end;
    while offset < segment.length {
        let count = (segment.length - offset).min(STEP as u64) as usize;
        segment
            .file
            .write_at(offset, &zeros[..count])
            .map_err(LogError::io("clear the end of", &segment.path))?;
        offset += count as u64;
    }
    Ok(())
}

/// Writes the bytes of `range` over themselves, so that the next sync makes them durable whatever
/// became of the syncs before. A power loss meanwhile changes nothing that was durable.
pub fn write_again(segment: &Segment, range: Range<u64>) -> Result<(), LogError> {
    let mut offset = range.start;
    while offset < range.end {
        let count = (range.end - offset).min(STEP as u64) as usize;
        files::read_exactly(segment.file.as_ref(), offset, count)
            .and_then(|bytes| segment.file.write_at(offset, &bytes))
            .map_err(LogError::io("write again the last batch of", &segment.path))?;
        offset += count as u64;
    }
    Ok(())
}

/// The offsets of the first `limit` batch headers at or behind `from`.
pub fn batch_headers(segment: &Segment, from: u64, limit: usize) -> Result<Vec<u64>, LogError> {
    let mut window = Window::new(segment.file.as_ref(), segment.length);
    let mut found = Vec::new();
    let mut offset = from.next_multiple_of(ALIGNMENT as u64);
    while offset + BATCH_HEADER as u64 <= segment.length && found.len() < limit {
        let bytes = window.bytes(offset, BATCH_HEADER).map_err(LogError::io("read", &segment.path))?;
        if BatchHeader::decode(bytes, segment.number).is_some() {
            found.push(offset);
        }
        offset += ALIGNMENT as u64;
    }
    Ok(found)
}

/// The offset of a whole batch behind the broken batch `sequence` at `end`. Between the two are at
/// least the broken one and at most as many as have room, and its number must say so.
fn whole_batch_behind(segment: &Segment, end: u64, sequence: u64) -> Result<Option<u64>, LogError> {
    let read_error = |error| LogError::io("read", &segment.path)(error);
    let mut headers = Window::new(segment.file.as_ref(), segment.length);
    let mut bodies = Window::new(segment.file.as_ref(), segment.length);
    let mut offset = end + SMALLEST_BATCH;
    while offset + BATCH_HEADER as u64 <= segment.length {
        let between = (offset - end) / SMALLEST_BATCH;
        let bytes = headers.bytes(offset, BATCH_HEADER).map_err(read_error)?;
        if let Some(batch) = BatchHeader::decode(bytes, segment.number)
            && (1..=between).contains(&batch.sequence.saturating_sub(sequence))
        {
            let body = bodies.bytes(offset + BATCH_HEADER as u64, batch.length).map_err(read_error)?;
            if body.len() == batch.length && batch.matches(segment.number, body) {
                return Ok(Some(offset));
            }
        }
        offset += ALIGNMENT as u64;
    }
    Ok(None)
}

/// The last byte at or behind `from` that is not zero.
fn last_byte_set(segment: &Segment, from: u64) -> Result<Option<u64>, LogError> {
    let mut window = Window::new(segment.file.as_ref(), segment.length);
    let mut found = None;
    let mut offset = from;
    while offset < segment.length {
        let bytes = window.bytes(offset, 64 << 10).map_err(LogError::io("read", &segment.path))?;
        if bytes.is_empty() {
            break;
        }
        if let Some(position) = bytes.iter().rposition(|byte| *byte != 0) {
            found = Some(offset + position as u64);
        }
        offset += bytes.len() as u64;
    }
    Ok(found)
}

/// Whether some sector's share of the range, or the range's end, was never written.
fn misses_a_sector(segment: &Segment, range: Range<u64>) -> Result<bool, LogError> {
    let mut window = Window::new(segment.file.as_ref(), segment.length);
    let mut offset = range.start;
    while offset < range.end {
        let next = ((offset / SECTOR + 1) * SECTOR).min(range.end);
        let bytes =
            window.bytes(offset, (next - offset) as usize).map_err(LogError::io("read", &segment.path))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(true);
        }
        offset = next;
    }
    Ok(false)
}
