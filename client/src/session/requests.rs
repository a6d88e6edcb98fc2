//! Requests without an answer, in call order: what is to be sent, and sent again after a lost
//! connection.
//!
//! Invariants:
//! - a request's xid is its place in the queue since the session began, so finding it is indexing;
//! - write numbers are dense from 1 in call order, and a write keeps its number when it is sent again;
//! - `acknowledged` is the last write number such that its answer and all before it have arrived;
//! - a read whose place is kept is never sent behind the effect of a write that follows it here.

use std::collections::VecDeque;

use prost::Message;
use quorate_core::id::WriteNumber;
use quorate_proto::v1;

use super::{Place, Responder};

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) request: v1::Request,
    pub(crate) respond: Responder,
    pub(crate) purpose: Purpose,
    /// Whether it was ever sent: from then on the outcome of a write is open.
    pub(crate) sent: bool,
    /// For a read that must not see the writes behind it: the first of them, asked for yet or not.
    behind: Option<WriteNumber>,
}

/// What else the answer changes besides the caller's knowledge.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Nothing.
    Call,
    /// The watch with this key stands from the answer's zxid on.
    Watch(u64),
    /// These credentials belong to every later connection.
    Auth(v1::Credential),
    /// The session is over.
    Close,
}

/// See the file's comment.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// `None` is answered. The front, if there is one, is not.
    entries: VecDeque<Option<Entry>>,
    /// The xid of the front entry.
    front: u64,
    /// The xid of the next entry to send.
    next: u64,
    /// The xids of the writes behind `acknowledged`; `None` is answered.
    writes: VecDeque<Option<u64>>,
    acknowledged: u64,
    /// Writes up to here have applied already: their answers come unasked.
    applied: u64,
}

impl Requests {
    /// Whether somebody waits for the answer to a close.
    pub(crate) fn is_close_awaited(&self) -> bool {
        let is_awaited =
            |entry: &Entry| matches!(entry.purpose, Purpose::Close) && !entry.respond.is_closed();
        self.entries.iter().flatten().any(is_awaited)
    }

    /// How many places are taken.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.next < self.front + self.entries.len() as u64
    }

    /// The number of the next write.
    pub(crate) fn next_write_number(&self) -> WriteNumber {
        WriteNumber(self.acknowledged + self.writes.len() as u64 + 1)
    }

    /// Queues a request; one with a write number must have [`Requests::next_write_number`]. `place`
    /// is a read's: a write has its place by its number.
    pub(crate) fn push(
        &mut self,
        mut request: v1::Request,
        respond: Responder,
        purpose: Purpose,
        place: Place,
    ) {
        let xid = self.front + self.entries.len() as u64;
        request.xid = xid;
        let mut behind = None;
        if request.write_number != 0 {
            debug_assert_eq!(request.write_number, self.next_write_number().0);
            self.writes.push_back(Some(xid));
        } else if place == Place::Kept {
            behind = Some(self.next_write_number());
        }
        self.entries.push_back(Some(Entry { request, respond, purpose, sent: false, behind }));
    }

    /// The next requests to send, at most `bytes_max` bytes of them (or one that is larger).
    /// `adjust` may change a request before it goes.
    pub(crate) fn take_unsent(
        &mut self,
        bytes_max: usize,
        mut adjust: impl FnMut(&Purpose, &mut v1::Request),
    ) -> Vec<v1::Request> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        while self.has_unsent() && bytes < bytes_max {
            let index = usize::try_from(self.next - self.front).expect("within the queue");
            if let Some(entry) = &mut self.entries[index] {
                let number = entry.request.write_number;
                if number == 0 || number > self.applied {
                    let size = entry.request.encoded_len();
                    if !taken.is_empty() && bytes + size > bytes_max {
                        break;
                    }
                    bytes += size;
                    entry.sent = true;
                    let mut request = entry.request.clone();
                    adjust(&entry.purpose, &mut request);
                    taken.push(request);
                }
            }
            self.next += 1;
        }
        taken
    }

    /// The session is attached anew, with writes up to `applied` in effect: what has no answer is
    /// to be sent again, but not those writes, whose answers come by themselves. No other write of
    /// an earlier connection takes effect any more.
    ///
    /// Gives the reads that can have no answer in their place: a write behind them is in effect.
    #[must_use = "somebody waits for their answers"]
    pub(crate) fn rewind(&mut self, applied: WriteNumber) -> Vec<Entry> {
        self.applied = applied.0;
        let is_overtaken = |entry: &mut Entry| entry.behind.is_some_and(|write| write <= applied);
        let overtaken = self.entries.iter_mut().filter_map(|entry| entry.take_if(is_overtaken)).collect();
        self.pass_answered();
        self.next = self.front;
        overtaken
    }

    /// Takes the write that was answered; `None` if it was answered before.
    pub(crate) fn answer_write(&mut self, number: WriteNumber) -> Option<Entry> {
        let index = usize::try_from(number.0.checked_sub(self.acknowledged + 1)?).ok()?;
        let xid = self.writes.get_mut(index)?.take()?;
        while let Some(None) = self.writes.front() {
            self.writes.pop_front();
            self.acknowledged += 1;
        }
        self.answer(xid)
    }

    /// Takes the request that was answered; `None` if it was answered before.
    pub(crate) fn answer(&mut self, xid: u64) -> Option<Entry> {
        let index = usize::try_from(xid.checked_sub(self.front)?).ok()?;
        let entry = self.entries.get_mut(index)?.take()?;
        self.pass_answered();
        self.next = self.next.max(self.front);
        Some(entry)
    }

    fn pass_answered(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.front += 1;
        }
    }

    /// Takes all that have no answer.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::command::Operation;
    use quorate_core::request::{Consistency, ReadRequest};
    use quorate_proto::convert::{read_request, write_request};
    use tokio::sync::oneshot;

    use super::*;

    fn write(requests: &mut Requests) -> u64 {
        let number = requests.next_write_number();
        let request = write_request(number, Operation::Delete { path: "/".into(), version: -1 });
        requests.push(request.expect("a session's"), oneshot::channel().0, Purpose::Call, Place::Kept);
        number.0
    }

    fn read_at(requests: &mut Requests, place: Place) {
        let request = read_request(0, ReadRequest::WhoAmI, Consistency::Session);
        requests.push(request.expect("no multi"), oneshot::channel().0, Purpose::Call, place);
    }

    fn read(requests: &mut Requests) {
        read_at(requests, Place::Open);
    }

    /// A new connection: the xids of the reads that are too late for it.
    fn overtaken(requests: &mut Requests, applied: u64) -> Vec<u64> {
        requests.rewind(WriteNumber(applied)).iter().map(|entry| entry.request.xid).collect()
    }

    /// What would be sent now: the xids of reads, the numbers of writes below zero.
    fn sent(requests: &mut Requests) -> Vec<i64> {
        let name = |request: &v1::Request| match request.write_number {
            0 => request.xid as i64,
            number => -(number as i64),
        };
        requests.take_unsent(usize::MAX, |_, _| {}).iter().map(name).collect()
    }

    #[test]
    fn requests_are_sent_once_in_call_order() {
        let mut requests = Requests::default();
        write(&mut requests);
        read(&mut requests);
        write(&mut requests);
        assert_eq!(sent(&mut requests), [-1, 1, -2]);
        assert!(!requests.has_unsent());
        read(&mut requests);
        assert_eq!(sent(&mut requests), [3]);
    }

    #[test]
    fn acknowledged_is_the_end_of_the_answered_prefix() {
        let mut requests = Requests::default();
        for _ in 0..4 {
            write(&mut requests);
        }
        assert!(requests.answer_write(WriteNumber(2)).is_some());
        assert_eq!(requests.acknowledged(), 0);
        assert!(requests.answer_write(WriteNumber(1)).is_some());
        assert_eq!(requests.acknowledged(), 2);
        assert!(requests.answer_write(WriteNumber(2)).is_none(), "answered before");
        assert!(requests.answer_write(WriteNumber(5)).is_none(), "never asked");
        assert_eq!(write(&mut requests), 5);
        assert_eq!(requests.len(), 3);
    }

    #[test]
    fn a_new_connection_is_sent_what_has_no_answer_and_has_not_applied() {
        let mut requests = Requests::default();
        write(&mut requests); // 1: answered
        read(&mut requests); // xid 1: unanswered
        write(&mut requests); // 2: applied, unanswered
        write(&mut requests); // 3: lost
        sent(&mut requests);
        requests.answer_write(WriteNumber(1)).expect("asked");
        write(&mut requests); // 4: not sent yet
        assert!(overtaken(&mut requests, 2).is_empty(), "this read may see what is behind it");
        assert_eq!(sent(&mut requests), [1, -3, -4]);
        assert!(requests.answer_write(WriteNumber(2)).is_some(), "its answer comes unasked");
        assert!(requests.answer(1).is_some());
        assert_eq!(requests.drain().count(), 2);
    }

    #[test]
    fn a_read_is_not_asked_again_behind_the_effect_of_a_write_that_followed_it() {
        let mut requests = Requests::default();
        read_at(&mut requests, Place::Kept); // xid 0
        write(&mut requests); // 1: applied
        read_at(&mut requests, Place::Kept); // xid 2: behind it
        write(&mut requests); // 2: lost
        read_at(&mut requests, Place::Kept); // xid 4
        sent(&mut requests);
        assert_eq!(overtaken(&mut requests, 1), [0]);
        assert_eq!(sent(&mut requests), [2, -2, 4]);
        assert!(requests.answer(0).is_none(), "it has been dealt with");

        // Asked again, and lost again: now the second write has overtaken, too.
        assert_eq!(overtaken(&mut requests, 2), [2]);
        assert_eq!(sent(&mut requests), [4]);
        write(&mut requests); // 3: not sent
        assert!(overtaken(&mut requests, 2).is_empty());
        assert_eq!(sent(&mut requests), [4, -3]);
    }

    #[test]
    fn a_read_is_overtaken_by_a_write_that_was_answered_before_it_too() {
        let mut requests = Requests::default();
        read_at(&mut requests, Place::Kept);
        read(&mut requests);
        write(&mut requests);
        sent(&mut requests);
        requests.answer_write(WriteNumber(1)).expect("asked");
        assert_eq!(overtaken(&mut requests, 1), [0]);
        assert_eq!(sent(&mut requests), [1]);
    }

    #[test]
    fn a_frame_is_bounded_but_a_large_request_still_goes() {
        let mut requests = Requests::default();
        let data = bytes::Bytes::from(vec![0; 1000]);
        for _ in 0..5 {
            let number = requests.next_write_number();
            let set = Operation::SetData { path: "/".into(), data: Some(data.clone()), version: -1 };
            let request = write_request(number, set).expect("a session's");
            requests.push(request, oneshot::channel().0, Purpose::Call, Place::Kept);
        }
        assert_eq!(requests.take_unsent(2500, |_, _| {}).len(), 2);
        assert_eq!(requests.take_unsent(10, |_, _| {}).len(), 1);
        assert_eq!(requests.take_unsent(usize::MAX, |_, _| {}).len(), 2);
    }
}
