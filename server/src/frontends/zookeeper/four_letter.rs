//! Four-letter words, in ZooKeeper's own text formats: what its operators' scripts and dashboards read.
//!
//! They answer on the client port without a session, before there is a quorum too. They show counts,
//! paths and session ids, never data.

use std::fmt::Write as _;
use std::sync::Arc;

use quorate_core::acl::Identity;
use quorate_core::id::SessionId;
use quorate_core::reply::ReadResult;
use quorate_core::request::ReadRequest;
use quorate_core::state::Caller;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use super::{Door, Listed, read_only};

/// The ZooKeeper whose protocol this door speaks, then our own version. The date is written as ZooKeeper did
/// until 3.6: the Go client reads no other.
const VERSION: &str = concat!("3.9.5-quorate-", env!("CARGO_PKG_VERSION"), ", built on 11/21/2026 00:00 UTC");

/// How long whoever asked may take to take the answer.
const TAKING: Duration = Duration::from_secs(10);

/// Answers a word and ends the connection; unknown words get nothing.
pub async fn answer(door: &Door, word: [u8; 4], mut writer: impl AsyncWrite + Unpin) {
    let answer = match &word {
        b"isro" => Some(if read_only::has_quorum(&door.coordinator).await { "rw" } else { "ro" }.into()),
        word => text(door, word),
    };
    let Some(text) = answer else { return };
    // Whoever asked may have gone, or may read nothing.
    let answering = async {
        writer.write_all(text.as_bytes()).await?;
        writer.shutdown().await
    };
    let _ = timeout(TAKING, answering).await;
}

fn text(door: &Door, word: &[u8; 4]) -> Option<String> {
    Some(match word {
        b"ruok" => "imok".into(),
        b"envi" => environment(),
        b"conf" => configuration(door),
        b"srvr" => server(door, None),
        b"stat" => server(door, Some(door.connections.all())),
        b"mntr" => monitor(door),
        b"cons" => consoles(door),
        b"dump" => dump(door),
        b"wchs" => watch_summary(door),
        b"wchc" => watches(door, true),
        b"wchp" => watches(door, false),
        b"dirs" => {
            format!("datadir_size: 0\nlogdir_size: {}\n", door.coordinator.replica().own_status().log_bytes)
        }
        b"crst" => {
            door.connections.all().iter().for_each(|client| client.traffic.reset());
            "Connection stats reset.\n".into()
        }
        b"srst" => {
            door.traffic.reset();
            "Server stats reset.\n".into()
        }
        _ => return None,
    })
}

/// `leader`, `follower`, `observer` or `standalone`; `None` without a leader.
fn mode(door: &Door) -> Option<&'static str> {
    let coordinator = &door.coordinator;
    let leader = coordinator.replica().leadership().borrow().leader?;
    let members = coordinator.replica().members();
    let is_voter = members.iter().any(|member| member.id == coordinator.member() && member.is_voter);
    Some(match (leader == coordinator.member(), members.len(), is_voter) {
        (true, 1, _) => "standalone",
        (true, _, _) => "leader",
        (false, _, true) => "follower",
        (false, _, false) => "observer",
    })
}

fn environment() -> String {
    format!(
        "Environment:\nzookeeper.version={VERSION}\nos.name={}\nos.arch={}\n",
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

fn configuration(door: &Door) -> String {
    let limits = door.coordinator.limits();
    format!(
        "serverId={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\n",
        door.coordinator.member(),
        door.connections.per_address_max,
        limits.session_timeout_min_ms,
        limits.session_timeout_max_ms
    )
}

const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

fn server(door: &Door, clients: Option<Vec<Listed>>) -> String {
    let Some(mode) = mode(door) else { return NOT_SERVING.into() };
    let mut text = format!("Zookeeper version: {VERSION}\n");
    if let Some(clients) = clients {
        text.push_str("Clients:\n");
        for client in clients {
            let counts = client.traffic.counts();
            let _ = writeln!(
                text,
                " /{}[1](queued={},recved={},sent={})",
                client.address,
                counts.received.saturating_sub(counts.sent),
                counts.received,
                counts.sent
            );
        }
        text.push('\n');
    }
    let sizes = door.coordinator.local().sizes();
    let counts = door.traffic.counts();
    let _ = write!(
        text,
        "Latency min/avg/max: {}/{:.1}/{}\nReceived: {}\nSent: {}\nConnections: {}\nOutstanding: {}\nZxid: {:#x}\nMode: {mode}\nNode count: {}\n",
        counts.latency_min,
        counts.latency_mean,
        counts.latency_max,
        counts.received,
        counts.sent,
        door.connections.all().len(),
        sizes.in_flight,
        door.coordinator.local().progress_now().zxid.0,
        sizes.state.znodes
    );
    text
}

fn monitor(door: &Door) -> String {
    let Some(mode) = mode(door) else { return NOT_SERVING.into() };
    let sizes = door.coordinator.local().sizes();
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "zk_{name}\t{value}");
    };
    line("version", &VERSION);
    line("server_state", &mode);
    let counts = door.traffic.counts();
    line("avg_latency", &format_args!("{:.4}", counts.latency_mean));
    line("min_latency", &counts.latency_min);
    line("max_latency", &counts.latency_max);
    line("packets_received", &counts.received);
    line("packets_sent", &counts.sent);
    line("num_alive_connections", &door.connections.all().len());
    line("outstanding_requests", &sizes.in_flight);
    line("znode_count", &sizes.state.znodes);
    line("watch_count", &sizes.watches.watches);
    line("ephemerals_count", &sizes.state.ephemerals);
    line("approximate_data_size", &sizes.state.data_bytes);
    line("global_sessions", &sizes.state.sessions);
    if mode == "leader" {
        let voters = door.coordinator.replica().members().iter().filter(|member| member.is_voter).count();
        line("followers", &(voters - 1));
        line("synced_followers", &door.coordinator.replica().matched_indexes().len().saturating_sub(1));
    }
    text
}

fn consoles(door: &Door) -> String {
    let mut text = String::new();
    for client in door.connections.all() {
        let counts = client.traffic.counts();
        let _ = writeln!(
            text,
            " /{}[1](queued={},recved={},sent={},sid={:#x},est={},to={},minlat={},avglat={:.1},maxlat={})",
            client.address,
            counts.received.saturating_sub(counts.sent),
            counts.received,
            counts.sent,
            client.session.0,
            client.since.elapsed().as_millis(),
            client.timeout_ms,
            counts.latency_min,
            counts.latency_mean,
            counts.latency_max
        );
    }
    text
}

fn dump(door: &Door) -> String {
    let local = door.coordinator.local();
    let superuser = [Identity { scheme: Identity::SUPER.into(), id: String::new() }];
    let (sessions, ephemerals) = local.with_state(|state| {
        let sessions: Vec<SessionId> = state.sessions().map(|view| view.session).collect();
        let request = ReadRequest::Ephemerals { prefix: String::new() };
        let mut ephemerals = Vec::new();
        for session in &sessions {
            let caller = Caller { identities: &superuser, session: Some(*session) };
            if let Ok(ReadResult::Ephemerals(paths)) = state.read(&request, &caller)
                && !paths.is_empty()
            {
                ephemerals.push((*session, paths));
            }
        }
        (sessions, ephemerals)
    });
    let mut text = format!("SessionTracker dump:\nSession Sets (1)/({}):\n", sessions.len());
    for session in sessions {
        let _ = writeln!(text, "\t{:#x}", session.0);
    }
    let _ = writeln!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({}):", ephemerals.len());
    for (session, paths) in ephemerals {
        let _ = writeln!(text, "{:#x}:", session.0);
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text
}

fn watch_summary(door: &Door) -> String {
    let by_session = door.coordinator.local().watches_by_session();
    let paths: std::collections::BTreeSet<&Arc<str>> =
        by_session.iter().flat_map(|(_, paths)| paths).collect();
    format!(
        "{} connections watching {} paths\nTotal watches:{}\n",
        by_session.len(),
        paths.len(),
        door.coordinator.local().sizes().watches.watches
    )
}

fn watches(door: &Door, by_session: bool) -> String {
    let mut groups: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for (session, paths) in door.coordinator.local().watches_by_session() {
        for path in paths {
            let (head, line) = (format!("{:#x}", session.0), path.to_string());
            let (head, line) = if by_session { (head, line) } else { (line, head) };
            groups.entry(head).or_default().push(line);
        }
    }
    let mut text = String::new();
    for (head, lines) in groups {
        let _ = writeln!(text, "{head}");
        for line in lines {
            let _ = writeln!(text, "\t{line}");
        }
    }
    text
}
