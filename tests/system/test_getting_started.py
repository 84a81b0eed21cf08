#!/usr/bin/python3
"""The pages that a new user reads, typed literally: docs/getting-started.md from nothing to a database, and the README."""
import os
import re
import shutil
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import SystemTest  # noqa: E402
from harness.base import BUILD, ROOT, Failed, Skip, need_binary, need_device, need_program  # noqa: E402
from harness.images import RECIPES  # noqa: E402
from harness.page import blocks  # noqa: E402

HOME = "/var/lib/holdfast-quickstart"  # as the pages say; here a folder of the test lies over it
PAGE = "docs/getting-started.md"
NOT_HERE = {"in test_package.py", "in test_cluster_join.py", "not in a test: it has an engine of its own"}


class NewUser(SystemTest):
    def setUp(self):
        super().setUp()
        need_binary("holdfastd")
        need_device("/dev/fuse", "FUSE; modprobe fuse")
        need_device("/dev/loop-control", "loop devices; modprobe loop")
        if os.path.realpath(BUILD) != os.path.join(ROOT, "build"):
            raise Skip("./dev quickstart starts what lies in build/, and this is another build folder")
        RECIPES["pg"].tar()  # its making may take minutes, and is no part of what is timed
        self.host = self.make_host()
        self.own_home()
        self.engine = self.start_engine(self.host)
        self.environment.update(HOLDFAST_NO_INSTALL="1", DOCKER_HOST="unix://" + self.engine.socket,
                                DOCKER_CONFIG=os.path.join(self.engine.folder, "client"))
        self.host.environment = self.environment
        self.addCleanup(self.end)

    def own_home(self):
        if not os.path.isdir(HOME):
            os.mkdir(HOME)
            self.addCleanup(os.rmdir, HOME)
        elif os.listdir(HOME):
            raise Skip(f"{HOME} is in use on this machine")
        os.mkdir(self.path("home"))
        self.host.run(["mount", "--bind", self.path("home"), HOME])

    def end(self):
        self.engine.stop()
        if os.path.exists(self.path("home", "holdfastd.toml")):
            done = self.shell("./dev quickstart --stop", check=False)
            if done.returncode != 0:
                print(done.stdout, flush=True)

    def shell(self, script, **more):
        """Runs a script in the root of the tree. A network of its own: the HTTP port of the machine's daemon stays its."""
        return self.host.run(["unshare", "-n", "bash", "-c", f"ip link set lo up; cd {ROOT}\n{script}"], merge=True, timeout=420, **more)


class GettingStarted(NewUser):
    def type_the_page(self):
        """{line of a block: what it printed}, everything typed into one shell that ends at the first command that fails."""
        script, lines = "set -e -o pipefail\n", []
        for block in blocks(PAGE):
            if block.note:
                self.assertIn(block.note, NOT_HERE, f"{PAGE}:{block.line}: a block may only be left out for a reason that is known")
                continue
            # Each command alone is visible in the output; a folder that is a mount point here cannot be removed, only emptied.
            lines.append(block.line)
            text = block.text.replace(f"rm -r {HOME}\n", f"rm -r {HOME}/*\n")
            script += f"echo '=== {block.line}'\n{text}"
        done = self.shell(script, check=False)
        said = {int(line): text for line, text in re.findall(r"^=== (\d+)\n(.*?)(?=^=== |\Z)", done.stdout, re.M | re.S)}
        if done.returncode != 0:
            raise Failed(f"{PAGE}: the block at line {max(said, default=0)} failed with {done.returncode}:\n{done.stdout[-3000:]}")
        self.assertEqual(sorted(said), lines)
        return said

    def test_from_nothing_to_a_database(self):
        began = time.monotonic()
        said = self.type_the_page()
        took = time.monotonic() - began
        print(f"typed in {took:.0f} s", flush=True)
        self.assertLess(took, 300, "five minutes, as the page says")
        everything = "".join(said.values())
        self.assertRegex(everything, r"health: +healthy")
        self.assertIn("the image postgres is there", everything)
        counts = [line for line in everything.splitlines() if re.fullmatch(r" +1000", line)]
        self.assertEqual(len(counts), 4, "after a new container, on the clone, after the restore, after the kill")
        self.assertNotRegex(everything, r"(?i)error|panic|traceback|warning")
        self.assertEqual([point for point, _, _ in self.host.mounts() if point.startswith((HOME + "/", "/run/holdfast/"))], [])
        self.assertEqual(os.listdir(self.path("home")), [])


class Readme(NewUser):
    def test_the_commands_of_the_readme_and_those_that_quickstart_prints(self):
        typed = [block.text for block in blocks("README.md") if "./dev quickstart" in block.text]
        self.assertEqual(len(typed), 1)
        first = typed[0].splitlines()[0]
        self.assertTrue(first.startswith("./dev quickstart"), first)
        self.engine.docker("import", RECIPES["pg"].tar(), "debian", timeout=300)  # a Debian with bash is all that is asked of it
        said = self.shell(first).stdout
        self.assertNotIn("there is no Docker here yet", said)
        commands = re.findall(r"^  (\S.*?)(?:     #.*)?$", said.partition("things to try:")[2], re.M)
        self.assertEqual(len(commands), 3, said)
        need_program("script", "bsdutils")
        docker = commands[0]
        self.assertTrue(docker.endswith(" debian bash"), docker)
        with open(self.path("typed"), "w", encoding="ascii") as keys:
            keys.write("echo kept >/data/file; df /data; exit\n")
        shown = self.shell(f"script -qec {docker!r} {self.path('screen')} <{self.path('typed')}").stdout
        self.assertIn("/data", shown)
        self.assertIn("kept", self.shell(docker.replace("-it ", "").replace(" bash", " cat /data/file")).stdout)
        for command in commands[1:]:
            self.shell(command)
        self.assertIn("healthy", self.shell("build/bin/holdfast status").stdout)
        stop = re.search(r"^(\S.*--stop)     ends it", said, re.M).group(1)
        self.assertIn("The node has ended", self.shell(stop).stdout)
        self.assertEqual(os.listdir(self.host.path("run", "holdfast")), [])
        shutil.rmtree(self.path("home", "state"))  # nothing in it is in use


if __name__ == "__main__":
    pyunit.main()
