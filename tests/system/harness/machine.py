"""A clean Debian machine with systemd as its first process, in namespaces: for the package and its units.

It has its own processes, mounts, network (no way out) and cgroups, and shares the kernel and its devices. Packages that the
product depends on are downloaded into its package cache when its image is made, not installed.
"""
import os
import subprocess
import time

from harness import images
from harness.base import Failed, need_program, run, wait_until

MASKED = ("console-getty.service", "getty.target", "systemd-tmpfiles-setup-dev.service", "systemd-logind.service",
          "e2scrub_reap.service", "systemd-udevd.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer")

# pivot_root, as a container engine does it; the old root goes away, so nothing of the real machine but /dev can be reached.
BOOT = """set -e
R=$1
mount --make-rprivate /
mount --bind $R $R
mount --make-private $R
mount -t proc proc $R/proc
mount -t sysfs sysfs $R/sys
mount --rbind /dev $R/dev
mount --make-rprivate $R/dev
mount -t tmpfs -o mode=755 tmpfs $R/run
mount -t tmpfs -o mode=1777 tmpfs $R/tmp
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 none $R/sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 none $R/sys/fs/cgroup
  mkdir $R/sys/fs/cgroup/systemd $R/sys/fs/cgroup/unified
  mount -t cgroup -o none,name=systemd none $R/sys/fs/cgroup/systemd
  mount -t cgroup2 none $R/sys/fs/cgroup/unified
  legacy=systemd.unified_cgroup_hierarchy=0
fi
ip link set lo up
cd $R
pivot_root . mnt
umount -l /mnt
mount --make-rshared /
exec env -i container=holdfast-test HOLDFAST_TEST_ID=$2 PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init $legacy
"""


def _build(depends):
    def build(path):
        images.debian_tar(path, options=["--skip=cleanup/apt"], packages=["systemd-sysv", "dbus", "kmod", "e2fsprogs", "procps"],
                          customize=[f'chroot "$1" apt-get install -y --no-install-recommends --download-only {" ".join(depends)}'])
    return build


def _loops():
    """{device: backing file} of all loop devices in use, by /sys, which asks nobody."""
    found = {}
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8", errors="replace") as stream:
                found["/dev/" + name] = stream.read().strip()
        except OSError:
            continue
    return found


class Machine:
    """depends: packages to have in its package cache. boot() starts it; run() runs a command in it."""

    def __init__(self, folder, test_id, depends):
        for program, package in (("unshare", "util-linux"), ("pivot_root", "util-linux"), ("ip", "iproute2")):
            need_program(program, package)
        self.folder = folder
        self.root = os.path.join(folder, "root")
        self._test_id = test_id
        self._process = None
        self._loops_before = {}
        self._cgroup = f"/sys/fs/cgroup/systemd/{test_id}"
        depends = sorted(depends)
        recipe = images.Recipe("machine", [], "machine 2 " + " ".join(depends), _build(depends))
        os.makedirs(self.root)
        run(["tar", "-C", self.root, "-xf", recipe.tar(), "--exclude=./dev/*"], timeout=300)
        for unit in MASKED:
            os.symlink("/dev/null", os.path.join(self.root, "etc/systemd/system", unit))
        with open(os.path.join(self.root, "etc/machine-id"), "w", encoding="ascii") as stream:
            stream.write("")

    def boot(self, seconds=60):
        self._loops_before = _loops()

        def into_cgroup():
            # A cgroup namespace has its root where the process is: a place of its own under cgroup v1.
            if os.path.isdir("/sys/fs/cgroup/systemd"):
                os.makedirs(self._cgroup, exist_ok=True)
                with open(os.path.join(self._cgroup, "cgroup.procs"), "w", encoding="ascii") as procs:
                    procs.write(str(os.getpid()))
        with open(os.path.join(self.folder, "console.log"), "wb") as log:
            self._process = subprocess.Popen(
                ["unshare", "-m", "-p", "-f", "-u", "-i", "-n", "-C", "--kill-child", "sh", "-c", BOOT, "boot", self.root, self._test_id],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=into_cgroup, start_new_session=True)
        self._init = wait_until("the first process of the machine", self._child, seconds=60)
        wait_until("systemd to be up", lambda: self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
                   in ("running", "degraded"), seconds=seconds, every=0.3)
        return self

    def _child(self):
        if self._process.poll() is not None:
            with open(os.path.join(self.folder, "console.log"), encoding="utf-8", errors="replace") as log:
                raise Failed(f"the machine did not start: {log.read()}")
        with open(f"/proc/{self._process.pid}/task/{self._process.pid}/children", encoding="ascii") as stream:
            children = stream.read().split()
        return int(children[0]) if children else None

    def run(self, command, **more):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOLDFAST_TEST_ID": self._test_id, "DEBIAN_FRONTEND": "noninteractive",
                       "LANG": "C.UTF-8", "HOME": "/root"}
        return run(["nsenter", "-t", str(self._init), "-m", "-p", "-u", "-i", "-n", "-C", "--", *command], env=environment, **more)

    def active(self, unit):
        return self.run(["systemctl", "is-active", unit], check=False).stdout.strip() == "active"

    def main_pid(self, unit):
        return int(self.run(["systemctl", "show", "-p", "MainPID", "--value", unit]).stdout)

    def journal(self, unit):
        return self.run(["journalctl", "-b", "--no-pager", "-o", "cat", "-u", unit], check=False).stdout

    def power_off(self, seconds=90):
        """A shutdown in order; returns how long it took."""
        began = time.monotonic()
        self.run(["systemctl", "poweroff"], check=False)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"the machine did not power off within {seconds} s") from error
        return time.monotonic() - began

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.kill()  # and with it the whole namespace (--kill-child)
            self._process.wait()
        # A real machine's loop devices end with its kernel; these have ours. By then an export's disk lies at no path.
        for device, backing in _loops().items():
            if device not in self._loops_before and (backing == "/disk" or backing.startswith("/var/lib/holdfast/")):
                run(["losetup", "-d", device], check=False, timeout=30)
        for where, _, _ in os.walk(self._cgroup, topdown=False):
            try:
                os.rmdir(where)
            except OSError:
                pass
