//! Copies what changes, until Ctrl-C. Changes of ACLs make no event: the comparison at the end finds them.
//!
//! What the source deletes is deleted, also while the connection to it was away: whatever was once found
//! there, and so may have been copied, is looked for again, then and at the end. What it never had is
//! left alone, unless the whole target is to become like it (`delete`).

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::ProgressBar;
use zookeeper_client::{EventType, PersistentWatcher};

use super::compare::paths_of;
use super::copy::{self, Copied, is_common};
use super::side::Side;
use crate::failure::{Failure, Outcome};

/// Changes that come within this of each other are copied together.
const TOGETHER: Duration = Duration::from_millis(20);

/// Between two attempts while somebody is away.
const AGAIN: Duration = Duration::from_millis(500);

/// What is still to be copied.
#[derive(Default)]
struct Due {
    /// The last change of each path: by depth, as parents must be there before their children.
    levels: BTreeMap<usize, BTreeMap<String, EventType>>,
    /// What happened while the connection was away was not told.
    is_all_in_doubt: bool,
}

/// Copies until Ctrl-C.
pub(super) async fn run(
    source: &Side,
    target: &Side,
    (top, delete): (&str, bool),
    mut changes: PersistentWatcher,
    copied: &mut Copied,
    bar: &ProgressBar,
) -> Outcome {
    let mut due = Due::default();
    loop {
        let is_due = due.is_all_in_doubt || !due.levels.is_empty();
        let first = tokio::select! {
            event = changes.changed() => Some(event),
            () = tokio::time::sleep(AGAIN), if is_due => None,
            stop = tokio::signal::ctrl_c() => {
                stop.map_err(|error| Failure::other(format!("Ctrl-C cannot be heard: {error}")))?;
                // Not all changes need have been told: ZooKeeper 3.8.0 may forget such a watch.
                due.is_all_in_doubt = true;
                return copy_due(source, target, (top, delete), &due, copied, bar).await;
            }
        };
        let mut events = Vec::from_iter(first);
        while let Ok(event) = tokio::time::timeout(TOGETHER, changes.changed()).await {
            let is_over = event.session_state.is_terminated();
            events.push(event);
            if is_over || events.len() > 10_000 {
                break;
            }
        }
        for event in events {
            match (event.event_type, event.session_state) {
                (EventType::Session, state) if state.is_terminated() => {
                    return Err(Failure::unavailable(format!(
                        "the session with ZooKeeper has ended: {state:?}"
                    ))
                    .with_hint("run it again: it goes on where it stood"));
                }
                (EventType::Session, _) => due.is_all_in_doubt = true,
                (kind, _) if is_common(&event.path) => {
                    if kind == EventType::NodeDeleted {
                        source.found().remove(&event.path);
                    }
                    let depth = event.path.matches('/').count();
                    due.levels.entry(depth).or_default().insert(event.path, kind);
                }
                _ => {}
            }
        }
        let message = match copy_due(source, target, (top, delete), &due, copied, bar).await {
            Ok(()) => {
                due = Due::default();
                format!("{} created, {} changed, {} deleted", copied.created, copied.changed, copied.deleted)
            }
            // A member has gone, its successor is being found.
            Err(failure) if failure.is_unavailable() => {
                due.is_all_in_doubt = true;
                "waiting for a connection".into()
            }
            Err(failure) => return Err(failure),
        };
        bar.set_message(message);
    }
}

async fn copy_due(
    source: &Side,
    target: &Side,
    (top, delete): (&str, bool),
    due: &Due,
    copied: &mut Copied,
    bar: &ProgressBar,
) -> Outcome {
    if due.is_all_in_doubt {
        let before = source.found().clone();
        let now = paths_of(source, top).await?;
        let gone: BTreeMap<String, EventType> =
            before.difference(&now).map(|path| (path.clone(), EventType::NodeDeleted)).collect();
        source.found().retain(|path| !gone.contains_key(path));
        if let Err(failure) = copy::changed(source, target, gone.clone(), delete, copied).await {
            source.found().extend(gone.into_keys());
            return Err(failure);
        }
        copy::tree(source, target, top, delete, copied, bar).await?;
    }
    for level in due.levels.values() {
        copy::changed(source, target, level.clone(), delete, copied).await?;
    }
    Ok(())
}
