//! Makes one tree like another, some nodes at a time, parents first. Whatever is alike already is
//! left alone, so that an interrupted copy is simply begun again.

use std::collections::{BTreeMap, VecDeque};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use zookeeper_client::EventType;

use super::side::Side;
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
    pub fn in_words(&self) -> String {
        format!("{} created, {} changed, {} deleted", self.created, self.changed, self.deleted)
    }

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
            && let Some(node) = source.read_whole(&path[..index]).await?
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
            remove(target, &path, &mut own).await?;
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
/// target's node has no parent that can have children. A node that a session of the target holds is
/// left alone.
async fn one(
    source: &Side,
    target: &Side,
    path: &str,
    delete: bool,
    copied: &mut Copied,
) -> Outcome<Option<Vec<String>>> {
    let (wanted, there) = futures_util::try_join!(source.read_whole(path), target.read(path))?;
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
        (Some(_), Some(there)) if there.is_ephemeral => Ok(Some(Vec::new())),
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
        (None, Some(_)) => {
            if delete {
                remove(target, path, copied).await?;
            }
            Ok(Some(Vec::new()))
        }
        (None, None) => Ok(Some(Vec::new())),
    }
}

/// Removes a node and all below it, the lowest first. What sessions of the target hold there stays (a
/// lock's contenders, say: without them it would be granted again), and so do the nodes above it, as
/// neither side deletes what has children.
pub(super) async fn remove(target: &Side, top: &str, copied: &mut Copied) -> Outcome {
    let mut unread = vec![top.to_owned()];
    let mut doomed = Vec::new();
    while let Some(path) = unread.pop() {
        if let Some(node) = target.read(&path).await?.filter(|node| !node.is_ephemeral) {
            unread.extend(node.children.iter().map(|name| child(&path, name)));
            doomed.push(path);
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
    use super::super::compare::compare;
    use super::super::memory::Memory;
    use super::*;

    #[test]
    fn each_side_keeps_what_is_its_own() {
        assert!(is_common("/") && is_common("/zookeeper-like") && is_common("/a/zookeeper"));
        assert!(!is_common("/zookeeper") && !is_common("/zookeeper/quota"));
        assert_eq!((child("/", "a").as_str(), child("/a", "b").as_str()), ("/a", "/a/b"));
    }

    #[tokio::test]
    async fn deleting_leaves_what_sessions_of_the_target_hold_and_what_is_above_it() {
        let source = Side::memory(Memory::new(&["/locks", "/locks/job", "/kept"]));
        let tree = Memory::new(&["/locks", "/locks/job", "/locks/job/old", "/kept"]);
        tree.hold(&["/locks/job/contender-1", "/locks/job/contender-2"]);
        for path in ["/gone", "/gone/deep", "/gone/deep/empty", "/gone/empty"] {
            tree.put(path);
        }
        tree.hold(&["/gone/deep/contender", "/instance"]);
        let target = Side::memory(tree.clone());
        let mut copied = Copied::default();
        for _ in 0..2 {
            super::tree(&source, &target, "/", true, &mut copied, &ProgressBar::hidden())
                .await
                .expect("copied");
        }
        assert_eq!(
            tree.paths(),
            [
                "/",
                "/gone",
                "/gone/deep",
                "/gone/deep/contender",
                "/instance",
                "/kept",
                "/locks",
                "/locks/job",
                "/locks/job/contender-1",
                "/locks/job/contender-2",
            ]
        );
        assert_eq!(copied.deleted, 3, "{copied:?}");
    }

    #[tokio::test]
    async fn what_the_source_deletes_below_a_held_lock_leaves_its_contenders() {
        let source = Side::memory(Memory::new(&["/locks"]));
        let tree = Memory::new(&["/locks", "/locks/job", "/other", "/other/below"]);
        tree.hold(&["/locks/job/contender"]);
        let target = Side::memory(tree.clone());
        let deleted = ["/locks/job", "/other"].map(|path| (path.to_owned(), EventType::NodeDeleted));
        let mut copied = Copied::default();
        changed(&source, &target, BTreeMap::from(deleted), false, &mut copied).await.expect("copied");
        assert_eq!(tree.paths(), ["/", "/locks", "/locks/job", "/locks/job/contender"]);
        assert_eq!(copied.deleted, 2, "{copied:?}");
    }

    #[tokio::test]
    async fn a_digest_that_is_not_shown_is_neither_copied_nor_compared() {
        let (open, hidden) = (Memory::new(&["/a"]), Memory::new(&["/a"]));
        hidden.change("/a", |node| {
            (node.acl[0].scheme, node.acl[0].id) = ("digest".into(), "alice:x".into());
        });
        let (open, hidden) = (Side::memory(open), Side::memory(hidden));
        let mut copied = Copied::default();
        for target in [&open, &hidden] {
            node(&hidden, target, "/a", false, &mut copied).await.expect_err("nobody knows what to copy");
            compare(&hidden, target, "/").await.expect_err("nobody knows whether they are alike");
        }
        compare(&open, &hidden, "/").await.expect_err("nobody knows whether they are alike");
        assert_eq!(copied.changed, 0);
        // A mask that an earlier copy has left in the target's place is put right.
        node(&open, &hidden, "/a", false, &mut copied).await.expect("the source tells");
        assert!(compare(&open, &hidden, "/").await.expect("both tell").is_equal(true));
    }

    #[tokio::test]
    async fn a_node_that_a_session_holds_is_not_overwritten() {
        let source = Side::memory(Memory::new(&["/leader", "/leader/below"]));
        let tree = Memory::new(&[]);
        tree.hold(&["/leader"]);
        tree.change("/leader", |node| node.data = "who leads".into());
        let target = Side::memory(tree.clone());
        let mut copied = Copied::default();
        super::tree(&source, &target, "/", true, &mut copied, &ProgressBar::hidden()).await.expect("copied");
        node(&source, &target, "/leader/below", true, &mut copied).await.expect("copied");
        assert_eq!(tree.paths(), ["/", "/leader"]);
        assert_eq!(tree.read("/leader").map(|node| node.data), Some("who leads".into()));
    }
}
