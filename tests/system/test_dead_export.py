#!/usr/bin/python3
"""Daemon and holder both killed with a container's volume mounted: its I/O fails, and the node heals at the next start."""
import os
import signal
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.base import alive  # noqa: E402
from harness.node import NodeTest  # noqa: E402


class DeadExport(NodeTest):
    config = ('export = "fuse"',)

    def test_daemon_and_holder_killed(self):
        self.start_holder_of("name=both,size=512M", "c1")
        self.docker("exec", "c1", "sh", "-c", "echo synced > /data/f; sync /data/f")
        holder = self.daemon.holder_pid()
        self.daemon.kill9()
        os.kill(holder, signal.SIGKILL)
        wait_until("the holder to be gone", lambda: not alive(holder), seconds=20)
        began = time.monotonic()
        self.daemon.start()
        print(f"started in {time.monotonic() - began:.2f} s", flush=True)
        self.assertLess(time.monotonic() - began, 60, "it waited for the dead one")
        # The old mount is dead, and says so; a new container has the volume, with what was synced.
        self.assertNotEqual(self.docker("exec", "c1", "sh", "-c", "echo more >> /data/f && sync /data/f", check=False).returncode, 0)
        self.docker("rm", "-f", "c1", timeout=120)
        wait_until("the dead mount to be given up", lambda: self.detached("both"), seconds=60, every=1)
        self.assertEqual(self.in_volume("name=both,size=512M", "cat /data/f"), "synced\n")
        wait_until("the volume to be detached", lambda: not self.daemon.attached("both"))


if __name__ == "__main__":
    pyunit.main()
