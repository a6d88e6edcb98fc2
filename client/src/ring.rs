//! Rings: which instance of a followed service owns a key. No network, no lock.
//!
//! The construction is `quorate_core::ring`: gRPC's and Envoy's, so all at one version agree.

use std::sync::Arc;

pub use quorate_core::ring::{Algorithm, Member, Placement, Ring, Sizing, hash_key};

use crate::registry::{Entry, ServiceFollower, ServiceRing};

impl ServiceFollower {
    /// The ring of the newest version known.
    pub fn ring(&self) -> Arc<ServiceRing> {
        self.current.load().ring()
    }

    /// The instance that owns a key; `None` if the service has nobody to use.
    pub fn locate(&self, key: impl AsRef<[u8]>) -> Option<Arc<Entry>> {
        let ring = self.ring();
        let owner = ring.ring.owner(hash_key(key))?;
        Some(ring.entries[owner].clone())
    }

    /// The owner of a key and those who stand in for it: `count` different ones, or all.
    pub fn replicas(&self, key: impl AsRef<[u8]>, count: usize) -> Vec<Arc<Entry>> {
        self.ring().locate(key.as_ref(), count).into_iter().cloned().collect()
    }

    /// Whether the instance `id` owns a key and may start to act on it: nobody who drains has to let
    /// go of it first.
    ///
    /// Nor may anybody whose follower's session is over: the cluster then counts it as gone, and others
    /// start. (A process that stood still meanwhile may be told so late; what must not be done twice
    /// is guarded by a lock's fencing token.)
    ///
    /// An owner whose share moves sees [`ServiceFollower::changed`] while it drains, before the
    /// instance that takes over gets `true` here: that happens when the drained one is gone.
    pub fn may_own(&self, id: &str, key: impl AsRef<[u8]>) -> bool {
        if self.session.borrow().is_over() {
            return false;
        }
        let service = self.current.load();
        let hash = hash_key(key);
        let ring = service.ring();
        let is_owner = ring.ring.owner(hash).is_some_and(|owner| ring.entries[owner].instance.id == id);
        is_owner && service.handing_over(hash).is_none()
    }
}
