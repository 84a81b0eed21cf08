#!/usr/bin/python3
"""Bad days of a node: SIGTERM in the middle of everything, loop devices and FUSE that are not to be had, clients that send anything."""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import Holdfastd, SystemTest, wait_until  # noqa: E402
from harness.base import need_program, processes_with  # noqa: E402
from harness.host import tail  # noqa: E402
from harness.leaks import fuse_connections, loops_of, mounts_below  # noqa: E402

MIB = 1 << 20
ROUNDS = int(os.environ.get("ROUNDS", "50"))
SEED = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 30)

# Appends numbered lines to the file $1 and syncs each, until $2 appears; any error ends it with that.
WRITER = 'n=0; while ! [ -e "$2" ]; do echo $n >> "$1" && sync "$1" || exit 1; n=$((n+1)); sleep 0.02; done; echo $n > "$2"'


class BadDay(SystemTest):
    config = ('export = "fuse"',)
    pool_size = "6G"

    def setUp(self):
        super().setUp()
        self.seen = set()
        self.host = self.make_host()
        self.addCleanup(self._show_log)
        self.daemon = Holdfastd(self.host, self.config)
        self.addCleanup(self.daemon.dispose)
        self.daemon.start()
        self.daemon.add_pool(self.pool_size)

    def _show_log(self):
        result = self._outcome.result
        if any(test is self for test, _ in result.failures + result.errors):
            print(f"---- the end of holdfastd's log\n{tail(self.daemon.log, 80)}", flush=True)

    def ok(self, *arguments):
        done = self.daemon.holdfast(*arguments, "--json", check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"holdfast {' '.join(arguments)}")
        return json.loads(done.stdout)

    def refused(self, *arguments):
        """The error of a command that must fail: one sentence, with a code."""
        done = self.daemon.holdfast(*arguments, "--json", check=False)
        self.assertNotEqual(done.returncode, 0, f"holdfast {' '.join(arguments)} was not refused")
        return self.sentence(done.stderr, arguments)

    def sentence(self, stderr, arguments):
        try:
            error = json.loads(stderr)["error"]
        except (ValueError, KeyError) as wrong:
            raise AssertionError(f"holdfast {' '.join(arguments)} failed without an error of ours: {stderr!r}") from wrong
        self.assertRegex(error["code"], r"^HF\d{4}$")
        self.assertNotIn("\n", error["message"].strip())
        self.assertGreater(len(error["message"]), 10)
        return error

    def folder(self, *parts):
        path = self.host.path(*parts)
        os.makedirs(path, exist_ok=True)
        return path

    def export_loops(self):
        """Loop devices over exports of volumes that this test has seen."""
        self.seen.update(volume["id"] for volume in self.daemon.volumes().values())
        found = []
        for name in os.listdir("/sys/block"):
            try:
                with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8") as stream:
                    backing = stream.read().strip()
            except OSError:
                continue
            if any(backing.endswith(f"/{volume}/disk") for volume in self.seen):
                found.append(name)
        return found

    def connections(self):
        return fuse_connections([self.host.pid])

    def healthy(self):
        status = self.daemon.json("status")
        return status if status["healthy"] else None

    def wait_healthy(self, seconds=120):
        end = time.monotonic() + seconds
        while not self.healthy():
            if time.monotonic() > end:
                self.fail("not healthy: " + "; ".join(self.daemon.json("status")["problems"]))
            time.sleep(0.2)


class Operation:
    """One command under way while the daemon is asked to end."""

    def __init__(self, test, *arguments):
        self.arguments = arguments
        self._test = test
        command = test.host.enter([test.daemon.client, *arguments, "--json"])
        self._process = subprocess.Popen(command, env=test.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, text=True)

    def outcome(self):
        """True: done. Else the error: a sentence with a code."""
        said, error = self._process.communicate(timeout=120)
        if self._process.returncode == 0:
            json.loads(said)
            return True
        return self._test.sentence(error, self.arguments)


class Terminated(BadDay):
    """SIGTERM at random moments of random operations, the daemon started again, what it said holds and nothing leaks."""

    NAMES = ("a", "b", "c")

    def test_sigterm_in_the_middle_of_everything(self):
        print(f"SEED={SEED}", flush=True)
        self.chance = random.Random(SEED)
        self.pools = 1
        self.done = self.refusals = 0
        kept = self.folder("kept")
        self.ok("volume", "create", "kept", "--size", "256M")
        self.ok("volume", "mount", "kept", kept)
        log, end = os.path.join(kept, "log"), self.host.path("end")
        writer = self.host.start(["sh", "-c", WRITER, "writer", log, end], self.host.path("writer.log"))
        self.addCleanup(lambda: writer.poll() is None and (writer.kill(), writer.wait()))
        longest = 0.0
        for number in range(ROUNDS):
            operations = [Operation(self, *self.choose()) for _ in range(self.chance.randrange(1, 4))]
            time.sleep(self.chance.random() * self.chance.choice((0.05, 0.3, 1.0)))
            began = time.monotonic()
            self.daemon.stop()
            longest = max(longest, time.monotonic() - began)
            for operation in operations:
                self.learn(operation.arguments, operation.outcome())
            self.daemon.start()
            self.assertIsNone(writer.poll(), f"round {number}: the writer got an error:\n" + tail(self.host.path("writer.log")))
            if number % 5 == 4:
                self.look(number)
        self.look(ROUNDS)
        with open(end, "w", encoding="ascii"):
            pass
        self.assertEqual(writer.wait(60), 0)
        with open(end, encoding="ascii") as stream:
            lines = int(stream.read())
        self.assertEqual(self.host.run(["cat", log]).stdout, "".join(f"{n}\n" for n in range(lines)))
        print(f"{ROUNDS} rounds, longest stop {longest:.2f} s, {self.done} done, {self.refusals} refused, {lines} lines synced", flush=True)
        self.assertGreater(self.done, ROUNDS // 4)
        self.take_down()

    def choose(self):
        name = self.chance.choice(self.NAMES)
        verb = self.chance.randrange(12)
        if verb < 3:
            return ("volume", "create", name, "--size", "64M")
        if verb == 3:
            return ("volume", "attach", name)
        if verb == 4:
            return ("volume", "detach", name)
        if verb == 5:
            return ("volume", "mount", name, self.folder("at-" + name))
        if verb == 6:
            return ("volume", "unmount", name, self.folder("at-" + name))
        if verb == 7:
            return ("snapshot", "create", name, f"s{self.chance.randrange(3)}")
        if verb == 8:
            return self.chance.choice((("snapshot", "delete", name, "s1", "--yes"), ("snapshot", "restore", name, "s0", "--yes"),
                                       ("volume", "clone", name, "clone-" + name)))
        if verb == 9:
            return ("volume", "resize", name, f"{64 + 16 * self.chance.randrange(1, 5)}M")
        if verb == 10 and self.pools < 3 and self.chance.random() < 0.5:
            return ("pool", "add", self.folder(f"pool{self.pools}"), "--size", "1G")
        return ("volume", "delete", name, "--with-snapshots", "--yes")

    def learn(self, arguments, outcome):
        """Refusals are the rule here: a volume may be gone, in use, or the daemon ending. What is broken is not."""
        if outcome is True:
            self.done += 1
        else:
            self.refusals += 1
            self.assertNotIn(outcome["name"], ("internal", "corruption", "checksum_mismatch"), f"{arguments}: {outcome}")
        if arguments[:2] == ("pool", "add"):
            self.pools += 1

    def look(self, number):
        """At rest the node says that all is well, and has what it says."""
        self.wait_healthy()
        volumes = self.daemon.volumes()
        for name, volume in volumes.items():
            self.assertIn(volume["state"], ("attached", "detached"), f"round {number}: {name}: {volume.get('message')}")
        attached = [name for name, volume in volumes.items() if volume["state"] == "attached"]
        self.assertEqual(len(self.connections()), len(attached), f"round {number}: FUSE connections for {attached}")
        exports = self.export_loops()
        self.assertEqual(len(exports), len(attached), f"round {number}: {exports} for {attached}")
        # Everything can be asked again, and is done.
        for name in self.NAMES:
            if name in volumes and volumes[name]["state"] == "detached":
                self.ok("volume", "attach", name)
                self.ok("volume", "detach", name)

    def take_down(self):
        for name, volume in self.daemon.volumes().items():
            for mount in (volume.get("attachment") or {}).get("mounts", []):
                self.ok("volume", "unmount", name, mount["path"])
            if self.daemon.attached(name):
                self.ok("volume", "detach", name)
            self.ok("volume", "delete", name, "--with-snapshots", "--yes")
        self.wait_healthy()
        self.assertEqual(self.connections(), set())
        self.assertEqual(self.export_loops(), [])
        loops = loops_of(os.path.realpath(self.host.folder))
        self.assertEqual(sorted(loops.values()), sorted(set(loops.values())), "a pool's image has two loop devices")
        pools = self.ok("pool", "list")["pools"]
        self.assertEqual(len(loops), len(pools), f"{loops}")
        mounts = [point for point, _, _ in self.host.mounts() if point.startswith((self.daemon.state_dir + "/mounts/", "/run/holdfast/export/"))]
        self.assertEqual(mounts, [])
        self.assertEqual(mounts_below(self.folder("kept"), self.host.pid), [])
        self.daemon.stop()
        for pool in pools:
            self.assertEqual(self.ok("pool", "inspect", pool["path"])["replicas"], [], "a replica of nobody is left")
            self.assertEqual(self.ok("pool", "verify", pool["path"])["findings"], [])
        left = [line for line in processes_with([self.test_id.encode()]).values() if "holdfast-holder" not in line and "sleep infinity" not in line]
        self.assertEqual(left, [], "helper programs are left")


class KilledOverAndOver(BadDay):
    """A program on a mounted volume sees pauses, whatever is killed how often; only holder and daemon at once would end it."""

    FIO = ("fio --name=v --directory={where} --size=8M --rw=randwrite --bs=4k --ioengine=psync --direct=1 --fsync=16 --verify=crc32c "
           "--verify_fatal=1 --do_verify=1 --verify_state_save=0")

    def setUp(self):
        super().setUp()
        need_program("fio", "fio")
        self.where = self.folder("where")
        self.ok("volume", "create", "v", "--size", "128M")
        self.ok("volume", "mount", "v", self.where)
        self.chance = random.Random(SEED)
        print(f"SEED={SEED}", flush=True)

    def load(self):
        """fio that writes and verifies over and over, until end_load()."""
        script = f'while ! [ -e {self.host.path("end")} ]; do {self.FIO.format(where=self.where)} || exit 1; echo pass; done'
        load = self.host.start(["sh", "-c", script], self.host.path("fio.log"))

        def end():  # also of a test that failed: the volume is to be detached
            with open(self.host.path("end"), "w", encoding="ascii"):
                pass
            if not self.daemon.running:
                self.daemon.start()
            load.wait(90)
        self.addCleanup(end)
        return load

    def end_load(self, load, passes=1):
        def written():
            with open(self.host.path("fio.log"), encoding="utf-8", errors="replace") as stream:
                return stream.read()
        wait_until("the load to verify in peace", lambda: load.poll() is not None or written().count("\npass\n") >= passes, seconds=120)
        with open(self.host.path("end"), "w", encoding="ascii"):
            pass
        self.assertEqual(load.wait(90), 0, tail(self.host.path("fio.log")))
        print(f"{written().count('pass')} passes verified", flush=True)
        self.ok("volume", "unmount", "v", self.where)

    def test_twenty_kills_in_a_row(self):
        load = self.load()
        slowest = 0.0
        for number in range(20):
            time.sleep(self.chance.random() * 0.7)
            self.daemon.kill9()
            time.sleep(self.chance.random() * 0.3)
            began = time.monotonic()
            if number % 4 == 3:  # once more while it comes up
                self.daemon.spawn()
                time.sleep(self.chance.random() * 0.6)
                self.daemon.kill9()
            self.daemon.start()
            slowest = max(slowest, time.monotonic() - began)
            self.assertIsNone(load.poll(), f"round {number}:\n" + tail(self.host.path("fio.log")))
        print(f"slowest start {slowest:.2f} s", flush=True)
        self.end_load(load)
        self.wait_healthy()

    def test_the_holder_killed_again_and_again(self):
        load = self.load()
        for number in range(6):
            holder = self.daemon.holder_pid()
            os.kill(holder, signal.SIGKILL)
            wait_until("another holder", lambda old=holder: self.daemon.holder_pid() not in (None, old), seconds=20)
            wait_until("the export to be with the new holder", lambda: self.held(self.daemon.holder_pid()) == 1, seconds=20)
            self.wait_healthy()
            self.daemon.kill9()
            self.daemon.start()
            self.assertIsNone(load.poll(), f"round {number}:\n" + tail(self.host.path("fio.log")))
        self.end_load(load)

    def test_the_holder_killed_while_exports_are_adopted(self):
        """At any moment of the adoptions: what the daemon serves afterwards is with the next holder, or the next kill would end it."""
        self.ok("volume", "unmount", "v", self.where)
        for name in ("w1", "w2", "w3", "w4", "w5"):
            self.ok("volume", "create", name, "--size", "16M", "--fs", "none")
            self.ok("volume", "attach", name)
        for _ in range(8):
            holder = self.daemon.holder_pid()
            self.daemon.kill9()
            seen = tail(self.daemon.log, 10_000).count("fuse_adopted")
            self.daemon.spawn()
            wait_until("an adoption", lambda seen=seen: tail(self.daemon.log, 10_000).count("fuse_adopted") > seen, seconds=30, every=0.002)
            time.sleep(self.chance.random() * 0.05)
            os.kill(holder, signal.SIGKILL)
            self.daemon.wait_ready()
            wait_until("another holder", lambda old=holder: self.daemon.holder_pid() not in (None, old), seconds=20)
            wait_until("all exports to be with the new holder", lambda: self.held(self.daemon.holder_pid()) == self.held(self.daemon.pid) == 5, seconds=40)

    def held(self, pid):
        """How many FUSE connections the process has; none where it is gone (who starts a holder is not the holder)."""
        found = 0
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                found += os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/fuse"
        except OSError:
            return 0
        return found


class Lost(BadDay):
    """An older copy of its pool in the place of the pool of a mounted volume."""

    pool_size = "1G"

    def test_a_mounted_volume_whose_replica_is_gone_can_be_let_go(self):
        self.daemon.stop()
        self.daemon.close_pools()
        self.host.run(["cp", "-a", "--sparse=always", self.daemon.pool_dir, self.host.path("older")])
        self.daemon.start()
        where = self.folder("where")
        self.ok("volume", "create", "v", "--size", "64M")
        self.ok("volume", "mount", "v", where)
        user = self.host.start(["sh", "-c", f"cd {where}; while echo more >> f && sync f; do sleep 0.05; done; exit 7"], self.host.path("user.log"))
        wait_until("something written", lambda: self.host.run(["cat", where + "/f"], check=False).returncode == 0)
        self.daemon.kill9()
        self.daemon.close_pools()
        self.host.run(["mv", self.daemon.pool_dir, self.host.path("newer")])
        self.host.run(["mv", self.host.path("older"), self.daemon.pool_dir])
        self.daemon.start()
        (problem,) = self.daemon.json("status")["problems"]
        self.assertIn("volume v is lost", problem)
        self.assertEqual(self.daemon.json("volume", "inspect", "v")["state"], "lost")
        error = self.refused("volume", "detach", "v")
        self.assertEqual((error["name"], user.poll()), ("in_use", None), "refused, and nothing has changed: its user waits")
        # Asked to go: its users get an error instead of waiting for ever, and then it goes.
        self.daemon.holdfast("volume", "unmount", "v", where, check=False)
        self.assertEqual(user.wait(30), 7)
        wait_until("the unmount", lambda: self.daemon.holdfast("volume", "unmount", "v", where, check=False).returncode == 0, seconds=20)
        wait_until("the detach", lambda: self.daemon.json("volume", "inspect", "v").get("attachment") is None, seconds=20)
        self.ok("volume", "delete", "v", "--yes")
        self.wait_healthy()
        self.assertEqual(self.connections(), set())
        self.ok("volume", "create", "v", "--size", "64M")
        self.ok("volume", "mount", "v", where)
        self.ok("volume", "unmount", "v", where)


class GivenUp(BadDay):
    """Pools that leave: one that is empty, and one whose disk is gone for ever under a mounted volume."""

    pool_size = "1G"

    def test_an_empty_pool_is_closed_and_leaves(self):
        second = self.folder("second")
        self.ok("pool", "add", second, "--size", "1G")
        self.ok("volume", "create", "v", "--size", "64M")
        held = self.daemon.pool_dir if self.ok("pool", "inspect", second)["replica_count"] == 0 else second
        empty = second if held == self.daemon.pool_dir else self.daemon.pool_dir
        for more in ((), ("--force", "--yes")):
            error = self.refused("pool", "remove", held, *more)
            self.assertEqual(error["name"], "in_use")
            self.assertIn("volume v", error["message"])
        self.assertTrue(self.ok("pool", "remove", empty)["removed"])
        self.assertEqual(self.refused("pool", "remove", empty)["name"], "not_found")
        self.assertFalse(self.ok("pool", "remove", empty, "--missing-ok").get("removed", False))
        self.assertEqual([pool["path"] for pool in self.ok("pool", "list")["pools"]], [held])
        self.assertNotIn(os.path.realpath(os.path.join(empty, "pool.img")), loops_of(os.path.realpath(self.host.folder)).values())
        self.assertEqual(len([point for point, _, _ in self.host.mounts() if "/pools/" in point]), 1)
        self.wait_healthy()
        # What is in it stays, and is not taken for a pool again.
        self.assertEqual(self.ok("pool", "verify", empty)["findings"], [])
        error = self.refused("pool", "add", empty)
        self.assertEqual(error["name"], "already_exists")
        self.assertIn("which was removed", error["message"])
        self.daemon.restart()
        self.wait_healthy()
        self.assertEqual([pool["path"] for pool in self.ok("pool", "list")["pools"]], [held])

    def test_a_pool_whose_disk_is_gone_for_ever(self):
        where, pool = self.folder("where"), self.daemon.pool_dir
        self.ok("volume", "create", "v", "--size", "64M")
        self.ok("volume", "mount", "v", where)
        user = self.host.start(["sh", "-c", f"cd {where}; while echo more >> f && sync f; do sleep 0.05; done; exit 7"], self.host.path("user.log"))
        wait_until("something written", lambda: self.host.run(["cat", where + "/f"], check=False).returncode == 0)
        self.daemon.kill9()
        self.daemon.close_pools()
        self.host.run(["mv", pool, self.host.path("lost-disk")])
        self.daemon.start()
        self.assertFalse(self.daemon.json("status")["healthy"])
        error = self.refused("pool", "remove", pool)
        self.assertEqual(error["name"], "failed_precondition")
        for words in ("volume v", "--force"):
            self.assertIn(words, error["message"])
        error = self.refused("pool", "remove", pool, "--force")  # nobody is there to be asked
        self.assertEqual(error["name"], "confirmation_needed")
        self.assertIn("all data of: v", error["message"])
        self.assertEqual(len(self.ok("pool", "list")["pools"]), 1, "it was only asked")
        done = self.ok("pool", "remove", pool, "--force", "--yes")
        self.assertEqual((done["removed"], done["lost_volumes"]), (True, ["v"]))
        shown = self.daemon.json("volume", "inspect", "v")
        self.assertEqual(shown["state"], "lost")
        self.assertIn("was removed", shown["message"])
        self.assertIsNone(user.poll(), "its user waits until the volume is asked to go")
        self.daemon.restart()
        self.assertEqual(self.daemon.json("volume", "inspect", "v")["state"], "lost")
        self.daemon.holdfast("volume", "unmount", "v", where, check=False)
        self.assertEqual(user.wait(60), 7)
        wait_until("the unmount", lambda: self.daemon.holdfast("volume", "unmount", "v", where, check=False).returncode == 0)
        wait_until("the detach", lambda: self.daemon.json("volume", "inspect", "v").get("attachment") is None)
        self.ok("volume", "delete", "v", "--yes")
        self.assertEqual(self.connections(), set())
        # The disk comes back: not taken silently, by a restart or by hand, and its data can be saved.
        os.rmdir(pool) if os.path.isdir(pool) else None
        self.host.run(["mv", self.host.path("lost-disk"), pool])
        self.daemon.restart()
        self.assertEqual(self.ok("pool", "list").get("pools", []), [])
        error = self.refused("pool", "add", pool)
        self.assertEqual(error["name"], "already_exists")
        for words in ("which was removed", "holdfast pool export"):
            self.assertIn(words, error["message"])
        self.assertEqual(self.ok("pool", "verify", pool)["findings"], [])
        self.ok("pool", "add", self.folder("new"), "--size", "1G")
        self.wait_healthy()


class NothingToBeHad(BadDay):
    """What the kernel does not give: said with its name, nothing is left behind, and it works again afterwards."""

    def test_no_loop_device_and_no_fuse(self):
        self.ok("volume", "create", "v", "--size", "64M")
        for device, words in (("/dev/loop-control", ("/dev/loop-control",)), ("/dev/fuse", ("/dev/fuse", "modprobe"))):
            self.host.run(["mount", "--bind", "/dev/null", device])
            try:
                error = self.refused("volume", "attach", "v")
                second = self.refused("volume", "mount", "v", self.folder("m"))
            finally:
                self.host.run(["umount", device])
            print(error["code"], error["message"], flush=True)
            for word in ("v", *words):
                self.assertIn(word, error["message"])
                self.assertIn(word, second["message"])
            self.assertEqual(self.daemon.json("volume", "inspect", "v")["state"], "detached")
            self.assertEqual(self.connections(), set())
            self.ok("volume", "mount", "v", self.folder("m"))
            self.ok("volume", "unmount", "v", self.folder("m"))
        self.wait_healthy()


def http(body, method="POST", target="/VolumeDriver.Create", more=""):
    body = body if isinstance(body, bytes) else body.encode()
    return f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


class AnyBytes(BadDay):
    """Whatever clients send: the daemon lives, serves the others meanwhile, and does not grow."""

    config = ('export = "fuse"',)

    def test_malformed_http_grpc_and_nbd(self):
        plugin = self.host.path("run", "docker", "plugins", "holdfast.sock")
        api = os.path.join(self.daemon.run_dir, "api.sock")
        nbd = os.path.join(self.daemon.run_dir, "nbd.sock")
        self.ok("volume", "create", "calm", "--size", "64M")
        seed = SEED
        print(f"SEED={seed}", flush=True)
        sizes = []
        for _ in range(4):  # the same each time: what stays after the second is a leak
            chance = random.Random(seed)
            for sock, attack in ((plugin, self.http_attack), (api, self.grpc_attack), (nbd, self.nbd_attack)):
                attack(sock, chance)
                self.assertTrue(self.daemon.running, f"ended by what was sent to {sock}:\n{self.daemon.logs()}")
                self.assertEqual(self.ask_plugin(plugin, http('{"Name":"calm"}', target="/VolumeDriver.Get"))["Err"], "")
                self.ok("volume", "inspect", "calm")
            wait_until("connections to be gone", lambda: self.descriptors() <= (sizes[0][1] if sizes else 1 << 20) + 3, seconds=40)
            time.sleep(7)  # idle: the daemon gives back what the allocator keeps
            sizes.append((self.resident(), self.descriptors()))
        print("resident KiB and descriptors after each turn:", sizes, flush=True)
        wait_until("the daemon to be no more than 10 MiB larger (the NBD server keeps 8 MiB for reuse)",
                   lambda: self.resident() - sizes[1][0] < 10 * 1024, every=1)
        self.assertEqual(list(self.daemon.volumes()), ["calm"], "something was made of it")

    def resident(self):
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as stream:
            return int(next(line for line in stream if line.startswith("VmRSS")).split()[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def talk(self, path, data, wait=True, seconds=5):
        """Sends, and returns what comes until the peer closes or is silent; the connection may end at any moment."""
        answer = b""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(seconds)
            client.connect(path)
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while wait and (some := client.recv(65536)):
                    answer += some
            except OSError:
                pass
        return answer

    def ask_plugin(self, path, request):
        return json.loads(self.talk(path, request, seconds=60).partition(b"\r\n\r\n")[2])

    def http_attack(self, path, chance):
        huge = b"POST /VolumeDriver.Create HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * 10
        self.assertIn(b"413", self.talk(path, huge)[:20])
        self.assertIn(b"400", self.talk(path, b"\x16\x03\x01\x02\x00" + chance.randbytes(300) + b"\r\n\r\n")[:20])
        deep = '{"a":' * 150_000
        self.assertNotEqual(self.ask_plugin(path, http(deep))["Err"], "")
        self.assertNotEqual(self.ask_plugin(path, http("[" * 400_000 + "]" * 400_000))["Err"], "")
        for body in ('{"Name":', '{"Name":1}', '{"Name":"x","Opts":{"size":{}}}', '{"Name":"' + "n" * 5000 + '"}', b'{"Name":"\xff\xfe"}',
                     '{"Name":"x","Opts":' + json.dumps({f"k{n}": "v" for n in range(2000)}) + "}"):
            self.assertNotEqual(self.ask_plugin(path, http(body))["Err"], "", body[:60])
        # Pipelined: answered in order, malformed ones where they stand.
        pipeline = b"".join(http('{"Name":"calm"}', target="/VolumeDriver.Get") if n % 2 else http("{") for n in range(40))
        answers = self.talk(path, pipeline)
        self.assertEqual(answers.count(b"HTTP/1.1 200"), 40)
        for _ in range(60):
            self.talk(path, chance.randbytes(chance.randrange(1, 4000)), wait=chance.random() < 0.3)
        # Slow ones, each in the middle of a head or a body, while others are served.
        slow = []
        for n in range(100):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            whole = http('{"Name":"calm"}')
            client.sendall(whole[:1 + n % (len(whole) - 1)])
            slow.append(client)
        began = time.monotonic()
        self.assertEqual(self.ask_plugin(path, http('{"Name":"calm"}', target="/VolumeDriver.Get"))["Err"], "")
        self.assertLess(time.monotonic() - began, 25, "they have 30 s each")
        for client in slow:
            client.close()

    def grpc_attack(self, path, chance):
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for _ in range(60):
            noise = chance.randbytes(chance.randrange(1, 3000))
            self.talk(path, noise if chance.random() < 0.3 else preface + b"\0\0\0\4\0\0\0\0\0" + noise, wait=False)
        for kind in range(12):  # frames of every kind whose length, flags and stream are anything
            frames = b"".join(length.to_bytes(3, "big") + bytes((kind, chance.randrange(256))) + chance.randbytes(4) + chance.randbytes(min(length, 4000))
                              for length in (0, 1, chance.randrange(4000), 0xFFFFFF))
            self.talk(path, preface + b"\0\0\0\4\0\0\0\0\0" + frames, wait=False)
        began = time.monotonic()
        self.ok("status")
        self.assertLess(time.monotonic() - began, 60)

    def nbd_attack(self, path, chance):
        flags = b"\0\0\0\3"
        option = b"IHAVEOPT"
        go = b"\0\0\0\4calm\0\0"
        enter = flags + option + (7).to_bytes(4, "big") + len(go).to_bytes(4, "big") + go
        for _ in range(40):
            self.talk(path, chance.randbytes(chance.randrange(1, 2000)), wait=False)
            self.talk(path, flags + option + chance.randrange(12).to_bytes(4, "big") + chance.randrange(3000).to_bytes(4, "big")
                      + chance.randbytes(chance.randrange(3000)), wait=False)
        for _ in range(20):  # in the second phase: requests of any kind, place and length
            requests = b"".join(b"\x25\x60\x95\x13" + chance.choice((b"\0\0", chance.randbytes(2))) + chance.randrange(9).to_bytes(2, "big")
                                + chance.randbytes(8) + chance.choice((bytes(8), chance.randbytes(8))) + chance.choice((b"\0\0\x10\0", chance.randbytes(4)))
                                for _ in range(chance.randrange(1, 20)))
            self.talk(path, enter + requests, wait=chance.random() < 0.2, seconds=2)
        wait_until("the volume to be let go", lambda: self.daemon.json("volume", "inspect", "calm")["state"] == "detached", seconds=20)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    pyunit.main()
