//! Figures: what a workload gives, and the meter that takes them.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cluster::processes;

/// One row of the report. What a workload does not measure is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// What was measured.
    pub label: String,
    /// Operations a second.
    pub throughput: Option<f64>,
    /// Median time of an operation, in µs.
    pub p50: Option<f64>,
    /// 99th percentile, in µs.
    pub p99: Option<f64>,
    /// 99.9th percentile, in µs.
    pub p999: Option<f64>,
    /// CPU time of all servers together an operation, in µs.
    pub server_cpu: Option<f64>,
    /// CPU time of this process an operation, in µs.
    pub client_cpu: Option<f64>,
    /// Resident memory of the largest server, in MiB.
    pub resident: Option<f64>,
}

impl Figures {
    /// Nothing but a label.
    pub fn named(label: impl Into<String>) -> Figures {
        Figures { label: label.into(), ..Figures::default() }
    }

    /// With times in µs.
    pub fn with_times(mut self, times: &Histogram<u64>) -> Figures {
        if !times.is_empty() {
            let at = |quantile| Some(times.value_at_quantile(quantile) as f64);
            (self.p50, self.p99, self.p999) = (at(0.5), at(0.99), at(0.999));
        }
        self
    }
}

/// An empty histogram of µs with three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are among those allowed")
}

/// Counts CPU time from its start on.
pub struct Meter {
    pids: Vec<u32>,
    servers: u64,
    client: u64,
    started: Instant,
}

impl Meter {
    /// Starts.
    pub fn start(pids: &[u32]) -> Meter {
        let client = processes::cpu_micros(&[std::process::id()]);
        Meter { pids: pids.to_vec(), servers: processes::cpu_micros(pids), client, started: Instant::now() }
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Ends: so many operations have been done since the start.
    pub fn finish(self, label: impl Into<String>, operations: u64) -> Figures {
        let each = |micros: u64| (operations > 0).then(|| micros as f64 / operations as f64);
        let elapsed = self.started.elapsed().as_secs_f64();
        let client = processes::cpu_micros(&[std::process::id()]);
        let servers = processes::cpu_micros(&self.pids).saturating_sub(self.servers);
        Figures {
            label: label.into(),
            throughput: Some(operations as f64 / elapsed),
            server_cpu: each(servers).filter(|_| !self.pids.is_empty()),
            client_cpu: each(client.saturating_sub(self.client)),
            resident: processes::resident_mib(&self.pids),
            ..Figures::default()
        }
    }
}
