//! What instances say of themselves: gathered here, written when it matters.
//!
//! A report costs no write of its own. An instance's record changes when its health does, at most
//! once in [`HEALTH_PACE`], and for its load at most once in [`LOAD_PACE`]; of what comes between,
//! the last counts. So an instance that flaps a hundred times a second is written once a second.
//!
//! What could not be written, for want of a leader perhaps, waits again: until it is written, newer news
//! of it comes, or the registration that it was said of is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use quorate_core::acl::{Identity, Permissions, permits};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::Zxid;
use quorate_core::registry::instance::{LOAD_MAX, TEXT_BYTES_MAX};
use quorate_core::registry::names::{check_label, check_range, check_text};
use quorate_core::registry::{Entry, Health, Instance, ServiceName, registration};
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
use quorate_core::state::{Caller, State};
use tokio::time::{Instant, sleep};

use super::Coordinator;
use super::directory::superuser;

/// From one written health of an instance to the next.
const HEALTH_PACE: Duration = Duration::from_secs(1);
/// From one written load of an instance to the next.
const LOAD_PACE: Duration = Duration::from_secs(5);
/// How often it is looked what is due.
const TICK: Duration = Duration::from_millis(100);
/// Instances with reports; beyond this, reports of others are refused.
const REPORTED_MAX: usize = 65_536;
/// Writes under way at once.
const WRITES: usize = 64;

/// One report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Which instance.
    pub id: String,
    /// Its health and why, if told.
    pub health: Option<(Health, String)>,
    /// Its load in thousandths, if told.
    pub load: Option<u32>,
}

/// What waits to be written, and when each instance last was.
#[derive(Debug, Default)]
pub(super) struct Reports {
    waiting: Mutex<BTreeMap<(ServiceName, String), Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The registration of which it is said.
    registered: Zxid,
    health: Option<(Health, String)>,
    load: Option<u32>,
    identities: Arc<[Identity]>,
    health_written: Option<Instant>,
    load_written: Option<Instant>,
}

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        let is_past =
            |written: Option<Instant>, pace| written.is_none_or(|at| now.duration_since(at) >= pace);
        self.health.is_some() && is_past(self.health_written, HEALTH_PACE)
            || self.load.is_some() && is_past(self.load_written, LOAD_PACE)
    }

    /// Another registration in its place begins without news; the pace is the instance's.
    fn begin(&mut self, registered: Zxid) {
        if self.registered != registered {
            (self.registered, self.health, self.load) = (registered, None, None);
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let last = self.health_written.max(self.load_written);
        self.health.is_none()
            && self.load.is_none()
            && last.is_none_or(|at| now.duration_since(at) >= LOAD_PACE)
    }
}

impl Coordinator {
    /// Takes reports of a service's instances in; how many name none that is registered.
    ///
    /// # Errors
    /// `BadArguments` and `TooLarge` by field, and `NoAuth` for an instance that the caller may not
    /// change: nothing is taken in then. `Overloaded` if too many instances report.
    pub fn report(
        &self,
        service: &ServiceName,
        reports: Vec<Report>,
        identities: &[Identity],
    ) -> Result<u32, Error> {
        for report in &reports {
            check_label("reports.instance_id", &report.id)?;
            check_range("reports.load", report.load.unwrap_or(0).into(), 0, LOAD_MAX.into())?;
            if let Some((_, reason)) = &report.health {
                check_text("reports.reason", reason, TEXT_BYTES_MAX)?;
            }
        }
        let current = self.service(service);
        let given = reports.len();
        let known = reports.into_iter().filter_map(|report| Some((current.entry(&report.id)?, report)));
        let known: Vec<(&Arc<Entry>, Report)> = known.collect();
        for (entry, report) in &known {
            if report.health.is_some() && entry.instance.check.is_some() {
                let detail = format!("reports.health: instance {} is checked by the cluster", report.id);
                return Err(Error::new(ErrorKind::BadArguments, detail));
            }
        }
        // Judged again when it is written; but what waits is not anybody's to displace.
        self.shared.local.with_state(|state| {
            known.iter().try_for_each(|(_, report)| {
                let path = service.instance_path(&report.id);
                match may_change(state, &path, identities) {
                    true => Ok(()),
                    false => Err(Error::new(ErrorKind::NoAuth, path)),
                }
            })
        })?;
        let unknown = given - known.len();
        let identities: Arc<[Identity]> = identities.into();
        for (entry, report) in known {
            self.gather(service, entry, report, &identities)?;
        }
        Ok(u32::try_from(unknown).unwrap_or(u32::MAX))
    }

    fn gather(
        &self,
        service: &ServiceName,
        entry: &Entry,
        report: Report,
        identities: &Arc<[Identity]>,
    ) -> Result<(), Error> {
        let key = (service.clone(), report.id.clone());
        let mut waiting = self.shared.reports.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = changed(&entry.instance, &report.health, report.load).is_some();
        if !waiting.contains_key(&key) {
            if !is_news {
                return Ok(());
            }
            if waiting.len() >= REPORTED_MAX {
                let detail = format!("{REPORTED_MAX} instances have reports that wait");
                return Err(Error::new(ErrorKind::Overloaded, detail));
            }
        }
        let waits = waiting.entry(key).or_default();
        waits.begin(entry.registered);
        waits.health = report.health.or(waits.health.take());
        waits.load = report.load.or(waits.load);
        waits.identities = identities.clone();
        Ok(())
    }

    /// Lets what could not be written wait again, behind newer news. What there is no room for is lost.
    fn put_back(&self, due: &Due) {
        let key = (due.service.clone(), due.id.clone());
        let mut waiting = self.shared.reports.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.contains_key(&key) && waiting.len() >= REPORTED_MAX {
            return;
        }
        let waits = waiting.entry(key).or_insert_with(|| Waiting {
            registered: due.registered,
            identities: due.identities.clone(),
            ..Waiting::default()
        });
        if waits.registered == due.registered {
            waits.health = waits.health.take().or_else(|| due.health.clone());
            waits.load = waits.load.or(due.load);
        }
    }

    /// Writes what is due, for as long as the member lives.
    pub async fn run_reports(self) {
        loop {
            sleep(TICK).await;
            let due = self.take_due();
            for some in due.chunks(WRITES) {
                join_all(some.iter().map(|due| self.write_report(due))).await;
            }
        }
    }

    fn take_due(&self) -> Vec<Due> {
        let now = Instant::now();
        let mut waiting = self.shared.reports.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        waiting.retain(|(service, id), waiting| {
            if waiting.is_due(now) {
                let (health, load) = (waiting.health.take(), waiting.load.take());
                if health.is_some() {
                    waiting.health_written = Some(now);
                }
                if load.is_some() {
                    waiting.load_written = Some(now);
                }
                let (registered, identities) = (waiting.registered, waiting.identities.clone());
                let (service, id) = (service.clone(), id.clone());
                due.push(Due { service, id, registered, health, load, identities });
            }
            !waiting.is_idle(now)
        });
        due
    }

    async fn write_report(&self, due: &Due) {
        let news = |entry: &Entry| {
            let is_same = entry.registered == due.registered;
            is_same.then(|| changed(&entry.instance, &due.health, due.load)).flatten()
        };
        let current = self.service(&due.service);
        if current.entry(&due.id).and_then(|entry| news(entry)).is_none() {
            return;
        }
        let change = |entry: &Entry| {
            news(entry).map(|instance| registration::change(&due.service, entry, &instance)).transpose()
        };
        let Err(error) = self.change_entry(&due.service, &due.id, &due.identities, change).await else {
            return;
        };
        let (service, instance) = (&due.service, &due.id);
        if may_be_written_later(error.kind) {
            tracing::debug!(%service, instance, %error, "a report could not be written yet");
            self.put_back(due);
        } else if error.kind != ErrorKind::NoNode {
            tracing::warn!(%service, instance, %error, "a report was refused and is dropped");
        }
    }
}

/// Whether the same report may succeed later. A race that was lost again and again is lost to others'
/// changes of the same record; after an unknown outcome what stands is looked at first.
fn may_be_written_later(kind: ErrorKind) -> bool {
    use ErrorKind::{BadVersion, GuardFailed, OutcomeUnknown};
    kind.is_retryable() || matches!(kind, OutcomeUnknown | BadVersion | GuardFailed)
}

/// Whether an instance's record may be changed by these: WRITE, and READ for what the write names. True
/// for one that is gone meanwhile.
fn may_change(state: &State, path: &str, identities: &[Identity]) -> bool {
    let all = [superuser()];
    let caller = Caller { identities: &all, session: None };
    match state.read(&ReadRequest::GetAcl { path: path.into() }, &caller) {
        Ok(ReadResult::Acl { acl, .. }) => {
            [Permissions::READ, Permissions::WRITE].iter().all(|wanted| permits(&acl, *wanted, identities))
        }
        _ => true,
    }
}

struct Due {
    service: ServiceName,
    id: String,
    registered: Zxid,
    health: Option<(Health, String)>,
    load: Option<u32>,
    identities: Arc<[Identity]>,
}

/// The record with what was reported, if that says anything new.
fn changed(instance: &Instance, health: &Option<(Health, String)>, load: Option<u32>) -> Option<Instance> {
    let mut new = instance.clone();
    if let Some((health, reason)) = health {
        (new.health, new.reason) = (*health, reason.clone());
    }
    new.load = load.or(new.load);
    (new != *instance).then_some(new)
}
