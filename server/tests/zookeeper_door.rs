//! The ZooKeeper door over a bare socket: handshake, replies and events in order, a session that
//! moves to another connection, four-letter words, and frames that nobody should send.

// Others use more of it.
#[allow(dead_code)]
mod zookeeper_support;

use std::thread::scope;

use zookeeper_support::{Member, Session, create, put_bytes, read, set};

const CREATE: i32 = 1;
const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const PING: i32 = 11;
const CHECK: i32 = 13;
const SET_WATCHES: i32 = 101;
const AUTH: i32 = 100;
const CLOSE_SESSION: i32 = -11;

#[test]
fn a_client_lives_through_a_day() {
    let member = Member::start(&[]);
    assert_eq!(member.word("ruok"), "imok");
    assert_eq!(member.word("isro"), "rw");
    assert!(member.word("envi").contains("zookeeper.version=3.9"));

    // Pipelined requests are answered in order, each with what the earlier ones did.
    let (mut first, known) = member.session();
    assert_eq!(known.timeout_ms, 10_000);
    first.ask(1, CREATE, &create("/day", b"one", 0));
    first.ask(2, GET_DATA, &read("/day", true));
    first.ask(3, EXISTS, &read("/later", true));
    let created = first.receive().expect("an answer");
    assert_eq!((created.xid, created.error, &created.body[4..]), (1, 0, &b"/day"[..]));
    let got = first.receive().expect("an answer");
    assert_eq!((got.xid, got.error, &got.body[4..7]), (2, 0, &b"one"[..]));
    assert_eq!(got.zxid, created.zxid);
    let missing = first.receive().expect("an answer");
    assert_eq!((missing.xid, missing.error), (3, -101));

    // An event comes before any answer that shows the change.
    let (mut second, _) = member.session();
    second.ask(1, SET_DATA, &set("/day", b"two"));
    assert_eq!(second.receive().expect("an answer").error, 0);
    first.ask(4, GET_DATA, &read("/day", false));
    let event = first.receive().expect("an event");
    assert_eq!(
        (event.xid, event.body[..4].to_vec(), &event.body[12..]),
        (-1, vec![0, 0, 0, 3], &b"/day"[..])
    );
    let got = first.receive().expect("an answer");
    assert_eq!((got.xid, &got.body[4..7]), (4, &b"two"[..]));
    assert_eq!(event.zxid, got.zxid);

    // The session moves to another connection; the older one ends, and a watch left again fires.
    let mut moved = member.connect();
    let resumed = moved.greet(&Session { zxid: got.zxid, ..known.clone() }).expect("a welcome");
    assert_eq!((resumed.id, &resumed.password), (known.id, &known.password));
    first.expect_end();
    second.ask(2, CREATE, &create("/later", b"", 0));
    assert_eq!(second.receive().expect("an answer").error, 0);
    let mut watches = got.zxid.to_be_bytes().to_vec();
    watches.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    put_bytes(&mut watches, Some(b"/later"));
    watches.extend([0; 4]);
    moved.ask(-8, SET_WATCHES, &watches);
    let event = moved.receive().expect("an event");
    assert_eq!((event.xid, event.zxid, event.body[..4].to_vec()), (-1, -1, vec![0, 0, 0, 1]));
    assert_eq!(moved.receive().expect("an answer").xid, -8);
    moved.ask(-2, PING, &[]);
    assert_eq!(moved.receive().expect("an answer").xid, -2);

    // A wrong password is told as an expired session, and so is a session that has ended.
    let mut stranger = member.connect();
    let refused = stranger.greet(&Session { password: vec![1; 16], ..known.clone() }).expect("a welcome");
    assert_eq!((refused.id, refused.timeout_ms), (0, 0));
    stranger.expect_end();
    moved.ask(5, CLOSE_SESSION, &[]);
    assert_eq!(moved.receive().expect("an answer").xid, 5);
    moved.expect_end();
    let mut late = member.connect();
    assert_eq!(late.greet(&known).expect("a welcome").id, 0);

    // Whoever has seen more than this member is let in by none.
    let mut ahead = member.connect();
    assert!(ahead.greet(&Session { zxid: i64::MAX, ..Session::default() }).is_none());

    let report = member.word("mntr");
    assert!(report.contains("zk_server_state\tstandalone"), "{report}");
    assert!(member.word("cons").contains("sid=0x"));
}

#[test]
fn what_is_no_request_ends_its_connection_and_nothing_else() {
    let member = Member::start(&[]);
    let (mut witness, _) = member.session();

    // Lengths that are none, before and after the greeting.
    for bytes in [[0xff, 0xff, 0xff, 0xff], [0x00, 0x10, 0x00, 0x00], [0x7f, 0xff, 0xff, 0xff]] {
        let mut wire = member.connect();
        wire.send_raw(&bytes);
        wire.expect_end();
        let (mut wire, _) = member.session();
        wire.send_raw(&bytes);
        wire.expect_end();
    }
    // A greeting cut short, or of nothing.
    for greeting in [&[][..], &[0; 12], &[0xff; 27]] {
        let mut wire = member.connect();
        wire.send(greeting);
        wire.expect_end();
    }
    // An operation that is none is answered, then the connection ends; so is a check on its own.
    for code in [99, CHECK, i32::MIN] {
        let (mut wire, _) = member.session();
        wire.ask(7, code, &read("/", false));
        let answer = wire.receive().expect("an answer");
        assert_eq!((answer.xid, answer.error), (7, -6), "{code}");
        wire.expect_end();
    }
    // A credential that proves nothing is answered, then the connection ends.
    let (mut wire, _) = member.session();
    let mut credential = vec![0; 4];
    put_bytes(&mut credential, Some(b"nobody"));
    put_bytes(&mut credential, Some(b"x"));
    wire.ask(-4, AUTH, &credential);
    let answer = wire.receive().expect("an answer");
    assert_eq!((answer.xid, answer.zxid, answer.error), (-4, 0, -115));
    wire.expect_end();
    // A frame without a whole header ends it without a word.
    let (mut wire, _) = member.session();
    wire.send(&[0, 0, 0, 1]);
    wire.expect_end();

    // Records cut anywhere are refused one by one, and the connection goes on.
    let record = create("/cut", b"data", 0);
    for length in 0..record.len() {
        witness.ask(length as i32, CREATE, &record[..length]);
    }
    for length in 0..record.len() {
        let answer = witness.receive().expect("an answer");
        assert_eq!((answer.xid, answer.error), (length as i32, -5));
    }
    // Lengths inside a record beyond its end, and a vector that claims to be endless.
    for length in [i32::MAX, 1 << 20, -2] {
        let mut record = length.to_be_bytes().to_vec();
        record.extend(b"/x");
        witness.ask(1, EXISTS, &record);
        assert_eq!(witness.receive().expect("an answer").error, -5);
    }
    let mut endless = [0_u8; 8].to_vec();
    endless.extend([0x7f, 0xff, 0xff, 0xff]);
    witness.ask(-8, SET_WATCHES, &endless);
    assert_eq!(witness.receive().expect("an answer").error, -5);

    // The largest frame that is allowed, on many connections at once.
    scope(|scope| {
        for index in 0..8 {
            let member = &member;
            scope.spawn(move || {
                let (mut wire, _) = member.session();
                let path = format!("/large-{index}");
                wire.ask(1, CREATE, &create(&path, &vec![0; 1_000_000], 0));
                assert_eq!(wire.receive().expect("an answer").error, 0);
                wire.ask(2, GET_DATA, &read(&path, false));
                assert!(wire.receive().expect("an answer").body.len() > 1_000_000);
            });
        }
    });
    witness.ask(1, EXISTS, &read("/large-7", false));
    assert_eq!(witness.receive().expect("an answer").error, 0);
}

/// An authentication in its frame.
fn auth(scheme: &str, credential: &str) -> Vec<u8> {
    let mut record = (-4_i32).to_be_bytes().to_vec();
    record.extend(AUTH.to_be_bytes());
    record.extend([0; 4]);
    put_bytes(&mut record, Some(scheme.as_bytes()));
    put_bytes(&mut record, Some(credential.as_bytes()));
    let mut frame = (record.len() as i32).to_be_bytes().to_vec();
    frame.extend(record);
    frame
}

#[test]
fn what_comes_behind_a_false_credential_is_not_taken() {
    let member = Member::start(&[]);
    let (mut wire, known) = member.session();
    let record = create("/behind", b"", 0);
    let mut segment = auth("nobody", "x");
    segment.extend((record.len() as i32 + 8).to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    segment.extend(&record);
    wire.send_raw(&segment);
    assert_eq!(wire.receive().expect("an answer").error, -115);
    wire.expect_end();
    // The session goes on elsewhere.
    let mut moved = member.connect();
    assert_eq!(moved.greet(&known).expect("a welcome").id, known.id);
    moved.ask(1, EXISTS, &read("/behind", false));
    assert_eq!(moved.receive().expect("an answer").error, -101);
}

#[test]
fn identities_of_a_connection_have_a_limit() {
    let member = Member::start(&[]);
    let (mut wire, _) = member.session();
    // One of 64 is the address; what is known already counts once.
    for number in 0..63 {
        for _ in 0..2 {
            wire.send_raw(&auth("digest", &format!("user-{number}:x")));
            assert_eq!(wire.receive().expect("an answer").error, 0, "{number}");
        }
    }
    wire.send_raw(&auth("digest", "another:x"));
    assert_eq!(wire.receive().expect("an answer").error, -115);
    wire.expect_end();
}

#[test]
fn an_id_that_is_null_is_an_empty_one() {
    let member = Member::start(&[]);
    let (mut wire, _) = member.session();
    let mut credential = vec![0; 4];
    put_bytes(&mut credential, Some(b"digest"));
    put_bytes(&mut credential, Some(b"ann:secret"));
    wire.ask(-4, AUTH, &credential);
    assert_eq!(wire.receive().expect("an answer").error, 0);
    let mut record = Vec::new();
    put_bytes(&mut record, Some(b"/hers"));
    put_bytes(&mut record, None);
    record.extend([0, 0, 0, 1, 0, 0, 0, 31]);
    put_bytes(&mut record, Some(b"auth"));
    put_bytes(&mut record, None);
    record.extend([0; 4]);
    wire.ask(1, CREATE, &record);
    assert_eq!(wire.receive().expect("an answer").error, 0);
    let (mut other, _) = member.session();
    other.ask(1, GET_DATA, &read("/hers", false));
    assert_eq!(other.receive().expect("an answer").error, -102);
}

#[test]
fn a_credential_without_a_colon_is_a_user() {
    let member = Member::start(&[]);
    let mut credential = vec![0; 4];
    put_bytes(&mut credential, Some(b"digest"));
    put_bytes(&mut credential, Some(b"ann"));
    let (mut hers, _) = member.session();
    hers.ask(-4, AUTH, &credential);
    assert_eq!(hers.receive().expect("an answer").error, 0);
    let mut record = Vec::new();
    put_bytes(&mut record, Some(b"/hers"));
    put_bytes(&mut record, Some(b"data"));
    record.extend([0, 0, 0, 1, 0, 0, 0, 31]);
    put_bytes(&mut record, Some(b"auth"));
    put_bytes(&mut record, Some(b""));
    record.extend([0; 4]);
    hers.ask(1, CREATE, &record);
    assert_eq!(hers.receive().expect("an answer").error, 0);
    let (mut another, _) = member.session();
    another.ask(1, GET_DATA, &read("/hers", false));
    assert_eq!(another.receive().expect("an answer").error, -102);
    another.ask(-4, AUTH, &credential);
    assert_eq!(another.receive().expect("an answer").error, 0);
    another.ask(2, GET_DATA, &read("/hers", false));
    assert_eq!(another.receive().expect("an answer").error, 0);
}

#[test]
fn connections_from_one_address_have_a_limit() {
    let member = Member::start(&[("--zookeeper-connections", "3")]);
    let held: Vec<_> = (0..3).map(|_| member.session()).collect();
    member.connect().expect_end();
    drop(held);
    // Their places are free as soon as the member has noticed.
    let started = std::time::Instant::now();
    while member.word("ruok").is_empty() {
        assert!(started.elapsed() < zookeeper_support::PATIENCE);
    }
}
