//! Which addresses the cluster's health checks may connect to.
//!
//! Whoever may register an instance chooses what its checks connect to and ask for, and learns from
//! its health whether somebody answered. So unless the operator names networks, checks keep away
//! from what only the members' own machines should reach.
//!
//! Addresses are judged when a check connects (frontends/grpc/prober), after names are looked up:
//! instances also come in as plain znodes. At the `Registry` door a bad one is refused at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use quorate_core::error::{Error, ErrorKind};
use quorate_core::registry::Instance;

/// Where some clouds tell a machine its secrets, beside the link-local addresses of others.
const METADATA_SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// What checks may connect to. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckTargets {
    /// These networks only; none: no checks at all.
    Networks(Arc<[Network]>),
    /// All but loopback, link-local, unspecified, multicast and broadcast addresses.
    Usual {
        /// Loopback too: nobody from elsewhere can register anything.
        with_loopback: bool,
    },
}

/// A network: the addresses that share its first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differs = own.to_bits() ^ other.to_bits();
                differs.checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    fn from_str(text: &str) -> Result<Network, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let bad = || format!("{text:?} is no network such as 10.0.0.0/8 or fd00::/8");
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), |prefix| prefix.parse().map_err(|_| bad()))?;
        if prefix > most {
            return Err(bad());
        }
        Ok(Network { address, prefix })
    }
}

impl CheckTargets {
    /// Networks with commas between; an empty text is none.
    ///
    /// # Errors
    /// What is no network.
    pub fn parse(text: &str) -> Result<CheckTargets, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(CheckTargets::Networks(parts.map(str::parse).collect::<Result<_, _>>()?))
    }

    /// Whether checks may connect there.
    pub fn allow(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6's clothes is that address.
        let address = address.to_canonical();
        match self {
            CheckTargets::Networks(networks) => networks.iter().any(|network| network.contains(address)),
            CheckTargets::Usual { with_loopback } if address.is_loopback() => *with_loopback,
            CheckTargets::Usual { .. } => match address {
                IpAddr::V4(address) => is_usual_v4(address),
                IpAddr::V6(address) => is_usual_v6(address),
            },
        }
    }

    /// Refuses an instance that is to be checked where checks may not go. Of a host name nothing is
    /// known before it is looked up.
    ///
    /// # Errors
    /// `BadArguments`, naming the field.
    pub fn check(&self, instance: &Instance) -> Result<(), Error> {
        if instance.check.is_none() {
            return Ok(());
        }
        let refused = |field: &str, why: &str| {
            Err(Error::new(ErrorKind::BadArguments, format!("instance.{field}: {why}")))
        };
        match instance.address.parse::<IpAddr>() {
            _ if self.is_none() => refused("check", "this cluster's check_targets allow no checks"),
            Ok(address) if !self.allow(address) => {
                refused("address", &format!("{address} is not among this cluster's check_targets"))
            }
            _ => Ok(()),
        }
    }

    fn is_none(&self) -> bool {
        matches!(self, CheckTargets::Networks(networks) if networks.is_empty())
    }
}

fn is_usual_v4(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0 || address.is_link_local() || address.is_multicast() || address.is_broadcast())
}

fn is_usual_v6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_unicast_link_local()
        || address.is_multicast()
        || address == METADATA_SERVICE)
}

#[cfg(test)]
mod tests {
    use quorate_core::registry::{Check, CheckKind};

    use super::*;

    fn allowed(targets: &CheckTargets, address: &str) -> bool {
        targets.allow(address.parse().expect("an address"))
    }

    #[test]
    fn networks_hold_what_shares_their_first_bits() {
        let targets = CheckTargets::parse("10.0.0.0/8, 192.168.7.9,fd00::/8, ::1").expect("valid");
        for address in ["10.0.0.0", "10.255.1.2", "192.168.7.9", "fdff::1", "::1", "::ffff:10.1.1.1"] {
            assert!(allowed(&targets, address), "{address}");
        }
        for address in ["11.0.0.0", "9.255.255.255", "192.168.7.8", "fe00::1", "::2", "127.0.0.1"] {
            assert!(!allowed(&targets, address), "{address}");
        }
        let all = CheckTargets::parse("0.0.0.0/0,::/0").expect("valid");
        assert!(allowed(&all, "169.254.169.254") && allowed(&all, "fe80::1"));
        let none = CheckTargets::parse(" ").expect("valid");
        assert!(!allowed(&none, "10.0.0.1"));
        for text in ["10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/-1", "10.0.0.0/8/8", "/8"] {
            assert!(CheckTargets::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn by_themselves_checks_keep_away_from_what_is_only_the_members_to_reach() {
        let usual = CheckTargets::Usual { with_loopback: false };
        for address in ["10.0.0.1", "192.0.2.1", "172.17.0.2", "fd12::1", "2001:db8::1"] {
            assert!(allowed(&usual, address), "{address}");
        }
        let not = [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ];
        for address in not {
            assert!(!allowed(&usual, address), "{address}");
        }
        assert!(allowed(&CheckTargets::Usual { with_loopback: true }, "127.0.0.1"));
        assert!(!allowed(&CheckTargets::Usual { with_loopback: true }, "169.254.169.254"));
    }

    #[test]
    fn a_refusal_names_the_field() {
        let usual = CheckTargets::Usual { with_loopback: false };
        let mut instance = Instance::new("a", "169.254.169.254", 80);
        usual.check(&instance).expect("nobody connects to it");
        instance.check = Some(Check::new(CheckKind::Http { path: "/latest/meta-data".into() }));
        let refused = usual.check(&instance).expect_err("not there");
        assert_eq!(refused.kind, ErrorKind::BadArguments);
        let expected = "instance.address: 169.254.169.254 is not among this cluster's check_targets";
        assert_eq!(refused.detail, expected);
        instance.address = "10.0.0.1".into();
        usual.check(&instance).expect("a usual target");
        let none = CheckTargets::parse("").expect("valid").check(&instance).expect_err("none at all");
        assert_eq!(none.detail, "instance.check: this cluster's check_targets allow no checks");
    }
}
