//! A client of ZooKeeper's protocol (jute over TCP), for the workloads.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate::{CreateMode, Error, ErrorKind, Result, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::workloads::door::{Change, Made, Seen};

/// How long one member may take to accept a session before the next is tried.
const ATTEMPT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// A reply larger than this is none.
const REPLY_MAX: i32 = 16 << 20;

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const GET: i32 = 4;
const SET: i32 = 5;
const LIST: i32 = 8;
const SYNC: i32 = 9;
const CHECK: i32 = 13;
const MULTI: i32 = 14;
const CLOSE: i32 = -11;
/// The xid of a watch's event: nobody here watches.
const EVENT: i32 = -1;

/// A session. Cheap to clone; requests take turns.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Mutex<Connection>>,
}

#[derive(Debug)]
struct Connection {
    /// Gone after the first failure: what was under way is unknown, what follows was never sent.
    stream: Option<TcpStream>,
    xid: i32,
}

impl Client {
    /// Opens a session with any of these members, each in turn from a random one on.
    pub async fn connect(endpoints: &[String], session: Duration, patience: Duration) -> Result<Client> {
        let started = Instant::now();
        let first = fastrand::usize(..endpoints.len().max(1));
        let mut last = "no member is named".to_owned();
        for endpoint in endpoints.iter().cycle().skip(first) {
            match timeout(ATTEMPT, greet(endpoint, session)).await {
                Ok(Ok(stream)) => {
                    let connection = Connection { stream: Some(stream), xid: 0 };
                    return Ok(Client { connection: Arc::new(Mutex::new(connection)) });
                }
                Ok(Err(error)) => last = format!("{endpoint}: {error}"),
                Err(_) => last = format!("{endpoint}: no answer in {ATTEMPT:?}"),
            }
            if started.elapsed() > patience {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(Error::Connect(last))
    }

    /// Reads a node as the member has it.
    pub async fn get(&self, path: &str) -> Result<Seen> {
        let mut body = text(path);
        body.put_u8(0);
        let (zxid, mut reply) = self.ask(GET, body).await?;
        let data = buffer(&mut reply)?;
        Ok(Seen { data, version: Stat::read(&mut reply)?.version, zxid })
    }

    /// Sets a node.
    pub async fn set(&self, path: &str, data: String, version: i32) -> Result<Made> {
        let (zxid, mut reply) = self.ask(SET, set_body(path, &data, version)).await?;
        Ok(Made { path: path.into(), version: Stat::read(&mut reply)?.version, zxid })
    }

    /// Creates a node that everybody may do everything with.
    pub async fn create(&self, path: &str, data: String, mode: CreateMode) -> Result<Made> {
        let flags = match mode {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => 1,
            CreateMode::PersistentSequential => 2,
            CreateMode::EphemeralSequential => 3,
            other => return Err(Error::BadArguments(format!("{other:?}"))),
        };
        let mut body = text(path);
        put_buffer(&mut body, data.as_bytes());
        body.put_i32(1);
        body.put_i32(31);
        body.extend_from_slice(&text("world"));
        body.extend_from_slice(&text("anyone"));
        body.put_i32(flags);
        let (zxid, mut reply) = self.ask(CREATE, body).await?;
        let path = String::from_utf8_lossy(&buffer(&mut reply)?).into_owned();
        Ok(Made { path, version: 0, zxid })
    }

    /// Deletes a node, whatever its version.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let mut body = text(path);
        body.put_i32(-1);
        self.ask(DELETE, body).await.map(drop)
    }

    /// Lists a node's children.
    pub async fn list(&self, path: &str) -> Result<(Vec<String>, u64)> {
        let mut body = text(path);
        body.put_u8(0);
        let (zxid, mut reply) = self.ask(LIST, body).await?;
        let count = integer(&mut reply)?;
        let names = (0..count).map(|_| buffer(&mut reply));
        let names = names.map(|name| name.map(|name| String::from_utf8_lossy(&name).into_owned()));
        Ok((names.collect::<Result<_>>()?, zxid))
    }

    /// Waits until the member has applied what was committed before.
    pub async fn sync(&self, path: &str) -> Result<()> {
        self.ask(SYNC, text(path)).await.map(drop)
    }

    /// All changes or none.
    pub async fn multi(&self, changes: Vec<Change>) -> Result<u64> {
        let mut body = BytesMut::new();
        for change in &changes {
            let (kind, bytes) = match change {
                Change::Set(path, data, version) => (SET, set_body(path, data, *version)),
                Change::Check(path, version) => {
                    let mut bytes = text(path);
                    bytes.put_i32(*version);
                    (CHECK, bytes)
                }
            };
            body.put_i32(kind);
            body.put_u8(0);
            body.put_i32(-1);
            body.extend_from_slice(&bytes);
        }
        body.put_i32(-1);
        body.put_u8(1);
        body.put_i32(-1);
        let (zxid, mut reply) = self.ask(MULTI, body).await?;
        // A transaction that failed says so in its first result, the others follow suit.
        while reply.remaining() >= 9 {
            let kind = reply.get_i32();
            let is_done = reply.get_u8() != 0;
            let code = reply.get_i32();
            match kind {
                _ if is_done => break,
                SET => {
                    Stat::read(&mut reply)?;
                }
                CHECK => {}
                _ => {
                    let inner = integer(&mut reply)?;
                    let code = if inner != 0 { inner } else { code };
                    // 0 and −2 are those before and behind the one that failed.
                    if code != 0 && code != -2 {
                        return Err(refused(code, zxid));
                    }
                }
            }
        }
        Ok(zxid)
    }

    /// Ends the session.
    pub async fn close(self) -> Result<()> {
        self.ask(CLOSE, BytesMut::new()).await.map(drop)
    }

    async fn ask(&self, kind: i32, body: BytesMut) -> Result<(u64, Bytes)> {
        let mut connection = self.connection.lock().await;
        // Taken out until the answer is whole: whoever gives up waiting leaves no half-read stream.
        let Some(mut stream) = connection.stream.take() else { return Err(Error::SessionExpired) };
        connection.xid += 1;
        let xid = connection.xid;
        let mut request = BytesMut::new();
        request.put_i32(8 + body.len() as i32);
        request.put_i32(xid);
        request.put_i32(kind);
        request.extend_from_slice(&body);
        let exchange = async {
            stream.write_all(&request).await?;
            loop {
                let mut reply = frame(&mut stream).await?;
                if reply.remaining() < 16 {
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
                let (answers, zxid, code) = (reply.get_i32(), reply.get_i64() as u64, reply.get_i32());
                if answers == xid {
                    return Ok((zxid, code, reply));
                }
                if answers != EVENT {
                    return Err(std::io::ErrorKind::InvalidData.into());
                }
            }
        };
        let (zxid, code, reply) = exchange.await.map_err(|_: std::io::Error| Error::OutcomeUnknown)?;
        connection.stream = Some(stream);
        if code == 0 { Ok((zxid, reply)) } else { Err(refused(code, zxid)) }
    }
}

async fn greet(endpoint: &str, session: Duration) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(endpoint).await?;
    stream.set_nodelay(true)?;
    let mut greeting = BytesMut::new();
    greeting.put_i32(0);
    greeting.put_i64(0);
    greeting.put_i32(session.as_millis() as i32);
    greeting.put_i64(0);
    put_buffer(&mut greeting, &[0; 16]);
    greeting.put_u8(0);
    let mut framed = BytesMut::new();
    put_buffer(&mut framed, &greeting);
    stream.write_all(&framed).await?;
    let mut answer = frame(&mut stream).await?;
    if answer.remaining() < 16 || {
        answer.advance(4);
        answer.get_i32()
    } <= 0
    {
        return Err(std::io::Error::other("no session was granted"));
    }
    Ok(stream)
}

async fn frame(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let length = stream.read_i32().await?;
    if !(0..REPLY_MAX).contains(&length) {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

/// What the workloads read of a Stat.
struct Stat {
    version: i32,
}

impl Stat {
    fn read(reply: &mut Bytes) -> Result<Stat> {
        if reply.remaining() < 68 {
            return Err(Error::Protocol("a Stat that is cut short".into()));
        }
        reply.advance(32);
        let version = reply.get_i32();
        reply.advance(32);
        Ok(Stat { version })
    }
}

fn refused(code: i32, zxid: u64) -> Error {
    let kind = match code {
        -101 => ErrorKind::NoNode,
        -103 => ErrorKind::BadVersion,
        -110 => ErrorKind::NodeExists,
        -112 => return Error::SessionExpired,
        // Lost connections of the member itself: it may have passed the request on.
        -4 | -5 | -7 => return Error::OutcomeUnknown,
        other => return Error::Protocol(format!("error {other}")),
    };
    Error::Refused { error: quorate_core::error::Error::new(kind, ""), zxid: Zxid(zxid) }
}

fn text(text: &str) -> BytesMut {
    let mut bytes = BytesMut::new();
    put_buffer(&mut bytes, text.as_bytes());
    bytes
}

fn put_buffer(bytes: &mut BytesMut, content: &[u8]) {
    bytes.put_i32(content.len() as i32);
    bytes.extend_from_slice(content);
}

fn set_body(path: &str, data: &str, version: i32) -> BytesMut {
    let mut body = text(path);
    put_buffer(&mut body, data.as_bytes());
    body.put_i32(version);
    body
}

fn integer(reply: &mut Bytes) -> Result<i32> {
    if reply.remaining() < 4 {
        return Err(Error::Protocol("a reply that is cut short".into()));
    }
    Ok(reply.get_i32())
}

fn buffer(reply: &mut Bytes) -> Result<Bytes> {
    let length = integer(reply)?.max(0) as usize;
    if reply.remaining() < length {
        return Err(Error::Protocol("a reply that is cut short".into()));
    }
    Ok(reply.split_to(length))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::history::Recorder;
    use crate::workloads::{Arena, Door, Workload, counter, register, set};

    /// A member that has nothing but what is asked for, and remembers what that was.
    async fn serve(listener: TcpListener, asked: Rc<RefCell<Vec<i32>>>) -> std::io::Result<()> {
        loop {
            let (mut stream, _) = listener.accept().await?;
            frame(&mut stream).await?;
            let mut granted = BytesMut::new();
            granted.put_i32(0);
            granted.put_i32(4_000);
            granted.put_i64(1);
            put_buffer(&mut granted, &[0; 16]);
            let mut framed = BytesMut::new();
            put_buffer(&mut framed, &granted);
            stream.write_all(&framed).await?;
            while let Ok(mut request) = frame(&mut stream).await {
                let (xid, kind) = (request.get_i32(), request.get_i32());
                asked.borrow_mut().push(kind);
                let mut reply = BytesMut::new();
                reply.put_i32(xid);
                reply.put_i64(7);
                reply.put_i32(0);
                match kind {
                    GET => {
                        put_buffer(&mut reply, b"0");
                        reply.put_bytes(0, 68);
                    }
                    LIST => reply.put_i32(0),
                    _ => put_buffer(&mut reply, b"/"),
                }
                let mut framed = BytesMut::new();
                put_buffer(&mut framed, &reply);
                stream.write_all(&framed).await?;
            }
        }
    }

    /// What a workload asks at its end.
    fn asked_by(workload: impl Workload) -> Result<Vec<i32>, Box<dyn std::error::Error>> {
        let recorder = Recorder::start(None)?;
        let asked = Rc::new(RefCell::new(Vec::new()));
        let finishing = async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let arena = Arena {
                door: Door::Zookeeper,
                endpoints: vec![listener.local_addr()?.to_string()],
                recorder,
                workers: 1,
                rate: 1.0,
                stop: Rc::new(Cell::new(false)),
            };
            let member = tokio::task::spawn_local(serve(listener, asked.clone()));
            let finished = workload.finish(arena).await;
            member.abort();
            finished.map_err(std::io::Error::other)
        };
        crate::run_local(finishing)?;
        Ok(asked.take())
    }

    #[test]
    fn what_must_be_fresh_is_read_behind_a_sync_and_registers_are_read_as_the_member_has_them()
    -> Result<(), Box<dyn std::error::Error>> {
        assert_eq!(asked_by(set::Set)?, [SYNC, LIST, CLOSE]);
        assert_eq!(asked_by(counter::Counter)?, [SYNC, GET, CLOSE]);
        assert_eq!(asked_by(register::Register)?, [GET, CLOSE]);
        Ok(())
    }
}
