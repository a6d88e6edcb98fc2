//! A state from its records, checked as it is put together.
//!
//! Keys arrive sorted, so a record's parts come one after the other and ACLs come before the nodes
//! that use them. Nodes come by place, children often before their parents, so links are made last.

use bytes::Bytes;

use super::records::RECORDS_VERSION;
use super::{CONFIG, QUOTA, State, ZOOKEEPER};
use crate::acl::AclEntry;
use crate::change_log::ChangeLog;
use crate::codec::{DecodeError, Reader};
use crate::command::RequestId;
use crate::id::{Position, SessionId, Timestamp, Zxid};
use crate::record::{ELEMENT_CHANGE, PART_BYTES, RecordId, element_hash};
use crate::reply::WriteReply;
use crate::request_table::RequestTable;
use crate::sessions::Session;
use crate::tree::ROOT;
use crate::tree::node::{Kind, Mark, Slot};

/// Why records are not a state's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A key or value is malformed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The records do not fit each other.
    #[error("the records are not a state's: {0}")]
    Inconsistent(&'static str),
}

/// Takes records in the order of their keys and gives the state that they are.
#[derive(Debug)]
pub struct StateLoader {
    state: State,
    has_meta: bool,
    has_settings: bool,
    /// The record whose parts are arriving.
    arriving: Option<Arriving>,
    /// The number behind the last change block, as the meta record says.
    blocks_end: u64,
}

#[derive(Debug)]
struct Arriving {
    id: RecordId,
    key: Vec<u8>,
    part: u16,
    value: Vec<u8>,
}

impl Default for StateLoader {
    fn default() -> StateLoader {
        StateLoader::new()
    }
}

impl StateLoader {
    /// Awaits the first record.
    pub fn new() -> StateLoader {
        StateLoader::with_index_seed(0)
    }

    /// See [`State::with_index_seed`].
    pub fn with_index_seed(seed: u64) -> StateLoader {
        StateLoader {
            state: State::empty(seed),
            has_meta: false,
            has_settings: false,
            arriving: None,
            blocks_end: 0,
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// [`LoadError`] if it is malformed, out of order, or does not fit those before it.
    pub fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let (id, part) = RecordId::parse(key)?;
        match &mut self.arriving {
            Some(arriving) if arriving.id == id => {
                if arriving.part.checked_add(1) != Some(part)
                    || arriving.value.len() != PART_BYTES * usize::from(part)
                {
                    return Err(LoadError::Inconsistent("a part of a record is missing"));
                }
                arriving.part = part;
                arriving.value.extend_from_slice(value);
                return Ok(());
            }
            Some(arriving) if *arriving.key >= *key => {
                return Err(LoadError::Inconsistent("the keys are not in order"));
            }
            _ => {}
        }
        if part != 0 {
            return Err(LoadError::Inconsistent("a record does not begin with its first part"));
        }
        self.accept_arrived()?;
        self.arriving = Some(Arriving { id, key: key.into(), part, value: value.into() });
        Ok(())
    }

    /// The state, once all records were pushed.
    ///
    /// # Errors
    /// [`LoadError`] if a record is missing or they contradict each other.
    pub fn finish(mut self) -> Result<State, LoadError> {
        self.accept_arrived()?;
        if !self.has_meta || !self.has_settings {
            return Err(LoadError::Inconsistent("the meta or settings record is missing"));
        }
        let mut state = self.state;
        if state.changes.numbers().is_empty() {
            state.changes = ChangeLog::starting_at(self.blocks_end, state.changes.floor);
        }
        if state.changes.numbers().end != self.blocks_end {
            return Err(LoadError::Inconsistent("change blocks are missing"));
        }
        state.tree.link_all().map_err(LoadError::Inconsistent)?;
        let reserved = [(ROOT, "/"), (ZOOKEEPER, "/zookeeper"), (QUOTA, "/zookeeper/quota")];
        for (slot, path) in reserved.into_iter().chain([(CONFIG, "/zookeeper/config")]) {
            if state.tree.lookup(path) != Some(slot) {
                return Err(LoadError::Inconsistent("a reserved node is missing"));
            }
        }
        let blocks = state.changes.numbers();
        for block in blocks.filter_map(|number| state.changes.block(number)) {
            for (acl, uses) in block.acls() {
                for _ in 0..*uses {
                    state.acls.retain(*acl);
                }
            }
        }
        if state.acls.find_unused().is_some() {
            return Err(LoadError::Inconsistent("an ACL is used by nothing"));
        }
        let ephemerals: Vec<(Slot, SessionId)> = state
            .tree
            .occupied()
            .filter_map(|slot| match state.tree.node(slot).kind() {
                Kind::Ephemeral(owner) => Some((slot, owner)),
                _ => None,
            })
            .collect();
        state.ephemerals = ephemerals.len() as u64;
        for (slot, owner) in ephemerals {
            let session = state.sessions.get_mut(&owner);
            let session = session.ok_or(LoadError::Inconsistent("an ephemeral has no session"))?;
            session.ephemerals.insert(slot);
        }
        state.start_clean();
        Ok(state)
    }

    fn accept_arrived(&mut self) -> Result<(), LoadError> {
        let Some(Arriving { id, value, .. }) = self.arriving.take() else { return Ok(()) };
        // The first two carry what the others are checked against.
        if !self.has_meta && id != RecordId::Meta {
            return Err(LoadError::Inconsistent("the first record is not the meta record"));
        }
        match id {
            RecordId::Meta => self.accept_meta(&value),
            RecordId::Settings => {
                self.has_settings = true;
                self.state.settings = from_postcard(&value, "settings record")?;
                Ok(())
            }
            RecordId::Acl(acl) => {
                let list: Vec<AclEntry> = from_postcard(&value, "ACL record")?;
                if acl > Slot::MAX / 16 || !self.state.acls.load(acl, list) {
                    return Err(LoadError::Inconsistent("an ACL is there twice"));
                }
                Ok(())
            }
            RecordId::Node(slot) => self.accept_node(slot, &value),
            RecordId::Data(slot) => {
                let accepted = self.state.tree.load_data(slot, Bytes::from(value));
                accepted.map_err(LoadError::Inconsistent)
            }
            RecordId::Session(id) => {
                if id.0 > self.state.session_last {
                    return Err(LoadError::Inconsistent("a session's id was never given"));
                }
                let session = Session::decode(id, &value)?;
                for (_, reply) in session.replies_after(crate::id::WriteNumber(0)) {
                    from_postcard::<WriteReply>(reply, "kept reply")?;
                }
                self.state.sessions.insert(id, session);
                Ok(())
            }
            RecordId::Request(id) => self.accept_request(id, &value),
            RecordId::Changes(number) => self.accept_changes(number, &value),
        }
    }

    fn accept_meta(&mut self, value: &[u8]) -> Result<(), LoadError> {
        let mut reader = Reader::new(value, "meta record");
        if reader.u8()? != RECORDS_VERSION {
            return Err(LoadError::Inconsistent("another version of the format"));
        }
        let mut long = || reader.array().map(u64::from_le_bytes);
        let state = &mut self.state;
        state.zxid = Zxid(long()?);
        state.time = Timestamp(long()? as i64);
        state.session_last = long()?;
        state.requests = RequestTable::with_floor(Timestamp(long()? as i64));
        self.blocks_end = long()?;
        let floor = Position { zxid: Zxid(long()?), ordinal: u32::from_le_bytes(reader.array()?) };
        state.changes = ChangeLog::starting_at(self.blocks_end, floor);
        reader.finish()?;
        self.has_meta = true;
        Ok(())
    }

    fn accept_node(&mut self, slot: Slot, value: &[u8]) -> Result<(), LoadError> {
        let acl = self.state.tree.load_node(slot, value)?;
        if !self.state.acls.contains(acl) {
            return Err(LoadError::Inconsistent("a node's ACL is missing"));
        }
        self.state.acls.retain(acl);
        Ok(())
    }

    fn accept_request(&mut self, id: RequestId, value: &[u8]) -> Result<(), LoadError> {
        from_postcard::<WriteReply>(value, "remembered reply")?;
        self.state.requests.insert(id, value.into(), Mark::Clean);
        Ok(())
    }

    fn accept_changes(&mut self, number: u64, value: &[u8]) -> Result<(), LoadError> {
        let changes = &mut self.state.changes;
        if changes.numbers().is_empty() {
            *changes = ChangeLog::starting_at(number, changes.floor);
        }
        let mut element = Vec::new();
        let hash = |encoded: &[u8]| {
            element.clear();
            element.push(ELEMENT_CHANGE);
            element.extend_from_slice(encoded);
            element_hash(&element)
        };
        changes.load(number, value, hash, |acl| self.state.acls.contains(acl))?;
        Ok(())
    }
}

fn from_postcard<'a, T: serde::Deserialize<'a>>(value: &'a [u8], what: &'static str) -> Result<T, LoadError> {
    match postcard::take_from_bytes(value) {
        Ok((decoded, [])) => Ok(decoded),
        _ => Err(DecodeError::new(what).into()),
    }
}
