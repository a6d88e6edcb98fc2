//! Values on the command line: durations, data, credentials, ACL entries, session ids, addresses.
//! Each is parsed once into a type; what the cluster judges (paths, limits) is left to it.

use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::acl::{AclEntry, Permissions};
use quorate_core::id::SessionId;

use crate::failure::Failure;

/// Parses "500ms", "30s", "5m", "2h", "1d". A bare number is refused: nobody knows of what.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("write a number and a unit: 500ms, 30s, 5m, 2h, 1d".into());
    }
    let number: u64 = number.parse().map_err(|_| "too large".to_string())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("{text} of what? write {text}s, {text}ms or {text}m")),
        _ => return Err(format!("unknown unit {unit:?}: take ms, s, m, h or d")),
    };
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(|| "too large".into())
}

/// Data as the command line gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataArgument {
    Text(String),
    File(String),
    Stdin,
}

impl FromStr for DataArgument {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<DataArgument, Self::Err> {
        Ok(match text {
            "-" => DataArgument::Stdin,
            _ => match text.strip_prefix('@') {
                Some(file) => DataArgument::File(file.into()),
                None => DataArgument::Text(text.into()),
            },
        })
    }
}

impl DataArgument {
    /// The bytes.
    pub fn read(self) -> Result<Bytes, Failure> {
        match self {
            DataArgument::Text(text) => Ok(text.into()),
            DataArgument::File(file) => match std::fs::read(&file) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(Failure::usage(format!("cannot read {file}: {error}"))),
            },
            DataArgument::Stdin => {
                let mut bytes = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut bytes)
                    .map_err(|error| Failure::other(format!("cannot read the standard input: {error}")))?;
                Ok(bytes.into())
            }
        }
    }
}

/// A proof of identity. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthArgument {
    pub scheme: String,
    pub credential: String,
}

impl std::fmt::Debug for AuthArgument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:…", self.scheme)
    }
}

impl FromStr for AuthArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<AuthArgument, String> {
        match text.split_once(':') {
            Some((scheme, credential)) if !scheme.is_empty() && !credential.is_empty() => {
                Ok(AuthArgument { scheme: scheme.into(), credential: credential.into() })
            }
            _ => Err("write SCHEME:CREDENTIAL, such as digest:alice:secret".into()),
        }
    }
}

/// The letters of the permissions, in ZooKeeper's order.
const PERMISSION_LETTERS: [(char, Permissions); 5] = [
    ('c', Permissions::CREATE),
    ('d', Permissions::DELETE),
    ('r', Permissions::READ),
    ('w', Permissions::WRITE),
    ('a', Permissions::ADMIN),
];

/// Parses one line of an ACL: "world:anyone:cdrwa", "digest:alice:HASH:rw", "ip:10.0.0.0/8:r", "auth::cdrwa".
pub fn parse_acl_entry(text: &str) -> Result<AclEntry, String> {
    let parts = text.split_once(':').and_then(|(scheme, rest)| {
        let (id, letters) = rest.rsplit_once(':')?;
        Some((scheme, id, letters))
    });
    let Some((scheme, id, letters)) = parts else {
        return Err("write SCHEME:ID:PERMISSIONS, such as world:anyone:r or auth::cdrwa".into());
    };
    let mut permissions = Permissions::default();
    for letter in letters.chars() {
        let known = PERMISSION_LETTERS.iter().find(|(known, _)| *known == letter);
        let Some((_, permission)) = known else {
            return Err(format!(
                "unknown permission {letter:?}: take of c (create), d (delete), r (read), w (write), a (admin)"
            ));
        };
        permissions = permissions.union(*permission);
    }
    if permissions == Permissions::default() {
        return Err("no permissions: take of c, d, r, w, a".into());
    }
    Ok(AclEntry { permissions, scheme: scheme.into(), id: id.into() })
}

/// The permissions' letters.
pub fn permission_letters(permissions: Permissions) -> String {
    let held = PERMISSION_LETTERS.iter().filter(|(_, permission)| permissions.intersects(*permission));
    held.map(|(letter, _)| *letter).collect()
}

/// Parses a session's id as `session list` shows it (0x…), or in decimal.
pub fn parse_session_id(text: &str) -> Result<SessionId, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map(SessionId).map_err(|_| "write it as `quorate session list` shows it: 0x…".into())
}

/// Parses HOST:PORT.
pub fn parse_address(text: &str) -> Result<String, String> {
    let is_good = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if is_good { Ok(text.into()) } else { Err("write HOST:PORT, such as 10.0.0.4:7401".into()) }
}

/// Parses a member's id.
pub fn parse_member_id(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a member's id is a number from 1".into()),
        Ok(id) => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "30", "-3s", "3x", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn data_is_text_a_file_or_the_standard_input() {
        for (text, data) in [
            ("x", DataArgument::Text("x".into())),
            ("", DataArgument::Text("".into())),
            ("@f", DataArgument::File("f".into())),
            ("-", DataArgument::Stdin),
            ("--", DataArgument::Text("--".into())),
        ] {
            assert_eq!(text.parse(), Ok(data));
        }
    }

    #[test]
    fn an_absent_file_is_a_usage_error_that_names_it() {
        let failure = DataArgument::File("/no/such/file".into()).read().expect_err("absent");
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("/no/such/file"));
    }

    #[test]
    fn acl_entries_come_back_as_they_went() {
        for text in
            ["world:anyone:cdrwa", "digest:alice:aGFzaA==:rw", "ip:10.0.0.0/8:r", "auth::ca", "ip:::1:r"]
        {
            let entry = parse_acl_entry(text).expect(text);
            let letters = permission_letters(entry.permissions);
            assert_eq!(format!("{}:{}:{letters}", entry.scheme, entry.id), text);
        }
        for text in ["", "world", "world:anyone", "world:anyone:", "world:anyone:x"] {
            assert!(parse_acl_entry(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_credential_is_never_printed() {
        let auth: AuthArgument = "digest:alice:secret".parse().expect("a credential");
        assert_eq!(auth.credential, "alice:secret");
        assert!(!format!("{auth:?}").contains("secret"));
    }

    #[test]
    fn session_ids_are_taken_as_they_are_shown() {
        for id in [0x1f, u64::MAX] {
            assert_eq!(parse_session_id(&SessionId(id).to_string()), Ok(SessionId(id)));
            assert_eq!(parse_session_id(&id.to_string()), Ok(SessionId(id)));
        }
        assert!(parse_session_id("1f").is_err());
    }
}
