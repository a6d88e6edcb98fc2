//! An election: a lock whose holder, the leader, proclaims a value that everybody can follow.

use bytes::Bytes;
use quorate_core::command::is_contender;
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::request::Consistency;

use super::contender::{Contender, child, readable};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::watch::Watch;

/// An election at a path. The server's `Elections` service and this recipe exclude each other.
#[derive(Clone, Debug)]
pub struct Election {
    client: Client,
    path: String,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader's own node.
    pub path: String,
    /// The fencing token of the leadership.
    pub token: Zxid,
    /// What the leader proclaims.
    pub value: Option<Bytes>,
}

impl Election {
    /// The election at `path`, whose node is created when it is first needed.
    pub fn new(client: &Client, path: impl Into<String>) -> Election {
        Election { client: client.clone(), path: path.into() }
    }

    /// Stands as a candidate and waits until elected. The value is proclaimed at once then.
    ///
    /// # Errors
    /// The session's end; `GuardFailed` if somebody took this candidate out of the queue.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the candidate.
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Leadership> {
        let contender = Contender::join(&self.client, &self.path, value.into()).await?;
        contender.reach_front().await?;
        Ok(Leadership { contender, election: self.path.clone() })
    }

    /// Who leads now; `None` if nobody does.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn leader(&self) -> Result<Option<Leader>> {
        self.leader_at(Consistency::Linearizable).await
    }

    /// Follows who leads, and with which value.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn observe(&self) -> Result<LeaderObserver> {
        self.client.ensure_path(&self.path).await?;
        let watch = self.client.watch(&self.path).recursive().await?;
        Ok(LeaderObserver { election: self.clone(), watch, last: None })
    }

    async fn leader_at(&self, consistency: Consistency) -> Result<Option<Leader>> {
        let list = self.client.list(&self.path).with_stat().with_data().consistency(consistency).await;
        let children = match list {
            Ok(list) => list.children,
            Err(error) if error.kind() == ErrorKind::NoNode => return Ok(None),
            Err(error) => return Err(error),
        };
        let first = children.into_iter().find(|child| is_contender(&child.name));
        let leader = |first: quorate_core::reply::Child| {
            let path = child(&self.path, &first.name);
            let token = readable(&path, first.stat)?.czxid;
            Ok(Leader { path, token, value: first.data })
        };
        first.map(leader).transpose()
    }
}

/// Follows an election.
#[derive(Debug)]
pub struct LeaderObserver {
    election: Election,
    watch: Watch,
    last: Option<Option<Leader>>,
}

impl LeaderObserver {
    /// The present leader the first time, then waits until the leader or its value changes.
    /// Leaders that came and went in between may be left out.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Result<Option<Leader>> {
        loop {
            let leader = self.election.leader_at(Consistency::Session).await?;
            if self.last.as_ref() != Some(&leader) {
                self.last = Some(leader.clone());
                return Ok(leader);
            }
            match self.watch.next().await {
                Some(event) => drop(event?),
                None => return Err(Error::Closed),
            }
        }
    }
}

/// Leads for as long as this lives and the session does. Dropping it resigns without waiting.
#[derive(Debug)]
#[must_use = "dropping it resigns"]
pub struct Leadership {
    contender: Contender,
    election: String,
}

impl Leadership {
    /// The fencing token: greater than that of every earlier leader.
    pub fn token(&self) -> Zxid {
        self.contender.token()
    }

    /// The candidate's node.
    pub fn path(&self) -> &str {
        self.contender.path()
    }

    /// Changes the proclaimed value.
    ///
    /// # Errors
    /// `GuardFailed` if somebody else leads by now; the session's end.
    ///
    /// # Cancel safety
    /// The change is queued when this is first polled.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<()> {
        let client = self.contender.client();
        let transaction = client.transaction().guard_lock(&self.election, self.token());
        transaction.set(self.path(), value).await.map(drop)
    }

    /// Waits until the leadership is lost, and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn lost(&self) -> Error {
        self.contender.lost().await
    }

    /// Resigns and waits until another may lead.
    ///
    /// # Errors
    /// The session's end, which resigns too.
    ///
    /// # Cancel safety
    /// The resignation is queued when this is first polled.
    pub async fn resign(self) -> Result<()> {
        self.contender.leave().await
    }
}
