#!/usr/bin/env bash
# A cut-over under load: Debian's ZooKeeper, three members, is written without pause; `quorate import
# zookeeper --follow` copies it into Quorate all the while, and goes on when a ZooKeeper member is killed and
# comes back. The writer stops, the import is told to end, both sides' digests must be equal; an export
# back then finds nothing to write, and the clients go on at Quorate's own door. SECONDS_LONG says how long
# there is writing (30), NODES how many nodes there are before (5000). QUORATED and QUORATE name programs to
# test instead of a debug build made here. apt-get install zookeeper default-jre-headless python3-kazoo.
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
base=$((12000 + RANDOM % 1500 * 10))
declare -A members
server="" writer="" import=""
finish() {
  for process in $writer $import $server "${members[@]}"; do kill -9 "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

start_member() {
  java -Xmx300m -Dzookeeper.root.logger=ERROR,CONSOLE -cp /etc/zookeeper/conf:/usr/share/java/zookeeper.jar \
    org.apache.zookeeper.server.quorum.QuorumPeerMain "$work/member-$1/zoo.cfg" >>"$work/member-$1/log" 2>&1 &
  members[$1]=$!
}
serves() {
  exec 3<>"/dev/tcp/127.0.0.1/$((base + $1))" && printf srvr >&3 && timeout 5 cat <&3 | grep -q '^Mode: '
} 2>/dev/null
# until_true WHAT COMMAND...: waits until the command succeeds.
until_true() {
  local what=$1
  shift
  for _ in $(seq 600); do
    if "$@"; then return; fi
    sleep 0.1
  done
  echo "not in 60 s: $what"
  tail -5 "$work"/*log* "$work"/member-*/log || true
  exit 1
}

servers="" hosts=""
for id in 1 2 3; do
  servers+="server.$id=127.0.0.1:$((base + 10 + id)):$((base + 20 + id))"$'\n'
  hosts+="${hosts:+,}127.0.0.1:$((base + id))"
done
for id in 1 2 3; do
  mkdir -p "$work/member-$id"
  echo "$id" >"$work/member-$id/myid"
  printf 'dataDir=%s\ntickTime=2000\ninitLimit=10\nsyncLimit=5\nclientPort=%s\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n%s' \
    "$work/member-$id" "$((base + id))" "$servers" >"$work/member-$id/zoo.cfg"
  start_member "$id"
done
"$QUORATED" dev --port "$((base + 200))" --zookeeper-port "$((base + 230))" --data-dir "$work/quorate" >"$work/quorate.log" 2>&1 &
server=$!
for id in 1 2 3; do until_true "ZooKeeper $id serves" serves "$id"; done
until_true "Quorate serves" grep -q "members run" "$work/quorate.log"
export QUORATE_ENDPOINTS=127.0.0.1:$((base + 200))
door=127.0.0.1:$((base + 230)),127.0.0.1:$((base + 231)),127.0.0.1:$((base + 232))

# Debian's kazoo belongs to Debian's python.
/usr/bin/python3 "$here/writer.py" "$hosts" 0 "${NODES:-5000}"
"$QUORATE" create /followed "" >/dev/null
"$QUORATE" create /followed/ours "no business of the import" >/dev/null

/usr/bin/python3 "$here/writer.py" "$hosts" 1 >"$work/writer.log" 2>&1 &
writer=$!
"$QUORATE" import zookeeper --from "$hosts" --follow >"$work/import.log" 2>"$work/import.errors" &
import=$!
follows() {
  kill -0 "$import" 2>/dev/null || { cat "$work/import.log" "$work/import.errors"; echo "the import has ended"; exit 1; }
  grep -q "following" "$work/import.errors"
}
until_true "the import follows" follows
sleep $((${SECONDS_LONG:-30} / 2))
echo "a member of ZooKeeper is killed and comes back"
kill -9 "${members[2]}"
wait "${members[2]}" 2>/dev/null || true
start_member 2
until_true "ZooKeeper 2 serves again" serves 2
sleep $((${SECONDS_LONG:-30} / 2))

kill "$writer"
wait "$writer" || { cat "$work/writer.log"; exit 1; }
echo "written meanwhile: $(cat "$work/writer.log")"
sleep 2
follows
kill -INT "$import"
ended=0
wait "$import" || ended=$?
import=""
cat "$work/import.log" "$work/import.errors"
[[ $ended == 0 ]] || { echo "the import failed: $ended"; exit 1; }
grep -q "^equal" "$work/import.log"

# From the other side: nothing is left to write.
[[ $("$QUORATE" get /followed/ours) == "no business of the import" ]] || { echo "the import deleted what is not its own"; exit 1; }
"$QUORATE" delete /followed/ours >/dev/null
output=$("$QUORATE" export zookeeper --to "$hosts" --path /followed)
printf '%s\n' "$output"
grep -q " 0 created, 0 changed, 0 deleted" <<<"$output" || { echo "the import left what the source had deleted"; exit 1; }
grep -q "^equal" <<<"$output"
/usr/bin/python3 "$here/writer.py" "$door" 2 100
echo "the same client writes at Quorate's door: done"
