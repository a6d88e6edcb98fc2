//! The member's meters, in Prometheus' terms. Rooms observe; http shows.
//!
//! Latencies are histograms in seconds; sizes are gauges set just before they are shown.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry, TextEncoder,
};

/// All meters of one member. Cheap to clone: the meters are shared.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    /// From a unary write's arrival to its apply here.
    pub proposal: Histogram,
    /// One group of log entries written and synced.
    pub fsync: Histogram,
    /// One log entry applied.
    pub apply: Histogram,
    /// A unary read, its barrier included.
    pub read: Histogram,
    /// Taking a batch of replies and events to a client's socket.
    pub delivery: Histogram,
    /// Commands in one log entry.
    pub commands_an_entry: Histogram,
    /// Commands proposed by this member as leader.
    pub commands_proposed: IntCounter,
    /// Gauges, set by [`Metrics::show`]'s caller.
    pub gauges: Gauges,
}

/// Sizes and positions.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// Sessions in the cluster.
    pub sessions: IntGauge,
    /// Sessions attached to this member.
    pub sessions_attached: IntGauge,
    /// Watches on this member.
    pub watches: IntGauge,
    /// Znodes.
    pub znodes: IntGauge,
    /// Bytes of znode data.
    pub data_bytes: IntGauge,
    /// Session writes not applied here yet.
    pub writes_in_flight: IntGauge,
    /// Commands waiting to be proposed.
    pub proposal_queue: IntGauge,
    /// Messages waiting for clients.
    pub outbox_messages: IntGauge,
    /// 1 if this member leads.
    pub is_leader: IntGauge,
    /// The Raft term.
    pub term: IntGauge,
    /// The last applied log index.
    pub applied_index: IntGauge,
    /// Committed entries not applied yet.
    pub apply_lag: IntGauge,
    /// The last transaction.
    pub zxid: IntGauge,
    /// Bytes of the log on disk.
    pub log_bytes: IntGauge,
    /// Resident memory of the process.
    pub resident_bytes: Gauge,
}

impl Metrics {
    /// Fresh meters in a registry of their own (members in one process don't mix).
    pub fn new() -> Metrics {
        let registry = Registry::new();
        Metrics {
            proposal: latency(&registry, "quorate_proposal_seconds", "Unary write, arrival to apply."),
            fsync: latency(
                &registry,
                "quorate_log_sync_seconds",
                "One group of log entries written and synced.",
            ),
            apply: latency(&registry, "quorate_apply_seconds", "One log entry applied to the state."),
            read: latency(&registry, "quorate_read_seconds", "Unary read, its barrier included."),
            delivery: latency(
                &registry,
                "quorate_delivery_seconds",
                "Turning a batch of replies and watch events into a frame for a client.",
            ),
            commands_an_entry: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("quorate_commands_per_entry", "Commands gathered into one log entry.")
                        .buckets(vec![
                            1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
                        ]),
                ),
            ),
            commands_proposed: register(
                &registry,
                IntCounter::new(
                    "quorate_commands_proposed_total",
                    "Commands proposed by this member as leader.",
                ),
            ),
            gauges: Gauges::new(&registry),
            registry,
        }
    }

    /// All meters in Prometheus' text format.
    pub fn show(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be encoded");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Gauges {
    fn new(registry: &Registry) -> Gauges {
        let gauge = |name: &str, help: &str| register(registry, IntGauge::new(name, help));
        Gauges {
            sessions: gauge("quorate_sessions", "Sessions in the cluster."),
            sessions_attached: gauge("quorate_sessions_attached", "Sessions attached to this member."),
            watches: gauge("quorate_watches", "Watches on this member."),
            znodes: gauge("quorate_znodes", "Znodes in the tree."),
            data_bytes: gauge("quorate_data_bytes", "Bytes of znode data."),
            writes_in_flight: gauge("quorate_writes_in_flight", "Session writes not applied here yet."),
            proposal_queue: gauge("quorate_proposal_queue", "Groups of commands waiting to be proposed."),
            outbox_messages: gauge("quorate_outbox_messages", "Messages waiting for clients of this member."),
            is_leader: gauge("quorate_is_leader", "1 if this member leads, else 0."),
            term: gauge("quorate_raft_term", "The Raft term."),
            applied_index: gauge("quorate_applied_index", "The last applied log index."),
            apply_lag: gauge("quorate_apply_lag", "Committed log entries not applied yet."),
            zxid: gauge("quorate_zxid", "The last transaction applied."),
            log_bytes: gauge("quorate_log_bytes", "Bytes of the log on disk."),
            resident_bytes: register(
                registry,
                Gauge::with_opts(Opts::new(
                    "process_resident_memory_bytes",
                    "Resident memory of the process.",
                )),
            ),
        }
    }
}

fn latency(registry: &Registry, name: &str, help: &str) -> Histogram {
    let buckets = vec![
        0.00001, 0.00003, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0,
        2.5, 10.0,
    ];
    register(registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
}

/// Names are constants of this file, each registered once: a failure is a programming error.
fn register<C: Collector + Clone + 'static>(registry: &Registry, meter: prometheus::Result<C>) -> C {
    let meter = meter.expect("meter names are valid constants");
    registry.register(Box::new(meter.clone())).expect("each meter has a name of its own");
    meter
}
