//! Who may do what: permissions, ACL entries and the identities that a connection has gathered.
//!
//! Identities come in with each request (a door vouches for them); nothing here talks to anyone.
//! Nothing is inherited: each node has its own list.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::error::{Error, ErrorKind};

/// A set of permissions, with ZooKeeper's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permissions(pub u8);

impl Permissions {
    /// Read data and list children.
    pub const READ: Permissions = Permissions(1);
    /// Set data.
    pub const WRITE: Permissions = Permissions(2);
    /// Create children.
    pub const CREATE: Permissions = Permissions(4);
    /// Delete children.
    pub const DELETE: Permissions = Permissions(8);
    /// Set the ACL.
    pub const ADMIN: Permissions = Permissions(16);
    /// All of them.
    pub const ALL: Permissions = Permissions(31);

    /// Whether any permission of `other` is in this set.
    pub fn intersects(self, other: Permissions) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    pub fn union(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }
}

/// One line of a node's ACL: who (scheme and id) has which permissions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AclEntry {
    /// What is allowed.
    pub permissions: Permissions,
    /// `world`, `auth`, `digest`, `ip`, `x509`.
    pub scheme: String,
    /// The scheme's own id: `anyone`, `user:base64(sha1(user:password))`, `10.0.0.0/8`, ….
    pub id: String,
}

impl AclEntry {
    /// The open ACL: everyone may do everything.
    pub fn open() -> Vec<AclEntry> {
        vec![AclEntry { permissions: Permissions::ALL, scheme: "world".into(), id: "anyone".into() }]
    }
}

/// Somebody that a connection has proved to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// `ip`, `digest`, `x509`, or [`Identity::SUPER`].
    pub scheme: String,
    /// The scheme's own id.
    pub id: String,
}

impl Identity {
    /// The scheme of the superuser, who bypasses all checks. A door grants it; no ACL names it.
    pub const SUPER: &'static str = "super";
}

impl Identity {
    /// Whether somebody proved something: an address alone proves nothing.
    fn is_authenticated(&self) -> bool {
        matches!(self.scheme.as_str(), "digest" | "x509")
    }
}

/// The most entries of a list. Beyond it the list is refused as [`ErrorKind::InvalidAcl`]: checks
/// look at every entry.
pub const ACL_ENTRIES_MAX: usize = 256;

/// The longest id of an entry, and of an identity that a member takes for proved. Lists are interned and
/// outlive their nodes in the change log, which counts the changes alone.
pub const ID_BYTES_MAX: usize = 1024;

/// Whether these identities have one of `wanted` by this list. The superuser has all; an empty list is open.
pub fn permits(list: &[AclEntry], wanted: Permissions, identities: &[Identity]) -> bool {
    if list.is_empty() {
        return true;
    }
    let granted = |entry: &AclEntry| {
        if !entry.permissions.intersects(wanted) {
            return false;
        }
        match entry.scheme.as_str() {
            "world" => entry.id == "anyone",
            "ip" => {
                identities.iter().any(|caller| caller.scheme == "ip" && ip_matches(&entry.id, &caller.id))
            }
            scheme => identities.iter().any(|caller| caller.scheme == scheme && caller.id == entry.id),
        }
    };
    list.iter().any(granted) || identities.iter().any(|caller| caller.scheme == Identity::SUPER)
}

/// The list to store: entries checked, "auth" replaced by who the caller is, duplicates removed.
///
/// # Errors
/// [`ErrorKind::InvalidAcl`] for an empty list, an unknown scheme, a malformed id, or "auth" from
/// somebody who proved nothing.
pub fn resolve<'a>(list: &'a [AclEntry], identities: &[Identity]) -> Result<Cow<'a, [AclEntry]>, Error> {
    if list.is_empty() {
        return Err(Error::new(ErrorKind::InvalidAcl, "the ACL is empty"));
    }
    if list.len() > ACL_ENTRIES_MAX {
        return Err(too_many());
    }
    for entry in list {
        if !is_valid(entry) {
            let detail = format!("ACL entry {}:{}", excerpt(&entry.scheme), excerpt(&entry.id));
            return Err(Error::new(ErrorKind::InvalidAcl, detail));
        }
    }
    let has_duplicates = (1..list.len()).any(|place| list[..place].contains(&list[place]));
    if !has_duplicates && list.iter().all(|entry| entry.scheme != "auth") {
        return Ok(Cow::Borrowed(list));
    }
    let mut resolved: Vec<AclEntry> = Vec::with_capacity(list.len());
    let mut add = |entry: AclEntry| {
        if !resolved.contains(&entry) {
            resolved.push(entry);
        }
    };
    for entry in list {
        if entry.scheme != "auth" {
            add(entry.clone());
            continue;
        }
        let mut proved = identities.iter().filter(|identity| identity.is_authenticated()).peekable();
        if proved.peek().is_none() {
            return Err(Error::new(ErrorKind::InvalidAcl, "\"auth\" from a caller without an identity"));
        }
        for identity in proved {
            let Identity { scheme, id } = identity.clone();
            if id.len() > ID_BYTES_MAX {
                let detail = format!("\"auth\": an identity of {} bytes, at most {ID_BYTES_MAX}", id.len());
                return Err(Error::new(ErrorKind::InvalidAcl, detail));
            }
            add(AclEntry { permissions: entry.permissions, scheme, id });
        }
    }
    if resolved.len() > ACL_ENTRIES_MAX {
        return Err(too_many());
    }
    Ok(Cow::Owned(resolved))
}

/// The id that a `digest` credential proves: `user:base64(sha1(user:password))`. One without a colon is
/// all user, as ZooKeeper takes it. `None` unless it is UTF-8.
pub fn digest_id(credential: &[u8]) -> Option<String> {
    let user = std::str::from_utf8(credential).ok()?.split(':').next()?;
    Some(format!("{user}:{}", BASE64_STANDARD.encode(Sha1::digest(credential))))
}

/// The list for somebody without ADMIN: digests (which can be attacked offline) show as "x".
pub fn masked(list: &[AclEntry]) -> Vec<AclEntry> {
    let mut list = list.to_vec();
    for entry in list.iter_mut().filter(|entry| entry.scheme == "digest") {
        if let Some(colon) = entry.id.find(':') {
            entry.id.replace_range(colon.., ":x");
        }
    }
    list
}

fn is_valid(entry: &AclEntry) -> bool {
    if entry.id.len() > ID_BYTES_MAX {
        return false;
    }
    match entry.scheme.as_str() {
        "world" => entry.id == "anyone",
        "auth" => true,
        "digest" => entry.id.split(':').count() == 2 && !entry.id.ends_with(':'),
        "ip" => parse_network(&entry.id).is_some(),
        "x509" => !entry.id.is_empty(),
        _ => false,
    }
}

fn parse_network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => bits.parse().ok().filter(|bits| *bits <= bits_max)?,
        None => bits_max,
    };
    Some((address, bits))
}

fn ip_matches(network: &str, address: &str) -> bool {
    if network == address {
        return true;
    }
    let (Some((network, bits)), Ok(address)) = (parse_network(network), address.parse::<IpAddr>()) else {
        return false;
    };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

fn too_many() -> Error {
    Error::new(ErrorKind::InvalidAcl, "the ACL has more than 256 entries")
}

fn excerpt(text: &str) -> &str {
    crate::path::excerpt(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(permissions: u8, scheme: &str, id: &str) -> AclEntry {
        AclEntry { permissions: Permissions(permissions), scheme: scheme.into(), id: id.into() }
    }

    fn identity(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.into(), id: id.into() }
    }

    #[test]
    fn networks_match_by_their_bits() {
        let cases = [
            ("10.0.0.0/8", "10.200.3.4", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("1.2.3.4", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "1.2.3.4", false),
        ];
        for (network, address, expected) in cases {
            let permitted =
                permits(&[entry(1, "ip", network)], Permissions::READ, &[identity("ip", address)]);
            assert_eq!(permitted, expected, "{network} {address}");
        }
    }

    #[test]
    fn only_the_named_permission_counts() {
        let list = [entry(2, "world", "anyone"), entry(1, "digest", "u:h")];
        assert!(!permits(&list, Permissions::READ, &[identity("ip", "1.2.3.4")]));
        assert!(permits(&list, Permissions::READ, &[identity("ip", "1.2.3.4"), identity("digest", "u:h")]));
        assert!(permits(&list, Permissions::ADMIN, &[identity("super", "")]));
        assert!(permits(&list, Permissions::WRITE, &[]));
    }

    #[test]
    fn auth_stands_for_every_proved_identity() {
        let callers = [identity("ip", "1.2.3.4"), identity("digest", "u:h"), identity("digest", "v:i")];
        let list = [entry(31, "auth", ""), entry(31, "digest", "u:h"), entry(31, "auth", "")];
        let resolved = resolve(&list, &callers).expect("two identities were proved");
        assert_eq!(resolved[..], [entry(31, "digest", "u:h"), entry(31, "digest", "v:i")]);
        assert!(resolve(&list, &callers[..1]).is_err());
    }

    #[test]
    fn malformed_lists_are_refused() {
        assert!(resolve(&[], &[]).is_err());
        for (scheme, id) in [
            ("world", "someone"),
            ("sasl", "x"),
            ("", ""),
            ("super", ""),
            ("digest", "nocolon"),
            ("digest", "a:b:c"),
            ("ip", "1.2.3"),
            ("ip", "1.2.3.4/33"),
            ("ip", "1.2.3.4/-1"),
            ("x509", ""),
        ] {
            assert!(resolve(&[entry(31, scheme, id)], &[]).is_err(), "{scheme}:{id}");
        }
    }

    #[test]
    fn digests_are_masked_behind_the_user() {
        let list = masked(&[entry(31, "digest", "user:hash="), entry(1, "ip", "1.2.3.4")]);
        assert_eq!(list, [entry(31, "digest", "user:x"), entry(1, "ip", "1.2.3.4")]);
    }
}
