//! The stage on which scripts play: one state, one registry of watches, clients.
//!
//! [`script`] reads files, [`world`] runs commands the way a member does (apply, then events, then
//! the reply), [`words`] takes a command line apart, [`operations`] turns it into a command,
//! [`show`] prints what comes back.

pub mod client;
pub mod house;
pub mod operations;
pub mod reads;
pub mod script;
pub mod show;
pub mod words;
pub mod world;
