#!/usr/bin/python3
"""Volumes as a user of Docker meets them: a real engine, the real daemon, files that must be there afterwards."""
import json
import os
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.node import NodeTest  # noqa: E402


class Inline(NodeTest):
    """The spec is in the launch command; there is no step before it."""

    def test_made_on_first_use_and_kept(self):
        self.in_volume("size=1G,fs=ext4,name=first", "echo kept > /data/f")
        self.assertEqual(self.in_volume("size=1G,fs=ext4,name=first", "cat /data/f"), "kept\n")
        self.assertEqual(self.in_volume("first", "cat /data/f"), "kept\n", "the plain name is the same volume")
        volume = self.daemon.volumes()["first"]
        self.assertEqual(int(volume["size_bytes"]), 1 << 30)
        self.assertEqual(volume["spec"]["fs"], "ext4")

    def test_size_and_file_system_are_those_of_the_spec(self):
        for fs, size in (("ext4", 512), ("xfs", 600), ("btrfs", 512)):
            said = self.in_volume(f"name=v-{fs},size={size}M,fs={fs}",
                                  "grep ' /data ' /proc/mounts; df -m /data | tail -1 | awk '{print $2}'")
            mounted, blocks = said.splitlines()
            self.assertIn(f" /data {fs} ", mounted)
            self.assertTrue(0.75 * size < int(blocks) <= size, said)

    def test_a_new_volume_is_empty_so_that_it_takes_the_files_of_the_image(self):
        """Docker copies what an image has at the mount point into an empty volume only; databases want an empty one too."""
        for fs in ("ext4", "xfs"):
            self.assertEqual(self.in_volume(f"name=e-{fs},size=512M,fs={fs}", "ls -A /data"), "")
            said = self.docker("run", "--rm", "--network=none", "--volume-driver=holdfast", "-v", f"name=i-{fs},size=512M,fs={fs}:/etc", "bb",
                               "sh", "-c", "grep ' /etc ' /proc/mounts; cat /etc/passwd").stdout
            self.assertIn(f" /etc {fs} ", said)
            self.assertIn("root:x:0:0:", said)

    def test_a_refused_spec_shows_the_key_and_what_is_accepted(self):
        cases = {"name=x,size=lots": ("size", "lots"), "name=x,fs=ntfs": ("fs", "ntfs", "ext4"), "name=x,colour=red": ("colour",),
                 "name=x,size=1G,size=2G": ("size",), "size=1G": ("name",), "name=x,repl=7": ("repl", "7"),
                 "name=x,repl=3": ("repl", "not yet supported")}
        for spec, words in cases.items():
            said = self.refused("run", "--rm", "--network=none", "--volume-driver=holdfast", "-v", f"{spec}:/data", "bb", "true")
            for word in words:
                self.assertIn(word, said, spec)
        self.assertEqual(self.daemon.volumes(), {}, "a refused spec made something")

    def test_another_spec_for_an_existing_name_shows_the_difference(self):
        self.in_volume("name=one,size=1G", "true")
        said = self.refused("run", "--rm", "--network=none", "--volume-driver=holdfast", "-v", "name=one,size=2G:/data", "bb", "true")
        self.assertRegex(said, r"size.*1.*2")


class Commands(NodeTest):
    def test_create_list_inspect_remove(self):
        self.assertEqual(self.docker("volume", "create", "-d", "holdfast", "-o", "size=2G", "-o", "fs=xfs", "pg").stdout, "pg\n")
        self.assertRegex(self.docker("volume", "ls").stdout, r"holdfast +pg\n")
        self.start_holder_of("pg", "c1")
        (shown,) = json.loads(self.docker("volume", "inspect", "pg").stdout)
        self.docker("rm", "-f", "c1")
        self.assertEqual(shown["Driver"], "holdfast")
        print(shown["Status"], flush=True)
        text = json.dumps(shown["Status"]).lower()
        for word in ("size", "used", "replicas", "attached", "host", "/dev/"):  # "host": the node's name here
            self.assertIn(word, text)
        self.assertEqual(self.docker("volume", "create", "-d", "holdfast", "-o", "size=2G", "-o", "fs=xfs", "pg").stdout, "pg\n")
        self.docker("volume", "rm", "pg")
        self.assertNotIn("pg", self.daemon.volumes())
        self.docker("volume", "rm", "-f", "pg")

    def test_removal_of_a_volume_in_use_is_refused(self):
        self.start_holder_of("name=busy,size=1G", "c1")
        self.assertIn("in use", self.refused("volume", "rm", "name=busy,size=1G"))
        refused = self.daemon.holdfast("volume", "delete", "busy", "--yes", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.docker("rm", "-f", "c1")

    def test_unused_volume_is_detached(self):
        self.in_volume("name=idle,size=1G", "true")
        wait_until("the volume to be detached", lambda: not self.daemon.attached("idle"))
        self.assertEqual(self.volume_mounts(), [])


class Counting(NodeTest):
    def test_two_containers_share_a_volume(self):
        self.start_holder_of("name=shared,size=1G", "c1")
        self.start_holder_of("name=shared,size=1G", "c2")
        self.docker("exec", "c1", "sh", "-c", "echo from-c1 > /data/f")
        self.assertEqual(self.docker("exec", "c2", "cat", "/data/f").stdout, "from-c1\n")
        self.docker("rm", "-f", "c1")
        self.assertEqual(self.docker("exec", "c2", "cat", "/data/f").stdout, "from-c1\n")
        self.assertTrue(self.daemon.attached("shared"))
        self.docker("rm", "-f", "c2")
        wait_until("the volume to be detached", lambda: not self.daemon.attached("shared"))

    def test_copying_out_of_a_running_container_keeps_its_mount(self):
        self.start_holder_of("name=cp,size=1G", "c1")
        self.docker("exec", "c1", "sh", "-c", "echo x > /data/f")
        self.docker("cp", "c1:/data/f", self.path("copied"))
        self.docker("exec", "c1", "sh", "-c", "echo y >> /data/f")
        self.assertTrue(self.daemon.attached("cp"))
        self.docker("rm", "-f", "c1")

    def test_stop_start_restart_kill(self):
        self.start_holder_of("name=life,size=1G", "c1")
        self.docker("exec", "c1", "sh", "-c", "echo 1 > /data/f")
        self.docker("stop", "-t", "5", "c1")
        wait_until("the volume to be detached", lambda: not self.daemon.attached("life"))
        self.docker("start", "c1")
        self.docker("restart", "-t", "5", "c1")
        self.docker("kill", "c1")
        self.docker("start", "c1")
        self.assertEqual(self.docker("exec", "c1", "cat", "/data/f").stdout, "1\n")
        self.docker("rm", "-f", "c1")
        wait_until("the volume to be detached", lambda: not self.daemon.attached("life"))


class EngineDeath(NodeTest):
    def test_kill9_of_the_engine(self):
        self.start_holder_of("name=v,size=1G", "c1")
        self.docker("exec", "c1", "sh", "-c", "echo before > /data/f; sync /data/f")
        self.engine.kill9()
        self.engine.start()
        self.assertEqual(self.in_volume("name=v,size=1G", "cat /data/f"), "before\n")
        self.docker("start", "c1")
        self.assertEqual(self.docker("exec", "c1", "cat", "/data/f").stdout, "before\n")
        self.docker("rm", "-f", "c1")
        # The mount of the dead engine was never given back; nothing uses it, so it holds nothing up.
        wait_until("the volume to be detached", lambda: self.detached("v"), seconds=60, every=1)


class Writer:
    """Appends a line a moment inside a container and syncs each; knows the longest pause and the errors."""

    def __init__(self, test, container):
        self._test, self._container = test, container
        self.lines, self.errors, self.longest = 0, [], 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            began = time.monotonic()
            done = self._test.docker("exec", self._container, "sh", "-c", f"echo {self.lines} >> /data/log && sync /data/log",
                                     check=False, timeout=120)
            self.longest = max(self.longest, time.monotonic() - began)
            if done.returncode:
                self.errors.append(done.stderr)
            else:
                self.lines += 1

    def wait_lines(self, more, seconds=60):
        goal = self.lines + more
        wait_until(f"{more} further lines", lambda: self.lines >= goal or self.errors, seconds=seconds)

    def stop(self):
        self._stop.set()
        self._thread.join(130)


class DaemonDeath(NodeTest):
    """A container sees a pause, never an error."""

    def hold_on(self, volume, disturb, rounds=3):
        self.start_holder_of(volume, "c1")
        writer = Writer(self, "c1")
        for _ in range(rounds):
            writer.wait_lines(5)
            disturb()
        writer.wait_lines(5)
        writer.stop()
        self.assertEqual(writer.errors, [])
        expected = "".join(f"{n}\n" for n in range(writer.lines))
        self.assertEqual(self.docker("exec", "c1", "cat", "/data/log").stdout, expected)
        self.docker("rm", "-f", "c1")
        self.assertEqual(self.in_volume(volume, "cat /data/log"), expected, "read back from the media")
        print(f"longest pause {writer.longest:.2f} s over {rounds} rounds", flush=True)

    def test_kill9(self):
        def disturb():
            self.daemon.kill9()
            time.sleep(0.5)
            self.daemon.start()
        self.hold_on("name=k9,size=1G", disturb)

    def test_stop_and_start(self):
        self.hold_on("name=soft,size=1G", self.daemon.restart)

    def test_volumes_can_be_used_after_the_daemon_was_away_when_the_container_ended(self):
        self.start_holder_of("name=away,size=1G", "c1")
        self.daemon.kill9()
        # Docker gives up on the plugin and still ends the container; the daemon finds the mount unused afterwards.
        self.docker("kill", "c1", timeout=120)
        self.daemon.start()
        self.docker("rm", "-f", "c1", timeout=120)
        self.assertEqual(self.in_volume("name=away,size=1G", "echo again > /data/f; cat /data/f"), "again\n")
        wait_until("the volume to be detached", lambda: self.detached("away"), seconds=60, every=1)


class Stale(NodeTest):
    """A container that ends while nobody can tell the daemon: found by itself, and never taken for one that runs."""

    config = ("docker_grace_s = 10",)

    def test_a_container_that_ended_while_the_daemon_was_away(self):
        for name in ("gone", "stays"):
            self.start_holder_of(f"name={name},size=1G", name)
            self.docker("exec", name, "sh", "-c", f"echo {name} > /data/f; sync /data/f")
        self.daemon.kill9()
        self.docker("kill", "gone", timeout=120)
        self.daemon.start()
        wait_until("the volume of the dead container to be detached", lambda: not self.daemon.attached("gone"), seconds=60, every=1)
        time.sleep(12)  # a further pass of the reconciler
        self.assertTrue(self.daemon.attached("stays"))
        self.assertEqual(self.docker("exec", "stays", "sh", "-c", "echo more >> /data/f; cat /data/f").stdout, "stays\nmore\n")
        self.docker("rm", "-f", "gone", "stays", timeout=120)
        wait_until("the other to be detached", lambda: not self.daemon.attached("stays"), seconds=60, every=1)
        self.assertEqual(self.in_volume("gone", "cat /data/f"), "gone\n")


class StaleConfined(Stale):
    """The same by a daemon that has no more capabilities than its unit grants, fewer than the containers that it looks at."""

    confined = True

    def setUp(self):
        super().setUp()
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as stream:
            effective = int(next(line for line in stream if line.startswith("CapEff")).split()[1], 16)
        self.assertFalse(effective >> 7 & 1, "CAP_SETUID")


if __name__ == "__main__":
    pyunit.main()
