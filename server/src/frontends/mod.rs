//! Doors: one wire protocol each, translated to and from the core's words.
//!
//! A door knows the coordinator and nothing behind it; doors never name each other. Adding one
//! touches one folder here and one line of server.rs.

pub mod grpc;
pub mod http;
pub mod zookeeper;
