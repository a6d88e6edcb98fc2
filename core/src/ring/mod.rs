//! Who owns a key: rings and their alternatives, as pure functions of a service's instances.
//!
//! - [`Ring`]: the construction of gRPC's `ring_hash` (gRFC A42) over XXH64, so that this SDK,
//!   gRPC's xDS client and Envoy pick the same instance; the default;
//! - [`size`]: how many points each member gets, and sizes that keep movement minimal;
//! - [`Maglev`], [`Rendezvous`], [`Jump`]: alternatives with the same face, [`Placement`];
//! - [`bounded`]: consistent hashing with bounded loads on top of any of them;
//! - [`movement`]: what a change of members moves; [`picture`]: a ring as SVG.
//!
//! Invariants:
//! - the order in which members are given does not matter: they are sorted by id;
//! - nothing here depends on the machine: integers, and floating point's basic operations only;
//! - a built placement never changes, so readers share it without a lock.
//!
//! Not here: which instances take part and what their keys are ([`crate::registry`]).

pub mod bounded;
mod consistent;
mod jump;
mod maglev;
pub mod movement;
pub mod picture;
mod rendezvous;
pub mod size;

use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

pub use consistent::Ring;
pub use jump::Jump;
pub use maglev::Maglev;
pub use rendezvous::Rendezvous;
pub use size::{RingSize, Sizing};

/// One who can own keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Unique among the members; their order.
    pub id: Arc<str>,
    /// What is hashed: `address:port`, as gRPC and Envoy do.
    pub key: Arc<str>,
    /// Its share relative to the others'. 0 counts as 1.
    pub weight: u32,
}

impl Member {
    /// A member.
    pub fn new(id: impl Into<Arc<str>>, key: impl Into<Arc<str>>, weight: u32) -> Member {
        Member { id: id.into(), key: key.into(), weight: weight.max(1) }
    }
}

/// Sorted by id; of two with one id the first given stays.
pub fn sorted(members: impl IntoIterator<Item = Member>) -> Arc<[Member]> {
    let mut members: Vec<Member> = members.into_iter().collect();
    members.sort_by(|a, b| a.id.cmp(&b.id));
    members.dedup_by(|later, earlier| later.id == earlier.id);
    for member in &mut members {
        member.weight = member.weight.max(1);
    }
    members.into()
}

/// A key's place: XXH64 with seed 0, as gRPC hashes a request's header.
pub fn hash_key(key: impl AsRef<[u8]>) -> u64 {
    xxh64(key.as_ref(), 0)
}

/// A way to give every key an owner.
///
/// An implementer names, for the same members and hash, the same owner on every machine, and its
/// walk begins with that owner.
pub trait Placement: Send + Sync {
    /// Those who can own, sorted by id; owners are indexes into this.
    fn members(&self) -> &[Member];

    /// The owner of a hash; `None` only without members.
    fn owner(&self, hash: u64) -> Option<usize>;

    /// All members in the order in which they stand in for each other at this hash.
    fn walk(&self, hash: u64) -> Box<dyn Iterator<Item = usize> + '_>;

    /// The owner of a hash and those who stand in for it: `count` different members, or all.
    fn replicas(&self, hash: u64, count: usize) -> Vec<usize> {
        self.walk(hash).take(count).collect()
    }
}

/// The algorithms by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// [`Ring`].
    #[default]
    Ring,
    /// [`Maglev`].
    Maglev,
    /// [`Rendezvous`].
    Rendezvous,
    /// [`Jump`].
    Jump,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 4] =
        [Algorithm::Ring, Algorithm::Maglev, Algorithm::Rendezvous, Algorithm::Jump];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Ring => "ring",
            Algorithm::Maglev => "maglev",
            Algorithm::Rendezvous => "rendezvous",
            Algorithm::Jump => "jump",
        }
    }

    /// Builds a placement; `sizing` matters to the ring only.
    pub fn build(self, members: impl IntoIterator<Item = Member>, sizing: Sizing) -> Box<dyn Placement> {
        match self {
            Algorithm::Ring => Box::new(Ring::new(members, sizing)),
            Algorithm::Maglev => Box::new(Maglev::new(members)),
            Algorithm::Rendezvous => Box::new(Rendezvous::new(members)),
            Algorithm::Jump => Box::new(Jump::new(members)),
        }
    }
}

/// Which members a walk has named already.
#[derive(Debug)]
struct Named {
    words: Vec<u64>,
    left: usize,
}

impl Named {
    fn none_of(members: usize) -> Named {
        Named { words: vec![0; members.div_ceil(64)], left: members }
    }

    /// Whether this one is named for the first time.
    fn is_new(&mut self, member: usize) -> bool {
        let (word, bit) = (&mut self.words[member / 64], 1 << (member % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        self.left -= usize::from(is_new);
        is_new
    }
}
