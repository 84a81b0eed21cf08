"""What a test left behind: processes, mounts, loop devices, FUSE connections.

Only what bears the test's mark counts (its id in the environment, its scratch folder in a path), so other work on the
same machine is neither blamed nor touched.
"""
import os
import signal
import time

from harness.base import processes_with, run


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def mounts_below(folder, pid="self"):
    """Mount points below the folder, or made from a file in it, innermost first."""
    points = []
    for line in _read(f"/proc/{pid}/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        source = right.split()[1] if len(right.split()) > 1 else ""
        if point == folder or point.startswith(folder + "/") or source.startswith(folder + "/"):
            points.append(point)
    return sorted(points, key=len, reverse=True)


def loops_of(folder):
    """{device: backing file} of the loop devices whose file lies below the folder (also where it is deleted)."""
    found = {}
    for name in os.listdir("/sys/block"):
        backing = _read(f"/sys/block/{name}/loop/backing_file").strip()
        if name.startswith("loop") and (backing + "/").startswith(folder + "/"):
            found["/dev/" + name] = backing
    return found


def fuse_connections(pids):
    """Numbers of the FUSE connections mounted in the mount namespaces of these processes (those of ours, not the machine's)."""
    own = {line.split()[2] for line in _read("/proc/self/mountinfo").splitlines()}
    found = set()
    for pid in pids:
        for line in _read(f"/proc/{pid}/mountinfo").splitlines():
            device = line.split()[2]
            kind = line.partition(" - ")[2].split()[0]
            if kind.startswith("fuse") and kind != "fusectl" and device not in own:
                found.add(int(device.split(":")[1]))
    return found


def living_connections(numbers):
    """Which of these connections the kernel still has; empty where fusectl is not mounted."""
    folder = "/sys/fs/fuse/connections"
    return {n for n in numbers if os.path.isdir(os.path.join(folder, str(n)))}


class Leaks:
    """begin() at set-up, note() while things run, end() after tear-down: cleans up what is left and returns it as sentences."""

    def __init__(self, scratch, test_id, patience=30):
        """patience: seconds for what is on its way out by itself, on a machine that has much else to do."""
        self.patience = patience
        self.scratch = os.path.realpath(scratch)
        self.marks = [test_id.encode(), self.scratch.encode()]
        self._namespaces = set()
        self._connections = set()

    def watch_namespace(self, pid):
        """Every process in this process' mount namespace belongs to the test, whatever its environment."""
        self._namespaces.add(os.readlink(f"/proc/{pid}/ns/mnt"))

    def _processes(self):
        found = processes_with(self.marks)
        for entry in os.listdir("/proc") if self._namespaces else ():
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/mnt") in self._namespaces:
                    found.setdefault(int(entry), _read(f"/proc/{entry}/cmdline").replace("\0", " ").strip())
            except OSError:
                continue
        return found

    def note(self):
        self._connections |= fuse_connections(self._processes())

    def end(self):
        left = []
        for pid, command in self._end_processes().items():
            left.append(f"process {pid}: {command}")
        for point in mounts_below(self.scratch):
            left.append(f"mount {point}")
            run(["umount", "-l", point], check=False)
        for number in sorted(living_connections(self._connections)):
            left.append(f"FUSE connection {number}")
            try:
                with open(f"/sys/fs/fuse/connections/{number}/abort", "w", encoding="utf-8") as abort:
                    abort.write("1")
            except OSError:
                pass
        deadline = time.monotonic() + self.patience
        while loops_of(self.scratch) and time.monotonic() < deadline:
            time.sleep(0.1)  # autoclear works behind the last close
        for device, backing in loops_of(self.scratch).items():
            left.append(f"loop device {device} of {backing}")
            run(["losetup", "-d", device], check=False)
        return left

    def _end_processes(self):
        deadline = time.monotonic() + self.patience
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.05)  # on their way out
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 60
        while self._processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        return left
