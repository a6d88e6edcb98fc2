//! What must hold at every step, whatever fails: one property a file.
//!
//! - [`agreement`]: members that applied the same log have the same content (Raft's safety);
//! - [`exactly_once`]: a session's writes apply once, in order, and never under an old attachment;
//! - [`expiry`]: no session ends before the deadline that its client was promised;
//! - [`ephemerals`]: they go with their session, at once;
//! - [`freshness`]: real time is respected: nothing is older than what was acknowledged before;
//! - [`session_view`]: what one client sees never goes back, and events come before what exposes them.
//!
//! [`Inspector`] sees every apply of every member from inside; clients report what they were told.
//! Each rule is a plain type that is fed and judges, so that its tests can feed it what must not be.
//!
//! Not here: that one term has one leader. openraft's leader ids order by (term, member), so two
//! members may lead in one term, one after the other; what Raft promises of leaders shows in
//! [`agreement`] and in that no acknowledged write is lost (the checkers of the workloads).

pub mod agreement;
pub mod ephemerals;
pub mod exactly_once;
pub mod expiry;
pub mod freshness;
pub mod inspector;
pub mod session_view;

pub use inspector::Inspector;
