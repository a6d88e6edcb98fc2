//! What a checkpoint stands for, and how that is stored.

use quorate_core::id::Zxid;
use quorate_core::state::Digest;

use crate::replica::types::{LogId, SnapshotMeta, StoredMembership};

/// The format of checkpoints and snapshot files that this code reads and writes.
pub const VERSION: u32 = 1;

/// What a checkpoint stands for: the state after applying the log up to `applied`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// The last log entry that is in it.
    pub applied: LogId,
    /// The membership in force there.
    pub membership: StoredMembership,
    /// The last transaction in it.
    pub zxid: Zxid,
    /// The digest of its content.
    pub digest: Digest,
}

impl CheckpointMeta {
    /// The same in openraft's words.
    pub fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: Some(self.applied), last_membership: self.membership.clone() }
    }

    /// Version, content, checksum.
    pub fn encode(&self) -> Vec<u8> {
        let fields = (&self.applied, &self.membership, self.zxid.0, self.digest.0.to_le_bytes());
        let content = postcard::to_allocvec(&fields).expect("plain data encodes");
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend_from_slice(&content);
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads what [`CheckpointMeta::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<CheckpointMeta, MetaError> {
        let (content, crc) = bytes.split_last_chunk::<4>().ok_or(MetaError::Damaged("too short"))?;
        if crc32fast::hash(content).to_le_bytes() != *crc {
            return Err(MetaError::Damaged("its checksum does not match"));
        }
        let (version, content) = content.split_first_chunk::<4>().ok_or(MetaError::Damaged("too short"))?;
        match u32::from_le_bytes(*version) {
            VERSION => {}
            version => return Err(MetaError::Version(version)),
        }
        let ((applied, membership, zxid, digest), rest): ((LogId, StoredMembership, u64, [u8; 16]), _) =
            postcard::take_from_bytes(content).map_err(|_| MetaError::Damaged("it does not decode"))?;
        if !rest.is_empty() {
            return Err(MetaError::Damaged("bytes follow it"));
        }
        let digest = Digest(u128::from_le_bytes(digest));
        Ok(CheckpointMeta { applied, membership, zxid: Zxid(zxid), digest })
    }
}

/// Why a stored meta cannot be used; the caller adds where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// Not what was written.
    Damaged(&'static str),
    /// Of another format.
    Version(u32),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::types::LeaderId;
    use openraft::vote::RaftLeaderIdExt;

    #[test]
    fn a_meta_reads_back_and_every_flipped_bit_is_noticed() {
        let meta = CheckpointMeta {
            applied: LogId::new(LeaderId::new_committed(3, 1), 99),
            membership: StoredMembership::default(),
            zxid: Zxid(1234),
            digest: Digest(u128::MAX / 3),
        };
        let bytes = meta.encode();
        assert_eq!(CheckpointMeta::decode(&bytes), Ok(meta));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(CheckpointMeta::decode(&bad).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(CheckpointMeta::decode(&bytes[..length]).is_err(), "length {length}");
        }
    }
}
