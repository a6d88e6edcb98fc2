//! A member as its own process, and a raw socket to its ZooKeeper door. Its own few lines of the
//! protocol: a test that shared the door's codec could not see it wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One member alone. Dropping it kills it.
pub struct Member {
    /// Its ZooKeeper door.
    pub door: u16,
    child: Child,
    _data: tempfile::TempDir,
}

impl Member {
    /// Starts one and waits until it serves.
    pub fn start(further: &[(&str, &str)]) -> Member {
        let first = free_ports();
        let (door, ports) = (first + 3, [first, first + 1, first + 2]);
        let data = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorated"));
        command.args(["serve", "--member-id", "1", "--data-dir"]).arg(data.path());
        for (flag, port) in ["--client-listen", "--peer-listen", "--http-listen"].iter().zip(ports) {
            command.args([flag, format!("127.0.0.1:{port}").as_str()]);
        }
        command.args(["--zookeeper-listen", &format!("127.0.0.1:{door}")]);
        for (flag, value) in further {
            command.args([flag, value]);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let member = Member { door, child: child.expect("starts"), _data: data };
        let started = Instant::now();
        while !member.word("srvr").contains("Mode: ") {
            assert!(started.elapsed() < PATIENCE, "the member does not serve");
            std::thread::sleep(Duration::from_millis(20));
        }
        member
    }

    /// Asks a four-letter word; blank if nobody answers.
    pub fn word(&self, word: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.door)) else { return String::new() };
        stream.set_read_timeout(Some(PATIENCE)).expect("a live socket");
        let mut answer = String::new();
        let asked = stream.write_all(word.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
        asked.map(|_| answer).unwrap_or_default()
    }

    /// A bare connection.
    pub fn connect(&self) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", self.door)).expect("the door is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a live socket");
        stream.set_nodelay(true).expect("a live socket");
        Wire { stream }
    }

    /// A connection with a new session.
    pub fn session(&self) -> (Wire, Session) {
        let mut wire = self.connect();
        let session = wire.greet(&Session::default()).expect("a welcome");
        assert_ne!(session.id, 0);
        (wire, session)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("ends");
    }
}

/// The first of four free ports, below those that the kernel gives to outgoing connections.
fn free_ports() -> u16 {
    let start = (std::process::id() as u16 % 4_500) * 4;
    let block = (0..4_500_u16).map(|index| 11_000 + (start + index * 4) % 18_000);
    block
        .into_iter()
        .find(|first| (0..4).all(|index| TcpListener::bind(("127.0.0.1", first + index)).is_ok()))
        .expect("four free ports")
}

/// A session as a client knows it; the default asks for a new one.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Its id.
    pub id: i64,
    /// Its password.
    pub password: Vec<u8>,
    /// The last transaction seen.
    pub zxid: i64,
    /// Granted.
    pub timeout_ms: i32,
}

/// A frame that came in.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// −1 for an event.
    pub xid: i32,
    /// The last transaction.
    pub zxid: i64,
    /// 0, or why not.
    pub error: i32,
    /// The record.
    pub body: Vec<u8>,
}

/// One connection.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    /// Opens or resumes a session; `None` if the connection was ended instead.
    pub fn greet(&mut self, known: &Session) -> Option<Session> {
        let mut record = Vec::new();
        record.extend(0_i32.to_be_bytes());
        record.extend(known.zxid.to_be_bytes());
        record.extend(10_000_i32.to_be_bytes());
        record.extend(known.id.to_be_bytes());
        put_bytes(&mut record, Some(if known.id == 0 { &[0; 16] } else { &known.password }));
        record.push(0);
        self.send(&record);
        let welcome = self.frame()?;
        assert_eq!(welcome.len(), 37, "protocol, timeout, session, password, readOnly");
        let number = |at: usize| i64::from_be_bytes(welcome[at..at + 8].try_into().expect("eight bytes"));
        let timeout_ms = i32::from_be_bytes(welcome[4..8].try_into().expect("four bytes"));
        Some(Session { id: number(8), password: welcome[20..36].to_vec(), zxid: 0, timeout_ms })
    }

    /// Sends a record in its frame.
    pub fn send(&mut self, record: &[u8]) {
        let mut frame = (record.len() as i32).to_be_bytes().to_vec();
        frame.extend(record);
        self.send_raw(&frame);
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        // A door that has had enough may have closed: the reads tell.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a request.
    pub fn ask(&mut self, xid: i32, code: i32, body: &[u8]) {
        let mut record = xid.to_be_bytes().to_vec();
        record.extend(code.to_be_bytes());
        record.extend(body);
        self.send(&record);
    }

    /// The next answer or event; `None` at the end.
    pub fn receive(&mut self) -> Option<Frame> {
        let frame = self.frame()?;
        assert!(frame.len() >= 16, "a reply has a header: {frame:?}");
        let int = |at: usize| i32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let zxid = i64::from_be_bytes(frame[4..12].try_into().expect("eight bytes"));
        Some(Frame { xid: int(0), zxid, error: int(12), body: frame[16..].to_vec() })
    }

    /// Nothing but the end of the connection comes.
    pub fn expect_end(&mut self) {
        assert_eq!(self.receive(), None);
    }

    fn frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.fill(&mut frame)?;
        Some(frame)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), UnexpectedEof | ConnectionReset) => None,
            Err(error) => panic!("nothing came: {error}"),
        }
    }
}

/// Puts a buffer or a string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend((-1_i32).to_be_bytes()),
        Some(bytes) => {
            out.extend((bytes.len() as i32).to_be_bytes());
            out.extend(bytes);
        }
    }
}

/// The record of a plain create, open to all.
pub fn create(path: &str, data: &[u8], flags: i32) -> Vec<u8> {
    let mut record = Vec::new();
    put_bytes(&mut record, Some(path.as_bytes()));
    put_bytes(&mut record, Some(data));
    record.extend(1_i32.to_be_bytes());
    record.extend(31_i32.to_be_bytes());
    put_bytes(&mut record, Some(b"world"));
    put_bytes(&mut record, Some(b"anyone"));
    record.extend(flags.to_be_bytes());
    record
}

/// The record of a read, with or without a watch.
pub fn read(path: &str, watch: bool) -> Vec<u8> {
    let mut record = Vec::new();
    put_bytes(&mut record, Some(path.as_bytes()));
    record.push(watch.into());
    record
}

/// The record of a set, of any version.
pub fn set(path: &str, data: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    put_bytes(&mut record, Some(path.as_bytes()));
    put_bytes(&mut record, Some(data));
    record.extend((-1_i32).to_be_bytes());
    record
}
