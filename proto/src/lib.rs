//! The words on the wire: the gRPC services of Quorate and their translation to the core's types.
//!
//! - [`v1`]: the public API, generated from `proto/quorate/v1/*.proto`, clients and servers;
//! - [`quorate`]: all packages, those that only members speak among themselves too;
//! - [`convert`]: wire to core and back, and gRPC statuses to errors and back.
//!
//! Nothing here decides anything, and nothing opens a socket: the doors (server) and the SDK
//! (client) do.

pub mod convert;
mod generated;

pub use generated::quorate;
pub use generated::quorate::v1;

/// All services' descriptors, for gRPC reflection: an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
