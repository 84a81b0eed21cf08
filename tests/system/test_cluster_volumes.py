#!/usr/bin/python3
"""Volumes with replicas on three real nodes: a node is killed, cut off, comes back; every line that was acknowledged is there."""
import os
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.cluster import ClusterTest, Writer  # noqa: E402

IN_USE = 7


class ClusterVolumes(ClusterTest):
    def three(self, pools=3):
        first = self.node("n1")
        first.json("cluster", "init", timeout=180)
        nodes = [first] + [self.join(first, name) for name in ("n2", "n3")]
        self.wait_voters(nodes, 3)
        for node in nodes[:pools]:
            node.add_pool("1G")
        for node in nodes:
            wait_until("all nodes to be seen online", lambda node=node: all(n["online"] for n in node.json("node", "list")["nodes"])
                       and len(node.json("node", "list")["nodes"]) == 3, seconds=30)
        return nodes

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

    def test_a_killed_node(self):
        one, two, three = self.three()
        one.holdfast("volume", "create", "db", "--size", "128M", "--repl", "3")
        point, _ = self.mount(one, "db")
        writer = self.writer(one, point)
        wait_until("lines", lambda: writer.lines() > 100)
        os.makedirs(two.host.path("at"))
        refused = two.holdfast("volume", "mount", "db", two.host.path("at"), check=False)
        self.assertEqual(refused.returncode, IN_USE, refused.stderr)
        self.assertIn("n1", refused.stderr)
        lines = writer.lines()
        one.kill9()
        place, took = self.mount(two, "db")
        print(f"mounted on another node {took:.2f} s after the kill")
        there = [int(line) for line in two.host.run(["cat", os.path.join(place, "lines")]).stdout.split()]
        self.assertGreaterEqual(len(there), lines)
        self.assertEqual(there, list(range(1, len(there) + 1)))
        second = self.writer(two, place, "more")
        wait_until("lines of the second writer", lambda: second.lines() > 100)
        one.start(120)
        self.assertNotEqual(writer.process.wait(60), 0, "it wrote on after its volume was taken over")
        second.finish(self)
        wait_until("the returned node's replica to be in sync", lambda: all(self.in_sync(two, "db")), seconds=60)
        wait_until("all to be well", lambda: two.json("status")["healthy"], seconds=60)


if __name__ == "__main__":
    pyunit.main()
