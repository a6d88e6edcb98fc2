//! Jump consistent hashing (Lamping & Veach 2014): no memory, numbered members.
//!
//! Members are numbered by their order. Growing or shrinking at the end moves what it must and no
//! more; a member that leaves in the middle renumbers all behind it. Weights are ignored.

use std::sync::Arc;

use super::rendezvous::mix;
use super::{Member, Named, Placement, sorted};

/// Numbered members.
#[derive(Clone, Debug)]
pub struct Jump {
    members: Arc<[Member]>,
}

impl Jump {
    /// The order in which members are given does not matter: their ids number them.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Jump {
        Jump { members: sorted(members) }
    }
}

/// The bucket of a hash among so many (at least one).
fn jump(mut hash: u64, buckets: usize) -> usize {
    let (mut bucket, mut next) = (0i64, 0i64);
    while next < buckets as i64 {
        bucket = next;
        hash = hash.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) as f64 * ((1u64 << 31) as f64 / ((hash >> 33) + 1) as f64)) as i64;
    }
    bucket as usize
}

impl Placement for Jump {
    fn members(&self) -> &[Member] {
        &self.members
    }

    fn owner(&self, hash: u64) -> Option<usize> {
        (!self.members.is_empty()).then(|| jump(hash, self.members.len()))
    }

    fn walk(&self, hash: u64) -> Box<dyn Iterator<Item = usize> + '_> {
        let count = self.members.len();
        let mut named = Named::none_of(count);
        let mut hash = hash;
        let mut tries = 0;
        // New throws for stand-ins; when they keep naming the same, the rest follow in order.
        let throws = std::iter::from_fn(move || {
            while named.left > 0 {
                let member = if tries < 4 * count { jump(hash, count) } else { tries - 4 * count };
                hash = mix(hash);
                tries += 1;
                if named.is_new(member) {
                    return Some(member);
                }
            }
            None
        });
        Box::new(throws)
    }
}

#[cfg(test)]
mod tests {
    use super::jump;

    /// Buckets of the paper's algorithm, as other implementations give them.
    #[test]
    fn known_buckets() {
        for (hash, buckets, expected) in
            [(1, 1, 0), (42, 57, 43), (0xdead_10cc, 1, 0), (0xdead_10cc, 666, 361), (256, 1024, 520)]
        {
            assert_eq!(jump(hash, buckets), expected, "{hash} among {buckets}");
        }
    }
}
