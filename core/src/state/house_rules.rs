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

    /// Whether /zookeeper/config says this already.
    pub(super) fn is_published(&self, text: &Bytes) -> bool {
        self.tree.data_ref(CONFIG) == Some(&text[..])
    }

    pub(super) fn publish_config(&mut self, transaction: &mut Transaction<'_>, text: &Bytes) -> WriteResult {
        let stat = self.replace_data(transaction, CONFIG, "/zookeeper/config", Some(text));
        WriteResult::DataSet(stat)
    }
}
