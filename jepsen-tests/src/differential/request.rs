//! Requests, and what their replies hold: fields with a meaning, so that two sides can be compared.

use super::jute::{Reader, Short, Writer};

/// Operation codes.
pub mod code {
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CLOSE_SESSION: i32 = -11;
    pub const ERROR: i32 = -1;
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its operation.
    pub code: i32,
    /// Its record.
    pub body: Body,
    /// For people.
    pub text: String,
    /// The xid that the protocol reserves for it, if any.
    pub xid: Option<i32>,
}

/// A request's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The same on both sides.
    Same(Vec<u8>),
    /// Begins with a transaction that each side numbers itself.
    After(Since, Vec<u8>),
}

/// A point in what a session has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Before everything.
    Zero,
    /// When the session began.
    Opened,
    /// The last reply.
    Last,
    /// After everything.
    Future,
}

/// A part of a reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// Equal on both sides.
    Int(i64),
    /// Equal on both sides.
    Text(String),
    /// Equal on both sides; null is not empty.
    Bytes(Option<Vec<u8>>),
    /// A transaction: the same one on both sides.
    Zxid(i64),
    /// A time: present on both sides or on neither.
    Time(i64),
    /// A session: the same one on both sides.
    Session(i64),
    /// In any order.
    Set(Vec<Vec<Field>>),
    /// In this order.
    List(Vec<Vec<Field>>),
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Field::Int(value) => write!(f, "{value}"),
            Field::Text(text) => write!(f, "{text:?}"),
            Field::Bytes(None) => f.write_str("null"),
            Field::Bytes(Some(bytes)) => write!(f, "b{:?}", String::from_utf8_lossy(bytes)),
            Field::Zxid(zxid) => write!(f, "z{zxid:#x}"),
            Field::Time(0) => f.write_str("t0"),
            Field::Time(_) => f.write_str("t"),
            Field::Session(0) => f.write_str("s0"),
            Field::Session(session) => write!(f, "s{session:#x}"),
            Field::Set(items) | Field::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { "; " })?;
                    f.write_str(&join(item))?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Fields as one line.
pub fn join(fields: &[Field]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Reads the record of a good reply to a request of this code. What is left over shows too.
pub fn read_reply(code: i32, bytes: &[u8]) -> Vec<Field> {
    let mut reader = Reader(bytes);
    let mut fields = match read_record(code, &mut reader) {
        Ok(fields) => fields,
        Err(Short) => vec![Field::Text("a record too short".into())],
    };
    if !reader.0.is_empty() {
        fields.push(Field::Bytes(Some(reader.0.to_vec())));
    }
    fields
}

fn read_record(code: i32, reader: &mut Reader<'_>) -> Result<Vec<Field>, Short> {
    Ok(match code {
        code::CREATE | code::SYNC => vec![Field::Text(reader.text()?)],
        code::CREATE2 | code::CREATE_CONTAINER | code::CREATE_TTL => {
            let mut fields = vec![Field::Text(reader.text()?)];
            fields.extend(read_stat(reader)?);
            fields
        }
        code::EXISTS | code::SET_DATA | code::SET_ACL => read_stat(reader)?,
        code::GET_DATA => {
            let mut fields = vec![Field::Bytes(reader.bytes()?.map(<[u8]>::to_vec))];
            fields.extend(read_stat(reader)?);
            fields
        }
        code::GET_ACL => {
            let entry = |reader: &mut Reader<'_>| {
                let permissions = Field::Int(reader.int()?.into());
                Ok(vec![permissions, Field::Text(reader.text()?), Field::Text(reader.text()?)])
            };
            // What "auth" stands for ZooKeeper lists in a hash's order.
            let mut fields = vec![Field::Set(sorted(read_vector(reader, entry)?))];
            fields.extend(read_stat(reader)?);
            fields
        }
        code::GET_CHILDREN | code::GET_EPHEMERALS => vec![read_names(reader)?],
        code::GET_CHILDREN2 => {
            let mut fields = vec![read_names(reader)?];
            fields.extend(read_stat(reader)?);
            fields
        }
        code::GET_ALL_CHILDREN_NUMBER | code::ADD_WATCH => vec![Field::Int(reader.int()?.into())],
        code::WHO_AM_I => {
            let entry =
                |reader: &mut Reader<'_>| Ok(vec![Field::Text(reader.text()?), Field::Text(reader.text()?)]);
            vec![Field::Set(sorted(read_vector(reader, entry)?))]
        }
        code::MULTI | code::MULTI_READ => vec![Field::List(read_multi(reader)?)],
        _ => Vec::new(),
    })
}

fn read_multi(reader: &mut Reader<'_>) -> Result<Vec<Vec<Field>>, Short> {
    let mut results = Vec::new();
    loop {
        let (code, is_done, error) = (reader.int()?, reader.byte()?, reader.int()?);
        if is_done != 0 {
            return Ok(results);
        }
        let mut fields = vec![Field::Int(code.into()), Field::Int(error.into())];
        match code {
            code::ERROR => fields.push(Field::Int(reader.int()?.into())),
            code => fields.extend(read_record(code, reader)?),
        }
        results.push(fields);
    }
}

fn read_stat(reader: &mut Reader<'_>) -> Result<Vec<Field>, Short> {
    let mut fields = vec![
        Field::Zxid(reader.long()?),
        Field::Zxid(reader.long()?),
        Field::Time(reader.long()?),
        Field::Time(reader.long()?),
    ];
    for _ in 0..3 {
        fields.push(Field::Int(reader.int()?.into()));
    }
    fields.push(Field::Session(reader.long()?));
    for _ in 0..2 {
        fields.push(Field::Int(reader.int()?.into()));
    }
    fields.push(Field::Zxid(reader.long()?));
    Ok(fields)
}

fn read_names(reader: &mut Reader<'_>) -> Result<Field, Short> {
    let names = read_vector(reader, |reader| Ok(vec![Field::Text(reader.text()?)]))?;
    Ok(Field::Set(sorted(names)))
}

fn sorted(mut items: Vec<Vec<Field>>) -> Vec<Vec<Field>> {
    items.sort();
    items
}

fn read_vector<'a, T>(
    reader: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Result<T, Short>,
) -> Result<Vec<T>, Short> {
    let count = reader.int()?;
    (0..count).map(|_| item(reader)).collect()
}

impl Request {
    /// One with a record that is the same on both sides.
    pub fn new(code: i32, record: &Writer, text: String) -> Request {
        Request { code, body: Body::Same(record.0.clone()), text, xid: None }
    }

    /// Proof of an identity.
    pub fn auth(scheme: &str, credential: &[u8]) -> Request {
        let mut record = Writer::default();
        record.int(0).text(scheme).bytes(Some(credential));
        let text = format!("auth {scheme} {:?}", String::from_utf8_lossy(credential));
        Request { xid: Some(-4), ..Request::new(code::AUTH, &record, text) }
    }

    /// A plain node, open to all.
    pub fn create(path: &str) -> Request {
        let mut record = Writer::default();
        record.text(path).bytes(Some(b"")).int(1).int(31).text("world").text("anyone").int(0);
        Request::new(code::CREATE, &record, format!("create {path}"))
    }

    /// Children of a node.
    pub fn children(path: &str) -> Request {
        let mut record = Writer::default();
        record.text(path).byte(0);
        Request::new(code::GET_CHILDREN, &record, format!("children {path}"))
    }

    /// Removes a node of any version.
    pub fn delete(path: &str) -> Request {
        let mut record = Writer::default();
        record.text(path).int(-1);
        Request::new(code::DELETE, &record, format!("delete {path}"))
    }

    /// The end of a session.
    pub fn close() -> Request {
        Request::new(code::CLOSE_SESSION, &Writer::default(), "closeSession".into())
    }

    /// A request whose reply stands behind all that came before.
    pub fn fence() -> Request {
        let mut record = Writer::default();
        record.text("/zookeeper").byte(0);
        Request::new(code::EXISTS, &record, "fence".into())
    }
}
