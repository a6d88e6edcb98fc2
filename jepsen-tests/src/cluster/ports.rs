//! Loopback ports that stay ours for as long as a cluster lives, its members' restarts included.
//!
//! Ports are taken below the range from which the kernel draws ports for outgoing connections:
//! otherwise such a connection could sit on a killed member's port when it comes back. A locked
//! file a block keeps clusters of tests that run side by side apart.

use std::fs::{File, TryLockError};
use std::net::TcpListener;
use std::path::PathBuf;

use super::ClusterError;

const FIRST: u16 = 11_000;
const LAST: u16 = 31_000;
/// Ports a member: for clients, peers, HTTP, and ZooKeeper's clients.
const PORTS: u16 = 4;
/// Ports a block: for 32 members, those who come and go in a long run included.
const BLOCK: u16 = 32 * PORTS;

/// A block of ports, ours until dropped.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _lock: File,
}

impl PortBlock {
    /// Takes a block that nobody uses.
    ///
    /// # Errors
    /// [`ClusterError::Ports`] if there is none.
    pub fn take() -> Result<PortBlock, ClusterError> {
        let folder = folder();
        std::fs::create_dir_all(&folder).map_err(|error| ClusterError::Ports(error.to_string()))?;
        let blocks = (LAST - FIRST) / BLOCK;
        // Start anywhere: two harnesses then seldom meet.
        let start = fastrand::u16(..blocks);
        for index in 0..blocks {
            let first = FIRST + (start + index) % blocks * BLOCK;
            let Some(lock) = try_lock(first) else { continue };
            let is_free = (first..first + BLOCK).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if is_free {
                return Ok(PortBlock { first, _lock: lock });
            }
        }
        Err(ClusterError::Ports(format!("no free block of {BLOCK} between {FIRST} and {LAST}")))
    }

    /// The block's name: its first port.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// Which block it is, from 0: below 1,024.
    pub fn number(&self) -> u16 {
        (self.first - FIRST) / BLOCK
    }

    /// The ports of the member in this slot: clients, peers, HTTP, ZooKeeper's clients.
    ///
    /// # Panics
    /// Beyond 32 slots: a block has no more.
    pub fn member(&self, slot: u16) -> (u16, u16, u16, u16) {
        assert!(slot < BLOCK / PORTS, "a block has ports for {} members", BLOCK / PORTS);
        let port = self.first + slot * PORTS;
        (port, port + 1, port + 2, port + 3)
    }
}

/// Locks the block that begins here, if nobody has it. Whatever else a cluster makes on this machine
/// carries its block's name, so that what is left of a killed harness can be told by its lock.
pub(super) fn try_lock(first: u16) -> Option<File> {
    let path = folder().join(format!("{first}.lock"));
    let lock = File::options().create(true).truncate(false).write(true).open(&path).ok()?;
    match lock.try_lock() {
        Ok(()) => Some(lock),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("quorate-jepsen-ports")
}
