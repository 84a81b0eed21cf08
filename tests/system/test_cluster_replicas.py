#!/usr/bin/python3
"""Replicas on real nodes that come and go under a writer: more and fewer, a node drained and decommissioned, one that stays away; a
volume's use moved to another node."""
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.base import Failed  # noqa: E402
from harness.cluster import ClusterTest, Writer  # noqa: E402

IN_USE, REFUSED = 7, 8
CONFIG = ["rebuild_after_s = 5"]


class ClusterReplicas(ClusterTest):
    def four(self):
        first = self.node("n1", CONFIG)
        first.json("cluster", "init", timeout=180)
        nodes = [first] + [self.join(first, name, CONFIG) for name in ("n2", "n3", "n4")]
        self.wait_voters(nodes[:3], 3)
        for node in nodes:
            node.add_pool("1G")
        for node in nodes:
            wait_until("all nodes to be seen online",
                       lambda node=node: [n["online"] for n in node.json("node", "list")["nodes"]] == [True] * 4, seconds=30)
        return dict(zip(("n1", "n2", "n3", "n4"), nodes))

    def homes(self, node, name="db"):
        """Nodes with a replica in sync; none where one is still being made or removed."""
        replicas = node.json("volume", "inspect", name)["replicas"]
        if not all(replica["in_sync"] and replica["state"] == "online" for replica in replicas):
            return []
        return sorted(replica["node_name"] for replica in replicas)

    def wait_homes(self, node, count, without=()):
        def there():
            homes = self.homes(node)
            return len(homes) == count and not set(homes) & set(without)
        try:
            wait_until(f"{count} replicas in sync, none on {without}", there, seconds=90)
        except AssertionError:
            print(node.json("volume", "inspect", "db"), node.json("status"), node.logs(60))
            raise
        return self.homes(node)

    def places_in_sync(self, node):
        """None while the state store chooses another leader."""
        try:
            return [r["node_name"] for r in node.json("volume", "inspect", "db")["replicas"] if r["in_sync"]]
        except Failed as why:
            print(why)
            return []

    def replicas_of(self, node, name):
        return {n["name"]: n["replicas"] for n in node.json("node", "list")["nodes"]}.get(name)

    def goes_on(self, writer):
        before = writer.lines()
        wait_until("the writer to go on", lambda: writer.lines() > before + 50)

    def test_replicas_follow_what_is_wanted(self):
        nodes = self.four()
        one = nodes["n1"]
        one.holdfast("volume", "create", "db", "--size", "128M")
        point = one.host.path("at")
        os.makedirs(point)
        one.holdfast("volume", "mount", "db", point)
        writer = Writer(one.host, point)
        self.addCleanup(writer.process.kill)
        wait_until("lines", lambda: writer.lines() > 100)
        self.assertEqual(self.homes(one), ["n1"])

        # More, asked of a node that has nothing of it; not on one that is drained.
        one.holdfast("node", "drain", "n2")
        nodes["n2"].holdfast("volume", "ha-update", "db", "--repl", "3")
        self.assertEqual(self.wait_homes(one, 3), ["n1", "n3", "n4"])
        self.goes_on(writer)
        one.holdfast("node", "drain", "n2", "--undo")

        # A node that is to go: not one of those that carry the state store, of which another is killed below.
        leaving = "n4"
        refused = one.holdfast("node", "decommission", leaving, "--yes", check=False)
        self.assertEqual(refused.returncode, REFUSED, refused.stderr)
        self.assertIn("drain", refused.stderr)
        one.holdfast("node", "drain", leaving, "--wait", timeout=120)
        self.assertEqual(self.replicas_of(one, leaving), 0)
        self.wait_homes(one, 3, [leaving])
        self.assertIn(leaving, str(one.json("status")["problems"]))
        one.holdfast("node", "decommission", leaving, "--yes", timeout=60)
        gone = nodes.pop(leaving)
        self.nodes.remove(gone)
        gone.kill9()
        gone.end_holder()
        gone.close_pools()
        self.assertEqual(sorted(n["name"] for n in one.json("node", "list")["nodes"]), sorted(nodes))
        self.goes_on(writer)
        wait_until("all to be well", lambda: one.json("status")["healthy"], seconds=60)

        # Fewer: it stays where it is used.
        one.holdfast("volume", "ha-update", "db", "--repl", "2")
        homes = self.wait_homes(one, 2)
        self.assertIn("n1", homes)
        wait_until("the third to be removed", lambda: sum(n["replicas"] for n in one.json("node", "list")["nodes"]) == 2, seconds=60)

        # A node that stays away: its replica is made elsewhere, and what it has goes when it is back.
        away = next(name for name in homes if name != "n1")
        other = next(name for name in nodes if name not in homes)
        nodes[away].kill9()
        wait_until(f"a replica on {other}", lambda: other in self.places_in_sync(one), seconds=90)
        self.goes_on(writer)
        nodes[away].start(120)
        self.wait_homes(one, 2, [away])
        wait_until("its old replica to be removed", lambda: self.replicas_of(one, away) == 0, seconds=90)

        # Its use moves; refused while it is used.
        to = nodes[other]
        refused = one.holdfast("volume", "move", "db", "--to", other, check=False)
        self.assertEqual(refused.returncode, IN_USE, refused.stderr)
        lines = writer.finish(self)
        one.holdfast("volume", "unmount", "db", point)
        moved = one.json("volume", "move", "db", "--to", other)
        self.assertEqual(moved["attachment"]["node_name"], other)
        place = to.host.path("at")
        os.makedirs(place)
        to.holdfast("volume", "mount", "db", place)
        there = to.host.run(["cat", os.path.join(place, "lines")]).stdout.split()
        self.assertEqual([int(line) for line in there], list(range(1, lines + 1)))
        to.holdfast("volume", "unmount", "db", place)
        one.holdfast("volume", "delete", "db", "--yes")
        self.assertEqual({pool["replica_count"] for pool in one.json("pool", "list")["pools"]}, {0})


if __name__ == "__main__":
    pyunit.main()
