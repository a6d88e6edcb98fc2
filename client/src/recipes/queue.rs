//! A queue: items in the order in which they were put, each taken by one consumer.

use bytes::Bytes;
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::request::Consistency;
use quorate_core::znode::CreateMode;

use super::contender::{child, fired};
use crate::client::Client;
use crate::error::Result;

const PREFIX: &str = "item-";
/// Items looked at together: enough that consumers who lose one to another find the next at once.
const LOOK_AHEAD: u32 = 16;

/// A queue at a path. Every item is a node, so keep it to thousands.
#[derive(Clone, Debug)]
pub struct Queue {
    client: Client,
    path: String,
}

/// An item, still in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its node: delete it in the same transaction as what the item asks for.
    pub path: String,
    /// The transaction that put it; grows from item to item.
    pub token: Zxid,
    /// What was put.
    pub data: Bytes,
}

impl Queue {
    /// The queue at `path`, whose node is created when it is first needed.
    pub fn new(client: &Client, path: impl Into<String>) -> Queue {
        Queue { client: client.clone(), path: path.into() }
    }

    /// Puts an item at the end. It stays beyond the session.
    ///
    /// # Errors
    /// Those of [`Client::create`].
    ///
    /// # Cancel safety
    /// What was queued is done: the item may be put or not.
    pub async fn put(&self, data: impl Into<Bytes>) -> Result<Zxid> {
        let (prefix, data) = (child(&self.path, PREFIX), data.into());
        loop {
            let create = self.client.create(&prefix, data.clone()).mode(CreateMode::PersistentSequential);
            match create.await {
                Ok(created) => return Ok(created.stat.czxid),
                Err(error) if error.kind() == ErrorKind::NoNode => {
                    self.client.ensure_path(&self.path).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for an item and looks at it; it stays in the queue.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn peek(&self) -> Result<Item> {
        Ok(self.some().await?.swap_remove(0))
    }

    /// Waits for an item and takes it: nobody else gets it. If this process dies before it has
    /// worked on the item, the item is gone; where that matters, [`Queue::peek`] and delete the
    /// item in the transaction that does its work.
    ///
    /// # Errors
    /// The session's end, `NoAuth`; `OutcomeUnknown` if the session ended while an item was being
    /// taken.
    ///
    /// # Cancel safety
    /// None: dropping the future may lose an item.
    pub async fn take(&self) -> Result<Item> {
        loop {
            for item in self.some().await? {
                match self.client.delete(&item.path).await {
                    Ok(_) => return Ok(item),
                    // Another was quicker.
                    Err(error) if error.kind() == ErrorKind::NoNode => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Waits until there are items; the first ones, at least one.
    async fn some(&self) -> Result<Vec<Item>> {
        let mut consistency = Consistency::Linearizable;
        loop {
            let list = self.client.list(&self.path).limit(LOOK_AHEAD).with_stat().with_data();
            let (list, changed) = match list.consistency(consistency).and_watch().await {
                Ok(found) => found,
                Err(error) if error.kind() == ErrorKind::NoNode => {
                    self.client.ensure_path(&self.path).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let items: Vec<Item> = list
                .children
                .into_iter()
                .filter(|child| child.name.starts_with(PREFIX))
                // An item that this client may not read is for others.
                .filter_map(|item| {
                    Some(Item {
                        path: child(&self.path, &item.name),
                        token: item.stat?.czxid,
                        data: item.data.unwrap_or_default(),
                    })
                })
                .collect();
            if !items.is_empty() {
                return Ok(items);
            }
            fired(changed).await?;
            // From here on the watch told what is newer than what was read.
            consistency = Consistency::Session;
        }
    }
}
