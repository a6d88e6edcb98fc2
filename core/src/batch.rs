//! A log entry's payload: one stamp and the commands that the leader gathered under it.
//!
//! A version byte, the stamp, then each command with its length (docs/formats.md).

use bytes::{BufMut, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader};
use crate::command::{Command, Stamp};
use crate::id::Timestamp;

/// The version that this code writes, and the only one it reads.
const VERSION: u8 = 1;
/// Version, time, entropy.
const HEAD_BYTES: usize = 1 + 8 + 16;

/// Writes a payload.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: BytesMut,
    count: usize,
}

impl BatchBuilder {
    /// A payload without commands.
    pub fn new(stamp: Stamp) -> BatchBuilder {
        let mut bytes = BytesMut::with_capacity(512);
        bytes.put_u8(VERSION);
        bytes.put_i64(stamp.time.0);
        bytes.put_slice(&stamp.entropy);
        BatchBuilder { bytes, count: 0 }
    }

    /// Adds a command as [`Command::encode`] wrote it.
    pub fn push(&mut self, encoded_command: &[u8]) {
        let length = u32::try_from(encoded_command.len()).expect("requests are bounded far below 4 GiB");
        self.bytes.put_u32(length);
        self.bytes.put_slice(encoded_command);
        self.count += 1;
    }

    /// How many commands there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no command yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How long the payload is so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The payload.
    pub fn finish(self) -> Bytes {
        self.bytes.freeze()
    }
}

/// Reads payloads.
#[derive(Debug)]
pub enum Batch {}

impl Batch {
    /// The stamp, and the commands one by one. After an undecodable command there are no more.
    ///
    /// # Errors
    /// [`DecodeError`] if the head is malformed or of another version.
    pub fn parse(
        payload: &Bytes,
    ) -> Result<(Stamp, impl Iterator<Item = Result<Command, DecodeError>> + use<>), DecodeError> {
        let mut reader = Reader::new(payload, "log payload");
        if reader.u8()? != VERSION {
            return Err(DecodeError::new("log payload of another version"));
        }
        let stamp = Stamp { time: Timestamp(i64::from_be_bytes(reader.array()?)), entropy: reader.array()? };
        let mut rest = payload.slice(HEAD_BYTES..);
        let commands = std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let command = split_command(&mut rest).and_then(|bytes| Command::decode(&bytes));
            if command.is_err() {
                rest.clear();
            }
            Some(command)
        });
        Ok((stamp, commands))
    }
}

fn split_command(rest: &mut Bytes) -> Result<Bytes, DecodeError> {
    let mut reader = Reader::new(rest, "length of a command");
    let length = u32::from_be_bytes(reader.array()?) as usize;
    reader.take(length)?;
    let command = rest.slice(4..4 + length);
    *rest = rest.slice(4 + length..);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Operation, Origin};

    fn command(path: &str) -> Command {
        let operation = Operation::Delete { path: path.into(), version: -1 };
        Command { origin: Origin::House, identities: Vec::new(), operation }
    }

    fn payload() -> Bytes {
        let mut batch = BatchBuilder::new(Stamp { time: Timestamp(-5), entropy: [9; 16] });
        for path in ["/a", "/b"] {
            let mut encoded = Vec::new();
            command(path).encode(&mut encoded);
            batch.push(&encoded);
        }
        assert_eq!((batch.len(), batch.is_empty()), (2, false));
        batch.finish()
    }

    #[test]
    fn what_is_written_is_read() {
        let (stamp, commands) = Batch::parse(&payload()).expect("well formed");
        assert_eq!(stamp, Stamp { time: Timestamp(-5), entropy: [9; 16] });
        assert_eq!(commands.collect::<Vec<_>>(), [Ok(command("/a")), Ok(command("/b"))]);
    }

    #[test]
    fn torn_or_changed_payloads_never_panic() {
        let whole = payload();
        for end in 0..whole.len() {
            if let Ok((_, commands)) = Batch::parse(&whole.slice(..end)) {
                let _ = commands.count();
            }
        }
        for place in 0..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.to_vec();
                bytes[place] = value;
                if let Ok((_, commands)) = Batch::parse(&bytes.into()) {
                    let _ = commands.count();
                }
            }
        }
    }
}
