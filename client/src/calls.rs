//! Calls: one type for each operation on the tree, with its options.
//!
//! Every call can be awaited, or sent with `.send()`: that queues it and returns a [`Pending`], so
//! that more can be sent behind it. Watches that fire once are left by `.and_watch()` on reads.

use std::future::IntoFuture;

use bytes::Bytes;
use quorate_core::acl::AclEntry;
use quorate_core::command::{Create, Operation};
use quorate_core::error::ErrorKind;
use quorate_core::id::Zxid;
use quorate_core::reply::{Child, ReadResult, WriteResult};
use quorate_core::request::{Consistency, ReadRequest, WatchKind};
use quorate_core::znode::{CreateMode, Stat};

use crate::chroot::Chroot;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::pending::Pending;
use crate::session::{Answer, Outcome, Place};
use crate::watch::AndWatch;

/// What the session's task answers.
pub(crate) type Answered = Result<Answer>;

/// A node that was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Where; a sequential node's path carries its number.
    pub path: String,
    /// Its first Stat; `stat.czxid` is the transaction.
    pub stat: Stat,
}

/// A node that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its data; null is not empty.
    pub data: Option<Bytes>,
    /// Its Stat.
    pub stat: Stat,
    /// The last transaction that the member had applied: a watch `since` behind it misses nothing.
    pub zxid: Zxid,
}

/// A list that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Children {
    /// In name order.
    pub children: Vec<Child>,
    /// The parent's.
    pub stat: Stat,
    /// Whether the limit left some out.
    pub more: bool,
    /// The last transaction that the member had applied.
    pub zxid: Zxid,
}

impl Children {
    /// The names alone.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(|child| child.name.as_str())
    }
}

/// Makes a write awaitable.
macro_rules! write_call {
    ($call:ident -> $output:ty) => {
        impl IntoFuture for $call<'_> {
            type Output = Result<$output>;
            type IntoFuture = Pending<$output>;

            fn into_future(self) -> Pending<$output> {
                self.send()
            }
        }
    };
}

/// Makes a read awaitable, or sendable with its place among the calls kept.
macro_rules! read_call {
    ($call:ident -> $output:ty) => {
        impl $call<'_> {
            /// Queues the call. Writes may be sent behind it; it will not see them.
            ///
            /// # Errors
            /// [`Error::Overtaken`] besides those of the read.
            pub fn send(self) -> Pending<$output> {
                self.queue(Place::Kept)
            }
        }

        impl IntoFuture for $call<'_> {
            type Output = Result<$output>;
            type IntoFuture = Pending<$output>;

            fn into_future(self) -> Pending<$output> {
                self.queue(Place::Open)
            }
        }
    };
}

/// A read's consistency.
macro_rules! consistency {
    () => {
        /// How fresh the read must be; the client's default if not said.
        pub fn consistency(mut self, consistency: Consistency) -> Self {
            self.consistency = consistency;
            self
        }
    };
}

/// A write's expected version.
macro_rules! version {
    ($what:literal) => {
        #[doc = concat!("Refused with `BadVersion` unless ", $what, " is at this version.")]
        pub fn version(mut self, version: i32) -> Self {
            self.version = version;
            self
        }
    };
}

/// See [`Client::create`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct CreateCall<'a> {
    client: &'a Client,
    create: Create,
}
write_call!(CreateCall -> Created);

impl<'a> CreateCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str, data: Bytes) -> CreateCall<'a> {
        let path = client.chroot.outward(path);
        let create = Create { path, data: Some(data), acl: AclEntry::open(), mode: CreateMode::Persistent };
        CreateCall { client, create }
    }

    /// What kind of node.
    pub fn mode(mut self, mode: CreateMode) -> Self {
        self.create.mode = mode;
        self
    }

    /// Who may do what; everyone everything if not said.
    pub fn acl(mut self, acl: Vec<AclEntry>) -> Self {
        self.create.acl = acl;
        self
    }

    /// The node gets null data, which is not the same as empty.
    pub fn without_data(mut self) -> Self {
        self.create.data = None;
        self
    }

    /// Queues the call.
    pub fn send(self) -> Pending<Created> {
        self.client.write(Operation::Create(self.create), |answer, chroot| match answer_of_write(answer)? {
            (WriteResult::Created { path, stat }, _) => Ok(Created { path: chroot.inward(path), stat }),
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::set`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct SetCall<'a> {
    client: &'a Client,
    path: String,
    data: Option<Bytes>,
    version: i32,
}
write_call!(SetCall -> Stat);

impl<'a> SetCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str, data: Bytes) -> SetCall<'a> {
        SetCall { client, path: client.chroot.outward(path), data: Some(data), version: -1 }
    }

    version!("the node's data");

    /// The node gets null data, which is not the same as empty.
    pub fn without_data(mut self) -> Self {
        self.data = None;
        self
    }

    /// Queues the call.
    pub fn send(self) -> Pending<Stat> {
        let SetCall { client, path, data, version } = self;
        client.write(Operation::SetData { path, data, version }, |answer, _| match answer_of_write(answer)? {
            (WriteResult::DataSet(stat), _) => Ok(stat),
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::set_acl`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct SetAclCall<'a> {
    client: &'a Client,
    path: String,
    acl: Vec<AclEntry>,
    version: i32,
}
write_call!(SetAclCall -> Stat);

impl<'a> SetAclCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str, acl: Vec<AclEntry>) -> SetAclCall<'a> {
        SetAclCall { client, path: client.chroot.outward(path), acl, version: -1 }
    }

    version!("the node's ACL (`Stat::aversion`)");

    /// Queues the call.
    pub fn send(self) -> Pending<Stat> {
        let SetAclCall { client, path, acl, version } = self;
        client.write(Operation::SetAcl { path, acl, version }, |answer, _| match answer_of_write(answer)? {
            (WriteResult::AclSet(stat), _) => Ok(stat),
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::delete`]. Gives the transaction.
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct DeleteCall<'a> {
    client: &'a Client,
    path: String,
    version: i32,
}
write_call!(DeleteCall -> Zxid);

impl<'a> DeleteCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> DeleteCall<'a> {
        DeleteCall { client, path: client.chroot.outward(path), version: -1 }
    }

    version!("the node's data");

    /// Queues the call.
    pub fn send(self) -> Pending<Zxid> {
        let DeleteCall { client, path, version } = self;
        client.write(Operation::Delete { path, version }, |answer, _| match answer_of_write(answer)? {
            (WriteResult::Deleted, zxid) => Ok(zxid),
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::delete_recursive`]. Gives the number of deleted nodes.
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct DeleteRecursiveCall<'a> {
    client: &'a Client,
    path: String,
    version: i32,
    limit: u32,
}
write_call!(DeleteRecursiveCall -> u32);

impl<'a> DeleteRecursiveCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> DeleteRecursiveCall<'a> {
        let limit = quorate_proto::convert::writes::DELETE_LIMIT_DEFAULT;
        DeleteRecursiveCall { client, path: client.chroot.outward(path), version: -1, limit }
    }

    version!("the top node's data");

    /// Refused with `TooLarge` if more nodes than this would go; 10,000 if not said.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit.max(1);
        self
    }

    /// Queues the call.
    pub fn send(self) -> Pending<u32> {
        let DeleteRecursiveCall { client, path, version, limit } = self;
        let operation = Operation::DeleteRecursive { path, version, limit };
        client.write(operation, |answer, _| match answer_of_write(answer)? {
            (WriteResult::DeletedRecursive { count }, _) => Ok(count),
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::get`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct GetCall<'a> {
    client: &'a Client,
    path: String,
    consistency: Consistency,
}
read_call!(GetCall -> Node);

impl<'a> GetCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> GetCall<'a> {
        GetCall { client, path: client.chroot.outward(path), consistency: client.consistency }
    }

    consistency!();

    fn queue(self, place: Place) -> Pending<Node> {
        let request = ReadRequest::Get { path: self.path, watch: None };
        self.client.read(request, self.consistency, place, |answer, _| node(answer))
    }

    /// The same call; its success leaves a watch that fires once, when the data is changed or
    /// the node deleted.
    pub fn and_watch(self) -> AndWatch<'a, Node> {
        let request = ReadRequest::Get { path: self.path.clone(), watch: None };
        AndWatch::new(self.client, request, self.path, WatchKind::Data, self.consistency, node)
    }
}

fn node(answer: Answered) -> Result<Node> {
    let answer = answer?;
    let zxid = answer.zxid;
    match answer_of_read(Ok(answer))? {
        ReadResult::Data { data, stat } => Ok(Node { data, stat, zxid }),
        other => Err(unexpected(&other)),
    }
}

/// See [`Client::exists`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct ExistsCall<'a> {
    client: &'a Client,
    path: String,
    consistency: Consistency,
}
read_call!(ExistsCall -> Option<Stat>);

impl<'a> ExistsCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> ExistsCall<'a> {
        ExistsCall { client, path: client.chroot.outward(path), consistency: client.consistency }
    }

    consistency!();

    fn queue(self, place: Place) -> Pending<Option<Stat>> {
        let request = ReadRequest::Exists { path: self.path, watch: None };
        self.client.read(request, self.consistency, place, |answer, _| existing(answer))
    }

    /// The same call; it leaves a watch that fires once, when the node is created, its data is
    /// changed or it is deleted.
    pub fn and_watch(self) -> AndWatch<'a, Option<Stat>> {
        let request = ReadRequest::Exists { path: self.path.clone(), watch: None };
        AndWatch::new(self.client, request, self.path, WatchKind::Exists, self.consistency, existing)
    }
}

fn existing(answer: Answered) -> Result<Option<Stat>> {
    match answer_of_read(answer) {
        Ok(ReadResult::Exists(stat)) => Ok(Some(stat)),
        Ok(other) => Err(unexpected(&other)),
        Err(error) if error.kind() == ErrorKind::NoNode => Ok(None),
        Err(error) => Err(error),
    }
}

/// See [`Client::list`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct ListCall<'a> {
    client: &'a Client,
    path: String,
    after: Option<String>,
    limit: u32,
    with_stat: bool,
    with_data: bool,
    consistency: Consistency,
}
read_call!(ListCall -> Children);

impl<'a> ListCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> ListCall<'a> {
        ListCall {
            client,
            path: client.chroot.outward(path),
            after: None,
            limit: 0,
            with_stat: false,
            with_data: false,
            consistency: client.consistency,
        }
    }

    consistency!();

    /// Only names behind this one.
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.after = Some(name.into());
        self
    }

    /// At most so many; 0, the default, is all.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// With each child's Stat.
    pub fn with_stat(mut self) -> Self {
        self.with_stat = true;
        self
    }

    /// With the data of those children that this client may read.
    pub fn with_data(mut self) -> Self {
        self.with_data = true;
        self
    }

    fn request(&self) -> ReadRequest {
        ReadRequest::List {
            path: self.path.clone(),
            after: self.after.clone(),
            limit: self.limit,
            with_stat: self.with_stat,
            with_data: self.with_data,
            watch: None,
        }
    }

    fn queue(self, place: Place) -> Pending<Children> {
        self.client.read(self.request(), self.consistency, place, |answer, _| children(answer))
    }

    /// The same call; its success leaves a watch that fires once, when a child is created or
    /// deleted or the node itself is deleted.
    pub fn and_watch(self) -> AndWatch<'a, Children> {
        let request = self.request();
        AndWatch::new(self.client, request, self.path, WatchKind::Child, self.consistency, children)
    }
}

fn children(answer: Answered) -> Result<Children> {
    let answer = answer?;
    let zxid = answer.zxid;
    match answer_of_read(Ok(answer))? {
        ReadResult::Children { children, stat, more } => Ok(Children { children, stat, more, zxid }),
        other => Err(unexpected(&other)),
    }
}

/// See [`Client::acl`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct AclCall<'a> {
    client: &'a Client,
    path: String,
    consistency: Consistency,
}
read_call!(AclCall -> (Vec<AclEntry>, Stat));

impl<'a> AclCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> AclCall<'a> {
        AclCall { client, path: client.chroot.outward(path), consistency: client.consistency }
    }

    consistency!();

    fn queue(self, place: Place) -> Pending<(Vec<AclEntry>, Stat)> {
        let request = ReadRequest::GetAcl { path: self.path };
        self.client.read(request, self.consistency, place, |answer, _| match answer_of_read(answer)? {
            ReadResult::Acl { acl, stat } => Ok((acl, stat)),
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::ephemerals`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct EphemeralsCall<'a> {
    client: &'a Client,
    prefix: String,
    consistency: Consistency,
}
read_call!(EphemeralsCall -> Vec<String>);

impl<'a> EphemeralsCall<'a> {
    pub(crate) fn new(client: &'a Client) -> EphemeralsCall<'a> {
        EphemeralsCall { client, prefix: client.chroot.outward("/"), consistency: client.consistency }
    }

    consistency!();

    /// Only paths that start with this.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = self.client.chroot.outward(prefix);
        self
    }

    fn queue(self, place: Place) -> Pending<Vec<String>> {
        let request = ReadRequest::Ephemerals { prefix: self.prefix };
        self.client.read(request, self.consistency, place, |answer, chroot| match answer_of_read(answer)? {
            ReadResult::Ephemerals(paths) => {
                let inside = paths.into_iter().filter(|path| chroot.contains(path));
                Ok(inside.map(|path| chroot.inward(path)).collect())
            }
            other => Err(unexpected(&other)),
        })
    }
}

/// See [`Client::count_descendants`].
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is sent or awaited"]
pub struct CountCall<'a> {
    client: &'a Client,
    path: String,
    consistency: Consistency,
}
read_call!(CountCall -> u64);

impl<'a> CountCall<'a> {
    pub(crate) fn new(client: &'a Client, path: &str) -> CountCall<'a> {
        CountCall { client, path: client.chroot.outward(path), consistency: client.consistency }
    }

    consistency!();

    fn queue(self, place: Place) -> Pending<u64> {
        let request = ReadRequest::CountDescendants { path: self.path };
        self.client.read(request, self.consistency, place, |answer, _| match answer_of_read(answer)? {
            ReadResult::Count(count) => Ok(count),
            other => Err(unexpected(&other)),
        })
    }
}

/// A write's result and its transaction.
pub(crate) fn answer_of_write(answer: Answered) -> Result<(WriteResult, Zxid)> {
    let Answer { zxid, outcome } = answer?;
    match outcome {
        Outcome::Write(result) => Ok((result, zxid)),
        Outcome::Read(result) => Err(unexpected(&result)),
    }
}

/// A read's result.
pub(crate) fn answer_of_read(answer: Answered) -> Result<ReadResult> {
    match answer?.outcome {
        Outcome::Read(result) => Ok(result),
        Outcome::Write(result) => Err(unexpected(&result)),
    }
}

/// A result of another shape than the request's.
pub(crate) fn unexpected(result: &dyn std::fmt::Debug) -> Error {
    Error::Protocol(format!("{result:?}"))
}

/// Paths inside a result, as the client sees them.
pub(crate) fn inward(result: WriteResult, chroot: &Chroot) -> WriteResult {
    match result {
        WriteResult::Created { path, stat } => WriteResult::Created { path: chroot.inward(path), stat },
        WriteResult::Multi(results) => {
            WriteResult::Multi(results.into_iter().map(|result| inward(result, chroot)).collect())
        }
        other => other,
    }
}
