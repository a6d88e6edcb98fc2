//! Who a caller is: credentials become identities. Shared by all doors.
//!
//! `digest` takes `user:password`; whoever proves the configured super digest is the superuser.
//! `ip` is never taken from a credential: the door knows the peer's address.

use std::net::IpAddr;

use quorate_core::acl::{self, Identity};
use quorate_core::error::{Error, ErrorKind};

use crate::config::SecretDigest;

/// Turns credentials into identities.
#[derive(Clone, Debug, Default)]
pub struct Authenticator {
    super_digest: Option<SecretDigest>,
}

impl Authenticator {
    /// With the superuser's digest, if there is a superuser.
    pub fn new(super_digest: Option<SecretDigest>) -> Authenticator {
        Authenticator { super_digest }
    }

    /// The identities that a credential proves.
    ///
    /// # Errors
    /// `AuthFailed` for an unknown scheme or a malformed credential.
    pub fn prove(&self, scheme: &str, credential: &[u8]) -> Result<Vec<Identity>, Error> {
        if scheme != "digest" {
            return Err(Error::new(
                ErrorKind::AuthFailed,
                format!("scheme {scheme:?}: only \"digest\" can be proved"),
            ));
        }
        let Some(id) = acl::digest_id(credential) else {
            return Err(Error::new(ErrorKind::AuthFailed, "credential: must be user:password in UTF-8"));
        };
        let mut identities = Vec::new();
        if self.super_digest.as_ref().is_some_and(|digest| digest.0 == id) {
            identities.push(Identity { scheme: Identity::SUPER.into(), id: String::new() });
        }
        identities.push(Identity { scheme: "digest".into(), id });
        Ok(identities)
    }
}

/// The identity that every connection has from its address.
pub fn ip_identity(address: Option<IpAddr>) -> Vec<Identity> {
    let Some(address) = address else { return Vec::new() };
    vec![Identity { scheme: "ip".into(), id: address.to_canonical().to_string() }]
}
