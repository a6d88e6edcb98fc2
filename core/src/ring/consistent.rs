//! The consistent ring of gRFC A42: sorted points, the owner of a hash is the first at or behind it.
//!
//! ```text
//!   hashes   h0 ≤ h1 ≤ h2 ≤ … ≤ hn      one array, so that a search touches few cache lines
//!   owners   m0   m1   m2   …   mn      the member of each point
//!   buckets  where each equal slice of the hash space begins in `hashes`: a look-up goes straight
//!            to a slice with about two points instead of searching among all
//! ```
//!
//! Invariants:
//! - [`Ring::update`] gives exactly what [`Ring::new`] of the same members gives;
//! - points of one hash stand in the order of their members.

use std::fmt::Write;
use std::sync::Arc;

use xxhash_rust::xxh64::xxh64;

use super::{Member, Named, Placement, RingSize, Sizing, sorted};

/// A consistent ring. Immutable: share it behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Ring {
    members: Arc<[Member]>,
    sizing: Sizing,
    size: RingSize,
    points: Vec<u32>,
    hashes: Vec<u64>,
    owners: Vec<u32>,
    buckets: Vec<u32>,
    /// A hash's bucket is what is left of it when shifted so far.
    shift: u32,
}

/// A point: its place and its member.
type Point = (u64, u32);

impl Ring {
    /// Builds a ring; the order of the members does not matter.
    pub fn new(members: impl IntoIterator<Item = Member>, sizing: Sizing) -> Ring {
        let members = sorted(members);
        let weights = weights(&members);
        let size = sizing.resolve(&weights);
        let counts = size.points(&weights);
        let mut points: Vec<Point> = Vec::with_capacity(counts.iter().map(|count| *count as usize).sum());
        for (index, (member, count)) in members.iter().zip(&counts).enumerate() {
            push_points(&mut points, &member.key, 0..*count, index as u32);
        }
        points.sort_unstable();
        let (hashes, owners) = points.into_iter().unzip();
        Ring::of_points(members, sizing, size, counts, hashes, owners)
    }

    /// The ring of other members, made from this one by merging only what differs: for one change
    /// among many it is many times faster than [`Ring::new`], with the same result.
    pub fn update(&self, members: impl IntoIterator<Item = Member>) -> Ring {
        let members = sorted(members);
        let weights = weights(&members);
        let size = self.sizing.resolve(&weights);
        let counts = size.points(&weights);
        // Where each old member stands now; what goes and what comes.
        let mut moved = vec![u32::MAX; self.members.len()];
        let (mut gone, mut come): (Vec<Point>, Vec<Point>) = (Vec::new(), Vec::new());
        let mut old = 0;
        for (new, (member, count)) in members.iter().zip(&counts).enumerate() {
            while old < self.members.len() && self.members[old].id < member.id {
                self.push_all(&mut gone, old);
                old += 1;
            }
            let mut from = 0;
            if old < self.members.len() && self.members[old].id == member.id {
                if self.members[old].key == member.key {
                    from = *count.min(&self.points[old]);
                    moved[old] = new as u32;
                    push_points(&mut gone, &member.key, from..self.points[old], old as u32);
                } else {
                    self.push_all(&mut gone, old);
                }
                old += 1;
            }
            push_points(&mut come, &member.key, from..*count, new as u32);
        }
        for old in old..self.members.len() {
            self.push_all(&mut gone, old);
        }
        gone.sort_unstable();
        come.sort_unstable();
        let (hashes, owners) = self.merge(&moved, &gone, &come);
        Ring::of_points(members, self.sizing, size, counts, hashes, owners)
    }

    /// The parameters that others need to build the same ring.
    pub fn size(&self) -> RingSize {
        self.size
    }

    /// How the size follows from the members.
    pub fn sizing(&self) -> Sizing {
        self.sizing
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether nobody can own anything.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// How many points a member has.
    pub fn points_of(&self, member: usize) -> u32 {
        self.points[member]
    }

    /// All points in order: where, and whose.
    pub fn points(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.hashes.iter().zip(&self.owners).map(|(hash, owner)| (*hash, *owner as usize))
    }

    /// Each member's part of the hash space, of 1 in all.
    pub fn shares(&self) -> Vec<f64> {
        let mut owned = vec![0u128; self.members.len()];
        // What lies behind the last point wraps around to the first.
        let mut before = self.hashes.last().map_or(0, |last| u128::from(*last)) as i128 - (1i128 << 64);
        for (hash, owner) in self.points() {
            owned[owner] += (i128::from(hash) - before) as u128;
            before = i128::from(hash);
        }
        owned.into_iter().map(|owned| owned as f64 / (1u128 << 64) as f64).collect()
    }

    /// The index of the point that owns a hash. There must be points.
    #[inline]
    fn point_of(&self, hash: u64) -> usize {
        let bucket = hash.checked_shr(self.shift).unwrap_or(0) as usize;
        let (from, to) = (self.buckets[bucket] as usize, self.buckets[bucket + 1] as usize);
        let mut point = from;
        if to - from > 16 {
            point += self.hashes[from..to].partition_point(|place| *place < hash);
        } else {
            while point < to && self.hashes[point] < hash {
                point += 1;
            }
        }
        if point == self.hashes.len() { 0 } else { point }
    }

    fn push_all(&self, points: &mut Vec<Point>, member: usize) {
        push_points(points, &self.members[member].key, 0..self.points[member], member as u32);
    }

    /// Old points without those that go, renamed to their members' new places, with those that come.
    fn merge(&self, moved: &[u32], gone: &[Point], come: &[Point]) -> (Vec<u64>, Vec<u32>) {
        let length = self.hashes.len() - gone.len() + come.len();
        let (mut hashes, mut owners) = (Vec::with_capacity(length), Vec::with_capacity(length));
        let (mut gone, mut come) = (gone.iter().peekable(), come.iter().peekable());
        for (hash, owner) in self.hashes.iter().copied().zip(self.owners.iter().copied()) {
            if gone.next_if(|point| **point == (hash, owner)).is_some() {
                continue;
            }
            let point = (hash, moved[owner as usize]);
            while let Some((hash, owner)) = come.next_if(|other| **other < point) {
                hashes.push(*hash);
                owners.push(*owner);
            }
            hashes.push(point.0);
            owners.push(point.1);
        }
        for (hash, owner) in come {
            hashes.push(*hash);
            owners.push(*owner);
        }
        (hashes, owners)
    }

    fn of_points(
        members: Arc<[Member]>,
        sizing: Sizing,
        size: RingSize,
        points: Vec<u32>,
        hashes: Vec<u64>,
        owners: Vec<u32>,
    ) -> Ring {
        let bits = hashes.len().max(2).ilog2() - 1;
        let shift = 64 - bits;
        let mut buckets = vec![0u32; (1 << bits) + 1];
        // Counted into the bucket behind each point's, then summed up: where each bucket begins.
        for hash in &hashes {
            buckets[hash.checked_shr(shift).unwrap_or(0) as usize + 1] += 1;
        }
        let mut before = 0;
        for bucket in &mut buckets {
            before += *bucket;
            *bucket = before;
        }
        Ring { members, sizing, size, points, hashes, owners, buckets, shift }
    }
}

impl Placement for Ring {
    fn members(&self) -> &[Member] {
        &self.members
    }

    #[inline]
    fn owner(&self, hash: u64) -> Option<usize> {
        if self.hashes.is_empty() {
            return None;
        }
        Some(self.owners[self.point_of(hash)] as usize)
    }

    fn walk(&self, hash: u64) -> Box<dyn Iterator<Item = usize> + '_> {
        if self.hashes.is_empty() {
            return Box::new(std::iter::empty());
        }
        let start = self.point_of(hash);
        let mut points = self.owners[start..].iter().chain(&self.owners[..start]);
        let mut named = Named::none_of(self.members.len());
        Box::new(std::iter::from_fn(move || {
            if named.left == 0 {
                return None;
            }
            points.find(|owner| named.is_new(**owner as usize)).map(|owner| *owner as usize)
        }))
    }
}

impl PartialEq for Ring {
    /// Same members, same points.
    fn eq(&self, other: &Ring) -> bool {
        self.members == other.members && self.hashes == other.hashes && self.owners == other.owners
    }
}

fn weights(members: &[Member]) -> Vec<u32> {
    members.iter().map(|member| member.weight).collect()
}

/// A member's points are the hashes of its key with a number, so that fewer are always a part of more.
fn push_points(points: &mut Vec<Point>, key: &str, numbers: std::ops::Range<u32>, member: u32) {
    let mut text = String::with_capacity(key.len() + 11);
    text.push_str(key);
    text.push('_');
    for number in numbers {
        text.truncate(key.len() + 1);
        write!(text, "{number}").expect("a string takes all that is written");
        points.push((xxh64(text.as_bytes(), 0), member));
    }
}
