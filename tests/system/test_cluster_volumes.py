#!/usr/bin/python3
"""Volumes with replicas on three real nodes: a node is killed, frozen, cut off, comes back; every line that was acknowledged is there,
the replicas are alike to the byte, and the file system is whole."""
import os
import signal
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.cluster import Frozen, SharedClusterTest, Writer, etcd_of  # noqa: E402

IN_USE = 7
UNAVAILABLE = 31


class ClusterVolumes(SharedClusterTest):
    def mount(self, node, name, folder="at"):
        point = node.host.path(folder)
        os.makedirs(point, exist_ok=True)
        began = time.monotonic()
        node.holdfast("volume", "mount", name, point)
        return point, time.monotonic() - began

    def writer(self, node, folder, name="lines"):
        writer = Writer(node.host, folder, name)
        self.addCleanup(writer.process.kill)
        return writer

    def in_sync(self, node, name):
        return [replica["in_sync"] for replica in node.json("volume", "inspect", name)["replicas"]]

    def check_lines(self, node, path, at_least):
        """All that were acknowledged, in order, and nothing else."""
        there = [int(line) for line in node.host.run(["cat", path]).stdout.split()]
        self.assertGreaterEqual(len(there), at_least)
        self.assertEqual(there, list(range(1, len(there) + 1)))

    def take_over(self, two, writer, what):
        lines = writer.lines() - 1
        what()
        place, took = self.mount(two, "db")
        print(f"mounted on another node {took:.2f} s after: {what.__name__}")
        self.check_lines(two, os.path.join(place, "lines"), lines)
        second = self.writer(two, place, "more")
        wait_until("lines of the second writer", lambda: second.lines() > 100)
        return second

    def all_well(self, node):
        wait_until("every replica to be in sync", lambda: all(self.in_sync(node, "db")), seconds=60)
        wait_until("all to be well", lambda: node.json("status")["healthy"], seconds=60)

    def check_replicas(self, nodes, at):
        """Unmounted from `at`; then its device on each node, which reads its own replica first, is the same, and fsck finds nothing."""
        at.holdfast("volume", "unmount", "db", at.host.path("at"))
        sums = {}
        for node in nodes:
            device = node.json("volume", "attach", "db")["attachment"]["device"]
            if not sums:
                node.host.run(["e2fsck", "-fn", device], timeout=60)
            sums[node] = node.host.run(["sh", "-c", f"dd if={device} iflag=direct bs=1M status=none | sha256sum"]).stdout
            node.holdfast("volume", "detach", "db")
        self.assertEqual(len(set(sums.values())), 1, f"the replicas differ: {sums}")

    def begin(self):
        """A volume on three nodes, used on the first."""
        nodes = self.three_nodes
        nodes[0].holdfast("volume", "create", "db", "--size", "128M", "--repl", "3")
        point, _ = self.mount(nodes[0], "db")
        writer = self.writer(nodes[0], point)
        wait_until("lines", lambda: writer.lines() > 100)
        return nodes, writer

    def test_a_killed_node(self):
        (one, two, three), writer = self.begin()
        os.makedirs(two.host.path("at"), exist_ok=True)
        refused = two.holdfast("volume", "mount", "db", two.host.path("at"), check=False)
        self.assertEqual(refused.returncode, IN_USE, refused.stderr)
        self.assertIn("n1", refused.stderr)
        second = self.take_over(two, writer, one.kill9)
        one.start(120)
        self.old_writer_ends(writer)
        self.all_well(two)
        # A replica's node dies: a pause, no error, and it is copied what it missed.
        three.kill9()
        before = second.lines()
        wait_until("the writer to go on without it", lambda: second.lines() > before + 100)
        self.assertEqual(self.in_sync(two, "db").count(False), 1)
        self.assertFalse(two.json("status")["healthy"])
        three.start(120)
        self.all_well(two)
        # All at once.
        lines = second.lines() - 1
        for node in (one, two, three):
            node.kill9()
        for node in (one, two, three):
            node.spawn()
        for node in (one, two, three):
            node.wait_ready(120)
        wait_until("the writer to go on after all were killed", lambda: second.lines() > lines + 100, seconds=60)
        second.finish(self)
        self.all_well(one)
        self.check_replicas([one, two, three], two)

    def test_a_node_that_is_cut_off(self):
        (one, two, three), writer = self.begin()

        def unplugged():
            self.lan.unplug(one.host)

        self.addCleanup(self.lan.replug, one.host)
        second = self.take_over(two, writer, unplugged)
        self.assertIsNone(writer.process.poll(), "cut off it knows nothing of the takeover: it waits")
        self.lan.replug(one.host)
        self.old_writer_ends(writer)
        self.all_well(two)
        second.finish(self)
        try:
            wait_until("the first node to have let go of it", lambda: one.json("status")["healthy"] and one.host.path("at") not in str(one.host.mounts()), seconds=30)
        except AssertionError:
            print(one.json("status"), one.logs(40))
            raise
        self.check_replicas([one, two, three], two)

    def old_writer_ends(self, writer):
        self.assertNotEqual(writer.process.wait(60), 0, "it wrote on after its volume was taken over")

    def test_a_frozen_node(self):
        (one, two, three), writer = self.begin()

        def frozen():
            ice.append(Frozen(one))
            self.addCleanup(ice[0].thaw)

        ice = []
        second = self.take_over(two, writer, frozen)
        self.assertIsNone(writer.process.poll(), "its node stands still")
        ice[0].thaw()
        self.old_writer_ends(writer)
        self.all_well(two)
        second.finish(self)
        self.check_replicas([one, two, three], two)

    def test_a_node_that_is_cut_off_in_one_direction(self):
        """It hears nobody; then the next one is heard by nobody."""
        nodes, writer = self.begin()
        one, two, three = nodes
        hosts = [node.host for node in nodes]

        def deaf():
            self.lan.deafen(one.host, [two.host, three.host])

        def mute():
            self.lan.mute(two.host, [one.host, three.host])

        self.addCleanup(self.lan.hear, hosts)
        second = self.take_over(two, writer, deaf)
        self.lan.hear(hosts)
        self.old_writer_ends(writer)
        self.all_well(two)
        lines = second.lines() - 1
        mute()
        place, took = self.mount(three, "db")
        print(f"mounted on another node {took:.2f} s after: mute")
        self.check_lines(three, os.path.join(place, "more"), lines)
        self.lan.hear(hosts)
        self.old_writer_ends(second)
        third = self.writer(three, place, "most")
        wait_until("lines of the third writer", lambda: third.lines() > 100)
        self.all_well(three)
        third.finish(self)
        self.check_replicas(nodes, three)

    def test_etcd_loses_its_majority(self):
        """What writes goes on; what needs etcd waits or is refused, and goes on when asked again."""
        nodes, writer = self.begin()
        members = [etcd_of(node.host) for node in nodes[1:]]
        for pid in members:
            os.kill(pid, signal.SIGSTOP)
            self.addCleanup(os.kill, pid, signal.SIGCONT)
        before = writer.lines()
        asked = nodes[0].host.start([nodes[0].client, *nodes[0].client_options, "volume", "create", "late", "--size", "16M", "--repl", "3"],
                                    nodes[0].host.path("create.log"))
        wait_until("the writer to go on without etcd", lambda: writer.lines() > before + 300)
        gave_up = asked.poll()
        self.assertIn(gave_up, (None, UNAVAILABLE), "nothing is created without etcd")
        for pid in members:
            os.kill(pid, signal.SIGCONT)
        if gave_up is None and asked.wait(60) == 0:
            self.assertIn("late", nodes[1].volumes())
        else:
            self.assertEqual(asked.returncode, UNAVAILABLE)
            nodes[1].holdfast("volume", "create", "late", "--size", "16M", "--repl", "3", timeout=60)
        self.all_well(nodes[0])
        writer.finish(self)
        self.check_replicas(nodes, nodes[0])
        nodes[2].holdfast("volume", "delete", "late", "--yes")

    def test_daemons_restarted_in_turn(self):
        nodes, writer = self.begin()
        for node in nodes:
            before = writer.lines()
            node.restart(120)
            wait_until("the writer to go on", lambda: writer.lines() > before + 50)
            self.all_well(node)
        writer.finish(self)
        self.check_replicas(nodes, nodes[0])

    def test_a_planned_move(self):
        (one, two, three), writer = self.begin()
        writer.finish(self)
        one.holdfast("volume", "unmount", "db", one.host.path("at"))
        place, took = self.mount(three, "db")
        print(f"mounted on another node {took:.2f} s after it was unmounted")
        self.check_lines(three, os.path.join(place, "lines"), 100)
        grown = two.json("volume", "resize", "db", "256M")
        self.assertEqual(grown["size_bytes"], 256 << 20)
        two.holdfast("snapshot", "create", "db", "s1")
        two.holdfast("volume", "clone", "db", "copy", "--snapshot", "s1")
        copy, _ = self.mount(two, "copy", "copy")
        self.check_lines(two, os.path.join(copy, "lines"), 100)
        two.holdfast("volume", "unmount", "copy", copy)
        three.holdfast("volume", "unmount", "db", place)
        for name in ("copy", "db"):
            one.holdfast("volume", "delete", name, "--yes", "--with-snapshots")
        self.assertEqual([pool["replica_count"] for pool in one.json("pool", "list")["pools"]], [0, 0, 0])


if __name__ == "__main__":
    pyunit.main()
