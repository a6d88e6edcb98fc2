//! Whatever a client sends, the member lives: malformed, oversized, too many, too deep. What is
//! understood is refused with a typed error, what is not ends its connection, and the memory that it
//! took comes back.

use std::time::Duration;

use futures_util::future::join_all;
use quorate::proto::session_client::SessionClient;
use quorate::proto::znodes_client::ZnodesClient;
use quorate::{Client, ErrorKind, error_from_status, proto};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Failure, Measured, ensure, in_time};
use crate::cluster::{Cluster, Options, admin};

/// Resident memory that may stay behind, in KiB: what an allocator keeps, not what leaks.
const MEMORY_LEFT_KIB: u64 = 64 << 10;
/// The one that is treated badly.
const VICTIM: u64 = 1;

/// Every form that SEMANTICS forbids, with what it is.
const BAD_PATHS: [(&str, &str); 14] = [
    ("", "empty"),
    ("a", "relative"),
    ("a/b", "relative"),
    ("//", "an empty element"),
    ("/a//b", "an empty element"),
    ("/a/", "a slash at the end"),
    ("/.", "a dot"),
    ("/..", "two dots"),
    ("/a/../b", "two dots inside"),
    ("/a/./b", "a dot inside"),
    ("/\0", "a null character"),
    ("/a\u{1f}", "a control character"),
    ("/a\u{7f}", "delete"),
    ("/a\u{f8ff}", "a private character"),
];

/// Runs the scenario with so many idle connections.
///
/// # Errors
/// [`Failure`] says what broke.
pub async fn run(connections: usize) -> Result<Measured, Failure> {
    raise_file_limit(connections);
    let mut measured = Measured::default();
    let mut cluster = Cluster::start(Options::members(3)).await?;
    let (client_port, peer_port, http_port) = {
        let member = cluster.member(VICTIM);
        (member.client.clone(), member.peer.clone(), member.http.clone())
    };
    // A debug build takes its time to decode 100,000 operations; the session must outlive that.
    let client = Client::builder()
        .endpoints([client_port.clone()])
        .session_timeout(Duration::from_secs(40))
        .connect()
        .await?;
    client.create("/sane", "1").await?;
    let channel = admin::channel(&client_port).await.map_err(Failure::Broken)?;
    let znodes = ZnodesClient::new(channel.clone()).max_encoding_message_size(256 << 20);
    let memory_before = cluster.member(VICTIM).resident_kib().unwrap_or(0);

    bad_paths(&mut znodes.clone()).await?;
    measured.note(format!("{} forbidden paths: typed errors", BAD_PATHS.len()));
    too_large(&client, &mut znodes.clone()).await?;
    measured
        .note("2 MiB of data, 100,000 operations, 300 elements of path, 300 entries of ACL: typed errors");
    deep_tree(&client).await?;
    measured.note("a tree of depth 200 comes and goes");
    bad_sessions(&channel).await?;
    measured
        .note("false passwords, unknown sessions, missing and second greetings, gaps in numbers: refused");
    undecodable(&channel).await?;
    measured.note("messages that are no protobuf of ours: refused");
    oversized_frames(&znodes, &client_port).await?;
    measured.note("a message of 80 MiB and a frame header that promises 16 MiB: refused");
    for port in [&client_port, &peer_port, &http_port] {
        random_bytes(port).await?;
    }
    measured.note("random bytes on the client, peer and HTTP ports: connections end or wait");
    let took = idle_connections(&client_port, &client, connections).await?;
    measured.note(format!(
        "{connections} idle connections: opened in {} ms, a write among them works",
        took.as_millis()
    ));

    in_time("a write at the end", client.set("/sane", "2").send()).await??;
    client.close().await?;
    drop((channel, znodes));
    cluster.wait_ready(VICTIM).await?;
    let mut memory_after = 0;
    for _ in 0..50 {
        memory_after = cluster.member(VICTIM).resident_kib().unwrap_or(u64::MAX);
        if memory_after < memory_before + MEMORY_LEFT_KIB {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    measured.note(format!(
        "resident memory: {} MiB before, {} MiB after",
        memory_before >> 10,
        memory_after >> 10
    ));
    ensure(memory_after < memory_before + MEMORY_LEFT_KIB, || {
        format!("resident memory went from {memory_before} KiB to {memory_after} KiB and stays there")
    })?;
    for id in cluster.ids() {
        ensure(cluster.member(id).is_running(), || format!("member {id} has ended"))?;
    }
    ensure(cluster.panics().is_empty(), || format!("{:?}", cluster.panics()))?;
    cluster.wait_digests_agree(Duration::from_secs(30)).await?;
    Ok(measured)
}

/// Demands a refusal of one of these kinds.
fn refused<T>(what: &str, result: Result<T, Status>, kinds: &[ErrorKind]) -> Result<(), Failure> {
    match result {
        Ok(_) => Err(Failure::Broken(format!("{what}: was accepted"))),
        Err(status) => {
            let kind = error_from_status(&status).kind;
            ensure(kinds.contains(&kind), || format!("{what}: {kind:?} ({status})"))
        }
    }
}

async fn bad_paths(znodes: &mut ZnodesClient<Channel>) -> Result<(), Failure> {
    // Where a parent is missing the server may say that first.
    let kinds = [ErrorKind::BadArguments, ErrorKind::NoNode];
    for (path, form) in BAD_PATHS {
        let what = format!("create at {path:?} ({form})");
        let request = proto::CreateRequest { path: path.into(), ..Default::default() };
        refused(&what, znodes.create(request).await, &kinds)?;
        // A read looks a path up as it is, and "" names the root, as in ZooKeeper.
        if !path.is_empty() {
            let what = format!("get of {path:?} ({form})");
            let request = proto::GetRequest { path: path.into(), ..Default::default() };
            refused(&what, znodes.get(request).await, &kinds)?;
        }
        let what = format!("delete of {path:?} ({form})");
        let request = proto::DeleteRequest { path: path.into(), ..Default::default() };
        refused(&what, znodes.delete(request).await, &kinds)?;
    }
    for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
        let request = proto::DeleteRequest { path: path.into(), recursive: true, ..Default::default() };
        let kinds = [ErrorKind::BadArguments, ErrorKind::NoAuth];
        refused(&format!("delete of {path}"), znodes.delete(request).await, &kinds)?;
    }
    Ok(())
}

async fn too_large(client: &Client, znodes: &mut ZnodesClient<Channel>) -> Result<(), Failure> {
    let large = [ErrorKind::TooLarge, ErrorKind::BadArguments];
    let data = vec![0; 2 << 20];
    let request =
        proto::CreateRequest { path: "/large".into(), data: Some(data.clone().into()), ..Default::default() };
    refused("2 MiB of data, unary", znodes.create(request).await, &large)?;
    kind_of("2 MiB of data, session", client.create("/large", data).await.map(drop), &large)?;

    let operation = proto::MultiOperation {
        operation: Some(proto::multi_operation::Operation::Check(proto::Check {
            path: "/sane".into(),
            version: None,
        })),
    };
    let request = proto::MultiRequest { operations: vec![operation; 100_000], ..Default::default() };
    refused("100,000 operations, unary", znodes.multi(request).await, &large)?;
    let mut transaction = client.transaction();
    for _ in 0..100_000 {
        transaction = transaction.check("/sane", -1);
    }
    kind_of("100,000 operations, session", transaction.await.map(drop), &large)?;

    let deep = "/d".repeat(300);
    kind_of("300 elements of path", client.create(&deep, "").await.map(drop), &large)?;
    let long = format!("/{}", "x".repeat(100_000));
    kind_of("a path of 100,000 bytes", client.create(&long, "").await.map(drop), &large)?;

    let entry = proto::AclEntry { permissions: 31, scheme: "world".into(), id: "anyone".into() };
    let acl = Some(proto::Acl { entries: vec![entry; 300] });
    let request = proto::CreateRequest { path: "/acl".into(), acl, ..Default::default() };
    refused("300 entries of ACL", znodes.create(request).await, &large)?;
    let acl = Some(proto::Acl { entries: Vec::new() });
    let request = proto::CreateRequest { path: "/acl".into(), acl, ..Default::default() };
    refused("an empty ACL", znodes.create(request).await, &[ErrorKind::InvalidAcl])?;
    let request = proto::CreateRequest { path: "/mode".into(), mode: 99, ..Default::default() };
    refused("an unknown mode", znodes.create(request).await, &[ErrorKind::BadArguments])?;
    let request = proto::CreateRequest { path: "/e".into(), mode: 2, ..Default::default() };
    refused("an ephemeral without a session", znodes.create(request).await, &[ErrorKind::BadArguments])
}

fn kind_of(what: &str, result: quorate::Result<()>, kinds: &[ErrorKind]) -> Result<(), Failure> {
    match result {
        Ok(()) => Err(Failure::Broken(format!("{what}: was accepted"))),
        Err(error) => ensure(kinds.contains(&error.kind()), || format!("{what}: {error}")),
    }
}

async fn deep_tree(client: &Client) -> Result<(), Failure> {
    let deep = "/d".repeat(200);
    client.ensure_path(&deep).await?;
    ensure(client.count_descendants("/d").await? == 199, || "the deep tree is not whole".into())?;
    let gone = client.delete_recursive("/d").await?;
    ensure(gone == 200, || format!("{gone} nodes went"))
}

/// The greeting, or the status, that a first frame is answered with.
async fn greet(channel: &Channel, frames: Vec<proto::ClientFrame>) -> Result<Answer, Failure> {
    let mut client = SessionClient::new(channel.clone());
    let open = client.open(tokio_stream::iter(frames));
    let mut stream = match in_time("an answer to a greeting", open).await? {
        Ok(response) => response.into_inner(),
        Err(status) => return Ok(Answer::Ended(status)),
    };
    let mut messages = Vec::new();
    let mut connected = None;
    loop {
        match in_time("the end of a stream", stream.message()).await? {
            Ok(Some(frame)) => {
                match frame.greeting {
                    Some(proto::server_frame::Greeting::Refused(detail)) => {
                        return Ok(Answer::Refused(detail));
                    }
                    Some(proto::server_frame::Greeting::Connected(greeting)) => connected = Some(greeting),
                    None => {}
                }
                messages.extend(frame.messages);
            }
            Ok(None) => return Ok(Answer::Served { connected, messages }),
            Err(status) => return Ok(Answer::Ended(status)),
        }
    }
}

#[derive(Debug)]
enum Answer {
    Refused(proto::ErrorDetail),
    Ended(Status),
    Served { connected: Option<proto::Connected>, messages: Vec<proto::ServerMessage> },
}

async fn bad_sessions(channel: &Channel) -> Result<(), Failure> {
    let connect = |resume| proto::Connect { resume, timeout_ms: 10_000, ..Default::default() };
    let hello = |resume| proto::ClientFrame { connect: Some(connect(resume)), ..Default::default() };

    // A session that exists, with a false password.
    let Answer::Served { connected: Some(connected), .. } = greet(channel, vec![hello(None)]).await? else {
        return Err(Failure::Broken("a plain session was not opened".into()));
    };
    for (session_id, password) in [
        (connected.session_id, vec![0; 16]),
        (connected.session_id, vec![0; 3]),
        (u64::MAX, connected.password.to_vec()),
    ] {
        let resume = proto::ResumeSession { session_id, password: password.into() };
        match greet(channel, vec![hello(Some(resume))]).await? {
            Answer::Refused(_) | Answer::Ended(_) => {}
            other => return Err(Failure::Broken(format!("a false session was served: {other:?}"))),
        }
    }
    // No greeting, and none in the first frame.
    for frames in [Vec::new(), vec![proto::ClientFrame::default()]] {
        match greet(channel, frames).await? {
            Answer::Ended(status) if status.code() == Code::InvalidArgument => {}
            other => return Err(Failure::Broken(format!("no greeting: {other:?}"))),
        }
    }
    // Requests without a number, without an operation, with a gap.
    let request =
        |xid, write_number, operation| proto::Request { xid, write_number, operation, consistency: None };
    let close = || Some(proto::request::Operation::CloseSession(proto::CloseSession {}));
    for (what, requests) in [
        ("a write without a number", vec![request(1, 0, close())]),
        ("a gap in the numbers", vec![request(0, 9, close())]),
        ("a request without an operation", vec![request(3, 0, None)]),
    ] {
        let mut frame = hello(None);
        frame.requests = requests;
        match greet(channel, vec![frame]).await? {
            Answer::Ended(_) => {}
            Answer::Served { messages, .. } => {
                let all_refused = messages.iter().all(|message| match &message.message {
                    Some(proto::server_message::Message::Reply(reply)) => {
                        matches!(reply.outcome, Some(proto::reply::Outcome::Error(_)))
                    }
                    _ => true,
                });
                ensure(all_refused, || format!("{what}: {messages:?}"))?;
            }
            Answer::Refused(detail) => {
                return Err(Failure::Broken(format!("{what}: the greeting was refused: {detail:?}")));
            }
        }
    }
    Ok(())
}

/// A message of one method sent to another: its bytes make no sense there.
async fn undecodable(channel: &Channel) -> Result<(), Failure> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    for path in ["/quorate.v1.Znodes/Create", "/quorate.v1.Znodes/Get", "/quorate.v1.Locks/Acquire"] {
        client.ready().await.map_err(|error| Failure::Broken(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::<proto::PromoteRequest, proto::CreateResponse>::default();
        // Field 1 is a number here and a string there.
        let request = tonic::Request::new(proto::PromoteRequest { id: 7 });
        let answer = client.unary(request, path.parse().expect("a path"), codec).await;
        ensure(answer.is_err(), || format!("{path} accepted nonsense"))?;
    }
    client.ready().await.map_err(|error| Failure::Broken(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<proto::PromoteRequest, proto::CreateResponse>::default();
    let request = tonic::Request::new(proto::PromoteRequest { id: 7 });
    let path = "/quorate.v1.Nothing/AtAll".parse().expect("a path");
    let answer = client.unary(request, path, codec).await;
    ensure(answer.as_ref().is_err_and(|status| status.code() == Code::Unimplemented), || {
        format!("{answer:?}")
    })
}

async fn oversized_frames(znodes: &ZnodesClient<Channel>, port: &str) -> Result<(), Failure> {
    let data = vec![0; 80 << 20];
    let request =
        proto::CreateRequest { path: "/huge".into(), data: Some(data.into()), ..Default::default() };
    let answer = in_time("an answer to 80 MiB", znodes.clone().create(request)).await?;
    ensure(answer.is_err(), || "80 MiB were accepted".into())?;

    let mut stream = TcpStream::connect(port).await.map_err(|error| Failure::Broken(error.to_string()))?;
    // HTTP/2's preface, empty settings, then a DATA frame that promises 16 MiB.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    bytes.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]);
    bytes.extend(vec![0; 4096]);
    // The server may close while we still write.
    let _ = stream.write_all(&bytes).await;
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    ensure(reading.is_ok(), || "a frame of 16 MiB did not end its connection".into())
}

async fn random_bytes(port: &str) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..40 {
        let Ok(mut stream) = TcpStream::connect(port).await else {
            return Err(Failure::Broken(format!(
                "{port} accepts nobody after {round} rounds of random bytes"
            )));
        };
        let mut bytes = Vec::new();
        if round % 2 == 1 {
            bytes.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        let count = random.usize(1..8192);
        bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(count));
        // The server may close at any byte; whether it answers is its affair.
        let _ = stream.write_all(&bytes).await;
        let mut answer = [0; 1024];
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut answer)).await;
    }
    Ok(())
}

/// Opens connections that say nothing, or only that they speak HTTP/2, and writes among them.
async fn idle_connections(port: &str, client: &Client, count: usize) -> Result<Duration, Failure> {
    let started = tokio::time::Instant::now();
    let mut connections = Vec::with_capacity(count);
    for batch in 0..count.div_ceil(100) {
        let opening = (0..100.min(count - batch * 100)).map(|index| async move {
            let mut stream = TcpStream::connect(port).await?;
            if index % 2 == 0 {
                stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            }
            std::io::Result::Ok(stream)
        });
        for stream in in_time("connections open", join_all(opening)).await? {
            connections.push(stream.map_err(|error| {
                Failure::Broken(format!("connection {} of {count}: {error}", connections.len() + 1))
            })?);
        }
    }
    let took = started.elapsed();
    in_time("a write among idle connections", client.set("/sane", "busy").send()).await??;
    Ok(took)
}

/// Both ends of every connection count against this process' and its children's limits.
fn raise_file_limit(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = 2 * connections as u64 + 1024;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            eprintln!("the limit of open files stays: {error}");
        }
    }
}
