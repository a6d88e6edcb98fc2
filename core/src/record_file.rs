//! A file of sorted records, as bytes: what snapshot files and the runs of a large checkpoint have
//! in common. Only slices here; whoever has the file reads and writes it. What the records mean is
//! [`crate::record`]'s business.
//!
//! ```text
//! header   magic (8) | version (4) | kind (1) | zeros (3) | length (4) | crc (4) | meta
//! chunk    length (4) | crc (4) | number (8) | record | record | ...
//! record   key length (1) | value length (4), u32::MAX = "gone" | key | value
//! footer   0 (4) | crc (4) | chunks (8) | records (8) | chain (4)
//! ```
//!
//! Integers are little-endian. Every chunk's checksum covers its number, so that chunks cannot be
//! swapped, and the footer's `chain` covers all of theirs, so that none can be exchanged. Header,
//! chunks and footer are called *pieces*: the file in its order, each verifiable on its own.

use bytes::Bytes;

/// Bytes before a header's meta.
pub const HEADER: usize = 24;
/// Bytes before a chunk's records.
pub const CHUNK_HEADER: usize = 16;
/// Bytes of the footer.
pub const FOOTER: usize = 28;
/// A chunk is closed at this size; one record more fits.
pub const CHUNK_LIMIT: usize = (1 << 20) + (128 << 10);
/// The format of these files.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"QUORRECS";
const GONE: u32 = u32::MAX;
/// No meta is longer.
const META_LIMIT: usize = 1 << 20;

/// What a file of records is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole state.
    Snapshot = 1,
    /// Sorted changes of a checkpoint that is being written.
    Run = 2,
}

/// Why a piece is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PieceError {
    /// Not what was written.
    Damaged(String),
    /// Of another format.
    Version(u32),
}

fn damaged<T>(what: impl Into<String>) -> Result<T, PieceError> {
    Err(PieceError::Damaged(what.into()))
}

/// The header's bytes.
pub fn encode_header(kind: Kind, meta: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + meta.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[kind as u8, 0, 0, 0]);
    bytes.extend_from_slice(&(meta.len() as u32).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes);
    hasher.update(meta);
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
    bytes.extend_from_slice(meta);
    bytes
}

/// How long the meta behind these first [`HEADER`] bytes is.
pub fn meta_length(bytes: &[u8]) -> Result<usize, PieceError> {
    if bytes.len() < HEADER || bytes[..8] != MAGIC {
        return damaged("the header is not one of a file of records");
    }
    let length = u32_at(bytes, 16) as usize;
    if length > META_LIMIT {
        return damaged("the header's length is out of bounds");
    }
    Ok(length)
}

/// The meta in a whole header piece.
pub fn decode_header(bytes: &[u8], kind: Kind) -> Result<&[u8], PieceError> {
    let length = meta_length(bytes)?;
    if bytes.len() != HEADER + length {
        return damaged("the header is cut short");
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..20]);
    hasher.update(&bytes[HEADER..]);
    if hasher.finalize() != u32_at(bytes, 20) {
        return damaged("the header's checksum does not match");
    }
    match u32_at(bytes, 8) {
        VERSION => {}
        version => return Err(PieceError::Version(version)),
    }
    if bytes[12] != kind as u8 {
        return damaged(format!("this is not a {kind:?} file"));
    }
    Ok(&bytes[HEADER..])
}

/// Puts records into chunks.
pub struct ChunkWriter {
    target: usize,
    chunk: Vec<u8>,
    chunks: u64,
    records: u64,
    chain: crc32fast::Hasher,
}

impl ChunkWriter {
    /// Chunks are closed once they have `target` bytes.
    pub fn new(target: usize) -> ChunkWriter {
        ChunkWriter {
            target: target.min(1 << 20),
            chunk: vec![0; CHUNK_HEADER],
            chunks: 0,
            records: 0,
            chain: crc32fast::Hasher::new(),
        }
    }

    /// Adds a record, `None` for one that is gone; gives a chunk piece when one is complete.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) -> Option<Vec<u8>> {
        put_record(&mut self.chunk, key, value);
        self.records += 1;
        (self.chunk.len() >= self.target).then(|| self.close())
    }

    /// The last chunk piece, if there is one, and the footer piece.
    pub fn finish(mut self) -> (Option<Vec<u8>>, Vec<u8>) {
        let last = (self.chunk.len() > CHUNK_HEADER).then(|| self.close());
        let mut footer = vec![0; FOOTER];
        footer[8..16].copy_from_slice(&self.chunks.to_le_bytes());
        footer[16..24].copy_from_slice(&self.records.to_le_bytes());
        footer[24..28].copy_from_slice(&self.chain.finalize().to_le_bytes());
        let crc = crc32fast::hash(&footer[8..]);
        footer[4..8].copy_from_slice(&crc.to_le_bytes());
        (last, footer)
    }

    fn close(&mut self) -> Vec<u8> {
        let fresh = Vec::with_capacity(self.chunk.len());
        let mut chunk = std::mem::replace(&mut self.chunk, fresh);
        self.chunk.resize(CHUNK_HEADER, 0);
        let length = (chunk.len() - CHUNK_HEADER) as u32;
        chunk[..4].copy_from_slice(&length.to_le_bytes());
        chunk[8..16].copy_from_slice(&self.chunks.to_le_bytes());
        let crc = chunk_crc(&chunk);
        chunk[4..8].copy_from_slice(&crc.to_le_bytes());
        self.chain.update(&crc.to_le_bytes());
        self.chunks += 1;
        chunk
    }
}

/// A piece behind the header, verified.
#[derive(Debug)]
pub enum Piece {
    /// Records; read them with [`records`].
    Chunk(Bytes),
    /// The end.
    Footer,
}

/// Verifies pieces in their order.
#[derive(Default)]
pub struct PieceReader {
    chunks: u64,
    records: u64,
    chain: crc32fast::Hasher,
    last_key: Vec<u8>,
    done: bool,
}

impl PieceReader {
    /// How long the piece is that starts with these [`CHUNK_HEADER`] bytes.
    pub fn piece_length(start: &[u8]) -> Result<usize, PieceError> {
        if start.len() < 4 {
            return damaged("the file ends without its footer");
        }
        match u32_at(start, 0) as usize {
            0 => Ok(FOOTER),
            length if length > CHUNK_LIMIT => damaged("a chunk's length is out of bounds"),
            length => Ok(CHUNK_HEADER + length),
        }
    }

    /// Verifies the next piece: checksum, number, order of its keys; at the footer, the totals.
    pub fn accept(&mut self, piece: Bytes) -> Result<Piece, PieceError> {
        if self.done {
            return damaged("bytes follow the footer");
        }
        if piece.len() < CHUNK_HEADER || piece.len() != PieceReader::piece_length(&piece)? {
            return damaged("it is cut short");
        }
        if u32_at(&piece, 0) == 0 {
            return self.footer(&piece);
        }
        let crc = u32_at(&piece, 4);
        if chunk_crc(&piece) != crc {
            return damaged("the chunk's checksum does not match");
        }
        if u64_at(&piece, 8) != self.chunks {
            return damaged(format!("chunk {} is where chunk {} must be", u64_at(&piece, 8), self.chunks));
        }
        self.chain.update(&crc.to_le_bytes());
        self.chunks += 1;
        let body = piece.slice(CHUNK_HEADER..);
        for record in records(&body) {
            let (key, _) = record?;
            if self.records > 0 && key <= self.last_key.as_slice() {
                return damaged("its keys are not in order");
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            self.records += 1;
        }
        Ok(Piece::Chunk(body))
    }

    /// Whether the footer was accepted.
    pub fn is_done(&self) -> bool {
        self.done
    }

    fn footer(&mut self, piece: &[u8]) -> Result<Piece, PieceError> {
        if crc32fast::hash(&piece[8..]) != u32_at(piece, 4) {
            return damaged("the footer's checksum does not match");
        }
        let totals = (u64_at(piece, 8), u64_at(piece, 16), u32_at(piece, 24));
        if totals != (self.chunks, self.records, self.chain.clone().finalize()) {
            return damaged("the footer's totals are not those of the chunks before it");
        }
        self.done = true;
        Ok(Piece::Footer)
    }
}

/// A key and its value; `None`: the record is gone.
pub type RecordSlices<'a> = (&'a [u8], Option<&'a [u8]>);

/// The records in a chunk's body.
pub fn records(body: &[u8]) -> impl Iterator<Item = Result<RecordSlices<'_>, PieceError>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = take_record(&mut rest);
        if record.is_err() {
            rest = &[];
        }
        Some(record)
    })
}

/// Appends a record.
pub fn put_record(bytes: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    let key_length = u8::try_from(key.len()).expect("the core's keys are short");
    bytes.push(key_length);
    bytes.extend_from_slice(&value.map_or(GONE, |value| value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value.unwrap_or_default());
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Result<RecordSlices<'a>, PieceError> {
    if rest.len() < 5 {
        return damaged("a record is cut short");
    }
    let key_end = 5 + rest[0] as usize;
    let length = u32_at(rest, 1);
    let value_end = key_end + if length == GONE { 0 } else { length as usize };
    if rest.len() < value_end {
        return damaged("a record is cut short");
    }
    let (record, behind) = rest.split_at(value_end);
    *rest = behind;
    Ok((&record[5..key_end], (length != GONE).then(|| &record[key_end..])))
}

fn chunk_crc(chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&chunk[..4]);
    hasher.update(&chunk[8..]);
    hasher.finalize()
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

    fn pieces() -> Vec<Bytes> {
        let mut writer = ChunkWriter::new(64);
        let mut pieces: Vec<Bytes> = Vec::new();
        for number in 0..20_u8 {
            let value = (number != 7).then(|| vec![number; 10]);
            pieces.extend(writer.push(&[1, number], value.as_deref()).map(Bytes::from));
        }
        let (last, footer) = writer.finish();
        pieces.extend(last.map(Bytes::from));
        pieces.push(footer.into());
        pieces
    }

    fn read(pieces: &[Bytes]) -> Result<usize, PieceError> {
        let mut reader = PieceReader::default();
        let mut count = 0;
        for piece in pieces {
            if let Piece::Chunk(body) = reader.accept(piece.clone())? {
                count += records(&body).count();
            }
        }
        if reader.is_done() { Ok(count) } else { damaged("no footer") }
    }

    #[test]
    fn records_read_back() {
        assert_eq!(read(&pieces()), Ok(20));
    }

    #[test]
    fn every_flipped_bit_and_every_missing_or_swapped_piece_is_noticed() {
        let whole = pieces();
        for index in 0..whole.len() {
            for bit in 0..whole[index].len() * 8 {
                let mut bad = whole.clone();
                let mut bytes = bad[index].to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bad[index] = bytes.into();
                assert!(read(&bad).is_err(), "piece {index} bit {bit}");
            }
            let mut bad = whole.clone();
            bad.remove(index);
            assert!(read(&bad).is_err(), "without piece {index}");
        }
        let mut bad = whole.clone();
        bad.swap(0, 1);
        assert!(read(&bad).is_err());
    }

    #[test]
    fn a_header_tells_its_kind_and_version() {
        let header = encode_header(Kind::Run, b"meta");
        assert_eq!(decode_header(&header, Kind::Run), Ok(&b"meta"[..]));
        assert!(decode_header(&header, Kind::Snapshot).is_err());
        for bit in 0..header.len() * 8 {
            let mut bad = header.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_header(&bad, Kind::Run).is_err(), "bit {bit}");
        }
    }
}
