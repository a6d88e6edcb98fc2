//! The registry alone, without a state: each test claims one rule of SEMANTICS.md 44–53.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::acl::{AclEntry, Permissions};
use crate::change::{Change, ChangeKind, EventBody, EventKind, Value};
use crate::id::{Position, Zxid};
use crate::znode::Stat;

const ONE: WatcherId = WatcherId(1);
const TWO: WatcherId = WatcherId(2);

fn id(number: u64) -> WatchId {
    WatchId(number)
}

fn list(scheme_id: &str) -> Arc<[AclEntry]> {
    vec![AclEntry { permissions: Permissions::READ, scheme: "digest".into(), id: scheme_id.into() }].into()
}

fn change(kind: ChangeKind, path: &str) -> Change {
    Change {
        position: Position { zxid: Zxid(7), ordinal: 3 },
        kind,
        path: path.into(),
        stat: Stat { version: 5, ..Stat::default() },
        value: Value::Kept(Some(Bytes::from_static(b"secret"))),
        acl: list("node:x"),
        parent_acl: list("parent:x"),
    }
}

/// Fires a change and tells what was heard: "watcher event path [watch ids]".
fn fire(watches: &mut Watches, kind: ChangeKind, path: &str) -> Vec<String> {
    let mut heard = Vec::new();
    watches.trigger(&change(kind, path), &mut |watcher, event, _| {
        let ids: Vec<u64> = event.watches.iter().map(|id| id.0).collect();
        heard.push(format!("{} {:?} {} {ids:?}", watcher.0, event.body.kind, event.body.path));
    });
    check(watches);
    heard
}

/// Both sides of the registry hold the same watches, and the counts are true.
fn check(watches: &Watches) {
    let mut by_path = Vec::new();
    for (path, entry) in &watches.paths {
        assert!(!entry.is_empty() && *path == entry.path);
        for kind in LISTS {
            by_path.extend(entry.list(kind).keys().map(|(watcher, id)| (*watcher, path.clone(), kind, *id)));
        }
    }
    let mut by_watcher = Vec::new();
    for (watcher, entry) in &watches.watchers {
        assert!(!entry.is_empty());
        by_watcher.extend(entry.iter().map(|watch| (*watcher, watch.path.clone(), watch.kind, watch.id)));
    }
    by_path.sort();
    by_watcher.sort();
    assert_eq!(by_path, by_watcher);
    assert_eq!(watches.count, by_path.len());
    assert_eq!(watches.recursive, by_path.iter().filter(|watch| watch.2 == WatchKind::Recursive).count());
}

#[test]
fn data_and_exists_watches_share_one_list() {
    let mut watches = Watches::new();
    assert!(watches.add(ONE, id(0), "/a", WatchKind::Data, false));
    assert!(!watches.add(ONE, id(0), "/a", WatchKind::Exists, false));
    assert!(watches.add(ONE, id(4), "/a", WatchKind::Exists, false));
    assert!(watches.contains(ONE, "/a", Some(WatchKind::Exists)));
    assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/a"), ["1 NodeDataChanged /a [0, 4]"]);
    assert!(fire(&mut watches, ChangeKind::DataChanged, "/a").is_empty());
    assert_eq!(watches.counts(), WatchCounts::default());
}

#[test]
fn delete_with_a_data_and_a_child_watch_tells_once() {
    let mut watches = Watches::new();
    watches.add(ONE, id(1), "/a", WatchKind::Data, false);
    watches.add(ONE, id(2), "/a", WatchKind::Child, false);
    watches.add(TWO, id(3), "/a", WatchKind::Child, false);
    watches.add(TWO, id(3), "/", WatchKind::Child, false);
    assert_eq!(
        fire(&mut watches, ChangeKind::Deleted, "/a"),
        ["1 NodeDeleted /a [1, 2]", "2 NodeDeleted /a [3]", "2 NodeChildrenChanged / [3]"]
    );
    assert_eq!(watches.counts(), WatchCounts::default());
}

#[test]
fn a_child_watch_hears_creations_and_deletions_only() {
    let mut watches = Watches::new();
    watches.add(ONE, id(1), "/a", WatchKind::Child, false);
    assert!(fire(&mut watches, ChangeKind::DataChanged, "/a").is_empty());
    assert!(fire(&mut watches, ChangeKind::DataChanged, "/a/b").is_empty());
    assert!(fire(&mut watches, ChangeKind::Created, "/a/b/c").is_empty());
    assert!(fire(&mut watches, ChangeKind::Created, "/ab").is_empty());
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a/b"), ["1 NodeChildrenChanged /a [1]"]);
    assert!(fire(&mut watches, ChangeKind::Deleted, "/a/b").is_empty());
}

#[test]
fn a_persistent_watch_hears_all_four_and_stays() {
    let mut watches = Watches::new();
    watches.add(ONE, id(1), "/a", WatchKind::Persistent, false);
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a"), ["1 NodeCreated /a [1]"]);
    assert_eq!(fire(&mut watches, ChangeKind::DataChanged, "/a"), ["1 NodeDataChanged /a [1]"]);
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a/b"), ["1 NodeChildrenChanged /a [1]"]);
    assert!(fire(&mut watches, ChangeKind::DataChanged, "/a/b").is_empty());
    assert_eq!(fire(&mut watches, ChangeKind::Deleted, "/a"), ["1 NodeDeleted /a [1]"]);
    assert_eq!(watches.counts().watches, 1);
}

#[test]
fn a_recursive_watch_hears_the_subtree_but_no_children_changed() {
    for top in ["/", "/a"] {
        let mut watches = Watches::new();
        watches.add(ONE, id(1), top, WatchKind::Recursive, false);
        for path in ["/a", "/a/b", "/a/b/c"] {
            assert_eq!(fire(&mut watches, ChangeKind::Created, path), [format!("1 NodeCreated {path} [1]")]);
            let heard = fire(&mut watches, ChangeKind::DataChanged, path);
            assert_eq!(heard, [format!("1 NodeDataChanged {path} [1]")]);
            assert_eq!(fire(&mut watches, ChangeKind::Deleted, path), [format!("1 NodeDeleted {path} [1]")]);
        }
        assert_eq!(fire(&mut watches, ChangeKind::Created, "/ab").len(), usize::from(top == "/"));
    }
}

#[test]
fn overlapping_watches_of_one_connection_tell_once_each_event() {
    let mut watches = Watches::new();
    watches.add(ONE, id(5), "/", WatchKind::Recursive, false);
    watches.add(ONE, id(4), "/a", WatchKind::Recursive, true);
    watches.add(ONE, id(3), "/a", WatchKind::Persistent, false);
    watches.add(ONE, id(3), "/a", WatchKind::Data, false);
    watches.add(TWO, id(9), "/a", WatchKind::Data, false);
    watches.add(ONE, id(2), "/", WatchKind::Persistent, false);
    assert_eq!(
        fire(&mut watches, ChangeKind::Deleted, "/a"),
        ["1 NodeDeleted /a [3, 4, 5]", "2 NodeDeleted /a [9]", "1 NodeChildrenChanged / [2]"]
    );
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a")[0], "1 NodeCreated /a [3, 4, 5]");
}

#[test]
fn removing_a_persistent_watch_leaves_one_shot_ones() {
    let mut watches = Watches::new();
    watches.add(ONE, id(0), "/a", WatchKind::Data, false);
    watches.add(ONE, id(0), "/a", WatchKind::Child, false);
    watches.add(ONE, id(0), "/a", WatchKind::Persistent, false);
    assert_eq!(watches.remove(ONE, None, "/a", Some(WatchKind::Persistent)), Ok(()));
    assert!(!watches.contains(ONE, "/a", Some(WatchKind::Persistent)));
    assert!(watches.contains(ONE, "/a", Some(WatchKind::Data)));
    assert!(watches.contains(ONE, "/a", Some(WatchKind::Child)));
    assert!(!watches.contains(ONE, "/a", Some(WatchKind::Recursive)));
    assert_eq!(watches.remove(ONE, None, "/a", None), Ok(()));
    assert!(!watches.contains(ONE, "/a", None));
    check(&watches);
}

#[test]
fn removing_what_is_not_there_is_refused() {
    let mut watches = Watches::new();
    watches.add(ONE, id(1), "/a", WatchKind::Data, false);
    let refusals = [
        watches.remove(TWO, None, "/a", None),
        watches.remove(ONE, None, "/b", None),
        watches.remove(ONE, Some(id(2)), "/a", None),
        watches.remove(ONE, Some(id(1)), "/a", Some(WatchKind::Child)),
    ];
    for refusal in refusals {
        assert_eq!(refusal.map_err(|error| error.kind), Err(ErrorKind::NoWatcher));
    }
    assert_eq!(watches.remove(ONE, Some(id(1)), "/a", Some(WatchKind::Exists)), Ok(()));
    check(&watches);
}

#[test]
fn a_connection_takes_its_watches_with_it() {
    let mut watches = Watches::new();
    for watcher in [ONE, TWO] {
        watches.add(watcher, id(1), "/a", WatchKind::Recursive, false);
        watches.add(watcher, id(2), "/a/b", WatchKind::Data, false);
    }
    watches.remove_watcher(ONE);
    watches.remove_watcher(ONE);
    check(&watches);
    assert_eq!(watches.counts(), WatchCounts { watches: 2, paths: 2, watchers: 1 });
    assert_eq!(fire(&mut watches, ChangeKind::Created, "/a/b"), ["2 NodeCreated /a/b [1, 2]"]);
}

#[test]
fn the_readers_list_is_the_nodes_or_for_children_changed_the_parents() {
    let mut watches = Watches::new();
    watches.add(ONE, id(1), "/a/b", WatchKind::Persistent, true);
    watches.add(ONE, id(2), "/a", WatchKind::Persistent, true);
    let mut heard = Vec::new();
    let mut change = change(ChangeKind::Created, "/a/b");
    for _ in 0..2 {
        watches.trigger(&change, &mut |_, event, acl| {
            assert!(event.with_value);
            let EventBody { kind, stat, value, .. } = &*event.body;
            heard.push((*kind, acl[0].id.clone(), stat.version, value.clone()));
        });
        change.acl = list("parent:x");
    }
    let secret = Value::Kept(Some(Bytes::from_static(b"secret")));
    let (created, children) = (EventKind::NodeCreated, EventKind::NodeChildrenChanged);
    assert_eq!(
        heard,
        [
            (created, "node:x".to_owned(), 5, secret.clone()),
            (children, "parent:x".to_owned(), 0, Value::NotKept),
            (created, "parent:x".to_owned(), 5, secret),
            (children, "parent:x".to_owned(), 5, Value::NotKept),
        ]
    );
}

#[test]
fn a_fan_out_shares_one_body_and_goes_by_watcher() {
    let mut watches = Watches::new();
    for watcher in (0..1000).rev() {
        watches.add(WatcherId(watcher), id(0), "/a", WatchKind::Data, false);
    }
    let mut heard = Vec::new();
    watches.trigger(&change(ChangeKind::DataChanged, "/a"), &mut |watcher, event, _| {
        heard.push((watcher, event.body));
    });
    assert!(heard.iter().map(|(watcher, _)| watcher.0).eq(0..1000));
    assert!(heard.iter().all(|(_, body)| Arc::ptr_eq(body, &heard[0].1)));
    check(&watches);
}

#[test]
fn replay_tells_what_a_live_watch_would_have_heard() {
    let kinds = [ChangeKind::Created, ChangeKind::Deleted, ChangeKind::DataChanged];
    let watched =
        [WatchKind::Data, WatchKind::Exists, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];
    for (kind, path, watch_kind, watch_path) in kinds.into_iter().flat_map(|kind| {
        let watched = ["/", "/a", "/a/b", "/a/b/c", "/ab"].into_iter().flat_map(move |path| {
            watched.into_iter().map(move |watch_kind| (kind, "/a/b", watch_kind, path))
        });
        watched.chain([(kind, "/a", WatchKind::Persistent, "/"), (kind, "/a", WatchKind::Child, "/")])
    }) {
        let change = change(kind, path);
        let mut watches = Watches::new();
        watches.add(ONE, id(8), watch_path, watch_kind, true);
        let mut live = Vec::new();
        watches.trigger(&change, &mut |_, event, acl| live.push((event, acl.clone())));
        let replayed = Watches::replay(id(8), watch_path, watch_kind, true, &change);
        assert_eq!(live, replayed, "{kind:?} {path} {watch_kind:?} {watch_path}");
        assert!(live.len() <= 1);
    }
}

#[test]
fn rearming_tells_what_the_node_shows() {
    let stat = Stat { mzxid: Zxid(5), pzxid: Zxid(8), ..Stat::default() };
    let table = [
        (WatchKind::Data, None, 9, Some(EventKind::NodeDeleted)),
        (WatchKind::Data, Some(&stat), 4, Some(EventKind::NodeDataChanged)),
        (WatchKind::Data, Some(&stat), 5, None),
        (WatchKind::Exists, None, 0, None),
        (WatchKind::Exists, Some(&stat), 9, Some(EventKind::NodeCreated)),
        (WatchKind::Child, None, 9, Some(EventKind::NodeDeleted)),
        (WatchKind::Child, Some(&stat), 7, Some(EventKind::NodeChildrenChanged)),
        (WatchKind::Child, Some(&stat), 8, None),
        (WatchKind::Persistent, None, 0, None),
        (WatchKind::Recursive, Some(&stat), 0, None),
    ];
    for (kind, stat, since, expected) in table {
        assert_eq!(rearm(kind, stat, Zxid(since)), expected, "{kind:?} {stat:?} since {since}");
    }
}

#[test]
fn listings_are_sorted_and_name_each_once() {
    let mut watches = Watches::new();
    watches.add(TWO, id(1), "/b", WatchKind::Data, false);
    watches.add(TWO, id(1), "/a", WatchKind::Data, false);
    watches.add(TWO, id(2), "/a", WatchKind::Child, false);
    watches.add(ONE, id(1), "/b", WatchKind::Recursive, false);
    assert_eq!(watches.counts(), WatchCounts { watches: 4, paths: 2, watchers: 2 });
    assert_eq!(watches.count_of(TWO), 3);
    assert_eq!(
        watches.by_watcher(),
        [(ONE, vec![Arc::from("/b")]), (TWO, vec![Arc::from("/a"), Arc::from("/b")])]
    );
    assert_eq!(watches.by_path(), [(Arc::from("/a"), vec![TWO]), (Arc::from("/b"), vec![ONE, TWO])]);
    assert_eq!(
        watches.paths_of(TWO),
        [
            ("/a".to_owned(), WatchKind::Data, id(1)),
            ("/a".to_owned(), WatchKind::Child, id(2)),
            ("/b".to_owned(), WatchKind::Data, id(1)),
        ]
    );
}

#[test]
fn a_connection_has_room_for_so_many_watches() {
    let mut watches = Watches::new();
    let (greedy, other) = (WatcherId(1), WatcherId(2));
    for number in 0..WATCHES_MAX {
        watches.check_room(greedy, 1).expect("there is room");
        watches.add(greedy, WatchId(0), &format!("/{number}"), WatchKind::Exists, false);
    }
    let refused = watches.check_room(greedy, 1).expect_err("there is none");
    assert_eq!(refused.kind, ErrorKind::TooLarge);
    watches.check_room(other, WATCHES_MAX).expect("others have their own");
    watches.remove(greedy, None, "/0", None).expect("it was left");
    watches.check_room(greedy, 1).expect("there is room again");
}
