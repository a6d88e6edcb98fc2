//! A semaphore: at most so many holders at a time, in the order of asking.

use bytes::Bytes;
use quorate_core::id::Zxid;

use super::contender::{Contender, fired};
use crate::client::Client;
use crate::error::{Error, Result};

/// A semaphore at a path. All its users must name the same number of permits.
#[derive(Clone, Debug)]
pub struct Semaphore {
    client: Client,
    path: String,
    permits: usize,
}

impl Semaphore {
    /// The semaphore at `path`, whose node is created when it is first needed.
    pub fn new(client: &Client, path: impl Into<String>, permits: usize) -> Semaphore {
        Semaphore { client: client.clone(), path: path.into(), permits }
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// The session's end; `GuardFailed` if somebody took this contender out of the queue;
    /// `BadArguments` if there are no permits at all.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn acquire(&self) -> Result<Permit> {
        if self.permits == 0 {
            return Err(Error::BadArguments("a semaphore needs at least one permit".into()));
        }
        let contender = Contender::join(&self.client, &self.path, Bytes::new()).await?;
        loop {
            let (before, changed) = contender.before_and_change().await?;
            if before < self.permits {
                return Ok(Permit { contender });
            }
            fired(changed).await?;
        }
    }

    /// Takes a permit if one is free now.
    ///
    /// # Errors
    /// The session's end.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn try_acquire(&self) -> Result<Option<Permit>> {
        let contender = Contender::join(&self.client, &self.path, Bytes::new()).await?;
        if contender.before(false).await?.len() < self.permits {
            return Ok(Some(Permit { contender }));
        }
        contender.leave().await?;
        Ok(None)
    }
}

/// A permit, held for as long as this lives and the session does. Dropping it returns it without
/// waiting.
#[derive(Debug)]
#[must_use = "dropping it returns the permit"]
pub struct Permit {
    contender: Contender,
}

impl Permit {
    /// The fencing token. In a transaction, [`guard_created`](crate::Transaction::guard_created) of
    /// [`Permit::path`] with it holds for as long as the permit does.
    pub fn token(&self) -> Zxid {
        self.contender.token()
    }

    /// The contender's node.
    pub fn path(&self) -> &str {
        self.contender.path()
    }

    /// Waits until the permit is lost, and says why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn lost(&self) -> Error {
        self.contender.lost().await
    }

    /// Returns the permit and waits until others may have it.
    ///
    /// # Errors
    /// The session's end, which returns it too.
    ///
    /// # Cancel safety
    /// The return is queued when this is first polled.
    pub async fn release(self) -> Result<()> {
        self.contender.leave().await
    }
}
