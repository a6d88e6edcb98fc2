//! ZooKeeper's `zoo.cfg` and `myid`, read as our settings: a member that replaces a ZooKeeper server
//! starts from the file that is there.
//!
//! `server.N=HOST:A:B` has two ports for servers among themselves; ours takes the first for members
//! and the second for gRPC clients, so that nothing new has to be opened. What has no meaning here is
//! named in a warning, never an error: those files hold many keys.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Settings};
use crate::tls::ClientAuth;

/// ZooKeeper's own default.
const TICK_MS: u32 = 2_000;
/// The cluster's name: such files have none.
const CLUSTER: &str = "zookeeper";
/// Where the data goes, inside `dataDir`: ZooKeeper's own files lie beside it.
const DATA: &str = "quorate";
/// Names the file to which ZooKeeper moves the `server.N` lines once they may change.
const DYNAMIC: &str = "dynamicConfigFile";

const KEY_STORE: &str = "ssl.keyStore.location";
const TRUST_STORE: &str = "ssl.trustStore.location";

/// These settings, with the file's where they are silent, and the keys that were left aside.
///
/// # Errors
/// Names the file and the key.
pub fn read(path: &Path, settings: Settings) -> Result<(Settings, Vec<String>), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
    let (base, ignored) = parse(&text, |path| std::fs::read_to_string(path))
        .map_err(|reason| ConfigError::Malformed { path: path.into(), reason })?;
    Ok(complete(settings, base, ignored))
}

/// `settings` with `base` where they are silent. If neither has a secure port the stores are left aside
/// like all that has no meaning here: ZooKeeper takes such a file, too.
fn complete(settings: Settings, base: Settings, mut ignored: Vec<String>) -> (Settings, Vec<String>) {
    if settings.zookeeper_tls_listen.is_some() || base.zookeeper_tls_listen.is_some() {
        return (settings.or(base), ignored);
    }
    let stores = [(KEY_STORE, &base.tls_certificate), (TRUST_STORE, &base.tls_client_ca)];
    let unused = stores.into_iter().filter(|(_, store)| store.is_some());
    ignored.extend(unused.map(|(key, _)| key.to_owned()));
    let base = Settings { tls_certificate: None, tls_key: None, tls_client_ca: None, ..base };
    (settings.or(base), ignored)
}

/// `open` gives the text of the files that this one leads to.
fn parse(text: &str, open: impl Fn(&Path) -> io::Result<String>) -> Result<(Settings, Vec<String>), String> {
    let mut file = File { keys: keys(text)? };
    let data_dir = file.take("dataDir").map(PathBuf::from).ok_or("dataDir is missing")?;
    let tick: u32 = file.number("tickTime")?.unwrap_or(TICK_MS);
    if let Some(path) = file.take(DYNAMIC) {
        file.add_dynamic(&path, &open)?;
    }
    let servers = file.servers()?;
    let my_id = data_dir.join("myid");
    let member = match (open(&my_id), servers.is_empty()) {
        // Images give a server that stands alone the id 1.
        (Ok(text), true) if text.trim() == "1" => Some(1),
        // Servers of one ensemble, each of them alone, would found as many clusters.
        (Ok(text), true) => {
            return Err(format!(
                "{} says {:?}, but no server.N names the members of its ensemble; add those lines (or \
                 {DYNAMIC}, if they are in a file of their own), or remove myid from a server that stands alone",
                my_id.display(),
                text.trim()
            ));
        }
        (Ok(text), false) => {
            let id = text.trim().parse::<u64>();
            Some(id.map_err(|_| format!("myid: {:?} is no number", text.trim()))?)
        }
        (Err(error), true) if error.kind() == io::ErrorKind::NotFound => Some(1),
        (Err(error), false) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("{} is missing", my_id.display()));
        }
        (Err(error), _) => return Err(format!("{}: {error}", my_id.display())),
    };
    let own = member.and_then(|member| servers.get(&member).cloned());
    if own.is_none() && !servers.is_empty() {
        return Err(format!("no server.{} for the id in myid", member.unwrap_or(0)));
    }
    let own_door = own.as_ref().and_then(|own| own.door.clone());
    let (own_address, own_port) = own_door.map_or((None, None), |(address, port)| (address, Some(port)));
    let port = file.take("clientPort").or(own_port);
    let address = file.take("clientPortAddress").or(own_address).unwrap_or_else(|| "0.0.0.0".into());
    let admin: Option<u16> = file.number("admin.serverPort")?;
    // There is no member without that door: a port that nobody knows stands for none.
    let is_admin_off =
        file.take("admin.enableServer").is_some_and(|value| value.eq_ignore_ascii_case("false"));
    let admin = if is_admin_off { Some(0) } else { admin };
    let secure = file.take("secureClientPort");
    let secure_address = file.take("secureClientPortAddress").unwrap_or_else(|| address.clone());
    // A PEM key store holds the key and the certificates in one file.
    let key_store = file.take(KEY_STORE).map(PathBuf::from);
    let client_auth = match file.take("ssl.clientAuth").as_deref() {
        None => None,
        Some("none") => Some(ClientAuth::None),
        Some("want") => Some(ClientAuth::Want),
        Some("need") => Some(ClientAuth::Need),
        Some(other) => return Err(format!("ssl.clientAuth = {other:?} is not none, want or need")),
    };
    let reconfig = file.take("reconfigEnabled").map(|value| value.eq_ignore_ascii_case("true"));
    let founders = servers.iter().map(|(id, server)| format!("{id}={}/{}", server.peer, server.client));
    let connections: Option<usize> = file.number("maxClientCnxns")?;
    let settings = Settings {
        member_id: member,
        data_dir: Some(data_dir.join(DATA)),
        initial_cluster: (!servers.is_empty()).then(|| founders.collect::<Vec<_>>().join(",")),
        cluster_name: Some(CLUSTER.into()),
        peer_listen: own.as_ref().map(|own| own.peer.clone()),
        client_listen: own.as_ref().map(|own| own.client.clone()),
        http_listen: admin.map(|port| format!("127.0.0.1:{port}")),
        zookeeper_listen: port.map(|port| format!("{address}:{port}")),
        zookeeper_tls_listen: secure.map(|port| format!("{secure_address}:{port}")),
        tls_certificate: key_store.clone(),
        tls_key: key_store,
        tls_client_ca: file.take(TRUST_STORE).map(PathBuf::from),
        tls_client_auth: client_auth,
        zookeeper_reconfig: reconfig,
        // 0 stands for no limit.
        zookeeper_connections: connections.map(|count| if count == 0 { usize::MAX } else { count }),
        session_timeout_min_ms: Some(file.number("minSessionTimeout")?.unwrap_or(2 * tick)),
        session_timeout_max_ms: Some(file.number("maxSessionTimeout")?.unwrap_or(20 * tick)),
        super_digest: file.take("superDigest"),
        ..Settings::default()
    };
    // About phases that we do not have.
    for key in ["initLimit", "syncLimit", "peerType", "4lw.commands.whitelist", "readonlymode.enabled"] {
        file.take(key);
    }
    Ok((settings, file.keys.into_keys().collect()))
}

fn keys(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.map(|line| {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not KEY=VALUE"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect()
}

struct File {
    keys: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Server {
    peer: String,
    client: String,
    /// For ZooKeeper clients: address, if there is one, and port.
    door: Option<(Option<String>, String)>,
}

impl File {
    fn take(&mut self, key: &str) -> Option<String> {
        self.keys.remove(key)
    }

    fn number<N: std::str::FromStr>(&mut self, key: &str) -> Result<Option<N>, String> {
        let Some(text) = self.take(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{key} = {text:?} is not a number that fits"))
    }

    /// The lines of the file that holds the members. Its path is taken as it is, like ZooKeeper does.
    fn add_dynamic(&mut self, path: &str, open: &impl Fn(&Path) -> io::Result<String>) -> Result<(), String> {
        if let Some(key) = self.keys.keys().find(|key| key.starts_with("server.")) {
            return Err(format!(
                "{key} stands beside {DYNAMIC}, which alone names servers; leave one of them"
            ));
        }
        let at = |reason: String| format!("{DYNAMIC} = {path:?}: {reason}");
        let text = open(Path::new(path)).map_err(|error| at(error.to_string()))?;
        let mut dynamic = keys(&text).map_err(at)?;
        // Of ZooKeeper's configuration; ours has its own.
        dynamic.remove("version");
        self.keys.extend(dynamic);
        Ok(())
    }

    /// The `server.N` lines of participants; an observer's stays among what is left aside.
    fn servers(&mut self) -> Result<BTreeMap<u64, Server>, String> {
        let lines: Vec<(String, String)> = self
            .keys
            .iter()
            .filter(|(key, _)| key.starts_with("server."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut servers = BTreeMap::new();
        for (key, value) in lines {
            let bad = || format!("{key} = {value:?} is not HOST:PORT:PORT[:ROLE][;[ADDRESS:]PORT]");
            let id: u64 = key["server.".len()..].parse().map_err(|_| bad())?;
            let (members, clients) = match value.split_once(';') {
                Some((members, clients)) => (members, Some(clients)),
                None => (value.as_str(), None),
            };
            let mut parts = members.rsplit(':').peekable();
            let role = parts.next_if(|part| part.parse::<u16>().is_err());
            let (second, first) = (parts.next().ok_or_else(bad)?, parts.next().ok_or_else(bad)?);
            let mut host: Vec<&str> = parts.collect();
            host.reverse();
            let host = host.join(":");
            if host.is_empty() || [first, second].iter().any(|port| port.parse::<u16>().is_err()) {
                return Err(bad());
            }
            if role == Some("observer") {
                continue;
            }
            self.take(&key);
            let door = clients.map(|clients| match clients.rsplit_once(':') {
                Some((address, port)) => (Some(address.trim().to_owned()), port.trim().to_owned()),
                None => (None, clients.trim().to_owned()),
            });
            let is_one = clients.is_none_or(|clients| !clients.contains(';'));
            if !is_one || door.as_ref().is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(bad());
            }
            let (peer, client) = (format!("{host}:{first}"), format!("{host}:{second}"));
            servers.insert(id, Server { peer, client, door });
        }
        Ok(servers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn files<'a>(files: &'a [(&str, &str)]) -> impl Fn(&Path) -> io::Result<String> + 'a {
        move |path| match files.iter().find(|(name, _)| Path::new(name) == path) {
            Some((_, text)) => Ok((*text).into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[test]
    fn a_usual_file_becomes_settings() {
        let text = "# three servers\ntickTime=1000\ndataDir=/data/zk\nclientPort=2181\ninitLimit=5\nsyncLimit=2\n\
                    maxClientCnxns=0\nadmin.enableServer=false\nadmin.serverPort=8080\nautopurge.purgeInterval=1\n\
                    server.1=a:2888:3888\nserver.2=b:2888:3888:participant;2181\nserver.3=c:2888:3888:observer\n";
        let (settings, ignored) = parse(text, files(&[("/data/zk/myid", "2\n")])).expect("parses");
        assert_eq!(settings.member_id, Some(2));
        assert_eq!(settings.data_dir, Some("/data/zk/quorate".into()));
        assert_eq!(settings.initial_cluster.as_deref(), Some("1=a:2888/a:3888,2=b:2888/b:3888"));
        assert_eq!(settings.peer_listen.as_deref(), Some("b:2888"));
        assert_eq!(settings.zookeeper_listen.as_deref(), Some("0.0.0.0:2181"));
        assert_eq!(settings.zookeeper_connections, Some(usize::MAX));
        assert_eq!(settings.http_listen.as_deref(), Some("127.0.0.1:0"));
        assert_eq!(
            (settings.session_timeout_min_ms, settings.session_timeout_max_ms),
            (Some(2000), Some(20000))
        );
        assert_eq!(ignored, ["autopurge.purgeInterval", "server.3"]);
        settings.into_config().expect("and is complete");
    }

    #[test]
    fn a_secure_port_takes_pem_stores() {
        let text = "dataDir=/d\nclientPort=2181\nsecureClientPort=2281\nreconfigEnabled=true\n\
                    ssl.keyStore.location=/tls/member.pem\nssl.trustStore.location=/tls/ca.pem\nssl.clientAuth=want\n";
        let (settings, ignored) = parse(text, files(&[])).expect("parses");
        assert!(ignored.is_empty());
        let config = settings.into_config().expect("and is complete");
        let (address, files) = config.zookeeper_tls.expect("a secure port");
        assert_eq!(address, "0.0.0.0:2281");
        assert_eq!((files.certificate, files.key), ("/tls/member.pem".into(), "/tls/member.pem".into()));
        assert_eq!((files.client_ca, files.client_auth), (Some("/tls/ca.pem".into()), ClientAuth::Want));
        assert!(config.zookeeper_reconfig);
    }

    #[test]
    fn stores_without_a_secure_port_are_left_aside_by_name() {
        let text = "dataDir=/d\nclientPort=2181\nssl.keyStore.location=/tls/own.pem\n\
                    ssl.trustStore.location=/tls/ca.pem\n";
        let with = |settings: Settings| {
            let (base, ignored) = parse(text, files(&[])).expect("parses");
            let (settings, ignored) = complete(settings, base, ignored);
            (settings.into_config().expect("and is complete"), ignored)
        };
        let (config, ignored) = with(Settings::default());
        assert_eq!(config.zookeeper_tls, None);
        assert_eq!(ignored, [KEY_STORE, TRUST_STORE]);
        // A flag may name the port.
        let flags = Settings { zookeeper_tls_listen: Some("0.0.0.0:2281".into()), ..Settings::default() };
        let (config, ignored) = with(flags);
        assert_eq!(config.zookeeper_tls.expect("a secure port").1.certificate, PathBuf::from("/tls/own.pem"));
        assert!(ignored.is_empty(), "{ignored:?}");
    }

    #[test]
    fn one_server_alone_needs_no_id() {
        let (settings, ignored) = parse("dataDir=/d\nclientPort=2181\n", files(&[])).expect("parses");
        assert_eq!((settings.member_id, settings.initial_cluster.clone()), (Some(1), None));
        assert!(ignored.is_empty());
        settings.into_config().expect("and is complete");
    }

    #[test]
    fn an_ensemble_whose_members_are_in_a_file_of_their_own_is_one_cluster() {
        // As ZooKeeper leaves both behind once reconfig has been used; the version is in a file that
        // an operator copied out of /zookeeper/config.
        let text = "dataDir=/d\nreconfigEnabled=true\ndynamicConfigFile=conf/zoo.cfg.dynamic.100000000\n";
        let dynamic = "server.1=a:2888:3888:participant;0.0.0.0:2181\nserver.2=b:2888:3888:participant;10.0.0.2:2182\n\
                       server.3=c:2888:3888:observer;2181\nversion=100000000\n";
        let open = [("/d/myid", "2\n"), ("conf/zoo.cfg.dynamic.100000000", dynamic)];
        let (settings, ignored) = parse(text, files(&open)).expect("parses");
        assert_eq!(settings.member_id, Some(2));
        assert_eq!(settings.initial_cluster.as_deref(), Some("1=a:2888/a:3888,2=b:2888/b:3888"));
        assert_eq!(settings.zookeeper_listen.as_deref(), Some("10.0.0.2:2182"));
        assert_eq!(ignored, ["server.3"]);
        settings.into_config().expect("and is complete");
        let missing = parse(text, files(&open[..1])).expect_err("refused");
        assert!(missing.contains("conf/zoo.cfg.dynamic.100000000"), "{missing}");
    }

    #[test]
    fn a_member_of_an_ensemble_that_nothing_names_founds_none_of_its_own() {
        let text = "dataDir=/d\nclientPort=2181\n";
        let refused = parse(text, files(&[("/d/myid", "3\n")])).expect_err("refused");
        assert!(refused.contains("/d/myid") && refused.contains("dynamicConfigFile"), "{refused}");
        let (alone, _) = parse(text, files(&[("/d/myid", "1\n")])).expect("it stands alone");
        assert_eq!(alone.member_id, Some(1));
        let unreadable = |_: &Path| Err(io::ErrorKind::PermissionDenied.into());
        assert!(parse(text, unreadable).expect_err("refused").contains("/d/myid"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: &str| parse(text, files(&[])).expect_err("refused");
        assert!(refused("clientPort=2181").contains("dataDir"));
        assert!(refused("dataDir=/d\ntickTime=soon").contains("tickTime"));
        assert!(refused("dataDir=/d\nserver.1=a:x:y").contains("server.1"));
        assert!(refused("dataDir=/d\nserver.1=a:1:2").contains("myid"));
        assert!(refused("dataDir").contains("KEY=VALUE"));
        assert!(refused("dataDir=/d\nserver.1=a:1:2;b:2181;b:2281").contains("server.1"));
        assert!(refused("dataDir=/d\ndynamicConfigFile=f\nserver.1=a:1:2").contains("server.1"));
    }
}
