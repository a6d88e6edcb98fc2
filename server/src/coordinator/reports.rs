//! What instances say of themselves: gathered here, written when it matters.
//!
//! A report costs no write of its own. An instance's record changes when its health does, at most
//! once in [`HEALTH_PACE`], and for its load at most once in [`LOAD_PACE`]; of what comes between,
//! the last counts. So an instance that flaps a hundred times a second is written once a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use quorate_core::acl::Identity;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::registry::instance::{LOAD_MAX, TEXT_BYTES_MAX};
use quorate_core::registry::names::{check_label, check_range, check_text};
use quorate_core::registry::{Entry, Health, Instance, ServiceName, registration};
use tokio::time::{Instant, sleep};

use super::Coordinator;

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
    health: Option<(Health, String)>,
    load: Option<u32>,
    identities: Vec<Identity>,
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
    /// `BadArguments` and `TooLarge` by field; `Overloaded` if too many instances report.
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
        let mut unknown = 0;
        for report in reports {
            let Some(entry) = current.entry(&report.id) else {
                unknown += 1;
                continue;
            };
            if report.health.is_some() && entry.instance.check.is_some() {
                let detail = format!("reports.health: instance {} is checked by the cluster", report.id);
                return Err(Error::new(ErrorKind::BadArguments, detail));
            }
            self.gather(service, entry, report, identities)?;
        }
        Ok(unknown)
    }

    fn gather(
        &self,
        service: &ServiceName,
        entry: &Entry,
        report: Report,
        identities: &[Identity],
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
        let entry = waiting.entry(key).or_default();
        if report.health.is_some() {
            entry.health = report.health;
        }
        if report.load.is_some() {
            entry.load = report.load;
        }
        entry.identities = identities.to_vec();
        Ok(())
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
                let identities = waiting.identities.clone();
                due.push(Due { service: service.clone(), id: id.clone(), health, load, identities });
            }
            !waiting.is_idle(now)
        });
        due
    }

    async fn write_report(&self, due: &Due) {
        let Some(entry) = self.service(&due.service).entry(&due.id).cloned() else { return };
        if changed(&entry.instance, &due.health, due.load).is_none() {
            return;
        }
        let change = |entry: &Entry| {
            let instance = changed(&entry.instance, &due.health, due.load);
            instance.map(|instance| registration::change(&due.service, entry, &instance)).transpose()
        };
        let written = self.change_entry(&due.service, &due.id, &due.identities, change).await;
        if let Err(error) = written {
            tracing::debug!(service = %due.service, instance = due.id, %error, "a report was not written");
        }
    }
}

struct Due {
    service: ServiceName,
    id: String,
    health: Option<(Health, String)>,
    load: Option<u32>,
    identities: Vec<Identity>,
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
