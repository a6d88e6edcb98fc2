//! A place in a queue: an ephemeral sequential node, and who stands before it.
//!
//! Invariants:
//! - all contenders of a queue have names with one prefix, so name order is queue order;
//! - the token is the czxid of the contender's node: it grows from place to place;
//! - whoever has come to the front stays there for as long as the node exists;
//! - new names come behind all others, so those before a contender only become fewer: when the only
//!   one has gone, there is nobody, and no read is needed to know it;
//! - dropping a contender, or the future that makes one, takes its node away.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::change::EventKind;
use quorate_core::command::{CONTENDER, is_contender};
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::reply::Child;
use quorate_core::request::Consistency;
use quorate_core::znode::{CreateMode, Stat};
use tokio::time::Instant;

use crate::calls::{Children, Created};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::pending::Pending;
use crate::watch::OneShot;

/// How long a contender's own node, once seen, is taken to be there: no longer than a caller may well
/// need to act on having been told so. Beyond it the queue is read again before the front is reached.
const SEEN_MAX: Duration = Duration::from_millis(50);

/// The pause before it is asked again whether a node is lost.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A node that was asked for, and what fires when it changes.
type Watched = Pending<(Option<Stat>, OneShot)>;

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Contender {
    client: Client,
    parent: String,
    created: Created,
    is_gone: bool,
}

impl Contender {
    /// Joins the queue at `parent`, which is created with its own parents if it is missing.
    pub(super) async fn join(client: &Client, parent: &str, data: Bytes) -> Result<Contender> {
        let prefix = child(parent, CONTENDER);
        loop {
            let create = client.create(&prefix, data.clone()).mode(CreateMode::EphemeralSequential);
            let joining = Joining { client: client.clone(), pending: Some(create.send()) };
            match joining.await_created().await {
                Ok(created) => {
                    let (client, parent) = (client.clone(), parent.to_string());
                    return Ok(Contender { client, parent, created, is_gone: false });
                }
                Err(error) if error.kind() == ErrorKind::NoNode => client.ensure_path(parent).await?,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn path(&self) -> &str {
        &self.created.path
    }

    pub(super) fn token(&self) -> Zxid {
        self.created.stat.czxid
    }

    fn name(&self) -> &str {
        self.created.path.rsplit('/').next().expect("a path has a last element")
    }

    /// The queue as this contender sees it: those before it, in order, with their data if wanted.
    ///
    /// A read that sees the session's own write sees every contender that came before it, so no
    /// quorum is asked.
    pub(super) async fn before(&self, with_data: bool) -> Result<Vec<(String, Option<Bytes>)>> {
        self.before_in(self.queue(with_data).await?)
    }

    fn queue(&self, with_data: bool) -> Pending<Children> {
        let mut list = self.client.list(&self.parent).consistency(Consistency::Session);
        if with_data {
            list = list.with_data();
        }
        list.into_future()
    }

    fn before_in(&self, queue: Children) -> Result<Vec<(String, Option<Bytes>)>> {
        let mut children = queue.children;
        children.truncate(self.place(&children)?);
        let before = children.into_iter().filter(|child| is_contender(&child.name));
        Ok(before.map(|child| (child.name, child.data)).collect())
    }

    /// Waits until nobody is before this contender.
    ///
    /// Of several before it, the last but one is watched: when it has gone, the last is most often
    /// the holder. That is found out while it holds, so that its end needs no further read.
    pub(super) async fn reach_front(&self) -> Result<()> {
        let mut likely_holder: Option<String> = None;
        loop {
            let asked = Instant::now();
            // Both are queued before either is awaited.
            let queue = self.queue(false);
            let likely = likely_holder.take().map(|name| (self.watched(&name), name));
            let before = self.before_in(queue.await?)?;
            match &before[..] {
                [] => return Ok(()),
                [(holder, _)] => {
                    match likely {
                        Some((watched, name)) if name == *holder => self.gone_from(watched, holder).await?,
                        _ => self.gone(holder).await?,
                    }
                    if asked.elapsed() <= SEEN_MAX {
                        return Ok(());
                    }
                }
                [.., (last_but_one, _), (last, _)] => {
                    self.gone(last_but_one).await?;
                    likely_holder = Some(last.clone());
                }
            }
        }
    }

    /// How many are before this contender, and what fires when anybody joins or leaves.
    pub(super) async fn before_and_change(&self) -> Result<(usize, OneShot)> {
        let list = self.client.list(&self.parent).consistency(Consistency::Session);
        let (list, change) = list.and_watch().await?;
        let before = &list.children[..self.place(&list.children)?];
        Ok((before.iter().filter(|child| is_contender(&child.name)).count(), change))
    }

    fn place(&self, children: &[Child]) -> Result<usize> {
        let place = children.binary_search_by(|child| child.name.as_str().cmp(self.name()));
        place.map_err(|_| lost(self.token()))
    }

    /// Waits until the contender with this name has gone. Nobody ever gets its name again, so the
    /// word of its deletion is the end.
    pub(super) async fn gone(&self, name: &str) -> Result<()> {
        self.gone_from(self.watched(name), name).await
    }

    async fn gone_from(&self, mut watched: Watched, name: &str) -> Result<()> {
        loop {
            let (stat, changed) = watched.await?;
            if stat.is_none() || fired(changed).await? == Some(EventKind::NodeDeleted) {
                return Ok(());
            }
            watched = self.watched(name);
        }
    }

    fn watched(&self, name: &str) -> Watched {
        let path = child(&self.parent, name);
        self.client.exists(&path).consistency(Consistency::Session).and_watch().into_future()
    }

    /// Waits until this contender's own node is gone, or the session is over; says which.
    pub(super) async fn lost(&self) -> Error {
        loop {
            match self.gone_or_anothers().await {
                Ok(()) => return lost(self.token()),
                // Nothing is lost yet: it could not be asked.
                Err(error) if error.is_retryable() => tokio::time::sleep(ASK_AGAIN).await,
                Err(error) => return error,
            }
        }
    }

    /// Waits until the own node is gone. Where the parent was made anew, another may have its name.
    async fn gone_or_anothers(&self) -> Result<()> {
        loop {
            let (stat, changed) = self.watched(self.name()).await?;
            let is_own = stat.is_some_and(|stat| stat.czxid == self.token());
            if !is_own || fired(changed).await? == Some(EventKind::NodeDeleted) {
                return Ok(());
            }
        }
    }

    /// Takes the node away and waits for it. A node that is gone already is no failure, and one that is
    /// another's by now stays.
    pub(super) async fn leave(mut self) -> Result<()> {
        self.client.delete_own(self.path(), self.token()).await?;
        self.is_gone = true;
        Ok(())
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        if !self.is_gone {
            self.client.take_away(&self.created.path, self.token());
        }
    }
}

/// A contender's node on its way.
struct Joining {
    client: Client,
    pending: Option<Pending<Created>>,
}

impl Joining {
    async fn await_created(mut self) -> Result<Created> {
        let pending = self.pending.as_mut().expect("present until it is ready");
        let created = pending.await;
        self.pending = None;
        created
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        let client = self.client.clone();
        // Ends with the answer, or with the session.
        self.client.handle.runtime().spawn(async move {
            if let Ok(created) = pending.await {
                client.take_away(&created.path, created.stat.czxid);
            }
        });
    }
}

/// What a one-shot watch told. `None`: the cluster no longer knows whether something has happened, so
/// whoever waits looks again.
///
/// # Errors
/// The session's end.
pub(super) async fn fired(change: OneShot) -> Result<Option<EventKind>> {
    match change.await {
        Ok(event) => Ok(Some(event.kind)),
        Err(error) if error.kind() == ErrorKind::WatchGap => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path of a child.
pub(super) fn child(parent: &str, name: &str) -> String {
    if parent == "/" { format!("/{name}") } else { format!("{parent}/{name}") }
}

/// A listed node's Stat. Members leave it out where the caller may not read the node.
pub(super) fn readable(path: &str, stat: Option<Stat>) -> Result<Stat> {
    stat.ok_or_else(|| {
        let error = quorate_core::error::Error::new(ErrorKind::NoAuth, format!("no READ on {path}"));
        Error::Refused { error, zxid: Zxid(0) }
    })
}

fn lost(token: Zxid) -> Error {
    let error = quorate_core::error::Error::new(
        ErrorKind::GuardFailed,
        format!("the place with token {token} in the queue was taken away"),
    );
    Error::Refused { error, zxid: token }
}
