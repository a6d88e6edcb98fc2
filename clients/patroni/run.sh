#!/usr/bin/env bash
# Patroni keeps three PostgreSQL servers on three members of Quorate, through the ZooKeeper door: it
# elects a leader, fails over when the leader is killed, takes the old one back, keeps its leader when
# Quorate's own is killed, stops writing without a quorum and goes on when it is back. Debian's packages:
# apt-get install patroni python3-kazoo postgresql curl. QUORATED names a program to test instead of a
# debug build made here. Everything listens on loopback and lives in a temporary folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
if [[ -z "${QUORATED:-}" ]]; then
  (cd "$root" && cargo build --locked --workspace --bins)
  QUORATED=${CARGO_TARGET_DIR:-$root/target}/debug/quorated
fi
QUORATED=$(realpath "$QUORATED")
binaries=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
work=$(mktemp -d)
base=$((12000 + RANDOM % 1500 * 10))

# PostgreSQL refuses to run as root.
unprivileged=(env LC_ALL=C.UTF-8)
if [[ $(id -u) == 0 ]]; then
  unprivileged=(setpriv --reuid=postgres --regid=postgres --init-groups --reset-env env LC_ALL=C.UTF-8 PATH="$PATH")
fi

declare -A members patronis
# postmaster N: the process id of that PostgreSQL, if it runs.
postmaster() { head -1 "$work/node-$1/data/postmaster.pid" 2>/dev/null || true; }
finish() {
  for process in "${patronis[@]}"; do kill -9 "$process" 2>/dev/null || true; done
  for node in 1 2 3; do
    process=$(postmaster "$node")
    if [[ -n "$process" ]]; then kill -QUIT "$process" 2>/dev/null || true; fi
  done
  for process in "${members[@]}"; do kill -9 "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  if [[ -n "${KEEP:-}" ]]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap finish EXIT

fail() {
  echo "FAILED: $1"
  tail -n 12 "$work"/node-*/patroni.log 2>/dev/null || true
  exit 1
}

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds; says how long that took.
until_true() {
  local limit=$1 what=$2 started=${EPOCHREALTIME/./} now
  shift 2
  until "$@" >/dev/null 2>&1; do
    now=${EPOCHREALTIME/./}
    if ((now - started > limit * 1000000)); then fail "not in $limit s: $what"; fi
    sleep 0.1
  done
  now=${EPOCHREALTIME/./}
  printf '%s: after %d ms\n' "$what" $(((now - started) / 1000))
}

start_member() {
  "$QUORATED" serve --zoo-cfg "$work/member-$1/zoo.cfg" >>"$work/member-$1/log" 2>&1 &
  members[$1]=$!
}
word() {
  exec 3<>"/dev/tcp/127.0.0.1/$((base + $1))" || return 1
  printf '%s' "$2" >&3
  timeout 5 cat <&3
  exec 3>&-
}
serves() { word "$1" srvr 2>/dev/null | grep -q '^Mode: '; }
leads() { word "$1" srvr 2>/dev/null | grep -q '^Mode: leader'; }
kill_member() { kill -9 "${members[$1]}" && wait "${members[$1]}" 2>/dev/null || true; unset "members[$1]"; }

start_patroni() {
  "${unprivileged[@]}" patroni "$work/node-$1.yml" >>"$work/node-$1/patroni.log" 2>&1 &
  patronis[$1]=$!
}
status() { curl -s -o /dev/null -m 2 -w '%{http_code}' "http://127.0.0.1:$((base + 30 + $1))/$2"; }
is() { [[ $(status "$1" "$2") == 200 ]]; }
leader_but() { for node in 1 2 3; do if [[ "$node" != "$1" ]] && is "$node" primary; then return 0; fi; done; return 1; }
leader() { for node in 1 2 3; do if is "$node" primary; then echo "$node"; return; fi; done; echo 0; }
sql() { PGPASSWORD=secret psql -h 127.0.0.1 -p "$((base + 40 + $1))" -U postgres -qtAX -v ON_ERROR_STOP=1 -c "$2" postgres; }
has_rows() { [[ $(sql "$1" "select count(*) from kept") == "$2" ]]; }
writes() { sql "$1" "insert into kept values (default)"; }
leader_writes() { fourth=$(leader) && [[ "$fourth" != 0 ]] && writes "$fourth"; }
nobody_writes() { for node in 1 2 3; do if writes "$node"; then return 1; fi; done; }

servers="" hosts=""
for id in 1 2 3; do
  servers+="server.$id=127.0.0.1:$((base + 10 + id)):$((base + 20 + id))"$'\n'
  hosts+="${hosts:+, }'127.0.0.1:$((base + id))'"
done
for id in 1 2 3; do
  mkdir -p "$work/member-$id"
  echo "$id" >"$work/member-$id/myid"
  printf 'dataDir=%s\ntickTime=2000\nclientPort=%s\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\nadmin.serverPort=%s\n%s' \
    "$work/member-$id" "$((base + id))" "$((base + 50 + id))" "$servers" >"$work/member-$id/zoo.cfg"
  start_member "$id"
done
for id in 1 2 3; do until_true 60 "member $id of Quorate serves" serves "$id"; done

for id in 1 2 3; do
  mkdir -p "$work/node-$id"
  cat >"$work/node-$id.yml" <<WORDS
scope: demo
name: node-$id
zookeeper: {hosts: [$hosts]}
restapi: {listen: '127.0.0.1:$((base + 30 + id))', connect_address: '127.0.0.1:$((base + 30 + id))'}
bootstrap:
  dcs: {ttl: 10, loop_wait: 2, retry_timeout: 3, postgresql: {use_pg_rewind: true}}
  initdb: [{encoding: UTF8}, data-checksums]
postgresql:
  listen: '127.0.0.1:$((base + 40 + id))'
  connect_address: '127.0.0.1:$((base + 40 + id))'
  data_dir: $work/node-$id/data
  pgpass: $work/node-$id/pgpass
  bin_dir: $binaries
  authentication:
    superuser: {username: postgres, password: secret}
    replication: {username: replicator, password: secret}
  parameters: {unix_socket_directories: '$work/node-$id', max_connections: 20, shared_buffers: 16MB}
  pg_hba: ['host all all 127.0.0.1/32 scram-sha-256', 'host replication all 127.0.0.1/32 scram-sha-256', 'local all all trust']
WORDS
done
if [[ $(id -u) == 0 ]]; then
  chmod 755 "$work"
  chown -R postgres:postgres "$work"/node-*
fi

for id in 1 2 3; do start_patroni "$id"; done
until_true 120 "a leader is elected" leader_but 0
first=$(leader)
sql "$first" "create table kept (number serial primary key)"
writes "$first"
for id in 1 2 3; do
  if [[ "$id" != "$first" ]]; then until_true 120 "node $id follows node $first" has_rows "$id" 1; fi
done

process=$(postmaster "$first")
kill -9 "${patronis[$first]}" "$process"
until_true 60 "node $first was killed; another one leads" leader_but "$first"
second=$(leader)
has_rows "$second" 1 || fail "the row was lost"
writes "$second"
start_patroni "$first"
until_true 120 "node $first is back as a replica" is "$first" replica
until_true 60 "it has both rows" has_rows "$first" 2

for id in 1 2 3; do if leads "$id"; then quorum_leader=$id; fi; done
kill_member "$quorum_leader"
writes "$second" || fail "no write while Quorate elects"
for _ in $(seq 30); do
  is "$second" primary || fail "node $second lost its lead with Quorate's leader"
  sleep 0.5
done
writes "$second"
echo "member $quorum_leader, which led Quorate, was killed: node $second led on for 15 s"
start_member "$quorum_leader"
until_true 60 "member $quorum_leader serves again" serves "$quorum_leader"

others=()
for id in 1 2 3; do if [[ "$id" != "$second" ]]; then others+=("$id"); fi; done
"${unprivileged[@]}" patronictl -c "$work/node-1.yml" switchover --master "node-$second" --candidate "node-${others[0]}" --force >"$work/switchover" 2>&1 ||
  { cat "$work/switchover"; fail "switchover"; }
until_true 60 "switchover to node ${others[0]}" is "${others[0]}" primary
third=${others[0]}
until_true 60 "it takes writes" writes "$third"
rows=$(sql "$third" "select count(*) from kept")

kill_member 1
kill_member 2
until_true 60 "two members of three were killed: no node takes writes" nobody_writes
start_member 1
start_member 2
until_true 120 "they are back: a node leads and takes writes" leader_writes
all=$(sql "$fourth" "select count(*) from kept")
((all > rows)) || fail "of $rows rows $all are left"
for id in 1 2 3; do until_true 120 "node $id has all $all rows" has_rows "$id" "$all"; done
"${unprivileged[@]}" patronictl -c "$work/node-1.yml" list
