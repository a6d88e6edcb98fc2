//! The service registry: namespaces, services and instances as a convention over the tree.
//!
//! ```text
//!   /quorate/registry/<namespace>/<service>/instances/<id>    an instance: its data is the record
//!                                          /policy            how the service is to be called
//! ```
//!
//! An instance is a znode: ephemeral, if it lives with a session (its own, or a lease's), else
//! persistent and checked by the cluster. So a registration is a write, a death a session's end, and
//! every door sees one truth.
//!
//! - [`names`]: what things may be called; [`layout`]: names as paths and back;
//! - [`instance`], [`policy`]: the records, validated; [`record`]: their bytes;
//! - [`registration`]: which write registers an instance; generations replace each other;
//! - [`service`]: a service at a version, its ring, and what changed since another version;
//! - [`catalog`]: all services, kept up to date by the tree's changes;
//! - [`filter`]: who is asked for; [`configuration`]: named values with a history, beside it.
//!
//! Not here: who checks health and keeps leases (the server's coordinator), wires (its doors).

pub mod catalog;
pub mod configuration;
pub mod filter;
pub mod instance;
pub mod layout;
pub mod names;
pub mod policy;
pub mod record;
pub mod registration;
pub mod service;

pub use catalog::Catalog;
pub use filter::Filter;
pub use instance::{Check, CheckKind, Health, Instance, Locality, Mode, Status};
pub use layout::ServiceName;
pub use policy::{Balancing, Policy};
pub use service::{Delta, Entry, PolicyEntry, Service, ServiceRing};
