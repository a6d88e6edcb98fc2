//! Copies what changes, until it is told to stop. Changes of ACLs make no event: the comparison at the
//! end finds them.
//!
//! What the source deletes is deleted, also while the connection to it was away: whatever was once found
//! there, and so may have been copied, is looked for again, then and at the end. What it never had is
//! left alone, unless the whole target is to become like it (`delete`).

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::{Instant, timeout, timeout_at};
use zookeeper_client::{EventType, WatchedEvent};

use super::compare::paths_of;
use super::copy::{self, Copied, is_common};
use super::side::Side;
use crate::failure::{Failure, Outcome};

/// Changes that come within this of each other are copied together.
const TOGETHER: Duration = Duration::from_millis(20);

/// No longer than this, nor more of them than that: a source that is never quiet is copied too.
const TOGETHER_MAX: Duration = Duration::from_millis(500);
const TOGETHER_AT_MOST: usize = 10_000;

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

/// Copies until `stop`, whatever is under way by then: a pass is finished, and one more follows that
/// looks at all.
pub(super) async fn run(
    source: &Side,
    target: &Side,
    (top, delete): (&str, bool),
    mut changed: impl AsyncFnMut() -> WatchedEvent,
    stop: impl Future<Output = ()>,
    copied: &mut Copied,
    bar: &ProgressBar,
) -> Outcome {
    let mut stop = pin!(stop);
    let mut is_stopping = false;
    let mut due = Due::default();
    while !is_stopping {
        let mut events = Vec::new();
        let is_due = due.is_all_in_doubt || !due.levels.is_empty();
        tokio::select! {
            biased;
            // What was gathered is found by the last pass.
            () = &mut stop => break,
            () = gather(&mut changed, is_due, &mut events) => {}
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
        let done = {
            let mut pass = pin!(copy_due(source, target, (top, delete), &due, copied, bar));
            tokio::select! {
                done = &mut pass => done,
                () = &mut stop => {
                    is_stopping = true;
                    // Broken off, it would forget what it has found to be gone.
                    pass.await
                }
            }
        };
        let message = match done {
            Ok(()) => {
                due = Due::default();
                copied.in_words()
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
    // Not all changes need have been told: ZooKeeper 3.8.0 may forget such a watch.
    due.is_all_in_doubt = true;
    copy_due(source, target, (top, delete), &due, copied, bar).await
}

/// Waits for a change, and for those that follow close behind. If something is due already, it does
/// not wait for long.
async fn gather(
    changed: &mut impl AsyncFnMut() -> WatchedEvent,
    is_due: bool,
    events: &mut Vec<WatchedEvent>,
) {
    let first = if is_due { timeout(AGAIN, changed()).await.ok() } else { Some(changed().await) };
    events.extend(first);
    let end = Instant::now() + TOGETHER_MAX;
    while events.len() < TOGETHER_AT_MOST
        && events.last().is_none_or(|event| !event.session_state.is_terminated())
        && let Ok(event) = timeout_at(end.min(Instant::now() + TOGETHER), changed()).await
    {
        events.push(event);
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

#[cfg(test)]
mod tests {
    use zookeeper_client::SessionState;

    use super::super::memory::Memory;
    use super::*;

    /// Follows `source` until `stop`; fails if that takes a minute.
    async fn follow(
        (source, target): (&Memory, &Memory),
        changed: impl AsyncFnMut() -> WatchedEvent,
        stop: impl Future<Output = ()>,
    ) -> Copied {
        let (source, target) = (Side::memory(source.clone()), Side::memory(target.clone()));
        let mut copied = Copied::default();
        let bar = ProgressBar::hidden();
        let following = run(&source, &target, ("/", false), changed, stop, &mut copied, &bar);
        timeout(Duration::from_secs(60), following).await.expect("it stops").expect("it follows");
        copied
    }

    #[tokio::test]
    async fn a_stop_is_heard_while_the_source_is_never_quiet() {
        let (source, target) = (Memory::new(&[]), Memory::new(&[]));
        let mut number = 0;
        // Each comes before the pause that would end the gathering.
        let changed = async || {
            tokio::time::sleep(TOGETHER / 2).await;
            number += 1;
            let path = format!("/{number}");
            source.put(&path);
            WatchedEvent::new(EventType::NodeCreated, path)
        };
        let begun = Instant::now();
        let copied = follow((&source, &target), changed, tokio::time::sleep(Duration::from_secs(1))).await;
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert_eq!(source.paths(), target.paths());
        assert!(copied.created > 1, "{copied:?}");
    }

    #[tokio::test]
    async fn a_source_that_is_never_quiet_is_copied() {
        let (source, target) = (Memory::new(&[]), Memory::new(&[]));
        let changed = async || {
            tokio::time::sleep(TOGETHER / 2).await;
            source.put("/a");
            WatchedEvent::new(EventType::NodeCreated, "/a")
        };
        let is_copied = async {
            while target.read("/a").is_none() {
                tokio::time::sleep(TOGETHER).await;
            }
        };
        follow((&source, &target), changed, is_copied).await;
    }

    #[tokio::test]
    async fn a_stop_during_a_pass_finishes_it_and_looks_at_all_once_more() {
        let (source_tree, target_tree) = (Memory::new(&["/gone"]), Memory::new(&["/gone", "/not-ours"]));
        let (source, target) = (Side::memory(source_tree.clone()), Side::memory(target_tree.clone()));
        source.read("/gone").await.expect("it was copied once");
        source_tree.delete("/gone");
        let mut told = Some(WatchedEvent::new_session(SessionState::SyncConnected));
        let changed = async || match told.take() {
            Some(event) => event,
            None => std::future::pending().await,
        };
        let stop = async {
            // The pass has begun: it knows what is gone.
            while source.found().contains("/gone") {
                tokio::task::yield_now().await;
            }
            assert!(target_tree.read("/gone").is_some(), "it has not ended");
            source_tree.put("/untold");
        };
        let mut copied = Copied::default();
        let bar = ProgressBar::hidden();
        let following = run(&source, &target, ("/", false), changed, stop, &mut copied, &bar);
        timeout(Duration::from_secs(60), following).await.expect("it stops").expect("it follows");
        assert_eq!(target_tree.paths(), ["/", "/not-ours", "/untold"]);
        assert_eq!((copied.created, copied.deleted), (1, 1), "{copied:?}");
    }
}
