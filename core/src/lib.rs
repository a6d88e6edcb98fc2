//! The rules of Quorate: what a command does to the tree, its sessions and its watches.
//!
//! This crate is pure: no clock, no randomness, no socket, no disk, no async. Time, entropy and
//! identities come in as arguments; effects go out as values. Two members that apply the same
//! commands in the same order hold byte-identical states.

// Words first, then the rules, then how the state is kept.
pub mod acl;
mod acl_table;
pub mod batch;
pub mod breaks;
pub mod change;
mod change_log;
mod codec;
pub mod command;
pub mod error;
pub mod id;
pub mod path;
pub mod record;
pub mod record_file;
pub mod registry;
pub mod reply;
pub mod request;
mod request_table;
pub mod ring;
mod sessions;
pub mod settings;
pub mod state;
mod tree;
pub mod watches;
pub mod znode;

pub use codec::DecodeError;
