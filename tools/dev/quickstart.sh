# verb: [--stop] -- installs what is needed, builds, starts one node with a volume, prints what to try next
# offered-if: [ -f src/node/CMakeLists.txt ] && [ -f src/cli/CMakeLists.txt ]
#
# The node lives in /var/lib/holdfast-quickstart (state, pool, the mounted volume "demo" at …/demo) and /run/holdfast. Run it
# again and it goes on with what is there: a daemon that was killed is started again, one of an older build is replaced, its
# volumes continue. --stop takes the volumes down, ends the node, and keeps its data. Other places and sizes:
# HOLDFAST_QUICKSTART_DIR, HOLDFAST_QUICKSTART_POOL (default 4G), and HOLDFAST_QUICKSTART_RUN (default /run/holdfast; a node
# elsewhere than there does without Docker and without the HTTP port, which belong to one node of the machine).
set -u -o pipefail
. tools/dev/common.sh

home=$(readlink -m "${HOLDFAST_QUICKSTART_DIR:-/var/lib/holdfast-quickstart}")
run_dir=$(readlink -m "${HOLDFAST_QUICKSTART_RUN:-/run/holdfast}")
pool_size=${HOLDFAST_QUICKSTART_POOL:-4G}
volume=demo
pid_file=$home/holdfastd.pid
log=$home/holdfastd.log
export HOLDFAST_SOCKET=$run_dir/api.sock
take_flavour

program() {
  local path="$PWD/$BUILD_DIR/bin/$1"
  [ -x "$path" ] || fail "$path is not there: run ./dev quickstart first"
  echo "$path"
}
hf() { "$hf_program" "$@"; }
# Never by looking at the file system itself: while the daemon is away that could wait for it.
mount_at() { grep -q " $1 " /proc/mounts; }
mounted() { mount_at "$home/$volume"; }

# The daemon that the pid file names: its executable, " (deleted)" behind it where that was built anew meanwhile.
executable() { readlink "/proc/$(cat "$pid_file" 2>/dev/null)/exe" 2>/dev/null; }
running() { [ -s "$pid_file" ] && [[ "$(executable)" == */holdfastd || "$(executable)" == */"holdfastd (deleted)" ]]; }

end_daemon() {
  local pid
  pid=$(cat "$pid_file")
  kill -TERM "$pid"
  for _ in $(seq 300); do running || break; sleep 0.1; done
  ! running || fail "holdfastd ($pid) did not end within 30 s; see $log"
  rm -f "$pid_file"
}

# The holder of our run folder; of this mount namespace, since in another one the same path is another folder.
holder_pid() {
  local process words
  for process in /proc/[0-9]*; do
    { mapfile -d '' -t words <"$process/cmdline"; } 2>/dev/null || continue
    if [[ "${words[0]-}" == */holdfast-holder && "${words[*]: -1}" == "$run_dir/holder.sock" &&
          "$(readlink "$process/ns/mnt")" == "$(readlink /proc/self/ns/mnt)" ]]; then
      echo "${process#/proc/}"
      return
    fi
  done
}

# One line for each volume that is attached: its name, and who else than we has it mounted. Fails where that cannot be known.
attached() {
  local list
  list=$(hf volume list --json) || return 1
  /usr/bin/python3 -c '
import json, sys
for volume in json.load(sys.stdin)["volumes"]:
    at = volume["attachment"] or {}
    if volume["state"] != "detached":
        print(volume["name"], ",".join(m["path"] for m in at.get("mounts", []) if m["path"] != sys.argv[1]))
' "$home/$volume" <<<"$list"
}

stop_node() {
  if ! running; then
    if ! mounted && [ -z "$(holder_pid)" ]; then
      echo "No node of quickstart is running."
      return
    fi
    echo "holdfastd is not there, and its volumes are: it is started once more, to take them down."
    start_node
  fi
  local name others list unknown="what is attached cannot be listed (above). Nothing was stopped; kill -9 $(cat "$pid_file") and --stop again"
  list=$(attached) || fail "$unknown"
  while read -r name others; do
    [ -z "$others" ] || fail "volume $name is in use at $others: stop its container (docker ps), or unmount it. Nothing was stopped"
  done <<<"$list"
  if mounted; then
    hf volume unmount "$volume" "$home/$volume" >/dev/null ||
      fail "volume $volume could not be unmounted: is somebody in $home/$volume? Nothing was stopped"
  fi
  list=$(attached) || fail "$unknown"
  while read -r name others; do
    [ -z "$name" ] || hf volume detach "$name" >/dev/null || fail "volume $name could not be detached (above). Nothing was stopped"
  done <<<"$list"
  end_daemon
  clean_up
  echo "The node has ended; its data is kept in $home (rm -r $home to be rid of it)."
}

# No volume is attached any more: the holder ends by itself. A daemon that stops leaves its pools mounted for the next one.
clean_up() {
  local pid source point
  pid=$(holder_pid)
  if [ -n "$pid" ]; then
    kill -TERM "$pid"
    for _ in $(seq 100); do [ -e "/proc/$pid/exe" ] || break; sleep 0.1; done
  fi
  while read -r source point _; do
    umount "$point" && [[ $source == /dev/loop* ]] && losetup -d "$source"
  done < <(grep " $run_dir/pools/" /proc/mounts)
  ! mount_at "$home/state/mounts" || umount "$home/state/mounts"
  rmdir "$run_dir"/pools/* "$run_dir/pools" "$run_dir"/export/* "$run_dir/export" 2>/dev/null
  rm -f "$run_dir/holder.sock" "$run_dir/holder.sock.lock" "$run_dir/api.sock" "$run_dir/csi.sock" "$run_dir/lock"
  rmdir "$run_dir" 2>/dev/null || true
}

write_config() {
  cat >"$home/holdfastd.toml" <<TOML
state_dir = "$home/state"
run_dir = "$run_dir"
holder_program = "$(program holdfast-holder)"
TOML
  if [ "$run_dir" != /run/holdfast ]; then
    printf 'docker_socket = ""\nhttp_port = 0\n' >>"$home/holdfastd.toml"
  fi
}

start_node() {
  mkdir -p "$home/state" "$home/pool" "$home/$volume" && chmod 700 "$home" || fail "cannot make $home"
  if running && [[ "$(executable)" == *"(deleted)" ]]; then
    echo "holdfastd was built anew: the old one ends, its volumes wait for the new one"
    end_daemon
  fi
  if running; then
    echo "holdfastd runs already, as process $(cat "$pid_file")"
    return
  fi
  if hf status >/dev/null 2>&1; then
    fail "another holdfastd of this machine serves $run_dir (systemctl status holdfastd). Stop it first, or just use it"
  fi
  write_config
  setsid "$(program holdfastd)" --config "$home/holdfastd.toml" >>"$log" 2>&1 </dev/null &
  echo $! >"$pid_file"
  for _ in $(seq 300); do
    hf status >/dev/null 2>&1 && break
    kill -0 "$(cat "$pid_file")" 2>/dev/null || { tail -n 5 "$log" >&2; fail "holdfastd did not start (above; the whole log: $log)"; }
    sleep 0.1
  done
  hf status >/dev/null || fail "holdfastd does not answer after 30 s; see $log"
  echo "holdfastd runs as process $(cat "$pid_file"), log $log"
}

print_next() {
  local again="./dev quickstart" variable
  for variable in HOLDFAST_QUICKSTART_RUN HOLDFAST_QUICKSTART_POOL HOLDFAST_QUICKSTART_DIR; do
    [ -z "${!variable:-}" ] || again="$variable=$(printf %q "${!variable}") $again"
  done
  local cli=$hf_program
  [ "$run_dir" = /run/holdfast ] || cli="$cli --socket $HOLDFAST_SOCKET"
  # Each run a name of its own, so that what is printed can be pasted after every run.
  local stamp
  stamp=$(date +%H%M%S)
  echo
  echo "One node runs, and its volume \"$volume\" is mounted at $home/$volume. Three things to try:"
  echo
  if [ "$run_dir" = /run/holdfast ]; then
    echo "  docker run --rm -it --volume-driver holdfast -v size=2G,name=mine:/data debian bash"
    command -v docker >/dev/null || echo "    (there is no Docker here yet: apt-get install docker.io)"
  else
    echo "  $cli volume create size=2G,fs=xfs,name=mine$stamp"
  fi
  echo "  $cli snapshot create $volume s$stamp && $cli volume clone $volume copy$stamp --snapshot s$stamp"
  echo "  kill -9 $(cat "$pid_file"); sleep 3; $again     # $home/$volume pauses, and goes on"
  echo
  echo "$again --stop     ends it. docs/getting-started.md goes on from here."
}

[ $# -eq 0 ] || [ "$*" = --stop ] || fail "quickstart: only --stop is known"
[[ ! "$home$run_dir" =~ [[:space:]\"\\] ]] || fail "quickstart: \"$home\" and \"$run_dir\" may have no blanks, quotes or backslashes"
[ "$(id -u)" -eq 0 ] || fail "quickstart needs root: it mounts volumes and makes block devices. Run: sudo ./dev quickstart"
if [ "${1:-}" = --stop ]; then
  if [ -x "$BUILD_DIR/bin/holdfast" ]; then
    hf_program=$(program holdfast)
    stop_node
  else
    echo "No node of quickstart is running (nothing was built here)."
  fi
  exit 0
fi
step "packages"
install_deps build run
step "what this machine offers"
tools/dev/check-machine.sh "$(dirname "$home")" || fail "mend what is lacking (above), then run ./dev quickstart again"
configure_and_build holdfastd holdfast holdfast-holder holdfast-pool
hf_program=$(program holdfast)
step "start"
start_node
pools=$(hf pool list --json) || fail "the node's pools cannot be listed (above)"
if ! grep -q '"id"' <<<"$pools"; then
  step "a pool of $pool_size in $home/pool"
  hf pool add "$home/pool" --size "$pool_size" || fail "the pool could not be made (above)"
fi
step "a volume"
hf volume inspect "$volume" >/dev/null 2>&1 || hf volume create "$volume" --size 1G >/dev/null || fail "the volume could not be made (above)"
mounted || hf volume mount "$volume" "$home/$volume" >/dev/null || fail "the volume could not be mounted (above)"
[ -e "$home/$volume/hello" ] || echo "Written by ./dev quickstart." >"$home/$volume/hello"
hf volume list
print_next
