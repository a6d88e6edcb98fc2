//! Who a caller is: credentials become identities. Shared by all doors.
//!
//! `digest` takes `user:password`; whoever proves the configured super digest is the superuser.
//! `ip` is never taken from a credential: the door knows the peer's address.

use std::net::IpAddr;

use quorate_core::acl::{self, ID_BYTES_MAX, Identity};
use quorate_core::error::{Error, ErrorKind};

use crate::config::SecretDigest;

/// Identities that one caller may have: each of its writes takes all of them through the log.
const IDENTITIES_MAX: usize = 64;
/// The longest credential that is looked at.
const CREDENTIAL_BYTES_MAX: usize = 64 << 10;
/// Of an unknown scheme so many letters are told.
const SCHEME_TOLD: usize = 32;

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
    /// `AuthFailed` for an unknown scheme, or a credential that is malformed or too long.
    pub fn prove(&self, scheme: &str, credential: &[u8]) -> Result<Vec<Identity>, Error> {
        let failed = |detail: String| Err(Error::new(ErrorKind::AuthFailed, detail));
        if scheme != "digest" {
            let scheme: String = scheme.chars().take(SCHEME_TOLD).collect();
            return failed(format!("scheme {scheme:?}: only \"digest\" can be proved"));
        }
        if credential.len() > CREDENTIAL_BYTES_MAX {
            return failed(format!(
                "bytes of credential: {}, at most {CREDENTIAL_BYTES_MAX}",
                credential.len()
            ));
        }
        let Some(id) = acl::digest_id(credential) else {
            return failed("credential: must be user:password in UTF-8".into());
        };
        if id.len() > ID_BYTES_MAX {
            return failed(format!("bytes of the identity proved: {}, at most {ID_BYTES_MAX}", id.len()));
        }
        let mut identities = Vec::new();
        if self.super_digest.as_ref().is_some_and(|digest| digest.0 == id) {
            identities.push(Identity { scheme: Identity::SUPER.into(), id: String::new() });
        }
        identities.push(Identity { scheme: "digest".into(), id });
        Ok(identities)
    }
}

/// Adds what a caller proved to what is known of it.
///
/// # Errors
/// `TooLarge` if that were too many: none is added.
pub fn gather(known: &mut Vec<Identity>, proved: &[Identity]) -> Result<(), Error> {
    let further: Vec<_> = proved.iter().filter(|identity| !known.contains(identity)).cloned().collect();
    check_count("identities", known.len() + further.len())?;
    known.extend(further);
    Ok(())
}

/// Refuses more credentials, or identities, than one caller may have.
pub fn check_count(what: &str, count: usize) -> Result<(), Error> {
    if count > IDENTITIES_MAX {
        let detail = format!("{what} of a caller: {count}, at most {IDENTITIES_MAX}");
        return Err(Error::new(ErrorKind::TooLarge, detail));
    }
    Ok(())
}

/// The identity that every connection has from its address.
pub fn ip_identity(address: Option<IpAddr>) -> Vec<Identity> {
    let Some(address) = address else { return Vec::new() };
    vec![Identity { scheme: "ip".into(), id: address.to_canonical().to_string() }]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(scheme: &str, credential: &str) -> Error {
        let proved = Authenticator::default().prove(scheme, credential.as_bytes());
        proved.expect_err("nothing is proved")
    }

    #[test]
    fn what_is_proved_is_no_longer_than_what_an_acl_may_name() {
        let user = |bytes| "u".repeat(bytes);
        // A colon and the digest's 28 letters.
        let longest = user(ID_BYTES_MAX - 29);
        let proved = Authenticator::default().prove("digest", longest.as_bytes()).expect("proved");
        assert_eq!(proved[0].id.len(), ID_BYTES_MAX);
        for credential in [user(ID_BYTES_MAX - 28), user(1 << 20), format!("u:{}", user(1 << 20))] {
            let error = refusal("digest", &credential);
            assert_eq!(error.kind, ErrorKind::AuthFailed);
            assert!(error.detail.contains("at most"), "{error}");
        }
        assert!(refusal(&user(1 << 20), "u:p").detail.len() < 100, "it does not come back whole");
    }

    #[test]
    fn a_caller_has_each_identity_once_and_not_too_many() {
        let identity = |index: usize| Identity { scheme: "digest".into(), id: index.to_string() };
        let mut known = Vec::new();
        for index in (0..IDENTITIES_MAX).chain(0..IDENTITIES_MAX) {
            gather(&mut known, &[identity(index)]).expect("there is room");
        }
        let error = gather(&mut known, &[identity(0), identity(IDENTITIES_MAX)]).expect_err("one too many");
        assert_eq!((error.kind, known.len()), (ErrorKind::TooLarge, IDENTITIES_MAX));
        assert!(error.detail.contains("at most 64"), "{error}");
    }
}
