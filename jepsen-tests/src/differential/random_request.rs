//! Random requests: right ones, wrong ones, and some that are no requests at all.
//!
//! Which kinds come how often is decided here; which steps are made of them in [`super::generator`].

use super::generator::Generator;
use super::jute::Writer;
use super::request::{Body, Request, Since, code};

const PATHS: [&str; 14] = [
    "/a",
    "/b",
    "/a/x",
    "/a/y",
    "/b/x",
    "/b/y",
    "/a/x/p",
    "/a/x/q",
    "/a",
    "/b",
    "/a/x",
    "/",
    "/zookeeper/foo",
    "/k/c",
];
const BAD_PATHS: [&str; 22] = [
    "",
    "a",
    "a/b",
    "/a/",
    "//",
    "/a//x",
    "/a/./x",
    "/a/../x",
    "/a/.",
    "/..",
    "/.",
    "/a\0",
    "/a/\u{1}",
    "/\u{7f}",
    "/\u{f8ff}",
    "/\u{fff1}",
    "/a/\u{e000}",
    "/no/such",
    "/a/no/such",
    "/ä/ö",
    "/zookeeper",
    "/zookeeper/quota",
];
const CONTAINER: &str = "/k";
const CONFIG: &str = "/zookeeper/config";

impl Generator {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.usize(..from.len())]
    }

    /// Any path.
    fn path(&mut self) -> String {
        match self.random.u8(..100) {
            0..8 => self.pick(&BAD_PATHS).into(),
            8..25 if !self.learnt.is_empty() => {
                let index = self.random.usize(..self.learnt.len());
                self.learnt[index].clone()
            }
            _ => self.pick(&PATHS).into(),
        }
    }

    /// A path, as a string that may be null or no UTF-8.
    fn put_path<'a>(&mut self, record: &'a mut Writer, path: &str) -> &'a mut Writer {
        match self.random.u16(..500) {
            0 if !self.is_in_multi => record.bytes(None),
            1 => record.bytes(Some(b"/a\xff\xfe")),
            _ => record.text(path),
        }
    }

    fn version(&mut self) -> i32 {
        match self.random.u8(..20) {
            0..12 => -1,
            12..15 => 0,
            15..17 => 1,
            17 => 2,
            18 => -2,
            _ => i32::MAX,
        }
    }

    fn watch(&mut self) -> u8 {
        self.random.bool().into()
    }

    fn put_data(&mut self, record: &mut Writer) {
        match self.random.u8(..10) {
            0 => record.bytes(None),
            1 => record.bytes(Some(b"")),
            2 => record.bytes(Some(&vec![b'x'; self.random.usize(..2_000)])),
            _ => {
                let data = [b'd', self.random.u8(b'0'..=b'9')];
                record.bytes(Some(&data))
            }
        };
    }

    fn put_acl(&mut self, record: &mut Writer) -> &'static str {
        const DIGEST: &str = "ann:x8B0JoS4DVTA1jbrjIHgp8oEHKw="; // not bob's
        let open = |record: &mut Writer| {
            record.int(31).text("world").text("anyone");
        };
        let choice = match self.random.u8(..60) {
            5 | 6 | 14 | 19 if !self.has_secrets => 60,
            1 if self.is_in_multi => 60,
            choice => choice,
        };
        match choice {
            0 => {
                record.int(0);
                "acl empty"
            }
            1 => {
                record.int(-1);
                "acl null"
            }
            2 => {
                record.int(-2);
                "acl count -2"
            }
            3 => {
                record.int(1).int(31).text("nobody").text("anyone");
                "acl of an unknown scheme"
            }
            4 => {
                record.int(1).int(31).text("world").text("someone");
                "acl world:someone"
            }
            5 | 6 => {
                record.int(1).int(31).text("auth");
                match self.random.bool() {
                    true => record.text(""),
                    false => record.bytes(None),
                };
                "acl auth"
            }
            7 => {
                record.int(1).int(31).text("digest").text("ann");
                "acl of a malformed digest"
            }
            8 => {
                record.int(2).int(31).text("digest").text(DIGEST).int(1).text("world").text("anyone");
                "acl ann all, world read"
            }
            9 => {
                record.int(1).int(31).text("ip").text("127.0.0.1");
                "acl 127.0.0.1"
            }
            10 => {
                record.int(2).int(31).text("ip").text("10.0.0.0/8").int(3).text("ip").text("127.0.0.0/8");
                "acl 10/8, 127/8 read and write"
            }
            11 => {
                record.int(1).int(31).text("ip").text("300.1.1.1");
                "acl of no address"
            }
            12 => {
                record.int(2);
                open(record);
                open(record);
                "acl twice the same"
            }
            13 => {
                record.int(1).int(1).text("world").text("anyone");
                "acl read-only"
            }
            14 => {
                record.int(1).int(0).text("world").text("anyone");
                "acl without a permission"
            }
            15 => {
                record.int(1).int(15).text("world").text("anyone");
                "acl without admin"
            }
            16 => {
                record.int(2).int(31).text("auth").text("ignored").int(1).text("world").text("anyone");
                "acl auth, world read"
            }
            17 => {
                record.int(1).int(27).text("world").text("anyone");
                "acl without create"
            }
            18 => {
                record.int(1).int(23).text("world").text("anyone");
                "acl without delete"
            }
            19 => {
                record.int(1).int(30).text("world").text("anyone");
                "acl without read"
            }
            _ => {
                record.int(1);
                open(record);
                "acl open"
            }
        }
    }

    /// The fields of a create; which operation, and its text.
    fn create(&mut self, record: &mut Writer) -> (i32, String) {
        let operation = match self.random.u8(..20) {
            0..9 => code::CREATE,
            9..16 if self.is_3_9 || !self.is_in_multi => code::CREATE2,
            9..16 => code::CREATE,
            16..18 => code::CREATE_CONTAINER,
            _ => code::CREATE_TTL,
        };
        let flags = match (operation, self.random.u8(..20)) {
            // What a TTL or container operation makes of another kind's flag, no client has relied on.
            (code::CREATE_CONTAINER | code::CREATE_TTL, 0) if self.is_3_9 || !self.is_in_multi => {
                [-1, 7, 100][self.random.usize(..3)]
            }
            (code::CREATE_CONTAINER, _) => 4,
            (code::CREATE_TTL, pick) => 5 + i32::from(pick % 2),
            (_, 0) if self.is_in_multi && !self.is_3_9 => 0,
            (_, 0) => [-1, 7, 4, 5, 6, 0, 1, 100][self.random.usize(..8)],
            (_, 1..9) => 0,
            (_, 9..14) => 1,
            (_, 14..17) => 2,
            _ => 3,
        };
        let mut path = if flags == 4 { CONTAINER.to_owned() } else { self.path() };
        if path.starts_with(CONTAINER) && path != CONTAINER && flags != 0 {
            path = "/b/y".into();
        }
        if (flags == 2 || flags == 3 || flags == 6) && self.random.u8(..4) > 0 {
            path.push_str(if path.ends_with('/') { "s" } else { "/s" });
        }
        match flags {
            0..=4 => self.put_path(record, &path),
            _ => record.text(&path),
        };
        self.put_data(record);
        let acl = self.put_acl(record);
        record.int(flags);
        let mut text = format!("create({operation}) {path:?} flags {flags}, {acl}");
        if operation == code::CREATE_TTL {
            let ttl = [3_600_000, 3_600_000, 3_600_000, 0, -1, (1 << 40) - 1, 1 << 40, i64::MAX]
                [self.random.usize(..8)];
            record.long(ttl);
            text.push_str(&format!(", ttl {ttl}"));
        }
        (operation, text)
    }

    fn delete(&mut self, record: &mut Writer) -> (i32, String) {
        let mut path = if self.random.u8(..30) == 0 { CONFIG.into() } else { self.path() };
        if path.starts_with("/k/") {
            path = "/a/x".into();
        }
        let version = self.version();
        self.put_path(record, &path);
        record.int(version);
        (code::DELETE, format!("delete {path:?} version {version}"))
    }

    fn set(&mut self, record: &mut Writer) -> (i32, String) {
        let path = if self.random.u8(..30) == 0 { CONFIG.into() } else { self.path() };
        let version = self.version();
        self.put_path(record, &path);
        self.put_data(record);
        record.int(version);
        (code::SET_DATA, format!("set {path:?} version {version}"))
    }

    /// Any request that leaves the connection as it is.
    pub(super) fn request(&mut self) -> Request {
        let mut record = Writer::default();
        let (operation, text) = match self.random.u8(..100) {
            0..22 => self.create(&mut record),
            22..31 => self.delete(&mut record),
            31..42 => self.set(&mut record),
            42..66 => self.read(&mut record),
            66..71 => self.get_or_set_acl(&mut record),
            71..82 => self.multi(&mut record),
            82..85 => self.multi_read(&mut record),
            85..93 => self.watches(&mut record),
            93..97 => self.counts(&mut record),
            _ => return self.malformed(),
        };
        Request::new(operation, &record, text)
    }

    fn read(&mut self, record: &mut Writer) -> (i32, String) {
        let (path, watch) = (self.path(), self.watch());
        let (operation, name) = match self.random.u8(..8) {
            0..3 => (code::EXISTS, "exists"),
            3..5 => (code::GET_DATA, "get"),
            5 => (code::GET_CHILDREN, "children"),
            6 => (code::GET_CHILDREN2, "children2"),
            _ => (code::SYNC, "sync"),
        };
        if operation == code::SYNC {
            record.text(&path);
        } else {
            self.put_path(record, &path).byte(watch);
        }
        (operation, format!("{name} {path:?} watch {watch}"))
    }

    fn get_or_set_acl(&mut self, record: &mut Writer) -> (i32, String) {
        if self.random.bool() {
            let path = self.path();
            self.put_path(record, &path);
            return (code::GET_ACL, format!("getACL {path:?}"));
        }
        let path = if self.random.u8(..20) == 0 { CONFIG.into() } else { self.path() };
        self.put_path(record, &path);
        let acl = self.put_acl(record);
        let version = self.version();
        record.int(version);
        (code::SET_ACL, format!("setACL {path:?} {acl} version {version}"))
    }

    fn multi(&mut self, record: &mut Writer) -> (i32, String) {
        let mut texts = Vec::new();
        self.is_in_multi = true;
        for _ in 0..self.random.usize(..5) {
            let mut part = Writer::default();
            let (operation, text) = match self.random.u8(..20) {
                0..9 => self.create(&mut part),
                9..12 => self.delete(&mut part),
                12..16 => self.set(&mut part),
                16..19 => {
                    let (path, version) = (self.path(), self.version());
                    self.put_path(&mut part, &path);
                    part.int(version);
                    (code::CHECK, format!("check {path:?} version {version}"))
                }
                _ => {
                    let (path, version) = (self.path(), self.version());
                    part.text(&path).int(version);
                    let operation = [code::SET_ACL, code::GET_DATA, 99][self.random.usize(..3)];
                    if self.random.u8(..8) > 0 {
                        (code::CHECK, format!("check {path:?} version {version}"))
                    } else {
                        (operation, format!("operation {operation}"))
                    }
                }
            };
            record.int(operation).byte(0).int(-1);
            record.0.extend(part.0);
            texts.push(text);
        }
        self.is_in_multi = false;
        record.int(-1).byte(1).int(-1);
        (code::MULTI, format!("multi {{{}}}", texts.join("; ")))
    }

    fn multi_read(&mut self, record: &mut Writer) -> (i32, String) {
        let mut texts = Vec::new();
        for _ in 0..self.random.usize(..4) {
            let (path, watch) = (self.path(), self.watch());
            let operation = match self.random.u8(..20) {
                0..10 => code::GET_DATA,
                10..19 => code::GET_CHILDREN,
                _ => code::EXISTS,
            };
            record.int(operation).byte(0).int(-1).text(&path).byte(watch);
            texts.push(format!("{operation} {path:?} watch {watch}"));
        }
        record.int(-1).byte(1).int(-1);
        (code::MULTI_READ, format!("multiRead {{{}}}", texts.join("; ")))
    }

    fn watches(&mut self, record: &mut Writer) -> (i32, String) {
        let remove_or_check = self.random.u8(..3);
        let path = if remove_or_check == 0 { self.pick(&PATHS).to_owned() } else { self.path() };
        match remove_or_check {
            0 => record.text(&path),
            _ => self.put_path(record, &path),
        };
        match remove_or_check {
            0 => {
                let first = if self.is_3_9 { 0 } else { 6 };
                let mode = [0, 1, 0, 1, 0, 1, 2, -1][self.random.usize(first..8)];
                record.int(mode);
                (code::ADD_WATCH, format!("addWatch {path:?} mode {mode}"))
            }
            _ => {
                let mut kind = [1, 2, 3, 4, 5, 1, 2, 3, 0, 6][self.random.usize(..10)];
                if !self.is_3_9 && matches!(kind, 4 | 5) {
                    kind = 3;
                }
                record.int(kind);
                match remove_or_check {
                    _ if !self.is_3_9 => {
                        (code::REMOVE_WATCHES, format!("removeWatches {path:?} type {kind}"))
                    }
                    1 => (code::REMOVE_WATCHES, format!("removeWatches {path:?} type {kind}")),
                    _ => (code::CHECK_WATCHES, format!("checkWatches {path:?} type {kind}")),
                }
            }
        }
    }

    fn counts(&mut self, record: &mut Writer) -> (i32, String) {
        match self.random.u8(..3) {
            0 => (code::WHO_AM_I, "whoAmI".into()),
            1 => {
                let prefix = ["/", "", "/a", "/a/x", "/b", " ", "no"][self.random.usize(..7)];
                match prefix.is_empty() && self.random.bool() {
                    true => record.bytes(None),
                    false => record.text(prefix),
                };
                (code::GET_EPHEMERALS, format!("getEphemerals {prefix:?}"))
            }
            _ => {
                let path = Some(self.path()).filter(|path| !path.is_empty()).unwrap_or("/".into());
                self.put_path(record, &path);
                (code::GET_ALL_CHILDREN_NUMBER, format!("getAllChildrenNumber {path:?}"))
            }
        }
    }

    /// A record cut short, or with more behind it.
    fn malformed(&mut self) -> Request {
        let mut record = Writer::default();
        let first = if self.is_3_9 { 0 } else { 3 };
        let (operation, text) = match self.random.u8(first..6) {
            0 => self.create(&mut record),
            1 => self.delete(&mut record),
            2 => self.set(&mut record),
            3 => self.read(&mut record),
            4 => self.multi(&mut record),
            _ => self.watches(&mut record),
        };
        let change = if self.random.bool() {
            let kept = self.random.usize(..record.0.len().max(1));
            record.0.truncate(kept);
            format!("cut to {kept} bytes")
        } else {
            record.0.extend(b"more");
            "with more behind it".into()
        };
        Request::new(operation, &record, format!("{text}, {change}"))
    }

    /// A credential, good or bad.
    pub(super) fn auth(&mut self) -> Request {
        match self.random.u8(..12) {
            0..5 => Request::auth("digest", b"ann:secret"),
            5..9 => Request::auth("digest", b"bob:word"),
            9 => Request::auth("ip", b"10.1.1.1"),
            _ => {
                let mut request = match self.random.bool() {
                    true => Request::auth("nobody", b"x"),
                    false => Request::auth("world", b"anyone"),
                };
                request.text.insert_str(0, "fatal ");
                request
            }
        }
    }

    /// A request that no server answers well.
    pub(super) fn fatal(&mut self) -> Request {
        let first = if self.is_3_9 { 0 } else { 1 };
        let operation = [code::CHECK, 99, 77, -3][self.random.usize(first..4)];
        let mut record = Writer::default();
        record.text("/a").int(-1);
        Request::new(operation, &record, format!("fatal operation {operation}"))
    }

    /// Watches of an earlier connection, or none that ever was.
    pub(super) fn set_watches(&mut self) -> Request {
        let since =
            [Since::Zero, Since::Opened, Since::Last, Since::Last, Since::Future][self.random.usize(..5)];
        let with_persistent = self.random.bool();
        let mut record = Writer::default();
        let mut texts = Vec::new();
        for kind in ["data", "exists", "child", "persistent", "recursive"] {
            if matches!(kind, "persistent" | "recursive") && !with_persistent {
                continue;
            }
            let is_mixed = matches!(kind, "persistent" | "recursive") && !self.is_3_9;
            let count = if is_mixed { 0 } else { self.random.usize(..3) };
            record.int(count as i32);
            for _ in 0..count {
                let path = self.path();
                record.text(&path);
                texts.push(format!("{kind} {path:?}"));
            }
        }
        let operation = if with_persistent { code::SET_WATCHES2 } else { code::SET_WATCHES };
        let text = format!("setWatches({operation}) since {since:?} {{{}}}", texts.join("; "));
        Request { code: operation, body: Body::After(since, record.0), text, xid: Some(-8) }
    }
}
