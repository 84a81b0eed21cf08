#!/usr/bin/python3
"""What is ublk's own, in an emulated machine whose kernel has it: queue settings, notes, growth, capabilities, leaks.

Kills under load are block_machine_ublk_6.12's: they may meet a defect of Debian's 6.12 (docs/facts-block.md, 3.4), which
nothing on that machine can be trusted after. Here servers are killed only while they have no request, which cannot.
"""
import os
import subprocess
import sys
import tempfile
import time
import unittest

os.environ["BLOCK_EXPORT_TOOL"] = "/opt/t/block_export_tool"
sys.path.insert(0, "/opt/t")
import export_host  # noqa: E402
import pyunit  # noqa: E402
from export_host import MIB, Host, check_fio, fio, run  # noqa: E402


def kernel_objects():
    return sorted(name for name in os.listdir("/dev") if name.startswith("ublk") and name != "ublk-control")


def queue_setting(device, name):
    with open(f"/sys/block/{os.path.basename(device)}/queue/{name}", encoding="utf-8") as stream:
        return stream.read().strip()


class UblkExport(unittest.TestCase):
    def setUp(self):
        self.before = len(kernel_messages())

    def tearDown(self):
        """Nothing is left of a test, neither devices nor complaints of the kernel."""
        self.assertEqual(kernel_objects(), [])
        words = ("I/O error", "BUG", "WARNING", "Oops", "blocked for more than")
        self.assertEqual([line for line in kernel_messages()[self.before:] if any(word in line for word in words)], [])

    def host(self, **options):
        made = Host(kind="ublk", holder=False, **options)
        self.addCleanup(self.close, made)
        return made

    def close(self, host):
        host.close()
        self.assertEqual(kernel_objects(), [])

    def finish(self, host):
        self.assertEqual(host.tool.ask("detach"), "ok")
        self.assertEqual(host.tool.ask("orphans"), "orphans 0")
        self.assertEqual(os.listdir(os.path.join(host.folder, "ublk")), [])
        self.assertEqual(kernel_objects(), [])

    def test_attach_ext4_verify_detach(self):
        host = self.host(size=256 * MIB)
        device = host.start()
        self.assertRegex(device, r"^/dev/ublkb\d+$")
        # No partition scan: it would deadlock with a kill, see docs/facts-block.md, 3.4.
        with open(f"/sys/block/{os.path.basename(device)}/stat", encoding="utf-8") as stream:
            self.assertEqual(stream.read().split()[0], "0")
        self.assertEqual(run("blockdev", "--getsize64", device).stdout.strip(), str(256 * MIB))
        for name, expected in (("logical_block_size", "4096"), ("write_cache", "write back"), ("fua", "1")):
            self.assertEqual(queue_setting(device, name), expected, name)
        run("mkfs.ext4", "-q", "-F", device)  # discards the whole device first
        host.mount()
        check_fio(fio(os.path.join(host.mount_point, "f"), 32 * MIB))
        run("fstrim", host.mount_point)
        self.assertIn("HF1008 in_use", host.tool.ask("detach"))
        host.unmount()
        run("e2fsck", "-fn", device)
        # Punched holes and zeroes read as zeroes.
        run("dd", "if=/dev/urandom", f"of={device}", "bs=1M", "count=8", "oflag=direct")
        run("blkdiscard", "-o", str(MIB), "-l", str(2 * MIB), device)
        run("blkdiscard", "-z", "-o", str(4 * MIB), "-l", str(MIB), device)
        with open(device, "rb") as stream:
            content = stream.read(8 * MIB)
        zero = bytes(MIB)
        self.assertEqual([content[i * MIB:(i + 1) * MIB] == zero for i in range(8)],
                         [False, True, True, False, True, False, False, False])
        self.finish(host)

    def test_growth_waits_for_the_next_attach(self):
        host = self.host(size=64 * MIB)
        host.start()
        answer = host.tool.ask(f"grow {96 * MIB}")
        self.assertIn("HF2008 missing_feature", answer)
        self.assertIn("detach the volume and attach it again", answer)
        host.kill()
        host.size = 96 * MIB
        host.start()  # adopted with the old size, and served
        self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(64 * MIB))
        self.finish(host)
        host.tool.park()
        host.start()
        self.assertEqual(run("blockdev", "--getsize64", host.device).stdout.strip(), str(96 * MIB))
        self.finish(host)

    def test_a_refused_fetch_is_an_error_not_a_wait(self):
        host = self.host(size=64 * MIB)
        began = time.monotonic()
        said = host.start(expect=False, more=["--fault", "ublk.refused_fetch"])
        self.assertIn("the kernel refused its queue", said)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(kernel_objects(), [])
        host.start()  # nothing of it is in the way
        run("dd", "if=/dev/zero", f"of={host.device}", "bs=1M", "count=4", "oflag=direct")
        self.finish(host)

    def test_the_daemon_keeps_its_capabilities(self):
        host = self.host(size=64 * MIB)
        host.start()
        sets = set()
        for task in os.listdir(f"/proc/{host.tool.process.pid}/task"):
            with open(f"/proc/{host.tool.process.pid}/task/{task}/status", encoding="utf-8") as stream:
                sets.add(next(line for line in stream if line.startswith("CapEff")))
        self.assertEqual(len(sets), 1, sets)
        self.assertTrue(int(sets.pop().split()[1], 16) & 1 << 21, "CAP_SYS_ADMIN")
        self.finish(host)

    def test_detach_flushes_what_the_page_cache_has(self):
        host = self.host(size=64 * MIB)
        device = host.start()
        content = os.urandom(8 * MIB)
        with open(device, "r+b") as stream:  # no fsync
            stream.write(content)
            stream.flush()
            # Somebody else has it open, so that no last close flushes.
            keeper = os.open(device, os.O_RDONLY)
        self.addCleanup(os.close, keeper)
        self.finish(host)
        with open(os.path.join(host.folder, "image"), "rb") as stream:
            self.assertEqual(stream.read(8 * MIB), content)

    def test_many_volumes_are_found_by_their_notes(self):
        """Twelve devices of one run directory; each attach after a kill finds its own and takes no other's."""
        host = self.host(size=16 * MIB)
        volumes = [f"0{n:x}000000-0000-4000-8200-000000000000" for n in range(1, 13)]
        for volume in volumes:
            host.start(more=["--volume", volume])
            host.kill()
        notes = os.path.join(host.folder, "ublk")
        numbers = {}
        for volume in volumes:
            with open(os.path.join(notes, volume), encoding="utf-8") as stream:
                numbers[volume] = int(stream.read())
        self.assertEqual(len(set(numbers.values())), len(volumes))
        # One whose note says nothing, one whose note names another's device: found all the same.
        with open(os.path.join(notes, volumes[0]), "w", encoding="utf-8"):
            pass
        with open(os.path.join(notes, volumes[1]), "w", encoding="utf-8") as stream:
            stream.write(str(numbers[volumes[2]]))
        for volume in volumes:
            self.assertEqual(host.start(more=["--volume", volume]), f"/dev/ublkb{numbers[volume]}")
            self.assertEqual(host.tool.ask("detach"), "ok")
            host.tool.park()
        self.assertEqual(os.listdir(notes), [])

    def test_a_device_of_somebody_else_is_left_alone(self):
        """Two run directories with a volume of the same id: neither takes the other's device."""
        one, two = self.host(size=64 * MIB), self.host(size=64 * MIB)
        one.start()
        two.start()
        self.assertNotEqual(one.device, two.device)
        self.assertEqual(two.tool.ask("orphans"), "orphans 0")
        before = [one.device, two.device]
        one.kill()
        two.kill()
        two.start()
        one.start()
        self.assertEqual([one.device, two.device], before)
        one.kill()
        self.assertEqual(two.tool.ask("orphans"), "orphans 0")
        self.assertEqual(two.tool.ask("detach"), "ok")
        self.assertTrue(os.path.exists(one.device))
        one.start()
        self.finish(one)


def kernel_messages():
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout.splitlines()


if __name__ == "__main__":
    subprocess.run(["modprobe", "ublk_drv"], check=True)
    subprocess.run(["mkfs.ext4", "-q", os.environ["MACHINE_DISK0"]], check=True)
    subprocess.run(["mount", os.environ["MACHINE_DISK0"], "/mnt"], check=True)
    tempfile.tempdir = "/mnt"
    export_host.skip_when_the_kernel_loses_ublk()
    pyunit.main()
