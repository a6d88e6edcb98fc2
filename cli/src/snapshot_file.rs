//! Reading a snapshot file, every byte of it: checksums, order, totals, and at last the state that
//! its records make, whose digest must be the one that the file claims.
//!
//! docs/formats.md has the format:
//!
//! ```text
//! header   magic (8) | version (4) | kind (1) | zeros (3) | length (4) | crc (4) | meta
//! chunk    length (4) | crc (4) | number (8) | record | record | ...
//! record   key length (1) | value length (4) | key | value
//! footer   0 (4) | crc (4) | chunks (8) | records (8) | chain (4)
//! ```
//!
//! Of the meta only the end is read here: 16 bytes of digest before 4 bytes of checksum. The rest is
//! the server's, and the state knows its own transaction.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use quorate_core::state::{Digest, State, StateLoader};

use crate::failure::{Failure, Outcome};

const MAGIC: [u8; 8] = *b"QUORRECS";
const VERSION: u32 = 1;
const KIND_SNAPSHOT: u8 = 1;
const HEADER: usize = 24;
/// Of a chunk, before its records; of the footer, before its last 12 bytes.
const PIECE_HEADER: usize = 16;
const FOOTER: usize = 28;
/// A value of this length is none: not in a snapshot.
const GONE: u32 = u32::MAX;
/// No meta and no chunk is longer; a damaged length cannot make us take more memory.
const META_MAX: usize = 1 << 20;
const CHUNK_MAX: usize = 2 << 20;

/// A file that is whole.
#[derive(Debug)]
pub struct Snapshot {
    pub bytes: u64,
    pub chunks: u64,
    pub records: u64,
    /// What the file claims, and what its records have.
    pub digest: Digest,
    pub state: State,
}

/// Reads and verifies a file.
///
/// # Errors
/// Exit code 2 if it cannot be read, 1 if it is no snapshot file or is damaged.
pub fn read(path: &Path) -> Outcome<Snapshot> {
    let file = File::open(path)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", path.display())))?;
    let mut pieces = Pieces { input: BufReader::with_capacity(1 << 20, file), bytes: 0 };
    pieces.read_all().map_err(|problem| match problem {
        Problem::Damaged(what) => Failure::other(format!("{} is damaged: {what}", path.display())),
        Problem::Foreign(what) => Failure::other(format!("{} is no snapshot file: {what}", path.display())),
        Problem::Unreadable(error) => Failure::usage(format!("cannot read {}: {error}", path.display())),
    })
}

enum Problem {
    Damaged(String),
    Foreign(String),
    Unreadable(std::io::Error),
}

fn damaged<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Damaged(what.into()))
}

struct Pieces<R> {
    input: R,
    bytes: u64,
}

impl<R: Read> Pieces<R> {
    fn read_all(&mut self) -> Result<Snapshot, Problem> {
        let digest = self.header()?;
        let (mut chunks, mut records) = (0, 0);
        let mut chain = crc32fast::Hasher::new();
        let mut loader = StateLoader::new();
        loop {
            let start: [u8; PIECE_HEADER] =
                self.take(PIECE_HEADER)?.try_into().expect("as long as asked for");
            let (length, crc) = (u32_at(&start, 0) as usize, u32_at(&start, 4));
            if length == 0 {
                self.footer(&start, crc, (chunks, records, chain.finalize()))?;
                break;
            }
            if length > CHUNK_MAX {
                return damaged("a chunk's length is out of bounds");
            }
            let body = self.take(length)?;
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&start[..4]);
            hasher.update(&start[8..]);
            hasher.update(&body);
            if hasher.finalize() != crc || u64_at(&start, 8) != chunks {
                return damaged(format!("the checksum of chunk {chunks} does not match"));
            }
            chain.update(&crc.to_le_bytes());
            chunks += 1;
            records += load(&mut loader, &body)?;
        }
        let state = loader.finish().or_else(|error| damaged(error.to_string()))?;
        if state.recompute_digest() != digest {
            return damaged("its records do not have the digest that it claims");
        }
        Ok(Snapshot { bytes: self.bytes, chunks, records, digest, state })
    }

    /// The digest that the header's meta claims.
    fn header(&mut self) -> Result<Digest, Problem> {
        let Ok(start) = self.take(HEADER) else { return Err(Problem::Foreign("it is too short".into())) };
        if start[..8] != MAGIC {
            return Err(Problem::Foreign("it does not begin as one".into()));
        }
        let length = u32_at(&start, 16) as usize;
        if !(20..=META_MAX).contains(&length) {
            return damaged("the header's length is out of bounds");
        }
        let meta = self.take(length)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&start[..20]);
        hasher.update(&meta);
        if hasher.finalize() != u32_at(&start, 20) {
            return damaged("the header's checksum does not match");
        }
        if u32_at(&start, 8) != VERSION {
            return Err(Problem::Foreign(format!(
                "it has format {}; this version knows {VERSION}",
                u32_at(&start, 8)
            )));
        }
        if start[12] != KIND_SNAPSHOT {
            return Err(Problem::Foreign("it holds something else".into()));
        }
        let digest = meta[length - 20..length - 4].try_into().expect("sixteen bytes");
        Ok(Digest(u128::from_le_bytes(digest)))
    }

    fn footer(&mut self, start: &[u8], crc: u32, totals: (u64, u64, u32)) -> Result<(), Problem> {
        let mut footer = start.to_vec();
        footer.extend(self.take(FOOTER - PIECE_HEADER)?);
        let claimed = (u64_at(&footer, 8), u64_at(&footer, 16), u32_at(&footer, 24));
        if crc32fast::hash(&footer[8..]) != crc || claimed != totals {
            return damaged("its totals do not match");
        }
        let mut more = [0];
        match self.input.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => damaged("bytes follow its end"),
            Err(error) => Err(Problem::Unreadable(error)),
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, Problem> {
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Problem::Damaged("it is cut short".into()),
            _ => Problem::Unreadable(error),
        })?;
        self.bytes += length as u64;
        Ok(bytes)
    }
}

/// Hands a chunk's records on; returns how many.
fn load(loader: &mut StateLoader, body: &[u8]) -> Result<u64, Problem> {
    let mut rest = body;
    let mut count = 0;
    while !rest.is_empty() {
        let lengths = rest.split_first_chunk::<5>();
        let record = lengths.and_then(|(lengths, rest)| {
            let value_length = u32_at(lengths, 1);
            let (key, rest) = rest.split_at_checked(lengths[0].into())?;
            let (value, rest) = rest.split_at_checked(value_length as usize)?;
            (value_length != GONE).then_some((key, value, rest))
        });
        let Some((key, value, behind)) = record else { return damaged("a record is cut short") };
        loader.push(key, value).or_else(|error| damaged(error.to_string()))?;
        rest = behind;
        count += 1;
    }
    Ok(count)
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

    /// A file with one chunk of a fresh state's records.
    fn file() -> Vec<u8> {
        let state = State::new();
        let mut meta = b"the server's".to_vec();
        meta.extend(state.recompute_digest().0.to_le_bytes());
        meta.extend([0; 4]);
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([KIND_SNAPSHOT, 0, 0, 0]);
        bytes.extend((meta.len() as u32).to_le_bytes());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes);
        hasher.update(&meta);
        bytes.extend(hasher.finalize().to_le_bytes());
        bytes.extend(meta);

        let (mut body, mut records) = (Vec::new(), 0_u64);
        for record in state.all_records() {
            body.push(record.key.len() as u8);
            body.extend((record.value.len() as u32).to_le_bytes());
            body.extend(&record.key[..]);
            body.extend(&record.value[..]);
            records += 1;
        }
        let length = (body.len() as u32).to_le_bytes();
        let crc = crc32fast::hash(&[&length[..], &0_u64.to_le_bytes(), &body].concat()).to_le_bytes();
        bytes.extend([&length[..], &crc, &0_u64.to_le_bytes(), &body].concat());

        let totals =
            [&1_u64.to_le_bytes()[..], &records.to_le_bytes(), &crc32fast::hash(&crc).to_le_bytes()].concat();
        bytes.extend([&[0; 4][..], &crc32fast::hash(&totals).to_le_bytes(), &totals].concat());
        bytes
    }

    fn check(bytes: &[u8]) -> Result<Snapshot, Problem> {
        Pieces { input: bytes, bytes: 0 }.read_all()
    }

    #[test]
    fn a_whole_file_gives_its_state() {
        let bytes = file();
        let snapshot = check(&bytes).ok().expect("whole");
        assert_eq!(snapshot.bytes, bytes.len() as u64);
        assert_eq!(snapshot.chunks, 1);
        assert_eq!(snapshot.state.counts().znodes, State::new().counts().znodes);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let whole = file();
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(check(&whole[..length]).is_err(), "length {length}");
        }
        assert!(check(&[&whole[..], &[0]].concat()).is_err(), "bytes behind the end");
    }
}
