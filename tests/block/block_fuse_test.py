"""Exports over FUSE and loop on the kernel under our feet: attach, file systems, kill -9 and adoption, growth, leaks."""
import os
import random
import sys
import time
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import dead_fuse  # noqa: E402
import export_host  # noqa: E402
import pyunit  # noqa: E402
from export_host import MIB, Host, check_fio, fio, run  # noqa: E402

ROUNDS = 20
SECONDS = 20
PATIENCE = 60  # seconds, of a machine that has much else to do


class FuseExport(unittest.TestCase):
    def host(self, **options):
        made = Host(**options)
        self.addCleanup(made.close)
        return made

    def test_file_systems_and_verify(self):
        host = self.host()
        host.start()
        for fs in ("ext4", "xfs"):
            host.mkfs_and_mount(fs)
            check_fio(fio(os.path.join(host.mount_point, "f"), 64 * MIB))
            run("fstrim", host.mount_point)
            host.unmount()
        self.assertEqual(host.tool.ask("detach"), "ok")
        self.assertEqual(export_host.loop_devices_of(host.folder), [])
        self.assertEqual(host.tool.ask("orphans"), "orphans 0")

    def test_direct_io_and_block_size(self):
        host = self.host()
        name = os.path.basename(host.start())
        for path, expected in (("loop/dio", "1"), ("queue/logical_block_size", "4096"), ("loop/autoclear", "0")):
            with open(f"/sys/block/{name}/{path}", encoding="utf-8") as stream:
                self.assertEqual(stream.read().strip(), expected, path)

    def kill_rounds(self, host, target):
        """fio runs for a fixed time; in it the server is killed as often as it goes. Again, until that was ROUNDS times."""
        chance = random.Random(host.kind)
        rounds = 0
        while rounds < ROUNDS:
            load = fio(target, 96 * MIB, seconds=SECONDS)
            while load.poll() is None:
                time.sleep(0.15 + chance.random() * 0.3)
                host.kill()
                rounds += 1
                time.sleep(chance.random() * 0.1)
                host.start()
            check_fio(load)

    def test_kill_9_under_a_raw_device(self):
        host = self.host(delay_us=2000)
        before = host.start()
        self.kill_rounds(host, host.device)
        self.assertEqual(host.device, before)

    def test_kill_9_under_ext4(self):
        host = self.host(delay_us=2000)
        host.start()
        host.mkfs_and_mount("ext4")
        self.kill_rounds(host, os.path.join(host.mount_point, "f"))
        with open("/proc/mounts", encoding="utf-8") as stream:
            line = next(mount for mount in stream if host.mount_point in mount)
        self.assertIn(" rw,", line)
        host.unmount()
        run("e2fsck", "-fn", host.device)  # finds nothing to mend, or fails

    def test_clean_restart_is_a_pause(self):
        host = self.host()
        host.start()
        host.mkfs_and_mount("ext4")
        load = fio(os.path.join(host.mount_point, "f"), 32 * MIB, seconds=6)
        while load.poll() is None:
            time.sleep(0.3)
            self.assertEqual(host.tool.park(), "ok")
            time.sleep(0.2)
            host.start()
        check_fio(load)
        host.unmount()

    def test_grows_while_mounted(self):
        host = self.host(size=320 * MIB)
        host.start()
        host.mkfs_and_mount("xfs")  # ext4 grows online only with CAP_SYS_RESOURCE, which not every machine gives
        self.assertEqual(host.tool.ask(f"grow {512 * MIB}"), "ok")
        host.size = 512 * MIB
        self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(512 * MIB))
        run("xfs_growfs", "-d", host.mount_point)
        check_fio(fio(os.path.join(host.mount_point, "f"), 400 * MIB, verify=False, extra=["--rw=write", "--bs=1M"]))
        # A growth that the old daemon was told of and did not live to tell the kernel.
        host.kill()
        host.size = 768 * MIB
        host.start()
        self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(768 * MIB))
        host.unmount()

    def test_grows_under_writes(self):
        """The kernel drops a size that it is told while a write ends; every growth must arrive all the same."""
        host = self.host(size=64 * MIB)
        host.start()
        grown = 0
        while grown < 20:
            load = fio(host.device, 48 * MIB, seconds=8, verify=False, extra=["--rw=randwrite", "--bs=4k"])
            while load.poll() is None:
                host.size += 4 * MIB
                self.assertEqual(host.tool.ask(f"grow {host.size}"), "ok")
                self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(host.size))
                grown += 1
            check_fio(load)
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_detach_refuses_while_mounted(self):
        host = self.host()
        host.start()
        host.mkfs_and_mount("ext4")
        self.assertIn("HF1008 in_use", host.tool.ask("detach"))
        with open(os.path.join(host.mount_point, "x"), "w", encoding="utf-8") as stream:
            stream.write("still here")
        host.unmount()
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_killed_with_nobody_looking(self):
        """An orphan that nothing uses is adopted by the next attach, and can then be detached."""
        host = self.host()
        host.start()
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard", host.device)
        host.kill()
        self.assertEqual(len(export_host.loop_devices_of(host.folder)), 1)
        host.start()
        self.assertIn("ext4", run("blkid", host.device).stdout)
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_killed_while_attaching(self):
        """Whatever moment the kill hits, the next start clears it away or takes it over."""
        chance = random.Random(7)
        host = self.host(size=64 * MIB)
        killed = []
        for _ in range(25):
            tool = export_host.Tool(["--run-dir", host.folder, "--kind", "fuse", "--file",
                                     os.path.join(host.folder, "image"), "--size", str(host.size), "--holder", host.socket],
                                    host.log)
            time.sleep(0.004 + chance.random() * 0.04)
            # A thread of it may wait for its own export until the next one's start() aborts that.
            tool.kill(reap=False)
            killed.append(tool.process)
        host.start()
        for process in killed:
            process.wait(60)
        run("dd", "if=/dev/zero", f"of={host.device}", "bs=1M", "count=4", "oflag=direct")
        self.assertEqual(len(export_host.loop_devices_of(host.folder)), 1)
        self.assertEqual(host.tool.ask("detach"), "ok")
        self.assertEqual([m for m in export_host.mounts() if m.startswith(host.folder)], [])

    def test_a_new_holder_is_given_everything(self):
        host = self.host()
        host.start()
        host.mkfs_and_mount("ext4")
        host.holder.kill()
        host.holder.wait()
        host.start_holder()
        load = fio(os.path.join(host.mount_point, "f"), 32 * MIB, seconds=8)
        self.wait_for_log(host, "holder_has_everything")
        host.kill()
        host.start()
        check_fio(load)
        host.unmount()

    def wait_for_log(self, host, words):
        deadline = time.monotonic() + PATIENCE
        while words not in host.read_log():
            self.assertLess(time.monotonic(), deadline, host.read_log())
            time.sleep(0.1)

    def wait_for_problems(self, host, expected):
        deadline = time.monotonic() + PATIENCE
        while (said := host.tool.ask("problems")).startswith("problems ") != expected:
            self.assertLess(time.monotonic(), deadline, said)
            time.sleep(0.2)
        return said

    def test_a_holder_that_is_away_is_shown(self):
        host = self.host(size=64 * MIB)
        host.start()
        self.assertEqual(host.tool.ask("problems"), "problems")
        host.holder.kill()
        host.holder.wait()
        said = self.wait_for_problems(host, True)
        self.assertRegex(said, "the holder process is away .* I/O error for its 1 volumes")
        self.assertEqual(host.read_log().count("holder_away"), 1)
        host.start_holder()
        self.wait_for_problems(host, False)
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_a_dead_holder_is_started_again(self):
        """And has everything: killing the daemon afterwards is a pause."""
        host = self.host(size=64 * MIB)
        before = host.start(more=["--holder-program", export_host.HOLDER])
        load = fio(host.device, 16 * MIB, seconds=10)
        host.holder.kill()
        host.holder.wait()
        self.wait_for_log(host, "holder_has_everything")
        self.assertIsNotNone(host.started_holder())
        host.kill()
        time.sleep(0.3)
        self.assertEqual(host.start(), before)
        check_fio(load)
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_without_a_holder_a_kill_is_an_error_not_a_hang(self):
        host = self.host(holder=False)
        host.start()
        load = fio(host.device, 32 * MIB, seconds=600)
        time.sleep(0.5)
        host.kill()
        self.assertNotEqual(load.wait(PATIENCE), 0)
        load.stdout.close()
        # The next start clears the dead one away.
        host.start()
        check_fio(fio(host.device, 8 * MIB))


class DeadExports(unittest.TestCase):
    """What nobody serves any more holds up neither our start nor whoever looks at the machine's loop devices."""

    def host(self, **options):
        made = Host(**options)
        self.addCleanup(made.close)
        return made

    def starts_soon(self, host):
        """And does not wait for a dead one, which is for ever."""
        began = time.monotonic()
        host.start()
        self.assertLess(time.monotonic() - began, PATIENCE)

    def test_a_dead_export_of_another_stops_nobody(self):
        host = self.host(size=64 * MIB)
        dead = dead_fuse.DeadFuse()
        self.addCleanup(dead.close)
        self.assertTrue(dead_fuse.status_hangs(dead.device), "this would test nothing")
        self.starts_soon(host)
        run("dd", "if=/dev/zero", f"of={host.device}", "bs=1M", "count=4", "oflag=direct", timeout=PATIENCE)
        host.kill()
        self.starts_soon(host)
        self.assertEqual(host.tool.ask("orphans"), "orphans 0")
        self.assertEqual(host.tool.ask("detach"), "ok")

    def both_killed(self, spoil):
        host = self.host(size=64 * MIB)
        stale = host.start()
        connection = dead_fuse.connection_of(host.folder)
        self.addCleanup(dead_fuse.abort, connection)
        host.mkfs_and_mount("ext4")
        with open(os.path.join(host.mount_point, "x"), "w", encoding="utf-8") as stream:
            stream.write("x" * MIB)
            stream.flush()
            os.fsync(stream.fileno())
        kept = dead_fuse.descriptor_of(host.holder.pid) if spoil else None
        host.kill()
        if spoil:  # somebody has a copy of the descriptor: the connection does not end by itself
            self.addCleanup(os.close, kept)
            dead_fuse.forget_attributes(kept)
        host.holder.kill()
        host.holder.wait()
        if spoil:
            self.assertTrue(dead_fuse.status_hangs(stale), "this would test nothing")
        host.start_holder()
        self.starts_soon(host)
        self.assertIn("fuse_leftover", host.read_log())
        self.assertNotEqual(host.device, stale, "the dead one is still mounted")
        self.assertFalse(os.path.isdir(f"{dead_fuse.CONNECTIONS}/{connection}/waiting"))
        run("umount", host.mount_point)
        deadline = time.monotonic() + PATIENCE
        while os.path.exists(f"/sys/block/{os.path.basename(stale)}/loop") and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertFalse(os.path.exists(f"/sys/block/{os.path.basename(stale)}/loop"), "the dead one's loop device remains")
        self.assertEqual(export_host.loop_devices_of(host.folder), [host.device])
        host.mount()  # what was synced is there
        self.assertEqual(os.path.getsize(os.path.join(host.mount_point, "x")), MIB)
        host.unmount()
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_both_killed_with_a_volume_mounted(self):
        self.both_killed(spoil=False)

    def test_both_killed_and_the_connection_lives_on(self):
        self.both_killed(spoil=True)

    def test_looking_at_loop_devices_while_the_daemon_is_away(self):
        host = self.host(size=64 * MIB)
        host.start()
        host.mkfs_and_mount("ext4")
        self.assertEqual(host.tool.ask(f"grow {96 * MIB}"), "ok")
        host.size = 96 * MIB
        with open(os.path.join(host.mount_point, "x"), "wb") as stream:
            stream.write(b"x" * MIB)
            stream.flush()
            os.fsync(stream.fileno())
        host.kill()
        self.assertFalse(dead_fuse.status_hangs(host.device))
        for argv in (("losetup", "-a"), ("losetup", "--list"), ("lsblk",), ("losetup", "-j", host.folder)):
            run(*argv, timeout=PATIENCE)
        host.start()
        host.unmount()


if __name__ == "__main__":
    if os.geteuid() != 0:
        pyunit.skip_all("needs root")
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(device):
            pyunit.skip_all(f"{device} is missing")
    if "IN_OWN_NAMESPACE" not in os.environ:
        # Whoever makes a mount namespace meanwhile (a container engine) would take copies of our mounts along,
        # and keep our devices in use.
        os.environ["IN_OWN_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    pyunit.main()
