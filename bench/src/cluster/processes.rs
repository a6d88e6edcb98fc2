//! What the kernel tells of processes: CPU time and resident memory.

/// Clock ticks a second: Linux shows process times in hundredths on every architecture of today.
const TICKS: u64 = 100;

/// User and system time of these processes together, in microseconds. It counts in steps of
/// 10,000.
pub fn cpu_micros(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| ticks(*pid)).sum::<u64>() * (1_000_000 / TICKS)
}

/// Resident memory of the largest of these processes, in MiB.
pub fn resident_mib(pids: &[u32]) -> Option<f64> {
    let largest = pids.iter().filter_map(|pid| resident_kib(*pid)).max()?;
    Some(largest as f64 / 1024.0)
}

/// How many tasks wanted to run in the last minute; above the number of processors they waited.
pub fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Processor model and number, and the kernel's release.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {model}, Linux {}", kernel.trim())
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
