#!/usr/bin/python3
"""A full pool on the real kernel: who writes data waits, then sees an error; no file system breaks; with room again all goes on."""
import errno
import os
import subprocess
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import pyunit  # noqa: E402
from harness.base import need_program, run, wait_until  # noqa: E402
from harness.case import SystemTest  # noqa: E402
from harness.holdfastd import Holdfastd  # noqa: E402
from harness.host import tail  # noqa: E402

MIB = 1 << 20
WAIT_S = 6


class Filler(threading.Thread):
    """Writes MiB after MiB of its own content, synced every few, until `most` MiB are there or an error comes."""

    def __init__(self, path, most):
        super().__init__(daemon=True)
        self.path, self.most, self.synced, self.error, self.longest = path, most, 0, None, 0.0
        self.start()

    @staticmethod
    def block(number):
        return number.to_bytes(8, "little") * (MIB // 8)

    def run(self):
        try:
            with open(self.path, "wb", buffering=0) as stream:
                for number in range(self.most):
                    stream.write(self.block(number))
                    if number % 8 == 7 or number == self.most - 1:
                        began = time.monotonic()
                        try:
                            os.fsync(stream.fileno())
                        finally:
                            self.longest = max(self.longest, time.monotonic() - began)
                        self.synced = number + 1
        except OSError as error:
            self.error = error

    def end(self, seconds):
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"the writer of {self.path} still waits after {seconds} s, {self.synced} MiB synced")

    def verify(self):
        with open(self.path, "rb") as stream:
            for number in range(self.synced):
                if stream.read(MIB) != self.block(number):
                    raise AssertionError(f"{self.path}: MiB {number} of {self.synced} that were synced is not what was written")


class FullPool(SystemTest):
    wait_s = WAIT_S

    def setUp(self):
        super().setUp()
        for program, package in (("mkfs.ext4", "e2fsprogs"), ("mkfs.xfs", "xfsprogs"), ("mkfs.btrfs", "btrfs-progs"), ("fstrim", "util-linux")):
            need_program(program, package)
        self.host = self.make_host()
        self.addCleanup(self._show_log)
        self.before_the_daemon()
        self.daemon = Holdfastd(self.host, ['export = "fuse"', 'journal_size = "16M"', f"full_pool_wait_s = {self.wait_s}"])
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool("640M")

    def before_the_daemon(self):
        pass

    def _show_log(self):
        if not self._outcome.success:
            print(f"---- the end of holdfastd's log\n{tail(self.daemon.log, 60)}", flush=True)

    def mount(self, name, spec=None):
        if spec:
            self.daemon.holdfast("volume", "create", f"name={name},{spec}")
        point = self.path("at", name)
        os.makedirs(point, exist_ok=True)
        self.daemon.holdfast("volume", "mount", name, point)
        return f"/proc/{self.host.pid}/root{point}"

    def unmount(self, name):
        self.daemon.holdfast("volume", "unmount", name, self.path("at", name), timeout=120)

    def options(self, name):
        with open(f"/proc/{self.host.pid}/mountinfo", encoding="utf-8") as stream:
            rows = [line.split() for line in stream if line.split()[4] == self.path("at", name)]
        self.assertEqual(len(rows), 1)
        return set(rows[0][5].split(",")) | set(rows[0][-1].split(","))

    def check(self, name, fs):
        """Detached: the file system's own checker finds nothing."""
        self.daemon.holdfast("volume", "attach", name)
        device = self.daemon.json("volume", "inspect", name)["attachment"]["device"]
        checker = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check", "--readonly"]}[fs]
        run([*checker, device], timeout=120)
        self.daemon.holdfast("volume", "detach", name)

    def problems(self):
        return " ".join(self.daemon.json("status")["problems"])

    def pool(self):
        return self.daemon.json("pool", "list")["pools"][0]

    def churn(self, at, rounds, first=0):
        """Metadata alone: makes, renames and removes names, synced."""
        for number in range(first, first + rounds):
            folder = f"{at}/d{number}"
            os.mkdir(folder)
            for name in range(40):
                os.close(os.open(f"{folder}/f{name}", os.O_CREAT | os.O_WRONLY))
                os.rename(f"{folder}/f{name}", f"{folder}/g{name}")
            sync = os.open(folder, os.O_RDONLY)
            os.fsync(sync)
            os.close(sync)
            if number % 2:
                for name in range(40):
                    os.unlink(f"{folder}/g{name}")
                os.rmdir(folder)

    def one_large_folder(self, at):
        """Its blocks lie one behind the other, and a checkpoint writes them at once."""
        os.mkdir(f"{at}/large")
        for name in range(2000):
            os.close(os.open(f"{at}/large/{name:0120}", os.O_CREAT | os.O_WRONLY))

    def checkpoint(self, name):
        """All that the file system has in its journal goes where it belongs."""
        self.host.run(["fsfreeze", "-f", self.path("at", name)], timeout=60)
        self.host.run(["fsfreeze", "-u", self.path("at", name)], timeout=60)

    def survives(self, fs):
        # `names` is a new file system with hardly a block of its journal written; `bulk` fills the pool.
        names = self.mount("names", f"size=700M,fs={fs}")
        bulk = self.mount("bulk", f"size=1400M,fs={fs}")
        filler = Filler(f"{bulk}/fill", 2000)
        wait_until("the pool to be full", lambda: self.pool()["state"] == "full" or filler.error, seconds=120)
        wait_until("the writer to wait", lambda: "wait for room" in self.pool()["message"] or filler.error, seconds=30, every=0.2)
        self.assertIn("reserve", self.problems())
        self.churn(names, 20)
        filler.end(120)
        self.assertIn(filler.error.errno, (errno.ENOSPC, errno.EIO), filler.error)
        self.assertGreater(filler.longest, self.wait_s - 1)
        if fs != "btrfs":  # which discards at once what it could not write: there is room again
            self.assertIn("new data is refused", self.problems())
            self.assertIn("is full: new data is refused", self.daemon.json("volume", "inspect", "bulk")["message"])
        # Full: a file system that writes only metadata goes on, and so does deleting.
        began = time.monotonic()
        self.churn(names, 40, first=20)
        self.one_large_folder(names)
        self.checkpoint("names")
        os.mkdir(f"{bulk}/still")
        for at in ("names", "bulk"):
            self.assertIn("rw", self.options(at), at)
            self.assertFalse({"ro", "emergency_ro", "shutdown"} & self.options(at), at)
        print(f"{fs}: writer paused {filler.longest:.1f} s, then {errno.errorcode[filler.error.errno]} after {filler.synced} MiB; "
              f"metadata of 40 rounds while full {time.monotonic() - began:.1f} s", flush=True)
        filler.verify()
        os.unlink(f"{bulk}/fill")
        # What a transaction that has not ended yet gave back is not trimmed. The first sync may tell of what was refused.
        self.host.run(["sync", "-f", self.path("at", "bulk")], check=False, timeout=120)
        self.host.run(["sync", "-f", self.path("at", "bulk")], timeout=120)
        self.host.run(["fstrim", self.path("at", "bulk")], timeout=120)
        wait_until("the pool to have room", lambda: self.pool()["used_bytes"] < 300 * MIB, seconds=60, every=0.5)
        # Room again: no remount, no repair.
        again = Filler(f"{bulk}/again", 64)
        again.end(60)
        self.assertIsNone(again.error)
        again.verify()
        self.churn(names, 5, first=60)
        self.assertTrue(self.daemon.json("status")["healthy"], self.problems())
        for name in ("names", "bulk"):
            self.unmount(name)
            self.check(name, fs)

    def test_ext4(self):
        self.survives("ext4")

    def test_xfs(self):
        self.survives("xfs")

    def test_btrfs(self):
        self.survives("btrfs")


class HeldBack(FullPool):
    wait_s = 240
    test_ext4 = test_xfs = test_btrfs = None

    def test_room_ends_the_pause(self):
        """The pool grows while a writer waits: he never sees an error. Meanwhile the daemon is restarted, and other volumes go on."""
        other_pool = self.path("host", "other")
        os.makedirs(other_pool)
        self.daemon.holdfast("pool", "add", other_pool, "--size", "600M", "--io-class", "high", timeout=60)
        bulk = self.mount("bulk", "size=1400M,fs=ext4,io_priority=low")
        beside = self.mount("beside", "size=1G,fs=ext4,io_priority=high")
        filler = Filler(f"{bulk}/fill", 800)
        wait_until("the writer to wait", lambda: any("wait for room" in pool["message"] for pool in self.daemon.json("pool", "list")["pools"])
                   or filler.error, seconds=120, every=0.2)
        self.assertIsNone(filler.error)
        quick = Filler(f"{beside}/quick", 100)
        quick.end(90)
        self.assertIsNone(quick.error)
        began = time.monotonic()
        self.daemon.stop()
        stopped = time.monotonic() - began
        self.assertLess(stopped, 60)
        self.daemon.start()
        time.sleep(1)
        self.assertIsNone(filler.error)
        self.daemon.holdfast("pool", "expand", self.daemon.pool_dir, "--size", "1500M", timeout=60)
        filler.end(200)
        self.assertIsNone(filler.error)
        self.assertEqual(filler.synced, 800)
        filler.verify()
        print(f"SIGTERM took {stopped:.1f} s with writes held back; the other pool's longest sync was {quick.longest:.2f} s; "
              f"the held writer's {filler.longest:.1f} s", flush=True)
        for name in ("bulk", "beside"):
            self.unmount(name)
            self.check(name, "ext4")


class FullBelow(FullPool):
    """Somebody else fills the file system that the pool's directory lies in."""
    wait_s = 240
    test_ext4 = test_xfs = test_btrfs = None

    def before_the_daemon(self):
        image, pool = self.path("below.img"), self.host.path("pool")
        with open(image, "wb") as stream:
            stream.truncate(1200 * MIB)
        run(["mkfs.ext4", "-qF", "-m", "0", image])
        os.makedirs(pool, exist_ok=True)
        self.host.run(["mount", "-o", "loop", image, pool])
        self.addCleanup(self.host.run, ["umount", pool])
        self.below = f"/proc/{self.host.pid}/root{pool}"

    def free_below(self):
        size = os.statvfs(self.below)
        return size.f_bavail * size.f_frsize

    def test_others_fill_the_file_system_below(self):
        bulk = self.mount("bulk", "size=1400M,fs=ext4")
        names = self.mount("names", "size=700M,fs=ext4")
        before = Filler(f"{bulk}/before", 32)
        before.end(60)
        self.assertIsNone(before.error)
        hog = f"{self.below}/hog"
        with open(hog, "wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, self.free_below() - 8 * MIB)
        filler = Filler(f"{bulk}/fill", 200)
        wait_until("the writer to wait", lambda: "wait for room" in self.pool()["message"] or filler.error, seconds=60, every=0.2)
        self.assertIsNone(filler.error)
        self.assertIn(self.daemon.pool_dir, self.pool()["message"])
        self.assertIn("make room there", self.problems())
        # Reading, and the control plane, go on; nothing hangs.
        before.verify()
        refused = self.daemon.holdfast("volume", "create", "name=more,size=64M", check=False, timeout=30)
        self.assertIn("no_space", refused.stdout + refused.stderr)
        refused = self.daemon.holdfast("snapshot", "create", "names", "s", check=False, timeout=30)
        self.assertIn("make room there", refused.stdout + refused.stderr)
        os.unlink(hog)
        filler.end(60)
        self.assertIsNone(filler.error)
        filler.verify()
        self.churn(names, 5)
        self.assertTrue(self.daemon.json("status")["healthy"], self.problems())
        print(f"somebody else filled the file system below: the writer's longest sync {filler.longest:.1f} s, no error", flush=True)
        for name in ("bulk", "names"):
            self.unmount(name)
            self.check(name, "ext4")


if __name__ == "__main__":
    pyunit.main()
