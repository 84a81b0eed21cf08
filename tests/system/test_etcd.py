#!/usr/bin/python3
"""One daemon on an etcd of somebody else: volumes are made and mounted, etcd is killed and frozen under them, I/O goes on, and
what needs the state says so in time and works again once etcd is back."""
import os
import signal
import subprocess
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import Holdfastd, SystemTest, wait_until  # noqa: E402
from harness.base import need_program  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.host import end_process  # noqa: E402
from harness.lan import Lan  # noqa: E402


class Etcd:
    """One member on a host's address, with its data below the host's folder."""

    def __init__(self, host, address):
        self.host = host
        self.program = need_program("etcd", "etcd-server")
        self.ctl_program = need_program("etcdctl", "etcd-client")
        self.port, self.peer = free_port(), free_port()
        self.endpoint = f"{address}:{self.port}"
        self._process = None

    def start(self):
        client, peer = f"http://{self.endpoint}", f"http://127.0.0.1:{self.peer}"
        self._process = self.host.start([self.program, "--name", "m", "--data-dir", self.host.path("etcd"),
                                         "--listen-client-urls", client, "--advertise-client-urls", client,
                                         "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                                         "--initial-cluster", f"m={peer}", "--logger", "zap", "--log-level", "warn"],
                                        self.host.path("etcd.log"))
        return self

    def signal(self, number):
        self._process.send_signal(number)

    def kill9(self):
        self.signal(signal.SIGKILL)
        self._process.wait()

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGCONT)
            end_process(self._process)

    def ctl(self, *words):
        environment = {**self.host.environment, "ETCDCTL_API": "3"}
        return subprocess.run(self.host.enter([self.ctl_program, f"--endpoints={self.endpoint}", *words]), env=environment,
                              capture_output=True, text=True, timeout=60, check=True).stdout


class OnEtcd(SystemTest):
    def setUp(self):
        super().setUp()
        self.lan = Lan(self.environment)
        self.addCleanup(self.lan.stop)
        self.host = self.make_host(net=True)
        self.etcd = Etcd(self.host, self.lan.plug(self.host))
        self.addCleanup(self.etcd.stop)
        self.etcd.start()
        self.daemon = Holdfastd(self.host)
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool("2G")
        made = self.daemon.json("cluster", "init", "--kv", f"etcd://{self.etcd.endpoint}", timeout=180)
        self.assertTrue(made["member"] and not made["carries_state_store"], made)

    def mounted(self, name):
        self.daemon.holdfast("volume", "create", name, "--size", "128M")
        point = self.path("at", name)
        os.makedirs(point)
        self.daemon.holdfast("volume", "mount", name, point)
        return point

    def write(self, path, text):
        self.host.run(["sh", "-c", f'printf %s "$1" > "$2" && sync -f "$2"', "sh", text, path], timeout=30)

    def read(self, path):
        return self.host.run(["cat", path], timeout=30).stdout

    def test_io_goes_on_without_etcd(self):
        path = self.mounted("db")
        self.write(f"{path}/a", "before")
        keys = self.etcd.ctl("get", "--prefix", "--keys-only", "holdfast-")
        self.assertIn("/holdfast/v1/volumes/", keys)
        self.assertFalse(os.path.exists(os.path.join(self.daemon.state_dir, "state.db")), "the state is in etcd alone")
        for blow, heal in ((self.etcd.kill9, self.etcd.start),
                           (lambda: self.etcd.signal(signal.SIGSTOP), lambda: self.etcd.signal(signal.SIGCONT))):
            blow()
            began = time.monotonic()
            for number in range(20):
                self.write(f"{path}/{number}", f"without etcd {number}")
            self.assertLess(time.monotonic() - began, 100, "I/O waited for etcd")
            began = time.monotonic()
            refused = self.daemon.holdfast("volume", "create", "later", "--size", "64M", check=False)
            self.assertEqual(refused.returncode, 31, refused.stderr)
            self.assertLess(time.monotonic() - began, 120, "a command hung")
            heal()
            wait_until("volumes to be made again", lambda: self.daemon.holdfast(
                "volume", "create", "later", "--size", "64M", check=False).returncode == 0, seconds=60, every=1)
            self.daemon.holdfast("volume", "delete", "later", "--yes")
        self.assertEqual(self.read(f"{path}/19"), "without etcd 19")
        # The next daemon finds everything in etcd.
        self.daemon.kill9()
        self.daemon.start()
        self.assertEqual(self.read(f"{path}/a"), "before")
        self.assertIn("db", self.daemon.volumes())

    def test_a_second_node(self):
        """It hears from the cluster where the state is, and carries nothing of it."""
        host = self.make_host("second", net=True)
        self.lan.plug(host)
        second = Holdfastd(host)
        self.addCleanup(second.dispose)
        second.start()
        token = self.daemon.holdfast("cluster", "token", "create", "--ttl", "5m").stdout
        second.holdfast("cluster", "join", "-", text_input=token, timeout=180)
        status = second.json("cluster", "status")
        self.assertTrue(status["member"] and not status["carries_state_store"], status)
        self.assertIn(self.etcd.endpoint, status["state_store"])
        for daemon in (self.daemon, second):
            wait_until("two nodes", lambda daemon=daemon: len(daemon.json("node", "list")["nodes"]) == 2, seconds=60)
        second.restart()
        self.assertEqual(second.json("cluster", "status")["node"], status["node"])

    def test_start_without_etcd_waits_and_ends_when_told(self):
        self.daemon.stop()
        self.etcd.kill9()
        self.daemon.spawn()
        wait_until("it to say what it waits for", lambda: "no endpoint of the state store etcd serves" in self.daemon.logs(), seconds=60)
        self.assertTrue(self.daemon.running, "it does not begin without what its cluster knows, and does not give up")
        self.etcd.start()
        self.daemon.wait_ready(60)
        self.assertTrue(self.daemon.json("status")["healthy"])
        self.daemon.stop()
        self.etcd.kill9()
        self.daemon.spawn()
        wait_until("it to wait again", lambda: self.daemon.logs(5).count("waiting_to_start") > 0, seconds=60)
        self.daemon.stop()
        self.etcd.start()


if __name__ == "__main__":
    pyunit.main()
