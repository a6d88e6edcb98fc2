//! A lock that many may hold to read or one to write, in the order of asking.

use bytes::Bytes;
use quorate_core::id::Zxid;

use super::contender::Contender;
use crate::client::Client;
use crate::error::{Error, Result};

/// What a reader's node says. Every other contender, one of [`super::Lock`] too, is a writer.
const READER: &[u8] = b"r";
const WRITER: &[u8] = b"w";

/// A lock for readers and writers at a path. A reader waits for the writers before it, a writer for
/// everybody before it, so neither starves.
#[derive(Clone, Debug)]
pub struct ReadWriteLock {
    client: Client,
    path: String,
}

impl ReadWriteLock {
    /// The lock at `path`, whose node is created when it is first needed.
    pub fn new(client: &Client, path: impl Into<String>) -> ReadWriteLock {
        ReadWriteLock { client: client.clone(), path: path.into() }
    }

    /// Waits until no writer is before.
    ///
    /// # Errors
    /// The session's end; `GuardFailed` if somebody took this contender out of the queue.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn read(&self) -> Result<ReadGuard> {
        let contender = Contender::join(&self.client, &self.path, Bytes::from_static(READER)).await?;
        loop {
            let before = contender.before(true).await?;
            let writer = before.into_iter().rev().find(|(_, data)| data.as_deref() != Some(READER));
            let Some((writer, _)) = writer else { return Ok(ReadGuard { contender }) };
            contender.gone(&writer).await?;
        }
    }

    /// Waits until nobody is before.
    ///
    /// # Errors
    /// The session's end; `GuardFailed` if somebody took this contender out of the queue.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue.
    pub async fn write(&self) -> Result<WriteGuard> {
        let contender = Contender::join(&self.client, &self.path, Bytes::from_static(WRITER)).await?;
        contender.reach_front().await?;
        Ok(WriteGuard { contender })
    }
}

macro_rules! guard {
    ($guard:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Dropping it releases the lock without waiting.
        #[derive(Debug)]
        #[must_use = "dropping it releases the lock"]
        pub struct $guard {
            contender: Contender,
        }

        impl $guard {
            /// The fencing token. In a transaction,
            /// [`guard_created`](crate::Transaction::guard_created) of [`Self::path`] with it holds
            /// for as long as the lock does.
            pub fn token(&self) -> Zxid {
                self.contender.token()
            }

            /// The contender's node.
            pub fn path(&self) -> &str {
                self.contender.path()
            }

            /// Waits until the lock is lost, and says why.
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
    };
}
guard!(ReadGuard, "Held together with other readers.");
guard!(WriteGuard, "Held alone.");
