//! Replicated settings: limits that apply uses, changed only by a command.

use serde::{Deserialize, Serialize};

/// All replicated settings, part of the state and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of the rules; new behaviour is gated on it.
    pub rules_version: u32,
    /// Bytes of changes kept for resuming watches; older ones answer "gap".
    pub change_log_bytes: u64,
    /// A change keeps the value up to this many bytes, else says "value not kept".
    pub change_value_bytes: u32,
    /// Bytes of request ids with their answers; a full table refuses new ids.
    pub request_table_bytes: u64,
    /// How long (state time) a request id is remembered.
    pub request_window_ms: i64,
    /// Whether hard quotas are enforced.
    pub enforce_quota: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rules_version: 1,
            change_log_bytes: 32 << 20,
            change_value_bytes: 1024,
            request_table_bytes: 32 << 20,
            request_window_ms: 300_000,
            enforce_quota: true,
        }
    }
}

/// One change of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    // The order is part of the stored format: append only.
    /// Raise the rules version; a lower one than the current is ignored.
    RulesVersion(u32),
    /// See [`Settings::change_log_bytes`].
    ChangeLogBytes(u64),
    /// See [`Settings::change_value_bytes`].
    ChangeValueBytes(u32),
    /// See [`Settings::request_table_bytes`].
    RequestTableBytes(u64),
    /// See [`Settings::request_window_ms`].
    RequestWindowMs(i64),
    /// See [`Settings::enforce_quota`].
    EnforceQuota(bool),
}
