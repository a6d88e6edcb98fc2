//! One connection: greeting, frames out, frames in. Blocking, with a deadline on every read.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::jute::{Reader, Short, Writer};

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a client greets.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// The last transaction seen.
    pub zxid: i64,
    /// The timeout asked for.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: i64,
    /// The session's.
    pub password: Vec<u8>,
    /// Whether the byte about read-only members is sent.
    pub with_read_only: bool,
}

/// How it is greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The session; 0 for one that has expired.
    pub session: i64,
    /// The timeout granted.
    pub timeout_ms: i32,
    /// The session's password.
    pub password: Vec<u8>,
    /// The trailing byte, if there was one.
    pub read_only: Option<u8>,
}

/// What comes in.
#[derive(Debug)]
pub enum Incoming {
    /// A frame.
    Frame(Vec<u8>),
    /// The other side ended the connection.
    Closed,
    /// Nothing came in time.
    Silence,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects and greets; `None` for a welcome if the connection was ended instead.
    pub fn open(address: &str, greeting: &Greeting) -> Result<(Connection, Option<Welcome>), String> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        let set_up = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
        set_up.map_err(|error| error.to_string())?;
        let mut connection = Connection { stream };
        let mut record = Writer::default();
        record.int(0).long(greeting.zxid).int(greeting.timeout_ms).long(greeting.session);
        record.bytes(Some(&greeting.password));
        if greeting.with_read_only {
            record.byte(0);
        }
        connection.send(&[record.0])?;
        match connection.receive()? {
            Incoming::Frame(frame) => {
                let welcome = read_welcome(&frame).map_err(|Short| "a welcome too short".to_owned())?;
                Ok((connection, Some(welcome)))
            }
            Incoming::Closed => Ok((connection, None)),
            Incoming::Silence => Err("no welcome".into()),
        }
    }

    /// Sends records, each in its frame, in one go.
    pub fn send(&mut self, records: &[Vec<u8>]) -> Result<(), String> {
        let mut out = Vec::new();
        for record in records {
            out.extend((record.len() as i32).to_be_bytes());
            out.extend(record);
        }
        match self.stream.write_all(&out) {
            // What the other side ended is told by the reads.
            Err(error) if !is_ended(error.kind()) => Err(error.to_string()),
            _ => Ok(()),
        }
    }

    /// The next frame.
    pub fn receive(&mut self) -> Result<Incoming, String> {
        let mut length = [0; 4];
        if let Some(other) = self.fill(&mut length)? {
            return Ok(other);
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > 64 << 20 {
            return Err(format!("a frame of {length} bytes"));
        }
        let mut frame = vec![0; length];
        match self.fill(&mut frame)? {
            Some(other) => Ok(other),
            None => Ok(Incoming::Frame(frame)),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<Option<Incoming>, String> {
        match self.stream.read_exact(bytes) {
            Ok(()) => Ok(None),
            Err(error) if is_ended(error.kind()) => Ok(Some(Incoming::Closed)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(Some(Incoming::Silence))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

fn is_ended(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn read_welcome(frame: &[u8]) -> Result<Welcome, Short> {
    let mut reader = Reader(frame);
    let _protocol = reader.int()?;
    let timeout_ms = reader.int()?;
    let session = reader.long()?;
    let password = reader.bytes()?.unwrap_or_default().to_vec();
    Ok(Welcome { session, timeout_ms, password, read_only: reader.byte().ok() })
}
