//! Reads and watches in scripts: reading and leaving a watch is one step, as on a member.

use quorate_core::acl::{self, Identity, Permissions};
use quorate_core::error::{Error, ErrorKind};
use quorate_core::id::{Position, Zxid};
use quorate_core::reply::ReadResult;
use quorate_core::request::{ReadRequest, WatchId, WatchKind};
use quorate_core::state::Caller;
use quorate_core::watches::{WatcherId, Watches, rearm};

use super::show::{self, Detail};
use super::words::Words;
use super::world::World;

impl World {
    /// A client's read, or what it does with watches.
    pub fn read(&mut self, name: &str, verb: &str, words: &mut Words, detail: Detail) {
        let client = self.clients.get(name).unwrap_or_else(|| panic!("{name} has no session"));
        let session = client.session;
        let connection = client.connection.clone().unwrap_or_else(|| panic!("{name} has no connection"));
        if verb == "rearm" {
            return self.rearm_all(name, connection.watcher, words);
        }
        let request = request(verb, words);
        let caller = Caller { identities: &connection.identities, session: Some(session) };
        let result = match request {
            ReadRequest::AddWatch { id, path, kind, since, with_value } => {
                self.add_watch(name, &connection.identities, (id, path, kind, since, with_value))
            }
            ReadRequest::RemoveWatch { id, path, kind } => {
                let removed = self.watches.remove(connection.watcher, id, &path, kind);
                removed.map(|()| ReadResult::Watch)
            }
            ReadRequest::CheckWatch { path, kind } => {
                match self.watches.contains(connection.watcher, &path, kind) {
                    true => Ok(ReadResult::Watch),
                    false => Err(ErrorKind::NoWatcher.into()),
                }
            }
            request => {
                let result = self.state.read(&request, &caller);
                if let Some((id, path, kind)) = watch_to_leave(&request, &result) {
                    self.watches.add(connection.watcher, id, path, kind, false);
                }
                result
            }
        };
        self.say(name, show::read_result(&result, detail));
    }

    fn add_watch(
        &mut self,
        name: &str,
        identities: &[Identity],
        (id, path, kind, since, with_value): (WatchId, String, WatchKind, Option<Position>, bool),
    ) -> Result<ReadResult, Error> {
        quorate_core::path::validate(&path)?;
        let watcher = self.clients[name].connection.as_ref().expect("the caller has looked").watcher;
        let mut heard = Vec::new();
        let mut is_gone = false;
        if let Some(since) = since {
            for change in self.state.changes_since(since)? {
                for (event, list) in Watches::replay(id, &path, kind, with_value, &change) {
                    if acl::permits(&list, Permissions::READ, identities) {
                        heard.push(show::event(&event));
                    }
                    is_gone = kind.is_one_shot();
                }
                if is_gone {
                    break;
                }
            }
        }
        if !is_gone {
            self.watches.add(watcher, id, &path, kind, with_value);
        }
        for event in heard {
            self.say(name, format!("missed {event}"));
        }
        Ok(ReadResult::Watch)
    }

    /// `rearm since=5 data:/a exists:/b child:/c`: ZooKeeper's setWatches.
    fn rearm_all(&mut self, name: &str, watcher: WatcherId, words: &mut Words) {
        let since = Zxid(words.number("since").expect("rearm needs since=zxid"));
        while let Some(word) = words.next_if_any() {
            let (kind, path) = word.split_once(':').expect("rearm takes kind:/path");
            let kind = watch_kind(kind).expect("rearm takes kind:/path");
            let all = [Identity { scheme: Identity::SUPER.into(), id: String::new() }];
            let caller = Caller { identities: &all, session: None };
            let request = ReadRequest::Exists { path: path.into(), watch: None };
            let stat = match self.state.read(&request, &caller) {
                Ok(ReadResult::Exists(stat)) => Some(stat),
                _ => None,
            };
            match rearm(kind, stat.as_ref(), since) {
                Some(event) => self.say(name, format!("synthetic {event:?} {path}")),
                None => {
                    self.watches.add(watcher, WatchId(0), path, kind, false);
                }
            }
        }
        self.say(name, "rearmed");
    }
}

/// Which watch a read leaves: a data or child watch only on success, an exists watch on a missing node too.
fn watch_to_leave<'a>(
    request: &'a ReadRequest,
    result: &Result<ReadResult, Error>,
) -> Option<(WatchId, &'a str, WatchKind)> {
    match (request, result) {
        (ReadRequest::Get { path, watch: Some(id) }, Ok(_)) => Some((*id, path, WatchKind::Data)),
        (ReadRequest::List { path, watch: Some(id), .. }, Ok(_)) => Some((*id, path, WatchKind::Child)),
        (ReadRequest::Exists { path, watch: Some(id) }, Ok(_)) => Some((*id, path, WatchKind::Exists)),
        (ReadRequest::Exists { path, watch: Some(id) }, Err(error)) if error.kind == ErrorKind::NoNode => {
            Some((*id, path, WatchKind::Exists))
        }
        _ => None,
    }
}

fn request(verb: &str, words: &mut Words) -> ReadRequest {
    let watch = match words.flag("watch") {
        true => Some(WatchId(0)),
        false => words.number("watch").map(WatchId),
    };
    match verb {
        "get" => ReadRequest::Get { path: words.next(), watch },
        "exists" => ReadRequest::Exists { path: words.next(), watch },
        "get-acl" => ReadRequest::GetAcl { path: words.next() },
        "list" => ReadRequest::List {
            path: words.next(),
            after: words.option("after"),
            limit: words.number("limit").unwrap_or(0),
            with_stat: words.flag("stat"),
            with_data: words.flag("data"),
            watch,
        },
        "ephemerals" => ReadRequest::Ephemerals { prefix: words.next_if_any().unwrap_or_default() },
        "count" => ReadRequest::CountDescendants { path: words.next() },
        "whoami" => ReadRequest::WhoAmI,
        "sync" => ReadRequest::Sync { path: words.next() },
        "sessions" => ReadRequest::Sessions,
        "multi-read" => {
            let parts = std::iter::from_fn(|| words.next_part());
            let reads = parts.map(|mut part| {
                let verb = part.next();
                let read = request(&verb, &mut part);
                part.finish();
                read
            });
            ReadRequest::Multi(reads.collect())
        }
        "watch" => {
            let path = words.next();
            let kind = watch_kind(&words.next()).expect("a watch has a kind");
            let id = WatchId(words.number("id").unwrap_or(0));
            let since = words.option("since").map(|text| position(&text));
            ReadRequest::AddWatch { id, path, kind, since, with_value: words.flag("value") }
        }
        "unwatch" => {
            let (path, id) = (words.next(), words.number("id").map(WatchId));
            ReadRequest::RemoveWatch {
                id,
                path,
                kind: words.next_if_any().and_then(|kind| watch_kind(&kind)),
            }
        }
        "check-watch" => {
            let path = words.next();
            ReadRequest::CheckWatch { path, kind: words.next_if_any().and_then(|kind| watch_kind(&kind)) }
        }
        _ => panic!("no client can {verb}"),
    }
}

/// `any` is none.
fn watch_kind(name: &str) -> Option<WatchKind> {
    match name {
        "data" => Some(WatchKind::Data),
        "exists" => Some(WatchKind::Exists),
        "child" => Some(WatchKind::Child),
        "persistent" => Some(WatchKind::Persistent),
        "recursive" => Some(WatchKind::Recursive),
        "any" => None,
        _ => panic!("no watch is called {name}"),
    }
}

/// `5.2` is an event, `5` is behind all of transaction 5.
fn position(text: &str) -> Position {
    let parse = |text: &str| text.parse().expect("a position is zxid or zxid.ordinal");
    match text.split_once('.') {
        Some((zxid, ordinal)) => Position { zxid: Zxid(parse(zxid)), ordinal: parse(ordinal) as u32 },
        None => Position::after(Zxid(parse(text))),
    }
}
