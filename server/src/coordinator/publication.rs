//! The membership as a znode: the leader publishes it at /zookeeper/config, where clients watch it.
//!
//! ```text
//! server.1=10.0.0.1:7401:7400:participant
//! server.2=10.0.0.2:7401:7400:observer;0.0.0.0:2181
//! used=1,2,3,4
//! version=11
//! ```
//! These are ZooKeeper's words: host, port for members, port for gRPC clients, role, and for members
//! that were added by reconfig where their ZooKeeper clients connect. `version` is the log index of the
//! membership, hexadecimal: an older one never takes the place of a newer. `used` lists every id that was
//! ever a member's: ids are never reused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quorate_core::command::Operation;
use quorate_core::error::Error;
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
use quorate_core::state::published_version;
use tokio::time::sleep;

use super::Coordinator;
use crate::replica::membership::{PUBLISHED, used_ids};

/// How often the leader compares.
const LOOK: Duration = Duration::from_millis(500);

impl Coordinator {
    /// Publishes the membership while this member leads, for as long as it lives.
    pub async fn run_publication(self) {
        loop {
            sleep(LOOK).await;
            if self.shared.replica.leadership().borrow().leader != Some(self.shared.member) {
                continue;
            }
            let (published, nothing_said) = (self.published(), BTreeMap::new());
            if self.wanted(&published, &nothing_said) != published
                && let Err(error) = self.publish_members(&nothing_said).await
            {
                tracing::debug!(%error, "the membership could not be published; trying again");
            }
        }
    }

    fn published(&self) -> String {
        let read = ReadRequest::Get { path: PUBLISHED.into(), watch: None };
        match self.shared.local.read(&[], &read).result {
            Ok(ReadResult::Data { data: Some(data), .. }) => String::from_utf8_lossy(&data).into_owned(),
            _ => String::new(),
        }
    }

    /// Publishes the membership now, with what is said of where ZooKeeper clients connect.
    ///
    /// # Errors
    /// As any write's.
    pub async fn publish_members(&self, clients: &BTreeMap<u64, String>) -> Result<(), Error> {
        loop {
            // What was published before counts: a new leader may still be applying it.
            self.shared.replica.read_barrier().await?;
            let published = self.published();
            let wanted = self.wanted(&published, clients);
            // What is newer stays, whatever is written here.
            let is_newer = published_version(published.as_bytes()) > published_version(wanted.as_bytes());
            if wanted == published || is_newer {
                return Ok(());
            }
            let operation = Operation::PublishConfig { text: wanted.into() };
            // The leader may publish the same members at the same time, and not know what is said here:
            // it is looked at again.
            self.write(Vec::new(), operation, None).await?.result?;
        }
    }

    fn wanted(&self, published: &str, clients: &BTreeMap<u64, String>) -> String {
        // What is not agreed on may be undone, but a published id counts as used for ever.
        let (members, version) = self.shared.replica.agreed_members();
        let mut used: BTreeSet<u64> = used_ids(published);
        used.extend(members.iter().map(|member| member.id.0));
        let mut text = String::new();
        for member in members {
            let role = if member.is_voter { "participant" } else { "observer" };
            let (id, address) = (member.id.0, &member.address);
            // Of one host there is one name in a line; a member with two keeps the gRPC one whole.
            let client = match (address.peer.rsplit_once(':'), address.client.rsplit_once(':')) {
                (Some((host, _)), Some((other, port))) if host == other => port,
                _ => &address.client,
            };
            text.push_str(&format!("server.{id}={}:{client}:{role}", address.peer));
            if let Some(clients) = clients.get(&id).map(String::as_str).or(clients_of(published, id)) {
                text.push_str(&format!(";{clients}"));
            }
            text.push('\n');
        }
        let used: Vec<String> = used.iter().map(u64::to_string).collect();
        text.push_str(&format!("used={}\n", used.join(",")));
        text.push_str(&format!("version={version:x}"));
        text
    }
}

/// Where a published membership says that a member's ZooKeeper clients connect.
fn clients_of(published: &str, id: u64) -> Option<&str> {
    let prefix = format!("server.{id}=");
    let line = published.lines().find_map(|line| line.strip_prefix(&prefix))?;
    line.split_once(';').map(|(_, clients)| clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_published_is_read_again() {
        let text = "server.1=a:1:2:participant\nserver.12=b:1:2:observer;0.0.0.0:3\nused=1,12\nversion=1f";
        assert_eq!(published_version(text.as_bytes()), Some(31));
        assert_eq!(clients_of(text, 12), Some("0.0.0.0:3"));
        assert_eq!((clients_of(text, 1), clients_of(text, 2)), (None, None));
        assert_eq!(used_ids(text), BTreeSet::from([1, 12]));
    }
}
