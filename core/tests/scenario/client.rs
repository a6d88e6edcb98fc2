//! A client in a script: a session, its connection, and what it has sent.

use std::collections::BTreeMap;

use quorate_core::acl::Identity;
use quorate_core::command::Operation;
use quorate_core::id::{AttachEpoch, SessionId, WriteNumber};
use quorate_core::watches::WatcherId;

/// One named client.
#[derive(Clone, Debug)]
pub struct Client {
    pub session: SessionId,
    pub password: [u8; 16],
    /// The latest attachment's.
    pub epoch: AttachEpoch,
    /// Gone once the session has moved or ended.
    pub connection: Option<Connection>,
    /// The last number used.
    pub last_number: WriteNumber,
    /// The highest number whose reply it has.
    pub answered: WriteNumber,
    /// All writes, to be sent again.
    pub sent: BTreeMap<WriteNumber, Operation>,
}

/// A client's connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub watcher: WatcherId,
    /// Everything proved on it.
    pub identities: Vec<Identity>,
}

/// What a connection has proved before it says anything: its address.
pub fn first_identities() -> Vec<Identity> {
    vec![Identity { scheme: "ip".into(), id: "10.0.0.1".into() }]
}
