//! The membership as a znode: the leader publishes it at /zookeeper/config, where clients watch it.
//!
//! ```text
//! server.1=127.0.0.1:7401;127.0.0.1:7400
//! server.2=…
//! version=17
//! used=1,2,3,4
//! ```
//! `version` is the log index of the membership; `used` lists every id that was ever a member's:
//! ids are never reused.

use std::collections::BTreeSet;
use std::time::Duration;

use quorate_core::command::Operation;
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
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
            let published = self.published();
            let wanted = self.wanted(&published);
            if wanted != published
                && let Err(error) =
                    self.write(Vec::new(), Operation::PublishConfig { text: wanted.into() }, None).await
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

    fn wanted(&self, published: &str) -> String {
        let members = self.shared.replica.members();
        let mut used: BTreeSet<u64> = used_ids(published);
        used.extend(members.iter().map(|member| member.id.0));
        let mut text = String::new();
        for member in members {
            let role = if member.is_voter { "" } else { ":observer" };
            text.push_str(&format!(
                "server.{}={}{role};{}\n",
                member.id, member.address.peer, member.address.client
            ));
        }
        text.push_str(&format!("version={}\n", self.shared.replica.membership_index()));
        let used: Vec<String> = used.iter().map(u64::to_string).collect();
        text.push_str(&format!("used={}", used.join(",")));
        text
    }
}
