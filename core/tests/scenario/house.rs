//! The cluster's own housekeeping in scripts, and what operators look at.

use quorate_core::acl::Identity;
use quorate_core::command::{CloseReason, Operation, Origin};
use quorate_core::id::AttachEpoch;
use quorate_core::settings::Setting;
use quorate_core::state::Expirable;

use super::show::Detail;
use super::words::Words;
use super::world::{World, answer};

impl World {
    /// `house expire-session s1`, `house expire /a`, `house set name=value`, `house publish text`, `house mark`.
    pub fn house(&mut self, words: &mut Words) {
        let operation = match words.next().as_str() {
            "expire-session" => {
                let client = self.clients.get(&words.next()).expect("house knows sessions by their clients");
                let epoch = words.number("epoch").map_or(client.epoch, AttachEpoch);
                Operation::CloseSession { session: client.session, reason: CloseReason::Expired { epoch } }
            }
            "expire" => {
                let path = words.next();
                let judged = self.judged.get(&path).unwrap_or_else(|| panic!("judge {path} first"));
                let (czxid, mzxid, pzxid) = (judged.czxid, judged.mzxid, judged.pzxid);
                Operation::ExpireNode { path, czxid, mzxid, pzxid }
            }
            "set" => Operation::Set(setting(words)),
            "publish" => Operation::PublishConfig { text: words.next().into() },
            "mark" => Operation::DigestMark,
            verb => panic!("the house cannot {verb}"),
        };
        let applied = self.apply(Origin::House, Vec::<Identity>::new(), operation);
        self.say("house", answer(&applied.answer, Detail::Short));
        self.close_ended(applied.ended_session);
    }

    /// Remembers what the leader sees of a TTL or container node now.
    pub fn judge(&mut self, path: &str) {
        let node = self.state.expirable_nodes().find(|node| node.path == path);
        let node = node.unwrap_or_else(|| panic!("{path} is neither a TTL nor a container node"));
        self.judged.insert(path.to_owned(), node);
    }

    /// `close-session s1 [wrong-password] [by-operator]`.
    pub fn close_operation(&self, words: &mut Words) -> Operation {
        let client = self.clients.get(&words.next()).expect("sessions go by their clients' names");
        let reason = match (words.flag("by-operator"), words.flag("wrong-password")) {
            (true, _) => CloseReason::ByOperator,
            (false, true) => CloseReason::ByPassword([9; 16]),
            (false, false) => CloseReason::ByPassword(client.password),
        };
        Operation::CloseSession { session: client.session, reason }
    }

    /// `expirable`: what the leader may have to remove some time, by path.
    pub fn show_expirable(&mut self) {
        let mut nodes: Vec<_> = self.state.expirable_nodes().collect();
        nodes.sort_by(|one, other| one.path.cmp(&other.path));
        for node in nodes {
            let kind = match node.kind {
                Expirable::Ttl { ttl_ms } => format!("ttl={ttl_ms}"),
                Expirable::Container { ever_used: true } => "container used".into(),
                Expirable::Container { ever_used: false } => "container never-used".into(),
            };
            let children = if node.childless { " childless" } else { "" };
            self.say("expirable", format!("{} {kind}{children}", node.path));
        }
    }

    /// `state`: sizes.
    pub fn show_counts(&mut self) {
        let counts = self.state.counts();
        let (znodes, bytes, sessions) = (counts.znodes, counts.data_bytes, counts.sessions);
        let (ephemerals, changes, requests) = (counts.ephemerals, counts.changes, counts.request_ids);
        let zxid = self.state.zxid();
        self.say(
            "state",
            format!(
                "zxid={zxid} znodes={znodes} data={bytes} sessions={sessions} ephemerals={ephemerals} \
                 changes={changes} request-ids={requests}"
            ),
        );
    }

    /// `watches`: the counts.
    pub fn show_watches(&mut self) {
        let counts = self.watches.counts();
        let (watches, paths, watchers) = (counts.watches, counts.paths, counts.watchers);
        self.say("watches", format!("{watches} on {paths} paths by {watchers} connections"));
    }
}

/// `change-log-bytes=1000` and the like.
pub fn setting(words: &mut Words) -> Setting {
    let mut choices = [
        words.number("rules-version").map(Setting::RulesVersion),
        words.number("change-log-bytes").map(Setting::ChangeLogBytes),
        words.number("change-value-bytes").map(Setting::ChangeValueBytes),
        words.number("request-table-bytes").map(Setting::RequestTableBytes),
        words.number("request-window-ms").map(Setting::RequestWindowMs),
        words.option("enforce-quota").map(|text| Setting::EnforceQuota(text == "yes")),
    ];
    choices.iter_mut().find_map(Option::take).expect("a setting is name=value")
}
