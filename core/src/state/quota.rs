//! Subtree quotas, by ZooKeeper's convention.
//!
//! `/zookeeper/quota/<path>/zookeeper_limits` holds the limits of `<path>`, `zookeeper_stats` beside
//! it the usage, kept up to date here without a version, an event or a zxid of its own. The deepest
//! limited path above a node is the one that counts. Only hard limits refuse.

use super::transaction::Transaction;
use super::{QUOTA, State};
use crate::error::{Error, ErrorKind};
use crate::path;
use crate::tree::node::Slot;

const ROOM: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// After counting so many nodes a transaction fills no further statistics: refused as
/// [`ErrorKind::TooLarge`]. The first fill may count a subtree of any size.
const COUNTED_MAX: u64 = 100_000;

/// What is allowed or used; −1 is "no limit".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amounts {
    count: i64,
    bytes: i64,
    count_hard: i64,
    bytes_hard: i64,
}

struct Quota {
    limits: Slot,
    stats: Option<Slot>,
}

impl State {
    /// Refuses what would exceed a hard limit.
    pub(super) fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), Error> {
        if !self.settings.enforce_quota || (count <= 0 && bytes <= 0) {
            return Ok(());
        }
        let Some(quota) = self.quota_of(path) else { return Ok(()) };
        let limits = self.amounts(quota.limits);
        let used = match quota.stats {
            Some(stats) => self.amounts(stats),
            None => return Ok(()),
        };
        let exceeds = |used: i64, growth: i64, limit: i64| {
            growth > 0 && limit > -1 && used.saturating_add(growth) > limit
        };
        if exceeds(used.count, count, limits.count_hard) || exceeds(used.bytes, bytes, limits.bytes_hard) {
            return Err(Error::new(ErrorKind::QuotaExceeded, path::excerpt(path)));
        }
        Ok(())
    }

    /// Counts a change of usage.
    pub(super) fn count_quota(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        count: i64,
        bytes: i64,
    ) {
        if (count, bytes) == (0, 0) {
            return;
        }
        if let Some(Quota { stats: Some(stats), .. }) = self.quota_of(path) {
            let used = self.amounts(stats);
            let (count, bytes) = (used.count.saturating_add(count), used.bytes.saturating_add(bytes));
            self.write_stats(transaction, stats, count, bytes);
        }
    }

    /// Refuses one more fill to a transaction that has counted enough.
    pub(super) fn check_quota_fill(&self, transaction: &Transaction<'_>, path: &str) -> Result<(), Error> {
        if transaction.counted >= COUNTED_MAX && filled_top(path).is_some() {
            let detail =
                "the transaction has filled zookeeper_stats of large subtrees: create this in another";
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        Ok(())
    }

    /// A stats node just created is filled with what its path uses now.
    pub(super) fn fill_quota_stats(
        &mut self,
        transaction: &mut Transaction<'_>,
        path: &str,
        slot: Slot,
    ) -> bool {
        let Some(top) = filled_top(path) else { return false };
        let (mut count, mut bytes) = (0, 0);
        if !top.is_empty()
            && let Some(top) = self.tree.lookup(top)
        {
            for slot in std::iter::once(top).chain(self.tree.descendants(top)) {
                count += 1;
                bytes += self.tree.data_length(slot) as i64;
            }
        }
        transaction.counted += count as u64;
        self.write_stats(transaction, slot, count, bytes);
        true
    }

    fn write_stats(&mut self, transaction: &mut Transaction<'_>, stats: Slot, count: i64, bytes: i64) {
        let text = format!("count={count},bytes={bytes}");
        self.write_data(transaction, stats, Some(text.as_bytes()));
    }

    /// The quota of the deepest limited path at or above this one.
    fn quota_of(&self, path: &str) -> Option<Quota> {
        if self.tree.children_count(QUOTA) == 0 {
            return None;
        }
        let mut at = QUOTA;
        let mut deepest = None;
        for name in path.split('/').skip(1) {
            let Some(next) = self.tree.child(at, name) else { break };
            at = next;
            if let Some(limits) = self.tree.child(at, LIMITS) {
                deepest = Some(Quota { limits, stats: self.tree.child(at, STATS) });
            }
        }
        deepest
    }

    fn amounts(&self, slot: Slot) -> Amounts {
        let text = self.tree.data_ref(slot).and_then(|data| std::str::from_utf8(data).ok());
        parse(text.unwrap_or(""))
    }
}

/// The path whose usage this node is filled with, if it is a stats node.
fn filled_top(path: &str) -> Option<&str> {
    match path.strip_prefix(ROOM)?.rsplit_once('/')? {
        (top, STATS) => Some(top),
        _ => None,
    }
}

/// `count=1,bytes=2` or `count=1,bytes=2=;byteHardLimit=3;countHardLimit=4`.
fn parse(text: &str) -> Amounts {
    let mut amounts = Amounts { count: -1, bytes: -1, count_hard: -1, bytes_hard: -1 };
    for pair in text.split([',', ';']) {
        let mut fields = pair.split('=');
        let (Some(name), Some(Ok(amount))) = (fields.next(), fields.next().map(str::parse)) else {
            continue;
        };
        match name {
            "count" => amounts.count = amount,
            "bytes" => amounts.bytes = amount,
            "countHardLimit" => amounts.count_hard = amount,
            "byteHardLimit" => amounts.bytes_hard = amount,
            _ => {}
        }
    }
    amounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_of_zookeepers_formats_are_read() {
        let amounts = |count, bytes, count_hard, bytes_hard| Amounts { count, bytes, count_hard, bytes_hard };
        assert_eq!(parse("count=1,bytes=2"), amounts(1, 2, -1, -1));
        let limits = "count=-1,bytes=5=;byteHardLimit=10;countHardLimit=3";
        assert_eq!(parse(limits), amounts(-1, 5, 3, 10));
        assert_eq!(parse("count=x,,=;bytes"), amounts(-1, -1, -1, -1));
    }
}
