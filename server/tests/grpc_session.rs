//! A session's stream at the gRPC door of real members: what keeps it alive, and who it may be.

#[allow(dead_code, reason = "these tests need only the members of it")]
mod zookeeper_support;

use std::time::Duration;

use quorate_core::acl::digest_id;
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::request::{Consistency, ReadRequest};
use quorate_proto::convert::{error_from_status, read_request};
use quorate_proto::v1::reply::Outcome;
use quorate_proto::v1::request::Operation;
use quorate_proto::v1::server_message::Message;
use quorate_proto::v1::session_client::SessionClient;
use quorate_proto::v1::{self, ErrorDetail};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use zookeeper_support::{Member, PATIENCE};

/// The shortest that a member grants.
const TIMEOUT: Duration = Duration::from_secs(4);

async fn connect(member: &Member) -> Channel {
    let address = format!("http://127.0.0.1:{}", member.client_door());
    let endpoint = Channel::from_shared(address).expect("an address");
    endpoint.connect().await.expect("the door is open")
}

/// A client's stream.
struct Stream {
    up: mpsc::Sender<v1::ClientFrame>,
    down: Streaming<v1::ServerFrame>,
    waiting: Vec<v1::ServerMessage>,
}

impl Stream {
    /// With a new session.
    async fn open(member: &Member) -> Stream {
        let (up, frames) = mpsc::channel(16);
        let connect_to = v1::Connect { timeout_ms: TIMEOUT.as_millis() as u32, ..Default::default() };
        let first = v1::ClientFrame { connect: Some(connect_to), ..Default::default() };
        up.send(first).await.expect("open");
        let opened = SessionClient::new(connect(member).await).open(ReceiverStream::new(frames)).await;
        let mut down = opened.expect("opened").into_inner();
        let greeting = down.message().await.expect("greeted").and_then(|frame| frame.greeting);
        assert!(matches!(greeting, Some(v1::server_frame::Greeting::Connected(_))), "{greeting:?}");
        Stream { up, down, waiting: Vec::new() }
    }

    async fn send(&self, requests: Vec<v1::Request>, heartbeat: Option<u64>) {
        let heartbeat = heartbeat.map(|sequence| v1::Heartbeat { sequence });
        let frame = v1::ClientFrame { requests, heartbeat, ..Default::default() };
        self.up.send(frame).await.expect("open");
    }

    async fn receive(&mut self) -> Result<Message, Status> {
        while self.waiting.is_empty() {
            let frame = timeout(PATIENCE, self.down.message()).await.expect("told in time")?;
            self.waiting = frame.expect("it does not end in good order").messages;
        }
        Ok(self.waiting.remove(0).message.expect("a message of a known kind"))
    }

    async fn reply(&mut self) -> v1::Reply {
        match self.receive().await.expect("the session lives") {
            Message::Reply(reply) => reply,
            other => panic!("no reply: {other:?}"),
        }
    }
}

fn auth(xid: u64, credential: &[u8]) -> v1::Request {
    let credential = v1::Credential { scheme: "digest".into(), credential: credential.to_vec().into() };
    v1::Request { xid, operation: Some(Operation::Auth(credential)), ..Default::default() }
}

fn who_am_i(xid: u64) -> v1::Request {
    read_request(xid, ReadRequest::WhoAmI, Consistency::Session).expect("simple")
}

fn refusal(reply: v1::Reply) -> ErrorDetail {
    match reply.outcome {
        Some(Outcome::Error(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_that_waits_for_long_costs_neither_the_session_nor_the_answer_to_a_heartbeat() {
    let member = Member::start(&[]);
    let mut stream = Stream::open(&member).await;
    let began = Instant::now();
    // A member waits ten seconds for a transaction that is still to come.
    let root = ReadRequest::Exists { path: "/".into(), watch: None };
    let read = read_request(1, root, Consistency::AtLeast(Zxid(1 << 40))).expect("simple");
    stream.send(vec![read], None).await;
    sleep(TIMEOUT / 8).await;
    stream.send(Vec::new(), Some(1)).await;
    let answer = stream.receive().await.expect("answered");
    assert!(matches!(answer, Message::Heartbeat(v1::HeartbeatAnswer { sequence: 1, .. })), "{answer:?}");
    assert!(began.elapsed() < TIMEOUT, "while the read waits");
    // Nothing more is sent: that it is being served keeps it.
    let error = refusal(stream.reply().await);
    assert_eq!(error.kind(), v1::ErrorKind::MemberBehind, "{error:?}");
    assert!(began.elapsed() > 2 * TIMEOUT);
    stream.send(vec![who_am_i(2)], None).await;
    assert_eq!(stream.reply().await.xid, 2);
}

#[tokio::test]
async fn behind_a_quorum_that_was_gone_for_longer_than_its_timeout_a_session_lives() {
    let members = Member::start_pair(&[]);
    let leads = |member: &Member| member.word("srvr").contains("Mode: leader");
    let (leader, other) = match leads(&members[0]) {
        true => (&members[0], &members[1]),
        false => (&members[1], &members[0]),
    };
    let mut stream = Stream::open(leader).await;
    other.signal("STOP");
    sleep(3 * TIMEOUT).await;
    stream.send(Vec::new(), Some(1)).await;
    other.signal("CONT");
    let answer = stream.receive().await.expect("the session lives");
    assert!(matches!(answer, Message::Heartbeat(v1::HeartbeatAnswer { sequence: 1, .. })), "{answer:?}");
    sleep(TIMEOUT / 2).await;
    stream.send(vec![who_am_i(1)], None).await;
    assert_eq!(stream.reply().await.xid, 1);
}

#[tokio::test]
async fn whoever_proves_two_identities_at_once_is_answered_once() {
    let credential = b"super:secret";
    let digest = digest_id(credential).expect("user:password");
    let member = Member::start(&[("--super-digest", &digest)]);
    let mut stream = Stream::open(&member).await;
    stream.send(vec![auth(7, credential), who_am_i(8)], None).await;
    let answers = [stream.reply().await, stream.reply().await];
    assert_eq!(answers.each_ref().map(|answer| answer.xid), [7, 8]);
    let counts = answers.map(|answer| match answer.outcome {
        Some(Outcome::Read(v1::ReadResult { result: Some(v1::read_result::Result::Identities(all)) })) => {
            all.identities.len()
        }
        other => panic!("not identities: {other:?}"),
    });
    // The address is the third.
    assert_eq!(counts, [2, 3]);
}

#[tokio::test]
async fn nobody_is_too_many_or_too_long() {
    let member = Member::start(&[]);
    let mut stream = Stream::open(&member).await;
    // One of 64 is the address.
    let credentials: Vec<Vec<u8>> = (0..64).map(|user| format!("{user}:secret").into_bytes()).collect();
    let requests = credentials.iter().enumerate().map(|(index, credential)| auth(index as u64, credential));
    stream.send(requests.collect(), None).await;
    for index in 0..63 {
        let reply = stream.reply().await;
        assert!(matches!(reply.outcome, Some(Outcome::Read(_))), "{index}: {reply:?}");
    }
    let error = refusal(stream.reply().await);
    assert_eq!(error.kind(), v1::ErrorKind::TooLarge, "{error:?}");
    assert!(error.detail.contains("at most 64"), "{error:?}");

    let credentials = credentials
        .into_iter()
        .chain([b"one:more".to_vec()])
        .map(|credential| v1::Credential { scheme: "digest".into(), credential: credential.into() });
    let request =
        v1::GetRequest { path: "/".into(), credentials: credentials.collect(), ..Default::default() };
    let mut znodes = v1::znodes_client::ZnodesClient::new(connect(&member).await);
    let refused = znodes.get(request).await.expect_err("too many");
    assert_eq!(error_from_status(&refused).kind, ErrorKind::TooLarge);

    stream.send(vec![auth(100, "u".repeat(1 << 20).as_bytes())], None).await;
    let error = refusal(stream.reply().await);
    assert_eq!(error.kind(), v1::ErrorKind::AuthFailed, "{error:?}");
    assert!(error.detail.contains("at most"), "{error:?}");
}
