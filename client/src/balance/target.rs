//! One instance as this client sees it: its connection, what is under way, how it has answered.
//!
//! Invariants:
//! - an instance without a connection is not picked, whatever the registry says; a task of its own
//!   connects again, with growing pauses;
//! - no more than the policy's part of all instances is put aside for failures at once. (One without
//!   a connection needs no putting aside, and does not count.)

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::registry::policy::Outlier;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::selection::{Locale, Selection};
use super::{OwnedTask, Picker};
use crate::registry::{Entry, Service};

/// How long a connection may take to stand.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The pause after the first attempt that failed; doubled up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A silent connection is probed this often.
const PROBE: Duration = Duration::from_secs(10);
/// While an instance comes back slowly, its weight is looked at this often.
const SLOW_START_TICK: Duration = Duration::from_millis(250);
/// An ejection is at most so many times as long as a first one. In service for that long, an instance
/// is forgiven the earlier ones.
const LONGEST: u32 = 10;
/// The average latency forgets with this time constant.
const DECAY: Duration = Duration::from_secs(10);

/// What is known of an instance, shared with requests under way.
#[derive(Debug)]
pub(super) struct Target {
    changed: Arc<Notify>,
    /// Told when a request has ended, for those who wait for room.
    freed: Arc<Notify>,
    /// The connection and its number: of an old one that fails late the present one knows nothing.
    channel: Mutex<Option<(u64, Channel)>>,
    broken: Notify,
    is_connected: AtomicBool,
    is_ejected: AtomicBool,
    pub(super) in_flight: AtomicU64,
    failures: AtomicU32,
    /// Of all instances, how many may be put aside now; kept by [`Targets`].
    room: Arc<AtomicU32>,
    outlier: Mutex<Outlier>,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    ejections: u32,
    ejected_until: Option<Instant>,
    /// In good order until then, the next ejection is a first one again.
    forgiven_at: Option<Instant>,
    back_since: Option<Instant>,
    /// Peak-sensitive average latency in seconds, and when it was last touched.
    latency: f64,
    measured: Option<Instant>,
}

impl Target {
    /// The connection, if there is one, and its number.
    pub(super) fn channel(&self) -> Option<(u64, Channel)> {
        self.present().clone()
    }

    /// A request is sent there.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended, one way or another.
    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_one();
    }

    /// Whether it may be picked.
    pub(super) fn is_available(&self) -> bool {
        self.is_connected.load(Ordering::Acquire) && !self.is_ejected.load(Ordering::Acquire)
    }

    /// The connection with this number broke: nobody is sent there until another stands.
    pub(super) fn break_off(&self, number: u64) {
        {
            let mut channel = self.present();
            if channel.as_ref().is_none_or(|(present, _)| *present != number) {
                return;
            }
            *channel = None;
            self.is_connected.store(false, Ordering::Release);
        }
        self.broken.notify_one();
        self.changed.notify_one();
    }

    /// A request was answered in good order after so long.
    pub(super) fn succeed(&self, latency: Duration) {
        self.failures.store(0, Ordering::Relaxed);
        self.measure(latency);
    }

    /// A request failed on the instance's side.
    pub(super) fn fail(&self, latency: Duration) {
        self.measure(latency);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let outlier = *self.outlier.lock().unwrap_or_else(PoisonError::into_inner);
        if outlier.failures == 0 || failures < outlier.failures || self.is_ejected.load(Ordering::Acquire) {
            return;
        }
        let took = self.room.fetch_update(Ordering::AcqRel, Ordering::Acquire, |room| room.checked_sub(1));
        if took.is_err() {
            return;
        }
        let mut times = self.times();
        let (now, once) = (Instant::now(), Duration::from_millis(outlier.ejection_ms.into()));
        if times.forgiven_at.is_some_and(|at| now >= at) {
            times.ejections = 0;
        }
        times.ejections += 1;
        let until = now + once * times.ejections.min(LONGEST);
        (times.ejected_until, times.forgiven_at) = (Some(until), Some(until + once * LONGEST));
        times.back_since = None;
        drop(times);
        self.failures.store(0, Ordering::Relaxed);
        self.is_ejected.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Average latency in seconds: peaks count at once, and are forgotten slowly, also while nobody asks.
    /// `None` if it has never answered.
    pub(super) fn latency(&self) -> Option<f64> {
        let times = self.times();
        let since = times.measured?.elapsed();
        Some(times.latency * kept_after(since))
    }

    fn measure(&self, latency: Duration) {
        let (now, latency) = (Instant::now(), latency.as_secs_f64());
        let mut times = self.times();
        let kept = times.measured.map_or(0.0, |at| kept_after(now.duration_since(at)));
        times.latency = match latency > times.latency {
            true => latency,
            false => times.latency * kept + latency * (1.0 - kept),
        };
        times.measured = Some(now);
    }

    fn present(&self) -> MutexGuard<'_, Option<(u64, Channel)>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends an ejection whose time is over; the part of its weight (0 to 1) that it has now.
    fn refresh(&self, now: Instant, slow_start: Duration) -> f64 {
        let mut times = self.times();
        if times.ejected_until.is_some_and(|until| now >= until) {
            (times.ejected_until, times.back_since) = (None, Some(now));
            self.is_ejected.store(false, Ordering::Release);
        }
        let Some(since) = times.back_since else { return 1.0 };
        let back = now.duration_since(since);
        if back >= slow_start {
            times.back_since = None;
            return 1.0;
        }
        (back.as_secs_f64() / slow_start.as_secs_f64()).max(0.1)
    }

    /// Connects, and connects again when told that it broke.
    async fn run(self: Arc<Target>, endpoint: Endpoint) {
        let mut pause = PAUSE_FIRST;
        let mut number = 0;
        loop {
            match endpoint.connect().await {
                Ok(channel) => {
                    pause = PAUSE_FIRST;
                    number += 1;
                    {
                        let mut present = self.present();
                        *present = Some((number, channel));
                        self.is_connected.store(true, Ordering::Release);
                    }
                    self.changed.notify_one();
                    self.broken.notified().await;
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    tracing::debug!(%error, uri = %endpoint.uri(), "an instance cannot be reached");
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// How much of an average is left after so long.
fn kept_after(since: Duration) -> f64 {
    (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

/// All instances of a service, with their connections.
#[derive(Debug)]
pub(super) struct Targets {
    changed: Arc<Notify>,
    freed: Arc<Notify>,
    by_id: BTreeMap<String, Held>,
    room: Arc<AtomicU32>,
    slow_start: Duration,
}

#[derive(Debug)]
struct Held {
    endpoint: String,
    target: Arc<Target>,
    _task: OwnedTask,
}

impl Targets {
    /// `changed` is told when a selection is to be made anew, `freed` when a request has ended.
    pub(super) fn new(changed: Arc<Notify>, freed: Arc<Notify>) -> Targets {
        let slow_start = Duration::ZERO;
        Targets { changed, freed, by_id: BTreeMap::new(), room: Arc::default(), slow_start }
    }

    /// Connects to those who are new, forgets those who are gone, and says who may be picked.
    pub(super) fn select(
        &mut self,
        service: Arc<Service>,
        locale: &Locale,
        picker: Option<&Arc<dyn Picker>>,
    ) -> Selection {
        let policy = service.policy();
        self.slow_start = Duration::from_millis(policy.outlier.slow_start_ms.into());
        let (serving, _) = service.serving();
        // In the order of their ids, as they stand in the service.
        let find = |id: &String| serving.binary_search_by(|entry| entry.instance.id.cmp(id)).ok();
        self.by_id.retain(|id, held| {
            find(id).is_some_and(|found| serving[found].instance.endpoint(&policy.port) == held.endpoint)
        });
        let now = Instant::now();
        let mut known = Vec::with_capacity(serving.len());
        for entry in serving {
            let Some(target) = self.hold(&entry, &policy.port) else { continue };
            *target.outlier.lock().unwrap_or_else(PoisonError::into_inner) = policy.outlier;
            let part = target.refresh(now, self.slow_start);
            known.push((entry, target, part));
        }
        let ejected = known.iter().filter(|(_, target, _)| target.is_ejected.load(Ordering::Acquire)).count();
        let most = known.len() as u64 * u64::from(policy.outlier.ejected_permille_max) / 1000;
        self.room.store((most as u32).saturating_sub(ejected as u32), Ordering::Release);
        Selection::new(&service, policy, known, locale, picker)
    }

    /// When something changes by time alone: an ejection ends, or a weight grows.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let tick = Instant::now() + SLOW_START_TICK;
        let of_target = |held: &Held| {
            let times = held.target.times();
            times.ejected_until.or(times.back_since.map(|_| tick))
        };
        self.by_id.values().filter_map(of_target).min()
    }

    fn hold(&mut self, entry: &Entry, port: &str) -> Option<Arc<Target>> {
        let instance = &entry.instance;
        if let Some(held) = self.by_id.get(&instance.id) {
            return Some(held.target.clone());
        }
        let address = instance.endpoint(port);
        let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                tracing::warn!(instance = instance.id, %error, "an instance's address cannot be used");
                return None;
            }
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PROBE)
            .keep_alive_timeout(PROBE)
            .keep_alive_while_idle(true);
        let target = Arc::new(Target {
            changed: self.changed.clone(),
            freed: self.freed.clone(),
            channel: Mutex::default(),
            broken: Notify::new(),
            is_connected: AtomicBool::new(false),
            is_ejected: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            room: self.room.clone(),
            outlier: Mutex::new(quorate_core::registry::Policy::default().outlier),
            times: Mutex::default(),
        });
        let task = OwnedTask(tokio::spawn(target.clone().run(endpoint)));
        let held = Held { endpoint: address, target: target.clone(), _task: task };
        self.by_id.insert(instance.id.clone(), held);
        Some(target)
    }
}

#[cfg(test)]
impl Target {
    /// As if its connection had broken.
    pub(super) fn disconnect(&self) {
        self.is_connected.store(false, Ordering::Release);
    }

    /// One that stands without a connection of its own.
    pub(super) fn standing(outlier: Outlier, room: Arc<AtomicU32>) -> Arc<Target> {
        Arc::new(Target {
            changed: Arc::default(),
            freed: Arc::default(),
            channel: Mutex::default(),
            broken: Notify::new(),
            is_connected: AtomicBool::new(true),
            is_ejected: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            room,
            outlier: Mutex::new(outlier),
            times: Mutex::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlier() -> Outlier {
        Outlier { failures: 3, ejection_ms: 1000, ejected_permille_max: 500, slow_start_ms: 4000 }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_put_aside_for_longer_each_time_and_it_comes_back_slowly() {
        let target = Target::standing(outlier(), Arc::new(AtomicU32::new(10)));
        let slow = Duration::from_secs(4);
        let fail = |times: usize| (0..times).for_each(|_| target.fail(Duration::ZERO));
        fail(2);
        target.succeed(Duration::ZERO);
        fail(2);
        assert!(target.is_available(), "not in a row");
        fail(1);
        assert!(!target.is_available());
        tokio::time::advance(Duration::from_millis(999)).await;
        target.refresh(Instant::now(), slow);
        assert!(!target.is_available());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(target.refresh(Instant::now(), slow), 0.1);
        assert!(target.is_available());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(target.refresh(Instant::now(), slow), 0.5);
        // Again before it was back for good: twice as long.
        fail(3);
        tokio::time::advance(Duration::from_millis(1500)).await;
        target.refresh(Instant::now(), slow);
        assert!(!target.is_available());
        tokio::time::advance(Duration::from_millis(500)).await;
        target.refresh(Instant::now(), slow);
        assert!(target.is_available());
        tokio::time::advance(slow).await;
        assert_eq!(target.refresh(Instant::now(), slow), 1.0);
    }

    #[tokio::test(start_paused = true)]
    async fn ejections_are_counted_until_it_has_served_for_long_whatever_the_slow_start() {
        for slow in [Duration::ZERO, Duration::from_millis(100)] {
            let target = Target::standing(outlier(), Arc::new(AtomicU32::new(10)));
            let mut lasted = Vec::new();
            for in_service in [50, 50, 50, 10_000, 0] {
                (0..3).for_each(|_| target.fail(Duration::ZERO));
                let since = Instant::now();
                while !target.is_available() {
                    tokio::time::advance(Duration::from_millis(50)).await;
                    target.refresh(Instant::now(), slow);
                }
                lasted.push(since.elapsed().as_secs());
                tokio::time::advance(Duration::from_millis(in_service)).await;
            }
            assert_eq!(lasted, [1, 2, 3, 4, 1]);
        }
    }

    #[test]
    fn no_more_than_the_allowed_part_is_put_aside() {
        let room = Arc::new(AtomicU32::new(1));
        let targets: Vec<_> = (0..3).map(|_| Target::standing(outlier(), room.clone())).collect();
        for target in &targets {
            (0..10).for_each(|_| target.fail(Duration::ZERO));
        }
        assert_eq!(targets.iter().filter(|target| target.is_available()).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_peaks_at_once_and_calms_slowly() {
        let target = Target::standing(outlier(), Arc::default());
        assert_eq!(target.latency(), None);
        target.succeed(Duration::from_millis(10));
        target.succeed(Duration::from_millis(500));
        let latency = || target.latency().expect("measured");
        assert_eq!(latency(), 0.5);
        tokio::time::advance(Duration::from_secs(1)).await;
        target.succeed(Duration::from_millis(10));
        assert!((0.4..0.5).contains(&latency()), "{}", latency());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(latency() < 0.02, "forgotten, though nobody asked: {}", latency());
        target.succeed(Duration::from_millis(10));
        assert!(latency() < 0.02, "{}", latency());
    }
}
