//! The ZooKeeper door's decoder under random and mutated frames: it never panics, and what it makes
//! of a frame is no larger than the frame allows.
//!
//! `FUZZ_SECONDS=600 cargo test --release -p quorate-server --test zookeeper_decoder -- --nocapture` goes on for ten
//! minutes (`FUZZ_FRAMES` for so many frames); `FUZZ_SEED` names where it begins.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quorate_core::command::Operation;
use quorate_core::id::SessionId;
use quorate_core::request::ReadRequest;
use quorate_server::frontends::zookeeper::jute::{Reader, take_frame};
use quorate_server::frontends::zookeeper::records::ConnectRequest;
use quorate_server::frontends::zookeeper::requests::{self, Asked};

/// Frames of one run of the gate.
const FRAMES: u64 = 300_000;
/// Every operation of the protocol, and some that are none.
const CODES: [i32; 30] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
    18,
    19,
    21,
    22,
    100,
    101,
    103,
    104,
    105,
    106,
    107,
    -11,
    99,
    i32::MIN,
];

/// A small generator: the same seed, the same frames.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// A number that decoders stumble over more often than over others.
    fn length(&mut self) -> i32 {
        let chosen = [0, 1, 2, 4, 16, 255, -1, -2, 0x7fff_ffff, i32::MIN, 0x10_0000, 12, 31];
        chosen[self.below(chosen.len())]
    }

    fn put_text(&mut self, out: &mut Vec<u8>) {
        let texts: [&[u8]; 7] = [b"/", b"/a", b"/a/b", b"", b"world", b"anyone", b"\xff\xfe\xed\xa0\x80"];
        let text = texts[self.below(texts.len())];
        out.extend((text.len() as i32).to_be_bytes());
        out.extend(text);
    }

    /// A record made of what records are made of.
    fn record(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(6) {
                0 | 1 => self.put_text(&mut out),
                2 => out.extend(self.length().to_be_bytes()),
                3 => out.push(self.below(3) as u8),
                4 => out.extend(self.next().to_be_bytes()),
                _ => {
                    // The header of one operation of a multi.
                    out.extend(CODES[self.below(CODES.len())].to_be_bytes());
                    out.push(0);
                    out.extend((-1_i32).to_be_bytes());
                }
            }
        }
        out
    }

    fn mutate(&mut self, record: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            if record.is_empty() {
                return;
            }
            let place = self.below(record.len());
            match self.below(5) {
                0 => record[place] ^= 1 << self.below(8),
                1 => record.truncate(place),
                2 => {
                    let length = self.length().to_be_bytes();
                    let end = (place + 4).min(record.len());
                    record[place..end].copy_from_slice(&length[..end - place]);
                }
                3 => {
                    let copied = record[place..].to_vec();
                    record.extend(copied);
                    record.truncate(1 << 16);
                }
                _ => record.insert(place, self.next() as u8),
            }
        }
    }
}

/// Bytes of names and data that a request holds, and how many parts it has.
fn size(asked: &Asked) -> usize {
    match asked {
        Asked::Write(Operation::Multi(operations)) => operations.len(),
        Asked::Write(Operation::Create(create)) => {
            create.path.len() / 3 + create.data.as_ref().map_or(0, Bytes::len) + create.acl.len()
        }
        Asked::Read(ReadRequest::Multi(requests)) => requests.len(),
        Asked::Rearm { watches, .. } => watches.len(),
        Asked::Auth { scheme, credential } => scheme.len() / 3 + credential.len(),
        _ => 0,
    }
}

/// How long a run goes on.
struct Course {
    frames: u64,
    until: Option<Instant>,
    done: u64,
}

impl Course {
    fn from_environment() -> (Course, Random) {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        let until = number("FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let random = Random(number("FUZZ_SEED").unwrap_or(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (Course { frames: number("FUZZ_FRAMES").unwrap_or(FRAMES), until, done: 0 }, random)
    }

    fn goes_on(&mut self) -> bool {
        self.done += 1;
        match self.until {
            Some(until) => !self.done.is_multiple_of(1024) || Instant::now() < until,
            None => self.done <= self.frames,
        }
    }
}

#[test]
fn no_stream_of_bytes_breaks_the_frames() {
    const BYTES_MAX: usize = 4096;
    let (mut course, mut random) = Course::from_environment();
    let (mut whole, mut refused) = (0_u64, 0_u64);
    while course.goes_on() {
        let state = random.0;
        let mut sent = Vec::new();
        let mut wanted = Vec::new();
        for _ in 0..random.below(5) {
            let record = random.record();
            sent.extend((record.len() as i32).to_be_bytes());
            sent.extend(&record);
            wanted.push(record);
        }
        let is_mutated = random.below(2) == 0;
        if is_mutated {
            random.mutate(&mut sent);
        }
        let mut buffer = BytesMut::new();
        let mut taken = Vec::new();
        let mut rest = &sent[..];
        'stream: while !rest.is_empty() {
            let (piece, behind) = rest.split_at(1 + random.below(rest.len()));
            buffer.extend_from_slice(piece);
            rest = behind;
            loop {
                match take_frame(&mut buffer, BYTES_MAX) {
                    Ok(Some(frame)) => taken.push(frame),
                    Ok(None) => break,
                    Err(_) => {
                        refused += 1;
                        break 'stream;
                    }
                }
            }
            assert!(buffer.capacity() <= 4 * (sent.len() + BYTES_MAX), "random state {state:#x}");
        }
        whole += taken.len() as u64;
        assert!(is_mutated || taken == wanted, "random state {state:#x}: {taken:?} of {wanted:?}");
    }
    assert!(whole > 0 && refused > 0, "{whole} frames, {refused} refusals");
}

#[test]
fn no_frame_breaks_the_decoder() {
    let (mut course, mut random) = Course::from_environment();
    let mut understood = 0_u64;
    while course.goes_on() {
        let state = random.0;
        let mut record = random.record();
        random.mutate(&mut record);
        let code = CODES[random.below(CODES.len())];
        let length = record.len();
        let frame = Bytes::from(record);
        let checked = std::panic::catch_unwind(|| {
            let _ = ConnectRequest::read(&mut Reader::new(frame.clone()));
            let (asked, _) = requests::read(code, &mut Reader::new(frame.clone()), SessionId(1));
            assert!(size(&asked) <= length, "{code}: {asked:?} of {length} bytes");
            !matches!(asked, Asked::Refused(..))
        });
        match checked {
            Ok(is_understood) => understood += u64::from(is_understood),
            Err(_) => panic!("operation {code}, random state {state:#x}, record {frame:?}"),
        }
    }
    // Frames that are all refused would prove little.
    let frames = course.done;
    assert!(understood > frames / 20, "only {understood} of {frames} frames were understood");
    println!("{frames} frames, {understood} of them understood");
}
