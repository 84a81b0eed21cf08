#!/usr/bin/python3
"""File systems of volumes on the real kernel: made, mounted, grown, cut, cloned, checked, frozen, and never made over anybody's data."""
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import pyunit  # noqa: E402
from harness.base import need_program, run, wait_until  # noqa: E402
from harness.case import SystemTest  # noqa: E402
from harness.holdfastd import Holdfastd  # noqa: E402
from harness.host import end_process, tail  # noqa: E402

MIB = 1 << 20


class Writer(threading.Thread):
    """Appends numbered blocks and syncs each; keeps the longest pause and the error that ended it."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.blocks, self.longest, self.error, self.ended = path, 0, 0.0, None, False
        self.start()

    def run(self):
        try:
            with open(self.path, "wb", buffering=0) as stream:
                while not self.ended:
                    began = time.monotonic()
                    stream.write(self.blocks.to_bytes(8, "little") * 512)
                    os.fsync(stream.fileno())
                    self.longest = max(self.longest, time.monotonic() - began)
                    self.blocks += 1
        except OSError as error:
            self.error = error

    def goes_on(self):
        before = self.blocks
        wait_until("the writer to go on", lambda: self.error or self.blocks > before + 3, every=0.02)

    def end(self):
        self.ended = True
        self.join(60)
        if self.error:
            raise self.error


def numbered(path, at_least):
    """The file holds at least so many blocks of a Writer, in order, none torn."""
    with open(path, "rb") as stream:
        data = stream.read()
    whole = len(data) // 4096
    for block in range(min(whole, at_least)):
        if data[block * 4096:(block + 1) * 4096] != block.to_bytes(8, "little") * 512:
            raise AssertionError(f"{path}: block {block} of {whole} is not what was written")
    if whole < at_least:
        raise AssertionError(f"{path} holds {whole} blocks, {at_least} were synced")


class MountTest(SystemTest):
    pool_size = "4G"

    def setUp(self):
        super().setUp()
        for program, package in (("mkfs.ext4", "e2fsprogs"), ("mkfs.xfs", "xfsprogs"), ("mkfs.btrfs", "btrfs-progs"), ("fsfreeze", "util-linux")):
            need_program(program, package)
        self.host = self.make_host()
        self.addCleanup(self._show_log)
        self.daemon = Holdfastd(self.host, ['export = "fuse"', 'docker_socket = "/run/docker/plugins/holdfast.sock"'])
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool(self.pool_size)

    def _show_log(self):
        if not self._outcome.success:
            print(f"---- the end of holdfastd's log\n{tail(self.daemon.log, 60)}", flush=True)

    def create(self, spec):
        self.daemon.holdfast("volume", "create", spec)

    def mount(self, name):
        """Mounts it at a folder of its own; the path as this process sees it."""
        point = self.path("at", name)
        os.makedirs(point, exist_ok=True)
        self.daemon.holdfast("volume", "mount", name, point)
        return f"/proc/{self.host.pid}/root{point}"

    def unmount(self, name):
        self.daemon.holdfast("volume", "unmount", name, self.path("at", name))

    def volume(self, name):
        return self.daemon.json("volume", "inspect", name)

    def device(self, name):
        return self.volume(name)["attachment"]["device"]

    def attach(self, name):
        self.daemon.holdfast("volume", "attach", name)
        return self.device(name)

    def detach(self, name):
        self.daemon.holdfast("volume", "detach", name)

    def refused(self, *command):
        done = self.daemon.holdfast(*command, check=False)
        self.assertNotEqual(done.returncode, 0, f"holdfast {' '.join(command)} was not refused: {done.stdout}")
        return done.stdout + done.stderr

    def uuid(self, device):
        return run(["blkid", "-p", "-s", "UUID", "-o", "value", device]).stdout.strip()

    def options(self, name):
        with open(f"/proc/{self.host.pid}/mountinfo", encoding="utf-8") as stream:
            rows = [line.split() for line in stream if line.split()[4] == self.path("at", name)]
        self.assertEqual(len(rows), 1, f"{name} is mounted {len(rows)} times at its place")
        return set(rows[0][5].split(",")) | set(rows[0][-1].split(","))

    def check(self, name, fs):
        """Detached: the file system's own checker finds nothing."""
        device = self.attach(name)
        checker = {"ext4": ["e2fsck", "-fn"], "xfs": ["xfs_repair", "-n"], "btrfs": ["btrfs", "check", "--readonly"]}[fs]
        run([*checker, device], timeout=60)
        self.detach(name)

    # ---- a file system's life

    def life(self, fs, more, expected, absent):
        self.create(f"name=v,size=384M,fs={fs},{more}")
        at = self.mount("v")
        self.assertLessEqual(expected, self.options("v"))
        self.assertFalse(absent & {option.partition("=")[0] for option in self.options("v")}, self.options("v"))
        own = self.uuid(self.device("v"))
        if fs != "btrfs":
            self.assertEqual(own, self.volume("v")["id"])
        with open(f"{at}/early", "wb") as stream:
            stream.write(b"early" * 1000)
        writer = Writer(f"{at}/log")
        try:
            writer.goes_on()
            size = os.statvfs(at)
            self.daemon.holdfast("volume", "resize", "v", "512M")
            grown = os.statvfs(at)
            if fs == "ext4" and grown.f_blocks == size.f_blocks:  # needs CAP_SYS_RESOURCE; growth_machine_test.py has it
                self.assertIn("at the next mount", self.volume("v")["message"])
            else:
                self.assertGreater((grown.f_blocks - size.f_blocks) * size.f_frsize, 100 * MIB)
            writer.goes_on()
            synced = writer.blocks
            self.daemon.holdfast("snapshot", "create", "v", "running")
            self.daemon.holdfast("volume", "clone", "v", "w", "--snapshot", "running")
            self.daemon.holdfast("volume", "clone", "w", "x")
            self.clones_beside(fs, synced, writer)
            writer.goes_on()
        finally:
            writer.end()
        written = writer.blocks
        self.unmount("v")
        # What did not grow while mounted grows now; all that was synced is there.
        at = self.mount("v")
        self.assertGreater(os.statvfs(at).f_blocks * os.statvfs(at).f_frsize, 440 * MIB)
        numbered(f"{at}/log", written)
        self.unmount("v")
        self.check("v", fs)
        # A restored volume keeps its own identity, and so does one restored to before its first mount.
        self.daemon.holdfast("snapshot", "restore", "v", "running", "--yes")
        at = self.mount("v")
        numbered(f"{at}/log", synced)
        self.assertEqual(self.uuid(self.device("v")), own)
        self.unmount("v")

    def clones_beside(self, fs, synced, writer):
        """The origin is mounted and being written; a clone of it, cut as if by a power failure, and a clone of that."""
        self.daemon.holdfast("snapshot", "create", "w", "unborn")
        points = {name: self.mount(name) for name in ("w", "x")}
        devices = {name: self.device(name) for name in ("v", "w", "x")}
        self.assertEqual(len(set(devices.values())), 3)
        for name, point in points.items():
            numbered(f"{point}/log", synced)
            with open(f"{point}/own", "w", encoding="utf-8") as stream:
                stream.write(name)
        for name, point in points.items():
            with open(f"{point}/own", encoding="utf-8") as stream:
                self.assertEqual(stream.read(), name)
        self.assertFalse(os.path.exists(f"/proc/{self.host.pid}/root{self.path('at', 'v')}/own"))
        if fs == "btrfs":
            for name in ("v", "w", "x"):
                own = self.uuid(devices[name])
                if name != "v":
                    self.assertEqual(own, self.volume(name)["id"], name)
                self.assertTrue(os.path.isdir(f"/sys/fs/btrfs/{own}"), name)
        writer.goes_on()
        for name in points:
            self.unmount(name)
            self.check(name, fs)
        # Restored to a snapshot from before its first attach, it has its origin's blocks again.
        self.daemon.holdfast("snapshot", "restore", "w", "unborn", "--yes")
        point = self.mount("w")
        numbered(f"{point}/log", synced)
        self.assertFalse(os.path.exists(f"{point}/own"))
        if fs == "btrfs":
            self.assertEqual(self.uuid(self.device("w")), self.volume("w")["id"])
        self.unmount("w")

    def test_ext4(self):
        self.life("ext4", "block_size=4096,nodiscard=true,mount_options=noatime;commit=7", {"noatime", "commit=7"}, {"discard"})

    def test_xfs(self):
        self.life("xfs", "mount_options=noatime;largeio", {"noatime", "discard", "nouuid", "largeio"}, set())

    def test_btrfs(self):
        self.life("btrfs", "mount_options=noatime;compress=zstd", {"noatime", "compress=zstd:3"}, set())

    # ---- what is checked before a mount

    def test_a_check_is_done_where_the_superblock_asks_for_it(self):
        self.create("name=e,size=256M,fs=ext4")
        at = self.mount("e")
        with open(f"{at}/kept", "w", encoding="utf-8") as stream:
            stream.write("kept")
        self.unmount("e")
        device = self.attach("e")
        run(["debugfs", "-w", "-R", "set_super_value state 2", device])
        self.detach("e")
        at = self.mount("e")
        with open(f"{at}/kept", encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "kept")
        self.unmount("e")
        self.assertIn("fsck device=", tail(self.daemon.log, 200))
        device = self.attach("e")
        self.assertIn("clean\n", re.search("Filesystem state:.*\n", run(["dumpe2fs", "-h", device]).stdout).group())
        # What e2fsck does not mend by itself is left for a person, and told.
        run(["debugfs", "-w", "-R", "clri <2>", device])
        run(["debugfs", "-w", "-R", "set_super_value state 2", device])
        self.detach("e")
        os.makedirs(self.path("at", "e"), exist_ok=True)
        told = self.refused("volume", "mount", "e", self.path("at", "e"))
        self.assertRegex(told, r"HF2002.*e2fsck")
        self.assertEqual(self.volume("e")["state"], "detached")
        self.daemon.holdfast("volume", "delete", "e", "--yes")

    # ---- growth that cannot be

    def test_a_file_system_that_cannot_grow_can_be_unmounted(self):
        self.create("name=x,size=400M,fs=xfs")
        at = self.mount("x")
        run([need_program("xfs_io", "xfsprogs"), "-x", "-c", "shutdown", at])
        for _ in range(2):
            told = self.refused("volume", "resize", "x", "600M")
            self.assertRegex(told, "has 600 MiB now, and its file system grows when it is mounted again: .*xfs_growfs")
            self.assertEqual(len(told.splitlines()), 1, told)
        self.assertEqual(self.volume("x")["size_bytes"], 600 * MIB)
        self.unmount("x")
        self.assertEqual(self.volume("x")["state"], "detached")
        at = self.mount("x")
        space = os.statvfs(at)
        self.assertGreater(space.f_blocks * space.f_frsize, 500 * MIB)
        self.unmount("x")

    # ---- mkfs

    def test_nothing_is_formatted_over(self):
        os.makedirs(self.path("at", "raw"), exist_ok=True)
        self.create("name=raw,size=256M,fs=ext4")
        device = self.attach("raw")
        with open(device, "r+b", buffering=0) as stream:
            stream.seek(37 * MIB)
            stream.write(b"somebody's data, of no known kind".ljust(4096, b"."))
            # Still in the page cache, and the device is open.
            told = self.refused("volume", "mount", "raw", self.path("at", "raw"))
            self.assertRegex(told, r"HF2006 not_empty.*from byte 38797312.*blkdiscard")
        self.detach("raw")
        self.assertRegex(self.refused("volume", "mount", "raw", self.path("at", "raw")), r"HF2006 not_empty")
        self.assertEqual(self.volume("raw")["state"], "detached")
        device = self.attach("raw")
        with open(device, "rb") as stream:
            stream.seek(37 * MIB)
            self.assertTrue(stream.read(64).startswith(b"somebody's data"))
        # A foreign file system is named; the way out that was told works.
        run(["mkfs.ext4", "-q", "-L", "theirs", device])
        self.assertRegex(self.refused("volume", "mount", "raw", self.path("at", "raw")), r'HF2006 not_empty.*ext4.*theirs')
        run(["blkdiscard", "-f", device])
        self.detach("raw")
        at = self.mount("raw")
        with open(f"{at}/f", "w", encoding="utf-8") as stream:
            stream.write("ours")
        self.unmount("raw")
        # A clone of raw data is no less somebody's.
        self.create("name=src,size=64M,fs=ext4")
        device = self.attach("src")
        with open(device, "r+b", buffering=0) as stream:
            stream.write(b"x" * 4096)
        self.detach("src")
        self.daemon.holdfast("volume", "clone", "src", "copy")
        os.makedirs(self.path("at", "copy"), exist_ok=True)
        self.assertRegex(self.refused("volume", "mount", "copy", self.path("at", "copy")), r"HF2006 not_empty")

    def test_mkfs_cut_short_is_begun_again(self):
        """The daemon is killed at many moments of a first mount; whatever is left, the next mount works."""
        for number, fs in enumerate(("xfs", "btrfs", "ext4", "xfs", "btrfs", "ext4")):
            name = f"k{number}"
            self.create(f"name={name},size=512M,fs={fs}")
            os.makedirs(self.path("at", name))
            mount = subprocess.Popen(self.host.enter([self.daemon.client, "volume", "mount", name, self.path("at", name)]),
                                     env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.02 + 0.03 * number)
            self.daemon.kill9()
            mount.wait(60)
            self.daemon.start()
            at = self.mount(name)
            with open(f"{at}/f", "w", encoding="utf-8") as stream:
                stream.write(name)
                stream.flush()
                os.fsync(stream.fileno())
            self.unmount(name)
            self.check(name, fs)

    def test_a_device_that_does_not_answer_holds_up_no_other(self):
        """A frozen daemon's volume is a device of the machine whose reads do not come back. Another daemon's volumes are made,
        mounted, grown and checked beside it."""
        other = Holdfastd(self.make_host("frozen"), ['export = "fuse"'])
        self.addCleanup(other.dispose)
        other.start()
        other.add_pool("1G")
        other.holdfast("volume", "create", "name=silent,size=64M,fs=none")
        other.holdfast("volume", "attach", "silent")
        os.kill(other.pid, signal.SIGSTOP)
        try:
            for fs in ("ext4", "xfs", "btrfs"):
                self.create(f"name={fs},size=512M,fs={fs}")
                self.mount(fs)
                self.daemon.holdfast("volume", "resize", fs, "768M")
                self.unmount(fs)
                self.mount(fs)
                self.unmount(fs)
        finally:
            os.kill(other.pid, signal.SIGCONT)
        other.holdfast("volume", "detach", "silent")

    def test_a_mount_that_outlives_its_daemon(self):
        """mount(8) goes on when the daemon that ran it is killed: the next daemon's mount waits for it, and takes what it made."""
        real, slow, asked = self.path("mount.real"), self.path("mount.slow"), self.path("asked")
        shutil.copy2(need_program("mount", "mount"), real)
        with open(slow, "w", encoding="utf-8") as stream:
            stream.write(f'#!/bin/sh\ntouch {asked}\nsleep 1.5\nexec {real} "$@"\n')
        os.chmod(slow, 0o755)
        name = "late"
        self.create(f"name={name},size=512M,fs=ext4")
        self.mount(name)
        self.unmount(name)
        self.host.run([real, "--bind", slow, need_program("mount", "mount")])
        mount = subprocess.Popen(self.host.enter([self.daemon.client, "volume", "mount", name, self.path("at", name)]),
                                 env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until("mount(8) to be run", lambda: os.path.exists(asked), every=0.02)
        self.daemon.kill9()
        mount.wait(60)
        os.unlink(asked)
        self.host.run(["umount", "-l", need_program("mount", "mount")])
        self.daemon.start()
        at = self.mount(name)
        self.assertFalse(os.path.exists(asked))
        with open(f"{at}/f", "w", encoding="utf-8") as stream:
            stream.write(name)
        self.unmount(name)
        self.check(name, "ext4")

    def test_a_large_sparse_volume_is_made_at_once(self):
        """No mkfs discards or zeroes a terabyte."""
        image = self.path("device.img")
        with open(image, "wb") as stream:
            stream.truncate(300 << 30)
        loop = run(["losetup", "--find", "--show", "--direct-io=on", image]).stdout.strip()
        self.daemon.holdfast("pool", "add", loop, timeout=120)
        for fs in ("ext4", "xfs", "btrfs"):
            self.create(f"name=big-{fs},size=300G,fs={fs}")
            began = time.monotonic()
            at = self.mount(f"big-{fs}")
            took = time.monotonic() - began
            used = int(self.volume(f"big-{fs}")["used_bytes"])
            print(f"300 GiB {fs}: {took:.2f} s, {used / MIB:.0f} MiB", flush=True)
            self.assertGreater(os.statvfs(at).f_blocks * os.statvfs(at).f_frsize, 280 << 30)
            self.unmount(f"big-{fs}")
            self.daemon.holdfast("volume", "delete", f"big-{fs}", "--yes")
            self.assertLess(took, 60)
            self.assertLess(used, 300 * MIB)

    # ---- frozen snapshots

    def primary(self, name):
        return self.volume(name)["attachment"]["mount_path"]

    def guards(self):
        """The processes of this host that hold a file system frozen, or are about to."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as stream:
                    words = stream.read().split(b"\0")
                if b"freeze-guard" in words and os.readlink(f"/proc/{entry}/ns/mnt") == os.readlink(f"/proc/{self.host.pid}/ns/mnt"):
                    found.append(int(entry))
            except OSError:
                continue
        return found

    def test_a_frozen_snapshot_needs_no_recovery(self):
        for fs in ("ext4", "xfs", "btrfs"):
            self.create(f"name={fs},size=320M,fs={fs}")
            at = self.mount(fs)
            writer = Writer(f"{at}/log")
            try:
                writer.goes_on()
                synced = writer.blocks
                with open(f"{at}/lazy", "wb") as stream:  # not synced by whoever wrote it
                    stream.write(b"lazy" * MIB)
                self.assertTrue(self.daemon.json("snapshot", "create", fs, "still", "--freeze")["frozen"])
                writer.goes_on()
                self.daemon.holdfast("snapshot", "create", fs, "running")
            finally:
                writer.end()
            print(f"{fs}: longest write {writer.longest * 1000:.0f} ms", flush=True)
            self.assertLess(writer.longest, 25)
            # Asked for again with the promise that it cannot keep.
            self.assertIn("HF1004", self.refused("snapshot", "create", fs, "running", "--freeze"))
            self.daemon.holdfast("snapshot", "create", fs, "still", "--freeze")
            self.daemon.holdfast("volume", "clone", fs, f"{fs}-still", "--snapshot", "still")
            self.daemon.holdfast("volume", "clone", fs, f"{fs}-running", "--snapshot", "running")
            if fs == "ext4":
                for name, dirty in ((f"{fs}-still", False), (f"{fs}-running", True)):
                    head = run(["dumpe2fs", "-h", self.attach(name)]).stdout
                    self.detach(name)
                    self.assertEqual("needs_recovery" in head, dirty, name)
            point = self.mount(f"{fs}-still")
            numbered(f"{point}/log", synced)
            with open(f"{point}/lazy", "rb") as stream:
                self.assertEqual(stream.read(), b"lazy" * MIB)
            self.unmount(f"{fs}-still")
            self.unmount(fs)
        # Nobody has it: nothing to freeze. Somebody has its device: who would wait?
        self.assertTrue(self.daemon.json("snapshot", "create", "ext4", "idle", "--freeze")["frozen"])
        self.attach("ext4")
        self.assertIn("HF1013", self.refused("snapshot", "create", "ext4", "raw", "--freeze"))

    def test_the_guard_thaws(self):
        self.create("name=g,size=256M,fs=ext4")
        at = self.mount("g")
        primary, program = self.primary("g"), self.daemon.program
        writer = Writer(f"{at}/log")
        try:
            writer.goes_on()
            # After its limit; what asks it to thaw then is told that it was late.
            self.host.run(["sh", "-c", f"{program} freeze-guard {primary} 1500; sleep 2.5"])
            wait_until("the held write to end", lambda: writer.longest > 1)
            self.assertLess(writer.longest, 30)
            self.assertEqual(self.host.run([program, "thaw-guard", primary]).stdout, "")
            # When asked.
            done = self.host.run(["sh", "-c", f"{program} freeze-guard {primary} 60000 && {program} thaw-guard {primary}"])
            self.assertEqual(done.stdout, "thawed")
            writer.goes_on()
            # When whoever had it frozen ends.
            self.host.run(["sh", "-c", f"{program} freeze-guard {primary} 60000; true"])
            writer.goes_on()
            # Killed itself: by whoever asks next, who finds no guard.
            keeper = subprocess.Popen(self.host.enter(["sh", "-c", f"{program} freeze-guard {primary} 60000; exec sleep 60"]), env=self.environment)
            self.addCleanup(end_process, keeper)
            wait_until("the freeze, after which comes the sleep", lambda: self._name_of(keeper.pid) == "sleep")
            before = wait_until("the guard", self.guards)
            for pid in self.guards() or before:
                os.kill(pid, signal.SIGKILL)
            wait_until("the writer to stand still", lambda: self._stands_still(writer))
            self.host.run([program, "thaw-guard", primary])
            writer.goes_on()
            # What somebody else froze is his; the snapshot is refused and not left behind.
            self.host.run(["fsfreeze", "-f", primary])
            told = self.refused("snapshot", "create", "g", "s", "--freeze")
            wait_until("the writer to stand still", lambda: self._stands_still(writer))
            self.host.run(["fsfreeze", "-u", primary])
            self.assertIn("HF1008", told)
            writer.goes_on()
            self.assertEqual(self.daemon.json("snapshot", "list", "g").get("snapshots", []), [])
        finally:
            if self._stands_still(writer):
                self.host.run(["fsfreeze", "-u", primary], check=False)
            writer.end()
        # A folder on which nothing is mounted is left alone: it would be the host's own file system.
        self.unmount("g")
        self.assertNotEqual(self.host.run([program, "freeze-guard", self.scratch, "1000"], check=False).returncode, 0)

    @staticmethod
    def _name_of(pid):
        with open(f"/proc/{pid}/comm", encoding="utf-8") as stream:
            return stream.read().strip()

    @staticmethod
    def _stands_still(writer):
        before = writer.blocks
        time.sleep(0.3)
        return writer.blocks == before

    def test_killed_in_the_middle_of_a_freeze(self):
        self.create("name=k,size=320M,fs=xfs")
        at = self.mount("k")
        writer = Writer(f"{at}/log")
        hits = 0
        try:
            for number in range(6):
                with open(f"{at}/dirty", "wb") as stream:
                    stream.write(os.urandom(8 * MIB))
                cut = subprocess.Popen(self.host.enter([self.daemon.client, "snapshot", "create", "k", f"s{number}", "--freeze"]),
                                       env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                end = time.monotonic() + 5
                while not self.guards() and cut.poll() is None and time.monotonic() < end:
                    time.sleep(0.001)
                time.sleep(0.01 * number)
                guards = self.guards()
                hits += 1 if guards else 0
                if number % 2 == 0:  # as a service manager or the kernel's out-of-memory killer does
                    for pid in guards:
                        try:
                            os.kill(pid, signal.SIGKILL)
                        except ProcessLookupError:
                            pass
                self.daemon.kill9()
                cut.wait(60)
                self.daemon.start()
                writer.goes_on()
        finally:
            writer.end()
        print(f"killed {hits} of 6 times with a guard there; longest write {writer.longest:.2f} s", flush=True)
        wait_until("the guards to end", lambda: not self.guards(), seconds=20)
        written = writer.blocks
        self.unmount("k")
        at = self.mount("k")
        numbered(f"{at}/log", written)
        self.unmount("k")
        self.check("k", "xfs")

    # ---- propagation

    def test_a_container_sees_volumes_that_are_mounted_later(self):
        script = "exec sleep 600"
        inside = subprocess.Popen(self.host.enter(["unshare", "-m", "--propagation", "slave", "sh", "-c", script]), env=self.environment)
        self.addCleanup(end_process, inside)
        wait_until("the container's own namespace", lambda: os.readlink(f"/proc/{inside.pid}/ns/mnt") != os.readlink(f"/proc/{self.host.pid}/ns/mnt"))
        self.create("name=p,size=128M,fs=ext4")
        self.mount("p")
        primary = self.volume("p")["attachment"]["mount_path"]

        def seen():
            with open(f"/proc/{inside.pid}/mountinfo", encoding="utf-8") as stream:
                return [line for line in stream if line.split()[4] == primary]

        # Twice, where the mount root is a peer of the mount that it lies in; an unmount takes both away.
        self.assertIn(len(seen()), (1, 2), primary)
        with open(f"/proc/{inside.pid}/root{primary}/from-inside", "w", encoding="utf-8") as stream:
            stream.write("x")
        with open(f"/proc/{self.host.pid}/root{primary}/from-inside", encoding="utf-8") as stream:
            self.assertEqual(stream.read(), "x")
        self.unmount("p")
        self.assertEqual(seen(), [])
        self.assertEqual(self.volume("p")["state"], "detached")


class Places(SystemTest):
    """The same place by other names: a "/" too many, a link on the way, and the daemon's own folders behind links."""

    def setUp(self):
        super().setUp()
        self.host = self.make_host()
        os.symlink("/run/holdfast", self.host.path("run-link"))
        self.daemon = Holdfastd(self.host, [f'run_dir = "{self.host.path("run-link")}"'])
        os.makedirs(self.host.path("elsewhere"))
        os.rmdir(self.daemon.state_dir)
        os.symlink(self.host.path("elsewhere"), self.daemon.state_dir)
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool("2G")

    def mounted(self):
        """Where the volume is mounted, in the order of the mounts."""
        device = self.daemon.json("volume", "inspect", "v")["attachment"]["device"]
        return [point for point, _, source in self.host.mounts() if source == device]

    def test_one_place_has_one_name(self):
        primary = self.host.path("elsewhere", "mounts", "v")
        os.makedirs(self.path("at", "v"))
        os.symlink(self.path("at"), self.path("link"))
        place = self.path("at", "v")
        self.daemon.holdfast("volume", "create", "v", "--size", "400M")
        for written in (place, place + "/", self.path("at") + "//v", self.path("at", ".", "v"), self.path("link", "v"), self.path("link", "v", "")):
            for _ in range(2):
                self.assertIn(f"mounted at {place}\n", self.daemon.holdfast("volume", "mount", "v", written).stdout)
            # The primary mount may be seen twice: the mount root is a peer of the mount that it lies in.
            mounted = self.mounted()
            self.assertEqual((set(mounted), mounted.count(place)), ({primary, place}, 1), written)
            self.daemon.kill9()
            self.daemon.start()
            self.assertEqual(self.daemon.json("status")["problems"], [], written)
            self.assertEqual(self.mounted(), mounted, written)
            self.assertEqual(len(self.daemon.json("volume", "inspect", "v")["attachment"]["mounts"]), 1)
            self.daemon.holdfast("volume", "unmount", "v", written)
            self.assertEqual(self.daemon.json("volume", "inspect", "v")["state"], "detached", written)
            self.assertNotIn(place, [point for point, _, _ in self.host.mounts()], written)


if __name__ == "__main__":
    pyunit.main()
