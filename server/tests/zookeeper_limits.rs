//! The ZooKeeper door and those who wear it out: clients that read nothing, say nothing, say it byte by
//! byte, or watch everything. Each meets a limit, and the others notice nothing.

// Others use more of it.
#[allow(dead_code)]
mod zookeeper_support;

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread::scope;
use std::time::Instant;

use zookeeper_support::{Member, PATIENCE, Session, Wire, create, put_bytes, read};

const CREATE: i32 = 1;
const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const MULTI_READ: i32 = 22;
const SET_WATCHES: i32 = 101;
const ADD_WATCH: i32 = 106;
/// Watches that a connection may leave.
const WATCHES_MAX: i32 = 100_000;
const RECURSIVE: i32 = 1;
const SEQUENTIAL: i32 = 2;

/// A socket and a session on it.
fn bare_session(member: &Member) -> (TcpStream, Wire) {
    let stream = TcpStream::connect(("127.0.0.1", member.door)).expect("the door is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("a live socket");
    stream.set_write_timeout(Some(PATIENCE)).expect("a live socket");
    let mut wire = Wire::over(stream.try_clone().expect("a live socket"));
    wire.greet(&Session::default()).expect("a welcome");
    (stream, wire)
}

/// A request in its frame.
fn framed(xid: i32, code: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as i32 + 8).to_be_bytes().to_vec();
    frame.extend(xid.to_be_bytes());
    frame.extend(code.to_be_bytes());
    frame.extend(body);
    frame
}

/// Sends this again and again until the door ends the connection.
fn send_until_cut(mut stream: TcpStream, frames: &[u8]) {
    // A queue of 64 MiB has to fill.
    let started = Instant::now();
    while started.elapsed() < PATIENCE * 4 {
        match stream.write_all(frames) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                return;
            }
            Err(error) => panic!("neither read nor cut: {error}"),
        }
    }
    panic!("the door serves a client that reads nothing");
}

fn add_watch(path: &str, mode: i32) -> Vec<u8> {
    let mut record = Vec::new();
    put_bytes(&mut record, Some(path.as_bytes()));
    record.extend(mode.to_be_bytes());
    record
}

/// A setWatches of existence watches only.
fn set_watches<'a>(paths: impl ExactSizeIterator<Item = &'a str>) -> Vec<u8> {
    let mut record = vec![0; 12];
    record.extend((paths.len() as i32).to_be_bytes());
    paths.for_each(|path| put_bytes(&mut record, Some(path.as_bytes())));
    record.extend([0; 4]);
    record
}

/// A multiRead that asks for the same node so many times.
fn multi_read(path: &str, times: usize) -> Vec<u8> {
    let mut record = Vec::new();
    for _ in 0..times {
        record.extend(GET_DATA.to_be_bytes());
        record.push(0);
        record.extend((-1_i32).to_be_bytes());
        record.extend(read(path, false));
    }
    record.extend((-1_i32).to_be_bytes());
    record.push(1);
    record.extend((-1_i32).to_be_bytes());
    record
}

#[test]
fn a_client_that_reads_nothing_is_cut() {
    let member = Member::start(&[]);
    let (mut witness, _) = member.session();
    witness.ask(1, CREATE, &create("/large", &vec![b'x'; 500_000], 0));
    assert_eq!(witness.receive().expect("an answer").error, 0);
    // Data, and answers that hold a path.
    let path = format!("/{}", "x".repeat(4_000));
    let large = framed(1, GET_DATA, &read("/large", false)).repeat(100);
    let writes = framed(1, CREATE, &create(&path, b"", SEQUENTIAL)).repeat(100);
    scope(|scope| {
        for frames in [&large, &writes] {
            let (stream, _) = bare_session(&member);
            scope.spawn(move || send_until_cut(stream, frames));
        }
    });
    let (mut witness, _) = member.session();
    witness.ask(1, EXISTS, &read("/large", false));
    assert_eq!(witness.receive().expect("an answer").error, 0);
}

#[test]
fn a_client_that_reads_gets_more_than_a_queue_holds() {
    let member = Member::start(&[]);
    let (mut witness, _) = member.session();
    witness.ask(1, CREATE, &create("/large", &vec![b'x'; 500_000], 0));
    assert_eq!(witness.receive().expect("an answer").error, 0);
    // 200 MB of answers, all asked for at once.
    let (mut stream, mut wire) = bare_session(&member);
    scope(|scope| {
        scope.spawn(move || {
            stream
                .write_all(&framed(1, GET_DATA, &read("/large", false)).repeat(400))
                .expect("a live socket");
        });
        for _ in 0..400 {
            assert_eq!(wire.receive().expect("each has its answer").error, 0);
        }
    });
}

#[test]
fn a_connection_that_goes_silent_ends() {
    let member = Member::start(&[]);
    let greeting_started = [0, 0, 0, 45, 0, 0, 0, 0];
    let half_a_request = &framed(1, CREATE, &create("/half", b"data", 0))[..20];
    scope(|scope| {
        // Before the greeting, inside it, and with a session, whose timeout it is then.
        for beginning in [&[][..], &greeting_started] {
            let mut wire = member.connect();
            wire.send_raw(beginning);
            scope.spawn(move || wire.expect_end());
        }
        for beginning in [&[][..], half_a_request] {
            let (mut wire, _) = member.session();
            wire.send_raw(beginning);
            scope.spawn(move || wire.expect_end());
        }
        // Slow is not silent.
        let (mut wire, _) = member.session();
        for byte in framed(1, CREATE, &create("/slow", b"data", 0)) {
            wire.send_raw(&[byte]);
        }
        assert_eq!(wire.receive().expect("an answer").error, 0);
    });
}

#[test]
fn watches_have_a_limit_and_their_paths_too() {
    let member = Member::start(&[]);
    let (mut wire, _) = member.session();
    for number in 0..=WATCHES_MAX {
        wire.ask(number, ADD_WATCH, &add_watch(&format!("/{number}"), RECURSIVE));
    }
    for number in 0..=WATCHES_MAX {
        let answer = wire.receive().expect("an answer");
        let refused = if number < WATCHES_MAX { 0 } else { -8 };
        assert_eq!((answer.xid, answer.error), (number, refused));
    }

    // A client that comes back brings its watches by the frame.
    let (mut wire, _) = member.session();
    let paths: Vec<String> = (0..WATCHES_MAX * 2).map(|number| format!("/{number}")).collect();
    let too_long = format!("/{}", "x".repeat(900_000));
    wire.ask(-8, SET_WATCHES, &set_watches([too_long.as_str()].into_iter()));
    assert_eq!(wire.receive().expect("an answer").error, -8);
    let mut frames = paths.chunks(WATCHES_MAX as usize * 2 / 3);
    wire.ask(-8, SET_WATCHES, &set_watches(frames.next().expect("paths").iter().map(String::as_str)));
    assert_eq!(wire.receive().expect("an answer").error, 0);
    wire.ask(-8, SET_WATCHES, &set_watches(frames.next().expect("paths").iter().map(String::as_str)));
    wire.expect_end();
}

#[test]
fn a_numbered_node_can_be_named_by_its_whole_path() {
    let member = Member::start(&[]);
    let (mut wire, _) = member.session();
    // The counter may take 11 of the 4,096 bytes of a path.
    wire.ask(1, CREATE, &create(&format!("/{}", "x".repeat(4_085)), b"", SEQUENTIAL));
    assert_eq!(wire.receive().expect("an answer").error, -8);
    wire.ask(2, CREATE, &create(&format!("/{}", "x".repeat(4_084)), b"", SEQUENTIAL));
    let created = wire.receive().expect("an answer");
    assert_eq!(created.error, 0);
    wire.ask(3, EXISTS, &[&created.body[..], &[0]].concat());
    assert_eq!(wire.receive().expect("an answer").error, 0);
}

#[test]
fn a_flood_of_events_reaches_those_who_read() {
    const WATCHERS: usize = 50;
    const CHANGES: usize = 200;
    let member = Member::start(&[]);
    let mut watchers: Vec<Wire> = (0..WATCHERS).map(|_| member.session().0).collect();
    for wire in &mut watchers {
        wire.ask(1, ADD_WATCH, &add_watch("/", RECURSIVE));
        assert_eq!(wire.receive().expect("an answer").error, 0);
    }
    // One who hears everything and reads nothing.
    let (_deaf, mut wire) = bare_session(&member);
    wire.ask(1, ADD_WATCH, &add_watch("/", RECURSIVE));
    let (mut writer, _) = member.session();
    for number in 0..CHANGES {
        writer.ask(number as i32, CREATE, &create(&format!("/{number}"), b"", 0));
    }
    for wire in &mut watchers {
        for number in 0..CHANGES {
            let event = wire.receive().expect("an event");
            assert_eq!((event.xid, &event.body[12..]), (-1, format!("/{number}").as_bytes()));
        }
    }
    for _ in 0..CHANGES {
        assert_eq!(writer.receive().expect("an answer").error, 0);
    }
}

#[test]
fn an_answer_beyond_all_bounds_is_refused_with_a_quorum_and_without() {
    let [first, second] = Member::start_pair(&[]);
    let (mut writer, _) = first.session();
    writer.ask(1, CREATE, &create("/large", &vec![b'x'; 1_000_000], 0));
    let created = writer.receive().expect("an answer");
    assert_eq!(created.error, 0);
    for (times, error) in [(2, 0), (40, -8), (20_000, -8)] {
        writer.ask(2, MULTI_READ, &multi_read("/large", times));
        assert_eq!(writer.receive().expect("an answer").error, error, "{times}");
    }
    drop(second);
    first.wait_until("the quorum is gone", |member| member.word("isro") == "ro");
    let mut reader = first.connect();
    let content = Session { read_only: true, zxid: created.zxid, ..Session::default() };
    assert!(reader.greet(&content).expect("a welcome").read_only);
    for (times, error) in [(2, 0), (40, -8), (20_000, -8)] {
        reader.ask(2, MULTI_READ, &multi_read("/large", times));
        assert_eq!(reader.receive().expect("an answer").error, error, "{times}");
    }
}
