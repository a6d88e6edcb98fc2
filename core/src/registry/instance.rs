//! An instance: where it is, how much it can take, and how it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::names::{bad, check_address, check_count, check_label, check_range, check_text};
use crate::error::{Error, ErrorKind};

/// The heaviest instance.
pub const WEIGHT_MAX: u32 = 65_535;
/// Named ports of an instance.
pub const PORTS_MAX: usize = 16;
/// Entries of its metadata.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Bytes of a metadata key.
pub const METADATA_KEY_BYTES_MAX: usize = 128;
/// Bytes of all metadata, keys and values.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a version, a status' reason, an HTTP path.
pub const TEXT_BYTES_MAX: usize = 256;
/// The highest reported load, in thousandths of what the instance can take.
pub const LOAD_MAX: u32 = 1_000_000;
/// The longest drain window: an hour.
pub const DRAIN_MS_MAX: u32 = 3_600_000;
/// The shortest and the longest time between two checks.
pub const INTERVAL_MS: (u32, u32) = (100, 3_600_000);
/// The most consecutive results that a rise or fall may need.
pub const STREAK_MAX: u32 = 100;

/// Why an instance that the cluster checks is critical at first.
const UNCHECKED: &str = "has not passed a check yet";

/// One instance of a service, as its znode's data keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    // The order is part of the stored format; a change of shape is a new format version.
    /// Unique within the service; a DNS label.
    pub id: String,
    /// An IP address or host name, without a port.
    pub address: String,
    /// Ports by name.
    pub ports: BTreeMap<String, u16>,
    /// What is spoken there: `grpc`, `http`, `tcp`, …; a DNS label, or empty.
    pub protocol: String,
    /// Its share relative to others': 1 to 65,535.
    pub weight: u32,
    /// Where it runs.
    pub locality: Locality,
    /// For selectors and people.
    pub metadata: BTreeMap<String, String>,
    /// Which release it runs; traffic splits name it.
    pub version: String,
    /// A registration with a higher generation replaces one with a lower at once.
    pub generation: u64,
    /// What checks or the instance itself say.
    pub health: Health,
    /// Why, for people.
    pub reason: String,
    /// What its operator wants of it.
    pub mode: Mode,
    /// Its own report of its load, in thousandths of what it can take.
    pub load: Option<u32>,
    /// The cluster that it belongs to; empty is the one that it is registered with.
    pub cluster: String,
    /// Lower is preferred; higher ones are used when lower ones are not enough.
    pub priority: u32,
    /// The cluster checks it, if this says how.
    pub check: Option<Check>,
}

/// Where an instance runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Locality {
    /// Of the provider; a DNS label, or empty.
    pub region: String,
    /// Within the region; a DNS label, or empty.
    pub zone: String,
    /// Within the zone; a DNS label, or empty.
    pub sub_zone: String,
}

/// What checks say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    // The order is part of the stored format.
    /// In good order.
    #[default]
    Passing,
    /// Serving, but not in good order.
    Warning,
    /// Not to be used.
    Critical,
}

/// What its operator wants of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    // The order is part of the stored format.
    /// To be used as its health allows.
    #[default]
    Serving,
    /// No new work; it leaves, or is removed by the cluster, within the window.
    Draining {
        /// In milliseconds from when the leader learns of it; 0 is without an end.
        window_ms: u32,
    },
    /// Not to be used until its operator says so.
    Maintenance,
}

/// Health and mode in one word, as people and doors show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// [`Health::Passing`].
    Passing,
    /// [`Health::Warning`].
    Warning,
    /// [`Health::Critical`].
    Critical,
    /// [`Mode::Draining`].
    Draining,
    /// [`Mode::Maintenance`].
    Maintenance,
}

/// How the cluster checks an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Which of its ports; empty is the main one.
    pub port: String,
    /// From one check to the next, give or take a tenth.
    pub interval_ms: u32,
    /// An answer later than this is none.
    pub timeout_ms: u32,
    /// So many good ones in a row make it passing.
    pub rise: u32,
    /// So many bad ones in a row make it critical.
    pub fall: u32,
    /// Critical for so long, it is removed; 0 never.
    pub remove_after_ms: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    // The order is part of the stored format: append only.
    /// A connection can be opened.
    Tcp,
    /// GET answers 2xx; 429 is a warning.
    Http {
        /// Begins with a slash.
        path: String,
    },
    /// grpc.health.v1 answers SERVING.
    Grpc {
        /// Empty is the whole server.
        service: String,
    },
}

impl Instance {
    /// An instance with one port named `main`, of weight 1, in good order.
    pub fn new(id: impl Into<String>, address: impl Into<String>, port: u16) -> Instance {
        Instance {
            id: id.into(),
            address: address.into(),
            ports: BTreeMap::from([("main".to_string(), port)]),
            protocol: String::new(),
            weight: 1,
            locality: Locality::default(),
            metadata: BTreeMap::new(),
            version: String::new(),
            generation: 0,
            health: Health::Passing,
            reason: String::new(),
            mode: Mode::Serving,
            load: None,
            cluster: String::new(),
            priority: 0,
            check: None,
        }
    }

    /// As it is registered: what the cluster checks is not used before it has passed, unless the
    /// registration that stands is of the same generation and place, and has.
    pub fn begin(&mut self, standing: Option<&Instance>) {
        if self.check.is_none() {
            return;
        }
        let is_same = |standing: &&Instance| {
            let place = (self.generation, &self.address, &self.ports);
            standing.check.is_some() && place == (standing.generation, &standing.address, &standing.ports)
        };
        (self.health, self.reason) = match standing.filter(is_same) {
            Some(standing) => (standing.health, standing.reason.clone()),
            None => (Health::Critical, UNCHECKED.into()),
        };
    }

    /// Accepts an instance within all bounds.
    ///
    /// # Errors
    /// [`ErrorKind::BadArguments`] or [`ErrorKind::TooLarge`], naming the field and the limit.
    pub fn validate(&self) -> Result<(), Error> {
        check_label("instance.id", &self.id)?;
        check_address("instance.address", &self.address)?;
        check_count("instance.ports", self.ports.len(), PORTS_MAX)?;
        for (name, port) in &self.ports {
            check_label("instance.ports", name)?;
            check_range("instance.ports", (*port).into(), 1, u16::MAX.into())?;
        }
        check_range("instance.weight", self.weight.into(), 1, WEIGHT_MAX.into())?;
        for (field, label) in [
            ("instance.protocol", &self.protocol),
            ("instance.locality.region", &self.locality.region),
            ("instance.locality.zone", &self.locality.zone),
            ("instance.locality.sub_zone", &self.locality.sub_zone),
            ("instance.cluster", &self.cluster),
        ] {
            if !label.is_empty() {
                check_label(field, label)?;
            }
        }
        self.validate_metadata()?;
        check_text("instance.version", &self.version, TEXT_BYTES_MAX)?;
        check_text("instance.reason", &self.reason, TEXT_BYTES_MAX)?;
        if let Mode::Draining { window_ms } = self.mode {
            check_range("instance.drain_window_ms", window_ms.into(), 0, DRAIN_MS_MAX.into())?;
        }
        check_range("instance.load", self.load.unwrap_or(0).into(), 0, LOAD_MAX.into())?;
        check_range("instance.priority", self.priority.into(), 0, 255)?;
        match &self.check {
            Some(check) => check.validate(self),
            None => Ok(()),
        }
    }

    fn validate_metadata(&self) -> Result<(), Error> {
        check_count("instance.metadata", self.metadata.len(), METADATA_ENTRIES_MAX)?;
        let bytes: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            let detail = format!("bytes of instance.metadata: {bytes}, at most {METADATA_BYTES_MAX}");
            return Err(Error::new(ErrorKind::TooLarge, detail));
        }
        for (key, value) in &self.metadata {
            if key.is_empty() {
                return Err(bad("instance.metadata", "has an empty key"));
            }
            check_text("instance.metadata key", key, METADATA_KEY_BYTES_MAX)?;
            check_text("instance.metadata value", value, METADATA_BYTES_MAX)?;
        }
        Ok(())
    }

    /// Health and mode in one word.
    pub fn status(&self) -> Status {
        match (self.mode, self.health) {
            (Mode::Draining { .. }, _) => Status::Draining,
            (Mode::Maintenance, _) => Status::Maintenance,
            (Mode::Serving, Health::Passing) => Status::Passing,
            (Mode::Serving, Health::Warning) => Status::Warning,
            (Mode::Serving, Health::Critical) => Status::Critical,
        }
    }

    /// A port by name; without a name the main one: that named `main`, else that named as the
    /// protocol, else the first in name order.
    pub fn port(&self, name: &str) -> Option<u16> {
        if !name.is_empty() {
            return self.ports.get(name).copied();
        }
        let named = |name: &str| self.ports.get(name).copied();
        named("main").or_else(|| named(&self.protocol)).or_else(|| self.ports.values().next().copied())
    }

    /// `address:port`, with brackets around IPv6: where to connect, and what the ring hashes.
    pub fn endpoint(&self, port: &str) -> String {
        let port = self.port(port).unwrap_or(0);
        match self.address.contains(':') {
            true => format!("[{}]:{port}", self.address),
            false => format!("{}:{port}", self.address),
        }
    }
}

impl Status {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
            Status::Draining => "draining",
            Status::Maintenance => "maintenance",
        }
    }

    /// Whether new work may go there.
    pub fn is_usable(self) -> bool {
        matches!(self, Status::Passing | Status::Warning)
    }
}

impl Check {
    /// A check every ten seconds.
    pub fn new(kind: CheckKind) -> Check {
        Check {
            kind,
            port: String::new(),
            interval_ms: 10_000,
            timeout_ms: 2_000,
            rise: 2,
            fall: 3,
            remove_after_ms: 0,
        }
    }

    fn validate(&self, instance: &Instance) -> Result<(), Error> {
        let (least, most) = INTERVAL_MS;
        check_range("instance.check.interval_ms", self.interval_ms.into(), least.into(), most.into())?;
        check_range(
            "instance.check.timeout_ms",
            self.timeout_ms.into(),
            10,
            self.interval_ms.max(1000).into(),
        )?;
        check_range("instance.check.rise", self.rise.into(), 1, STREAK_MAX.into())?;
        check_range("instance.check.fall", self.fall.into(), 1, STREAK_MAX.into())?;
        if instance.port(&self.port).is_none() {
            return Err(bad("instance.check.port", "names no port of the instance"));
        }
        match &self.kind {
            CheckKind::Tcp => Ok(()),
            CheckKind::Http { path } => {
                check_text("instance.check.http.path", path, TEXT_BYTES_MAX)?;
                match path.starts_with('/') && !path.contains(' ') {
                    true => Ok(()),
                    false => {
                        Err(bad("instance.check.http.path", "does not begin with a slash, or has blanks"))
                    }
                }
            }
            CheckKind::Grpc { service } => check_text("instance.check.grpc.service", service, TEXT_BYTES_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Instance)) -> Error {
        let mut instance = Instance::new("a-1", "10.0.0.1", 80);
        instance.validate().expect("a good one");
        change(&mut instance);
        instance.validate().expect_err("a bad one")
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        let weight = refused(|instance| instance.weight = 0);
        assert_eq!(weight.detail, "instance.weight is 0, must be between 1 and 65535");
        assert_eq!(refused(|instance| instance.weight = u32::MAX).kind, ErrorKind::BadArguments);
        let large = refused(|instance| {
            instance.metadata.insert("blob".into(), "x".repeat(1 << 20));
        });
        assert_eq!(large.kind, ErrorKind::TooLarge);
        assert_eq!(large.detail, "bytes of instance.metadata: 1048580, at most 16384");
        let many = refused(|instance| {
            instance.metadata = (0..65).map(|key| (key.to_string(), String::new())).collect();
        });
        assert_eq!(many.detail, "instance.metadata: 65 entries, at most 64");
        refused(|instance| instance.id = "../x".into());
        refused(|instance| instance.address = "10.0.0.1:80".into());
        refused(|instance| instance.ports = BTreeMap::from([("x".into(), 0)]));
        refused(|instance| instance.version = "v1\n".into());
        refused(|instance| instance.mode = Mode::Draining { window_ms: u32::MAX });
        let check = |kind| Some(Check::new(kind));
        refused(|instance| instance.check = check(CheckKind::Http { path: "x".into() }));
        refused(|instance| instance.check = check(CheckKind::Http { path: "/ HTTP/1.1\r\nX: y".into() }));
        refused(|instance| {
            instance.check = Some(Check { port: "no".into(), ..Check::new(CheckKind::Tcp) });
        });
        refused(|instance| {
            instance.check = Some(Check { interval_ms: 1, ..Check::new(CheckKind::Tcp) });
        });
    }

    #[test]
    fn what_is_checked_begins_critical_or_as_it_stands() {
        let mut plain = Instance::new("a", "10.0.0.1", 80);
        plain.begin(None);
        assert_eq!(plain.health, Health::Passing);
        let mut checked = Instance { check: Some(Check::new(CheckKind::Tcp)), ..plain.clone() };
        let again = checked.clone();
        checked.begin(Some(&plain));
        assert_eq!((checked.health, checked.reason.as_str()), (Health::Critical, UNCHECKED));
        checked.health = Health::Warning;
        let mut again = Instance { weight: 2, ..again };
        again.begin(Some(&checked));
        assert_eq!((again.health, again.weight), (Health::Warning, 2));
        let mut newer = Instance { generation: 1, ..again };
        newer.begin(Some(&checked));
        assert_eq!(newer.health, Health::Critical, "another process");
    }

    #[test]
    fn the_main_port_is_found() {
        let mut instance = Instance::new("a", "::1", 80);
        assert_eq!(instance.endpoint(""), "[::1]:80");
        instance.ports = BTreeMap::from([("admin".into(), 1), ("grpc".into(), 2)]);
        assert_eq!((instance.port(""), instance.port("grpc"), instance.port("x")), (Some(1), Some(2), None));
        instance.protocol = "grpc".into();
        assert_eq!(instance.port(""), Some(2));
    }
}
