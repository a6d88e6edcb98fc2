//! Who is asked for: a condition on instances.

use std::collections::BTreeMap;

use super::Instance;

/// All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those to which new work may go.
    pub usable_only: bool,
    /// Only this zone; empty is any.
    pub zone: String,
    /// Only this version; empty is any.
    pub version: String,
    /// Only those whose metadata has all of these.
    pub metadata: BTreeMap<String, String>,
}

impl Filter {
    /// Whether an instance is asked for.
    pub fn matches(&self, instance: &Instance) -> bool {
        (!self.usable_only || instance.status().is_usable())
            && (self.zone.is_empty() || self.zone == instance.locality.zone)
            && (self.version.is_empty() || self.version == instance.version)
            && self.metadata.iter().all(|(key, value)| instance.metadata.get(key) == Some(value))
    }
}
