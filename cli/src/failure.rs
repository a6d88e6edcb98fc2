//! How a command fails: what is said, and which exit code scripts see.
//!
//! The codes are promised in --help; [`exit_code_of`] is the only place that assigns them to the
//! cluster's refusals.

use std::fmt;
use std::process::ExitCode;

use quorate_core::error::ErrorKind;
use serde_json::json;

use crate::arguments::Format;
use crate::output::style::Style;

/// Not found.
pub const NOT_FOUND: u8 = 3;
/// Exists, bad version, not empty, guard.
pub const CONFLICT: u8 = 4;
/// No quorum, or nobody answers.
pub const UNAVAILABLE: u8 = 5;
/// No permission, or a false credential.
pub const DENIED: u8 = 6;
const OTHER: u8 = 1;
const USAGE: u8 = 2;

/// Why a command ended without doing what it should.
#[derive(Debug)]
pub enum Failure {
    /// Say this and exit so.
    Told {
        /// The name of the kind in JSON.
        kind: &'static str,
        code: u8,
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// All is said; only the exit code is left (of a command that was run).
    Silent(u8),
    /// Nobody reads what we print: stop without a word.
    ClosedPipe,
}

/// A command's result.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    fn told(kind: &'static str, code: u8, message: impl Into<String>) -> Failure {
        Failure::Told { kind, code, message: message.into(), hint: None }
    }

    /// The user's mistake.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::told("usage", USAGE, message)
    }

    /// No member answers, or none can.
    pub fn unavailable(message: impl Into<String>) -> Failure {
        Failure::told(name_of(ErrorKind::Unavailable), UNAVAILABLE, message)
    }

    /// Whether waiting may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Failure::Told { code: UNAVAILABLE, .. })
    }

    /// What should be there is not.
    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::told(name_of(ErrorKind::NoNode), NOT_FOUND, message)
    }

    /// Somebody else was faster.
    pub fn conflict(message: impl Into<String>) -> Failure {
        Failure::told("conflict", CONFLICT, message)
    }

    /// Anything else.
    pub fn other(message: impl Into<String>) -> Failure {
        Failure::told("other", OTHER, message)
    }

    /// The cluster's refusal of something about `subject` (most often a path).
    pub fn refused(error: &quorate_core::error::Error, subject: &str) -> Failure {
        let mut message = phrase_of(error.kind).to_string();
        let about = if error.detail.is_empty() { subject } else { &error.detail };
        if !about.is_empty() {
            message = format!("{message}: {about}");
        }
        if let Some(index) = error.operation {
            message = format!("operation {} of the transaction: {message}", index + 1);
        }
        Failure::Told {
            kind: name_of(error.kind),
            code: exit_code_of(error.kind),
            message,
            hint: hint_of_path(subject).or_else(|| hint_of(error.kind)).map(Into::into),
        }
    }

    /// The SDK's error about `subject`.
    pub fn from_client(error: &quorate::Error, subject: &str) -> Failure {
        match error {
            quorate::Error::Refused { error, .. } => Failure::refused(error, subject),
            quorate::Error::BadArguments(message) => Failure::usage(message.clone()),
            other => {
                let mut failure =
                    Failure::told(name_of(other.kind()), exit_code_of(other.kind()), other.to_string());
                if let (Failure::Told { hint, .. }, Some(known)) = (&mut failure, hint_of(other.kind())) {
                    *hint = Some(known.into());
                }
                failure
            }
        }
    }

    /// The same, with what to do about it.
    pub fn with_hint(mut self, text: impl Into<String>) -> Failure {
        if let Failure::Told { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// What scripts see.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Told { code, .. } | Failure::Silent(code) => *code,
            Failure::ClosedPipe => 0,
        }
    }

    /// Says it on the standard error, and returns the exit code.
    pub fn report(&self, format: Format) -> ExitCode {
        if let Failure::Told { kind, code, message, hint } = self {
            let text = match format {
                Format::Table => {
                    let style = Style::of_stderr();
                    let hint =
                        hint.as_ref().map(|hint| format!("\n  {}", style.dim(hint))).unwrap_or_default();
                    format!("{} {message}{hint}", style.bad("quorate:"))
                }
                Format::Json => {
                    let mut error = json!({ "kind": kind, "message": message, "exit_code": code });
                    if let Some(hint) = hint {
                        error["hint"] = json!(hint);
                    }
                    json!({ "error": error }).to_string()
                }
            };
            // Where nobody listens there is nothing left to do.
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{text}\n"));
        }
        ExitCode::from(self.exit_code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Told { message, .. } => f.write_str(message),
            Failure::Silent(code) => write!(f, "exit code {code}"),
            Failure::ClosedPipe => f.write_str("the reader has gone"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::other(error.to_string()),
        }
    }
}

/// The exit code of a refusal.
pub fn exit_code_of(kind: ErrorKind) -> u8 {
    use ErrorKind::*;
    match kind {
        NoNode | NoWatcher => NOT_FOUND,
        NodeExists | BadVersion | NotEmpty | NoChildrenForEphemerals | GuardFailed | ReconfigInProgress => {
            CONFLICT
        }
        Unavailable | MemberBehind | Overloaded | Throttled | OutcomeUnknown | SessionExpired
        | SessionMoved | NotReadOnly | NewConfigNoQuorum => UNAVAILABLE,
        NoAuth | AuthFailed | ReconfigDisabled => DENIED,
        BadArguments | InvalidAcl => USAGE,
        QuotaExceeded | RuntimeInconsistency | MarshallingError | Unimplemented | TooLarge | WatchGap
        | Internal => OTHER,
    }
}

/// A refusal in words.
fn phrase_of(kind: ErrorKind) -> &'static str {
    use ErrorKind::*;
    match kind {
        NoNode => "no such node",
        NodeExists => "the node exists already",
        BadVersion => "the node has another version",
        NotEmpty => "the node has children",
        NoChildrenForEphemerals => "an ephemeral node can have no children",
        BadArguments => "this cannot be",
        NoAuth => "permission denied",
        InvalidAcl => "this is no ACL",
        AuthFailed => "the credential is false",
        SessionExpired => "the session has expired",
        SessionMoved => "the session is used elsewhere",
        QuotaExceeded => "the quota would be exceeded",
        NoWatcher => "no such watch",
        RuntimeInconsistency => "not done, because an operation before it failed",
        MarshallingError => "the member does not understand the request",
        Unimplemented => "the member does not know this operation",
        NotReadOnly => "this member serves only reads",
        ReconfigDisabled => "changes of the membership are disabled",
        ReconfigInProgress => "another change of the membership is in progress",
        NewConfigNoQuorum => "the new membership would have no quorum",
        Throttled => "too many requests",
        GuardFailed => "a guard does not hold",
        TooLarge => "too large",
        Overloaded => "the cluster is overloaded",
        OutcomeUnknown => "it may or may not have been done",
        WatchGap => "the cluster no longer remembers events that old",
        MemberBehind => "the member has not caught up",
        Unavailable => "unavailable",
        Internal => "the member has failed",
    }
}

fn hint_of(kind: ErrorKind) -> Option<&'static str> {
    use ErrorKind::*;
    Some(match kind {
        NotEmpty => "delete -r deletes the children too",
        NoAuth => {
            "prove an identity with --auth scheme:credential; `quorate acl get PATH` shows who may do what"
        }
        WatchGap => "watch without --since, and read the nodes again",
        OutcomeUnknown => "look before trying again",
        Unavailable => "`quorate cluster status` shows which members run",
        ReconfigInProgress => "try again when it has finished; `quorate cluster status` shows the members",
        _ => return None,
    })
}

/// What may be wrong with a path that the cluster has refused, whatever it said.
fn hint_of_path(path: &str) -> Option<&'static str> {
    match path {
        "" | "/" => None,
        path if !path.starts_with('/') => Some("a path begins with /"),
        path if path.ends_with('/') => Some("a path does not end with /"),
        _ => None,
    }
}

/// A kind's name in JSON.
fn name_of(kind: ErrorKind) -> &'static str {
    use ErrorKind::*;
    match kind {
        NoNode => "no_node",
        NodeExists => "node_exists",
        BadVersion => "bad_version",
        NotEmpty => "not_empty",
        NoChildrenForEphemerals => "no_children_for_ephemerals",
        BadArguments => "bad_arguments",
        NoAuth => "no_auth",
        InvalidAcl => "invalid_acl",
        AuthFailed => "auth_failed",
        SessionExpired => "session_expired",
        SessionMoved => "session_moved",
        QuotaExceeded => "quota_exceeded",
        NoWatcher => "no_watcher",
        RuntimeInconsistency => "runtime_inconsistency",
        MarshallingError => "marshalling_error",
        Unimplemented => "unimplemented",
        NotReadOnly => "not_read_only",
        ReconfigDisabled => "reconfig_disabled",
        ReconfigInProgress => "reconfig_in_progress",
        NewConfigNoQuorum => "new_config_no_quorum",
        Throttled => "throttled",
        GuardFailed => "guard_failed",
        TooLarge => "too_large",
        Overloaded => "overloaded",
        OutcomeUnknown => "outcome_unknown",
        WatchGap => "watch_gap",
        MemberBehind => "member_behind",
        Unavailable => "unavailable",
        Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::error::Error;

    use super::*;

    #[test]
    fn refusals_have_the_promised_exit_codes() {
        use ErrorKind::*;
        for (kind, code) in [
            (NoNode, 3),
            (NodeExists, 4),
            (BadVersion, 4),
            (NotEmpty, 4),
            (GuardFailed, 4),
            (Unavailable, 5),
            (Overloaded, 5),
            (SessionExpired, 5),
            (OutcomeUnknown, 5),
            (BadArguments, 2),
            (InvalidAcl, 2),
            (NoAuth, 6),
            (AuthFailed, 6),
            (Internal, 1),
            (TooLarge, 1),
        ] {
            assert_eq!(Failure::refused(&Error::from(kind), "/a").exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_names_what_it_is_about() {
        let failure = Failure::refused(&Error::from(ErrorKind::NoNode), "/a");
        assert_eq!(failure.to_string(), "no such node: /a");
        let failure = Failure::refused(&Error::new(ErrorKind::NoNode, "/b"), "/a");
        assert_eq!(failure.to_string(), "no such node: /b");
        let failure = Failure::refused(&Error::new(ErrorKind::BadVersion, "/b").at_operation(1), "");
        assert_eq!(failure.to_string(), "operation 2 of the transaction: the node has another version: /b");
    }

    #[test]
    fn a_path_that_cannot_be_is_explained() {
        for (path, explained) in [("a", true), ("/a/", true), ("/a", false), ("/", false), ("", false)] {
            let failure = Failure::refused(&Error::from(ErrorKind::NoNode), path);
            assert_eq!(matches!(failure, Failure::Told { hint: Some(_), .. }), explained, "{path}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!(failure.exit_code(), 0);
    }
}
