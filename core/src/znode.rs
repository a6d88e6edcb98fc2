//! A znode's visible shape: [`Stat`] and [`CreateMode`]. How nodes are kept is tree.rs.

use serde::{Deserialize, Serialize};

use crate::codec::Integers;
use crate::id::{SessionId, Timestamp, Zxid};

/// What kind of node to create, and whether its name gets the parent's counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CreateMode {
    /// Stays until it is deleted.
    Persistent,
    /// Stays; its name ends in the parent's create counter, ten digits.
    PersistentSequential,
    /// Goes with its session.
    Ephemeral,
    /// Goes with its session; numbered.
    EphemeralSequential,
    /// Goes some time after its last child.
    Container,
    /// Goes when it has no children and was not changed for this long.
    Ttl {
        /// In milliseconds: 0 < ttl < 2^40.
        ttl_ms: i64,
    },
    /// The same, numbered.
    TtlSequential {
        /// In milliseconds: 0 < ttl < 2^40.
        ttl_ms: i64,
    },
}

impl CreateMode {
    /// Whether the name gets the parent's counter.
    pub fn is_sequential(self) -> bool {
        use CreateMode::*;
        matches!(self, PersistentSequential | EphemeralSequential | TtlSequential { .. })
    }

    /// Whether the node goes with its session.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// The time to live, if the node has one.
    pub fn ttl_ms(self) -> Option<i64> {
        match self {
            CreateMode::Ttl { ttl_ms } | CreateMode::TtlSequential { ttl_ms } => Some(ttl_ms),
            _ => None,
        }
    }
}

/// A node's metadata as clients see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// The transaction that created the node.
    pub czxid: Zxid,
    /// The transaction that last set its data.
    pub mzxid: Zxid,
    /// The transaction that last created or deleted a child (its own creation before that).
    pub pzxid: Zxid,
    /// When it was created.
    pub ctime: Timestamp,
    /// When its data was last set.
    pub mtime: Timestamp,
    /// How often its data was set; −1 is skipped on wrap.
    pub version: i32,
    /// 2·creates − children: as ZooKeeper shows it.
    pub cversion: i32,
    /// How often its ACL was set.
    pub aversion: i32,
    /// The owning session of a true ephemeral; 0 otherwise.
    pub ephemeral_owner: SessionId,
    /// Bytes of data; 0 if null.
    pub data_length: i32,
    /// Children now.
    pub num_children: i32,
}

impl Stat {
    /// Appends postcard's form of it.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut integers = Integers::<90>::new();
        for zxid in [self.czxid, self.mzxid, self.pzxid] {
            integers.put_u64(zxid.0);
        }
        integers.put_i64(self.ctime.0);
        integers.put_i64(self.mtime.0);
        for version in [self.version, self.cversion, self.aversion] {
            integers.put_i64(version.into());
        }
        integers.put_u64(self.ephemeral_owner.0);
        integers.put_i64(self.data_length.into());
        integers.put_i64(self.num_children.into());
        out.extend_from_slice(integers.as_slice());
    }
}
