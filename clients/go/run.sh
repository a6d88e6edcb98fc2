#!/usr/bin/env bash
# The Go clients' own test suites against Quorate's ZooKeeper door; the tests start, kill and restart
# members themselves. Debian's golang-github-samuel-go-zookeeper-dev is fetched with apt-get;
# GO_ZOOKEEPER names a checkout of its successor, go-zookeeper/zk, to be run as well. Arguments go to
# `go test`: `clients/go/run.sh -run Lock`. QUORATED names a program to test instead of a debug build
# made here. Needs golang-go.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [[ -z "${QUORATED:-}" ]]; then
  (cd "$root" && cargo build --locked --workspace --bins)
  QUORATED=${CARGO_TARGET_DIR:-$root/target}/debug/quorated
fi
QUORATED=$(realpath "$QUORATED")
export QUORATED

work=$(mktemp -d)
export QUORATE_GO_PIDS="$work/pids"
touch "$QUORATE_GO_PIDS"
finish() {
  # A test that panics leaves its members behind.
  while read -r process; do
    if [[ $(readlink "/proc/$process/exe") == "$QUORATED" ]]; then kill -9 "$process"; fi
  done <"$QUORATE_GO_PIDS"
  chmod -R u+w "$work"
  rm -rf "$work"
}
trap finish EXIT
export QUORATE_GO_LOG="${QUORATE_GO_LOG:-$work/members.log}" GOCACHE="$work/cache" GOPATH="$work/path" GOFLAGS=-count=1
mkdir -p "$work/bin" "$work/home/contrib/fatjar"
cp "$here/java" "$work/bin/java"
cp "$here/java" "$work/bin/zkServer.sh"
touch "$work/home/contrib/fatjar/zookeeper-0-fatjar.jar"
export PATH="$work/bin:$PATH" ZOOKEEPER_PATH="$work/home" ZOOKEEPER_BIN_PATH="$work/bin"

failed=0
echo "== samuel/go-zookeeper (Debian)"
(cd "$work" && apt-get download golang-github-samuel-go-zookeeper-dev >/dev/null && dpkg -x ./golang-github-samuel-*.deb unpacked)
mkdir -p "$GOPATH"
cp -r "$work/unpacked/usr/share/gocode/src" "$GOPATH/"
# This client of 2018 knows no ZooKeeper whose mean latency has a fraction (3.5.4 and later): it would wait for ever
# for the servers that it starts. Its successor reads it thus.
sed -i 's|min/avg/max: (\\d+)/(\\d+)/|min/avg/max: (\\d+)/([0-9.]+)/|' "$GOPATH/src/github.com/samuel/go-zookeeper/zk/flw.go"
# Its tests of the codec panic with the Go of today, before they have seen a server.
rm "$GOPATH/src/github.com/samuel/go-zookeeper/zk/structs_test.go"
(cd "$GOPATH/src/github.com/samuel/go-zookeeper/zk" && GO111MODULE=off go test -timeout 500s "$@" .) || failed=1

if [[ -n "${GO_ZOOKEEPER:-}" ]]; then
  echo "== go-zookeeper/zk ($GO_ZOOKEEPER)"
  cp -r "$GO_ZOOKEEPER" "$work/zk"
  (cd "$work/zk" && go test -timeout 500s "$@" .) || failed=1
fi
exit "$failed"
