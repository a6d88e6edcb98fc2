//! Who is here: what a member keeps for each connected session.
//!
//! - [`inbox`]: the session's requests in the order sent, bounded by count and bytes;
//! - [`in_flight`]: its numbered writes until they have applied here, for resending;
//! - [`outbox`]: one bounded queue for its replies and events.
//!
//! Nothing here decides anything: coordinator/ empties inboxes, local_state fills outboxes.

pub mod in_flight;
pub mod inbox;
pub mod outbox;
