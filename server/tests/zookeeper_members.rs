//! The ZooKeeper door of a cluster: what a member without a quorum still serves, and reconfig.

// Its other tests use more of it.
#[allow(dead_code)]
mod zookeeper_support;

use zookeeper_support::{Member, Session, Wire, create, put_bytes, read};

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SYNC: i32 = 9;
const PING: i32 = 11;
const RECONFIG: i32 = 16;
const AUTH: i32 = 100;
const GET_EPHEMERALS: i32 = 103;

#[test]
fn a_member_without_a_quorum_serves_reads_to_those_who_ask_for_no_more() {
    let [first, second] = Member::start_pair(&[]);
    let (mut writer, known) = first.session();
    writer.ask(1, CREATE, &create("/kept", b"value", 0));
    let created = writer.receive().expect("an answer");
    assert_eq!(created.error, 0);
    writer.ask(2, CREATE, &create("/own", b"", 1));
    assert_eq!(writer.receive().expect("an answer").error, 0);
    assert_eq!(first.word("isro"), "rw");
    // A client that would take less gets all while there is a quorum.
    let content = Session { read_only: true, ..Session::default() };
    let welcome = first.connect().greet(&content).expect("a welcome");
    assert!(!welcome.read_only);

    drop(second);
    first.wait_until("the quorum is gone", |member| member.word("isro") == "ro");
    // Who wants to write is turned away, to go on to another member.
    assert!(first.connect().greet(&Session::default()).is_none());
    let mut reader = first.connect();
    let asked = Session { zxid: created.zxid, ..content.clone() };
    let session = reader.greet(&asked).expect("a welcome");
    assert!(session.read_only && session.id != 0);
    reader.ask(1, GET_DATA, &read("/kept", true));
    let got = reader.receive().expect("an answer");
    assert_eq!((got.error, &got.body[4..9]), (0, &b"value"[..]));
    reader.ask(2, CREATE, &create("/new", b"", 0));
    assert_eq!(reader.receive().expect("an answer").error, -119);
    let mut path = Vec::new();
    put_bytes(&mut path, Some(b"/kept"));
    reader.ask(3, SYNC, &path);
    assert_eq!(reader.receive().expect("an answer").error, -119);
    reader.ask(-2, PING, &[]);
    assert_eq!(reader.receive().expect("an answer").xid, -2);
    // A session that this member knows is served; one with a wrong password is not.
    let mut resumed = first.connect();
    let resume = Session { read_only: true, ..known.clone() };
    assert_eq!(resumed.greet(&resume).expect("a welcome").id, known.id);
    let mut own = 1_i32.to_be_bytes().to_vec();
    put_bytes(&mut own, Some(b"/own"));
    let mut prefix = Vec::new();
    put_bytes(&mut prefix, Some(b"/"));
    resumed.ask(1, GET_EPHEMERALS, &prefix);
    assert_eq!(resumed.receive().expect("an answer").body, own);
    // What it proves has the same limit as elsewhere, its address included.
    for number in (0..63).chain(0..63) {
        prove(&mut resumed, format!("user-{number}:x").as_bytes());
    }
    let mut record = vec![0; 4];
    put_bytes(&mut record, Some(b"digest"));
    put_bytes(&mut record, Some(b"another:x"));
    resumed.ask(-4, AUTH, &record);
    assert_eq!(resumed.receive().expect("an answer").error, -115);
    resumed.expect_end();
    let wrong = Session { password: vec![7; 16], ..resume };
    assert!(first.connect().greet(&wrong).is_none());
    // One of a read-only connection that has broken begins anew: its client asks for it again and again.
    let again = Session { read_only: true, ..session };
    let begun = first.connect().greet(&again).expect("a welcome");
    assert!(begun.read_only && begun.id != 0);
}

fn reconfig(wire: &mut Wire, joining: Option<&str>, leaving: Option<&str>, version: i64) -> (i32, String) {
    let mut record = Vec::new();
    put_bytes(&mut record, joining.map(str::as_bytes));
    put_bytes(&mut record, leaving.map(str::as_bytes));
    put_bytes(&mut record, None);
    record.extend(version.to_be_bytes());
    wire.ask(1, RECONFIG, &record);
    let answer = wire.receive().expect("an answer");
    (answer.error, String::from_utf8_lossy(&answer.body).into_owned())
}

fn prove(wire: &mut Wire, credential: &[u8]) {
    let mut record = vec![0; 4];
    put_bytes(&mut record, Some(b"digest"));
    put_bytes(&mut record, Some(credential));
    wire.ask(-4, AUTH, &record);
    assert_eq!(wire.receive().expect("an answer").error, 0);
}

#[test]
fn members_change_in_zookeepers_words() {
    const OBSERVER: &str = "server.100=127.0.0.1:1:2:observer;0.0.0.0:3";
    let member = Member::start(&[
        ("--zookeeper-reconfig", "true"),
        ("--super-digest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU="),
    ]);
    let (mut wire, _) = member.session();
    assert_eq!(reconfig(&mut wire, Some("some thing"), None, -1).0, -8);
    assert_eq!(reconfig(&mut wire, Some(OBSERVER), None, 1 << 40).0, -103);
    assert_eq!(reconfig(&mut wire, Some(OBSERVER), None, -1).0, -102);
    prove(&mut wire, b"super:test");
    assert_eq!(reconfig(&mut wire, None, Some("1"), -1).0, -8);
    let (error, members) = reconfig(&mut wire, Some(OBSERVER), None, -1);
    assert!(error == 0 && members.contains(OBSERVER), "{error}: {members}");
    let version =
        members.split("version=").nth(1).and_then(|text| text.split(|c: char| !c.is_ascii_hexdigit()).next());
    let version = i64::from_str_radix(version.expect("a version"), 16).expect("hexadecimal");
    let (error, members) = reconfig(&mut wire, None, Some("100"), version);
    assert!(error == 0 && !members.contains(OBSERVER), "{error}: {members}");
    // Its id is spent.
    assert_eq!(reconfig(&mut wire, Some(OBSERVER), None, -1).0, -8);

    let member = Member::start(&[]);
    let (mut wire, _) = member.session();
    assert_eq!(reconfig(&mut wire, Some(OBSERVER), None, -1).0, -123);
}
