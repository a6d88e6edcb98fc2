//! What all services share: the coordinator, and who a caller is.

use std::net::SocketAddr;

use quorate_core::acl::Identity;
use quorate_core::error::{Error, ErrorKind};
use quorate_proto::convert::{status_from_error, status_with_code};
use quorate_proto::v1;
use tonic::{Code, Request, Status};

use crate::config::SecretDigest;
use crate::coordinator::Coordinator;
use crate::coordinator::auth::{self, Authenticator, ip_identity};

/// The coordinator, behind the door's authenticator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Callers {
    /// The next room.
    pub coordinator: Coordinator,
    authenticator: Authenticator,
}

impl Callers {
    /// For one member's door.
    pub fn new(coordinator: Coordinator, super_digest: Option<SecretDigest>) -> Callers {
        Callers { coordinator, authenticator: Authenticator::new(super_digest) }
    }

    /// The identities that a credential proves.
    pub fn prove(&self, scheme: &str, credential: &[u8]) -> Result<Vec<Identity>, Error> {
        self.authenticator.prove(scheme, credential)
    }

    /// All identities of a caller: its address, and what it proves.
    ///
    /// # Errors
    /// `AuthFailed` for a credential that proves nothing, `TooLarge` for too many.
    pub fn identities(
        &self,
        address: Option<SocketAddr>,
        credentials: &[v1::Credential],
    ) -> Result<Vec<Identity>, Error> {
        let mut identities = ip_identity(address.map(|address| address.ip()));
        auth::check_count("credentials", credentials.len())?;
        for credential in credentials {
            auth::gather(&mut identities, &self.prove(&credential.scheme, &credential.credential)?)?;
        }
        Ok(identities)
    }

    /// A unary request's message and its caller's identities.
    pub fn open<M>(
        &self,
        request: Request<M>,
        credentials: impl FnOnce(&M) -> &[v1::Credential],
    ) -> Result<(M, Vec<Identity>), Status> {
        let address = request.remote_addr();
        let message = request.into_inner();
        let identities = self.identities(address, credentials(&message)).map_err(refused)?;
        Ok((message, identities))
    }
}

/// A refusal as a gRPC status with our detail.
pub fn refused(error: impl Into<Error>) -> Status {
    status_from_error(&error.into())
}

/// A refusal of a call that waited for a lock: not getting it in time is `ABORTED`, nothing failed.
pub fn not_acquired(error: Error) -> Status {
    match error.kind {
        ErrorKind::NodeExists => status_with_code(Code::Aborted, &error),
        _ => refused(error),
    }
}
