//! The bytes of instances and policies: a format version, then postcard's form (docs/formats.md).
//!
//! The encoding is canonical: equal records have equal bytes (maps are sorted). Whoever writes the
//! node without going through the registry may write anything, so decoding validates.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Instance, Policy};
use crate::error::{Error, ErrorKind};

/// The version that is written.
const FORMAT: u8 = 1;
/// The largest record that is read; any valid one is smaller.
const BYTES_MAX: usize = 64 * 1024;

impl Instance {
    /// The znode's data.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads and validates a znode's data.
    ///
    /// # Errors
    /// [`ErrorKind::MarshallingError`] for bytes that are no record of a known version; those of
    /// [`Instance::validate`].
    pub fn decode(bytes: &[u8]) -> Result<Instance, Error> {
        let instance: Instance = decode(bytes, "instance")?;
        instance.validate()?;
        Ok(instance)
    }
}

impl Policy {
    /// The znode's data.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads and validates a znode's data.
    ///
    /// # Errors
    /// As [`Instance::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Policy, Error> {
        let policy: Policy = decode(bytes, "policy")?;
        policy.validate()?;
        Ok(policy)
    }
}

fn encode(record: &impl Serialize) -> Bytes {
    postcard::to_extend(record, vec![FORMAT]).expect("a record has no unencodable part").into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Error> {
    let refused = |why: &str| Err(Error::new(ErrorKind::MarshallingError, format!("{what} record {why}")));
    match bytes {
        [] => refused("is empty"),
        bytes if bytes.len() > BYTES_MAX => refused("is too large"),
        [FORMAT, rest @ ..] => match postcard::take_from_bytes(rest) {
            Ok((record, [])) => Ok(record),
            _ => refused("is not decodable"),
        },
        [format, ..] => refused(&format!("has the unknown format {format}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::instance::{Check, CheckKind, Mode};
    use super::*;

    #[test]
    fn records_survive_their_encoding() {
        let mut instance = Instance::new("a-1", "10.0.0.1", 8080);
        instance.metadata.insert("team".into(), "blue".into());
        instance.mode = Mode::Draining { window_ms: 5000 };
        instance.load = Some(700);
        instance.check = Some(Check::new(CheckKind::Http { path: "/healthz".into() }));
        assert_eq!(Instance::decode(&instance.encode()), Ok(instance));
        let policy = Policy::default();
        assert_eq!(Policy::decode(&policy.encode()), Ok(policy));
    }

    /// The example of docs/formats.md.
    #[test]
    fn the_documented_bytes_are_the_encoding() {
        let encoded = Instance::new("a", "::1", 80).encode();
        let expected = [
            1, // the format
            1, b'a', 3, b':', b':', b'1', // id, address
            1, 4, b'm', b'a', b'i', b'n', 80, // ports
            0, 1, // protocol, weight
            0, 0, 0, // locality
            0, 0, 0, // metadata, version, generation
            0, 0, 0, // health, reason, mode
            0, 0, 0, 0, // load, cluster, priority, check
        ];
        assert_eq!(encoded, expected.as_slice());
    }

    #[test]
    fn hostile_bytes_give_errors() {
        let good = Instance::new("a", "::1", 80).encode();
        for end in 0..good.len() {
            assert!(Instance::decode(&good[..end]).is_err());
        }
        for bytes in [&[2u8, 1][..], &[1, 0xff, 0xff, 0xff, 0xff, 0x0f], &[1; 100], &[1; 70_000], b"{}"] {
            assert!(Instance::decode(bytes).is_err() && Policy::decode(bytes).is_err());
        }
        let mut longer = good.to_vec();
        longer.push(0);
        assert!(Instance::decode(&longer).is_err());
        // Well encoded, but not valid.
        assert!(Instance::decode(&Instance::new("../x", "::1", 80).encode()).is_err());
    }
}
