"""Who owns a key: gRPC's own ring_hash, a real Envoy and this cluster must name the same instance.

Backends that tell their address are registered; the ring that the cluster tells (sizes, members, their
order and weights) is given to gRPC by a small xDS server in here and to Envoy by a file; then each key
is sent through both, and whoever answers must be whom `Ring.Locate` names. No hash is computed here.

run.sh starts the cluster, says where it is in QUORATE_PORT, puts generated stubs on the path, and names
Envoy's program in ENVOY (without it only gRPC is asked).
"""

import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import time
from concurrent import futures

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from quorate.v1 import registry_pb2, registry_pb2_grpc, ring_pb2, ring_pb2_grpc

PORT = int(os.environ["QUORATE_PORT"])
ENVOY = os.environ.get("ENVOY")
CALL = 15.0  # seconds that any one call may take
KEYS = 1000
HEADER = "x-key"
METHOD = "/test.Backend/WhoAreYou"
# gRPC's clients take no larger ring than this unless their channel says otherwise.
GRPC_CAP = 4096


def raw(data):
    return data


# --- those who are called ---------------------------------------------------------------------


class Backends:
    """Servers on loopback, each of which answers with its own address."""

    def __init__(self, count):
        self.servers, self.addresses = [], []
        for _ in range(count):
            server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
            port = server.add_insecure_port("127.0.0.1:0")
            address = f"127.0.0.1:{port}"
            handler = grpc.unary_unary_rpc_method_handler(
                lambda request, context, own=address.encode(): own,
                request_deserializer=raw,
                response_serializer=raw,
            )
            service, method = METHOD.strip("/").split("/")
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
            server.start()
            self.servers.append(server)
            self.addresses.append(address)

    def stop(self):
        for server in self.servers:
            server.stop(None)


def answers(channel, keys):
    """Who answers for each key."""
    ask = channel.unary_unary(METHOD, request_serializer=raw, response_deserializer=raw)
    calls = []
    for key in keys:
        calls.append(ask.future(b"", metadata=[(HEADER, key)], timeout=CALL, wait_for_ready=True))
    return [call.result().decode() for call in calls]


# --- the cluster ------------------------------------------------------------------------------


class Cluster:
    def __init__(self):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{PORT}")
        self.registry = registry_pb2_grpc.RegistryStub(self.channel)
        self.ring = ring_pb2_grpc.RingStub(self.channel)

    def wait_ready(self):
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.registry.ListServices(registry_pb2.ListServicesRequest(), timeout=2)
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"the cluster is not ready: {error}") from error
                time.sleep(0.1)

    def register(self, service, id, address, weight):
        host, port = address.split(":")
        instance = registry_pb2.Instance(id=id, address=host, ports={"main": int(port)}, weight=weight)
        self.registry.Register(registry_pb2.RegisterRequest(service=service, instance=instance), timeout=CALL)

    def deregister(self, service, id):
        request = registry_pb2.DeregisterRequest(service=service, instance_id=id)
        self.registry.Deregister(request, timeout=CALL)

    def ring_points(self, service, least, most):
        policy = self.registry.GetPolicy
        try:
            policy = policy(registry_pb2.GetPolicyRequest(service=service), timeout=CALL).policy
        except grpc.RpcError:
            policy = registry_pb2.Policy()
        policy.ring_points_min, policy.ring_points_max = least, most
        self.registry.SetPolicy(registry_pb2.SetPolicyRequest(service=service, policy=policy), timeout=CALL)

    def get_ring(self, service):
        return self.ring.GetRing(ring_pb2.GetRingRequest(service=service), timeout=CALL)

    def owners(self, service, version, keys):
        """Whom `Ring.Locate` names for each key, all at one version."""
        calls = []
        for key in keys:
            request = ring_pb2.LocateRequest(service=service, key=key.encode(), version=version)
            calls.append(self.ring.Locate.future(request, timeout=CALL))
        located = []
        for call in calls:
            owner = call.result().owners[0]
            located.append(f"{owner.address}:{owner.ports['main']}")
        return located


# --- gRPC, told by xDS ------------------------------------------------------------------------


class Xds(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """An xDS server (state of the world, aggregated) for rings that do not change."""

    def __init__(self):
        self.rings = {}
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
        ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def StreamAggregatedResources(self, requests, context):
        waiting = queue.Queue()
        # Whoever reads the requests ends with the stream.
        reader = futures.ThreadPoolExecutor(max_workers=1)
        reader.submit(lambda: [waiting.put(request) for request in requests] and None)
        context.add_callback(lambda: waiting.put(None))
        told = {}
        while (request := waiting.get()) is not None:
            if request.HasField("error_detail"):
                print(f"  gRPC refuses: {request.error_detail.message}", flush=True)
            names = tuple(request.resource_names)
            if told.get(request.type_url) == names:
                continue
            told[request.type_url] = names
            answer = discovery_pb2.DiscoveryResponse(version_info="1", type_url=request.type_url, nonce="1")
            kind = request.type_url.rsplit(".", 1)[-1]
            for name in names:
                if name in self.rings:
                    answer.resources.add().Pack(getattr(self, kind)(name, self.rings[name]))
            yield answer
        reader.shutdown(wait=False)

    def Listener(self, name, _):
        manager = http_connection_manager_pb2.HttpConnectionManager()
        manager.rds.route_config_name = name
        manager.rds.config_source.ads.SetInParent()
        router = manager.http_filters.add(name="router")
        router.typed_config.Pack(router_pb2.Router())
        listener = listener_pb2.Listener(name=name)
        listener.api_listener.api_listener.Pack(manager)
        return listener

    def RouteConfiguration(self, name, _):
        routes = route_pb2.RouteConfiguration(name=name)
        route = routes.virtual_hosts.add(name=name, domains=["*"]).routes.add()
        route.match.prefix = ""
        route.route.cluster = name
        route.route.hash_policy.add().header.header_name = HEADER
        return routes

    def Cluster(self, name, ring):
        cluster = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
        cluster.eds_cluster_config.eds_config.ads.SetInParent()
        cluster.lb_policy = cluster_pb2.Cluster.RING_HASH
        cluster.ring_hash_lb_config.minimum_ring_size.value = ring.min_ring_size
        cluster.ring_hash_lb_config.maximum_ring_size.value = ring.max_ring_size
        return cluster

    def ClusterLoadAssignment(self, name, ring):
        assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
        locality = assignment.endpoints.add()
        locality.locality.region = "here"
        locality.load_balancing_weight.value = 1
        for member in ring.members:
            endpoint = locality.lb_endpoints.add()
            host, port = member.endpoint.split(":")
            endpoint.endpoint.address.socket_address.address = host
            endpoint.endpoint.address.socket_address.port_value = int(port)
            endpoint.load_balancing_weight.value = member.weight
        return assignment


def through_grpc(xds, service, ring, keys):
    xds.rings[service] = ring
    options = [("grpc.lb.ring_hash.ring_size_cap", 8 << 20)] if ring.max_ring_size > GRPC_CAP else []
    with grpc.insecure_channel(f"xds:///{service}", options=options) as channel:
        return answers(channel, keys)


# --- Envoy, told by a file --------------------------------------------------------------------


def envoy_config(ring, port):
    http2 = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network"
        ".http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ring",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "ring", "hash_policy": [{"header": {"header_name": HEADER}}]},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }

    def address(host, port):
        return {"socket_address": {"address": host, "port_value": int(port)}}

    endpoints = [
        {
            "endpoint": {"address": address(*member.endpoint.split(":"))},
            "load_balancing_weight": member.weight,
        }
        for member in ring.members
    ]
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "ring",
                    "address": address("127.0.0.1", port),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "ring",
                    "type": "STATIC",
                    "lb_policy": "RING_HASH",
                    "ring_hash_lb_config": {
                        "minimum_ring_size": ring.min_ring_size,
                        "maximum_ring_size": ring.max_ring_size,
                    },
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
                    },
                    "load_assignment": {"cluster_name": "ring", "endpoints": [{"lb_endpoints": endpoints}]},
                }
            ],
        }
    }


def through_envoy(ring, keys):
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = os.path.join(folder, "envoy.json")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(envoy_config(ring, port), file)
        command = [ENVOY, "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        with subprocess.Popen(command) as envoy:
            try:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    return answers(channel, keys)
            finally:
                envoy.terminate()


# --- what is compared -------------------------------------------------------------------------


def compare(cluster, xds, service, what, change=lambda ring: None):
    """How many keys each client sends elsewhere than `Ring.Locate` says. `change` spoils the ring that
    they are told."""
    keys = [f"{service}-customer-{number}" for number in range(KEYS)]
    ring = cluster.get_ring(service)
    owners = cluster.owners(service, ring.version, keys)
    assert len(set(owners)) == len(ring.members), "not everybody owns something: the keys are too few"
    change(ring)
    asked = {"grpc": through_grpc(xds, f"{service}-{ring.version}-{ring.min_ring_size}", ring, keys)}
    if ENVOY:
        asked["envoy"] = through_envoy(ring, keys)
    elsewhere = {
        who: sum(owner != other for owner, other in zip(owners, answered)) for who, answered in asked.items()
    }
    told = ", ".join(f"{who}: {count} of {KEYS} elsewhere" for who, count in elsewhere.items())
    print(f"{what}: {len(ring.members)} members, {ring.points} points; {told}", flush=True)
    return list(elsewhere.values())


def main():
    cluster = Cluster()
    cluster.wait_ready()
    backends = Backends(24)
    xds = Xds()
    bootstrap = {
        "xds_servers": [
            {
                "server_uri": f"127.0.0.1:{xds.port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": "ring-test"},
    }
    # Read when the first xds channel is made.
    os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(bootstrap)
    if not ENVOY:
        print("Envoy is not asked: ENVOY names no program")
    wrong = []

    def fill(service, weights):
        for number, weight in enumerate(weights):
            cluster.register(service, f"r-{number}", backends.addresses[number], weight)

    fill("ring-equal", [1] * 4)
    wrong += compare(cluster, xds, "ring-equal", "equal weights")
    cluster.deregister("ring-equal", "r-1")
    wrong += compare(cluster, xds, "ring-equal", "one of them gone")
    cluster.register("ring-equal", "r-0b", backends.addresses[9], 1)
    wrong += compare(cluster, xds, "ring-equal", "one more, the second in the order")
    fill("ring-weights", [1, 3, 7, 10, 2])
    wrong += compare(cluster, xds, "ring-weights", "unequal weights")
    fill("ring-large", [1] * 24)
    wrong += compare(cluster, xds, "ring-large", "more points than gRPC's own limit, which is raised")
    fill("ring-fixed", [1, 2, 3])
    cluster.ring_points("ring-fixed", 1024, GRPC_CAP)
    wrong += compare(cluster, xds, "ring-fixed", "a policy with sizes of its own")
    fill("ring-capped", [5] * 20)
    cluster.ring_points("ring-capped", 0, GRPC_CAP)
    wrong += compare(cluster, xds, "ring-capped", "a policy that keeps to gRPC's own limit")

    def double(ring):
        ring.min_ring_size *= 2

    # Would this see a difference?
    control = compare(cluster, xds, "ring-equal", "control: told a ring of twice the size", double)
    backends.stop()
    print("all agree" if not any(wrong) else f"{sum(wrong)} keys went elsewhere")
    if not all(control):
        print("the control sees no difference: this test proves nothing")
    return 0 if all(control) and not any(wrong) else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    # Streams of the xDS server that are still open must not keep the process.
    os._exit(status)
