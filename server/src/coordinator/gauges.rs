//! Gauges: set from the rooms' sizes just before they are shown.

use super::Coordinator;

impl Coordinator {
    /// Brings every gauge up to date.
    pub fn refresh_gauges(&self) {
        let gauges = &self.shared.metrics.gauges;
        let sizes = self.shared.local.sizes();
        let status = self.shared.replica.own_status();
        gauges.sessions.set(sizes.state.sessions as i64);
        gauges.sessions_attached.set(sizes.attached as i64);
        gauges.watches.set(sizes.watches.watches as i64);
        gauges.znodes.set(sizes.state.znodes as i64);
        gauges.data_bytes.set(sizes.state.data_bytes as i64);
        gauges.writes_in_flight.set(sizes.in_flight as i64);
        gauges.outbox_messages.set(sizes.outbox_messages as i64);
        gauges.proposal_queue.set(self.shared.replica.proposal_queue_depth() as i64);
        gauges.is_leader.set(i64::from(status.leader == Some(status.member)));
        gauges.term.set(status.term as i64);
        gauges.applied_index.set(status.applied_index as i64);
        gauges
            .apply_lag
            .set(self.shared.replica.committed_index().saturating_sub(status.applied_index) as i64);
        gauges.zxid.set(status.zxid as i64);
        gauges.log_bytes.set(status.log_bytes as i64);
        if let Some(bytes) = resident_bytes() {
            gauges.resident_bytes.set(bytes as f64);
        }
    }
}

/// Resident memory of this process, where the kernel tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
