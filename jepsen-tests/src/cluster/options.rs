//! How to start a cluster.

use std::path::PathBuf;

/// How to start a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many founders.
    pub members: u64,
    /// Further flags of `quorated serve`, such as `--checkpoint-log-mb 1`.
    pub flags: Vec<String>,
    /// Keep data and logs here instead of in a temporary folder that is removed at the end.
    pub folder: Option<PathBuf>,
    /// A network of the members' own, for network faults.
    pub network: bool,
    /// Load what makes clocks and fsyncs misbehave into the members.
    pub faults: bool,
    /// A disk of the members' own of so many megabytes each, for filling it up.
    pub disk_mb: Option<u64>,
    /// With a door for ZooKeeper's clients.
    pub zookeeper: bool,
}

impl Options {
    /// So many founders, everything else as configured by default.
    pub fn members(members: u64) -> Options {
        Options {
            members,
            flags: Vec::new(),
            folder: None,
            network: false,
            faults: false,
            disk_mb: None,
            zookeeper: false,
        }
    }

    /// On a network of their own, with clocks and fsyncs that can be made to misbehave.
    pub fn hurtable(mut self) -> Options {
        (self.network, self.faults) = (true, true);
        self
    }

    /// With a small disk each.
    pub fn disk_mb(mut self, megabytes: u64) -> Options {
        self.disk_mb = Some(megabytes);
        self
    }

    /// With a further flag and its value.
    pub fn flag(mut self, name: &str, value: impl ToString) -> Options {
        self.flags.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// With data and logs kept in `folder`.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Options {
        self.folder = Some(folder.into());
        self
    }
}
