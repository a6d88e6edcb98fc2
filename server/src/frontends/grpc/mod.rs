//! The gRPC door: quorate.v1's services, health and reflection, on the client port.
//!
//! - [`session`]: the main road, a stream a client;
//! - [`znodes`]: the same operations as single calls;
//! - [`leases`], [`locks`], [`elections`]: locks and leaderships for callers without a stream;
//! - [`registry`], [`ring`]: services, and who owns a key; [`prober`]: the network of health checks;
//! - [`cluster`]: members, digests, snapshots, sessions.
//!
//! Next room: coordinator/.

pub mod caller;
pub mod cluster;
pub mod elections;
pub mod leases;
pub mod locks;
pub mod observe;
pub mod prober;
pub mod registry;
pub mod ring;
pub mod session;
pub mod znodes;

use std::time::Duration;

use quorate_proto::quorate::peer::v1::peer_server::PeerServer;
use quorate_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use self::caller::Callers;
use crate::config::SecretDigest;
use crate::coordinator::Coordinator;
use crate::replica::peer_listener::PeerListener;
use crate::tasks::TaskGuard;

/// The largest message taken from a client: a request at its limit, with room for its frame.
const MESSAGE_BYTES_MAX: usize = 72 << 20;
/// A silent connection is probed this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Calls that a member gave up before this one, standing still, came to them: heartbeats, mostly.
const GIVEN_UP_MAX: usize = 4096;
/// Streams that one connection may have open.
const STREAMS_MAX: u32 = 4096;
/// How often it is looked whether this member can still serve.
const HEALTH_LOOK: Duration = Duration::from_secs(1);
/// How soon it is looked again whether it can serve by now. Each look waits for a quorum.
const HEALTH_LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What health is told of: the whole door, and each service that clients call.
const HEALTH_OF: [&str; 8] = [
    "",
    v1::session_server::SERVICE_NAME,
    v1::znodes_server::SERVICE_NAME,
    v1::locks_server::SERVICE_NAME,
    v1::elections_server::SERVICE_NAME,
    v1::registry_server::SERVICE_NAME,
    v1::ring_server::SERVICE_NAME,
    v1::cluster_server::SERVICE_NAME,
];

/// Serves clients until the future is dropped. Its health says so once `stopping` is true.
pub async fn serve(
    listener: TcpListener,
    coordinator: Coordinator,
    super_digest: Option<SecretDigest>,
    stopping: watch::Receiver<bool>,
) {
    let (health, health_service) = tonic_health::server::health_reporter();
    // Before anybody can ask: it serves once that is known.
    report_health(&health, ServingStatus::NotServing).await;
    let _reporting = TaskGuard::spawn("grpc health", run_health(health, coordinator.clone(), stopping));
    let callers = Callers::new(coordinator, super_digest);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(quorate_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reflection_v1, reflection_v1alpha) = match (reflection().build_v1(), reflection().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => (v1, v1alpha),
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "the services' descriptors are broken; the gRPC door stays closed");
            return;
        }
    };
    let served = server()
        .add_service(limited!(v1::session_server::SessionServer, session::SessionDoor::new(callers.clone())))
        .add_service(limited!(v1::znodes_server::ZnodesServer, znodes::ZnodesDoor::new(callers.clone())))
        .add_service(limited!(v1::locks_server::LocksServer, locks::LocksDoor::new(callers.clone())))
        .add_service(limited!(
            v1::elections_server::ElectionsServer,
            elections::ElectionsDoor::new(callers.clone())
        ))
        .add_service(limited!(
            v1::registry_server::RegistryServer,
            registry::RegistryDoor::new(callers.clone())
        ))
        .add_service(limited!(v1::ring_server::RingServer, ring::RingDoor::new(callers.clone())))
        .add_service(limited!(v1::cluster_server::ClusterServer, cluster::ClusterDoor::new(callers)))
        .add_service(health_service)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC door has closed");
    }
}

/// Lets health say what `/readyz` does, until the member stops.
async fn run_health(health: HealthReporter, coordinator: Coordinator, mut stopping: watch::Receiver<bool>) {
    let following = async {
        loop {
            let (status, pause) = match coordinator.wait_ready().await {
                Ok(()) => (ServingStatus::Serving, HEALTH_LOOK),
                Err(_) => (ServingStatus::NotServing, HEALTH_LOOK_AGAIN),
            };
            report_health(&health, status).await;
            sleep(pause).await;
        }
    };
    let stop = async {
        // An error means that its sender has gone: the member stops as well.
        let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
    };
    tokio::select! {
        () = following => {}
        () = stop => {}
    }
    report_health(&health, ServingStatus::NotServing).await;
}

async fn report_health(health: &HealthReporter, status: ServingStatus) {
    for service in HEALTH_OF {
        health.set_service_status(service, status).await;
    }
}

/// Serves other members until the future is dropped.
pub async fn serve_peers(listener: TcpListener, service: PeerServer<PeerListener>) {
    let served = server()
        .http2_max_pending_accept_reset_streams(Some(GIVEN_UP_MAX))
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20)
        .add_service(service)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the peer door has closed");
    }
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
}

/// A service with the door's message limit.
macro_rules! limited {
    ($server:path, $door:expr) => {{
        use $server as Service;
        Service::new($door).max_decoding_message_size($crate::frontends::grpc::MESSAGE_BYTES_MAX)
    }};
}
use limited;
