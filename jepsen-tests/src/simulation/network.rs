//! The simulated network: who can reach whom, and how long it takes.
//!
//! It behaves as TCP does. What is sent on one connection arrives in order, each message after a
//! delay of its own; connections overtake each other. A link that is cut, in one direction or both,
//! holds messages back until it heals, so that they arrive very late, or until the connection is
//! given up. A connection can also break by itself, before or after the other side has acted.
//! Nothing is duplicated: TCP does not, and what sends twice are the programs above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_server::coordinator::Coordinator;
use quorate_server::replica::peer_listener::PeerSwitch;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::life::{Life, Node};
use super::trace::Trace;

/// How long a connection waits for an answer from beyond a cut before it is given up: keep-alives
/// every 2 s, which may take 2 s.
const GIVEN_UP: Duration = Duration::from_secs(4);

/// The connection broke; whether the message arrived is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// How the network is now.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Most messages take up to this long.
    pub delay_max: Duration,
    /// One in `slow_one_in` takes up to this long.
    pub slow_max: Duration,
    /// See `slow_max`.
    pub slow_one_in: u32,
    /// One message in this many breaks its connection; 0 is none.
    pub break_one_in: u32,
}

impl Weather {
    /// A quiet local network.
    pub fn calm() -> Weather {
        Weather {
            delay_max: Duration::from_millis(3),
            slow_max: Duration::from_millis(30),
            slow_one_in: 50,
            break_one_in: 0,
        }
    }
}

/// A process that can be reached.
#[derive(Clone)]
pub struct Reachable {
    /// While it lives.
    pub life: Life,
    /// Answers peers.
    pub peers: PeerSwitch,
    /// Answers clients, once its doors are open.
    pub clients: Option<Coordinator>,
}

/// The network. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Mutex<Inner>>,
    cuts: watch::Sender<u64>,
    /// Carries what is under way; it belongs to no process.
    wire: Life,
    /// What happens.
    pub trace: Trace,
}

struct Inner {
    random: fastrand::Rng,
    weather: Weather,
    cut: BTreeSet<(Node, Node)>,
    reachable: BTreeMap<Node, Reachable>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// A network without cuts.
    pub fn new(random: fastrand::Rng, trace: Trace) -> Network {
        let inner =
            Inner { random, weather: Weather::calm(), cut: BTreeSet::new(), reachable: BTreeMap::new() };
        Network {
            inner: Arc::new(Mutex::new(inner)),
            cuts: watch::Sender::new(0),
            wire: Life::begin(0),
            trace,
        }
    }

    /// Changes delays and breaks.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Cuts the way from one to another; the way back stays.
    pub fn cut(&self, from: Node, to: Node) {
        self.lock().cut.insert((from, to));
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Heals every cut.
    pub fn heal(&self) {
        self.lock().cut.clear();
        self.cuts.send_modify(|count| *count += 1);
    }

    /// A process can be reached from now on, or again.
    pub fn listen(&self, reachable: Reachable) {
        let node = reachable.life.node();
        self.lock().reachable.insert(node, reachable);
    }

    /// The process at an address, if it lives.
    pub fn find(&self, node: Node) -> Option<Reachable> {
        self.lock().reachable.get(&node).filter(|found| found.life.is_alive()).cloned()
    }

    /// All members that were ever started.
    pub fn members(&self) -> Vec<Node> {
        self.lock().reachable.keys().copied().collect()
    }

    /// Runs something that belongs to no process.
    pub fn carry(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.wire.spawn(task);
    }

    /// When a message sent now would arrive.
    pub fn arrival(&self) -> Instant {
        let mut inner = self.lock();
        let weather = inner.weather;
        let is_slow = inner.random.u32(..weather.slow_one_in.max(1)) == 0;
        let most = if is_slow { weather.slow_max } else { weather.delay_max };
        let micros = inner.random.u64(..=most.as_micros() as u64);
        Instant::now() + Duration::from_micros(micros)
    }

    /// Lets a message arrive: at its time, and not through a cut.
    ///
    /// # Errors
    /// The connection broke first.
    pub async fn arrive(&self, from: Node, to: Node, at: Instant) -> Result<(), Broken> {
        sleep_until(at).await;
        let breaks = {
            let mut inner = self.lock();
            let one_in = inner.weather.break_one_in;
            one_in > 0 && inner.random.u32(..one_in) == 0
        };
        if breaks {
            return Err(Broken);
        }
        if !self.is_cut(from, to) {
            return Ok(());
        }
        let mut cuts = self.cuts.subscribe();
        let deadline = Instant::now() + GIVEN_UP;
        loop {
            tokio::select! {
                biased;
                changed = cuts.changed() => {
                    if changed.is_err() {
                        return Err(Broken);
                    }
                    if !self.is_cut(from, to) {
                        // What was held back does not all arrive in the same instant.
                        sleep_until(self.arrival()).await;
                        return Ok(());
                    }
                }
                () = sleep_until(deadline) => return Err(Broken),
            }
        }
    }

    /// Resolves when a connection between the two is given up: something between them has been cut
    /// for long.
    pub async fn given_up(&self, one: Node, other: Node) {
        let mut cuts = self.cuts.subscribe();
        let mut since = None;
        loop {
            let is_cut = self.is_cut(one, other) || self.is_cut(other, one);
            since = is_cut.then(|| since.unwrap_or_else(Instant::now));
            match since {
                None => {
                    if cuts.changed().await.is_err() {
                        return;
                    }
                }
                Some(since) => tokio::select! {
                    biased;
                    changed = cuts.changed() => if changed.is_err() { return },
                    () = sleep_until(since + GIVEN_UP) => return,
                },
            }
        }
    }

    fn is_cut(&self, from: Node, to: Node) -> bool {
        self.lock().cut.contains(&(from, to))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
