#!/usr/bin/env bash
# Proves that the API works from another language: a Python client, generated from the .proto files
# by grpcio-tools, against a cluster of three. Leaves nothing behind. Needs python3 with venv and a
# package index that pip reaches; no protoc.
# QUORATED names a server to test instead of target/debug/quorated.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=clients/generated.sh
. "$here/../generated.sh"
start_cluster

PYTHONPATH="$work/stubs" PYTHONDONTWRITEBYTECODE=1 QUORATE_PORT="$port" QUORATE_SERVER_PID="$server" QUORATE_DOCS="$root/docs" \
  timeout 180 "$python" "$here/client_test.py"
