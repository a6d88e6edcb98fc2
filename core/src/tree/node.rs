//! One znode in memory: a compact struct whose name and small data share one allocation.
//!
//! Not here: where nodes live (slab.rs), how a parent finds its children (children.rs, index.rs).

use crate::id::{SessionId, Timestamp, Zxid};

/// A node's place in the slab, and its name in records.
pub(crate) type Slot = u32;

/// Not a place: the end of a chain, or no parent.
pub(crate) const NO_SLOT: Slot = u32::MAX;

/// Data up to this many bytes stands beside the name (and in the node's own record); more is kept
/// apart, shared with readers without copying, in records of its own.
pub(crate) const INLINE_DATA_MAX: usize = 1024;

/// The fixed part of a node's record.
pub(crate) const NODE_HEAD_BYTES: usize = 2 * 4 + 6 * 8 + 3 * 4 + 2 + 2;

/// How long a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Until deleted.
    Persistent,
    /// With its session.
    Ephemeral(SessionId),
    /// Until some time after its last child.
    Container,
    /// Until unchanged for so many milliseconds.
    Ttl(i64),
}

/// Whether a checkpoint has to write the node's record, and under which freeze it was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// As the last checkpoint wrote it.
    Clean,
    /// Noted in an even generation.
    Even,
    /// Noted in an odd generation.
    Odd,
}

const KIND_MASK: u8 = 0b0000_0011;
const DATA_MASK: u8 = 0b0000_1100;
const DATA_NULL: u8 = 0b0000_0000;
const DATA_INLINE: u8 = 0b0000_0100;
const DATA_LARGE: u8 = 0b0000_1000;
const VACANT: u8 = 0b0000_1100;
const MARK_MASK: u8 = 0b0011_0000;
const MARK_EVEN: u8 = 0b0001_0000;
const MARK_ODD: u8 = 0b0010_0000;
const TOUCHED: u8 = 0b0100_0000;

/// Where a node's data is. The numbers stand in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataPlace {
    /// Null, which is not empty.
    Null = 0,
    /// Behind the name.
    Inline = 1,
    /// In the tree's table of large data.
    Large = 2,
}

/// A slab entry: a znode, or a vacant place that keeps its marks.
///
/// 96 bytes, plus one allocation for name and data.
#[derive(Debug)]
pub(crate) struct Node {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub pzxid: Zxid,
    pub ctime: Timestamp,
    pub mtime: Timestamp,
    /// The owner of an ephemeral, the milliseconds of a TTL node, else 0.
    extra: u64,
    /// The name, then the inline data.
    text: Box<[u8]>,
    pub version: i32,
    pub aversion: i32,
    /// How many children were ever created: the counter of sequential names.
    pub creates: i32,
    pub parent: Slot,
    /// The interned ACL.
    pub acl: u32,
    /// A handle of children.rs.
    pub children: u32,
    /// The next node in the same bucket of index.rs.
    pub next: Slot,
    name_length: u16,
    /// A byte of the name's hash, so that most foreign names cost no look at their text.
    pub tag: u8,
    flags: u8,
}

impl Node {
    /// A place without a node.
    pub fn vacant() -> Node {
        Node {
            czxid: Zxid(0),
            mzxid: Zxid(0),
            pzxid: Zxid(0),
            ctime: Timestamp(0),
            mtime: Timestamp(0),
            extra: 0,
            text: Box::default(),
            version: 0,
            aversion: 0,
            creates: 0,
            parent: NO_SLOT,
            acl: 0,
            children: 0,
            next: NO_SLOT,
            name_length: 0,
            tag: 0,
            flags: VACANT,
        }
    }

    /// Whether a znode stands here.
    pub fn is_vacant(&self) -> bool {
        self.flags & DATA_MASK == VACANT
    }

    /// Makes this a znode of that name and kind, with null data. The marks stay.
    pub fn occupy(&mut self, name: &str, kind: Kind) {
        self.occupy_with(name, kind, None);
    }

    /// The same, with small data if any is given, in one allocation.
    pub fn occupy_with(&mut self, name: &str, kind: Kind, data: Option<&[u8]>) {
        let (bits, extra) = match kind {
            Kind::Persistent => (0, 0),
            Kind::Ephemeral(owner) => (1, owner.0),
            Kind::Container => (2, 0),
            Kind::Ttl(ttl_ms) => (3, ttl_ms as u64),
        };
        self.extra = extra;
        let mut text = Vec::with_capacity(name.len() + data.map_or(0, <[u8]>::len));
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(data.unwrap_or_default());
        self.text = text.into_boxed_slice();
        self.name_length = u16::try_from(name.len()).expect("names are bounded by the path's limit");
        let place = if data.is_some() { DATA_INLINE } else { DATA_NULL };
        self.flags = (self.flags & (MARK_MASK | TOUCHED)) | place | bits;
    }

    /// Takes the node out, leaving its place vacant. The marks stay.
    pub fn take(&mut self) -> Node {
        let flags = (self.flags & (MARK_MASK | TOUCHED)) | VACANT;
        std::mem::replace(self, Node { flags, ..Node::vacant() })
    }

    /// Puts a node that was taken out at this vacant place. The place's marks stay.
    pub fn put_back(&mut self, node: Node) {
        let marks = self.flags & (MARK_MASK | TOUCHED);
        *self = node;
        self.flags = (self.flags & !(MARK_MASK | TOUCHED)) | marks;
    }

    /// How long the node lives.
    pub fn kind(&self) -> Kind {
        match self.flags & KIND_MASK {
            0 => Kind::Persistent,
            1 => Kind::Ephemeral(SessionId(self.extra)),
            2 => Kind::Container,
            _ => Kind::Ttl(self.extra as i64),
        }
    }

    /// The owner of a true ephemeral; 0 otherwise.
    pub fn ephemeral_owner(&self) -> SessionId {
        match self.kind() {
            Kind::Ephemeral(owner) => owner,
            _ => SessionId(0),
        }
    }

    /// The name's bytes; they are UTF-8.
    pub fn name_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.name_length)]
    }

    /// The name.
    pub fn name(&self) -> &str {
        std::str::from_utf8(self.name_bytes()).expect("names come from strings")
    }

    /// Where the data is.
    pub fn data_place(&self) -> DataPlace {
        match self.flags & DATA_MASK {
            DATA_INLINE => DataPlace::Inline,
            DATA_LARGE => DataPlace::Large,
            _ => DataPlace::Null,
        }
    }

    /// The name and the inline data in one, as the record has them.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The name's length in bytes.
    pub fn name_length(&self) -> u16 {
        self.name_length
    }

    /// The kind as the record has it: a number, and the owner or the TTL.
    pub fn kind_fields(&self) -> (u8, u64) {
        (self.flags & KIND_MASK, self.extra)
    }

    /// The data behind the name (empty unless the data is inline).
    pub fn inline_data(&self) -> &[u8] {
        &self.text[usize::from(self.name_length)..]
    }

    /// Puts small data behind the name, in place if the length is the same.
    pub fn put_inline(&mut self, data: &[u8]) {
        let name_length = usize::from(self.name_length);
        if self.text.len() == name_length + data.len() {
            self.text[name_length..].copy_from_slice(data);
        } else {
            let mut text = Vec::with_capacity(name_length + data.len());
            text.extend_from_slice(&self.text[..name_length]);
            text.extend_from_slice(data);
            self.text = text.into_boxed_slice();
        }
        self.flags = (self.flags & !DATA_MASK) | DATA_INLINE;
    }

    /// Removes inline data and says where the data is now.
    pub fn put_elsewhere(&mut self, place: DataPlace) {
        let name_length = usize::from(self.name_length);
        if self.text.len() != name_length {
            self.text = self.text[..name_length].into();
        }
        let bits = match place {
            DataPlace::Null => DATA_NULL,
            DataPlace::Inline => DATA_INLINE,
            DataPlace::Large => DATA_LARGE,
        };
        self.flags = (self.flags & !DATA_MASK) | bits;
    }

    /// The checkpoint's mark.
    pub fn mark(&self) -> Mark {
        match self.flags & MARK_MASK {
            MARK_EVEN => Mark::Even,
            MARK_ODD => Mark::Odd,
            _ => Mark::Clean,
        }
    }

    /// Sets the checkpoint's mark.
    pub fn set_mark(&mut self, mark: Mark) {
        let bits = match mark {
            Mark::Clean => 0,
            Mark::Even => MARK_EVEN,
            Mark::Odd => MARK_ODD,
        };
        self.flags = (self.flags & !MARK_MASK) | bits;
    }

    /// Whether the running transaction has touched the node already.
    pub fn is_touched(&self) -> bool {
        self.flags & TOUCHED != 0
    }

    /// See [`Node::is_touched`].
    pub fn set_touched(&mut self, touched: bool) {
        self.flags = if touched { self.flags | TOUCHED } else { self.flags & !TOUCHED };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_96_bytes() {
        assert_eq!(size_of::<Node>(), 96);
    }

    #[test]
    fn data_moves_in_and_out_without_losing_the_name_or_marks() {
        let mut node = Node::vacant();
        node.set_mark(Mark::Odd);
        node.set_touched(true);
        node.occupy("naïve", Kind::Ttl(7));
        assert_eq!((node.data_place(), node.inline_data()), (DataPlace::Null, &b""[..]));
        node.put_inline(b"");
        assert_eq!((node.data_place(), node.inline_data()), (DataPlace::Inline, &b""[..]));
        node.put_inline(b"abc");
        node.put_inline(b"xyz");
        assert_eq!((node.name(), node.inline_data()), ("naïve", &b"xyz"[..]));
        node.put_elsewhere(DataPlace::Large);
        assert_eq!((node.name(), node.data_place(), node.kind()), ("naïve", DataPlace::Large, Kind::Ttl(7)));
        node.take();
        assert!(node.is_vacant() && node.is_touched() && node.mark() == Mark::Odd);
    }
}
