#!/usr/bin/python3
"""The calls of Mesos' docker/volume isolator, by the program that it runs, against a real daemon and real mounts."""
import json
import os
import signal
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import Holdfastd, SystemTest  # noqa: E402
from harness.base import ROOT  # noqa: E402

BAD, MISSING, DIFFERS, NOT_SUPPORTED = 2, 3, 4, 5


class Dvdcli(SystemTest):
    def setUp(self):
        super().setUp()
        self.host = self.make_host()
        self.daemon = Holdfastd(self.host)
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool("2G")
        self.program = os.path.join(os.path.dirname(self.daemon.client), "dvdcli")

    def command(self, verb, name, *options, driver="holdfast"):
        return [self.program, verb, f"--volumedriver={driver}", f"--volumename={name}", *(f"--volumeopts={option}" for option in options)]

    def mount(self, name, *options):
        """The mount point, as the agent reads it: the whole of standard output, without the end of the line."""
        done = self.host.run(self.command("mount", name, *options))
        self.assertEqual(done.stderr, "")
        self.assertRegex(done.stdout, r"\A/[^\n]+\n\Z")
        return done.stdout.strip()

    def unmount(self, name):
        done = self.host.run(self.command("unmount", name))
        self.assertEqual((done.stdout, done.stderr), ("", ""))

    def refused(self, code, *words, command):
        done = self.host.run(command, check=False)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertTrue(done.stderr.startswith("dvdcli: HF"), done.stderr)
        for word in words:
            self.assertIn(word, done.stderr)

    def write(self, point, text):
        self.host.run(["sh", "-c", 'echo "$2" > "$1/f" && sync "$1/f"', "sh", point, text])

    def read(self, point):
        return self.host.run(["cat", f"{point}/f"]).stdout.strip()

    def test_a_volume_of_its_options(self):
        point = self.mount("pg", "size=320M", "fs=xfs", "labels=team=core")
        volume = self.daemon.json("volume", "inspect", "pg")
        self.assertEqual((volume["size_bytes"], volume["spec"]["fs"], volume["spec"]["labels"]), (320 << 20, "xfs", "team=core"))
        self.write(point, "first")
        # A second container of the agent; the name alone takes it as it is.
        self.assertEqual(self.mount("pg", "size=320M", "fs=xfs", "labels=team=core"), point)
        self.assertEqual(self.mount("pg"), point)
        self.refused(DIFFERS, "fs", command=self.command("mount", "pg", "size=320M", "fs=ext4", "labels=team=core"))
        self.assertEqual(self.read(point), "first")
        self.unmount("pg")
        self.assertFalse(self.daemon.attached("pg"))
        self.unmount("pg")
        self.assertEqual(self.read(self.mount("pg")), "first")
        self.daemon.holdfast("volume", "delete", "pg", "--yes", check=False)
        self.unmount("pg")
        self.daemon.holdfast("volume", "delete", "pg", "--yes")
        self.unmount("pg")

    def test_an_inline_spec(self):
        spec = "size=128M,name=inline"
        point = self.mount(spec)
        self.write(point, "inline")
        self.assertEqual(self.mount(spec), point)
        self.refused(DIFFERS, "size", command=self.command("mount", "size=64M,name=inline"))
        self.unmount(spec)
        self.assertFalse(self.daemon.attached("inline"))
        self.assertEqual(self.read(self.mount("inline")), "inline")
        self.unmount("inline")

    def test_what_is_refused(self):
        self.refused(BAD, "holdfast", "rexray", command=self.command("mount", "x", driver="rexray"))
        self.refused(BAD, "overwritefs", command=self.command("mount", "x", "overwritefs=true"))
        self.refused(BAD, "size", command=self.command("mount", "x", "size"))
        self.refused(BAD, "--volumename", command=[self.program, "mount", "--volumedriver=holdfast"])
        self.refused(MISSING, "none", command=[*self.command("mount", "none"), "--explicitcreate=true"])
        self.refused(BAD, command=self.command("mount", "../../etc"))
        self.assertEqual(self.daemon.volumes(), {})
        gone = self.command("mount", "x")
        done = self.host.run(["env", "HOLDFAST_SOCKET=/run/holdfast/none.sock", *gone], check=False)
        self.assertEqual((done.returncode, done.stdout), (31, ""))
        self.assertIn("/run/holdfast/none.sock", done.stderr)

    def test_the_examples(self):
        """Their options are keys of a spec; three replicas are more than one node has."""
        with open(os.path.join(ROOT, "deploy", "mesos", "container.json"), encoding="utf-8") as stream:
            volume = json.load(stream)["volumes"][0]["source"]["docker_volume"]
        options = [f"{one['key']}={one['value']}" for one in volume["driver_options"]["parameter"]]
        self.refused(NOT_SUPPORTED, "repl=3", command=self.command("mount", volume["name"], *options, driver=volume["driver"]))
        with open(os.path.join(ROOT, "deploy", "marathon", "postgres-external.json"), encoding="utf-8") as stream:
            volume = json.load(stream)["container"]["volumes"][0]["external"]
        options = [f"{key.partition('/')[2]}={value}" for key, value in volume["options"].items() if key != "dvdi/driver"]
        command = self.command("mount", volume["name"], f"size={volume['size']}", *options, driver=volume["options"]["dvdi/driver"])
        self.refused(NOT_SUPPORTED, "repl=3", command=command)
        with open(os.path.join(ROOT, "deploy", "marathon", "postgres-docker.json"), encoding="utf-8") as stream:
            given = {one["key"]: one["value"] for one in json.load(stream)["container"]["docker"]["parameters"]}
        spec = given["volume"].partition(":")[0]
        self.refused(NOT_SUPPORTED, "repl=3", command=self.command("mount", spec, driver=given["volume-driver"]))

    def test_at_once_and_killed_in_the_middle(self):
        spec = ("size=128M",)
        for number in range(6):
            started = self.host.start(self.command("mount", "busy", *spec), self.path(f"k{number}.log"))
            if number % 2 == 0:
                started.send_signal(signal.SIGKILL)
            started.wait(60)
        many = [subprocess.Popen(self.host.enter(self.command("mount", "busy", *spec)), env=self.environment, stdout=subprocess.PIPE, text=True)
                for _ in range(8)]
        points = {one.communicate(timeout=90)[0] for one in many}
        self.assertEqual([one.returncode for one in many], [0] * 8)
        self.assertEqual(len(points), 1)
        self.write(points.pop().strip(), "busy")
        # The daemon dies with it mounted; the agent asks again.
        self.daemon.kill9()
        self.daemon.start()
        self.assertEqual(self.read(self.mount("busy", *spec)), "busy")
        self.unmount("busy")
        self.assertFalse(self.daemon.attached("busy"))


if __name__ == "__main__":
    pyunit.main()
