"""Runs inside the emulated machine: kernel NBD and ublk, which the kernel under our feet may lack. $KIND says which."""
import os
import random
import sys
import time
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import export_host  # noqa: E402
import pyunit  # noqa: E402
from export_host import MIB, Host, check_fio, fio, run  # noqa: E402

KIND = os.environ.get("KIND", "nbd")
GROWS = KIND != "ublk"  # ublk: from Linux 6.16 on
ROUNDS = int(os.environ.get("ROUNDS", "6"))
SECONDS = int(os.environ.get("SECONDS_OF_LOAD", "40"))


class KernelExport(unittest.TestCase):
    def host(self, **options):
        made = Host(kind=KIND, holder=KIND == "fuse", **options)
        self.addCleanup(made.close)
        return made

    def test_file_systems_verify_and_trim(self):
        host = self.host(size=400 * MIB)
        host.start()
        for fs in ("ext4", "xfs"):
            host.mkfs_and_mount(fs)
            check_fio(fio(os.path.join(host.mount_point, "f"), 8 * MIB))
            run("fstrim", host.mount_point)
            host.unmount()
        self.assertIn("HF1008", self.refused_while_mounted(host))
        self.assertEqual(host.tool.ask("detach"), "ok")
        self.assertEqual(host.tool.ask("detach"), "ok")
        self.assertEqual(host.tool.ask("orphans"), "orphans 0")

    def refused_while_mounted(self, host):
        host.mount()
        answer = host.tool.ask("detach")
        host.unmount()
        return answer

    def test_kill_9_under_ext4(self):
        host = self.host(size=128 * MIB, delay_us=2000)
        before = host.start()
        host.mkfs_and_mount("ext4")
        chance = random.Random(1)
        rounds = 0
        while rounds < ROUNDS:
            load = fio(os.path.join(host.mount_point, "f"), 16 * MIB, seconds=SECONDS)
            while load.poll() is None:
                time.sleep(0.5 + chance.random() * 1.5)
                host.kill()
                rounds += 1
                time.sleep(chance.random() * 0.3)
                self.assertEqual(host.start(), before)
            check_fio(load)
        print(f"{KIND}: killed {rounds} times", flush=True)
        host.unmount()
        run("e2fsck", "-fn", host.device)

    def test_clean_restart_is_a_pause(self):
        host = self.host(size=64 * MIB)
        host.start()
        load = fio(host.device, 8 * MIB, seconds=15)
        for _ in range(2):
            time.sleep(2)
            self.assertEqual(host.tool.park(), "ok")
            host.start()
        check_fio(load)
        host.kill()
        host.start()
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_grows_while_mounted(self):
        if not GROWS:
            self.skipTest(f"{KIND} devices cannot grow on this kernel")
        host = self.host(size=64 * MIB)
        host.start()
        host.mkfs_and_mount("ext4")
        self.assertEqual(host.tool.ask(f"grow {128 * MIB}"), "ok")
        host.size = 128 * MIB
        self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(128 * MIB))
        run("resize2fs", host.device)
        host.kill()
        host.size = 192 * MIB
        host.start()
        self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(192 * MIB))
        host.unmount()

    def test_grows_under_writes(self):
        if KIND != "fuse":
            self.skipTest("the kernel's FUSE drops a size that it is told while a write ends")
        host = self.host(size=64 * MIB)
        host.start()
        load = fio(host.device, 48 * MIB, seconds=8, verify=False, extra=["--rw=randwrite", "--bs=4k"])
        while load.poll() is None:
            host.size += 4 * MIB
            self.assertEqual(host.tool.ask(f"grow {host.size}"), "ok")
            self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(host.size))
        check_fio(load)
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_killed_while_attaching(self):
        chance = random.Random(7)
        host = self.host(size=64 * MIB)
        killed = []
        for _ in range(8):
            tool = export_host.Tool(["--run-dir", host.folder, "--kind", KIND, "--file", os.path.join(host.folder, "image"),
                                     "--size", str(host.size), "--holder", host.socket], host.log)
            time.sleep(0.1 + chance.random() * 0.6)
            tool.kill(reap=False)
            killed.append(tool.process)
        host.start()
        for process in killed:
            process.wait(120)
        check_fio(fio(host.device, 4 * MIB))
        self.assertEqual(host.tool.ask("detach"), "ok")

    def test_several_volumes(self):
        hosts = [self.host(size=64 * MIB) for _ in range(3)]
        devices = [host.start() for host in hosts]
        self.assertEqual(len(set(devices)), 3)
        loads = [fio(device, 4 * MIB) for device in devices]
        for load in loads:
            check_fio(load)
        self.assertEqual([host.tool.ask("orphans") for host in hosts], ["orphans 0"] * 3)


if __name__ == "__main__":
    if KIND == "ublk":
        export_host.skip_when_the_kernel_loses_ublk()
    pyunit.main()
