//! Calling a service by its name: a channel that follows the registry.
//!
//! ```no_run
//! # async fn example(client: quorate::Client) -> quorate::Result<()> {
//! use quorate::balance;
//!
//! let orders = balance::channel(&client, "orders").await?;
//! // Give `orders.clone()` to any generated client: OrdersClient::new(orders.clone()).
//! # drop(orders);
//! # Ok(())
//! # }
//! ```
//!
//! [`Balanced`] is a `tower::Service` as tonic's `Channel` is one. How it picks is the service's
//! policy, watched like the instances: a change reaches it without a restart.
//!
//! - target: one connection an instance, made anew when it breaks; an instance that fails in
//!   a row is put aside, for longer each time, and comes back slowly;
//! - [`selection`]: who may be picked now: zones, clusters, priorities, releases;
//! - [`picker`]: who is picked, and [`Picker`] for pickers of one's own;
//! - the registry: when the client's session is lost the channel goes on with the instances that it
//!   knows, opens another ([`Client::successor`]) and follows the service in that;
//! - retries: a request that certainly never left is sent elsewhere, within the policy's budget;
//!   with [`Builder::retry_unanswered`], also one whose answer did not come.

mod body;
mod call;
pub mod picker;
pub mod selection;
mod target;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::registry::ServiceFollower;
pub use picker::{Choice, Picker};
pub use selection::{Candidate, Selection};
use target::Targets;

/// How long a request waits for somebody to send it to.
const WAIT: Duration = Duration::from_secs(5);
/// The pause before a service is followed again after the first attempt that failed; doubled up to
/// [`AGAIN_MAX`].
const AGAIN_FIRST: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// A request's key for ring hash and Maglev: put it into the request's extensions.
///
/// ```
/// let mut request = tonic::Request::new(());
/// request.extensions_mut().insert(quorate::balance::Key("customer-42".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub bytes::Bytes);

/// A channel to a service by name, with the policy's way of picking.
///
/// # Errors
/// `BadArguments` for a name that cannot be; `NoAuth`; the session's end.
///
/// # Cancel safety
/// Nothing is left behind.
pub async fn channel(client: &Client, service: &str) -> Result<Balanced> {
    Builder::new(client, service).connect().await
}

/// Collects how to call a service.
#[derive(Debug)]
pub struct Builder {
    client: Client,
    service: String,
    picker: Option<Arc<dyn Picker>>,
    locale: selection::Locale,
    header: Option<http::HeaderName>,
    retries_unanswered: bool,
    wait: Duration,
}

impl Builder {
    /// Calls `service`.
    pub fn new(client: &Client, service: &str) -> Builder {
        Builder {
            client: client.clone(),
            service: service.into(),
            picker: None,
            locale: selection::Locale::default(),
            header: None,
            retries_unanswered: false,
            wait: WAIT,
        }
    }

    /// Picks by this rather than by the policy.
    pub fn picker(mut self, picker: impl Picker + 'static) -> Builder {
        self.picker = Some(Arc::new(picker));
        self
    }

    /// Where the caller is: a zone-aware policy prefers its zone.
    pub fn zone(mut self, zone: impl Into<String>) -> Builder {
        self.locale.zone = zone.into();
        self
    }

    /// The caller's cluster; its instances come before those of others.
    pub fn cluster(mut self, cluster: impl Into<String>) -> Builder {
        self.locale.cluster = cluster.into();
        self
    }

    /// A request without a [`Key`] has the value of this header as its key.
    pub fn key_header(mut self, header: http::HeaderName) -> Builder {
        self.header = Some(header);
        self
    }

    /// Sends a request again whose answer did not come. It may then take effect twice: only for
    /// services whose calls may be repeated.
    pub fn retry_unanswered(mut self) -> Builder {
        self.retries_unanswered = true;
        self
    }

    /// How long a request waits for an instance to send it to; 5 s if not said.
    pub fn wait(mut self, wait: Duration) -> Builder {
        self.wait = wait;
        self
    }

    /// Begins to follow the service and to connect to its instances.
    ///
    /// # Errors
    /// As [`channel`].
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn connect(self) -> Result<Balanced> {
        let following = Following { client: self.client, service: self.service };
        let follower = following.follow().await?;
        let changed = Arc::new(Notify::new());
        let freed = Arc::new(Notify::new());
        let mut targets = Targets::new(changed.clone(), freed.clone());
        let first = Arc::new(targets.select(follower.current(), &self.locale, self.picker.as_ref()));
        let current = Arc::new(ArcSwap::new(first));
        let (sender, ready) = watch::channel(());
        let keeper = Keeper {
            following,
            follower,
            targets,
            locale: self.locale,
            picker: self.picker,
            current: current.clone(),
            changed: changed.clone(),
            told: sender,
        };
        let task = OwnedTask(tokio::spawn(keeper.run()));
        let shared = Shared {
            current,
            ready,
            changed,
            freed,
            header: self.header,
            retries_unanswered: self.retries_unanswered,
            wait: self.wait,
            budget: call::Budgets::default(),
            _task: task,
        };
        Ok(Balanced { shared: Arc::new(shared) })
    }
}

/// A channel to a service: give clones of it to generated clients. The connections close when the
/// last clone is dropped.
#[derive(Clone, Debug)]
pub struct Balanced {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: Arc<ArcSwap<Selection>>,
    /// Told whenever the selection changes.
    ready: watch::Receiver<()>,
    /// Tells that it should.
    changed: Arc<Notify>,
    /// Told when a request has ended.
    freed: Arc<Notify>,
    header: Option<http::HeaderName>,
    retries_unanswered: bool,
    wait: Duration,
    budget: call::Budgets,
    _task: OwnedTask,
}

impl Balanced {
    /// Who may be picked now.
    pub fn selection(&self) -> Arc<Selection> {
        self.shared.current.load_full()
    }
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct OwnedTask(JoinHandle<()>);

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is followed, and in whose sessions.
#[derive(Clone)]
struct Following {
    client: Client,
    service: String,
}

impl Following {
    async fn follow(&self) -> Result<ServiceFollower> {
        self.client.registry().follow(&self.service).await
    }

    /// Follows again when following has ended, however long that takes. `None`: the client was closed.
    async fn again(mut self) -> Option<(Following, ServiceFollower)> {
        let mut pause = AGAIN_FIRST;
        loop {
            let error = match self.client.successor().await {
                Ok(client) => {
                    self.client = client;
                    match self.follow().await {
                        Ok(follower) => return Some((self, follower)),
                        Err(error) => error,
                    }
                }
                Err(Error::Closed) => return None,
                Err(error) => error,
            };
            tracing::debug!(service = self.service, %error, "the service cannot be followed for now");
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(AGAIN_MAX);
        }
    }
}

/// Following again, under way.
type Again = Pin<Box<dyn Future<Output = Option<(Following, ServiceFollower)>> + Send>>;

/// Keeps the selection up to date.
struct Keeper {
    following: Following,
    follower: ServiceFollower,
    targets: Targets,
    locale: selection::Locale,
    picker: Option<Arc<dyn Picker>>,
    current: Arc<ArcSwap<Selection>>,
    changed: Arc<Notify>,
    told: watch::Sender<()>,
}

impl Keeper {
    async fn run(mut self) {
        let mut is_followed = true;
        let mut again: Option<Again> = None;
        loop {
            let wake = self.targets.next_change();
            tokio::select! {
                // When the session is over the last known instances go on being used meanwhile.
                changed = self.follower.changed(), if is_followed => if let Err(error) = changed {
                    tracing::info!(service = self.following.service, %error, "following a service anew");
                    is_followed = false;
                    again = Some(Box::pin(self.following.clone().again()));
                },
                renewed = wait_for(&mut again) => {
                    again = None;
                    if let Some((following, follower)) = renewed {
                        (self.following, self.follower, is_followed) = (following, follower, true);
                    }
                }
                () = self.changed.notified() => {}
                () = wait_until(wake) => {}
            }
            let service = self.follower.current();
            let selection = self.targets.select(service, &self.locale, self.picker.as_ref());
            self.current.store(Arc::new(selection));
            self.told.send_replace(());
        }
    }
}

async fn wait_for(again: &mut Option<Again>) -> Option<(Following, ServiceFollower)> {
    match again {
        Some(again) => again.await,
        None => std::future::pending().await,
    }
}

async fn wait_until(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
