//! A barrier: closed while its node exists; everybody waits until somebody removes it.

use bytes::Bytes;
use quorate_core::error::ErrorKind;
use quorate_core::request::Consistency;

use super::contender::fired;
use crate::client::Client;
use crate::error::Result;

/// A barrier at a path.
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    path: String,
}

impl Barrier {
    /// The barrier whose node is `path`. It is open until [`Barrier::close`].
    pub fn new(client: &Client, path: impl Into<String>) -> Barrier {
        Barrier { client: client.clone(), path: path.into() }
    }

    /// Closes the barrier; whether it was open. It stays closed beyond the session.
    ///
    /// # Errors
    /// Those of [`Client::create`] but `NodeExists`.
    ///
    /// # Cancel safety
    /// What was queued is done.
    pub async fn close(&self) -> Result<bool> {
        loop {
            match self.client.create(&self.path, Bytes::new()).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::NodeExists => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NoNode => {
                    let parent = self.path.rsplit_once('/').map_or("/", |(parent, _)| parent);
                    self.client.ensure_path(parent).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Opens the barrier; whether it was closed.
    ///
    /// # Errors
    /// Those of [`Client::delete`] but `NoNode`.
    ///
    /// # Cancel safety
    /// What was queued is done.
    pub async fn open(&self) -> Result<bool> {
        match self.client.delete(&self.path).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NoNode => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until the barrier is open.
    ///
    /// # Errors
    /// The session's end, `NoAuth`.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn wait(&self) -> Result<()> {
        let mut consistency = Consistency::Linearizable;
        loop {
            let (stat, changed) = self.client.exists(&self.path).consistency(consistency).and_watch().await?;
            if stat.is_none() {
                return Ok(());
            }
            fired(changed).await?;
            // From here on the watch told what is newer than what was read.
            consistency = Consistency::Session;
        }
    }
}
