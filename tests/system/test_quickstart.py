#!/usr/bin/python3
"""./dev quickstart as a new user meets it: each run, every command that it prints, its end, and what a machine may lack."""
import os
import re
import shutil
import signal
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import SystemTest, run, wait_until  # noqa: E402
from harness.base import BUILD, ROOT, Skip, alive, need_binary, need_device  # noqa: E402

# Lets a program run where io_uring_setup (425 on x86_64) is refused with the errno given, as a container's seccomp does.
WITHOUT_URING = """
import ctypes, os, struct, sys
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2
code = b"".join(struct.pack("HBBI", *row) for row in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050000 | int(sys.argv[1])), (0x06, 0, 0, 0x7fff0000)))
text = ctypes.create_string_buffer(code, len(code))
program = struct.pack("HxxxxxxQ", 4, ctypes.addressof(text))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0):
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Quickstart(SystemTest):
    def setUp(self):
        super().setUp()
        need_binary("holdfastd")
        if os.path.realpath(BUILD) != os.path.join(ROOT, "build"):
            raise Skip("./dev quickstart starts what lies in build/, and this is another build folder")
        self.host = self.make_host()
        self.home = self.path("home")
        self.environment.update(HOLDFAST_QUICKSTART_DIR=self.home, HOLDFAST_QUICKSTART_POOL="2G", HOLDFAST_NO_INSTALL="1")
        self.host.environment = self.environment

    def quickstart(self, *arguments, before=(), **more):
        # A network of its own: the HTTP port of a daemon of the real machine stays its.
        lo = 'ip link set lo up; exec "$@"'
        return self.host.run(["unshare", "-n", "sh", "-c", lo, "sh", *before, os.path.join(ROOT, "dev"), "quickstart", *arguments],
                             merge=True, timeout=240, **more)

    def paste(self, command):
        """Runs a printed command as a user does: in a shell, in the root of the tree."""
        return self.host.run(["unshare", "-n", "bash", "-c", f"ip link set lo up; cd {ROOT} && {command}"], merge=True, timeout=240)

    def printed(self, said):
        """The commands under "things to try", in order."""
        commands = re.findall(r"^  (\S.*?)(?:     #.*)?$", said.partition("things to try:")[2], re.M)
        self.assertEqual(len(commands), 3, said)
        return commands

    def pid(self):
        with open(os.path.join(self.home, "holdfastd.pid"), encoding="ascii") as stream:
            return int(stream.read())

    def must_be_gone(self):
        mounts = [point for point, _, _ in self.host.mounts() if self.home in point or point.startswith("/run/holdfast/")]
        self.assertEqual(mounts, [])
        self.assertEqual(os.listdir(self.host.path("run", "holdfast")), [])
        self.assertNotIn(self.home, run(["losetup", "--list", "--noheadings", "--output", "BACK-FILE"]).stdout)
        shutil.rmtree(self.home)  # as it says: nothing in it is in use

    def end(self):
        if os.path.exists(os.path.join(self.home, "holdfastd.toml")):
            self.quickstart("--stop", check=False)


class NewUser(Quickstart):
    def setUp(self):
        super().setUp()
        need_device("/dev/fuse", "FUSE; modprobe fuse")
        need_device("/dev/loop-control", "loop devices; modprobe loop")
        self.addCleanup(self.end)

    def test_first_run_again_killed_stopped_and_back(self):
        said = self.quickstart().stdout
        hello = os.path.join(self.home, "demo", "hello")
        self.assertEqual(self.host.run(["cat", hello]).stdout, "Written by ./dev quickstart.\n")
        docker, snapshot, kill = self.printed(said)
        self.assertTrue(docker.startswith("docker run --rm -it --volume-driver holdfast "), docker)
        self.paste(snapshot)
        first = self.pid()

        said = self.quickstart().stdout
        self.assertIn(f"runs already, as process {first}", said)
        self.assertEqual(self.pid(), first)
        _, snapshot, kill = self.printed(said)
        self.paste(snapshot)  # what a later run prints works too
        writer = self.host.start(["sh", "-c", f"while :; do date >>{self.home}/demo/log && sync {self.home}/demo/log || exit 9; "
                                              "sleep 0.05; done"], self.path("writer.log"))
        self.assertIn(f"kill -9 {first};", kill)
        self.paste(kill)
        self.assertNotEqual(self.pid(), first)
        before = os.stat(f"/proc/{self.host.pid}/root{self.home}/demo/log").st_size
        wait_until("the writer to go on", lambda: os.stat(f"/proc/{self.host.pid}/root{self.home}/demo/log").st_size > before)
        self.assertIsNone(writer.poll(), "the writer saw an error")
        writer.send_signal(signal.SIGKILL)
        writer.wait()

        self.quickstart("--stop")
        self.assertIn("No node of quickstart is running", self.quickstart("--stop").stdout)
        self.quickstart()
        self.assertEqual(self.host.run(["cat", hello]).stdout, "Written by ./dev quickstart.\n")
        self.quickstart("--stop")
        self.must_be_gone()

    def test_stop_of_a_killed_node_takes_its_volumes_down(self):
        self.quickstart()
        os.kill(self.pid(), signal.SIGKILL)
        wait_until("the daemon to be gone", lambda: not alive(self.pid()))
        self.assertIn("started once more", self.quickstart("--stop").stdout)
        self.must_be_gone()

    def test_stop_refuses_under_a_user(self):
        self.quickstart()
        os.makedirs(self.path("mine"))
        client = [need_binary("holdfast"), "volume"]
        self.host.run([*client, "create", "mine", "--size", "100M"])
        self.host.run([*client, "mount", "mine", self.path("mine")])
        refused = self.quickstart("--stop", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(f"volume mine is in use at {self.path('mine')}", refused.stdout)
        self.assertTrue(alive(self.pid()))
        self.host.run(["cat", os.path.join(self.home, "demo", "hello")])
        self.host.run([*client, "unmount", "mine", self.path("mine"), "--keep-attached"])
        self.quickstart("--stop")
        self.must_be_gone()

    def test_stop_that_cannot_list_the_volumes_stops_nothing(self):
        self.quickstart()
        os.makedirs(self.path("mine"))
        client = [need_binary("holdfast"), "volume"]
        self.host.run([*client, "create", "mine", "--size", "100M"])
        self.host.run([*client, "mount", "mine", self.path("mine")])
        self.host.run([*client, "unmount", "demo"])
        os.unlink(self.host.path("run", "holdfast", "api.sock"))
        pid = self.pid()
        refused = self.quickstart("--stop", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("no daemon answers", refused.stdout)
        self.assertIn(f"cannot be listed (above). Nothing was stopped; kill -9 {pid}", refused.stdout)
        self.assertTrue(alive(pid))
        os.kill(pid, signal.SIGKILL)  # as it says
        wait_until("the daemon to be gone", lambda: not alive(pid))
        self.assertIn(f"volume mine is in use at {self.path('mine')}", self.quickstart("--stop", check=False).stdout)
        self.host.run([*client, "unmount", "mine"])
        self.quickstart("--stop")
        self.must_be_gone()

    def test_a_run_folder_of_its_own(self):
        self.environment["HOLDFAST_QUICKSTART_RUN"] = self.path("r")
        said = self.quickstart().stdout
        create, snapshot, kill = self.printed(said)
        for command in (create, snapshot, kill):
            self.paste(command)
        self.assertEqual(os.listdir(self.host.path("run", "holdfast")), [])
        self.paste(re.search(r"^(\S.*--stop)     ends it", said, re.M).group(1))
        self.assertFalse(os.path.exists(self.path("r")))
        self.must_be_gone()


class Lacking(Quickstart):
    """Each refusal names what lacks and the way out, before anything is built or made."""

    def refused(self, text, **more):
        done = self.quickstart(check=False, **more)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stdout)
        self.assertNotIn("== build", done.stdout)
        self.assertFalse(os.path.exists(self.home))

    def test_not_root(self):
        self.refused("quickstart needs root", before=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])

    def test_io_uring_forbidden(self):
        self.refused("lacks  io_uring: forbidden here", before=["/usr/bin/python3", "-c", WITHOUT_URING, "1"])

    def test_a_kernel_without_io_uring(self):
        self.refused("has none; 5.10 or newer is needed", before=["/usr/bin/python3", "-c", WITHOUT_URING, "38"])

    def without_device(self, name):
        """A /dev without that node, in a namespace of its own."""
        script = (f"mkdir -p {self.path('d')} && mount -t tmpfs none {self.path('d')} && cp -a /dev/null /dev/zero /dev/urandom "
                  f"/dev/fuse /dev/loop-control {self.path('d')}/ && rm {self.path('d')}/{name} && ln -s /proc/self/fd {self.path('d')}/fd && "
                  f"mount --bind {self.path('d')} /dev && exec \"$@\"")
        return ["unshare", "-m", "sh", "-c", script, "sh"]

    def test_no_fuse(self):
        need_device("/dev/loop-control", "loop devices; modprobe loop")
        self.refused("lacks  FUSE: modprobe fuse", before=self.without_device("fuse"))

    def test_no_loop(self):
        need_device("/dev/fuse", "FUSE; modprobe fuse")
        self.refused("lacks  loop devices", before=self.without_device("loop-control"))

    def test_no_right_to_mount(self):
        self.refused("lacks  the right to mount (CAP_SYS_ADMIN)", before=["setpriv", "--bounding-set=-sys_admin"])

    def test_too_little_space(self):
        small = self.path("small")
        os.mkdir(small)
        self.host.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", small])
        self.home = self.environment["HOLDFAST_QUICKSTART_DIR"] = os.path.join(small, "home")
        self.refused("MiB free below " + small + ", 2048 are needed")

    def test_a_folder_that_cannot_be_written(self):
        frozen = self.path("frozen")
        os.mkdir(frozen)
        self.host.run(["mount", "--bind", frozen, frozen])
        self.host.run(["mount", "-o", "remount,bind,ro", frozen])
        self.home = self.environment["HOLDFAST_QUICKSTART_DIR"] = os.path.join(frozen, "home")
        self.refused("lacks  the right to write to " + frozen)

    def test_not_debian(self):
        """Programs as they are, but for Debian's own."""
        programs = self.path("bin")
        os.mkdir(programs)
        for folder in ("/bin", "/sbin", "/usr/bin", "/usr/sbin"):
            for name in os.listdir(folder):
                if not name.startswith(("dpkg", "apt")) and not os.path.lexists(os.path.join(programs, name)):
                    os.symlink(os.path.join(folder, name), os.path.join(programs, name))
        self.refused("this is not Debian (no dpkg-query)", before=["env", f"PATH={programs}"])

    def test_bad_arguments_and_places(self):
        done = self.quickstart("--sotp", check=False)
        self.assertIn("only --stop is known", done.stdout)
        self.environment["HOLDFAST_QUICKSTART_DIR"] = self.path("with blank")
        self.assertIn("may have no blanks", self.quickstart(check=False).stdout)


if __name__ == "__main__":
    pyunit.main()
