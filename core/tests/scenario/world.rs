//! One member's state and watches, and the clients of a script, driven as a member drives them:
//! apply, then the events, then the reply, all in one step.

use std::collections::BTreeMap;

use quorate_core::acl::{self, Identity, Permissions};
use quorate_core::command::{Command, Operation, Origin, RequestId, Stamp};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{AttachEpoch, MemberId, SessionId, Timestamp, WriteNumber};
use quorate_core::reply::{Attachment, WriteReply, WriteResult};
use quorate_core::state::{Answer, Applied, ExpirableNode, State, StateLoader};
use quorate_core::watches::{WatcherId, Watches};

use super::client::{Client, Connection, first_identities};
use super::operations::operation;
use super::show::{self, Detail};
use super::words::Words;

/// Whether the state goes through its records and back between commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarts {
    Never,
    AfterEveryCommand,
}

/// The stage.
pub struct World {
    pub state: State,
    pub watches: Watches,
    pub clients: BTreeMap<String, Client>,
    /// What the leader saw of TTL and container nodes when the script said `judge`.
    pub judged: BTreeMap<String, ExpirableNode>,
    /// The leader's clock, in milliseconds.
    pub clock: i64,
    restarts: Restarts,
    commands: u64,
    last_watcher: u64,
    output: Vec<String>,
}

impl World {
    /// A new cluster, and nobody there.
    pub fn new(restarts: Restarts) -> World {
        World {
            state: State::new(),
            watches: Watches::new(),
            clients: BTreeMap::new(),
            judged: BTreeMap::new(),
            clock: 1000,
            restarts,
            commands: 0,
            last_watcher: 0,
            output: Vec::new(),
        }
    }

    /// Runs one line of a script.
    pub fn run(&mut self, line: &str) {
        let mut words = Words::new(line);
        let who = words.next();
        match who.as_str() {
            "tick" => self.clock += words.next().parse::<i64>().expect("tick takes milliseconds"),
            "clock" => self.clock = words.next().parse().expect("clock takes milliseconds"),
            "house" => self.house(&mut words),
            "judge" => self.judge(&words.next()),
            "unary" => self.unary(&mut words),
            "state" => self.show_counts(),
            "watches" => self.show_watches(),
            "expirable" => self.show_expirable(),
            "restart" => self.restart(),
            name => self.client(name, &mut words),
        }
        words.finish();
        let (kept, recomputed) = (self.state.digest(), self.state.recompute_digest());
        assert_eq!(kept, recomputed, "the digest has drifted after {line:?}");
        if self.restarts == Restarts::AfterEveryCommand {
            self.restart();
        }
    }

    /// What was printed since this was last asked.
    pub fn take_output(&mut self) -> Vec<String> {
        let lines = std::mem::take(&mut self.output);
        lines.iter().flat_map(|line| line.split('\n')).map(str::to_owned).collect()
    }

    /// Prints a line.
    pub fn say(&mut self, who: &str, what: impl AsRef<str>) {
        self.output.push(format!("{who}: {}", what.as_ref()));
    }

    /// Writes the state to records and loads it again.
    fn restart(&mut self) {
        let mut loader = StateLoader::new();
        for record in self.state.all_records() {
            loader.push(&record.key, &record.value).expect("records of a state load");
        }
        let loaded = loader.finish().expect("records of a state load");
        assert_eq!(loaded.digest(), self.state.digest(), "a reload changed the digest");
        self.state = loaded;
    }

    /// Applies a command: the events go out before anybody is answered.
    pub fn apply(&mut self, origin: Origin, identities: Vec<Identity>, operation: Operation) -> Applied {
        self.commands += 1;
        let mut entropy = [0; 16];
        entropy[..8].copy_from_slice(&self.commands.to_be_bytes());
        let stamp = Stamp { time: Timestamp(self.clock), entropy };
        let applied = self.state.apply(&stamp, &Command { origin, identities, operation });
        let World { watches, clients, output, .. } = self;
        for change in &applied.changes {
            watches.trigger(change, &mut |watcher, event, list| {
                let hearer = clients.iter().find_map(|(name, client)| {
                    let connection = client.connection.as_ref()?;
                    (connection.watcher == watcher).then_some((name, connection))
                });
                let (name, connection) = hearer.expect("only connections have watches");
                if acl::permits(list, Permissions::READ, &connection.identities) {
                    output.push(format!("{name} <- {}", show::event(&event)));
                }
            });
        }
        applied
    }

    /// Ends the connection of the session that a command ended, behind its answer.
    pub fn close_ended(&mut self, ended: Option<SessionId>) {
        let Some(session) = ended else { return };
        let names: Vec<String> = self
            .clients
            .iter()
            .filter(|(_, client)| client.session == session && client.connection.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            self.disconnect(&name);
            self.say(&name, "connection closed");
        }
    }

    /// A connection goes, and its watches with it; the session stays.
    pub fn disconnect(&mut self, name: &str) {
        let client = self.clients.get_mut(name).unwrap_or_else(|| panic!("{name} has no session"));
        if let Some(connection) = client.connection.take() {
            self.watches.remove_watcher(connection.watcher);
        }
    }

    fn client(&mut self, name: &str, words: &mut Words) {
        let detail = if words.flag("full") { Detail::Full } else { Detail::Short };
        let verb = words.next();
        match verb.as_str() {
            "open" => self.open(name, words),
            "attach" => self.attach(name, words),
            "drop" => self.disconnect(name),
            "auth" => self.auth(name, &words.next()),
            "resend" => self.resend(name, words, detail),
            _ => {
                let (number, epoch) = (words.number("number"), words.number("epoch"));
                let acknowledged = words.number("ack").unwrap_or(0);
                let client = self.clients.get(name).unwrap_or_else(|| panic!("{name} has no session"));
                let operation = match verb.as_str() {
                    "close" => Some(Operation::CloseSession {
                        session: client.session,
                        reason: quorate_core::command::CloseReason::ByOwner,
                    }),
                    "set-setting" => Some(Operation::Set(super::house::setting(words))),
                    verb => operation(verb, words),
                };
                match operation {
                    Some(operation) => {
                        let number = number.map_or(client.last_number.next(), WriteNumber);
                        let epoch = epoch.map_or(client.epoch, AttachEpoch);
                        self.write(name, number, epoch, acknowledged, operation, detail);
                    }
                    None => self.read(name, &verb, words, detail),
                }
            }
        }
    }

    fn open(&mut self, name: &str, words: &mut Words) {
        let timeout_ms = words.number("timeout").unwrap_or(10_000);
        let member = MemberId(words.number("member").unwrap_or(1));
        let operation = Operation::OpenSession { timeout_ms, member };
        let reply = self.call(None, first_identities(), operation);
        self.connected(name, reply);
    }

    fn attach(&mut self, name: &str, words: &mut Words) {
        let client = self.clients.get(name).unwrap_or_else(|| panic!("{name} has no session")).clone();
        let timeout_ms = words.number("timeout").unwrap_or(10_000);
        let member = MemberId(words.number("member").unwrap_or(1));
        let session = words.number("session").map_or(client.session, SessionId);
        let password = if words.flag("wrong-password") { [9; 16] } else { client.password };
        let holds = words.number("ack").map_or(client.answered, WriteNumber);
        // A member asks this before it proposes anything.
        if words.number("seen").is_some_and(|seen| self.state.zxid().0 < seen) {
            return self.say(name, show::refusal(&ErrorKind::MemberBehind.into()));
        }
        let operation = Operation::Attach { session, password, member, timeout_ms };
        let reply = self.call(None, first_identities(), operation);
        let is_attached = matches!(&reply, Ok(WriteReply { result: Ok(_), .. }));
        if is_attached && client.connection.is_some() {
            self.disconnect(name);
            self.say(name, "older connection closed: SessionMoved -118");
        }
        self.connected(name, reply);
        if is_attached {
            for (number, reply) in self.state.replies_after(session, holds) {
                let reply = show::write_reply(&reply, Detail::Short);
                self.say(name, format!("kept reply {}: {reply}", number.0));
            }
        }
    }

    /// Prints the answer to an open or attach; the connection is the session's if it succeeded.
    fn connected(&mut self, name: &str, reply: Result<WriteReply, Error>) {
        let reply = reply.expect("a call without a request id is never stale");
        self.say(name, show::write_reply(&reply, Detail::Short));
        if let Ok(WriteResult::SessionOpened(attachment) | WriteResult::Attached(attachment)) = reply.result {
            self.last_watcher += 1;
            let watcher = WatcherId(self.last_watcher);
            let connection = Connection { watcher, identities: first_identities() };
            let Attachment { session, password, epoch, last_applied, .. } = attachment;
            let known = self.clients.remove(name).filter(|client| client.session == session);
            let client = Client {
                session,
                password,
                epoch,
                connection: Some(connection),
                last_number: last_applied,
                answered: known.as_ref().map_or(WriteNumber(0), |client| client.answered),
                sent: known.map(|client| client.sent).unwrap_or_default(),
            };
            self.clients.insert(name.to_owned(), client);
        }
    }

    fn auth(&mut self, name: &str, identity: &str) {
        let (scheme, id) = identity.split_once(':').unwrap_or((identity, ""));
        let client = self.clients.get_mut(name).unwrap_or_else(|| panic!("{name} has no session"));
        let connection = client.connection.as_mut().expect("auth needs a connection");
        connection.identities.push(Identity { scheme: scheme.into(), id: id.into() });
    }

    fn resend(&mut self, name: &str, words: &mut Words, detail: Detail) {
        let acknowledged = words.number("ack").unwrap_or(0);
        let client = self.clients.get(name).unwrap_or_else(|| panic!("{name} has no session"));
        let number = words.number("number").map_or_else(
            || *client.sent.last_key_value().expect("something was sent before it is sent again").0,
            WriteNumber,
        );
        let operation = client.sent.get(&number).expect("only what was sent is sent again").clone();
        let epoch = words.number("epoch").map_or(client.epoch, AttachEpoch);
        self.write(name, number, epoch, acknowledged, operation, detail);
    }

    fn write(
        &mut self,
        name: &str,
        number: WriteNumber,
        epoch: AttachEpoch,
        acknowledged: u64,
        operation: Operation,
        detail: Detail,
    ) {
        let client = self.clients.get_mut(name).unwrap_or_else(|| panic!("{name} has no session"));
        let identities = client
            .connection
            .as_ref()
            .map_or_else(first_identities, |connection| connection.identities.clone());
        client.sent.insert(number, operation.clone());
        let session = client.session;
        let origin = Origin::Session { session, epoch, number, acknowledged: WriteNumber(acknowledged) };
        let applied = self.apply(origin, identities, operation);
        let client = self.clients.get_mut(name).expect("looked up above");
        if matches!(applied.answer, Answer::Reply(_) | Answer::Repeat(_)) {
            client.last_number = client.last_number.max(number);
            client.answered = client.answered.max(number);
        }
        self.say(name, answer(&applied.answer, detail));
        self.close_ended(applied.ended_session);
    }

    /// Applies a call. `Err` is an answer that consumed nothing.
    fn call(
        &mut self,
        request: Option<RequestId>,
        identities: Vec<Identity>,
        operation: Operation,
    ) -> Result<WriteReply, Error> {
        let origin = Origin::Call { member: MemberId(1), ticket: self.commands, request };
        let applied = self.apply(origin, identities, operation);
        match applied.answer {
            Answer::Reply(reply) => Ok(reply),
            Answer::Stale(error) => Err(error),
            other => panic!("a call was answered {other:?}"),
        }
    }

    /// A write without a session: `unary request=r1 issued=1000 create /a`.
    fn unary(&mut self, words: &mut Words) {
        let detail = if words.flag("full") { Detail::Full } else { Detail::Short };
        let request = words.option("request").map(|name| {
            let mut nonce = [0; 16];
            nonce[..name.len()].copy_from_slice(name.as_bytes());
            RequestId { issued: Timestamp(words.number("issued").unwrap_or(self.clock)), nonce }
        });
        let verb = words.next();
        let operation = match verb.as_str() {
            "close-session" => self.close_operation(words),
            "open-session" => Operation::OpenSession { timeout_ms: 10_000, member: MemberId(1) },
            verb => operation(verb, words).unwrap_or_else(|| panic!("unary {verb} is no write")),
        };
        let origin = Origin::Call { member: MemberId(1), ticket: self.commands, request };
        let applied = self.apply(origin, first_identities(), operation);
        self.say("unary", answer(&applied.answer, detail));
        self.close_ended(applied.ended_session);
    }
}

/// What became of a command.
pub fn answer(answer: &Answer, detail: Detail) -> String {
    match answer {
        Answer::Reply(reply) => show::write_reply(reply, detail),
        Answer::Repeat(reply) => format!("again: {}", show::write_reply(reply, detail)),
        Answer::Forgotten => "forgotten: the client had acknowledged the reply".into(),
        Answer::Gap { expected } => format!("gap: resend from {}", expected.0),
        Answer::Stale(error) => format!("not applied: {}", show::refusal(error)),
    }
}
