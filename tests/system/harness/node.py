"""A whole node: host, engine, daemon with a pool. What most tests of the product start from."""
from harness.case import SystemTest
from harness.holdfastd import Holdfastd
from harness.host import tail

LOOP = 'trap "exit 0" TERM; while :; do sleep 0.2; done'


class NodeTest(SystemTest):
    """self.host, self.engine, self.daemon. Set `images`, `pool_size`, `config`, `confined` in the class to differ."""

    images = ("bb",)
    pool_size = "4G"
    config = ()
    confined = False

    def setUp(self):
        super().setUp()
        self.host = self.make_host()
        self.addCleanup(self._show_logs)
        self.daemon = Holdfastd(self.host, self.config, self.confined)
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool(self.pool_size)
        self.engine = self.start_engine(self.host, *self.images)

    def _show_logs(self):
        # Not _outcome.success: that is true again while a clean-up runs.
        result = self._outcome.result
        if any(test is self for test, _ in result.failures + result.errors):
            for name, path in (("holdfastd", self.host.path("holdfastd.log")), ("dockerd", self.host.path("docker", "dockerd.log"))):
                print(f"---- the end of {name}'s log\n{tail(path, 60)}", flush=True)

    def docker(self, *arguments, **more):
        return self.engine.docker(*arguments, **more)

    def in_volume(self, volume, script, **more):
        """Runs a shell script in a fresh container that has the volume at /data; returns its output."""
        return self.docker("run", "--rm", "--network=none", "--volume-driver=holdfast", "-v", f"{volume}:/data", "bb", "sh", "-c", script,
                           **more).stdout

    def start_holder_of(self, volume, name, script=LOOP):
        """A container that goes on running with the volume at /data."""
        self.docker("run", "-d", "--name", name, "--network=none", "--volume-driver=holdfast", "-v", f"{volume}:/data", "bb", "sh", "-c",
                    script)

    def refused(self, *arguments):
        """docker's error text of a command that must fail."""
        done = self.docker(*arguments, check=False)
        self.assertNotEqual(done.returncode, 0, f"docker {' '.join(arguments)} was not refused")
        return done.stderr

    def detached(self, volume):
        """Detaches a volume that only holders that are gone still count for; False while that is refused."""
        return not self.daemon.attached(volume) or self.daemon.holdfast("volume", "detach", volume, check=False).returncode == 0

    def volume_mounts(self):
        """Mount points on the host that come from the daemon's mount root."""
        return [point for point, _, _ in self.host.mounts() if point.startswith(self.daemon.state_dir + "/mounts/")]
