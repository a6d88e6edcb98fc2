#!/usr/bin/env bash
# ZooKeeper clients of several languages do a session of real work each on a cluster of three:
# Debian's zkCli.sh and C client (packages zookeeper, zookeeper-bin), node-zookeeper-client (npm), Curator's
# recipes (package libcurator-recipes-java, or CURATOR_JARS=folder). Then `quorate export` and `import`
# copy a tree to a ZooKeeper and back. What is not installed is named and left out. QUORATED and QUORATE name
# programs to test instead of a debug build made here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [[ -z "${QUORATED:-}" || -z "${QUORATE:-}" ]]; then
  (cd "$root" && cargo build --locked --workspace --bins)
  QUORATED=${CARGO_TARGET_DIR:-$root/target}/debug/quorated
  QUORATE=${CARGO_TARGET_DIR:-$root/target}/debug/quorate
fi
QUORATED=$(realpath "$QUORATED")
QUORATE=$(realpath "$QUORATE")
work=$(mktemp -d)
server="" zookeeper=""
finish() {
  for process in $server $zookeeper; do
    kill "$process" 2>/dev/null && wait "$process" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap finish EXIT

# Ports with room for three members, below those that the kernel gives to outgoing connections, and at which
# nobody listens.
is_free() {
  local offset
  for offset in 0 1 80 10 11 90 20 21 100 200 201 202; do
    if (: <"/dev/tcp/127.0.0.1/$(($1 + offset))") 2>/dev/null; then return 1; fi
  done
}
base=$((12000 + RANDOM % 1500 * 10))
until is_free "$base"; do base=$((12000 + RANDOM % 1500 * 10)); done
"$QUORATED" dev --port "$base" --zookeeper-port "$((base + 200))" >"$work/server.log" 2>&1 &
server=$!
first=127.0.0.1:$((base + 200))
servers=$first,127.0.0.1:$((base + 201)),127.0.0.1:$((base + 202))
for _ in $(seq 600); do
  if grep -q "members run" "$work/server.log"; then break; fi
  kill -0 "$server" || { cat "$work/server.log"; exit 1; }
  sleep 0.1
done

# expect NAME OUTPUT TEXT...: every text is in the output.
expect() {
  local name=$1 output=$2
  shift 2
  for text in "$@"; do
    grep -qF -- "$text" <<<"$output" || { printf '%s\n' "$output"; echo "$name: no $text"; exit 1; }
  done
  echo "$name: done"
}

if [[ -x /usr/share/zookeeper/bin/zkCli.sh ]]; then
  output=$(/usr/share/zookeeper/bin/zkCli.sh -server "$servers" <<'WORDS' 2>&1
create /cli one
get -s -w /cli
set /cli two
create -s /cli/job- x
create -e /cli/here mine
create -c /cli/container
ls -R /cli
getAllChildrenNumber /cli
getEphemerals /cli
addauth digest ann:secret
setAcl /cli/container auth:ann:cdrwa
getAcl /cli/container
delete /cli
sync /cli
stat /cli
whoami
deleteall /cli
ls /
quit
WORDS
)
  expect zkCli.sh "$output" "Created /cli" "type:NodeDataChanged path:/cli" "Created /cli/job-0000000000" \
    "/cli/here" "'digest,'ann:" "Node not empty: /cli" "dataVersion = 1" "[zookeeper]"
else
  echo "zkCli.sh: left out (apt-get install zookeeper)"
fi

if [[ -x /usr/lib/zookeeper/bin/cli_mt ]]; then
  output=$(printf '%s\n' "create /c" "set /c two" "get /c" "create +e /c/here" "ls /c" "sync /c" "delete /c/here" "delete /c" \
    "exists /c" quit | timeout 60 /usr/lib/zookeeper/bin/cli_mt "$servers" 2>&1 || true)
  expect cli_mt "$output" "name = /c" "two" "/c/here" "DELETED_EVENT state = CONNECTED_STATE for path /c" "Error -101 for /c"
else
  echo "cli_mt: left out (apt-get install zookeeper-bin)"
fi

if command -v npm >/dev/null; then
  cp "$here/session.js" "$work/"
  (cd "$work" && npm install --silent --no-fund --no-audit node-zookeeper-client@1.1.3 >/dev/null)
  (cd "$work" && timeout 120 node session.js "$servers")
else
  echo "node-zookeeper-client: left out (no npm)"
fi

if [[ -n "${CURATOR_JARS:-}" ]]; then
  classes="$CURATOR_JARS/*"
elif [[ -e /usr/share/java/curator-recipes.jar ]]; then
  classes=$(printf %s: /usr/share/java/{curator-*,guava,zookeeper,zookeeper-jute,slf4j-api,slf4j-nop,log4j-1.2,metrics-core,netty-*}.jar 2>/dev/null)
fi
if [[ -n "${classes:-}" ]] && command -v javac >/dev/null; then
  javac -cp "$classes" -d "$work" "$here/Recipes.java"
  timeout 300 java -cp "$work:$classes" Recipes "$servers" 2>"$work/curator.log" || { tail -40 "$work/curator.log"; exit 1; }
else
  echo "Curator: left out (apt-get install libcurator-recipes-java default-jdk-headless)"
fi

if [[ -e /usr/share/java/zookeeper.jar ]] && command -v java >/dev/null; then
  mkdir "$work/zookeeper"
  port=$((base + 210))
  printf 'dataDir=%s\nclientPort=%s\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n' "$work/zookeeper" "$port" >"$work/zoo.cfg"
  java -Dzookeeper.root.logger=ERROR,CONSOLE -cp /etc/zookeeper/conf:/usr/share/java/zookeeper.jar \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$work/zoo.cfg" >"$work/zookeeper.log" 2>&1 &
  zookeeper=$!
  quorate() { "$QUORATE" --endpoints "127.0.0.1:$base" "$@"; }
  quorate create /moved "a tree" >/dev/null
  quorate create /moved/child "with data" >/dev/null
  quorate acl set /moved/child world:anyone:r >/dev/null
  for _ in $(seq 300); do
    quorate create "/moved/node-" x --sequential >/dev/null
  done
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
  expect export "$(quorate export zookeeper --to "127.0.0.1:$port" --path /moved)" "302 nodes: 302 created" "equal"
  expect "export again" "$(quorate export zookeeper --to "127.0.0.1:$port" --path /moved)" "0 created, 0 changed" "equal"
  quorate delete -r /moved >/dev/null
  expect import "$(quorate import zookeeper --from "127.0.0.1:$port" --path /moved)" "302 nodes: 302 created" "equal"
  expect "import: the ACL" "$(quorate acl get /moved/child)" "anyone"
else
  echo "import, export: left out (apt-get install zookeeper default-jre-headless)"
fi
