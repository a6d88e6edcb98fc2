//! Whether two trees are alike: a digest of every node on both sides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use xxhash_rust::xxh3::Xxh3;

use super::copy::{child, is_common};
use super::side::{Node, Side};
use crate::failure::{Failure, Outcome};

/// Nodes asked for at once.
const AT_ONCE: usize = 64;

/// The digests of both sides' nodes, by path.
#[derive(Debug)]
pub(super) struct Comparison {
    source: BTreeMap<String, u128>,
    target: BTreeMap<String, u128>,
}

/// Reads both trees; ephemerals do not count.
pub(super) async fn compare(source: &Side, target: &Side, top: &str) -> Outcome<Comparison> {
    let (source, target) = futures_util::try_join!(digests(source, top), digests(target, top))?;
    Ok(Comparison { source, target })
}

impl Comparison {
    /// How many nodes the source has.
    pub fn nodes(&self) -> u64 {
        self.source.len() as u64
    }

    /// The source's digest.
    pub fn digest_source(&self) -> String {
        digest(self.source.iter())
    }

    /// The target's digest; unless `whole`, of what the source has too.
    pub fn digest_target(&self, whole: bool) -> String {
        digest(self.target.iter().filter(|(path, _)| whole || self.source.contains_key(*path)))
    }

    /// Whether both have the same; unless `whole`, the target may have more.
    pub fn is_equal(&self, whole: bool) -> bool {
        self.differing(whole).is_empty()
    }

    /// The paths that differ, parents first.
    pub fn differing(&self, whole: bool) -> Vec<String> {
        let wrong = self.source.iter().filter(|(path, digest)| self.target.get(*path) != Some(digest));
        let more = self.target.iter().filter(|(path, _)| whole && !self.source.contains_key(*path));
        let mut paths: Vec<String> = wrong.chain(more).map(|(path, _)| path.clone()).collect();
        paths.sort();
        paths
    }
}

/// Of all nodes, in the order of their paths.
fn digest<'a>(nodes: impl Iterator<Item = (&'a String, &'a u128)>) -> String {
    let mut all = Xxh3::new();
    for (_, digest) in nodes {
        all.update(&digest.to_be_bytes());
    }
    format!("{:032x}", all.digest128())
}

/// The paths that a side has, ephemerals apart.
pub(super) async fn paths_of(side: &Side, top: &str) -> Outcome<BTreeSet<String>> {
    Ok(digests(side, top).await?.into_keys().collect())
}

async fn digests(side: &Side, top: &str) -> Outcome<BTreeMap<String, u128>> {
    let mut found = BTreeMap::new();
    let mut waiting = VecDeque::from([top.to_owned()]);
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < AT_ONCE
            && let Some(path) = waiting.pop_front()
        {
            under_way.push(async move {
                let node = side.read_whole(&path).await?;
                Ok::<_, Failure>((path, node))
            });
        }
        let Some(read) = under_way.next().await else { return Ok(found) };
        let (path, node) = read?;
        if let Some(node) = node.filter(|node| !node.is_ephemeral) {
            waiting
                .extend(node.children.iter().map(|name| child(&path, name)).filter(|path| is_common(path)));
            found.insert(path.clone(), digest_of(&path, &node));
        }
    }
}

fn digest_of(path: &str, node: &Node) -> u128 {
    let mut digest = Xxh3::new();
    let mut put = |bytes: &[u8]| {
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    };
    put(path.as_bytes());
    put(&node.data);
    for entry in &node.acl {
        put(&[entry.permissions.0]);
        put(entry.scheme.as_bytes());
        put(entry.id.as_bytes());
    }
    digest.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let side = |nodes: &[(&str, u128)]| {
            nodes.iter().map(|(path, digest)| ((*path).to_owned(), *digest)).collect::<BTreeMap<_, _>>()
        };
        let source = side(&[("/", 1), ("/a", 2), ("/b", 3)]);
        let target = side(&[("/", 1), ("/a", 9), ("/c", 4)]);
        let comparison = Comparison { source: source.clone(), target };
        assert_eq!(comparison.differing(false), ["/a", "/b"]);
        assert_eq!(comparison.differing(true), ["/a", "/b", "/c"]);
        let more = side(&[("/", 1), ("/a", 2), ("/b", 3), ("/c", 4)]);
        let comparison = Comparison { source, target: more };
        assert!(comparison.is_equal(false) && !comparison.is_equal(true));
        assert_eq!(comparison.digest_source(), comparison.digest_target(false));
        assert_ne!(comparison.digest_source(), comparison.digest_target(true));
    }
}
