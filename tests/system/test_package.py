#!/usr/bin/python3
"""The Debian package on a clean machine with systemd: installs, starts, survives, upgrades without a lost mount, goes."""
import glob
import json
import os
import re
import shutil
import sys
import tempfile

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import SystemTest, run, wait_until  # noqa: E402
from harness.base import BUILD, ROOT, Skip, need_binary, need_program  # noqa: E402
from harness.machine import Machine  # noqa: E402
from harness.page import blocks  # noqa: E402

HOLDER, DAEMON = "holdfast-holder.service", "holdfastd.service"
DEB = "/build/package/holdfast_test.deb"  # in the machine
CONFIG = "/etc/holdfast/holdfastd.toml"


class Package(SystemTest):
    @classmethod
    def setUpClass(cls):
        need_program("dpkg-buildpackage", "dpkg-dev")
        need_program("dh", "debhelper")
        cls.deb = os.environ.get("HOLDFAST_TEST_DEB")  # one that is built already
        if not cls.deb:
            if os.path.realpath(BUILD) != os.path.join(ROOT, "build"):
                raise Skip("./dev package takes what lies in build/, and this is another build folder")
            folder = tempfile.mkdtemp(prefix="hf-deb-", dir="/var/tmp")
            cls.addClassCleanup(shutil.rmtree, folder)
            run([os.path.join(ROOT, "dev"), "package", "--out", folder], timeout=900, merge=True,
                env={**os.environ, "HOLDFAST_NO_INSTALL": "1"})
            (cls.deb,) = glob.glob(os.path.join(folder, "*.deb"))
        cls.contents = {line.split()[5].lstrip(".") for line in run(["dpkg-deb", "-c", cls.deb]).stdout.splitlines()}

    def boot(self):
        field = run(["dpkg-deb", "-f", self.deb, "Depends"]).stdout
        self.machine = Machine(self.path("m"), self.test_id, [re.split(r"[ (|]", word.strip())[0] for word in field.split(",")])
        self.addCleanup(self.machine.stop)
        # Where the page says that it lies. Nobody is there to answer "do you want to continue?", and there is no network to
        # fetch more than is needed.
        os.makedirs(os.path.join(self.machine.root, "build", "package"))
        shutil.copy(self.deb, os.path.join(self.machine.root, "build", "package", "holdfast_test.deb"))
        with open(os.path.join(self.machine.root, "etc/apt/apt.conf.d/assume-yes"), "w", encoding="ascii") as conf:
            conf.write('APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\nDPkg::Use-Pty "0";\n')
        self.addCleanup(self._show_journal)
        self.machine.boot()

    def _show_journal(self):
        if not self._outcome.success:
            print("\n".join(self.machine.journal(DAEMON).splitlines()[-40:]), flush=True)

    def apt(self, *arguments, **more):
        return self.machine.run(["apt-get", *arguments], timeout=300, merge=True, **more)

    def install_as_the_page_says(self):
        """Installed, with a pool, by what docs/getting-started.md gives a user to type."""
        (block,) = [block for block in blocks("docs/getting-started.md") if block.note == "in test_package.py"]
        said = self.machine.run(["sh", "-e", "-c", "cd /\n" + block.text], timeout=300, merge=True).stdout
        self.assertRegex(said, r"health: +healthy")

    def runs_as_packaged(self):
        machine = self.machine
        wait_until("the daemon to run", lambda: machine.active(DAEMON), seconds=30)
        self.assertTrue(machine.active(HOLDER))
        said = machine.run(["systemd-analyze", "verify", "--man=no", HOLDER, DAEMON], check=False, merge=True).stdout
        self.assertNotIn("holdfast", said)
        json.loads(machine.run(["holdfast", "status", "--json"]).stdout)
        machine.run(["test", "-S", "/run/docker/plugins/holdfast.sock"])

    def check_sandbox(self):
        """What the units promise holds for the processes: how exposed they are, and what the kernel says of them."""
        for unit, most in ((HOLDER, 4.5), (DAEMON, 8.5)):
            said = self.machine.run(["systemd-analyze", "security", "--no-pager", unit], check=False, merge=True).stdout
            self.assertLessEqual(float(re.search(r"exposure level for \S+: ([\d.]+)", said).group(1)), most, said)
            status = self.machine.run(["cat", f"/proc/{self.machine.main_pid(unit)}/status"]).stdout
            self.assertRegex(status, r"NoNewPrivs:\t1")
            self.assertRegex(status, r"Seccomp:\t2")
        holder = self.machine.run(["cat", f"/proc/{self.machine.main_pid(HOLDER)}/status"]).stdout
        self.assertRegex(holder, r"CapBnd:\t0{16}")
        # A mount namespace of its own would keep its mounts from the containers.
        for unit in (HOLDER, DAEMON):
            own = self.machine.run(["readlink", f"/proc/{self.machine.main_pid(unit)}/ns/mnt", "/proc/1/ns/mnt"]).stdout.split()
            self.assertEqual(own[0], own[1], unit)

    def check_files(self):
        for file in ("man1/holdfast.1", "man5/holdfastd.toml.5", "man7/holdfast-volume-spec.7", "man8/holdfastd.8",
                     "man8/holdfast-holder.8", "man8/holdfast-pool.8", "man1/dvdcli.1"):
            self.assertIn(f"/usr/share/man/{file}.gz", self.contents)
        for file in ("bash-completion/completions/holdfast", "zsh/vendor-completions/_holdfast",
                     "fish/vendor_completions.d/holdfast.fish", "doc/holdfast/copyright", "doc/holdfast/troubleshooting.md"):
            self.assertIn(f"/usr/share/{file}", self.contents)

    def test_lintian(self):
        lintian = need_program("lintian", "lintian")
        said = run([lintian, "--fail-on", "error,warning", "--allow-root", self.deb], check=False, merge=True)
        self.assertEqual(said.returncode, 0, said.stdout)

    def test_life_of_an_installation(self):
        need_binary("holdfastd")
        self.boot()
        machine = self.machine
        self.install_as_the_page_says()
        self.runs_as_packaged()
        self.check_sandbox()
        self.check_files()
        self.holder_is_not_stopped_by_hand()

        machine.run(["mkdir", "/mnt/v"])
        machine.run(["holdfast", "volume", "create", "v", "--size", "200M"])
        # Within two seconds of a holder's death the daemon looks for the new one; until then it says "try again".
        wait_until("the volume to be mounted by the new holder",
                   lambda: machine.run(["holdfast", "volume", "mount", "v", "/mnt/v"], check=False).returncode == 0, seconds=5, every=0.5)
        self.start_writer()
        self.kill_and_upgrade_under_the_writer()
        self.remove_is_refused()
        self.assertEqual(machine.run(["systemctl", "stop", "writer"], check=False).returncode, 0)

        machine.run(["holdfast", "volume", "unmount", "v", "/mnt/v", "--keep-attached"])
        self.remove_without_a_daemon()
        wait_until("both to be gone", lambda: machine.run(["pgrep", "holdfast"], check=False).returncode == 1, seconds=20)
        self.nothing_is_left_but_data()

        # Installed again, it finds its volumes; and a power-off with one mounted does not hang.
        self.apt("install", DEB)
        self.runs_as_packaged()
        machine.run(["holdfast", "volume", "mount", "v", "/mnt/v"])
        self.assertGreater(self.written(), 0)
        machine.run(["sh", "-c", "dd if=/dev/zero of=/mnt/v/dirty bs=1M count=20 status=none"])
        self.assertLess(machine.power_off(), 60)

    def holder_is_not_stopped_by_hand(self):
        machine = self.machine
        pid = machine.main_pid(HOLDER)
        refused = machine.run(["systemctl", "stop", HOLDER], check=False, merge=True)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("refused", refused.stdout)
        machine.run(["kill", "-9", str(pid)])  # it holds nothing yet
        # The daemon finds it by itself: what is attached below survives a kill of the daemon.
        wait_until("the holder to be started again", lambda: machine.main_pid(HOLDER) not in (0, pid), seconds=20)

    def start_writer(self):
        """A user of the volume, in a unit of its own: it appends and syncs, and ends at the first error."""
        self.machine.run(["systemd-run", "--unit=writer", "sh", "-c",
                          "while echo line >>/mnt/v/file && sync /mnt/v/file; do sleep 0.05; done; exit 9"])
        wait_until("the writer to write", lambda: self.written() > 3)

    def written(self):
        return len(self.machine.run(["cat", "/mnt/v/file"], timeout=60, check=False).stdout.splitlines())

    def kill_and_upgrade_under_the_writer(self):
        machine = self.machine
        holder, daemon = machine.main_pid(HOLDER), machine.main_pid(DAEMON)
        machine.run(["kill", "-9", str(daemon)])
        wait_until("the daemon to be started again", lambda: machine.main_pid(DAEMON) not in (0, daemon) and machine.active(DAEMON),
                   seconds=30)
        daemon = machine.main_pid(DAEMON)
        self.apt("install", "--reinstall", DEB)
        wait_until("the daemon to be back after the upgrade", lambda: machine.active(DAEMON), seconds=30)
        self.assertNotEqual(machine.main_pid(DAEMON), daemon, "the upgrade left the old daemon running")
        self.assertEqual(machine.main_pid(HOLDER), holder, "the upgrade restarted the holder")
        before = self.written()
        wait_until("the writer to go on after the upgrade", lambda: self.written() > before)
        self.assertTrue(machine.active("writer"), "the writer saw an error")

    def remove_is_refused(self):
        refused = self.apt("remove", "holdfast", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("volumes are still mounted", refused.stdout)
        self.assertTrue(self.machine.active(DAEMON))

    def remove_without_a_daemon(self):
        """A daemon that cannot start: refused while the holder keeps a volume for it, and not longer than that."""
        machine = self.machine
        holder = machine.main_pid(HOLDER)
        refused = self.apt("remove", "holdfast", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("volumes are still attached; detach them first", refused.stdout)
        self.break_the_daemon()
        refused = self.apt("remove", "holdfast", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("holdfastd does not answer, and volumes are attached that need it", refused.stdout)
        self.assertEqual(machine.main_pid(HOLDER), holder, "the refused removal ended the holder")
        machine.run(["rm", CONFIG])
        machine.run(["systemctl", "start", DAEMON])
        machine.run(["holdfast", "volume", "detach", "v"])
        self.break_the_daemon()
        self.apt("purge", "holdfast")

    def break_the_daemon(self):
        self.machine.run(["sh", "-c", f"echo 'bogus = 1' >{CONFIG}"])
        self.machine.run(["systemctl", "stop", DAEMON])

    def nothing_is_left_but_data(self):
        self.machine.run(["test", "-e", "/var/lib/holdfast/pool"])
        left = self.machine.run(["find", "/", "-xdev", "-name", "*holdfast*", "-not", "-path", "/var/lib/holdfast*", "-not", "-path", DEB]).stdout.split()
        self.assertEqual(left, [])
        self.machine.run(["test", "!", "-e", "/run/holdfast"])


if __name__ == "__main__":
    pyunit.main()
