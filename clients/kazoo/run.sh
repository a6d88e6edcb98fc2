#!/usr/bin/env bash
# kazoo's own test suite against Quorate's ZooKeeper door: three members a cluster, started and
# stopped by the tests themselves. Arguments go to pytest: `clients/kazoo/run.sh -k TestClient`.
# Without any: everything, the eventlet and gevent handlers included. QUORATED names a
# program to test instead of a release build made here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"
if [[ -z "${QUORATED:-}" ]]; then
  cargo build --locked --release -p quorate-server
  QUORATED=${CARGO_TARGET_DIR:-target}/release/quorated
fi
QUORATED=$(realpath "$QUORATED")
export QUORATED

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QUORATE_KAZOO_LOG="$work/members.log"
python3 -m venv "$work/venv"
# pyOpenSSL is the last release with the API that the suite's own certificates need.
"$work/venv/bin/pip" install --quiet kazoo==2.11.0 pyOpenSSL==24.2.1 pyjks==20.0.0 pytest==8.4.2 pytest-timeout==2.4.0 \
  mock==5.2.0 objgraph==3.6.2 eventlet gevent

export QUORATE_KAZOO_PYTHON="$work/venv/bin/python"
export PATH="$here:$PATH" ZOOKEEPER_VERSION=3.9.5 ZOOKEEPER_PATH="$work"
cd "$("$work/venv/bin/python" -c 'import kazoo, os; print(os.path.dirname(os.path.dirname(kazoo.__file__)))')"
"$work/venv/bin/python" -m pytest -q -p no:cacheprovider --timeout 60 kazoo/tests "$@"
