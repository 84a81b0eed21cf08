#!/bin/bash
# What this machine offers to holdfastd: one line each, "ok", "lacks" (with the way out) or "note".
#
#   tools/dev/check-machine.sh [FOLDER]     FOLDER: where pools will lie (default /var/lib)
#
# Exit: 0 all that a node needs is there, 1 something is lacking.
set -u
folder=${1:-/var/lib}
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
lacking=0

ok() { printf '  ok     %s\n' "$*"; }
note() { printf '  note   %s\n' "$*"; }
lacks() {
  printf '  lacks  %s\n' "$*"
  lacking=$((lacking + 1))
}

if [ "$(id -u)" -eq 0 ]; then ok "root"; else lacks "root: mounting volumes needs it. Run it with sudo"; fi

if unshare -m true 2>/dev/null; then
  ok "may mount"
elif [ "$(id -u)" -eq 0 ]; then
  lacks "the right to mount (CAP_SYS_ADMIN): in a container, start that with --privileged"
fi

# io_uring_setup(4 entries), as the daemon will call it.
uring=$(/usr/bin/python3 - <<'PY' 2>/dev/null
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.syscall(425, 4, ctypes.create_string_buffer(120))
print("ok" if fd >= 0 else errno.errorcode.get(ctypes.get_errno(), "error"))
PY
)
case "$uring" in
  ok) ok "io_uring" ;;
  ENOSYS) lacks "io_uring: this kernel ($(uname -r)) has none; 5.10 or newer is needed" ;;
  EPERM) lacks "io_uring: forbidden here. sysctl kernel.io_uring_disabled=0, or a container's seccomp profile that allows it" ;;
  *) lacks "io_uring: io_uring_setup failed (${uring:-python3 is missing})" ;;
esac

have_module() { modprobe -qn "$1" 2>/dev/null || [ -d "/sys/module/$1" ]; }
# have_device NODE MODULE: the node is there and may be opened, once the module is loaded. A module alone is not enough: in a
# container it can be loaded and its node be missing, or forbidden.
have_device() {
  [ -e "$1" ] || modprobe -q "$2" 2>/dev/null
  # Only a device is opened: <> would make a file.
  [ -c "$1" ] || [ -b "$1" ] || return 1
  [ "$(id -u)" -ne 0 ] || (: <>"$1") 2>/dev/null
}
exports=
if have_device /dev/ublk-control ublk_drv; then exports="$exports ublk"; fi
if have_device /dev/nbd0 nbd; then exports="$exports nbd"; fi
if have_device /dev/fuse fuse; then fuse=yes; else fuse=; fi
if have_device /dev/loop-control loop; then loop=yes; else loop=; fi
[ -z "$fuse" ] || [ -z "$loop" ] || exports="$exports fuse"
if [ -n "$loop" ]; then
  ok "loop devices"
else
  lacks "loop devices (pools in a directory need them): modprobe loop, or start the container with --privileged"
fi
if [ -n "$fuse" ]; then ok "FUSE"; elif [ -z "$exports" ]; then lacks "FUSE: modprobe fuse, or start the container with --device /dev/fuse"; fi
if [ -n "$exports" ]; then
  ok "block export by:$exports (the first is used)"
else
  lacks "any way to make a block device: one of ublk_drv, nbd, fuse with loop"
fi

if grep -qw xfs /proc/filesystems || have_module xfs; then
  ok "XFS (file system of pools)"
else
  lacks "XFS in the kernel: pools are made of it"
fi
for fs in ext4 btrfs; do
  grep -qw "$fs" /proc/filesystems || have_module "$fs" || note "no $fs in this kernel: volumes with fs=$fs cannot be mounted"
done
for program in mkfs.xfs mkfs.ext4 mount losetup; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || lacks "$program: tools/deps.sh run installs it"
done

free=$(df -B1M --output=avail "$folder" | tail -1 | tr -d ' ')
if [ "$free" -ge 2048 ]; then ok "$free MiB free below $folder"; else lacks "space: $free MiB free below $folder, 2048 are needed"; fi
probe=$(mktemp "$folder/.holdfast-probe-XXXXXX" 2>/dev/null)
if [ -z "$probe" ]; then
  lacks "the right to write to $folder"
else
  if dd if=/dev/zero of="$probe" bs=4096 count=1 oflag=direct status=none 2>/dev/null; then
    ok "direct I/O below $folder"
  else
    lacks "direct I/O below $folder ($(stat -f -c %T "$folder")): choose a folder on a disk"
  fi
  rm -f "$probe"
fi

locked=$(ulimit -l)
if [ "$locked" = unlimited ] || [ "$locked" -ge 65536 ]; then
  ok "locked memory: $locked"
elif [ "$(id -u)" -ne 0 ]; then
  note "locked memory: $locked KiB (root is not held to it)"
fi
if [ -d /run/systemd/system ]; then
  ok "systemd"
else
  note "no systemd: start holdfast-holder and holdfastd by hand"
fi
docker=$(command -v dockerd || true)
if [ -n "$docker" ]; then ok "Docker engine ($docker)"; else note "no Docker engine: apt-get install docker.io"; fi

[ "$lacking" -eq 0 ] || printf '%s things are lacking here (see "lacks" above).\n' "$lacking"
[ "$lacking" -eq 0 ]
