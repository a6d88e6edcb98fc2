//! Copies what changes, until Ctrl-C. Changes of ACLs make no event: the comparison at the end finds them.

use std::collections::BTreeSet;
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
    top: &str,
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
        let mut paths = BTreeSet::new();
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
                _ => {
                    paths.insert(event.path);
                }
            }
        }
        if is_all_in_doubt {
            copy::tree(source, target, top, true, copied, bar).await?;
        }
        // In the order of their names parents come before children.
        for path in paths.iter().filter(|path| is_common(path)) {
            copy::node(source, target, path, true, copied).await?;
        }
        bar.set_message(format!(
            "{} created, {} changed, {} deleted",
            copied.created, copied.changed, copied.deleted
        ));
    }
}
