"""What a client in another language relies on, against a running cluster of three.

Uses only what grpcio-tools generates from the .proto files. run.sh starts the cluster, says where it
is in QUORATE_PORT, and puts the generated stubs on the path. Each test_* function is one claim.
"""

import os
import sys
import threading
import time
import traceback

import grpc
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from quorate.v1 import (
    cluster_pb2,
    cluster_pb2_grpc,
    common_pb2,
    elections_pb2,
    elections_pb2_grpc,
    locks_pb2,
    locks_pb2_grpc,
    operations_pb2,
    registry_pb2,
    registry_pb2_grpc,
    ring_pb2,
    ring_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    znodes_pb2,
    znodes_pb2_grpc,
)

BASE = int(os.environ["QUORATE_PORT"])
ADDRESSES = [f"127.0.0.1:{BASE + 10 * member}" for member in range(3)]
CALL = 15.0  # seconds that any one call may take


class Api:
    """All services of one member."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.znodes = znodes_pb2_grpc.ZnodesStub(self.channel)
        self.locks = locks_pb2_grpc.LocksStub(self.channel)
        self.elections = elections_pb2_grpc.ElectionsStub(self.channel)
        self.registry = registry_pb2_grpc.RegistryStub(self.channel)
        self.ring = ring_pb2_grpc.RingStub(self.channel)
        self.cluster = cluster_pb2_grpc.ClusterStub(self.channel)
        self.session = session_pb2_grpc.SessionStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)


def refusal(call):
    """The gRPC code and the ErrorDetail of a call that must be refused."""
    try:
        call()
    except grpc.RpcError as error:
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                status = status_pb2.Status.FromString(value)
                for any_detail in status.details:
                    detail = common_pb2.ErrorDetail()
                    if any_detail.Unpack(detail):
                        return error.code(), detail
        raise AssertionError(f"refused without an ErrorDetail: {error}") from error
    raise AssertionError("was not refused")


def request_id():
    return common_pb2.RequestId(issued_at_ms=int(time.time() * 1000), nonce=os.urandom(16))


def wait_ready():
    """Until every member has a quorum."""
    deadline = time.monotonic() + 60
    for address in ADDRESSES:
        while True:
            try:
                Api(address).znodes.Exists(znodes_pb2.ExistsRequest(path="/"), timeout=2)
                break
            except grpc.RpcError as error:
                pid = int(os.environ.get("QUORATE_SERVER_PID", "0"))
                if time.monotonic() > deadline or (pid and not os.path.exists(f"/proc/{pid}")):
                    raise SystemExit(f"{address} is not ready: {error}") from error
                time.sleep(0.1)


# --- the tree ---------------------------------------------------------------------------------


def test_a_created_node_is_read_on_another_member(a, b):
    created = a.znodes.Create(znodes_pb2.CreateRequest(path="/py", data=b"hello"), timeout=CALL)
    assert created.path == "/py" and created.stat.version == 0 and created.zxid > 0
    got = b.znodes.Get(znodes_pb2.GetRequest(path="/py"), timeout=CALL)
    assert got.data == b"hello" and got.HasField("data")
    assert got.stat.czxid == created.zxid and got.zxid >= created.zxid


def test_null_data_is_not_empty_data(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/py/null"), timeout=CALL)
    a.znodes.Create(znodes_pb2.CreateRequest(path="/py/empty", data=b""), timeout=CALL)
    assert not b.znodes.Get(znodes_pb2.GetRequest(path="/py/null"), timeout=CALL).HasField("data")
    assert b.znodes.Get(znodes_pb2.GetRequest(path="/py/empty"), timeout=CALL).HasField("data")


def test_a_conditional_set_is_refused_with_a_typed_error(a, b):
    a.znodes.Set(znodes_pb2.SetRequest(path="/py", data=b"2", version=0), timeout=CALL)
    code, detail = refusal(
        lambda: b.znodes.Set(znodes_pb2.SetRequest(path="/py", data=b"3", version=0), timeout=CALL)
    )
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert detail.kind == common_pb2.ERROR_KIND_BAD_VERSION and detail.zookeeper_code == -103
    code, detail = refusal(lambda: b.znodes.Get(znodes_pb2.GetRequest(path="/absent"), timeout=CALL))
    assert code == grpc.StatusCode.NOT_FOUND and detail.kind == common_pb2.ERROR_KIND_NO_NODE


def test_children_are_streamed_in_name_order(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/list"), timeout=CALL)
    names = [f"n{number:02}" for number in range(20)]
    for name in reversed(names):
        a.znodes.Create(znodes_pb2.CreateRequest(path=f"/list/{name}"), timeout=CALL)
    parts = list(b.znodes.List(znodes_pb2.ListRequest(path="/list", with_stat=True), timeout=CALL))
    assert [child.name for part in parts for child in part.children] == names
    assert not parts[-1].more and parts[0].stat.num_children == 20
    page = list(b.znodes.List(znodes_pb2.ListRequest(path="/list", after="n04", limit=3), timeout=CALL))
    assert [child.name for part in page for child in part.children] == ["n05", "n06", "n07"]
    assert page[-1].more


def test_a_multi_is_all_or_nothing(a, b):
    create = operations_pb2.MultiOperation(create=operations_pb2.Create(path="/multi", data=b"1"))
    bad = operations_pb2.MultiOperation(delete=operations_pb2.Delete(path="/absent"))
    code, detail = refusal(
        lambda: a.znodes.Multi(znodes_pb2.MultiRequest(operations=[create, bad]), timeout=CALL)
    )
    assert code == grpc.StatusCode.NOT_FOUND and detail.operation == 1
    assert not b.znodes.Exists(znodes_pb2.ExistsRequest(path="/multi"), timeout=CALL).HasField("stat")
    again = operations_pb2.MultiOperation(set_data=operations_pb2.SetData(path="/multi", data=b"2"))
    done = a.znodes.Multi(znodes_pb2.MultiRequest(operations=[create, again]), timeout=CALL)
    assert len(done.results) == 2 and done.results[1].data_set.version == 1
    assert done.results[0].created.stat.czxid == done.zxid


def test_a_subtree_goes_in_one_transaction(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/tree"), timeout=CALL)
    for number in range(5):
        a.znodes.Create(znodes_pb2.CreateRequest(path=f"/tree/{number}"), timeout=CALL)
    code, detail = refusal(lambda: b.znodes.Delete(znodes_pb2.DeleteRequest(path="/tree"), timeout=CALL))
    assert detail.kind == common_pb2.ERROR_KIND_NOT_EMPTY and code == grpc.StatusCode.FAILED_PRECONDITION
    gone = b.znodes.Delete(znodes_pb2.DeleteRequest(path="/tree", recursive=True), timeout=CALL)
    assert gone.count == 6


def test_an_acl_keeps_others_out(a, b):
    alice = common_pb2.Credential(scheme="digest", credential=b"alice:secret")
    mine = common_pb2.Acl(entries=[common_pb2.AclEntry(permissions=31, scheme="auth", id="")])
    a.znodes.Create(
        znodes_pb2.CreateRequest(path="/private", data=b"x", acl=mine, credentials=[alice]), timeout=CALL
    )
    code, detail = refusal(lambda: b.znodes.Get(znodes_pb2.GetRequest(path="/private"), timeout=CALL))
    assert code == grpc.StatusCode.PERMISSION_DENIED and detail.kind == common_pb2.ERROR_KIND_NO_AUTH
    got = b.znodes.Get(znodes_pb2.GetRequest(path="/private", credentials=[alice]), timeout=CALL)
    assert got.data == b"x"


def test_a_retry_with_the_same_request_id_takes_effect_once(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/once"), timeout=CALL)
    request = znodes_pb2.CreateRequest(
        path="/once/n-", mode=common_pb2.CREATE_MODE_PERSISTENT_SEQUENTIAL, request_id=request_id()
    )
    first = a.znodes.Create(request, timeout=CALL)
    for api in (a, b, a, b):  # on any member
        again = api.znodes.Create(request, timeout=CALL)
        assert (again.path, again.zxid) == (first.path, first.zxid), (again, first)
    children = [c.name for part in b.znodes.List(znodes_pb2.ListRequest(path="/once"), timeout=CALL) for c in part.children]
    assert children == ["n-0000000000"], children
    other = znodes_pb2.CreateRequest(
        path="/once/n-", mode=common_pb2.CREATE_MODE_PERSISTENT_SEQUENTIAL, request_id=request_id()
    )
    assert a.znodes.Create(other, timeout=CALL).path == "/once/n-0000000001"


def test_a_read_at_least_as_new_as_a_write_sees_it_on_any_member(a, b):
    for number in range(20):
        zxid = a.znodes.Set(znodes_pb2.SetRequest(path="/py", data=b"%d" % number), timeout=CALL).zxid
        fresh = common_pb2.Consistency(level=common_pb2.Consistency.LEVEL_AT_LEAST, zxid=zxid)
        got = b.znodes.Get(znodes_pb2.GetRequest(path="/py", consistency=fresh), timeout=CALL)
        assert got.data == b"%d" % number


# --- watches ----------------------------------------------------------------------------------


def test_a_watch_streams_events_in_order_with_values(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/watch"), timeout=CALL)
    stream = b.znodes.Watch(
        znodes_pb2.WatchRequest(path="/watch", kind=common_pb2.WATCH_KIND_RECURSIVE, with_value=True),
        timeout=CALL,
    )
    started = next(stream)
    assert started.HasField("started")
    a.znodes.Create(znodes_pb2.CreateRequest(path="/watch/n", data=b"0"), timeout=CALL)
    for number in range(1, 10):
        a.znodes.Set(znodes_pb2.SetRequest(path="/watch/n", data=b"%d" % number), timeout=CALL)
    a.znodes.Delete(znodes_pb2.DeleteRequest(path="/watch/n"), timeout=CALL)
    events = []
    for news in stream:
        if news.HasField("event"):
            events.append(news.event)
            if news.event.kind == common_pb2.EVENT_KIND_NODE_DELETED:
                break
    stream.cancel()
    kinds = [event.kind for event in events]
    assert kinds == (
        [common_pb2.EVENT_KIND_NODE_CREATED]
        + [common_pb2.EVENT_KIND_NODE_DATA_CHANGED] * 9
        + [common_pb2.EVENT_KIND_NODE_DELETED]
    ), kinds
    assert [event.value.data for event in events[:10]] == [b"%d" % number for number in range(10)]
    positions = [(event.position.zxid, event.position.ordinal) for event in events]
    assert positions == sorted(set(positions))


def test_a_watch_resumes_behind_its_position_on_another_member(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/resume"), timeout=CALL)
    first = a.znodes.Watch(
        znodes_pb2.WatchRequest(path="/resume", kind=common_pb2.WATCH_KIND_RECURSIVE), timeout=CALL
    )
    position = next(first).started
    seen = []

    def follow(stream, until):
        nonlocal position
        for news in stream:
            if news.HasField("event"):
                position = news.event.position
                seen.append(news.event.path)
                if news.event.path == until:
                    break
        stream.cancel()

    for number in range(5):
        a.znodes.Create(znodes_pb2.CreateRequest(path=f"/resume/{number}"), timeout=CALL)
    follow(first, "/resume/4")
    for number in range(5, 10):  # nobody watches
        a.znodes.Create(znodes_pb2.CreateRequest(path=f"/resume/{number}"), timeout=CALL)
    second = b.znodes.Watch(
        znodes_pb2.WatchRequest(path="/resume", kind=common_pb2.WATCH_KIND_RECURSIVE, since=position),
        timeout=CALL,
    )
    follow(second, "/resume/9")
    assert seen == [f"/resume/{number}" for number in range(10)], seen


# --- locks and elections ----------------------------------------------------------------------


def test_a_lock_is_acquired_extended_and_released_with_growing_tokens(a, b):
    first = a.locks.Acquire(locks_pb2.AcquireRequest(path="/lock", ttl_ms=10_000), timeout=CALL).lease
    assert first.token > 0 and first.path.startswith("/lock/") and len(first.password) == 16
    code, detail = refusal(
        lambda: b.locks.Acquire(
            locks_pb2.AcquireRequest(path="/lock", ttl_ms=10_000, wait_ms=0), timeout=CALL
        )
    )
    assert code == grpc.StatusCode.ABORTED and detail.kind == common_pb2.ERROR_KIND_NODE_EXISTS
    assert b.locks.Extend(locks_pb2.ExtendRequest(lease=first), timeout=CALL).ttl_ms >= 4_000
    holder = next(b.locks.Observe(locks_pb2.ObserveRequest(path="/lock"), timeout=CALL))
    assert holder.holder.token == first.token

    granted = []
    waiting = threading.Thread(
        target=lambda: granted.append(
            b.locks.Acquire(locks_pb2.AcquireRequest(path="/lock", ttl_ms=10_000), timeout=CALL).lease
        )
    )
    waiting.start()
    time.sleep(0.3)
    assert not granted, "two hold the lock"
    a.locks.Release(locks_pb2.ReleaseRequest(lease=first), timeout=CALL)
    waiting.join(CALL)
    assert granted and granted[0].token > first.token
    a.locks.Release(locks_pb2.ReleaseRequest(lease=first), timeout=CALL)  # repeating it is harmless
    b.locks.Release(locks_pb2.ReleaseRequest(lease=granted[0]), timeout=CALL)


def test_a_fencing_token_guards_a_transaction(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/guarded", data=b"0"), timeout=CALL)

    def write(lease, data):
        guard = operations_pb2.Guard(lock=operations_pb2.LockHeld(path="/fence", token=lease.token))
        return b.znodes.Multi(
            znodes_pb2.MultiRequest(
                operations=[
                    operations_pb2.MultiOperation(guard=guard),
                    operations_pb2.MultiOperation(set_data=operations_pb2.SetData(path="/guarded", data=data)),
                ]
            ),
            timeout=CALL,
        )

    first = a.locks.Acquire(locks_pb2.AcquireRequest(path="/fence", ttl_ms=10_000), timeout=CALL).lease
    write(first, b"1")
    a.locks.Release(locks_pb2.ReleaseRequest(lease=first), timeout=CALL)
    second = a.locks.Acquire(locks_pb2.AcquireRequest(path="/fence", ttl_ms=10_000), timeout=CALL).lease
    code, detail = refusal(lambda: write(first, b"stale"))
    assert code == grpc.StatusCode.FAILED_PRECONDITION and detail.kind == common_pb2.ERROR_KIND_GUARD_FAILED
    write(second, b"2")
    assert a.znodes.Get(znodes_pb2.GetRequest(path="/guarded"), timeout=CALL).data == b"2"
    a.locks.Release(locks_pb2.ReleaseRequest(lease=second), timeout=CALL)


def test_a_lease_that_is_not_extended_ends(a, b):
    lease = a.locks.Acquire(locks_pb2.AcquireRequest(path="/short", ttl_ms=4_000), timeout=CALL).lease
    started = time.monotonic()
    next_lease = b.locks.Acquire(locks_pb2.AcquireRequest(path="/short", ttl_ms=4_000), timeout=30).lease
    waited = time.monotonic() - started
    assert next_lease.token > lease.token and waited > 2.5, waited
    code, detail = refusal(lambda: a.locks.Extend(locks_pb2.ExtendRequest(lease=lease), timeout=CALL))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert detail.kind == common_pb2.ERROR_KIND_SESSION_EXPIRED
    b.locks.Release(locks_pb2.ReleaseRequest(lease=next_lease), timeout=CALL)


def test_an_election_has_one_leader_whose_value_is_seen(a, b):
    first = a.elections.Campaign(
        elections_pb2.CampaignRequest(path="/election", ttl_ms=10_000, value=b"one"), timeout=CALL
    ).lease
    leader = b.elections.Leader(elections_pb2.LeaderRequest(path="/election"), timeout=CALL).leader
    assert leader.token == first.token and leader.data == b"one"
    a.elections.Proclaim(elections_pb2.ProclaimRequest(lease=first, value=b"uno"), timeout=CALL)

    seen = []
    observing = b.elections.Observe(elections_pb2.ObserveLeaderRequest(path="/election"), timeout=CALL)
    observer = threading.Thread(target=lambda: follow_leaders(observing, seen, b"two"))
    observer.start()
    campaign = b.elections.Campaign.future(
        elections_pb2.CampaignRequest(path="/election", ttl_ms=10_000, value=b"two"), timeout=CALL
    )
    time.sleep(0.2)
    assert not campaign.done(), "two lead"
    a.elections.Resign(elections_pb2.ResignRequest(lease=first), timeout=CALL)
    second = campaign.result().lease
    assert second.token > first.token
    observer.join(CALL)
    assert seen and seen[0] == b"uno" and seen[-1] == b"two", seen
    code, detail = refusal(
        lambda: a.elections.Proclaim(elections_pb2.ProclaimRequest(lease=first, value=b"x"), timeout=CALL)
    )
    assert code == grpc.StatusCode.FAILED_PRECONDITION, (code, detail)
    b.elections.Resign(elections_pb2.ResignRequest(lease=second), timeout=CALL)


def follow_leaders(stream, seen, until):
    try:
        for response in stream:
            if response.HasField("leader"):
                seen.append(response.leader.data)
                if response.leader.data == until:
                    break
    except grpc.RpcError as error:
        seen.append(error)
    stream.cancel()


# --- sessions ---------------------------------------------------------------------------------


class SessionStream:
    """One stream of a session: the greeting is read, frames are sent and read by hand."""

    def __init__(self, api, connect, acknowledged=0):
        self.frames = []
        self.wake = threading.Condition()
        self.send(session_pb2.ClientFrame(connect=connect, acknowledged=acknowledged))
        self.stream = api.session.Open(self.outgoing(), timeout=CALL)
        self.messages = []
        greeting = next(self.stream)
        assert greeting.HasField("connected"), greeting
        self.connected = greeting.connected
        self.messages.extend(greeting.messages)

    def outgoing(self):
        while True:
            with self.wake:
                while not self.frames:
                    self.wake.wait()
                frame = self.frames.pop(0)
            if frame is None:
                return
            yield frame

    def send(self, frame):
        with self.wake:
            self.frames.append(frame)
            self.wake.notify()

    def reply(self, write_number):
        while True:
            for message in self.messages:
                if message.HasField("reply") and message.reply.write_number == write_number:
                    return message.reply
            self.messages.extend(next(self.stream).messages)

    def end(self):
        self.send(None)
        self.stream.cancel()


def test_a_session_resumes_on_another_member_and_its_write_is_not_applied_twice(a, b):
    a.znodes.Create(znodes_pb2.CreateRequest(path="/session"), timeout=CALL)
    create = session_pb2.Request(
        write_number=1,
        create=operations_pb2.Create(path="/session/n-", mode=common_pb2.CREATE_MODE_EPHEMERAL_SEQUENTIAL),
    )
    first = SessionStream(a, session_pb2.Connect(timeout_ms=10_000))
    first.send(session_pb2.ClientFrame(requests=[create]))
    answer = first.reply(1)
    assert answer.write.created.path == "/session/n-0000000000"
    first.end()

    resume = session_pb2.ResumeSession(
        session_id=first.connected.session_id, password=first.connected.password
    )
    second = SessionStream(
        b, session_pb2.Connect(resume=resume, timeout_ms=10_000, last_zxid_seen=answer.zxid)
    )
    assert second.connected.session_id == first.connected.session_id
    assert second.connected.epoch > first.connected.epoch and second.connected.last_applied_write == 1
    second.send(session_pb2.ClientFrame(requests=[create]))
    again = second.reply(1)
    assert (again.zxid, again.write.created.path) == (answer.zxid, answer.write.created.path)
    stat = a.znodes.Exists(znodes_pb2.ExistsRequest(path=answer.write.created.path), timeout=CALL).stat
    assert stat.ephemeral_owner == first.connected.session_id
    close = session_pb2.Request(write_number=2, close_session=session_pb2.CloseSession())
    second.send(session_pb2.ClientFrame(requests=[close]))
    second.reply(2)
    second.end()
    gone = a.znodes.Exists(znodes_pb2.ExistsRequest(path=answer.write.created.path), timeout=CALL)
    assert not gone.HasField("stat"), "the ephemeral outlived its session"


# --- services and rings -----------------------------------------------------------------------


def register(api, service, id, address="10.0.0.1", ttl_ms=4000, **fields):
    instance = registry_pb2.Instance(id=id, address=address, ports={"main": 8080}, **fields)
    request = registry_pb2.RegisterRequest(service=service, instance=instance, ttl_ms=ttl_ms)
    return api.registry.Register(request, timeout=CALL)


def discover(api, service, **fields):
    request = registry_pb2.DiscoverRequest(service=service, **fields)
    return api.registry.Discover(request, timeout=CALL)


def ids(instances):
    return [instance.id for instance in instances]


def test_a_registered_instance_is_discovered_on_another_member(a, b):
    register(a, "py-orders", "a-1", metadata={"team": "blue"}, locality=registry_pb2.Locality(zone="z1"))
    register(a, "py-orders", "a-2", ttl_ms=0, weight=3)
    found = discover(b, "py-orders")
    assert ids(found.instances) == ["a-1", "a-2"] and found.version > 0
    first, second = found.instances
    assert first.status == registry_pb2.INSTANCE_STATUS_PASSING and first.session_id and first.weight == 1
    assert second.weight == 3 and not second.session_id
    wanted = registry_pb2.InstanceFilter(metadata={"team": "blue"}, zone="z1")
    assert ids(discover(b, "py-orders", filter=wanted).instances) == ["a-1"]
    listed = b.registry.ListServices(registry_pb2.ListServicesRequest(), timeout=CALL)
    (summary,) = [service for service in listed.services if service.service == "py-orders"]
    assert (summary.namespace, summary.instances, summary.usable) == ("default", 2, 2)


def test_heartbeats_keep_an_instance_and_their_end_removes_it(a, b):
    kept = register(a, "py-beat", "kept")
    register(b, "py-beat", "forgotten")
    deadline = time.monotonic() + 60
    while ids(discover(b, "py-beat").instances) != ["kept"]:
        beat = b.registry.Heartbeat(registry_pb2.HeartbeatRequest(lease=kept.lease), timeout=CALL)
        assert beat.ttl_ms == 4000
        assert time.monotonic() < deadline, "the forgotten instance stays"
        time.sleep(0.5)
    gone = b.registry.Deregister(registry_pb2.DeregisterRequest(lease=kept.lease), timeout=CALL)
    assert gone.zxid > 0 and not discover(a, "py-beat").instances
    code, detail = refusal(
        lambda: a.registry.Heartbeat(registry_pb2.HeartbeatRequest(lease=kept.lease), timeout=CALL)
    )
    assert detail.kind == common_pb2.ERROR_KIND_SESSION_EXPIRED


def test_a_stream_keeps_an_instance_and_a_lease_carries_it_to_another_member(a, b):
    instance = registry_pb2.Instance(id="s-1", address="10.0.0.1", ports={"main": 1}, generation=1)
    request = registry_pb2.RegisterRequest(service="py-kept", instance=instance, ttl_ms=4000)
    stream = a.registry.Keep(request)
    lease = next(stream).lease
    stream.cancel()
    request.lease.CopyFrom(lease)
    again = b.registry.Keep(request)
    assert next(again).lease.session_id == lease.session_id
    next(again)  # kept for another third of its time
    assert ids(discover(a, "py-kept").instances) == ["s-1"]
    again.cancel()


def test_duplicates_hostile_names_and_large_metadata_are_refused_by_name(a, b):
    register(a, "py-dup", "d-1", generation=5)
    code, detail = refusal(lambda: register(b, "py-dup", "d-1", generation=5))
    assert code == grpc.StatusCode.ALREADY_EXISTS and detail.kind == common_pb2.ERROR_KIND_NODE_EXISTS
    replaced = register(b, "py-dup", "d-1", generation=6)
    assert discover(a, "py-dup").instances[0].session_id == replaced.lease.session_id
    for field, call in {
        "instance.id": lambda: register(a, "py-dup", "../x"),
        "service": lambda: register(a, "a/b", "x"),
        "instance.weight": lambda: register(a, "py-dup", "x", weight=0),
        "instance.metadata": lambda: register(a, "py-dup", "x", metadata={"k": "v" * (1 << 20)}),
        "instance.address": lambda: register(a, "py-dup", "x", address="10.0.0.1:80"),
    }.items():
        code, detail = refusal(call)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and field in detail.detail, (field, detail)


def test_a_watch_tells_a_snapshot_then_changes_and_resumes(a, b):
    register(a, "py-watch", "w-1", ttl_ms=0)
    stream = b.registry.WatchService(registry_pb2.WatchServiceRequest(service="py-watch"))
    first = next(stream)
    assert first.snapshot and ids(first.put) == ["w-1"]
    register(a, "py-watch", "w-2", ttl_ms=0)
    second = next(stream)
    assert not second.snapshot and ids(second.put) == ["w-2"] and second.version > first.version
    stream.cancel()
    remove = registry_pb2.DeregisterRequest(service="py-watch", instance_id="w-1")
    a.registry.Deregister(remove, timeout=CALL)
    resumed = b.registry.WatchService(
        registry_pb2.WatchServiceRequest(service="py-watch", since_version=second.version)
    )
    news = next(resumed)
    if news.snapshot:
        # Nobody knows any more who was allowed to hear of an instance that has gone.
        assert ids(news.put) == ["w-2"] and not news.removed, news
    else:
        # This member had not heard of it yet: the first answer says so, the removal follows.
        assert not news.put and not news.removed and news.version == second.version, news
        news = next(resumed)
        assert not news.snapshot and list(news.removed) == ["w-1"] and not news.put, news
    resumed.cancel()


def test_reports_change_the_health_and_a_drained_instance_gets_no_keys(a, b):
    for id in ("r-1", "r-2", "r-3"):
        register(a, "py-report", id, address=f"{id}.example", ttl_ms=0)
    report = registry_pb2.InstanceReport(
        instance_id="r-1", health=registry_pb2.HEALTH_CRITICAL, reason="out of memory", load=900
    )
    unknown = registry_pb2.InstanceReport(instance_id="r-9", load=1)
    request = registry_pb2.ReportRequest(service="py-report", reports=[report, unknown])
    assert b.registry.Report(request, timeout=CALL).unknown == 1
    usable = registry_pb2.InstanceFilter(usable_only=True)
    stream = a.registry.WatchService(registry_pb2.WatchServiceRequest(service="py-report"))
    for news in stream:
        found = {instance.id: instance for instance in news.put}
        if "r-1" in found and found["r-1"].status == registry_pb2.INSTANCE_STATUS_CRITICAL:
            assert found["r-1"].reason == "out of memory" and found["r-1"].load == 900
            break
    stream.cancel()
    assert ids(discover(b, "py-report", filter=usable).instances) == ["r-2", "r-3"]
    drain = registry_pb2.SetModeRequest(
        service="py-report", instance_id="r-2", mode=registry_pb2.MODE_DRAINING
    )
    a.registry.SetMode(drain, timeout=CALL)
    assert ids(discover(b, "py-report", filter=usable).instances) == ["r-3"]


def test_everyone_at_a_version_names_the_same_owner(a, b):
    for number in range(4):
        register(a, "py-ring", f"n-{number}", address=f"10.0.1.{number}", ttl_ms=0)
    ring = a.ring.GetRing(ring_pb2.GetRingRequest(service="py-ring"), timeout=CALL)
    assert [member.endpoint for member in ring.members] == [f"10.0.1.{n}:8080" for n in range(4)]
    assert ring.points == 1024 and all(member.points == 256 for member in ring.members)

    def locate(api, key, **fields):
        request = ring_pb2.LocateRequest(service="py-ring", key=key, **fields)
        return api.ring.Locate(request, timeout=CALL)

    keys = [f"key-{number}".encode() for number in range(50)]
    before = [ids(locate(a, key, replicas=2).owners) for key in keys]
    assert before == [ids(locate(b, key, replicas=2).owners) for key in keys]
    assert all(len(set(owners)) == 2 for owners in before)
    watch = b.ring.WatchRing(ring_pb2.WatchRingRequest(service="py-ring"))
    assert next(watch).version == ring.version
    remove = registry_pb2.DeregisterRequest(service="py-ring", instance_id="n-3")
    a.registry.Deregister(remove, timeout=CALL)
    after = next(watch)
    assert len(after.members) == 3 and after.version > ring.version
    watch.cancel()
    for key, owners in zip(keys, before):
        now = ids(locate(b, key).owners)
        assert now[0] == owners[0] or owners[0] == "n-3"
        old = locate(b, key, version=ring.version)
        assert old.version == ring.version and ids(old.owners) == owners[:1]
    code, detail = refusal(lambda: locate(b, b"x", version=1))
    assert code == grpc.StatusCode.OUT_OF_RANGE and detail.kind == common_pb2.ERROR_KIND_WATCH_GAP


def test_a_policy_is_versioned_and_comes_with_the_service(a, b):
    policy = registry_pb2.Policy(balancing=registry_pb2.BALANCING_RING_HASH, timeout_ms=250)
    request = registry_pb2.SetPolicyRequest(service="py-policy", policy=policy)
    a.registry.SetPolicy(request, timeout=CALL)
    got = b.registry.GetPolicy(registry_pb2.GetPolicyRequest(service="py-policy"), timeout=CALL)
    assert got.policy.timeout_ms == 250 and got.version == 0
    request.version = 7
    code, detail = refusal(lambda: b.registry.SetPolicy(request, timeout=CALL))
    assert detail.kind == common_pb2.ERROR_KIND_BAD_VERSION
    assert discover(a, "py-policy").policy.balancing == registry_pb2.BALANCING_RING_HASH
    bad = registry_pb2.SetPolicyRequest(service="py-policy", policy=registry_pb2.Policy(panic_permille=1001))
    code, detail = refusal(lambda: a.registry.SetPolicy(bad, timeout=CALL))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "policy.panic_permille" in detail.detail


# --- operators --------------------------------------------------------------------------------


def documented(name):
    """A function as docs/grpc.md shows it."""
    with open(os.path.join(os.environ["QUORATE_DOCS"], "grpc.md"), encoding="utf-8") as file:
        block = next(block for block in file.read().split("```python\n") if block.startswith(f"def {name}("))
    told = dict(globals())
    exec(block.split("```")[0], told)  # pylint: disable=exec-used
    return told[name]


def test_a_configuration_value_is_put_as_documented_and_keeps_a_bounded_history(a, b):
    put = documented("put")
    for path in ("/quorate", "/quorate/config"):
        if not a.znodes.Exists(znodes_pb2.ExistsRequest(path=path), timeout=CALL).HasField("stat"):
            a.znodes.Create(znodes_pb2.CreateRequest(path=path), timeout=CALL)
    path = "/quorate/config/py.timeouts"
    revisions = [put(a.znodes, "py.timeouts", f"read: {number}s".encode()) for number in range(40)]
    assert revisions == list(range(1, 41))
    found = b.znodes.Get(znodes_pb2.GetRequest(path=path), timeout=CALL)
    assert found.data == b"read: 39s" and found.stat.version + 1 == 40
    request = znodes_pb2.ListRequest(path=path, with_data=True)
    kept = [child for part in b.znodes.List(request, timeout=CALL) for child in part.children]
    assert [child.name for child in kept] == [f"{revision:010}" for revision in range(9, 41)]
    assert kept[0].data == b"read: 8s"
    # Whoever judged an old version is refused, and nothing of its change is there.
    stale = operations_pb2.MultiOperation(
        set_data=operations_pb2.SetData(path=path, data=b"stale", version=3)
    )
    code, detail = refusal(lambda: a.znodes.Multi(znodes_pb2.MultiRequest(operations=[stale]), timeout=CALL))
    assert detail.kind == common_pb2.ERROR_KIND_BAD_VERSION, (code, detail)


def test_the_cluster_tells_its_members_and_their_digests_agree(a, b):
    status = a.cluster.Status(cluster_pb2.StatusRequest(), timeout=CALL)
    assert [member.id for member in status.members] == [1, 2, 3]
    assert all(member.role == cluster_pb2.MEMBER_ROLE_VOTER for member in status.members)
    assert status.leader_id in (1, 2, 3)
    digest = b.cluster.Digest(cluster_pb2.DigestRequest(verify=True), timeout=CALL)
    assert digest.agree and len(digest.digests) == 3, digest
    assert all(member.digest == member.recomputed for member in digest.digests)


def test_health_says_serving(a, b):
    for api in (a, b):
        answer = api.health.Check(health_pb2.HealthCheckRequest(), timeout=CALL)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer
    for service in ("quorate.v1.Session", "quorate.v1.Znodes", "quorate.v1.Locks"):
        answer = a.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, (service, answer)


def test_reflection_lists_and_describes_every_service(a, b):
    database = ProtoReflectionDescriptorDatabase(a.channel)
    services = set(database.get_services())
    wanted = {f"quorate.v1.{name}" for name in ("Session", "Znodes", "Locks", "Elections", "Registry", "Ring", "Cluster")}
    assert wanted <= services, services
    assert "grpc.health.v1.Health" in services, services
    described = database.FindFileContainingSymbol("quorate.v1.Znodes")
    assert described.name == "quorate/v1/znodes.proto"
    assert [service.name for service in described.service] == ["Znodes"]


def main():
    wait_ready()
    a, b = Api(ADDRESSES[0]), Api(ADDRESSES[1])
    tests = [(name, test) for name, test in globals().items() if name.startswith("test_")]
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    passed, failed = 0, 0
    for name, test in tests:
        if only not in name:
            continue
        started = time.monotonic()
        try:
            test(a, b)
            passed += 1
            verdict = "ok"
        except Exception:  # a failed claim must not hide the others
            failed += 1
            verdict = "FAILED"
            traceback.print_exc()
        print(f"{verdict:6} {name[5:].replace('_', ' ')} ({time.monotonic() - started:.2f} s)", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    # Streams that were not read to their end must not keep the process alive.
    code = main()
    sys.stdout.flush()
    os._exit(code)
