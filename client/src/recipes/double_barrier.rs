//! A double barrier: nobody begins before all are in, nobody goes before all are done.
//!
//! Members are ephemeral nodes under `<path>/members`; `<path>/ready` is created by whoever sees
//! that all are in. A round's members are those that were created before its `ready`, so that a
//! quick member of the next round is not waited for by a slow one of this, and does not begin before
//! this one has ended. If all members died inside, the next to come takes `ready` away.

use bytes::Bytes;
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::request::Consistency;
use quorate_core::znode::Stat;

use super::contender::{Contender, child, fired};
use crate::client::Client;
use crate::error::Result;

/// A double barrier at a path, for a known number of members.
#[derive(Clone, Debug)]
pub struct DoubleBarrier {
    client: Client,
    path: String,
    members: usize,
}

impl DoubleBarrier {
    /// The double barrier at `path`, whose nodes are created when they are first needed.
    pub fn new(client: &Client, path: impl Into<String>, members: usize) -> DoubleBarrier {
        DoubleBarrier { client: client.clone(), path: path.into(), members }
    }

    /// Enters and waits until all members have.
    ///
    /// # Errors
    /// The session's end; `GuardFailed` if somebody deleted this member's node.
    ///
    /// # Cancel safety
    /// Dropping the future leaves again.
    pub async fn enter(&self) -> Result<Inside> {
        let (members, ready) = (child(&self.path, "members"), child(&self.path, "ready"));
        let member = Contender::join(&self.client, &members, Bytes::new()).await?;
        loop {
            let (stat, created) =
                self.client.exists(&ready).consistency(Consistency::Session).and_watch().await?;
            if let Some(Stat { czxid: round, .. }) = stat {
                if round > member.token() {
                    return Ok(Inside { member, members, ready, round });
                }
                // Of a round before: not ours to begin with.
                end_round(&self.client, &members, &ready, round).await?;
                continue;
            }
            // Whoever comes last sees all the others.
            if member.before(false).await?.len() + 1 >= self.members {
                match self.client.create(&ready, Bytes::new()).await {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NodeExists => {}
                    Err(error) => return Err(error),
                }
                continue;
            }
            fired(created).await?;
        }
    }
}

/// Between the barriers.
#[derive(Debug)]
#[must_use = "dropping it leaves without waiting for the others"]
pub struct Inside {
    member: Contender,
    members: String,
    ready: String,
    round: Zxid,
}

impl Inside {
    /// Leaves and waits until all members of this round have left or died.
    ///
    /// # Errors
    /// The session's end.
    ///
    /// # Cancel safety
    /// The leave is queued when this is first polled.
    pub async fn leave(self) -> Result<()> {
        let Inside { member, members, ready, round } = self;
        let client = member.client().clone();
        member.leave().await?;
        end_round(&client, &members, &ready, round).await
    }
}

/// Waits until all members of a round have left or died, and takes its `ready` away.
async fn end_round(client: &Client, members: &str, ready: &str, round: Zxid) -> Result<()> {
    loop {
        let (list, changed) =
            client.list(members).with_stat().consistency(Consistency::Session).and_watch().await?;
        let is_of_round = |stat: Stat| stat.czxid < round;
        if !list.children.iter().any(|child| child.stat.is_some_and(is_of_round)) {
            break;
        }
        fired(changed).await?;
    }
    // Another may be quicker.
    client.delete_own(ready, round).await
}
