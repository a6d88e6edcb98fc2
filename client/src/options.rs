//! How to connect: the builder, and what it collects.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::request::Consistency;
use tonic::transport::ClientTlsConfig;

use crate::chroot::Chroot;
use crate::client::Client;
use crate::connector::Connector;
use crate::error::{Error, Result};
use crate::session;

/// The longest that a connect may be let try.
const CONNECT_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The most requests that may be let wait.
const OUTSTANDING_MAX: usize = 1 << 24;

/// Collects how to connect; [`ClientBuilder::connect`] does it.
///
/// ```no_run
/// # async fn example() -> quorate::Result<()> {
/// use std::time::Duration;
///
/// let client = quorate::Client::builder()
///     .endpoints(["10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.3:7400"])
///     .session_timeout(Duration::from_secs(10))
///     .chroot("/app")
///     .auth("digest", "alice:secret")
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    chroot: String,
    options: Options,
    tls: Option<ClientTlsConfig>,
}

/// What the session's task needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) session_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) outstanding_max: usize,
    pub(crate) credentials: Vec<(String, Bytes)>,
    pub(crate) consistency: Consistency,
}

impl Default for ClientBuilder {
    fn default() -> ClientBuilder {
        ClientBuilder {
            endpoints: Vec::new(),
            chroot: String::new(),
            options: Options {
                session_timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(15),
                outstanding_max: 65_536,
                credentials: Vec::new(),
                consistency: Consistency::Linearizable,
            },
            tls: None,
        }
    }
}

impl ClientBuilder {
    /// Where the members are: `host:port`, or a URL. They are tried in random order, and their
    /// names are looked up anew at each attempt. One that leads to several members is enough.
    pub fn endpoints<I>(mut self, endpoints: I) -> ClientBuilder
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.endpoints.extend(endpoints.into_iter().map(Into::into));
        self
    }

    /// How long the session outlives its connection. The cluster clamps it (4 s to 40 s by
    /// default); [`Client::session_timeout`] tells the outcome. 10 s if not set.
    pub fn session_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.options.session_timeout = timeout;
        self
    }

    /// How long [`ClientBuilder::connect`] keeps trying, a year at most. 15 s if not set.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.options.connect_timeout = timeout.min(CONNECT_MAX);
        self
    }

    /// All paths of this client are below this one. It is not created.
    pub fn chroot(mut self, path: impl Into<String>) -> ClientBuilder {
        self.chroot = path.into();
        self
    }

    /// Proves an identity on every connection, such as `("digest", "user:password")`.
    pub fn auth(mut self, scheme: impl Into<String>, credential: impl Into<Bytes>) -> ClientBuilder {
        self.options.credentials.push((scheme.into(), credential.into()));
        self
    }

    /// How fresh reads are that do not say. Linearizable if not set.
    pub fn consistency(mut self, consistency: Consistency) -> ClientBuilder {
        self.options.consistency = consistency;
        self
    }

    /// How many requests may be under way to the cluster, and how many more may wait for that;
    /// beyond it calls fail with [`Error::TooManyRequests`]. 65,536 if not set, 16 million at most.
    pub fn outstanding_max(mut self, limit: usize) -> ClientBuilder {
        self.options.outstanding_max = limit.clamp(1, OUTSTANDING_MAX);
        self
    }

    /// Encrypts the connections.
    pub fn tls(mut self, config: ClientTlsConfig) -> ClientBuilder {
        self.tls = Some(config);
        self
    }

    /// Connects and opens a session.
    ///
    /// # Errors
    /// [`Error::Connect`] if no member accepted the session in time, [`Error::Refused`] if one
    /// refused for good (a false credential), [`Error::BadArguments`] for an endpoint or a chroot
    /// that is none.
    ///
    /// # Cancel safety
    /// A session that was opened already ends by its timeout.
    pub async fn connect(self) -> Result<Client> {
        let chroot = Chroot::new(&self.chroot)?;
        let connector = self.connector()?;
        let consistency = self.options.consistency;
        let handle = session::open(self.options, connector).await?;
        Ok(Client::new(handle, chroot, consistency))
    }

    /// A plain gRPC channel to the first member that can be reached, for the services without a
    /// session ([`crate::proto`]): `ZnodesClient::new(builder.channel().await?)`.
    ///
    /// # Errors
    /// [`Error::Connect`] if none can be reached in time.
    ///
    /// # Cancel safety
    /// Nothing is left behind.
    pub async fn channel(&self) -> Result<tonic::transport::Channel> {
        let mut connector = self.connector()?;
        let tries = async {
            loop {
                match connector.channel().await {
                    Ok(channel) => return channel,
                    Err(error) => tracing::debug!(%error, "no channel"),
                }
                connector.pause().await;
            }
        };
        tokio::time::timeout(self.options.connect_timeout, tries)
            .await
            .map_err(|_| Error::Connect(format!("no member of {:?} answered", self.endpoints)))
    }

    fn connector(&self) -> Result<Connector> {
        Connector::new(&self.endpoints, self.tls.clone())
    }
}
