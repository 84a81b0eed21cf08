"""The base of every system test: a scratch folder, a test id, clean-up in reverse order, and the leak check."""
import os
import shutil
import tempfile
import unittest
import uuid

from harness.base import Failed, need_root
from harness.docker import DockerEngine
from harness.host import Host
from harness.leaks import Leaks

# Not below /tmp: that may be a tmpfs, without direct I/O. Short: a Unix socket's path has 107 characters at most.
SCRATCH_ROOT = os.environ.get("HOLDFAST_TEST_SCRATCH", "/var/tmp")


class SystemTest(unittest.TestCase):
    """setUp makes self.scratch and self.environment; self.addCleanup what ends a thing right after it was started.

    The clean-ups run last-in first-out; then nothing may be left: a process, mount, loop device or FUSE connection of this test
    is ended, named, and fails the test.
    """

    def setUp(self):
        need_root()
        self.test_id = f"hf-{uuid.uuid4().hex[:12]}"
        self.scratch = tempfile.mkdtemp(prefix="hf-", dir=SCRATCH_ROOT)
        keep = ("PATH", "HOME", "LANG", "TERM", "XDG_CACHE_HOME")
        self.environment = {name: os.environ[name] for name in keep if name in os.environ}
        self.environment["HOLDFAST_TEST_ID"] = self.test_id
        self.leaks = Leaks(self.scratch, self.test_id)
        self.addCleanup(self._check_leaks)

    def tearDown(self):
        self.leaks.note()

    def _check_leaks(self):
        left = self.leaks.end()
        shutil.rmtree(self.scratch, ignore_errors=True)
        if left:
            raise Failed("left behind: " + "; ".join(left))

    def make_host(self, name="host", net=False):
        host = Host(self.path(name), self.environment, net)
        self.addCleanup(host.stop)
        self.leaks.watch_namespace(host.pid)
        return host

    def start_engine(self, host, *images, **more):
        engine = DockerEngine(host, **more)
        self.addCleanup(engine.stop)
        engine.start()
        for image in images:
            engine.ensure_image(image)
        return engine

    def path(self, *parts):
        return os.path.join(self.scratch, *parts)
