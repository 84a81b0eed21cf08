# verb: [--stop] -- installs what is needed, builds, starts one node with a volume, prints what to try next
# offered-if: [ -f src/node/CMakeLists.txt ] && [ -f src/cli/CMakeLists.txt ]
#
# The node lives in /var/lib/holdfast-quickstart (state, pool, the mounted volume "demo" at …/demo) and /run/holdfast. Run it
# again and it goes on with what is there: a daemon that was killed is started again, its volumes continue. --stop takes
# the volume down, ends the node, and keeps its data. HOLDFAST_QUICKSTART_DIR and HOLDFAST_QUICKSTART_POOL (default 4G) differ.
set -u -o pipefail
. tools/dev/common.sh

home=${HOLDFAST_QUICKSTART_DIR:-/var/lib/holdfast-quickstart}
pool_size=${HOLDFAST_QUICKSTART_POOL:-4G}
volume=demo
pid_file=$home/holdfastd.pid
log=$home/holdfastd.log
run_dir=/run/holdfast
docker_socket=/run/docker/plugins/holdfast.sock

program() {
  local name=$1 room=$2 path
  for path in "build/bin/$name" "build/src/$room/$name"; do
    if [ -x "$path" ]; then readlink -f "$path"; return; fi
  done
  fail "build/bin/$name was not built"
}
running() { [ -s "$pid_file" ] && [ "$(readlink -f "/proc/$(cat "$pid_file")/exe" 2>/dev/null)" = "$(program holdfastd node)" ]; }
hf() { "$(program holdfast cli)" "$@"; }
mounted() { grep -q " $home/$volume " /proc/mounts; }

stop_node() {
  if running; then
    if mounted; then
      hf volume unmount "$volume" "$home/$volume" || fail "volume $volume could not be unmounted: is somebody in $home/$volume?"
    fi
    local pid
    pid=$(cat "$pid_file")
    kill -TERM "$pid"
    for _ in $(seq 300); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
    [ ! -e "/proc/$pid" ] || fail "holdfastd ($pid) did not end within 30 s; see $log"
    rm -f "$pid_file"
    end_holder
    close_pools
    echo "The node has ended; its data is kept in $home (rm -r $home to be rid of it)."
  else
    echo "No node of quickstart is running."
  fi
}

# It ends only where it holds nothing: no volume is attached any more.
end_holder() {
  local process
  for process in /proc/[0-9]*; do
    if tr '\0' ' ' <"$process/cmdline" 2>/dev/null | grep -q "holdfast-holder.* $run_dir/holder.sock "; then
      kill -TERM "${process#/proc/}" 2>/dev/null
    fi
  done
}

# A daemon that stops leaves its pools mounted for the next one.
close_pools() {
  local source point
  while read -r source point _; do
    umount "$point" && [[ $source == /dev/loop* ]] && losetup -d "$source"
  done < <(grep " $run_dir/pools/" /proc/mounts)
}

start_node() {
  mkdir -p "$home/state" "$home/pool" "$home/$volume" && chmod 700 "$home" || fail "cannot make $home"
  if running; then
    echo "holdfastd runs already, as process $(cat "$pid_file")"
    return
  fi
  if hf status >/dev/null 2>&1; then
    fail "another holdfastd of this machine serves $run_dir (systemctl status holdfastd). Stop it first, or just use it"
  fi
  cat >"$home/holdfastd.toml" <<TOML
state_dir = "$home/state"
run_dir = "$run_dir"
docker_socket = "$docker_socket"
holder_program = "$(program holdfast-holder holder)"
TOML
  setsid "$(program holdfastd node)" --config "$home/holdfastd.toml" >>"$log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  for _ in $(seq 300); do
    hf status >/dev/null 2>&1 && break
    running || { tail -n 5 "$log" >&2; fail "holdfastd did not start (above; the whole log: $log)"; }
    sleep 0.1
  done
  hf status >/dev/null || fail "holdfastd does not answer after 30 s; see $log"
  echo "holdfastd runs as process $(cat "$pid_file"), log $log"
}

if [ "${1:-}" = --stop ]; then
  stop_node
  exit 0
fi
[ $# -eq 0 ] || fail "quickstart: only --stop is known"
[ "$(id -u)" -eq 0 ] || fail "quickstart needs root: it mounts volumes and makes block devices. Run: sudo ./dev quickstart"
step "packages"
install_deps build run
step "what this machine offers"
tools/dev/check-machine.sh "$(dirname "$home")" || fail "mend what is lacking (above), then run ./dev quickstart again"
take_flavour
targets=(holdfastd holdfast holdfast-holder)
[ ! -f src/node/pool_main.cc ] || targets+=(holdfast-pool)
configure_and_build "${targets[@]}"
step "start"
start_node
if [ "$(hf pool list --json | /usr/bin/python3 -c 'import json, sys; print(len(json.load(sys.stdin).get("pools", [])))')" = 0 ]; then
  step "a pool of $pool_size in $home/pool"
  hf pool add "$home/pool" --size "$pool_size" || fail "the pool could not be made (above)"
fi
step "a volume"
hf volume create "$volume" --size 1G >/dev/null || fail "the volume could not be made (above)"
mounted || hf volume mount "$volume" "$home/$volume" >/dev/null || fail "the volume could not be mounted (above)"
[ -e "$home/$volume/hello" ] || echo "Written by ./dev quickstart." >"$home/$volume/hello"
hf volume list
cat <<NEXT

One node runs, and its volume "$volume" is mounted at $home/$volume. Three things to try:

  docker run --rm -it --volume-driver holdfast -v size=2G,name=mine:/data debian bash
  $(program holdfast cli) snapshot create $volume first && $(program holdfast cli) volume clone $volume copy --snapshot first
  kill -9 $(cat "$pid_file"); sleep 3; ./dev quickstart     # $home/$volume pauses, and goes on

./dev quickstart --stop ends it. docs/getting-started.md goes on from here.
NEXT
