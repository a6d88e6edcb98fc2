//! Loopback ports for one cluster.
//!
//! They lie below the range from which the kernel draws ports for outgoing connections, so that no
//! such connection sits on a killed member's port when it comes back. A locked file a block keeps
//! two benches on one machine apart.

use std::fs::File;
use std::net::TcpListener;

use crate::failure::Outcome;

use super::MEMBERS;

const FIRST: u16 = 12_000;
const LAST: u16 = 30_000;
/// Ports a member: clients and up to three more.
const PORTS: u16 = 4;
const BLOCK: u16 = PORTS * MEMBERS as u16;

/// Ports that are ours until this is dropped.
pub(super) struct PortBlock {
    first: u16,
    _lock: File,
}

impl PortBlock {
    /// Takes a block that nobody listens on.
    pub(super) fn take() -> Outcome<PortBlock> {
        let folder = std::env::temp_dir().join("quorate-bench-ports");
        std::fs::create_dir_all(&folder)?;
        let blocks = (LAST - FIRST) / BLOCK;
        let start = fastrand::u16(..blocks);
        for index in 0..blocks {
            let first = FIRST + (start + index) % blocks * BLOCK;
            let path = folder.join(first.to_string());
            let lock = File::options().create(true).truncate(false).write(true).open(path)?;
            let is_free = lock.try_lock().is_ok()
                && (first..first + BLOCK).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if is_free {
                return Ok(PortBlock { first, _lock: lock });
            }
        }
        Err(format!("no {BLOCK} free ports between {FIRST} and {LAST}").into())
    }

    /// A member's address of this kind (0 to 3).
    pub(super) fn address(&self, member: usize, kind: u16) -> String {
        format!("127.0.0.1:{}", self.port(member, kind))
    }

    /// A member's port of this kind (0 to 3).
    pub(super) fn port(&self, member: usize, kind: u16) -> u16 {
        assert!(kind < PORTS && member < MEMBERS, "a block has {PORTS} ports for {MEMBERS} members");
        self.first + member as u16 * PORTS + kind
    }
}
