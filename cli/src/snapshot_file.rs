//! Reading a snapshot file, every byte of it: checksums, order, totals, and at last the state that
//! its records make, whose digest must be the one that the file claims.
//!
//! The pieces are [`quorate_core::record_file`]'s. Of the meta in the header only the end is read
//! here: 16 bytes of digest before 4 bytes of checksum. The rest is the server's, and the state
//! knows its own transaction.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use quorate_core::record_file::{self, CHUNK_HEADER, HEADER, Kind, Piece, PieceError, PieceReader};
use quorate_core::state::{Digest, State, StateLoader};

use crate::failure::{Failure, Outcome};

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

impl From<PieceError> for Problem {
    fn from(error: PieceError) -> Problem {
        match error {
            PieceError::Damaged(what) => Problem::Damaged(what),
            PieceError::Version(version) => Problem::Foreign(format!(
                "it has format {version}; this version knows {}",
                record_file::VERSION
            )),
        }
    }
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
        let mut reader = PieceReader::default();
        let mut loader = StateLoader::new();
        while let Piece::Chunk(body) = reader.accept(self.piece()?.into())? {
            chunks += 1;
            for record in record_file::records(&body) {
                let (key, Some(value)) = record? else {
                    return damaged("a snapshot has no record that is gone");
                };
                loader.push(key, value).or_else(|error| damaged(error.to_string()))?;
                records += 1;
            }
        }
        match self.input.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return damaged("bytes follow its end"),
            Err(error) => return Err(Problem::Unreadable(error)),
        }
        let state = loader.finish().or_else(|error| damaged(error.to_string()))?;
        if state.recompute_digest() != digest {
            return damaged("its records do not have the digest that it claims");
        }
        Ok(Snapshot { bytes: self.bytes, chunks, records, digest, state })
    }

    /// The digest that the header's meta claims.
    fn header(&mut self) -> Result<Digest, Problem> {
        let foreign = || Problem::Foreign("it does not begin as one".into());
        let mut header = self.take(HEADER).map_err(|_| foreign())?;
        let length = record_file::meta_length(&header).map_err(|_| foreign())?;
        header.extend(self.take(length)?);
        let meta = record_file::decode_header(&header, Kind::Snapshot)?;
        let digest = meta.split_last_chunk::<4>().and_then(|(before, _checksum)| before.last_chunk());
        let Some(digest) = digest else { return damaged("its meta is cut short") };
        Ok(Digest(u128::from_le_bytes(*digest)))
    }

    /// The next chunk or footer, not verified yet.
    fn piece(&mut self) -> Result<Vec<u8>, Problem> {
        let mut piece = self.take(CHUNK_HEADER)?;
        let length = PieceReader::piece_length(&piece)?;
        piece.extend(self.take(length - CHUNK_HEADER)?);
        Ok(piece)
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

#[cfg(test)]
mod tests {
    use quorate_core::record_file::ChunkWriter;

    use super::*;

    /// A file with one chunk of a fresh state's records.
    fn file() -> Vec<u8> {
        let state = State::new();
        let mut meta = b"the server's".to_vec();
        meta.extend(state.recompute_digest().0.to_le_bytes());
        meta.extend([0; 4]);
        let mut bytes = record_file::encode_header(Kind::Snapshot, &meta);
        let mut writer = ChunkWriter::new(1 << 20);
        for record in state.all_records() {
            bytes.extend(writer.push(&record.key, Some(&record.value)).unwrap_or_default());
        }
        let (last, footer) = writer.finish();
        bytes.extend(last.unwrap_or_default());
        bytes.extend(footer);
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
