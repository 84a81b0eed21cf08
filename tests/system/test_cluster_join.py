#!/usr/bin/python3
"""A node that stands alone becomes a cluster under a writer that does not notice; two more join; what can go wrong on the way."""
import json
import os
import stat
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.cluster import ClusterTest, Writer  # noqa: E402

MEMBER, USED, REFUSED = 4, 9, 8  # exit codes: there already, used token, has something of its own


class Cluster(ClusterTest):
    def three(self):
        """A writer on the first node sees all of it and no error."""
        first = self.node("n1")
        first.add_pool("1G")
        first.holdfast("volume", "create", "db", "--size", "128M")
        point = first.host.path("at")
        os.makedirs(point)
        first.holdfast("volume", "mount", "db", point)
        writer = Writer(first.host, point)
        made = first.json("cluster", "init", timeout=180)
        self.assertTrue(made["member"] and made["signs"] and made["carries_state_store"], made)
        self.assertEqual(made["address"], first.address)
        nodes = [first]
        for name in ("n2", "n3"):
            nodes.append(self.join(first, name))
        self.wait_voters(nodes, 3)
        return nodes, writer

    def check_agreed(self, nodes):
        """Each knows all three, and what one creates the others see."""
        for node in nodes:
            wait_until(f"{node.address} to know three nodes", lambda node=node: len(node.json("node", "list")["nodes"]) == len(nodes),
                       seconds=60, every=0.5)
        self.assertEqual({node["address"] for node in nodes[0].json("node", "list")["nodes"]}, {f"{node.address}:9011" for node in nodes})

    def check_files(self, nodes):
        for node in nodes:
            for folder, _, names in os.walk(node.state_dir):
                if "mounts" in folder or "/etcd/data" in folder:
                    continue
                for name in names:
                    mode = os.lstat(os.path.join(folder, name)).st_mode
                    self.assertFalse(stat.S_IMODE(mode) & 0o077, f"{folder}/{name} may be read by others")
            with open(node.log, encoding="utf-8", errors="replace") as stream:
                said = stream.read()
            self.assertNotIn("PRIVATE KEY", said)
            self.assertNotIn("hf1.", said)

    def test_a_cluster_under_a_writer(self):
        nodes, writer = self.three()
        first, second, third = nodes
        self.check_agreed(nodes)
        self.check_files(nodes)
        self.assertTrue(os.path.exists(os.path.join(first.state_dir, "before-cluster.db")))
        self.assertFalse(os.path.exists(os.path.join(first.state_dir, "state.db")), "the old store is where it was")
        self.assertIn("db", first.volumes())
        # A node dies and comes back; the others went on meanwhile.
        second.kill9()
        first.holdfast("volume", "create", "later", "--size", "64M")
        second.start()
        self.wait_voters(nodes, 3)
        # etcd's majority is away: the writer does not notice, what needs the state says so.
        before = writer.lines()
        second.kill9()
        third.kill9()
        refused = first.holdfast("volume", "create", "never", "--size", "64M", check=False)
        self.assertEqual(refused.returncode, 31, refused.stderr)
        wait_until("the writer to go on", lambda: writer.lines() > before + 20, seconds=30)
        # The first alone cannot begin: it waits, says for what, and begins when another is back.
        first.stop()
        first.spawn()
        wait_until("it to say that it waits", lambda: "waiting_to_start" in first.logs(), seconds=60)
        self.assertTrue(first.running)
        second.start()
        first.wait_ready(120)
        third.start()
        self.wait_voters(nodes, 3)
        # All of them at once.
        for node in nodes:
            node.kill9()
        for node in nodes:
            node.spawn()
        for node in nodes:
            node.wait_ready(120)
        self.wait_voters(nodes, 3)
        self.check_agreed(nodes)
        self.assertGreater(writer.finish(self), 50)
        self.assertIn("later", first.volumes())

    def test_what_is_refused(self):
        first = self.node("n1")
        alone = first.holdfast("cluster", "token", "create", check=False)
        self.assertEqual(alone.returncode, REFUSED, alone.stderr)
        self.assertIn("holdfast cluster init", alone.stderr)
        loop = first.holdfast("cluster", "init", "--address", "127.0.0.1", check=False)
        self.assertEqual(loop.returncode, 2, loop.stderr)
        foreign = first.holdfast("cluster", "init", "--address", "10.99.0.77", check=False)
        self.assertNotEqual(foreign.returncode, 0)
        self.assertFalse(first.json("cluster", "status")["member"])
        first.json("cluster", "init", timeout=180)
        again = first.holdfast("cluster", "init")
        self.assertIn("already", again.stdout)
        token = self.token(first)
        owner = self.node("owner")
        owner.add_pool("1G")
        refused = owner.holdfast("cluster", "join", token, check=False)
        self.assertEqual(refused.returncode, REFUSED, refused.stderr)
        self.assertIn("of its own", refused.stderr)
        self.assertTrue(owner.json("status")["healthy"], "a refused join left something behind")
        second = self.node("n2")
        wrong = second.holdfast("cluster", "join", token[:-5] + "aaaaa", check=False)
        self.assertEqual(wrong.returncode, 2, wrong.stderr)
        self.assertNotIn(token[4:20], wrong.stderr)
        second.holdfast("cluster", "join", token, timeout=180)
        used = owner.json("cluster", "status")
        self.assertFalse(used["member"])
        third = self.node("n3")
        late = third.holdfast("cluster", "join", token, check=False)
        self.assertEqual(late.returncode, USED, late.stderr)
        member = second.holdfast("cluster", "join", self.token(first), check=False)
        self.assertEqual(member.returncode, MEMBER, member.stderr)
        tokens = {t["state"] for t in first.json("cluster", "token", "list")["tokens"]}
        self.assertEqual(tokens, {"used", "unused"})
        for t in first.json("cluster", "token", "list")["tokens"]:
            first.holdfast("cluster", "token", "revoke", t["id"])
        self.assertEqual(first.json("cluster", "token", "list")["tokens"], [])

    def test_killed_in_the_middle(self):
        """At any moment of init and join: the node is what it was or a member, and the same command finishes."""
        first = self.node("n1")
        first.add_pool("1G")
        first.holdfast("volume", "create", "v", "--size", "64M")
        self.killed(first, ["cluster", "init"], (0.3, 0.8, 1.5))
        self.assertIn("v", first.volumes())
        second = self.node("n2")
        self.killed(second, ["cluster", "join", self.token(first)], (0.2, 1.0, 2.0, 3.0))
        self.wait_voters([first, second], 2)
        self.check_agreed([first, second])

    def killed(self, node, command, moments):
        for moment in moments:
            asking = threading.Thread(target=lambda: node.holdfast(*command, check=False, timeout=180))
            asking.start()
            time.sleep(moment)
            node.kill9()
            node.start(120)
            asking.join()
            if node.json("cluster", "status")["member"]:
                return
        done = node.holdfast(*command, timeout=180)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(node.json("cluster", "status")["member"])


if __name__ == "__main__":
    pyunit.main()
