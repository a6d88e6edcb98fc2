//! A member's configuration: a TOML file, environment variables and flags, in rising precedence.
//!
//! Every key exists in all three forms: `client_listen` in the file is `QUORATE_CLIENT_LISTEN` in
//! the environment and `--client-listen` on the command line. `quorated config --print-default`
//! shows the commented file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorate_core::id::MemberId;
use serde::Deserialize;

use crate::check_targets::CheckTargets;
use crate::limits::Limits;
use crate::replica::types::MemberAddress;
use crate::tls::{ClientAuth, TlsFiles};

/// A configuration that cannot be used; says which key and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML of ours.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A key's value makes no sense.
    #[error("{key}: {reason}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// Why, and what would do.
        reason: String,
    },
}

/// Settings as a file, the environment or flags give them: each may be absent.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// This member's id: 1 or more, never reused.
    #[arg(long, env = "QUORATE_MEMBER_ID")]
    pub member_id: Option<u64>,
    /// Where this member keeps its data.
    #[arg(long, env = "QUORATE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The members that found the cluster: `ID=PEER_HOST:PORT/CLIENT_HOST:PORT`, comma-separated.
    /// Every founding member lists the same ones.
    #[arg(long, env = "QUORATE_INITIAL_CLUSTER")]
    pub initial_cluster: Option<String>,
    /// Start with an empty data directory as a new member of a running cluster (after `cluster add`
    /// or `cluster replace`), not as a founder.
    #[arg(long, env = "QUORATE_JOIN", num_args = 0..=1, default_missing_value = "true")]
    pub join: Option<bool>,
    /// The cluster's name: members of differently named clusters refuse each other.
    #[arg(long, env = "QUORATE_CLUSTER_NAME")]
    pub cluster_name: Option<String>,
    /// Where clients connect (gRPC).
    #[arg(long, env = "QUORATE_CLIENT_LISTEN")]
    pub client_listen: Option<String>,
    /// Where other members connect.
    #[arg(long, env = "QUORATE_PEER_LISTEN")]
    pub peer_listen: Option<String>,
    /// Where metrics and health are served.
    #[arg(long, env = "QUORATE_HTTP_LISTEN")]
    pub http_listen: Option<String>,
    /// Where ZooKeeper clients connect; no ZooKeeper door if absent.
    #[arg(long, env = "QUORATE_ZOOKEEPER_LISTEN")]
    pub zookeeper_listen: Option<String>,
    /// Where ZooKeeper clients connect with TLS; needs `tls_certificate` and `tls_key`.
    #[arg(long, env = "QUORATE_ZOOKEEPER_TLS_LISTEN")]
    pub zookeeper_tls_listen: Option<String>,
    /// Connections of ZooKeeper clients from one address, at most.
    #[arg(long, env = "QUORATE_ZOOKEEPER_CONNECTIONS")]
    pub zookeeper_connections: Option<usize>,
    /// Whether ZooKeeper clients may change the members by reconfig.
    #[arg(long, env = "QUORATE_ZOOKEEPER_RECONFIG", num_args = 0..=1, default_missing_value = "true")]
    pub zookeeper_reconfig: Option<bool>,
    /// This member's certificate chain, as PEM.
    #[arg(long, env = "QUORATE_TLS_CERTIFICATE")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key, as PEM.
    #[arg(long, env = "QUORATE_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// The authorities of clients' certificates, as PEM.
    #[arg(long, env = "QUORATE_TLS_CLIENT_CA")]
    pub tls_client_ca: Option<PathBuf>,
    /// Whether clients show a certificate with TLS.
    #[arg(long, env = "QUORATE_TLS_CLIENT_AUTH", value_enum)]
    pub tls_client_auth: Option<ClientAuth>,
    /// What other members call to reach this one; the peer address listened on by default.
    #[arg(long, env = "QUORATE_PEER_ADVERTISE")]
    pub peer_advertise: Option<String>,
    /// What clients are told to call to reach this one; the client address listened on by default.
    #[arg(long, env = "QUORATE_CLIENT_ADVERTISE")]
    pub client_advertise: Option<String>,
    /// Milliseconds between a leader's heartbeats.
    #[arg(long, env = "QUORATE_HEARTBEAT_MS")]
    pub heartbeat_ms: Option<u64>,
    /// Milliseconds without a leader before an election: the lower bound.
    #[arg(long, env = "QUORATE_ELECTION_MIN_MS")]
    pub election_min_ms: Option<u64>,
    /// The upper bound; also how long followers honour a silent leader.
    #[arg(long, env = "QUORATE_ELECTION_MAX_MS")]
    pub election_max_ms: Option<u64>,
    /// Shortest session timeout granted, in milliseconds.
    #[arg(long, env = "QUORATE_SESSION_TIMEOUT_MIN_MS")]
    pub session_timeout_min_ms: Option<u32>,
    /// Longest session timeout granted, in milliseconds.
    #[arg(long, env = "QUORATE_SESSION_TIMEOUT_MAX_MS")]
    pub session_timeout_max_ms: Option<u32>,
    /// Bytes of one znode's data, at most.
    #[arg(long, env = "QUORATE_ZNODE_BYTES")]
    pub znode_bytes: Option<usize>,
    /// Bytes of one request or transaction, at most.
    #[arg(long, env = "QUORATE_REQUEST_BYTES")]
    pub request_bytes: Option<usize>,
    /// Operations of one transaction, at most.
    #[arg(long, env = "QUORATE_TRANSACTION_OPERATIONS")]
    pub transaction_operations: Option<usize>,
    /// Networks that health checks may connect to, comma-separated, such as `10.0.0.0/8,fd00::/8`;
    /// empty: no checks. If absent: all but loopback, link-local, multicast and broadcast addresses,
    /// and loopback too while clients connect on loopback only.
    #[arg(long, env = "QUORATE_CHECK_TARGETS")]
    pub check_targets: Option<String>,
    /// Megabytes of log after which a checkpoint is written.
    #[arg(long, env = "QUORATE_CHECKPOINT_LOG_MB")]
    pub checkpoint_log_mb: Option<u64>,
    /// Seconds after which a checkpoint is written if anything changed.
    #[arg(long, env = "QUORATE_CHECKPOINT_SECONDS")]
    pub checkpoint_seconds: Option<u64>,
    /// Megabytes of free disk below which writes are refused and the leadership is handed over.
    #[arg(long, env = "QUORATE_DISK_RESERVE_MB")]
    pub disk_reserve_mb: Option<u64>,
    /// `user:base64(sha1(user:password))` of the superuser, who bypasses all ACLs.
    #[arg(long, env = "QUORATE_SUPER_DIGEST", hide_env_values = true)]
    pub super_digest: Option<String>,
    /// Log as JSON lines.
    #[arg(long, env = "QUORATE_LOG_JSON", num_args = 0..=1, default_missing_value = "true")]
    pub log_json: Option<bool>,
}

/// A member's configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub member: MemberId,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// The founders, this member among them; empty for a member that joins.
    pub founders: BTreeMap<u64, MemberAddress>,
    /// Whether an empty data directory is a new member's, not a founder's.
    pub join: bool,
    /// The cluster's name.
    pub cluster_name: String,
    /// Where clients connect.
    pub client_listen: String,
    /// Where members connect.
    pub peer_listen: String,
    /// Where metrics and health are served.
    pub http_listen: String,
    /// Where ZooKeeper clients connect, if they do.
    pub zookeeper_listen: Option<String>,
    /// Where they connect with TLS, and with which certificate.
    pub zookeeper_tls: Option<(String, TlsFiles)>,
    /// Their connections from one address, at most.
    pub zookeeper_connections: usize,
    /// Whether they may change the members.
    pub zookeeper_reconfig: bool,
    /// What others are told.
    pub advertise: MemberAddress,
    /// Raft's timing.
    pub timing: Timing,
    /// Admission limits.
    pub limits: Limits,
    /// When checkpoints are written.
    pub checkpoints: Checkpoints,
    /// Free bytes of disk to keep.
    pub disk_reserve_bytes: u64,
    /// The superuser's digest.
    pub super_digest: Option<SecretDigest>,
}

/// A credential's digest: shows nothing when printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretDigest(pub String);

impl std::fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretDigest(…)")
    }
}

/// Raft's timing: see docs/decisions/ for why these.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Between a leader's heartbeats.
    pub heartbeat: Duration,
    /// Without a leader before an election: from.
    pub election_min: Duration,
    /// To; also the lease that followers grant a silent leader.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            heartbeat: Duration::from_millis(50),
            election_min: Duration::from_millis(150),
            election_max: Duration::from_millis(250),
        }
    }
}

/// When checkpoints are written.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoints {
    /// After so many bytes of log.
    pub log_bytes: u64,
    /// After this long, if anything changed.
    pub interval: Duration,
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints { log_bytes: 64 << 20, interval: Duration::from_secs(60) }
    }
}

impl Settings {
    /// Reads a settings file.
    pub fn read(path: &Path) -> Result<Settings, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Malformed { path: path.into(), reason: error.to_string() })
    }

    /// These settings, with `base` where they are silent.
    pub fn or(self, base: Settings) -> Settings {
        Settings {
            member_id: self.member_id.or(base.member_id),
            data_dir: self.data_dir.or(base.data_dir),
            initial_cluster: self.initial_cluster.or(base.initial_cluster),
            join: self.join.or(base.join),
            cluster_name: self.cluster_name.or(base.cluster_name),
            client_listen: self.client_listen.or(base.client_listen),
            peer_listen: self.peer_listen.or(base.peer_listen),
            http_listen: self.http_listen.or(base.http_listen),
            zookeeper_listen: self.zookeeper_listen.or(base.zookeeper_listen),
            zookeeper_tls_listen: self.zookeeper_tls_listen.or(base.zookeeper_tls_listen),
            zookeeper_connections: self.zookeeper_connections.or(base.zookeeper_connections),
            zookeeper_reconfig: self.zookeeper_reconfig.or(base.zookeeper_reconfig),
            tls_certificate: self.tls_certificate.or(base.tls_certificate),
            tls_key: self.tls_key.or(base.tls_key),
            tls_client_ca: self.tls_client_ca.or(base.tls_client_ca),
            tls_client_auth: self.tls_client_auth.or(base.tls_client_auth),
            peer_advertise: self.peer_advertise.or(base.peer_advertise),
            client_advertise: self.client_advertise.or(base.client_advertise),
            heartbeat_ms: self.heartbeat_ms.or(base.heartbeat_ms),
            election_min_ms: self.election_min_ms.or(base.election_min_ms),
            election_max_ms: self.election_max_ms.or(base.election_max_ms),
            session_timeout_min_ms: self.session_timeout_min_ms.or(base.session_timeout_min_ms),
            session_timeout_max_ms: self.session_timeout_max_ms.or(base.session_timeout_max_ms),
            znode_bytes: self.znode_bytes.or(base.znode_bytes),
            request_bytes: self.request_bytes.or(base.request_bytes),
            transaction_operations: self.transaction_operations.or(base.transaction_operations),
            check_targets: self.check_targets.or(base.check_targets),
            checkpoint_log_mb: self.checkpoint_log_mb.or(base.checkpoint_log_mb),
            checkpoint_seconds: self.checkpoint_seconds.or(base.checkpoint_seconds),
            disk_reserve_mb: self.disk_reserve_mb.or(base.disk_reserve_mb),
            super_digest: self.super_digest.or(base.super_digest),
            log_json: self.log_json.or(base.log_json),
        }
    }

    /// Completes and checks the settings.
    ///
    /// # Errors
    /// Names the key and what would do.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let member = match self.member_id {
            Some(0) => return Err(invalid("member_id", "0 is reserved; take 1 or more")),
            Some(id) => MemberId(id),
            None => return Err(invalid("member_id", "missing; give each member its own number from 1")),
        };
        let data_dir = self.data_dir.ok_or_else(|| invalid("data_dir", "missing; name a directory"))?;
        let client_listen = self.client_listen.unwrap_or_else(|| "127.0.0.1:7400".into());
        let peer_listen = self.peer_listen.unwrap_or_else(|| "127.0.0.1:7401".into());
        let http_listen = self.http_listen.unwrap_or_else(|| "127.0.0.1:7480".into());
        let advertise = MemberAddress {
            name: format!("member-{member}"),
            peer: self.peer_advertise.unwrap_or_else(|| peer_listen.clone()),
            client: self.client_advertise.unwrap_or_else(|| client_listen.clone()),
            http: http_listen.clone(),
        };
        let join = self.join.unwrap_or(false);
        let mut founders = match &self.initial_cluster {
            Some(text) => parse_founders(text)?,
            None => BTreeMap::new(),
        };
        if founders.is_empty() && !join {
            founders.insert(member.0, advertise.clone());
        }
        if !join && !founders.contains_key(&member.0) {
            return Err(invalid(
                "initial_cluster",
                format!("does not name member {member}; add it, or set join = true for a new member"),
            ));
        }
        let defaults = Timing::default();
        let timing = Timing {
            heartbeat: self.heartbeat_ms.map_or(defaults.heartbeat, Duration::from_millis),
            election_min: self.election_min_ms.map_or(defaults.election_min, Duration::from_millis),
            election_max: self.election_max_ms.map_or(defaults.election_max, Duration::from_millis),
        };
        if timing.heartbeat * 2 >= timing.election_min || timing.election_min >= timing.election_max {
            return Err(invalid(
                "election_min_ms",
                format!(
                    "needs 2 × heartbeat_ms < election_min_ms < election_max_ms; got {}, {}, {}",
                    timing.heartbeat.as_millis(),
                    timing.election_min.as_millis(),
                    timing.election_max.as_millis()
                ),
            ));
        }
        let check_targets = match &self.check_targets {
            Some(text) => CheckTargets::parse(text).map_err(|reason| invalid("check_targets", reason))?,
            None => {
                let mut doors = vec![&client_listen];
                doors.extend([&self.zookeeper_listen, &self.zookeeper_tls_listen].into_iter().flatten());
                CheckTargets::Usual { with_loopback: doors.into_iter().all(|door| is_loopback(door)) }
            }
        };
        let limits = Limits {
            check_targets,
            session_timeout_min_ms: self.session_timeout_min_ms.unwrap_or(4_000),
            session_timeout_max_ms: self.session_timeout_max_ms.unwrap_or(40_000),
            znode_bytes: self.znode_bytes.unwrap_or(1 << 20),
            request_bytes: self.request_bytes.unwrap_or(4 << 20),
            transaction_operations: self.transaction_operations.unwrap_or(10_000),
            ..Limits::default()
        };
        if limits.session_timeout_min_ms > limits.session_timeout_max_ms {
            return Err(invalid("session_timeout_min_ms", "is above session_timeout_max_ms"));
        }
        if limits.request_bytes > 64 << 20 || limits.znode_bytes > limits.request_bytes {
            return Err(invalid("request_bytes", "needs znode_bytes <= request_bytes <= 64 MiB"));
        }
        let checkpoints = Checkpoints {
            log_bytes: self.checkpoint_log_mb.map_or(Checkpoints::default().log_bytes, |mb| mb << 20),
            interval: self.checkpoint_seconds.map_or(Checkpoints::default().interval, Duration::from_secs),
        };
        let zookeeper_tls = match (self.zookeeper_tls_listen, self.tls_certificate, self.tls_key) {
            (None, certificate, key) => {
                let files = [
                    ("tls_certificate", certificate),
                    ("tls_key", key),
                    ("tls_client_ca", self.tls_client_ca),
                ];
                if let Some((key, _)) = files.into_iter().find(|(_, file)| file.is_some()) {
                    return Err(invalid(key, "is used by zookeeper_tls_listen only, which is not set"));
                }
                None
            }
            (Some(address), Some(certificate), Some(key)) => {
                let client_auth = self.tls_client_auth.unwrap_or_default();
                Some((address, TlsFiles { certificate, key, client_ca: self.tls_client_ca, client_auth }))
            }
            (Some(_), _, _) => {
                return Err(invalid("zookeeper_tls_listen", "needs tls_certificate and tls_key, as PEM"));
            }
        };
        Ok(Config {
            member,
            data_dir,
            founders,
            join,
            cluster_name: self.cluster_name.unwrap_or_else(|| "quorate".into()),
            client_listen,
            peer_listen,
            http_listen,
            zookeeper_listen: self.zookeeper_listen,
            zookeeper_tls,
            zookeeper_connections: self.zookeeper_connections.unwrap_or(60),
            zookeeper_reconfig: self.zookeeper_reconfig.unwrap_or(false),
            advertise,
            timing,
            limits,
            checkpoints,
            disk_reserve_bytes: self.disk_reserve_mb.unwrap_or(256) << 20,
            super_digest: self.super_digest.map(SecretDigest),
        })
    }
}

/// Whether only this machine's own processes can connect to `host:port`.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

/// Parses `1=peer/client,2=peer/client`.
fn parse_founders(text: &str) -> Result<BTreeMap<u64, MemberAddress>, ConfigError> {
    let mut founders = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let parsed = part.split_once('=').and_then(|(id, addresses)| {
            let id: u64 = id.trim().parse().ok().filter(|id| *id > 0)?;
            let (peer, client) = addresses.split_once('/')?;
            Some((id, peer.trim().to_owned(), client.trim().to_owned()))
        });
        let Some((id, peer, client)) = parsed else {
            return Err(invalid(
                "initial_cluster",
                format!("{part:?} is not ID=PEER_HOST:PORT/CLIENT_HOST:PORT"),
            ));
        };
        let address = MemberAddress { name: format!("member-{id}"), peer, client, http: String::new() };
        if founders.insert(id, address).is_some() {
            return Err(invalid("initial_cluster", format!("names member {id} twice")));
        }
    }
    Ok(founders)
}

fn invalid(key: &'static str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { key, reason: reason.into() }
}

/// The commented default file.
pub const DEFAULT_FILE: &str = include_str!("../quorate.default.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_is_valid_and_says_the_defaults() {
        let settings: Settings = toml::from_str(DEFAULT_FILE).expect("the default file parses");
        let config = settings.into_config().expect("and is complete");
        assert_eq!(config.client_listen, "127.0.0.1:7400");
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.timing.election_max, Timing::default().election_max);
    }

    #[test]
    fn checks_go_to_loopback_only_if_nobody_else_can_ask_for_them_or_the_operator_says_so() {
        let targets = |change: fn(&mut Settings)| {
            let mut settings: Settings = toml::from_str(DEFAULT_FILE).expect("parses");
            change(&mut settings);
            settings.into_config().map(|config| config.limits.check_targets)
        };
        let usual = |with_loopback| CheckTargets::Usual { with_loopback };
        assert_eq!(targets(|_| {}).expect("valid"), usual(true));
        let open = targets(|settings| settings.client_listen = Some("0.0.0.0:7400".into()));
        assert_eq!(open.expect("valid"), usual(false));
        let open = targets(|settings| settings.zookeeper_listen = Some("10.0.0.1:2181".into()));
        assert_eq!(open.expect("valid"), usual(false));
        let v6 = targets(|settings| settings.client_listen = Some("[::1]:7400".into()));
        assert_eq!(v6.expect("valid"), usual(true));
        let named = targets(|settings| settings.check_targets = Some("127.0.0.0/8".into()));
        assert_eq!(named.expect("valid"), CheckTargets::parse("127.0.0.0/8").expect("valid"));
        let error = targets(|settings| settings.check_targets = Some("10.0.0.0/40".into()));
        assert!(error.expect_err("no network").to_string().starts_with("check_targets: "));
    }

    #[test]
    fn a_certificate_that_no_door_would_use_is_refused_by_name() {
        for key in ["tls_certificate", "tls_key", "tls_client_ca"] {
            let file = format!("{key} = \"own.pem\"\n{DEFAULT_FILE}");
            let settings: Settings = toml::from_str(&file).expect("parses");
            let error = settings.into_config().map(|_| ()).expect_err("refused").to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
            assert!(error.contains("zookeeper_tls_listen"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = toml::from_str::<Settings>("data_dri = \"x\"").expect_err("a typo is no key");
        assert!(error.to_string().contains("data_dri"), "{error}");
    }

    #[test]
    fn a_founder_must_be_in_its_own_cluster() {
        let settings = Settings {
            member_id: Some(4),
            data_dir: Some("x".into()),
            initial_cluster: Some("1=a:1/b:1,2=a:2/b:2".into()),
            ..Settings::default()
        };
        let error = settings.into_config().expect_err("member 4 is not named");
        assert!(error.to_string().contains("does not name member 4"), "{error}");
    }
}
