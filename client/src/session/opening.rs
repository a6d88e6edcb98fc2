//! How a session was opened, so that another can be opened when it is over.
//!
//! Not here: what goes on in the new one. Ephemeral nodes, locks and watches were the old one's.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Handle, SessionState, open};
use crate::connector::Connector;
use crate::error::{Error, Result};
use crate::options::Options;

/// Shows nothing when printed: it holds credentials.
pub(crate) struct Opening {
    options: Options,
    connector: Connector,
    /// The session after this one, as long as somebody has it.
    successor: Mutex<Weak<Handle>>,
}

impl Opening {
    pub(super) fn new(options: Options, connector: Connector) -> Opening {
        Opening { options, connector, successor: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Weak<Handle>> {
        self.successor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").finish_non_exhaustive()
    }
}

impl Handle {
    /// The session to go on with: this one unless it is over, else one that is shared by all who ask.
    pub(crate) async fn successor(self: &Arc<Handle>) -> Result<Arc<Handle>> {
        let mut handle = self.clone();
        loop {
            let state = *handle.state.borrow();
            match state {
                SessionState::Closed => return Err(Error::Closed),
                SessionState::Expired => {}
                SessionState::Connected | SessionState::Suspended => return Ok(handle),
            }
            let known = handle.opening.known().upgrade();
            handle = match known {
                Some(known) => known,
                None => handle.open_successor().await?,
            };
        }
    }

    async fn open_successor(&self) -> Result<Arc<Handle>> {
        let mut options = self.opening.options.clone();
        for credential in self.facts.proved() {
            if !options.credentials.contains(&credential) {
                options.credentials.push(credential);
            }
        }
        let opened = Arc::new(open(options, self.opening.connector.clone()).await?);
        let mut known = self.opening.known();
        // Of two who asked at once one is served by the other's; its own is closed by being dropped.
        if let Some(other) = known.upgrade() {
            return Ok(other);
        }
        *known = Arc::downgrade(&opened);
        Ok(opened)
    }
}
