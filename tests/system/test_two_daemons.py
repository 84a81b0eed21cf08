#!/usr/bin/python3
"""Two daemons, one pool: the second is refused in every way that it could come about, and touches nothing."""
import json
import os
import shutil
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import Holdfastd, SystemTest, run, wait_until  # noqa: E402
from harness.base import need_binary  # noqa: E402


class TwoDaemons(SystemTest):
    def setUp(self):
        super().setUp()
        self.first = self.daemon("first")
        self.first.start()

    def daemon(self, name):
        daemon = Holdfastd(self.make_host(name))
        self.addCleanup(daemon.dispose)
        return daemon

    def copy_of(self, daemon, name):
        """A second machine from the image of the first, or a restored backup: the same state, the same identity."""
        daemon.stop()
        twin = self.daemon(name)
        shutil.rmtree(twin.state_dir)
        shutil.copytree(daemon.state_dir, twin.state_dir)
        daemon.start()
        wait_until("the first daemon to have its pool", lambda: daemon.json("status")["healthy"])
        return twin

    def loops_below(self, folder):
        return [line for line in run(["losetup", "-l", "-n", "-O", "NAME,BACK-FILE"]).stdout.splitlines() if folder in line]

    def pool_mounts(self, daemon):
        return [point for point, _, _ in daemon.host.mounts() if point.startswith("/run/holdfast/pools/")]

    def check_second(self, twin, word):
        """It runs, and says that the pool is another's; the first goes on as if nothing were there."""
        twin.start()
        wait_until("the second daemon to tell", lambda: word in " ".join(twin.json("status").get("problems", [])), seconds=60, every=1)
        self.assertFalse(twin.json("status")["healthy"])
        self.assertEqual(self.pool_mounts(twin), [], "the second daemon mounted the pool")
        refused = twin.holdfast("volume", "create", "mine", "--size", "64M", "--json", check=False)
        self.assertNotEqual(refused.returncode, 0, refused.stdout)
        self.assertTrue(self.first.json("status")["healthy"])
        self.first.holdfast("volume", "create", "still", "--size", "64M")
        self.first.holdfast("volume", "delete", "still", "--yes")

    def test_copied_state(self):
        self.first.add_pool("1G")
        twin = self.copy_of(self.first, "twin")
        loops = self.loops_below(self.first.host.folder)
        self.check_second(twin, "in use by another process")
        self.assertEqual(self.loops_below(self.first.host.folder), loops)
        # When the first ends, the second takes over by itself.
        self.first.stop()
        self.first.close_pools()
        wait_until("the second to take the pool over", lambda: twin.json("status")["healthy"], seconds=90, every=1)
        twin.stop()
        twin.close_pools()

    def test_copied_state_of_a_device(self):
        image = self.first.host.path("device.img")
        with open(image, "wb") as stream:
            stream.truncate(1 << 30)
        device = run(["losetup", "-f", "--show", image]).stdout.strip()
        self.first.holdfast("pool", "add", device, timeout=120)
        twin = self.copy_of(self.first, "twin")
        self.check_second(twin, "in use by another process")

    def test_another_path(self):
        """Through a bind mount nothing but the lock tells that it is the same directory."""
        self.first.add_pool("1G")
        self.first.holdfast("volume", "create", "v", "--size", "64M")
        stranger = self.daemon("stranger")
        stranger.start()
        alias = stranger.host.path("alias")
        os.makedirs(alias)
        stranger.host.run(["mount", "--bind", self.first.pool_dir, alias])
        loops = self.loops_below(self.first.host.folder)
        for command in ([need_binary("holdfast-pool"), "verify", alias, "--json"], [stranger.client, "pool", "add", alias, "--json"]):
            done = stranger.host.run(command, check=False)
            self.assertNotEqual(done.returncode, 0, done.stdout)
            self.assertIn(json.loads(done.stderr)["error"]["name"], ("locked", "wrong_owner"), done.stderr)
        self.assertEqual(self.loops_below(self.first.host.folder), loops, "a second loop device over a pool that is served")
        self.assertEqual(stranger.json("pool", "list")["pools"], [])
        stranger.host.run(["umount", alias])
        self.assertTrue(self.first.json("status")["healthy"])
        # The same tool by the pool's own path is refused as well, and works when the daemon has ended.
        tool = [need_binary("holdfast-pool"), "verify", self.first.pool_dir, "--json"]
        self.assertEqual(self.first.host.run(tool, check=False).returncode, 7)
        self.first.stop()
        self.assertEqual(json.loads(self.first.host.run(tool).stdout)["findings"], [])


if __name__ == "__main__":
    pyunit.main()
