"""Clusters of real daemons, each on a host of its own on one network."""
import json
import os
import signal
import subprocess
import traceback

from harness.base import Failed, need_program, wait_until
from harness.case import SystemTest
from harness.holdfastd import Holdfastd
from harness.lan import Lan


class Writer:
    """Writes numbered lines durably into a file of a volume, for as long as it may; any error ends it."""

    SCRIPT = 'i=0; while [ ! -e "$2" ]; do i=$((i+1)); echo $i >> "$1" && sync "$1" || exit 1; done; echo $i > "$3"'

    def __init__(self, host, folder, name="lines"):
        self.path = os.path.join(folder, name)
        self.stop_file, self.count_file = host.path("stop-" + name), host.path("written-" + name)
        self.host = host
        for old in (self.stop_file, self.count_file):
            if os.path.exists(old):
                os.unlink(old)
        self.process = host.start(["sh", "-c", self.SCRIPT, "sh", self.path, self.stop_file, self.count_file], host.path(name + ".log"))

    def lines(self):
        """How many there are, the last of which may not be durable yet; 0 before the first."""
        return len(self.host.run(["cat", self.path], check=False).stdout.split())

    def finish(self, case):
        open(self.stop_file, "w", encoding="utf-8").close()
        case.assertEqual(self.process.wait(120), 0, "the writer saw an error")
        with open(self.count_file, encoding="utf-8") as stream:
            written = int(stream.read())
        case.assertEqual([int(line) for line in self.host.run(["cat", self.path]).stdout.split()], list(range(1, written + 1)))
        return written


def processes_of(host):
    """{pid: name} of everything that runs in the host, but the process that keeps it."""
    inside = os.readlink(f"/proc/{host.pid}/ns/mnt")
    found = {}
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and int(entry) != host.pid and os.readlink(f"/proc/{entry}/ns/mnt") == inside:
                with open(f"/proc/{entry}/comm", encoding="utf-8") as stream:
                    found[int(entry)] = stream.read().strip()
        except OSError:
            continue
    return found


def etcd_of(host):
    """The pid of the host's etcd member."""
    return next((pid for pid, name in processes_of(host).items() if name == "etcd"), None)


class Frozen:
    """A node that stands still, as a machine does that is paused or swaps: its daemon and its etcd, not its containers."""

    def __init__(self, daemon):
        self.pids = [pid for pid, name in processes_of(daemon.host).items() if name in ("etcd", "holdfastd")]
        self._send(signal.SIGSTOP)

    def thaw(self):
        pids, self.pids = self.pids, []
        self._send(signal.SIGCONT, pids)

    def _send(self, sign, pids=None):
        for pid in self.pids if pids is None else pids:
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass


class ClusterTest(SystemTest):
    """Daemons in network namespaces of one network, with a cluster's own etcd members."""
    def setUp(self):
        super().setUp()
        need_program("etcd", "etcd-server")
        self.ctl = need_program("etcdctl", "etcd-client")
        self.lan = Lan(self.environment)
        self.addCleanup(self.lan.stop)
        self.nodes = []

    def end_nodes(self):
        """Volumes first, for which the state store must have its majority; then all daemons. Before any host ends."""
        nodes, self.nodes = self.nodes, []
        for node in nodes:
            if not node.running:
                node.spawn()
        for node in nodes:
            node.wait_ready(120)
        for node in nodes:
            node.release_volumes(node.json("cluster", "status")["node"])
        for node in nodes:
            node.stop()
            node.end_holder()
            node.close_pools()

    def node(self, name, config=()):
        host = self.make_host(name, net=True)
        address = self.lan.plug(host)
        daemon = Holdfastd(host, config, apart=True)
        daemon.address = address
        self.nodes.append(daemon)
        self.addCleanup(self.end_nodes)
        daemon.start()
        return daemon

    def token(self, daemon, *more):
        return daemon.holdfast("cluster", "token", "create", *more).stdout.strip()

    def join(self, by, name, config=()):
        daemon = self.node(name, config)
        joined = json.loads(daemon.holdfast("cluster", "join", "-", "--json", text_input=self.token(by), timeout=180).stdout)
        self.assertTrue(joined["member"], joined)
        self.assertEqual(joined["cluster"], by.json("cluster", "status")["cluster"])
        return daemon

    def voters(self, daemon):
        trust = os.path.join(daemon.state_dir, "trust")
        environment = {**self.environment, "ETCDCTL_API": "3"}
        listed = subprocess.run(daemon.host.enter(
            [self.ctl, f"--endpoints={daemon.address}:2379", f"--cacert={trust}/ca.pem", f"--cert={trust}/node.pem",
             f"--key={trust}/node.pem", "member", "list", "-w", "json"]), env=environment, capture_output=True, text=True, timeout=60, check=False)
        if listed.returncode != 0:
            return []
        return [member for member in json.loads(listed.stdout)["members"] if not member.get("isLearner")]

    def wait_voters(self, nodes, count):
        for node in nodes:
            wait_until(f"{count} etcd members that vote, seen at {node.address}", lambda node=node: len(self.voters(node)) == count,
                       seconds=90, every=0.5)

    def three(self, pools=3, pool_size="1G"):
        """Nodes n1, n2, n3, each with a vote in etcd and (the first ones) a pool, all seen online by all."""
        first = self.node("n1")
        first.json("cluster", "init", timeout=180)
        nodes = [first] + [self.join(first, name) for name in ("n2", "n3")]
        self.wait_voters(nodes, 3)
        for node in nodes[:pools]:
            node.add_pool(pool_size)
        for node in nodes:
            wait_until("all nodes to be seen online", lambda node=node: all(n["online"] for n in node.json("node", "list")["nodes"])
                       and len(node.json("node", "list")["nodes"]) == 3, seconds=30)
        return nodes


class _Home(ClusterTest):
    """What a cluster needs around it that several tests use."""

    def runTest(self):
        """unittest wants one; nobody calls it."""

    def close(self):
        """Ends all of it, whatever fails meanwhile; false where something did, or was left behind."""
        well = True
        self.tearDown()
        while self._cleanups:
            function, arguments, more = self._cleanups.pop()
            try:
                function(*arguments, **more)
            except Exception:  # pylint: disable=broad-except  # the rest must end too
                traceback.print_exc()
                well = False
        return well


class SharedClusterTest(ClusterTest):
    """Tests on one cluster of three nodes, self.three_nodes, made by the first of them: to make one takes longer than most tests.
    Each leaves all nodes running and joined; its volumes are deleted behind it. After a test that failed there is a new cluster."""

    home = None

    def setUp(self):
        kind = type(self)
        if kind.home is None:
            home = _Home()
            home.setUp()
            try:
                home.three_nodes = home.three()
            except BaseException:
                home.close()
                raise
            kind.home = home
        self.environment, self.ctl, self.lan = kind.home.environment, kind.home.ctl, kind.home.lan
        self.scratch, self.three_nodes = kind.home.scratch, kind.home.three_nodes
        self.addCleanup(self._settle)

    def tearDown(self):
        type(self).home.leaks.note()

    def _settle(self):
        """The last clean-up of a test."""
        result = self._outcome.result
        well = not any(test is self for test, _ in result.failures + result.errors)
        try:
            if well:
                self._delete_volumes()
        except BaseException:
            well = False
            raise
        finally:
            if not well:
                for node in self.three_nodes:
                    print(f"---- the end of the log of {node.address}\n{node.logs()}", flush=True)
                self._end_home()

    def _delete_volumes(self):
        for node in self.three_nodes:
            node.release_volumes(node.json("cluster", "status")["node"])
        one = self.three_nodes[0]
        # A clone before its origin: tried again as long as one more goes.
        while names := list(one.volumes()):
            gone = [name for name in names if one.holdfast("volume", "delete", name, "--yes", "--with-snapshots", check=False).returncode == 0]
            if not gone:
                raise Failed(f"none of the volumes {names} can be deleted")
        for node in self.three_nodes:
            wait_until(f"all to be well at {node.address}", lambda node=node: node.json("status")["healthy"], seconds=60)

    @classmethod
    def _end_home(cls):
        home, cls.home = cls.home, None
        return home is None or home.close()

    @classmethod
    def tearDownClass(cls):
        if not cls._end_home():
            raise Failed("the cluster did not end well, see above")
