//! The words of agreement: what openraft is told about us, and short names for its types.
//!
//! This is not where the log or the state machine live; it is the one list of types that
//! [`super::log_store`], [`super::checkpoint`] and the rest of this room share, so that no
//! openraft type needs to be spelled with its parameters twice. Nothing outside `replica/` names
//! anything from here except [`MemberAddress`].

use std::fmt;

use bytes::Bytes;
use openraft::type_config::alias;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// Quorate's choice of types for openraft. Everything not named here is openraft's default:
    /// `u64` terms, leader ids that order by (term, node), the multi-thread capable tokio runtime.
    pub TypeConfig:
        D = Payload,
        R = (),
        NodeId = u64,
        Node = MemberAddress,
);

/// What one log entry carries: an encoded batch of core commands, opaque to Raft and to the log.
///
/// The bytes are reference-counted: the log's cache, the replication streams and apply share them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(pub Bytes);

impl Payload {
    /// How many bytes the batch takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        Payload(bytes)
    }
}

// Payloads hold users' data: neither form shows more than the length.
impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// Where a member is reached. Part of the replicated membership, so every member knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberAddress {
    // The order is part of the stored format: append only.
    /// For people: shown in status and logs.
    pub name: String,
    /// `host:port` for other members.
    pub peer: String,
    /// `host:port` for clients.
    pub client: String,
    /// `host:port` of the metrics and health door.
    pub http: String,
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (peers {}, clients {})", self.name, self.peer, self.client)
    }
}

/// Who led when an entry was proposed: (term, member). Totally ordered.
pub type LeaderId = alias::LeaderIdOf<TypeConfig>;
/// The part of a [`LeaderId`] that committed entries carry.
pub type CommittedLeaderId = alias::CommittedLeaderIdOf<TypeConfig>;
/// An entry's place in the log: who proposed it, and its index.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// One entry of the log.
pub type Entry = alias::EntryOf<TypeConfig>;
/// What an entry is about: nothing, a [`Payload`], or a membership.
pub type EntryPayload = alias::PayloadOf<TypeConfig>;
/// A vote given or a leadership acknowledged.
pub type Vote = alias::VoteOf<TypeConfig>;
/// The voters (in one or two configurations) and learners, with their addresses.
pub type Membership = openraft::Membership<u64, MemberAddress>;
/// A membership with the log id that set it.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot stands for: its last log id and membership.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// Told when an append is on the disk, or that it failed.
pub type IoFlushed = openraft::storage::IOFlushed<TypeConfig>;
/// The first and last log ids that a log store holds.
pub type LogState = openraft::LogState<TypeConfig>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_never_shows_its_content() {
        let payload = Payload(Bytes::from_static(b"secret"));
        assert_eq!(payload.to_string(), "6 bytes");
        assert_eq!(format!("{payload:?}"), "Payload(6 bytes)");
    }

    #[test]
    fn a_payload_is_stored_as_plain_bytes() {
        let payload = Payload(Bytes::from_static(b"abc"));
        let stored = postcard::to_allocvec(&payload).expect("bytes encode");
        assert_eq!(stored, b"\x03abc");
        assert_eq!(postcard::from_bytes::<Payload>(&stored).expect("bytes decode"), payload);
    }

    #[test]
    fn log_types_cross_threads() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Entry>();
        check::<Vote>();
        check::<SnapshotMeta>();
        check::<openraft::Config>();
    }
}
