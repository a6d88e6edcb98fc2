//! The sessions of one side, and what it says to each step.

use super::Failure;
use super::generator::Step;
use super::jute::{Reader, Short};
use super::request::{Body, Field, Request, Since, join, read_reply};
use super::wire::{Connection, Greeting, Incoming};

/// Sessions played at once.
pub const SLOTS: usize = 3;

/// Something that a side said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A session was opened or resumed; 0 says that it has expired.
    Welcome {
        /// The session.
        session: i64,
        /// The timeout granted.
        timeout_ms: i32,
        /// The trailing byte, if there was one.
        read_only: Option<u8>,
    },
    /// The answer to a request.
    Reply {
        /// The request's.
        xid: i32,
        /// The last transaction.
        zxid: i64,
        /// 0, or why not.
        error: i32,
        /// The record.
        fields: Vec<Field>,
    },
    /// A watch fired.
    Event {
        /// The transaction that did it.
        zxid: i64,
        /// Created, deleted, changed, children.
        kind: i32,
        /// The connection's state.
        state: i32,
        /// The node.
        path: String,
    },
    /// The connection was ended.
    Closed,
    /// Something was to come, and nothing did.
    Silence,
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Item::Welcome { session, timeout_ms, read_only } => {
                write!(f, "welcome s{session:#x} timeout {timeout_ms} readOnly {read_only:?}")
            }
            Item::Reply { xid, zxid, error, fields } => {
                write!(f, "reply {xid} z{zxid:#x} error {error} {}", join(fields))
            }
            Item::Event { zxid, kind, state, path } => {
                write!(f, "event z{zxid:#x} kind {kind} state {state} {path}")
            }
            Item::Closed => f.write_str("closed"),
            Item::Silence => f.write_str("silence"),
        }
    }
}

/// One server and the sessions on it.
#[derive(Debug)]
pub struct Side {
    name: &'static str,
    address: String,
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    /// One that the session was taken from, still open from here.
    older: Option<Connection>,
    session: i64,
    password: Vec<u8>,
    zxid_opened: i64,
    zxid_last: i64,
    xid: i32,
}

impl Side {
    /// Without a session yet.
    pub fn new(name: &'static str, address: &str) -> Side {
        Side { name, address: address.into(), slots: (0..SLOTS).map(|_| Slot::default()).collect() }
    }

    /// Plays a step; what each slot was told, the step's own first.
    pub fn play(&mut self, step: &Step) -> Result<Vec<(usize, Vec<Item>)>, Failure> {
        let name = self.name;
        let side = |reason| Failure::Side { side: name, reason };
        let (acting, mut told) = match step {
            Step::Open { slot, timeout_ms, with_read_only } => {
                let greeting = Greeting {
                    zxid: 0,
                    timeout_ms: *timeout_ms,
                    session: 0,
                    password: vec![0; 16],
                    with_read_only: *with_read_only,
                };
                (*slot, vec![(*slot, self.slots[*slot].greet(&self.address, &greeting).map_err(side)?)])
            }
            Step::Resume { slot, wrong_password, from_the_future } => {
                let state = &mut self.slots[*slot];
                let mut password = state.password.clone();
                if *wrong_password && let Some(byte) = password.first_mut() {
                    *byte ^= 0x55;
                }
                let greeting = Greeting {
                    zxid: if *from_the_future { i64::MAX } else { state.zxid_last },
                    timeout_ms: 40_000,
                    session: state.session,
                    password,
                    with_read_only: true,
                };
                (*slot, vec![(*slot, state.greet(&self.address, &greeting).map_err(side)?)])
            }
            Step::Drop { slot } => {
                self.slots[*slot].connection = None;
                (*slot, Vec::new())
            }
            Step::Batch { slot, requests } => {
                (*slot, vec![(*slot, self.slots[*slot].ask(requests).map_err(side)?)])
            }
        };
        // What the others hear of it stands before the answer to something asked later.
        for slot in (0..SLOTS).filter(|slot| *slot != acting) {
            let state = &mut self.slots[slot];
            if state.connection.is_some() {
                told.push((slot, state.ask(&[Request::fence()]).map_err(side)?));
            }
        }
        Ok(told)
    }

    /// Which slots have a connection, and which a session.
    pub fn states(&self) -> Vec<(bool, bool)> {
        self.slots.iter().map(|slot| (slot.connection.is_some(), slot.session != 0)).collect()
    }
}

impl Slot {
    fn greet(&mut self, address: &str, greeting: &Greeting) -> Result<Vec<Item>, String> {
        self.older = self.connection.take();
        let (connection, welcome) = Connection::open(address, greeting)?;
        let Some(welcome) = welcome else { return Ok(vec![Item::Closed]) };
        let mut items = vec![Item::Welcome {
            session: welcome.session,
            timeout_ms: welcome.timeout_ms,
            read_only: welcome.read_only,
        }];
        let mut connection = connection;
        if welcome.session == 0 {
            items.push(item_of(&connection.receive()?)?);
            // Refused: whoever had the session still has it.
            self.connection = self.older.take();
        } else {
            if let Some(mut older) = self.older.take() {
                items.push(item_of(&older.receive()?)?);
            }
            if greeting.session == 0 {
                (self.zxid_opened, self.xid) = (0, 0);
            }
            (self.session, self.password) = (welcome.session, welcome.password);
            self.connection = Some(connection);
        }
        Ok(items)
    }

    /// Sends requests in one go and takes everything up to the last one's answer.
    fn ask(&mut self, requests: &[Request]) -> Result<Vec<Item>, String> {
        let mut items = Vec::new();
        let mut frames = Vec::new();
        let mut asked = Vec::new();
        for request in requests {
            self.xid += 1;
            let xid = request.xid.unwrap_or(self.xid);
            let mut frame = Vec::new();
            frame.extend(xid.to_be_bytes());
            frame.extend(request.code.to_be_bytes());
            match &request.body {
                Body::Same(record) => frame.extend(record),
                Body::After(since, record) => {
                    frame.extend(self.zxid(*since).to_be_bytes());
                    frame.extend(record);
                }
            }
            frames.push(frame);
            asked.push((xid, request.code));
        }
        let Some(connection) = &mut self.connection else { return Ok(vec![Item::Closed]) };
        connection.send(&frames)?;
        let mut asked = asked.into_iter();
        let mut expected = asked.next();
        while let Some((_, code)) = expected {
            let Some(connection) = &mut self.connection else { break };
            match connection.receive()? {
                Incoming::Frame(frame) => {
                    let item =
                        read_frame(&frame, code).map_err(|Short| format!("a frame too short: {frame:?}"))?;
                    if let Item::Reply { zxid, .. } = &item {
                        if self.zxid_opened == 0 {
                            self.zxid_opened = *zxid;
                        }
                        self.zxid_last = self.zxid_last.max(*zxid);
                        expected = asked.next();
                    }
                    items.push(item);
                }
                other => {
                    items.push(item_of(&other)?);
                    self.connection = None;
                }
            }
        }
        let ends = requests.last().is_some_and(Request::ends_connection);
        if ends && let Some(mut connection) = self.connection.take() {
            items.push(item_of(&connection.receive()?)?);
        }
        if requests.last() == Some(&Request::close()) {
            self.session = 0;
        }
        Ok(items)
    }

    fn zxid(&self, since: Since) -> i64 {
        match since {
            Since::Zero => 0,
            Since::Opened => self.zxid_opened,
            Since::Last => self.zxid_last,
            Since::Future => i64::MAX,
        }
    }
}

fn item_of(incoming: &Incoming) -> Result<Item, String> {
    match incoming {
        Incoming::Closed => Ok(Item::Closed),
        Incoming::Silence => Ok(Item::Silence),
        Incoming::Frame(frame) => {
            read_frame(frame, 0).map_err(|Short| format!("a frame too short: {frame:?}"))
        }
    }
}

fn read_frame(frame: &[u8], code: i32) -> Result<Item, Short> {
    /// The xid of events.
    const EVENT: i32 = -1;
    let mut reader = Reader(frame);
    let (xid, zxid, error) = (reader.int()?, reader.long()?, reader.int()?);
    if xid == EVENT {
        let (kind, state) = (reader.int()?, reader.int()?);
        return Ok(Item::Event { zxid, kind, state, path: reader.text()? });
    }
    let fields = if error == 0 { read_reply(code, reader.0) } else { left_over(reader.0) };
    Ok(Item::Reply { xid, zxid, error, fields })
}

fn left_over(bytes: &[u8]) -> Vec<Field> {
    if bytes.is_empty() { Vec::new() } else { vec![Field::Bytes(Some(bytes.to_vec()))] }
}
