//! The shapes of JSON documents: raw values, under names that stay.
//!
//! - times are milliseconds since the Unix epoch, zxids and versions are numbers;
//! - session ids are strings ("0x…"): they need all 64 bits, which many JSON readers do not keep;
//! - data is `data` if it is UTF-8, `data_base64` if not; both are absent where the data is null.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_core::acl::AclEntry;
use quorate_core::znode::Stat;
use serde::Serialize;

use crate::values::permission_letters;

/// A node's metadata.
#[derive(Clone, Debug, Serialize)]
pub struct StatJson {
    pub czxid: u64,
    pub mzxid: u64,
    pub pzxid: u64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: Option<String>,
    pub data_length: i32,
    pub num_children: i32,
}

impl From<&Stat> for StatJson {
    fn from(stat: &Stat) -> StatJson {
        StatJson {
            czxid: stat.czxid.0,
            mzxid: stat.mzxid.0,
            pzxid: stat.pzxid.0,
            ctime: stat.ctime.0,
            mtime: stat.mtime.0,
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            ephemeral_owner: (stat.ephemeral_owner.0 != 0).then(|| stat.ephemeral_owner.to_string()),
            data_length: stat.data_length,
            num_children: stat.num_children,
        }
    }
}

/// Data, as a part of a document.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DataJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
}

impl DataJson {
    pub fn new(data: Option<&[u8]>) -> DataJson {
        let Some(bytes) = data else { return DataJson::default() };
        match std::str::from_utf8(bytes) {
            Ok(text) => DataJson { data: Some(text.into()), data_base64: None },
            Err(_) => DataJson { data: None, data_base64: Some(STANDARD.encode(bytes)) },
        }
    }
}

/// A node that was read or written.
#[derive(Clone, Debug, Serialize)]
pub struct NodeJson {
    pub path: String,
    pub zxid: u64,
    #[serde(flatten)]
    pub data: DataJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stat: Option<StatJson>,
}

/// Something that was done.
#[derive(Clone, Debug, Serialize)]
pub struct DoneJson {
    pub path: String,
    pub zxid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// One line of an ACL.
#[derive(Clone, Debug, Serialize)]
pub struct AclEntryJson {
    pub scheme: String,
    pub id: String,
    pub permissions: String,
}

impl From<&AclEntry> for AclEntryJson {
    fn from(entry: &AclEntry) -> AclEntryJson {
        AclEntryJson {
            scheme: entry.scheme.clone(),
            id: entry.id.clone(),
            permissions: permission_letters(entry.permissions),
        }
    }
}

/// A digest's 16 bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use quorate_core::id::{SessionId, Timestamp, Zxid};

    use super::*;

    fn stat() -> Stat {
        Stat {
            czxid: Zxid(1),
            mzxid: Zxid(2),
            pzxid: Zxid(3),
            ctime: Timestamp(4),
            mtime: Timestamp(5),
            version: 6,
            cversion: 7,
            aversion: 8,
            ephemeral_owner: SessionId(u64::MAX),
            data_length: 9,
            num_children: 10,
        }
    }

    fn shape(document: &impl Serialize) -> String {
        serde_json::to_string(document).expect("serializes")
    }

    #[test]
    fn a_node_has_its_promised_shape() {
        let node = |data: Option<&[u8]>| NodeJson {
            path: "/a".into(),
            zxid: 11,
            data: DataJson::new(data),
            stat: Some((&stat()).into()),
        };
        let stat = concat!(
            r#""stat":{"czxid":1,"mzxid":2,"pzxid":3,"ctime":4,"mtime":5,"version":6,"cversion":7,"aversion":8,"#,
            r#""ephemeral_owner":"0xffffffffffffffff","data_length":9,"num_children":10}"#
        );
        for (data, shown) in [
            (Some(&b"x"[..]), r#""data":"x","#),
            (Some(b""), r#""data":"","#),
            (Some(b"\xff"), r#""data_base64":"/w==","#),
            (None, ""),
        ] {
            assert_eq!(shape(&node(data)), format!(r#"{{"path":"/a","zxid":11,{shown}{stat}}}"#));
        }
    }

    #[test]
    fn a_deed_has_its_promised_shape() {
        let done = DoneJson { path: "/a".into(), zxid: 11, count: None };
        assert_eq!(shape(&done), r#"{"path":"/a","zxid":11}"#);
        let done = DoneJson { count: Some(3), ..done };
        assert_eq!(shape(&done), r#"{"path":"/a","zxid":11,"count":3}"#);
    }

    #[test]
    fn an_acl_entry_has_its_promised_shape() {
        let entry = crate::values::parse_acl_entry("digest:alice:h:rw").expect("an entry");
        assert_eq!(
            shape(&AclEntryJson::from(&entry)),
            r#"{"scheme":"digest","id":"alice:h","permissions":"rw"}"#
        );
    }
}
