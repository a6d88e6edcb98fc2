//! Network namespaces and what is in them, by iproute2's `ip`.
//!
//! Their names carry the port block of the cluster that made them, and a cluster locks its block for
//! as long as it lives: a namespace whose block nobody has locked is left over from a harness that
//! was killed, and the next one removes it. Cards need no such care: they go with their process.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use super::super::ClusterError;
use super::super::ports;

const PREFIX: &str = "quorate-jepsen-";

/// A namespace's name.
pub(super) fn name(block: u16, place: u8) -> String {
    format!("{PREFIX}{block}-{place}")
}

/// A namespace; dropping it removes it.
#[derive(Debug)]
pub(super) struct Namespace(String);

impl Namespace {
    pub(super) fn create(name: String) -> Result<Namespace, ClusterError> {
        ip(&["netns", "add", &name], "")?;
        Ok(Namespace(name))
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// Moves a card into it.
    pub(super) fn take(&self, card: &str) -> Result<(), ClusterError> {
        ip(&["link", "set", card, "netns", &self.0], "")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.0], "") {
            eprintln!("{error}");
        }
    }
}

/// Whether namespaces and cards can be had here; if not, why.
pub fn are_possible() -> Result<(), String> {
    let probe = format!("{PREFIX}probe-{}", std::process::id());
    let namespace = Namespace::create(probe).map_err(|error| error.to_string())?;
    drop(namespace);
    tap_device::open(&format!("qjprobe{}", std::process::id() % 100_000))
        .map(drop)
        .map_err(|error| format!("/dev/net/tun: {error}"))
}

/// Removes what harnesses left that were killed: whatever carries a block that nobody has locked,
/// and everything of `own`, which the caller has locked.
pub(super) fn sweep(own: u16) {
    let Ok(listed) = Command::new("ip").args(["netns", "list"]).output() else { return };
    let mut blocks: Vec<(u16, String)> = String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter_map(|name| {
            let block = name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
            Some((block, name.to_owned()))
        })
        .collect();
    blocks.sort_unstable();
    for (block, name) in blocks {
        // Locked while we remove: a new cluster cannot take the block meanwhile.
        let lock = if block == own { None } else { ports::try_lock(block) };
        if block == own || lock.is_some() {
            drop(Namespace(name));
        }
    }
}

/// Gives a card its addresses and everybody else's, and switches it on. Nobody asks who has an
/// address: a question lost in a fault would be mistaken for the fault's own work.
pub(super) fn configure(
    namespace: Option<&str>,
    card: &str,
    place: u8,
    address: impl Fn(u8) -> Ipv4Addr,
) -> Result<(), ClusterError> {
    let mut batch = format!("link set dev {card} address {}\n", hardware_address(place));
    if namespace.is_some() {
        batch.push_str("link set dev lo up\n");
    }
    batch.push_str(&format!("addr add {}/25 dev {card}\nlink set dev {card} up\n", address(place)));
    for other in (1..=super::HARNESS).filter(|other| *other != place) {
        let (address, hardware) = (address(other), hardware_address(other));
        batch.push_str(&format!("neigh add {address} lladdr {hardware} nud permanent dev {card}\n"));
    }
    match namespace {
        Some(namespace) => ip(&["-n", namespace, "-batch", "-"], &batch),
        None => ip(&["-batch", "-"], &batch),
    }
}

/// The last byte is the place: the switch reads nothing else.
fn hardware_address(place: u8) -> String {
    format!("02:51:4a:00:00:{place:02x}")
}

fn ip(arguments: &[&str], input: &str) -> Result<(), ClusterError> {
    let failed = |reason: String| ClusterError::Network(format!("ip {}: {reason}", arguments.join(" ")));
    let mut child = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that reads nothing closes its end; its status says whether that matters.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
