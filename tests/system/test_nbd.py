"""Volumes through the daemon's NBD server, with other people's clients: libnbd's tools and QEMU's."""
import filecmp
import json
import os
import random
import socket
import subprocess
import sys
import time
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import pyunit  # noqa: E402
from harness.base import need_program, run, wait_until  # noqa: E402
from harness.case import SystemTest  # noqa: E402
from harness.holdfastd import Holdfastd  # noqa: E402
from harness.host import tail  # noqa: E402
from harness.ports import free_port  # noqa: E402

MIB = 1 << 20


class NbdTest(SystemTest):
    def setUp(self):
        super().setUp()
        for program, package in (("nbdinfo", "libnbd-bin"), ("nbdcopy", "libnbd-bin"), ("qemu-img", "qemu-utils"), ("qemu-io", "qemu-utils")):
            need_program(program, package)
        self.host = self.make_host()
        self.addCleanup(self._show_log)
        self.tcp_port = free_port()
        self.daemon = Holdfastd(self.host, [f'nbd_tcp = "127.0.0.1:{self.tcp_port}"'])
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool("3G")
        self.addCleanup(self._wait_for_clients)
        self.socket = os.path.join(self.daemon.run_dir, "nbd.sock")

    def _show_log(self):
        if not self._outcome.success:
            print(f"---- the end of holdfastd's log\n{tail(self.daemon.log, 60)}", flush=True)

    def _wait_for_clients(self):
        """Of a killed client the daemon hears a moment later."""
        if self.daemon.running:
            wait_until("all clients to be forgotten", lambda: not any(user.startswith("nbd:") for name in self.daemon.volumes() for user in self.users(name)), seconds=20)

    def unix(self, name):
        return f"nbd+unix:///{name}?socket={self.socket}"

    def tcp(self, name):
        return f"nbd://127.0.0.1:{self.tcp_port}/{name}"

    def tool(self, *command, **more):
        return run(list(command), env=self.environment, timeout=100, **more)

    def create(self, name, size="512M"):
        self.daemon.holdfast("volume", "create", name, "--size", size)
        return self.daemon.json("volume", "inspect", name)["id"]

    def state(self, name):
        return self.daemon.json("volume", "inspect", name)["state"]

    def users(self, name):
        attachment = self.daemon.json("volume", "inspect", name).get("attachment") or {}
        return [mount["holder"] for mount in attachment.get("mounts", [])]

    def wait_detached(self, name):
        wait_until(f"volume {name} to be released", lambda: self.state(name) == "detached", seconds=20)

    def client(self, uri):
        """A connected client that goes on until it is ended."""
        process = subprocess.Popen(["qemu-io", "-f", "raw", uri], env=self.environment, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(self._end, process)
        process.stdin.write("read 0 4k\n")
        process.stdin.flush()
        while True:
            line = process.stdout.readline()
            self.assertTrue(line, "qemu-io ended")
            if "read 4096/4096" in line:
                return process

    @staticmethod
    def _end(process):
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def image(self, size):
        """A file of data and holes, never the same twice in one test."""
        path = self.path("image")
        chance = random.Random(7)
        with open(path, "wb") as stream:
            stream.truncate(size)
            at = 0
            while at < size:
                length = min(chance.randrange(1, 4 * MIB), size - at)
                if chance.random() < 0.5:
                    stream.seek(at)
                    stream.write(chance.randbytes(length))
                at += length
        return path

    def extents(self, name):
        rows = json.loads(self.tool("nbdinfo", "--json", "--map", self.unix(name)).stdout)
        return [(row["offset"], row["length"], row["type"]) for row in rows]

    def test_copies_compare_by_both_sockets_and_by_name_and_id(self):
        volume = self.create("pg")
        self.assertEqual(os.stat(self.socket).st_mode & 0o777, 0o600)
        listed = json.loads(self.tool("nbdinfo", "--json", "--list", self.tcp("")).stdout)["exports"]
        self.assertEqual([one["export-name"] for one in listed], ["pg"])
        self.assertTrue(listed[0]["can_multi_conn"] and listed[0]["can_fua"] and listed[0]["can_trim"])
        self.assertEqual(listed[0]["export-size"], 512 * MIB)
        image = self.image(512 * MIB)
        self.tool("nbdcopy", "--connections=4", "--flush", image, self.unix("pg"))
        self.tool("nbdcopy", "--connections=4", self.tcp(volume), self.path("back"))
        self.assertTrue(filecmp.cmp(image, self.path("back"), shallow=False))
        same = self.tool("qemu-img", "compare", "-f", "raw", "-F", "raw", image, self.tcp("pg"))
        self.assertIn("identical", same.stdout)
        self.wait_detached("pg")
        # Another daemon process has the same bytes: they are in the pool, not in a cache.
        self.daemon.kill9()
        self.daemon.start()
        same = self.tool("qemu-img", "compare", "-f", "raw", "-F", "raw", image, self.unix(""))
        self.assertIn("identical", same.stdout)

    def test_trim_and_zeroes_are_seen_in_the_map(self):
        self.create("map", "64M")
        self.assertEqual(self.extents("map"), [(0, 64 * MIB, 3)])
        self.tool("qemu-io", "-f", "raw", "-c", "write -P 1 8M 16M", "-c", "write -f -P 2 20k 5k", "-c", "discard 12M 4M",
                  "-c", "write -z 20M 1M", self.unix("map"))
        read = self.tool("qemu-io", "-f", "raw", "-c", "read -P 0 12M 4M", "-c", "read -P 1 16M 4M", "-c", "read -P 0 20M 1M",
                         "-c", "read -P 2 20k 5k", "-c", "read -P 0 16k 4k", self.tcp("map"))
        self.assertNotIn("verification failed", read.stdout)
        holes = [(at, length) for at, length, kind in self.extents("map") if kind == 3]
        self.assertIn((12 * MIB, 4 * MIB), holes)
        self.assertIn((24 * MIB, 40 * MIB), holes)

    def test_a_connection_is_an_attachment(self):
        self.create("held", "256M")
        one, two = self.client(self.unix("held")), self.client(self.tcp("held"))
        self.assertEqual(self.state("held"), "attached")
        shown = self.daemon.json("volume", "inspect", "held")["attachment"]
        self.assertIn("nbd+unix:///", shown["device"])
        users = sorted(self.users("held"))
        self.assertEqual(len(users), 2, users)
        self.assertIn(f"pid {one.pid} ", users[0])
        self.assertTrue(users[1].startswith("nbd:tcp:127.0.0.1:"), users)
        # What another attachment would be refused, is refused.
        for command in (("volume", "mount", "held", self.path("m")), ("volume", "detach", "held"),
                        ("volume", "delete", "held", "--yes"), ("volume", "attach", "held", "--export", "fuse")):
            os.makedirs(self.path("m"), exist_ok=True)
            refused = self.daemon.holdfast(*command, check=False)
            self.assertNotEqual(refused.returncode, 0, command)
            self.assertRegex(refused.stdout + refused.stderr, "NBD|nbd", command)
        self.daemon.holdfast("volume", "resize", "held", "512M")
        self.assertEqual(json.loads(self.tool("nbdinfo", "--json", self.unix("held")).stdout)["exports"][0]["export-size"], 512 * MIB)
        one.kill()  # -9: nobody says goodbye
        wait_until("the killed client to be forgotten", lambda: len(self.users("held")) == 1, seconds=20)
        self.assertEqual(self.state("held"), "attached")
        two.kill()
        self.wait_detached("held")
        # And the other way round: what is mounted is refused to NBD, with the reason.
        self.daemon.holdfast("volume", "mount", "held", self.path("m"))
        refused = self.tool("qemu-img", "info", self.unix("held"), check=False)
        self.daemon.holdfast("volume", "unmount", "held", self.path("m"))
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("is attached by", refused.stdout + refused.stderr)
        self.wait_detached("held")

    def test_an_attachment_that_was_asked_for_stays(self):
        self.create("kept", "64M")
        self.daemon.holdfast("volume", "attach", "kept", "--export", "nbd-server")
        self.tool("nbdinfo", self.unix("kept"))
        self.assertEqual(self.state("kept"), "attached")
        self.daemon.restart()
        self.assertEqual(self.state("kept"), "attached")
        self.tool("nbdinfo", self.unix("kept"))
        self.daemon.holdfast("volume", "detach", "kept")
        self.assertEqual(self.state("kept"), "detached")

    def test_a_reconnecting_client_sees_a_pause(self):
        self.create("vm", "256M")
        options = f"driver=nbd,server.type=unix,server.path={self.socket},export=vm,reconnect-delay=60"
        count = 12000
        with open(self.path("bench.log"), "w+", encoding="utf-8") as log:
            load = subprocess.Popen(["qemu-img", "bench", "-w", "--pattern=171", "-s", "16k", "-c", str(count), "-d", "16",
                                     "--flush-interval=200", "--image-opts", options],
                                    env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
            try:
                restarts = 0
                for kill in (True, False, True):
                    # Connected before the first kill, and again before the next ones.
                    wait_until("the load to be connected", lambda: load.poll() is not None or self.users("vm"), every=0.02)
                    if load.poll() is not None:
                        break
                    restarts += 1
                    self.daemon.kill9() if kill else self.daemon.stop()
                    time.sleep(0.5)
                    self.daemon.start()
                load.wait(timeout=200)
            finally:
                load.kill()
                load.wait()
            log.seek(0)
            self.assertEqual(load.returncode, 0, log.read())
        self.assertGreaterEqual(restarts, 1, "the load ended before the daemon could be killed")
        read = self.tool("qemu-io", "-f", "raw", "-c", f"read -P 171 0 {count * 16}k", self.unix("vm"))
        self.assertNotIn("verification failed", read.stdout)
        print(f"restarted {restarts} times under load", flush=True)

    def test_what_is_not_nbd_harms_nobody(self):
        self.create("calm", "64M")
        client = self.client(self.unix("calm"))
        chance = random.Random(3)
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", self.tcp_port)) as noise:
                noise.sendall(chance.randbytes(chance.randrange(1, 2000)))
        client.stdin.write("read 4k 4k\n")
        client.stdin.flush()
        self.assertIn("read 4096/4096", client.stdout.readline() + client.stdout.readline() + client.stdout.readline())
        self.assertTrue(self.daemon.running)


if __name__ == "__main__":
    pyunit.main()
