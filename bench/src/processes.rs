//! What the kernel tells of the servers: CPU time and resident memory.

/// Clock ticks a second, as every Linux of today counts process times.
const TICKS: u64 = 100;

/// User and system time of these processes together, in microseconds.
pub fn cpu_micros(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| ticks(*pid)).sum::<u64>() * (1_000_000 / TICKS)
}

/// Resident memory of these processes together, in MiB.
pub fn resident_mib(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| resident_kib(*pid)).sum::<u64>() / 1024
}

fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find(|line| line.starts_with("VmRSS:"))?.split_whitespace().nth(1)?.parse().ok()
}
