//! Health checks and drain windows: what the leader looks after for services.
//!
//! Only the leader checks. A result changes the instance's record, through the log, only when it
//! changes the instance's health: after so many good ones or bad ones in a row. A new leader begins
//! anew from what the records say, so a leader change alone changes nothing. Checks go on while
//! results are written: a slow log makes nobody look ill.
//!
//! Time is the runtime's, the network comes in as a [`Prober`]: a test or simulator drives both.
//! Jitter is a hash of the instance and the check's number, so nothing here is random.
//!
//! Not here: how the wires of checks look (frontends/grpc/prober), what "too many are ill" means to
//! callers (core/registry, the panic threshold).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quorate_core::id::Zxid;
use quorate_core::registry::{Check, CheckKind, Entry, Health, Instance, Mode, ServiceName, registration};
use quorate_core::ring::hash_key;
use tokio::time::{Instant, sleep_until, timeout};

use super::Coordinator;
use super::directory::superuser;

/// How often it is looked whether this member leads and what has changed.
const LOOK: Duration = Duration::from_millis(100);
/// Checks under way at once; others wait for their turn.
const PROBES_MAX: usize = 512;
/// Results being written at once; others wait for their turn, at most one for each instance.
const WRITES_MAX: usize = 64;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// In good order.
    Good,
    /// It answers, but not in good order.
    Doubtful(String),
    /// It does not answer as it should; why.
    Bad(String),
    /// It was not asked, for want of something of this member's own: this says nothing of it.
    Unasked,
}

/// Asks an instance how it is. An implementer opens its own connection, keeps none, and need not
/// bound its time: the caller gives it up after `limit`. What it waits for before it can ask must end
/// earlier, in [`Finding::Unasked`].
pub trait Prober: Send + Sync + Debug + 'static {
    /// Asks `address` (host:port) in the way of `kind`.
    fn probe<'a>(
        &'a self,
        address: &'a str,
        kind: &'a CheckKind,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Finding> + Send + 'a>>;
}

/// An instance's results in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// Counts a finding; the health that the instance has now, if it differs from `current`.
    fn count(&mut self, check: &Check, current: Health, finding: &Finding) -> Option<Health> {
        let wanted = match finding {
            Finding::Bad(_) => {
                (self.good, self.bad) = (0, self.bad.saturating_add(1));
                (self.bad >= check.fall).then_some(Health::Critical)
            }
            Finding::Good | Finding::Doubtful(_) => {
                (self.good, self.bad) = (self.good.saturating_add(1), 0);
                let health = if *finding == Finding::Good { Health::Passing } else { Health::Warning };
                // From critical it takes a rise; between passing and warning one result.
                (current != Health::Critical || self.good >= check.rise).then_some(health)
            }
            Finding::Unasked => None,
        };
        wanted.filter(|health| *health != current)
    }
}

/// An instance, by service and id.
type Name = (ServiceName, String);

/// An instance that is probed, and its record as it was then.
type Probed = (Name, Arc<Entry>);

/// What is to be written of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// What was asked, if it is that still, has another health now, and why.
    Health(Arc<Entry>, Health, String),
    /// It goes, unless it has changed since this transaction.
    Removal(Zxid),
}

/// One instance that is looked after.
struct Watched {
    entry: Arc<Entry>,
    streak: Streak,
    checks: u64,
    /// When its next check is due; what else is planned of it belongs to a registration that is gone.
    planned: Option<Instant>,
    /// A verdict waits or is being written.
    is_judged: bool,
    critical_since: Option<Instant>,
    /// With which window it drains, and since when. Its health and load may change meanwhile.
    draining_since: Option<(Mode, Instant)>,
}

/// What the leader looks after.
#[derive(Default)]
struct Ward {
    instances: BTreeMap<Name, Watched>,
    due: BTreeSet<(Instant, Name)>,
    /// Verdicts that wait for their turn.
    verdicts: VecDeque<(Name, Verdict)>,
    /// The directory as it was last looked through.
    changes_seen: Option<u64>,
}

impl Coordinator {
    /// Checks instances and ends drain windows while this member leads, for as long as it lives.
    pub async fn run_checks(self, prober: Arc<dyn Prober>) {
        let leadership = self.shared.replica.leadership();
        let mut term_served = None;
        let mut ward = Ward::default();
        let mut probes = FuturesUnordered::new();
        let mut writes = FuturesUnordered::new();
        let mut look_next = Instant::now();
        loop {
            let wake = ward.wake(look_next, probes.len());
            tokio::select! {
                Some((probed, finding)) = probes.next(), if !probes.is_empty() => {
                    ward.take_in(&probed, &finding);
                }
                Some(name) = writes.next(), if !writes.is_empty() => ward.written(&name),
                () = sleep_until(wake) => {}
            }
            let now = Instant::now();
            if now >= look_next {
                look_next = now + LOOK;
                let current = *leadership.borrow();
                if current.leader != Some(self.shared.member) {
                    term_served = None;
                    ward = Ward::default();
                    probes.clear();
                    writes.clear();
                    continue;
                }
                if term_served != Some(current.term) {
                    term_served = Some(current.term);
                    ward = Ward::default();
                    probes.clear();
                    writes.clear();
                }
                if let Some(changes) = self.directory_changes()
                    && ward.changes_seen != Some(changes)
                {
                    ward.changes_seen = Some(changes);
                    ward.look_through(&self.services(), now);
                }
                ward.judge_overdue(now);
            }
            while writes.len() < WRITES_MAX
                && let Some((name, verdict)) = ward.verdicts.pop_front()
            {
                writes.push(self.write_verdict(name, verdict));
            }
            while probes.len() < PROBES_MAX
                && let Some((probed, address, check)) = ward.next_due(now)
            {
                probes.push(probe(prober.clone(), probed, address, check));
            }
        }
    }

    async fn write_verdict(&self, name: Name, verdict: Verdict) -> Name {
        match verdict {
            Verdict::Health(asked, health, reason) => {
                self.set_health(&name, &asked, health, &reason).await;
            }
            Verdict::Removal(judged) => self.remove_as_judged(&name, judged).await,
        }
        name
    }

    async fn set_health(&self, (service, id): &Name, asked: &Entry, health: Health, reason: &str) {
        let change = |entry: &Entry| {
            // Something else by now, or written already by a result that came just before.
            if !is_same_target(entry, asked) || entry.instance.health == health {
                return Ok(None);
            }
            let instance = Instance { health, reason: reason.into(), ..entry.instance.clone() };
            registration::change(service, entry, &instance).map(Some)
        };
        match self.change_entry(service, id, &[superuser()], change).await {
            Ok(_) => tracing::info!(%service, instance = id, ?health, reason, "an instance's health changed"),
            // The next result tries again.
            Err(error) => tracing::debug!(%service, instance = id, %error, "a health was not written"),
        }
    }

    /// Removes an instance unless it has changed since it was judged.
    async fn remove_as_judged(&self, (service, id): &Name, judged: Zxid) {
        let current = self.service(service);
        let Some(entry) = current.entry(id).filter(|entry| entry.changed == judged) else { return };
        let removal = registration::deregister(service, entry);
        match self.write(vec![superuser()], removal, None).await.and_then(|reply| reply.result) {
            Ok(_) => tracing::info!(%service, instance = id, "an instance's time is over; it is removed"),
            Err(error) => tracing::debug!(%service, instance = id, %error, "an instance was not removed"),
        }
    }
}

async fn probe(prober: Arc<dyn Prober>, probed: Probed, address: String, check: Check) -> (Probed, Finding) {
    let limit = Duration::from_millis(check.timeout_ms.into());
    let finding = timeout(limit, prober.probe(&address, &check.kind, limit)).await;
    (probed, finding.unwrap_or_else(|_| Finding::Bad(format!("no answer within {} ms", check.timeout_ms))))
}

/// Whether a result of one says something of the other. Whoever registers in place keeps the
/// transaction that registered it, and may be elsewhere.
fn is_same_target(one: &Entry, other: &Entry) -> bool {
    let (here, there) = (&one.instance, &other.instance);
    one.registered == other.registered
        && here.generation == there.generation
        && here.address == there.address
        && here.ports == there.ports
        && here.check == there.check
}

impl Watched {
    /// One of which nothing is known yet.
    fn new(entry: Arc<Entry>) -> Watched {
        Watched {
            entry,
            streak: Streak::default(),
            checks: 0,
            planned: None,
            is_judged: false,
            critical_since: None,
            draining_since: None,
        }
    }
}

impl Ward {
    /// When to go on if nothing comes in. What is due does not count while no check may begin: it is
    /// due until one has ended.
    fn wake(&self, look_next: Instant, under_way: usize) -> Instant {
        match self.due.first() {
            Some((due, _)) if under_way < PROBES_MAX => look_next.min(*due),
            _ => look_next,
        }
    }

    /// Takes in what the registry says now.
    fn look_through(&mut self, services: &[Arc<quorate_core::registry::Service>], now: Instant) {
        let mut still = BTreeMap::new();
        for service in services {
            for entry in service.entries() {
                let is_draining = matches!(entry.instance.mode, Mode::Draining { window_ms: 1.. });
                if entry.instance.check.is_none() && !is_draining {
                    continue;
                }
                let name = (service.name().clone(), entry.instance.id.clone());
                let mut watched = match self.instances.remove(&name) {
                    // The same as before: its results go on.
                    Some(known) if is_same_target(&known.entry, entry) => {
                        Watched { entry: entry.clone(), ..known }
                    }
                    // The same registration, but another place or check: it drains on, and no result counts.
                    Some(known) if known.entry.registered == entry.registered => Watched {
                        is_judged: known.is_judged,
                        draining_since: known.draining_since,
                        ..Watched::new(entry.clone())
                    },
                    _ => Watched::new(entry.clone()),
                };
                if let Some(check) = &entry.instance.check
                    && watched.planned.is_none()
                {
                    // The first one soon, but not all at once.
                    let first = jitter(&name, 0) * f64::from(check.interval_ms.min(1000));
                    let first = now + Duration::from_millis(first as u64);
                    watched.planned = Some(first);
                    self.due.insert((first, name.clone()));
                }
                // Maintenance is not counted: its operator has said what becomes of it.
                let is_critical =
                    entry.instance.health == Health::Critical && entry.instance.mode != Mode::Maintenance;
                watched.critical_since = is_critical.then(|| watched.critical_since.unwrap_or(now));
                let mode = entry.instance.mode;
                let drained = watched.draining_since.filter(|(known, _)| *known == mode);
                watched.draining_since = is_draining.then(|| drained.unwrap_or((mode, now)));
                still.insert(name, watched);
            }
        }
        self.instances = still;
    }

    /// The next instance to be checked, if one is due; its next check is planned.
    fn next_due(&mut self, now: Instant) -> Option<(Probed, String, Check)> {
        loop {
            let (due, _) = self.due.first()?;
            if *due > now {
                return None;
            }
            let (due, name) = self.due.pop_first()?;
            let planned = |watched: &&mut Watched| watched.planned == Some(due);
            let Some(watched) = self.instances.get_mut(&name).filter(planned) else { continue };
            let Some(check) = watched.entry.instance.check.clone() else {
                watched.planned = None;
                continue;
            };
            watched.checks += 1;
            // A tenth more or less, so that checks do not fall into step.
            let part = 0.9 + 0.2 * jitter(&name, watched.checks);
            let pause = Duration::from_millis(check.interval_ms.into()).mul_f64(part);
            let next = now.max(due + pause);
            watched.planned = Some(next);
            self.due.insert((next, name.clone()));
            if watched.entry.instance.mode == Mode::Maintenance {
                continue;
            }
            let address = watched.entry.instance.endpoint(&check.port);
            return Some(((name, watched.entry.clone()), address, check));
        }
    }

    /// Counts a finding, and judges if it changes anything.
    fn take_in(&mut self, (name, asked): &Probed, finding: &Finding) {
        let is_same = |watched: &&mut Watched| is_same_target(&watched.entry, asked);
        let Some(watched) = self.instances.get_mut(name).filter(is_same) else { return };
        let instance = &watched.entry.instance;
        let Some(check) = &instance.check else { return };
        let Some(health) = watched.streak.count(check, instance.health, finding) else { return };
        let mut reason = match finding {
            Finding::Good | Finding::Unasked => String::new(),
            Finding::Doubtful(why) | Finding::Bad(why) => why.replace(char::is_control, " "),
        };
        let most = quorate_core::registry::instance::TEXT_BYTES_MAX;
        while reason.len() > most {
            reason.pop();
        }
        let verdict = Verdict::Health(watched.entry.clone(), health, reason);
        self.judge(name, verdict);
    }

    /// Queues a verdict, unless one on this instance is under way: then what comes next says it again.
    fn judge(&mut self, name: &Name, verdict: Verdict) {
        if let Some(watched) = self.instances.get_mut(name)
            && !watched.is_judged
        {
            watched.is_judged = true;
            self.verdicts.push_back((name.clone(), verdict));
        }
    }

    /// A verdict has been written, or could not be.
    fn written(&mut self, name: &Name) {
        if let Some(watched) = self.instances.get_mut(name) {
            watched.is_judged = false;
        }
    }

    /// Judges those whose drain window, or time of being critical, is over.
    fn judge_overdue(&mut self, now: Instant) {
        let is_past = |since: Instant, limit_ms: u32| {
            limit_ms > 0 && now.duration_since(since) >= Duration::from_millis(limit_ms.into())
        };
        let is_over = |watched: &Watched| {
            let instance = &watched.entry.instance;
            let drained = match (instance.mode, watched.draining_since) {
                (Mode::Draining { window_ms }, Some((_, since))) => is_past(since, window_ms),
                _ => false,
            };
            let limit_ms = instance.check.as_ref().map_or(0, |check| check.remove_after_ms);
            drained || watched.critical_since.is_some_and(|since| is_past(since, limit_ms))
        };
        let over = self.instances.iter().filter(|(_, watched)| is_over(watched));
        let over: Vec<_> = over.map(|(name, watched)| (name.clone(), watched.entry.changed)).collect();
        for (name, changed) in over {
            self.judge(&name, Verdict::Removal(changed));
        }
    }
}

/// A number in [0, 1) that an instance's check has.
fn jitter((service, id): &Name, number: u64) -> f64 {
    (hash_key(format!("{service}/{id}/{number}")) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use quorate_core::registry::{Catalog, Service};
    use quorate_core::znode::Stat;

    use super::*;

    fn bad() -> Finding {
        Finding::Bad("refused".into())
    }

    #[test]
    fn health_changes_after_so_many_results_in_a_row() {
        let check = Check { rise: 2, fall: 3, ..Check::new(CheckKind::Tcp) };
        let mut streak = Streak::default();
        let mut health = Health::Critical;
        let mut told = Vec::new();
        for finding in [
            Finding::Good,
            bad(),
            Finding::Good,
            Finding::Good, // risen
            bad(),
            bad(),
            Finding::Good, // not fallen
            Finding::Doubtful("429".into()),
            Finding::Good,
            bad(),
            bad(),
            bad(), // fallen
            bad(),
        ] {
            if let Some(changed) = streak.count(&check, health, &finding) {
                health = changed;
                told.push(changed);
            }
        }
        let expected = [Health::Passing, Health::Warning, Health::Passing, Health::Critical];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_instance_that_flaps_is_left_as_it_is() {
        let check = Check { rise: 2, fall: 2, ..Check::new(CheckKind::Tcp) };
        let mut streak = Streak::default();
        for _ in 0..1000 {
            assert_eq!(streak.count(&check, Health::Passing, &bad()), None);
            assert_eq!(streak.count(&check, Health::Passing, &Finding::Good), None);
        }
    }

    /// A service of one instance.
    fn catalog(instance: &Instance, registered: u64, changed: u64) -> Vec<Arc<Service>> {
        let name: ServiceName = "orders".parse().expect("valid");
        let mut catalog = Catalog::new(Zxid(0));
        let stat = Stat { czxid: Zxid(registered), mzxid: Zxid(changed), ..Stat::default() };
        catalog.put(&name.instance_path(&instance.id), Some(&instance.encode()), &stat);
        catalog.settle();
        catalog.services().cloned().collect()
    }

    /// A service of one instance that is checked.
    fn checked(registered: u64) -> Vec<Arc<Service>> {
        let check = Some(Check { rise: 1, fall: 1, ..Check::new(CheckKind::Tcp) });
        catalog(&Instance { check, ..Instance::new("a", "10.0.0.1", 80) }, registered, registered)
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_registers_again_and_again_is_checked_as_often_as_others() {
        let (mut ward, start) = (Ward::default(), Instant::now());
        for registered in 1..=50 {
            // Each plans its first check, at another time.
            ward.look_through(&checked(registered), start + Duration::from_millis(registered));
        }
        let at = start + Duration::from_secs(60);
        let mut probed = 0;
        let mut now = start;
        while now < at {
            now += Duration::from_millis(100);
            while let Some(((_, asked), ..)) = ward.next_due(now) {
                assert_eq!(asked.registered, Zxid(50));
                probed += 1;
            }
        }
        assert!((5..=8).contains(&probed), "{probed} checks in a minute, one every ten seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_window_ends_though_load_and_health_are_reported_all_the_time() {
        let (mut ward, start) = (Ward::default(), Instant::now());
        let name: Name = ("orders".parse().expect("valid"), "a".into());
        let mode = Mode::Draining { window_ms: 10_000 };
        for second in 0..=10 {
            let load = Some(second);
            let instance = Instance { mode, load, ..Instance::new("a", "10.0.0.1", 80) };
            let now = start + Duration::from_secs(second.into());
            ward.look_through(&catalog(&instance, 1, 1 + u64::from(second)), now);
            ward.judge_overdue(now);
            assert_eq!(ward.verdicts.len(), usize::from(second == 10), "after {second} s");
        }
        assert_eq!(ward.verdicts, [(name, Verdict::Removal(Zxid(11)))]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_in_maintenance_is_not_removed_and_its_time_begins_anew_afterwards() {
        let (mut ward, start) = (Ward::default(), Instant::now());
        let name: Name = ("orders".parse().expect("valid"), "a".into());
        let check = Some(Check { remove_after_ms: 10_000, ..Check::new(CheckKind::Tcp) });
        let ill = Instance { health: Health::Critical, check, ..Instance::new("a", "10.0.0.1", 80) };
        for second in 0..=40 {
            let mode = if (5..=30).contains(&second) { Mode::Maintenance } else { Mode::Serving };
            let now = start + Duration::from_secs(second);
            ward.look_through(&catalog(&Instance { mode, ..ill.clone() }, 1, 1 + second), now);
            ward.judge_overdue(now);
            assert!(ward.verdicts.is_empty(), "after {second} s");
        }
        let now = start + Duration::from_secs(41);
        ward.look_through(&catalog(&ill, 1, 42), now);
        ward.judge_overdue(now);
        assert_eq!(ward.verdicts, [(name, Verdict::Removal(Zxid(42)))]);
    }

    #[test]
    fn not_to_have_been_asked_says_nothing() {
        let check = Check { rise: 2, fall: 2, ..Check::new(CheckKind::Tcp) };
        let mut streak = Streak::default();
        assert_eq!(streak.count(&check, Health::Passing, &bad()), None);
        for _ in 0..10 {
            assert_eq!(streak.count(&check, Health::Passing, &Finding::Unasked), None);
        }
        assert_eq!(streak.count(&check, Health::Passing, &bad()), Some(Health::Critical));
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_judged_once_at_a_time_and_only_of_the_registration_that_was_asked() {
        let mut ward = Ward::default();
        ward.look_through(&checked(7), Instant::now());
        let name: Name = ("orders".parse().expect("valid"), "a".into());
        ward.take_in(&(name.clone(), checked(6)[0].entries()[0].clone()), &bad());
        assert!(ward.verdicts.is_empty(), "an earlier registration's address was asked");
        let entry = checked(7)[0].entries()[0].clone();
        let probed = (name.clone(), entry.clone());
        (0..5).for_each(|_| ward.take_in(&probed, &bad()));
        let verdict = Verdict::Health(entry, Health::Critical, "refused".into());
        assert_eq!(ward.verdicts, [(name.clone(), verdict)]);
        ward.verdicts.clear();
        ward.written(&name);
        ward.take_in(&probed, &bad());
        assert_eq!(ward.verdicts.len(), 1, "it was not written: the next result says it again");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_registers_in_place_at_another_port_begins_anew() {
        let (mut ward, start) = (Ward::default(), Instant::now());
        let check = Some(Check { rise: 3, interval_ms: 60_000, ..Check::new(CheckKind::Tcp) });
        let old = Instance { health: Health::Critical, check, ..Instance::new("a", "10.0.0.1", 80) };
        ward.look_through(&catalog(&old, 7, 7), start);
        let at = start + Duration::from_secs(1);
        let (asked_of_old, address, _) = ward.next_due(at).expect("the first check");
        assert_eq!(address, "10.0.0.1:80");
        (0..2).for_each(|_| ward.take_in(&asked_of_old, &Finding::Good));
        // Its load alone changes nothing: one more would have done.
        ward.look_through(&catalog(&Instance { load: Some(3), ..old.clone() }, 7, 8), at);
        let known = ward.instances.values().next().expect("looked after");
        assert_eq!(known.streak, Streak { good: 2, bad: 0 });

        let new = Instance { ports: Instance::new("a", "10.0.0.1", 81).ports, ..old };
        ward.look_through(&catalog(&new, 7, 9), at);
        ward.take_in(&asked_of_old, &Finding::Good);
        assert!(ward.verdicts.is_empty(), "the old port's result counts for the new one");
        let at = at + Duration::from_secs(1);
        let (asked_of_new, address, _) = ward.next_due(at).expect("it is checked soon, not by the old plan");
        assert_eq!(address, "10.0.0.1:81");
        (0..2).for_each(|_| ward.take_in(&asked_of_new, &Finding::Good));
        assert!(ward.verdicts.is_empty(), "it rises by results of its own");
        ward.take_in(&asked_of_new, &Finding::Good);
        assert_eq!(ward.verdicts.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_wakes_nobody_while_no_more_checks_may_begin() {
        let (mut ward, start) = (Ward::default(), Instant::now());
        ward.look_through(&checked(7), start);
        let (due, _) = *ward.due.first().expect("planned");
        let look_next = due + LOOK;
        assert_eq!(ward.wake(look_next, PROBES_MAX - 1), due);
        assert_eq!(ward.wake(look_next, PROBES_MAX), look_next);
    }

    #[test]
    fn jitter_is_spread_and_the_same_every_time() {
        let name: Name = ("orders".parse().expect("valid"), "a".into());
        let some: Vec<f64> = (0..1000).map(|number| jitter(&name, number)).collect();
        assert!(some.iter().all(|value| (0.0..1.0).contains(value)));
        let mean = some.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert_eq!(some[7], jitter(&name, 7));
    }
}
