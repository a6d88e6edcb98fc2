//! Reading a log back: which entries it has, where they are, and where appending goes on.
//!
//! Every byte of every segment is checked here, once, at open. Three things can be wrong:
//!
//! - The last batch of the last segment is *torn*: its write was cut by a crash before the sync.
//!   Nobody was told that it was durable, so it is cut off.
//! - Bytes that were synced have changed, or a file is missing. That is refused with the file and
//!   the offset: going on would silently undo acknowledged writes.
//! - A crash came between creating a segment and sealing the one before: the newcomer, in which
//!   nobody relied on anything yet, is removed.
//!
//! How torn and damaged are told apart is in [`super::tail`].
//!
//! What is read may be in the kernel's memory only: the process before may have been killed between
//! a write and its sync, or its sync may have failed. Raft will rely on it, and no later sync need
//! cover it, so before [`recover`] returns everything that it tells is durable. The writer syncs
//! each batch before it writes the next one, and nothing after a failure, so little can be missing:
//! the last segment's last batch (with the header, if it is the first) and the zeros behind it, the
//! seal before it, names. A sync alone would not do: pages that an earlier one failed to write
//! count as clean. So these bytes are written again, and then both files and the directory synced.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use super::error::LogError;
use super::format::{
    self, BATCH_HEADER, BatchHeader, Control, END_MARK, Malformed, Record, SEGMENT_HEADER, SegmentHeader,
    SegmentHeaderRead,
};
use super::locations::{Location, Locations};
use super::segment::{self, ActiveSegment, PAGE, Segment};
use super::state::State;
use super::tail::{self, Tail};
use super::window::Window;
use crate::replica::files::Files;

/// What a log amounts to.
pub struct Recovered {
    /// Vote, committed, purged, last.
    pub state: State,
    /// Where each entry is.
    pub locations: Locations,
    /// The segments before the active one, oldest first.
    pub sealed: VecDeque<Segment>,
    /// The segment to append to.
    pub active: ActiveSegment,
    /// The next batch's sequence number.
    pub next_sequence: u64,
    /// A torn batch was cut off here: worth a line in the member's log.
    pub cut: Option<(PathBuf, u64)>,
}

/// Reads the log in `directory`; `Ok(None)` if there is not one segment.
pub fn recover(files: &dyn Files, directory: &Path, growth: u64) -> Result<Option<Recovered>, LogError> {
    let mut segments = open_segments(files, directory)?;
    let mut replay = Replay::default();
    let mut cut = None;
    let mut position = 0;
    while position < segments.len() {
        let is_last = position + 1 == segments.len();
        let is_before_last = position + 2 == segments.len();
        let segment = &mut segments[position];
        replay.segment(segment)?;
        if replay.sealed {
            if is_last {
                let path = directory.join(segment::file_name(segment.number + 1));
                let what = format!("{} was completed, so a segment follows it", segment.path.display());
                return Err(LogError::Missing { path, what });
            }
            if is_before_last {
                tail::write_again(segment, replay.last_write..replay.end)?;
                segment.sync()?;
            }
            position += 1;
            continue;
        }
        let tail = tail::classify(segment, replay.end, replay.next_sequence)?;
        if !is_last {
            let newcomer = &segments[position + 1];
            if position + 2 < segments.len() || tail::batch_headers(newcomer, 0, 2)?.len() > 1 {
                let what = "the segment ends without its seal, but the next one was in use";
                return Err(LogError::damaged(&segments[position].path, replay.end, what));
            }
            files
                .remove(&newcomer.path)
                .and_then(|()| files.sync_directory(directory))
                .map_err(LogError::io("remove", &newcomer.path))?;
            segments.truncate(position + 1);
        }
        let segment = &segments[position];
        if let Tail::Torn = tail {
            cut = Some((segment.path.clone(), replay.end));
        }
        tail::write_again(segment, replay.last_write..replay.end)?;
        tail::clear(segment, replay.end)?;
        segment.sync()?;
        break;
    }
    let Some(last) = segments.pop() else { return Ok(None) };
    files.sync_directory(directory).map_err(LogError::io("sync", directory))?;
    let active = ActiveSegment { segment: last, end: replay.end, growth };
    replay.finish(directory, segments.into(), active, cut).map(Some)
}

fn open_segments(files: &dyn Files, directory: &Path) -> Result<Vec<Segment>, LogError> {
    let names = match files.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(LogError::io("list", directory)(error)),
    };
    let mut segments: Vec<Segment> = Vec::new();
    for (name, number) in names.iter().filter_map(|name| Some((name, segment::parse_file_name(name)?))) {
        let path = directory.join(name);
        if let Some(previous) = segments.last()
            && previous.number + 1 != number
        {
            let path = directory.join(segment::file_name(previous.number + 1));
            let what = format!("segments {} and {number} are there", previous.number);
            return Err(LogError::Missing { path, what });
        }
        let file = files.open(&path).map_err(LogError::io("open", &path))?;
        let length = file.length().map_err(LogError::io("measure", &path))?;
        segments.push(Segment { number, path, file, length, highest_index: None });
    }
    Ok(segments)
}

fn read_header(segment: &Segment) -> Result<SegmentHeader, LogError> {
    let mut bytes = [0; SEGMENT_HEADER];
    segment.file.read_at(0, &mut bytes).map_err(LogError::io("read", &segment.path))?;
    match SegmentHeader::decode(&bytes) {
        SegmentHeaderRead::Whole(header) if header.number != segment.number => {
            let what = format!("this is segment {} under the name of another", header.number);
            Err(LogError::damaged(&segment.path, 0, what))
        }
        SegmentHeaderRead::Whole(_) if !segment.length.is_multiple_of(PAGE) => {
            let what = format!("the file ends here, and segments end at a multiple of {PAGE} bytes");
            Err(LogError::damaged(&segment.path, segment.length, what))
        }
        SegmentHeaderRead::Whole(header) => Ok(header),
        SegmentHeaderRead::UnknownVersion(version) => {
            Err(LogError::UnknownFormat { path: segment.path.clone(), version })
        }
        SegmentHeaderRead::Damaged => {
            Err(LogError::damaged(&segment.path, 0, "the segment's header is not whole"))
        }
    }
}

/// The log, as far as it was read.
#[derive(Default)]
struct Replay {
    state: State,
    /// What the first segment found says about those before it.
    inherited: Option<State>,
    first_segment: u64,
    locations: Locations,
    next_sequence: u64,
    /// The segment just read has its seal.
    sealed: bool,
    /// Where the last write to the segment just read starts: its last batch, or its header.
    last_write: u64,
    /// Where the batches of the segment just read end.
    end: u64,
}

impl Replay {
    /// Reads a segment's batches up to its seal or to what is not a whole batch.
    fn segment(&mut self, segment: &mut Segment) -> Result<(), LogError> {
        let header = read_header(segment)?;
        if self.inherited.is_none() {
            self.next_sequence = header.first_sequence;
            self.first_segment = segment.number;
        } else if header.first_sequence != self.next_sequence {
            let what = format!("it starts with batch {}, not {}", header.first_sequence, self.next_sequence);
            return Err(LogError::damaged(&segment.path, 0, what));
        }
        self.sealed = false;
        self.last_write = 0;
        self.end = SEGMENT_HEADER as u64;
        let (file, path) = (segment.file.clone(), segment.path.clone());
        let mut window = Window::new(file.as_ref(), segment.length);
        let read_error = |error| LogError::io("read", &path)(error);
        while !self.sealed {
            let bytes = window.bytes(self.end, BATCH_HEADER).map_err(read_error)?;
            let Some(batch) = BatchHeader::decode(bytes, segment.number) else { break };
            let marked =
                window.bytes(self.end + BATCH_HEADER as u64, batch.length + 1).map_err(read_error)?;
            let Some((&END_MARK, body)) = marked.split_last() else { break };
            if body.len() < batch.length || !batch.matches(segment.number, body) {
                break;
            }
            let at = self.end;
            if batch.sequence != self.next_sequence {
                let what = format!("batch {} is where batch {} must be", batch.sequence, self.next_sequence);
                return Err(LogError::damaged(&path, at, what));
            }
            let first = at == SEGMENT_HEADER as u64;
            self.body(segment, at + BATCH_HEADER as u64, body, first)
                .map_err(|Malformed(what)| LogError::damaged(&path, at, what))?;
            self.next_sequence += 1;
            self.last_write = if first { 0 } else { at };
            self.end = at + batch.span() as u64;
            self.check_padding(&mut window, &path, at, batch)?;
        }
        if self.inherited.is_none() {
            // Its header was synced together with the batch that says what came before.
            return Err(LogError::damaged(&path, self.end, "the segment's first batch is not whole"));
        }
        Ok(())
    }

    fn check_padding(
        &self,
        window: &mut Window<'_>,
        path: &Path,
        at: u64,
        batch: BatchHeader,
    ) -> Result<(), LogError> {
        let start = at + (BATCH_HEADER + batch.length + 1) as u64;
        let padding = (self.end - start) as usize;
        let bytes = window.bytes(start, padding).map_err(LogError::io("read", path))?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(LogError::damaged(path, start, "the bytes between two batches are not zero"));
        }
        Ok(())
    }

    fn body(&mut self, segment: &mut Segment, start: u64, body: &[u8], first: bool) -> Result<(), Malformed> {
        for (position, record) in format::records(body).enumerate() {
            match record? {
                Record::Control(Control::State(state)) if first && position == 0 => self.inherit(state)?,
                _ if first && position == 0 => {
                    return Err(Malformed("the segment does not start with the log's state".into()));
                }
                Record::Entry { id, offset, length } => {
                    self.state.append(id).map_err(Malformed)?;
                    segment.highest_index = segment.highest_index.max(Some(id.index));
                    let location = Location {
                        segment: segment.number as u32,
                        offset: (start + offset as u64) as u32,
                        length: length as u32,
                    };
                    self.locations.push(id.index, location);
                }
                Record::Control(control) => self.control(control)?,
            }
        }
        Ok(())
    }

    fn inherit(&mut self, state: State) -> Result<(), Malformed> {
        match &self.inherited {
            None => {
                self.state = state.clone();
                self.inherited = Some(state);
                Ok(())
            }
            Some(_) if self.state == state => Ok(()),
            Some(_) => Err(Malformed("the log's state is not what the segments before amount to".into())),
        }
    }

    fn control(&mut self, control: Control) -> Result<(), Malformed> {
        match control {
            Control::State(_) => return Err(Malformed("the log's state in the middle of a segment".into())),
            Control::Vote(vote) => self.state.vote = Some(vote),
            Control::Committed(committed) => self.state.committed = committed,
            Control::Sealed => self.sealed = true,
            Control::Truncate(after) => {
                if let Some(first_removed) = self.state.truncate(after).map_err(Malformed)? {
                    self.locations.truncate_from(first_removed);
                }
            }
            Control::Purge(upto) => {
                if self.state.purge(upto) {
                    self.locations.forget_below(upto.index + 1);
                }
            }
        }
        Ok(())
    }

    fn finish(
        mut self,
        directory: &Path,
        sealed: VecDeque<Segment>,
        active: ActiveSegment,
        cut: Option<(PathBuf, u64)>,
    ) -> Result<Recovered, LogError> {
        let inherited = self.inherited.take().unwrap_or_default();
        let before = inherited.last.map(|id| id.index);
        if self.first_segment > 1 && before > self.state.purged.map(|id| id.index) {
            let path = directory.join(segment::file_name(self.first_segment - 1));
            let what = "entries of it were not purged yet".into();
            return Err(LogError::Missing { path, what });
        }
        // A commit index whose entries did not become durable says nothing: the entry that now is
        // at the end may be another one.
        if self.state.committed > self.state.last {
            self.state.committed = None;
        }
        Ok(Recovered {
            state: self.state,
            locations: self.locations,
            sealed,
            active,
            next_sequence: self.next_sequence,
            cut,
        })
    }
}
