//! Rules of the cluster's own housekeeping: expiring nodes, settings, the published membership.
//!
//! Each names what it judged, so that it does nothing if that has changed meanwhile or if it has
//! been done already.

use bytes::Bytes;

use super::{CONFIG, State, Transaction};
use crate::id::Zxid;
use crate::reply::WriteResult;
use crate::settings::Setting;
use crate::tree::node::Kind;

/// The version that a published membership names: hexadecimal, in a line `version=…`. What names none
/// is never too old.
pub fn published_version(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("version="))?;
    u64::from_str_radix(line, 16).ok()
}

impl State {
    /// Whether a TTL or container node still is what the leader judged. Its clock is not judged
    /// again: deadlines run on the leader's monotonic clock, which no stamp can show.
    pub(super) fn is_expired(&self, path: &str, czxid: Zxid, mzxid: Zxid, pzxid: Zxid) -> bool {
        let Some(slot) = self.tree.lookup(path) else { return false };
        let node = self.tree.node(slot);
        matches!(node.kind(), Kind::Ttl(_) | Kind::Container)
            && (node.czxid, node.mzxid, node.pzxid) == (czxid, mzxid, pzxid)
            && self.tree.children_count(slot) == 0
    }

    pub(super) fn expire_node(&mut self, transaction: &mut Transaction<'_>, path: &str) -> WriteResult {
        if let Some(slot) = self.tree.lookup(path) {
            self.remove_node(transaction, slot, path);
        }
        WriteResult::Deleted
    }

    pub(super) fn set(&mut self, setting: &Setting) -> WriteResult {
        let settings = &mut self.settings;
        match *setting {
            Setting::RulesVersion(version) => settings.rules_version = settings.rules_version.max(version),
            Setting::ChangeLogBytes(bytes) => settings.change_log_bytes = bytes,
            Setting::ChangeValueBytes(bytes) => settings.change_value_bytes = bytes,
            Setting::RequestTableBytes(bytes) => settings.request_table_bytes = bytes,
            Setting::RequestWindowMs(window) => settings.request_window_ms = window,
            Setting::EnforceQuota(enforce) => settings.enforce_quota = enforce,
        }
        self.rehash_settings();
        WriteResult::Done
    }

    /// Whether /zookeeper/config says this already, or something newer: a leader of before may yet come
    /// through with what it knew.
    pub(super) fn is_published(&self, text: &Bytes) -> bool {
        let published = self.tree.data_ref(CONFIG).unwrap_or_default();
        let versions = (published_version(text), published_version(published));
        published == &text[..] || matches!(versions, (Some(new), Some(known)) if new < known)
    }

    /// Publishes nothing any more, as before the first publication: the version that a new cluster
    /// publishes says nothing beside the old one's, and ids are used up in one cluster only.
    pub(super) fn forget_members(&mut self) {
        self.touch_node(CONFIG);
        self.touch_data(CONFIG, None);
        self.tree.set_data(CONFIG, None);
        self.settle();
    }

    pub(super) fn publish_config(&mut self, transaction: &mut Transaction<'_>, text: &Bytes) -> WriteResult {
        let stat = self.replace_data(transaction, CONFIG, "/zookeeper/config", Some(text));
        WriteResult::DataSet(stat)
    }
}
