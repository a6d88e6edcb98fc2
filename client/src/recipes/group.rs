//! A group: who is there, each with some data, for as long as their sessions live.

use bytes::Bytes;
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::request::Consistency;

use super::contender::{Contender, child, readable};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::watch::Watch;

/// A group at a path.
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    path: String,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its node.
    pub path: String,
    /// The transaction that let it in; grows from member to member.
    pub token: Zxid,
    /// What it says of itself.
    pub data: Option<Bytes>,
}

impl Group {
    /// The group at `path`, whose node is created when it is first needed.
    pub fn new(client: &Client, path: impl Into<String>) -> Group {
        Group { client: client.clone(), path: path.into() }
    }

    /// Joins, for as long as the returned membership lives.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves again.
    pub async fn join(&self, data: impl Into<Bytes>) -> Result<Membership> {
        let contender = Contender::join(&self.client, &self.path, data.into()).await?;
        Ok(Membership { contender })
    }

    /// Who is there now, in the order of joining.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn members(&self) -> Result<Vec<Member>> {
        self.members_at(Consistency::Linearizable).await
    }

    /// Follows who is there.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn observe(&self) -> Result<GroupObserver> {
        self.client.ensure_path(&self.path).await?;
        let watch = self.client.watch(&self.path).recursive().await?;
        Ok(GroupObserver { group: self.clone(), watch, last: None })
    }

    async fn members_at(&self, consistency: Consistency) -> Result<Vec<Member>> {
        let list = self.client.list(&self.path).with_stat().with_data().consistency(consistency).await;
        let children = match list {
            Ok(list) => list.children,
            Err(error) if error.kind() == ErrorKind::NoNode => Vec::new(),
            Err(error) => return Err(error),
        };
        let member = |found: quorate_core::reply::Child| {
            let path = child(&self.path, &found.name);
            let token = readable(&path, found.stat)?.czxid;
            Ok(Member { path, token, data: found.data })
        };
        children.into_iter().map(member).collect()
    }
}

/// Follows a group.
#[derive(Debug)]
pub struct GroupObserver {
    group: Group,
    watch: Watch,
    last: Option<Vec<Member>>,
}

impl GroupObserver {
    /// The present members the first time, then waits until they or their data change.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn changed(&mut self) -> Result<Vec<Member>> {
        loop {
            let members = self.group.members_at(Consistency::Session).await?;
            if self.last.as_ref() != Some(&members) {
                self.last = Some(members.clone());
                return Ok(members);
            }
            match self.watch.next().await {
                Some(event) => drop(event?),
                None => return Err(Error::Closed),
            }
        }
    }
}

/// In the group for as long as this lives and the session does. Dropping it leaves without waiting.
#[derive(Debug)]
#[must_use = "dropping it leaves the group"]
pub struct Membership {
    contender: Contender,
}

impl Membership {
    /// The member's node.
    pub fn path(&self) -> &str {
        self.contender.path()
    }

    /// The transaction that let it in.
    pub fn token(&self) -> Zxid {
        self.contender.token()
    }

    /// Changes what the member says of itself.
    ///
    /// # Errors
    /// `NoNode` if the membership is lost; the session's end.
    ///
    /// # Cancel safety
    /// The change is queued when this is first polled.
    pub async fn set(&self, data: impl Into<Bytes>) -> Result<()> {
        self.contender.client().set(self.path(), data).await.map(drop)
    }

    /// Waits until the membership is lost, and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn lost(&self) -> Error {
        self.contender.lost().await
    }

    /// Leaves and waits until others see it.
    ///
    /// # Errors
    /// The session's end, which leaves too.
    ///
    /// # Cancel safety
    /// The leave is queued when this is first polled.
    pub async fn leave(self) -> Result<()> {
        self.contender.leave().await
    }
}
