//! Hundreds to millions of children in name order: sorted chunks, searched by short keys.
//!
//! Following a place to its node and on to the node's name costs two cache misses, and a binary
//! search among a million names would pay them twenty times. So each chunk keeps, beside the
//! places, four bytes of each name (a *hint*: those behind what all names of the chunk begin with),
//! and the list keeps eight bytes of each chunk's first name. Names are looked at only where these
//! are equal.
//!
//! Invariants: no chunk is empty; all names of a chunk begin with the same `prefix` bytes, all
//! names of the list with `prefix` bytes of its own; hints and heads are what the names say.

use super::node::Slot;
use super::slab::Slab;

/// Children a chunk.
const CHUNK: usize = 512;

/// A large list.
#[derive(Debug)]
pub(super) struct ManyChildren {
    total: u32,
    chunks: Vec<Chunk>,
    /// Eight bytes of each chunk's first name, behind the list's prefix.
    heads: Vec<u64>,
    prefix: usize,
}

#[derive(Debug)]
struct Chunk {
    slots: Vec<Slot>,
    hints: Vec<u32>,
    prefix: usize,
}

/// Up to N bytes from `start` on, as bytes that compare like the name's rest. Names hold no NUL
/// byte, so a name that ends early comes first, as it should.
fn key<const N: usize>(name: &[u8], start: usize) -> [u8; N] {
    let mut key = [0; N];
    let rest = &name[start.min(name.len())..];
    let length = rest.len().min(N);
    key[..length].copy_from_slice(&rest[..length]);
    key
}

fn hint(name: &[u8], prefix: usize) -> u32 {
    u32::from_be_bytes(key(name, prefix))
}

fn head(name: &[u8], prefix: usize) -> u64 {
    u64::from_be_bytes(key(name, prefix))
}

/// How many bytes two names begin with in common.
fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

impl ManyChildren {
    /// A list of these children, already in order (one at least).
    pub fn new(slab: &Slab, slots: Vec<Slot>) -> ManyChildren {
        let total = slots.len() as u32;
        let mut list = ManyChildren { total, chunks: Vec::new(), heads: Vec::new(), prefix: 0 };
        list.chunks.push(Chunk::new(slab, slots));
        list.rebuild_heads(slab);
        list
    }

    /// How many children there are.
    pub fn count(&self) -> u32 {
        self.total
    }

    /// All children in name order.
    pub fn iter(&self) -> ManyWalk<'_> {
        ManyWalk { chunks: &self.chunks, slots: [].iter() }
    }

    /// The children behind this name.
    pub fn after(&self, slab: &Slab, after: Option<&str>) -> ManyWalk<'_> {
        let Some(after) = after.map(str::as_bytes) else { return self.iter() };
        let number = self.chunk_of(slab, after);
        let chunk = &self.chunks[number];
        let mut place = chunk.place_of(slab, after);
        if chunk.slots.get(place).is_some_and(|slot| slab[*slot].name_bytes() == after) {
            place += 1;
        }
        ManyWalk { chunks: &self.chunks[number + 1..], slots: chunk.slots[place..].iter() }
    }

    /// Adds a child that is not there.
    pub fn insert(&mut self, slab: &Slab, child: Slot) {
        let name = slab[child].name_bytes();
        self.total += 1;
        let last = self.chunks.len() - 1;
        let is_last = self.chunks[last].is_before(slab, name);
        let number = if is_last { last } else { self.chunk_of(slab, name) };
        let chunk = &mut self.chunks[number];
        let place = if is_last { chunk.slots.len() } else { chunk.place_of(slab, name) };
        if chunk.slots.len() < CHUNK {
            chunk.insert(slab, place, child);
        } else if place == CHUNK {
            // Growing names (sequential nodes, bulk loads) fill chunk after chunk without splitting.
            self.heads.insert(number + 1, head(name, self.prefix));
            self.chunks.insert(number + 1, Chunk::new(slab, vec![child]));
        } else {
            let mut upper = chunk.split(slab);
            match place.checked_sub(CHUNK / 2) {
                Some(place) if place > 0 => upper.insert(slab, place, child),
                _ => chunk.insert(slab, place, child),
            }
            self.heads.insert(number + 1, head(slab[upper.slots[0]].name_bytes(), self.prefix));
            self.chunks.insert(number + 1, upper);
        }
        // Only the first or the last of all can lack what the others begin with.
        let is_first = number == 0 && place == 0;
        if is_first {
            self.heads[0] = head(name, self.prefix);
        }
        if is_first || is_last {
            self.shorten_prefix(slab);
        }
    }

    /// Removes a child that is there and still has its name.
    pub fn remove(&mut self, slab: &Slab, child: Slot) {
        let name = slab[child].name_bytes();
        self.total -= 1;
        let number = self.chunk_of(slab, name);
        let chunk = &mut self.chunks[number];
        let place = chunk.place_of(slab, name);
        debug_assert_eq!(chunk.slots.get(place), Some(&child));
        chunk.slots.remove(place);
        chunk.hints.remove(place);
        let left = chunk.slots.len();
        // Merge with the next chunk once both are sparse, so that few children take few chunks.
        let next = self.chunks.get(number + 1).map_or(CHUNK, |next| next.slots.len());
        if left == 0 && self.chunks.len() > 1 {
            self.chunks.remove(number);
            self.heads.remove(number);
        } else if left + next <= CHUNK / 2 {
            let mut slots = std::mem::take(&mut self.chunks[number].slots);
            slots.extend(self.chunks.remove(number + 1).slots);
            self.heads.remove(number + 1);
            self.chunks[number] = Chunk::new(slab, slots);
        }
        if place == 0
            && let Some(first) = self.chunks.get(number).and_then(|chunk| chunk.slots.first())
        {
            self.heads[number] = head(slab[*first].name_bytes(), self.prefix);
        }
    }

    /// The chunk that holds this name or would: the last one that does not start behind it.
    fn chunk_of(&self, slab: &Slab, name: &[u8]) -> usize {
        let Some(first) = self.chunks[0].slots.first() else { return 0 };
        let start = &slab[*first].name_bytes()[..self.prefix];
        if !name.starts_with(start) {
            return if name < start { 0 } else { self.chunks.len() - 1 };
        }
        let head = head(name, self.prefix);
        let above = self.heads.partition_point(|other| *other <= head);
        let equal = self.heads[..above].partition_point(|other| *other < head);
        let starts_at_or_before = |chunk: &Chunk| slab[chunk.slots[0]].name_bytes() <= name;
        let found = equal + self.chunks[equal..above].partition_point(starts_at_or_before);
        found.saturating_sub(1)
    }

    /// Makes the prefix one of the first and last name again, one of which is new.
    fn shorten_prefix(&mut self, slab: &Slab) {
        if self.common_beginning(slab) < self.prefix {
            self.rebuild_heads(slab);
        }
    }

    /// What the first and the last name begin with in common, all between them do too.
    fn common_beginning(&self, slab: &Slab) -> usize {
        let first = self.chunks.first().and_then(|chunk| chunk.slots.first());
        let last = self.chunks.last().and_then(|chunk| chunk.slots.last());
        match (first, last) {
            (Some(first), Some(last)) => common(slab[*first].name_bytes(), slab[*last].name_bytes()),
            _ => 0,
        }
    }

    fn rebuild_heads(&mut self, slab: &Slab) {
        self.prefix = self.common_beginning(slab);
        let prefix = self.prefix;
        self.heads.clear();
        self.heads.extend(self.chunks.iter().map(|chunk| head(slab[chunk.slots[0]].name_bytes(), prefix)));
    }
}

impl Chunk {
    fn new(slab: &Slab, slots: Vec<Slot>) -> Chunk {
        let mut chunk = Chunk { slots, hints: Vec::with_capacity(CHUNK), prefix: 0 };
        chunk.slots.reserve_exact(CHUNK - chunk.slots.len());
        chunk.rebuild_hints(slab);
        chunk
    }

    /// Whether all names here come before this one.
    fn is_before(&self, slab: &Slab, name: &[u8]) -> bool {
        self.slots.last().is_none_or(|last| slab[*last].name_bytes() < name)
    }

    /// Where this name is or would be.
    fn place_of(&self, slab: &Slab, name: &[u8]) -> usize {
        let Some(first) = self.slots.first() else { return 0 };
        let start = &slab[*first].name_bytes()[..self.prefix];
        if !name.starts_with(start) {
            return if name < start { 0 } else { self.slots.len() };
        }
        let hint = hint(name, self.prefix);
        let above = self.hints.partition_point(|other| *other <= hint);
        let equal = self.hints[..above].partition_point(|other| *other < hint);
        equal + self.slots[equal..above].partition_point(|slot| slab[*slot].name_bytes() < name)
    }

    fn insert(&mut self, slab: &Slab, place: usize, child: Slot) {
        let name = slab[child].name_bytes();
        let any = self.slots.first().map_or(name, |slot| slab[*slot].name_bytes());
        let is_prefixed = name.len() >= self.prefix && name[..self.prefix] == any[..self.prefix];
        self.slots.insert(place, child);
        if is_prefixed {
            self.hints.insert(place, hint(name, self.prefix));
        } else {
            self.rebuild_hints(slab);
        }
    }

    /// Moves the upper half into a new chunk.
    fn split(&mut self, slab: &Slab) -> Chunk {
        let upper = Chunk::new(slab, self.slots.split_off(CHUNK / 2));
        self.slots.reserve_exact(CHUNK - self.slots.len());
        self.rebuild_hints(slab);
        upper
    }

    fn rebuild_hints(&mut self, slab: &Slab) {
        let (Some(first), Some(last)) = (self.slots.first(), self.slots.last()) else {
            self.hints.clear();
            return;
        };
        self.prefix = common(slab[*first].name_bytes(), slab[*last].name_bytes());
        let prefix = self.prefix;
        self.hints.clear();
        self.hints.extend(self.slots.iter().map(|slot| hint(slab[*slot].name_bytes(), prefix)));
    }
}

/// A walk over a large list in name order.
#[derive(Clone, Debug)]
pub(crate) struct ManyWalk<'a> {
    /// Those to come.
    chunks: &'a [Chunk],
    slots: std::slice::Iter<'a, Slot>,
}

impl Iterator for ManyWalk<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        loop {
            if let Some(slot) = self.slots.next() {
                return Some(*slot);
            }
            let (chunk, rest) = self.chunks.split_first()?;
            (self.slots, self.chunks) = (chunk.slots.iter(), rest);
        }
    }
}
