//! A disk below its reserve: what makes the tree larger is refused with a typed error, and the rest
//! goes on. The reserve is set above what the disk has, so no disk need be filled.

#[allow(dead_code, reason = "this test needs only a part of it")]
mod zookeeper_support;

use zookeeper_support::{Member, create, read};

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const EXISTS: i32 = 3;
/// How a ZooKeeper client is told to come back later.
const THROTTLED: i32 = -127;
const NO_NODE: i32 = -101;

#[test]
fn below_the_reserve_growth_is_refused_and_reads_and_deletes_go_on() {
    let disk = rustix::fs::statvfs(std::env::temp_dir().as_path()).expect("a file system");
    let free_mb = (disk.f_bavail * disk.f_frsize) >> 20;
    // Low: below the reserve, above a quarter of it, even if others use the disk meanwhile.
    let reserve = (free_mb * 2).to_string();
    let member = Member::start(&[("--disk-reserve-mb", &reserve)]);

    let (mut wire, _) = member.session();
    wire.ask(1, CREATE, &create("/more", b"data", 0));
    assert_eq!(wire.receive().expect("an answer").error, THROTTLED);
    let mut delete = (5_i32.to_be_bytes()).to_vec();
    delete.extend_from_slice(b"/more");
    delete.extend_from_slice(&(-1_i32).to_be_bytes());
    wire.ask(2, DELETE, &delete);
    assert_eq!(wire.receive().expect("an answer").error, NO_NODE, "the delete was judged, not refused");
    wire.ask(3, EXISTS, &read("/zookeeper", false));
    assert_eq!(wire.receive().expect("an answer").error, 0);
}
