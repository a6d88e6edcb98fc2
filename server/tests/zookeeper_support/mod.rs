//! A member as its own process, and a raw socket to its ZooKeeper door. Its own few lines of the
//! protocol: a test that shared the door's codec could not see it wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The longest that a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One member. Dropping it kills it.
pub struct Member {
    /// Its ZooKeeper door.
    pub door: u16,
    child: Child,
    _data: tempfile::TempDir,
}

/// Ports of one member.
const PORTS: u16 = 5;

impl Member {
    /// Starts one alone and waits until it serves.
    pub fn start(further: &[(&str, &str)]) -> Member {
        let member = Member::spawn(1, free_ports(1), further);
        member.wait_until("it serves", Member::serves);
        member
    }

    /// Starts a cluster of two, which has a quorum only while both live.
    pub fn start_pair(further: &[(&str, &str)]) -> [Member; 2] {
        let first = free_ports(2);
        let founder = |id: u16| {
            let port = first + (id - 1) * PORTS;
            format!("{id}=127.0.0.1:{}/127.0.0.1:{port}", port + 1)
        };
        let founders = [founder(1), founder(2)].join(",");
        let mut further = further.to_vec();
        further.push(("--initial-cluster", &founders));
        let members = [1, 2].map(|id| Member::spawn(id, first + (id - 1) * PORTS, &further));
        for member in &members {
            member.wait_until("it serves", Member::serves);
        }
        members
    }

    /// Serves, and has published its membership: all later transactions are the test's.
    fn serves(&self) -> bool {
        let answer = self.word("srvr");
        answer.contains("Mode: ") && !answer.contains("Zxid: 0x0\n")
    }

    fn spawn(id: u16, first: u16, further: &[(&str, &str)]) -> Member {
        let data = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorated"));
        command.args(["serve", "--member-id", &id.to_string(), "--data-dir"]).arg(data.path().join("data"));
        let flags = ["--client-listen", "--peer-listen", "--http-listen", "--zookeeper-listen"];
        for (flag, port) in flags.iter().zip(first..) {
            command.args([flag, format!("127.0.0.1:{port}").as_str()]);
        }
        for (flag, value) in further {
            let value = value.replace("TLS_PORT", &(first + 4).to_string());
            command.args([flag, value.as_str()]);
        }
        let child = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        Member { door: first + 3, child: child.expect("starts"), _data: data }
    }

    /// Where its gRPC clients connect.
    pub fn client_door(&self) -> u16 {
        self.door - 3
    }

    /// Sends its process a signal: STOP, CONT, TERM.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("there is kill").success());
    }

    /// Where its clients connect with TLS, if it was told `TLS_PORT`.
    pub fn tls_door(&self) -> u16 {
        self.door + 1
    }

    /// Waits until something holds.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Member) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            assert!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
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
        Wire::over(stream)
    }

    /// A connection with a new session. Like any client it comes again if it is turned away: on a busy
    /// machine a quorum may not answer for a while.
    pub fn session(&self) -> (Wire, Session) {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let mut wire = self.connect();
            if let Some(session) = wire.greet(&Session::default()) {
                assert_ne!(session.id, 0);
                return (wire, session);
            }
        }
        panic!("not in {PATIENCE:?}: a welcome");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("ends");
    }
}

/// The first of free ports for so many members, below those that the kernel gives to outgoing
/// connections. Tests of one process run side by side: none gets another's.
fn free_ports(members: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16 % 1_500 * 12;
    for _ in 0..1_500 {
        let offset = NEXT.fetch_add(members * PORTS, Ordering::Relaxed);
        let first = 11_000 + start.wrapping_add(offset) % 18_000;
        if (0..members * PORTS).all(|index| TcpListener::bind(("127.0.0.1", first + index)).is_ok()) {
            return first;
        }
    }
    panic!("no free ports")
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
    /// Whether a member without a quorum would do, or does.
    pub read_only: bool,
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

/// One connection, bare or inside TLS.
pub struct Wire {
    stream: Box<dyn Stream>,
}

/// What bytes go through.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

impl Wire {
    /// Over this stream.
    pub fn over(stream: impl Stream + 'static) -> Wire {
        Wire { stream: Box::new(stream) }
    }

    /// Opens or resumes a session; `None` if the connection was ended instead.
    pub fn greet(&mut self, known: &Session) -> Option<Session> {
        let mut record = Vec::new();
        record.extend(0_i32.to_be_bytes());
        record.extend(known.zxid.to_be_bytes());
        record.extend(10_000_i32.to_be_bytes());
        record.extend(known.id.to_be_bytes());
        put_bytes(&mut record, Some(if known.id == 0 { &[0; 16] } else { &known.password }));
        record.push(known.read_only.into());
        self.send(&record);
        let welcome = self.frame()?;
        assert_eq!(welcome.len(), 37, "protocol, timeout, session, password, readOnly");
        let number = |at: usize| i64::from_be_bytes(welcome[at..at + 8].try_into().expect("eight bytes"));
        let timeout_ms = i32::from_be_bytes(welcome[4..8].try_into().expect("four bytes"));
        let password = welcome[20..36].to_vec();
        Some(Session { id: number(8), password, zxid: 0, timeout_ms, read_only: welcome[36] != 0 })
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
