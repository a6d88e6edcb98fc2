//! The ZooKeeper door: unmodified ZooKeeper clients, on port 2181.
//!
//! - [`connection`]: one client, from its greeting to its end; [`read_only`]: one that is content with
//!   a member that has no quorum;
//! - [`jute`]: the encoding; [`records`]: what is encoded; [`requests`] and [`replies`]: to and from
//!   the core's words;
//! - [`reconfig`]: the members, changed in ZooKeeper's words;
//! - [`four_letter`]: `ruok`, `srvr` and their like; [`traffic`]: what they count.
//!
//! A door like any other: the rules are the core's, sessions are the coordinator's, and what a
//! client does here is seen through gRPC at once. Next room: coordinator/.

pub mod connection;
pub mod four_letter;
pub mod jute;
pub mod read_only;
pub mod reconfig;
pub mod records;
pub mod replies;
pub mod requests;
pub mod traffic;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_core::acl::Identity;
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::SessionId;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::config::SecretDigest;
use crate::coordinator::Coordinator;
use crate::coordinator::auth::{Authenticator, gather, ip_identity};
use crate::frontends::zookeeper::traffic::Traffic;
use crate::tls;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted (no file descriptors left).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What every connection holds; cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    coordinator: Coordinator,
    authenticator: Authenticator,
    connections: Connections,
    /// Of all connections there ever were.
    traffic: Arc<Traffic>,
    may_reconfigure: bool,
}

impl Door {
    /// One for all its listeners.
    pub fn new(
        coordinator: Coordinator,
        super_digest: Option<SecretDigest>,
        per_address_max: usize,
        may_reconfigure: bool,
    ) -> Door {
        Door {
            coordinator,
            authenticator: Authenticator::new(super_digest),
            connections: Connections { per_address_max, shared: Arc::default() },
            traffic: Arc::default(),
            may_reconfigure,
        }
    }

    /// What a client proves by `auth`. What was not known of it yet is from now on.
    fn prove(
        &self,
        known: &mut Vec<Identity>,
        scheme: &str,
        credential: &[u8],
    ) -> Result<Vec<Identity>, Error> {
        if scheme == "ip" {
            // The address was proved by the connection itself.
            return Ok(known.iter().filter(|identity| identity.scheme == "ip").cloned().collect());
        }
        let proved = self.authenticator.prove(scheme, credential)?;
        // Clients know one way in which an `auth` fails.
        gather(known, &proved).map_err(|error| Error::new(ErrorKind::AuthFailed, error.detail))?;
        Ok(proved)
    }
}

/// Serves clients, with TLS if there are certificates, until the future is dropped.
pub async fn serve(door: Door, listener: TcpListener, certificates: Option<Arc<ServerConfig>>) {
    let acceptor = certificates.map(TlsAcceptor::from);
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    if let Some(counted) = door.connections.count(address.ip()) {
                        let served = admit(door.clone(), stream, address, acceptor.clone());
                        serving.spawn(async move {
                            let _counted = counted;
                            served.await;
                        });
                    } else {
                        tracing::warn!(%address, limit = door.connections.per_address_max, "too many connections from one address");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a ZooKeeper client cannot be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = serving.join_next(), if !serving.is_empty() => {}
        }
    }
}

/// Serves one connection, behind its TLS handshake if there is to be one.
async fn admit(door: Door, stream: TcpStream, address: SocketAddr, acceptor: Option<TlsAcceptor>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "the socket cannot be set up");
        return;
    }
    let mut identities = ip_identity(Some(address.ip()));
    let Some(acceptor) = acceptor else {
        let (reader, writer) = stream.into_split();
        return connection::serve(door, reader, writer, address, identities).await;
    };
    match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            identities.extend(shown.and_then(tls::identity_of));
            let (reader, writer) = tokio::io::split(stream);
            connection::serve(door, reader, writer, address, identities).await;
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!(%address, "a TLS handshake took too long"),
    }
}

/// Who is connected through this door.
#[derive(Clone, Debug)]
pub struct Connections {
    per_address_max: usize,
    shared: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    by_address: BTreeMap<IpAddr, usize>,
    listed: BTreeMap<u64, Listed>,
    last: u64,
}

/// A connection with a session.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The client's.
    pub address: SocketAddr,
    /// Its session.
    pub session: SessionId,
    /// The session's timeout.
    pub timeout_ms: u32,
    /// When it connected.
    pub since: Instant,
    /// What it sent and was sent.
    pub traffic: Arc<Traffic>,
}

/// Counts a connection until dropped.
#[derive(Debug)]
pub struct Counted {
    connections: Connections,
    address: IpAddr,
}

/// Lists a connection until dropped.
#[derive(Debug)]
pub struct Listing {
    connections: Connections,
    key: u64,
}

impl Connections {
    /// Counts one more; `None` if this address has as many as it may.
    fn count(&self, address: IpAddr) -> Option<Counted> {
        let mut known = self.lock();
        let count = known.by_address.entry(address).or_default();
        if *count >= self.per_address_max {
            return None;
        }
        *count += 1;
        Some(Counted { connections: self.clone(), address })
    }

    fn list(
        &self,
        address: SocketAddr,
        session: SessionId,
        timeout_ms: u32,
        traffic: Arc<Traffic>,
    ) -> Listing {
        let mut known = self.lock();
        known.last += 1;
        let key = known.last;
        known.listed.insert(key, Listed { address, session, timeout_ms, since: Instant::now(), traffic });
        Listing { connections: self.clone(), key }
    }

    /// All connections with a session, in the order of their coming.
    pub fn all(&self) -> Vec<Listed> {
        self.lock().listed.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut known = self.connections.lock();
        if let Some(count) = known.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                known.by_address.remove(&self.address);
            }
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.connections.lock().listed.remove(&self.key);
    }
}
