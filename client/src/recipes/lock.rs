//! A lock: one holder at a time, in the order of asking, with a fencing token.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::id::Zxid;

use super::contender::Contender;
use crate::client::Client;
use crate::error::{Error, Result};

/// A lock at a path. The server's `Locks` service and this recipe exclude each other.
///
/// ```no_run
/// # async fn example(client: quorate::Client) -> quorate::Result<()> {
/// use quorate::recipes::Lock;
///
/// let guard = Lock::new(&client, "/locks/ledger").acquire().await?;
/// // Refused if the lock has been lost, even if nobody here has noticed yet.
/// client.transaction().guard_lock("/locks/ledger", guard.token()).set("/ledger", "42").await?;
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lock {
    client: Client,
    path: String,
    data: Bytes,
}

impl Lock {
    /// The lock at `path`, whose node is created when it is first needed.
    pub fn new(client: &Client, path: impl Into<String>) -> Lock {
        Lock { client: client.clone(), path: path.into(), data: Bytes::new() }
    }

    /// What others see of this contender: an address, say.
    pub fn data(mut self, data: impl Into<Bytes>) -> Lock {
        self.data = data.into();
        self
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// The session's end; `GuardFailed` if somebody took this contender out of the queue.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn acquire(&self) -> Result<LockGuard> {
        let contender = Contender::join(&self.client, &self.path, self.data.clone()).await?;
        contender.reach_front().await?;
        Ok(LockGuard { contender })
    }

    /// Takes the lock if it is free now.
    ///
    /// # Errors
    /// The session's end.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>> {
        let contender = Contender::join(&self.client, &self.path, self.data.clone()).await?;
        if contender.before(false).await?.is_empty() {
            return Ok(Some(LockGuard { contender }));
        }
        contender.leave().await?;
        Ok(None)
    }

    /// Waits for the lock, but not longer than this.
    ///
    /// # Errors
    /// Those of [`Lock::acquire`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn acquire_within(&self, limit: Duration) -> Result<Option<LockGuard>> {
        match tokio::time::timeout(limit, self.acquire()).await {
            Ok(guard) => guard.map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// The lock is held for as long as this lives and the session does. Dropping it releases the lock
/// without waiting.
#[derive(Debug)]
#[must_use = "dropping it releases the lock"]
pub struct LockGuard {
    contender: Contender,
}

impl LockGuard {
    /// The fencing token: greater than that of every earlier holder.
    pub fn token(&self) -> Zxid {
        self.contender.token()
    }

    /// The contender's node.
    pub fn path(&self) -> &str {
        self.contender.path()
    }

    /// Waits until the lock is lost (the session is over, or somebody deleted the contender's
    /// node), and says why. While the session is [`crate::SessionState::Suspended`] the lock is
    /// still held, but may be lost without a word: act under the token.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn lost(&self) -> Error {
        self.contender.lost().await
    }

    /// Releases the lock and waits until others may have it.
    ///
    /// # Errors
    /// The session's end, which releases it too.
    ///
    /// # Cancel safety
    /// The release is queued when this is first polled.
    pub async fn release(self) -> Result<()> {
        self.contender.leave().await
    }
}
