//! Deterministic simulation: a whole cluster of the real server in one thread, on simulated time,
//! network and disks, from one seed.
//!
//! ```text
//!   seed ─▶ setup, clients, faults, delays, hash maps, elections: everything that is chosen
//!
//!   clients ─ link ─▶ coordinator ─▶ replica ─▶ local_state ─▶ core      the server's own rooms
//!                          ▲            │ transport  │ disk
//!                          └─ network ──┘            └ files and checkpoints that crash
//!
//!   inspector (every apply), clients (every answer) ─▶ invariants;  history ─▶ checkers;  trace ─▶ hash
//! ```
//!
//! - [`runner`]: many seeds, each in a process of its own; [`one`]: one seed, in this process;
//! - [`life`], [`host`], [`disk`], [`clock`]: machines; [`network`], [`transport`], [`link`]: wires;
//! - [`client`], [`watcher`], [`workload`]: traffic; [`chaos`]: faults;
//! - [`invariants`], [`verdicts`]: what must hold; [`trace`]: what happened, as one hash;
//! - [`breaks`]: bugs on purpose, to see that all this sees them.
//!
//! Time is tokio's paused clock: it jumps to the next timer when nothing can run. Randomness is
//! [`simulated_entropy`]'s, for every library in the process. Left out: HTTP/2 and the doors' frames,
//! sled itself, threads; real processes are what the rest of this crate is for.

pub mod breaks;
pub mod chaos;
pub mod client;
pub mod clock;
pub mod disk;
pub mod host;
pub mod invariants;
pub mod life;
pub mod link;
pub mod main;
pub mod network;
pub mod one;
pub mod runner;
pub mod trace;
pub mod transport;
pub mod verdicts;
pub mod watcher;
pub mod workload;
