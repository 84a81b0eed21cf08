#!/usr/bin/python3
"""PostgreSQL in a container of one machine, on a volume with a replica on each of three; the machine dies, and `docker run` on another
one has every transaction that was acknowledged."""
import os
import signal
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.cluster import ClusterTest  # noqa: E402
from pg_ledger import Ledger  # noqa: E402
from test_postgres import SCALE, Database  # noqa: E402

VOLUME = "size=1G,fs=ext4,repl=3,name=db"


class Machine:
    """A node with an engine, as Database wants it."""

    def __init__(self, test, node):
        self.node, self.host, self.environment = node, node.host, test.environment
        self.engine = test.start_engine(node.host, "pg")
        test.addCleanup(self.docker, "rm", "-f", "pg", check=False)

    def path(self, name):
        return self.host.path(name)

    def docker(self, *arguments, **more):
        return self.engine.docker(*arguments, **more)

    def die(self):
        """Daemon, engine and containers at once. What waits for its storage in the kernel goes when that gives an error."""
        container = self.engine.container_pid("pg")
        os.kill(self.node.pid, signal.SIGKILL)
        os.kill(container, signal.SIGKILL)
        self.engine.kill9()
        self.node.kill9()


class ClusterPostgres(ClusterTest):
    def test_its_machine_dies(self):
        nodes = self.three(pool_size="3G")
        first, second = (Machine(self, node) for node in nodes[:2])
        db = Database(first, "pg", VOLUME)
        db.run()
        db.inside("pgbench", "-i", "-q", "-s", str(SCALE), "postgres", timeout=300)
        used = [db]
        ledger = Ledger(self.path("books"), lambda: used[-1].connect())
        ledger.create_table()
        bench = db.start_pgbench(60)
        ledger.start(writers=3)
        ledger.wait_commits(150)

        began = time.monotonic()
        first.die()
        again = Database(second, "pg", VOLUME)
        again.run()
        print(f"PostgreSQL accepts connections on the other machine {time.monotonic() - began:.1f} s after the first one died", flush=True)
        used.append(again)
        report = ledger.check()
        print(report, flush=True)
        report.must_be_whole(at_least=100)
        self.assertEqual(again.faults(), [])

        # The machine is back: what was left of its containers ends, and its replica catches up while the database works.
        nodes[0].start(120)
        bench.communicate(timeout=120)
        ledger.wait_commits(100)
        wait_until("every replica to be in sync", lambda: all(
            replica["in_sync"] for replica in nodes[1].json("volume", "inspect", "db")["replicas"]), seconds=90)
        ledger.stop(120)
        report = ledger.check()
        print(report, flush=True)
        report.must_be_whole(at_least=200)
        self.assertEqual(again.faults(), [])


if __name__ == "__main__":
    pyunit.main()
