#!/usr/bin/python3
"""The Debian package on a clean machine with systemd: installs, starts, survives, upgrades without a lost mount, goes."""
import glob
import json
import os
import re
import shutil
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import SystemTest, run, wait_until  # noqa: E402
from harness.base import ROOT, need_binary, need_program  # noqa: E402
from harness.machine import Machine  # noqa: E402

HOLDER, DAEMON = "holdfast-holder.service", "holdfastd.service"


class Package(SystemTest):
    def setUp(self):
        super().setUp()
        need_program("dpkg-buildpackage", "dpkg-dev")
        need_program("dh", "debhelper")
        self.deb = os.environ.get("HOLDFAST_TEST_DEB")  # one that is built already
        if not self.deb:
            run([os.path.join(ROOT, "dev"), "package", "--out", self.path("deb")], timeout=1500, merge=True)
            (self.deb,) = glob.glob(self.path("deb", "*.deb"))
        field = run(["dpkg-deb", "-f", self.deb, "Depends"]).stdout
        depends = [re.split(r"[ (|]", word.strip())[0] for word in field.split(",")]
        self.machine = Machine(self.path("m"), self.test_id, [*depends, "fuse3"])
        self.addCleanup(self.machine.stop)
        shutil.copy(self.deb, os.path.join(self.machine.root, "var", "tmp", "holdfast.deb"))
        self.addCleanup(self._show_journal)
        self.machine.boot()

    def _show_journal(self):
        if not self._outcome.success:
            print("\n".join(self.machine.journal(DAEMON).splitlines()[-40:]), flush=True)

    def apt(self, *arguments, **more):
        return self.machine.run(["apt-get", "-o", "DPkg::Use-Pty=0", "-y", "--no-install-recommends", *arguments], timeout=300,
                                merge=True, **more)

    def install(self):
        self.apt("install", "/var/tmp/holdfast.deb", "fuse3")

    def test_holder_unit(self):
        machine = self.machine
        self.install()
        wait_until("the holder to run", lambda: machine.active(HOLDER), seconds=20)
        said = machine.run(["systemd-analyze", "verify", "--man=no", HOLDER], check=False, merge=True).stdout
        self.assertNotIn("holdfast", said)
        pid = machine.main_pid(HOLDER)
        refused = machine.run(["systemctl", "stop", HOLDER], check=False, merge=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("refused", refused.stdout)
        self.apt("install", "--reinstall", "/var/tmp/holdfast.deb")
        self.assertEqual(machine.main_pid(HOLDER), pid, "an upgrade restarted the holder")
        machine.run(["kill", "-9", str(pid)])
        wait_until("the holder to be started again", lambda: machine.main_pid(HOLDER) not in (0, pid), seconds=20)

    def test_daemon_from_installation_to_purge(self):
        need_binary("holdfastd")
        machine = self.machine
        self.install()
        wait_until("the daemon to run", lambda: machine.active(DAEMON), seconds=30)
        self.assertTrue(machine.active(HOLDER))
        said = machine.run(["systemd-analyze", "verify", "--man=no", HOLDER, DAEMON], check=False, merge=True).stdout
        self.assertNotIn("holdfast", said)
        json.loads(machine.run(["holdfast", "status", "--json"]).stdout)
        machine.run(["test", "-S", "/run/docker/plugins/holdfast.sock"])

        # A volume with a file in it, through a kill and an upgrade.
        machine.run(["holdfast", "pool", "add", "/var/lib/holdfast/pool", "--size", "2G"])
        machine.run(["holdfast", "volume", "create", "v", "--size", "200M"])
        machine.run(["mkdir", "/mnt/v"])
        machine.run(["holdfast", "volume", "mount", "v", "/mnt/v"])
        machine.run(["sh", "-c", "echo kept > /mnt/v/file; sync /mnt/v/file"])
        holder, daemon = machine.main_pid(HOLDER), machine.main_pid(DAEMON)
        machine.run(["kill", "-9", str(daemon)])
        wait_until("the daemon to be started again", lambda: machine.main_pid(DAEMON) not in (0, daemon) and machine.active(DAEMON),
                   seconds=30)
        machine.run(["sh", "-c", "echo more >> /mnt/v/file; sync /mnt/v/file"], timeout=60)
        self.apt("install", "--reinstall", "/var/tmp/holdfast.deb")
        wait_until("the daemon to be back after the upgrade", lambda: machine.active(DAEMON), seconds=30)
        self.assertEqual(machine.main_pid(HOLDER), holder, "the upgrade restarted the holder")
        machine.run(["sh", "-c", "echo 3 > /proc/sys/vm/drop_caches"])
        self.assertEqual(machine.run(["cat", "/mnt/v/file"], timeout=60).stdout, "kept\nmore\n")

        refused = self.apt("remove", "holdfast", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("volumes are still mounted", refused.stdout)
        self.assertTrue(machine.active(DAEMON))

        machine.run(["holdfast", "volume", "unmount", "v", "/mnt/v"])
        machine.run(["holdfast", "volume", "detach", "v"], check=False)
        self.apt("purge", "holdfast")
        wait_until("both to be gone", lambda: machine.run(["pgrep", "holdfast"], check=False).returncode == 1, seconds=20)
        machine.run(["test", "-e", "/var/lib/holdfast/pool"])
        machine.run(["test", "!", "-e", "/etc/holdfast"])

    def test_power_off_with_a_mounted_volume(self):
        need_binary("holdfastd")
        machine = self.machine
        self.install()
        wait_until("the daemon to run", lambda: machine.active(DAEMON), seconds=30)
        machine.run(["holdfast", "pool", "add", "/var/lib/holdfast/pool", "--size", "2G"])
        machine.run(["holdfast", "volume", "create", "v", "--size", "200M"])
        machine.run(["mkdir", "/mnt/v"])
        machine.run(["holdfast", "volume", "mount", "v", "/mnt/v"])
        machine.run(["sh", "-c", "dd if=/dev/zero of=/mnt/v/dirty bs=1M count=20 status=none"])
        self.assertLess(machine.power_off(), 60)


if __name__ == "__main__":
    pyunit.main()
