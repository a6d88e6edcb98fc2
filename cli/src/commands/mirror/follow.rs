//! Copies what changes, until Ctrl-C. Changes of ACLs make no event: the comparison at the end finds them.
//!
//! A node that the source deleted is deleted here; what the source never had is left alone, unless the
//! whole target is to become like it (`delete`). Deletions that were missed while the connection was away
//! are only found then.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;
use zookeeper_client::{EventType, PersistentWatcher, SessionState};

use super::copy::{self, Copied, is_common};
use super::side::Side;
use crate::failure::{Failure, Outcome};

/// Changes that come within this of each other are copied together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Copies until Ctrl-C.
pub(super) async fn run(
    source: &Side,
    target: &Side,
    (top, delete): (&str, bool),
    mut changes: PersistentWatcher,
    copied: &mut Copied,
    bar: &ProgressBar,
) -> Outcome {
    loop {
        let first = tokio::select! {
            event = changes.changed() => event,
            stop = tokio::signal::ctrl_c() => {
                return stop.map_err(|error| Failure::other(format!("Ctrl-C cannot be heard: {error}")));
            }
        };
        let mut events = vec![first];
        while let Ok(event) = tokio::time::timeout(TOGETHER, changes.changed()).await {
            let is_over = event.session_state.is_terminated();
            events.push(event);
            if is_over || events.len() > 10_000 {
                break;
            }
        }
        // The last change of each: by depth, as parents must be there before their children.
        let mut paths: BTreeMap<usize, BTreeMap<String, EventType>> = BTreeMap::new();
        let mut is_all_in_doubt = false;
        for event in events {
            match (event.event_type, event.session_state) {
                (EventType::Session, state) if state.is_terminated() => {
                    return Err(Failure::unavailable(format!(
                        "the session with ZooKeeper has ended: {state:?}"
                    ))
                    .with_hint("run it again: it goes on where it stood"));
                }
                // What happened while the connection was away was not told.
                (EventType::Session, SessionState::SyncConnected) => is_all_in_doubt = true,
                (EventType::Session, _) => {}
                (kind, _) if is_common(&event.path) => {
                    let depth = event.path.matches('/').count();
                    paths.entry(depth).or_default().insert(event.path, kind);
                }
                _ => {}
            }
        }
        if is_all_in_doubt {
            copy::tree(source, target, top, delete, copied, bar).await?;
        }
        for level in paths.into_values() {
            copy::changed(source, target, level, delete, copied).await?;
        }
        bar.set_message(format!(
            "{} created, {} changed, {} deleted",
            copied.created, copied.changed, copied.deleted
        ));
    }
}
