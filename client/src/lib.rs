//! The client of Quorate: sessions, znodes, watches and recipes over one pipelined stream.
//!
//! ```no_run
//! # async fn example() -> quorate::Result<()> {
//! use quorate::{Client, CreateMode, WatchEvent};
//!
//! let client = Client::builder().endpoints(["127.0.0.1:7400"]).connect().await?;
//! client.create("/greeting", "hello").await?;
//!
//! let mut watch = client.watch("/greeting").with_value().await?;
//! client.set("/greeting", "good morning").await?;
//! if let Some(WatchEvent::Node(event)) = watch.next().await.transpose()? {
//!     println!("{:?} {} {:?}", event.kind, event.path, event.value);
//! }
//!
//! let me = client.create("/workers-", "").mode(CreateMode::EphemeralSequential).await?;
//! println!("I am {}", me.path);
//! client.close().await
//! # }
//! ```
//!
//! - [`Client`]: a session's handle; [`ClientBuilder`]: how to connect;
//! - [`calls`]: what can be asked of the tree; [`Transaction`]: many of it at once;
//! - [`watch`]: streams of events; [`SessionState`]: whether the session still stands;
//! - [`registry`]: services and their instances; [`ring`]: who owns a key;
//! - [`balance`]: channels to a service by name;
//! - [`recipes`]: locks, elections, barriers, queues and caches made of these;
//! - [`proto`]: the generated clients of the services without a session.
//!
//! Promises: requests take effect in the order of their calls; a write takes effect exactly once,
//! however often its connection breaks; a read is linearizable unless it says otherwise, and never sees
//! what was sent behind it ([`Error::Overtaken`]); a watch neither loses nor repeats an event, or says so. When the session ends, what was under way is
//! reported as unknown and never sent again.

pub mod balance;
pub mod calls;
mod chroot;
mod client;
mod connector;
mod error;
mod options;
mod pending;
pub mod recipes;
pub mod registry;
pub mod ring;
mod session;
pub mod transaction;
pub mod watch;

pub use calls::{Children, Created, Node};
pub use client::Client;
pub use error::{Error, Result};
pub use options::ClientBuilder;
pub use pending::Pending;
pub use session::SessionState;
pub use transaction::{Committed, Transaction};
pub use watch::{NodeEvent, OneShot, Watch, WatchEvent};

pub use quorate_core::acl::{AclEntry, Identity, Permissions};
pub use quorate_core::change::{EventKind, Value};
pub use quorate_core::error::{Error as Refusal, ErrorKind};
pub use quorate_core::id::{MemberId, Position, SessionId, Timestamp, Zxid};
pub use quorate_core::reply::{Child, SessionInfo, WriteResult};
pub use quorate_core::request::Consistency;
pub use quorate_core::znode::{CreateMode, Stat};

/// A gRPC status as the refusal that it carries.
pub use quorate_proto::convert::error_from_status;
/// The generated gRPC clients and messages, for the services without a session: connect them with
/// [`ClientBuilder::channel`].
pub use quorate_proto::v1 as proto;
