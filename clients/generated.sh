# For scripts to source: what tests of clients generated from the .proto files share. Before, `here` is the
# script's folder, with a requirements.txt.
#
# Now:              root (of the checkout), work (a folder that goes at the end), python (with the requirements)
# start_cluster:    stubs in $work/stubs, a cluster of three from $port on as process $server, which ends with us
#
# QUORATED=path     use this server instead of target/debug/quorated (built if it is missing)
root="$(cd "$here/../.." && pwd)"
name="$(basename "$here")"
work="$(mktemp -d "${TMPDIR:-/tmp}/quorate-$name-XXXXXX")"
server=""

finish() {
  status=$?
  trap - EXIT
  if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
    kill -TERM "$server" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ "$status" -ne 0 ] && [ -s "$work/server.log" ]; then
    echo "--- the server's last lines" >&2
    tail -n 40 "$work/server.log" >&2
  fi
  rm -rf -- "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

quorated="${QUORATED:-${CARGO_TARGET_DIR:-$root/target}/debug/quorated}"
if [ ! -x "$quorated" ]; then
  (cd "$root" && cargo build --locked -p quorate-server)
fi

echo "$name: installing requirements into $work/venv"
python3 -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"

start_cluster() {
  echo "$name: generating stubs from proto/proto/quorate/v1"
  mkdir "$work/stubs"
  (cd "$root/proto/proto" && "$python" -m grpc_tools.protoc -I . \
    --python_out="$work/stubs" --grpc_python_out="$work/stubs" quorate/v1/*.proto)

  # A base port with room for three members' client, peer (+1) and HTTP (+80) ports, ten apart, below
  # the range from which the kernel draws ports for outgoing connections.
  port="$("$python" - <<'PY'
import random, socket
def free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False
while True:
    base = random.randrange(12000, 31000, 10)
    if all(free(base + 10 * m + offset) for m in range(3) for offset in (0, 1, 80)):
        print(base)
        break
PY
  )"

  "$quorated" dev --members 3 --port "$port" --data-dir "$work/data" >"$work/server.log" 2>&1 &
  server=$!
}
