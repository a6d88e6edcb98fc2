//! Makes one tree like another, some nodes at a time, parents first. Whatever is alike already is
//! left alone, so that an interrupted copy is simply begun again.

use std::collections::{BTreeMap, VecDeque};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use zookeeper_client::EventType;

use super::side::{Node, Side};
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Nodes under way at once.
const AT_ONCE: usize = 64;
/// How often a node is tried whose parents come and go.
const TRIES: usize = 5;
/// Each side's own.
const OWN: &str = "/zookeeper";

/// What was done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Copied {
    pub created: u64,
    pub changed: u64,
    pub deleted: u64,
    pub ephemerals: u64,
}

impl Copied {
    fn add(&mut self, other: Copied) {
        self.created += other.created;
        self.changed += other.changed;
        self.deleted += other.deleted;
        self.ephemerals += other.ephemerals;
    }
}

/// Whether a node is no side's own.
pub(super) fn is_common(path: &str) -> bool {
    path != OWN && !path.starts_with("/zookeeper/")
}

pub(super) fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

/// Copies the nodes above `path`, without what else is below them.
pub(super) async fn ensure_parents(source: &Side, target: &Side, path: &str) -> Outcome {
    for (index, _) in path.match_indices('/').skip(1) {
        if target.read(&path[..index]).await?.is_none()
            && let Some(node) = source.read(&path[..index]).await?
        {
            target.create(&path[..index], &node).await?;
        }
    }
    Ok(())
}

/// Copies a node and all below it.
pub(super) async fn tree(
    source: &Side,
    target: &Side,
    top: &str,
    delete: bool,
    copied: &mut Copied,
    bar: &ProgressBar,
) -> Outcome {
    let mut waiting = VecDeque::from([top.to_owned()]);
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(path) = waiting.pop_front()
        {
            under_way.push(async move {
                let mut own = Copied::default();
                let children = one(source, target, &path, delete, &mut own).await?.unwrap_or_default();
                Ok::<_, Failure>((path, children, own))
            });
        }
        let Some(done) = under_way.next().await else { return Ok(()) };
        let (path, children, own) = done?;
        copied.add(own);
        bar.inc(1);
        bar.set_message(format!("{} created, {} changed", copied.created, copied.changed));
        waiting.extend(children.iter().map(|name| child(&path, name)).filter(|path| is_common(path)));
    }
}

/// Copies nodes of one depth that have changed, some at a time. One that was deleted, and is still
/// missing, is removed with all below it.
pub(super) async fn changed(
    source: &Side,
    target: &Side,
    paths: BTreeMap<String, EventType>,
    delete: bool,
    copied: &mut Copied,
) -> Outcome {
    let copies = futures_util::stream::iter(paths).map(|(path, kind)| async move {
        let mut own = Copied::default();
        let was_deleted = kind == EventType::NodeDeleted;
        if was_deleted && source.read(&path).await?.is_none() {
            if target.read(&path).await?.is_some_and(|there| !there.is_ephemeral) {
                remove(target, &path, &mut own).await?;
            }
        } else {
            node(source, target, &path, delete, &mut own).await?;
        }
        Ok::<_, Failure>(own)
    });
    let mut copies = copies.buffer_unordered(AT_ONCE);
    while let Some(own) = copies.next().await {
        copied.add(own?);
    }
    Ok(())
}

/// Copies one node as it is now: it may be gone.
pub(super) async fn node(
    source: &Side,
    target: &Side,
    path: &str,
    delete: bool,
    copied: &mut Copied,
) -> Outcome {
    // Its parents may go and come back between two reads of them.
    for _ in 0..TRIES {
        ensure_parents(source, target, path).await?;
        if one(source, target, path, delete, copied).await?.is_some() {
            return Ok(());
        }
    }
    Ok(()) // they keep changing: further events tell
}

/// Makes the target's node like the source's; the names of the source's children, or `None` if the
/// target's node has no parent.
async fn one(
    source: &Side,
    target: &Side,
    path: &str,
    delete: bool,
    copied: &mut Copied,
) -> Outcome<Option<Vec<String>>> {
    let (wanted, there) = futures_util::try_join!(source.read(path), target.read(path))?;
    match (wanted, there) {
        (Some(wanted), _) if wanted.is_ephemeral => {
            copied.ephemerals += 1;
            Ok(Some(Vec::new()))
        }
        (Some(wanted), None) => {
            if !target.create(path, &wanted).await? {
                return Ok(None);
            }
            copied.created += 1;
            Ok(Some(wanted.children))
        }
        (Some(wanted), Some(there)) => {
            let is_data_old = wanted.data != there.data;
            if is_data_old {
                target.set(path, &wanted.data).await?;
            }
            let is_acl_old = wanted.acl != there.acl;
            if is_acl_old {
                target.set_acl(path, &wanted.acl).await?;
            }
            copied.changed += u64::from(is_data_old || is_acl_old);
            if delete {
                for name in there.children.iter().filter(|name| !wanted.children.contains(name)) {
                    let path = child(path, name);
                    if is_common(&path) {
                        remove(target, &path, copied).await?;
                    }
                }
            }
            Ok(Some(wanted.children))
        }
        (None, Some(there)) => {
            if delete && !there.is_ephemeral {
                remove(target, path, copied).await?;
            }
            Ok(Some(Vec::new()))
        }
        (None, None) => Ok(Some(Vec::new())),
    }
}

/// Removes a node and all below it, the lowest first.
pub(super) async fn remove(target: &Side, top: &str, copied: &mut Copied) -> Outcome {
    let mut doomed = vec![top.to_owned()];
    let mut next = 0;
    while let Some(path) = doomed.get(next).cloned() {
        next += 1;
        if let Some(Node { children, .. }) = target.read(&path).await? {
            doomed.extend(children.iter().map(|name| child(&path, name)));
        }
    }
    for path in doomed.iter().rev() {
        copied.deleted += u64::from(target.delete(path).await?);
    }
    Ok(())
}

pub(super) fn progress(context: &Context) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if !context.output.shows_progress() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{spinner} copying  {pos} nodes  {per_sec}  {elapsed}  {msg}");
    bar.set_style(style.expect("the template is well-formed"));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_keeps_what_is_its_own() {
        assert!(is_common("/") && is_common("/zookeeper-like") && is_common("/a/zookeeper"));
        assert!(!is_common("/zookeeper") && !is_common("/zookeeper/quota"));
        assert_eq!((child("/", "a").as_str(), child("/a", "b").as_str()), ("/a", "/a/b"));
    }
}
