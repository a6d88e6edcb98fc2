"""Writes to a ZooKeeper ensemble without pause until it is told to stop by a signal: creates, sets,
deletes, changes ACLs, makes sequential names, moves whole branches. Then it says how much it did.

`writer.py HOSTS SEED [NODES]`, with a number of nodes only to create so many at first; needs kazoo (Debian's
python3-kazoo)."""

import random
import signal
import sys

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, ConnectionLoss, NoNodeError, NodeExistsError, NotEmptyError, SessionExpiredError
from kazoo.security import make_acl

TOP = "/followed"
stopping = False


def stop(*_):
    global stopping
    stopping = True


def fill(client, count):
    client.ensure_path(f"{TOP}/before")
    for number in range(count):
        try:
            client.create(f"{TOP}/before/{number}", b"before")
        except NodeExistsError:
            pass


def main():
    hosts, seed = sys.argv[1], int(sys.argv[2])
    signal.signal(signal.SIGTERM, stop)
    rng = random.Random(seed)
    client = KazooClient(hosts=hosts, timeout=10)
    client.start(timeout=30)
    client.ensure_path(TOP)
    if len(sys.argv) > 3:
        fill(client, int(sys.argv[3]))
        client.stop()
        return
    done = {}
    while not stopping:
        branch = f"{TOP}/{rng.randrange(20)}"
        path = f"{branch}/{rng.randrange(50)}"
        what = rng.choice(["create", "create", "set", "set", "set", "top", "delete", "sequence", "acl", "prune", "multi"])
        try:
            if what == "create":
                client.create(path, rng.randbytes(rng.randrange(300)), makepath=True)
            elif what == "set":
                client.set(path, rng.randbytes(rng.randrange(300)))
            elif what == "top":
                client.set(TOP, rng.randbytes(9))
            elif what == "delete":
                client.delete(path)
            elif what == "sequence":
                client.create(f"{path}/job-", b"x", sequence=True)
            elif what == "acl":
                client.set_acls(path, [make_acl("world", "anyone", read=True, write=True, create=True, delete=True, admin=True)]
                                if rng.random() < 0.5 else [make_acl("world", "anyone", all=True)])
            elif what == "prune" and rng.random() < 0.1:
                client.delete(branch, recursive=True)
            elif what == "multi":
                with client.transaction() as transaction:
                    transaction.create(f"{path}/left", b"l")
                    transaction.create(f"{path}/right", b"r")
        except (NoNodeError, NodeExistsError, NotEmptyError, BadVersionError):
            continue
        except (ConnectionLoss, SessionExpiredError):
            what = "lost"
        done[what] = done.get(what, 0) + 1
    client.stop()
    print(" ".join(f"{name}={count}" for name, count in sorted(done.items())))


main()
