#!/usr/bin/python3
"""A real PostgreSQL on an inline-specified volume: every committed transaction survives what happens to container and daemon."""
import os
import re
import subprocess
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import wait_until  # noqa: E402
from harness.base import need_psycopg2  # noqa: E402
from harness.node import NodeTest  # noqa: E402
from pg_ledger import Ledger, Report, TABLE, pgbench_faults, read_books  # noqa: E402

SCALE = 5


class Database:
    """One PostgreSQL container and its socket folder on the host."""

    def __init__(self, test, name, volume):
        self.psycopg2 = need_psycopg2()
        self._test, self.name, self.volume = test, name, volume
        self.socket = test.path("socket-" + name)
        os.makedirs(self.socket)

    def run(self):
        self._test.docker("run", "-d", "--name", self.name, "--network=none", "--stop-signal=SIGINT", "--shm-size=64m",
                          "--volume-driver=holdfast", "-v", f"{self.volume}:/var/lib/postgresql", "-v", f"{self.socket}:/var/run/postgresql",
                          "pg", "-c", "shared_buffers=64MB", "-c", "max_wal_size=256MB", "-c", "checkpoint_timeout=30s")
        self.wait()

    def connect(self):
        return self.psycopg2.connect(host=self.socket, user="postgres", dbname="postgres", connect_timeout=10)

    def accepts(self):
        try:
            self.connect().close()
            return True
        except self.psycopg2.OperationalError:
            return False

    def wait(self, seconds=120):
        wait_until(f"{self.name} to accept connections", self.accepts, seconds=seconds)

    def query(self, sql):
        connection = self.connect()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchone()
        finally:
            connection.close()

    def inside(self, *command, **more):
        return self._test.docker("exec", "-u", "postgres", self.name, *command, **more)

    def faults(self):
        """pgbench's invariants, and every heap and index page read and compared."""
        faults = pgbench_faults(self.query, SCALE)
        checked = self.inside("pg_amcheck", "--install-missing", "--heapallindexed", "postgres", check=False, timeout=300, merge=True)
        if checked.returncode:
            faults.append(f"pg_amcheck: {checked.stdout}")
        return faults

    def start_pgbench(self, seconds, clients=4):
        """pgbench from inside the container, in the background; it ends with an error when a transaction fails."""
        return subprocess.Popen(
            self._test.host.enter(self._test.engine.command(
                "exec", "-u", "postgres", self.name, "pgbench", "-c", str(clients), "-j", "2", "-T", str(seconds), "-n", "postgres")),
            env=self._test.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


class PostgresTest(NodeTest):
    """A database with pgbench's tables and the ledger's, on one volume."""

    images = ("pg",)
    pool_size = "8G"
    volume = "size=2G,fs=ext4,name=pg"

    def setUp(self):
        super().setUp()
        self.db = Database(self, "pg", self.volume)
        self.db.run()
        self.db.inside("pgbench", "-i", "-q", "-s", str(SCALE), "postgres", timeout=300)
        self.ledger = Ledger(self.path("books"), self.db.connect)
        self.ledger.create_table()
        self.addCleanup(self.docker, "rm", "-f", "pg", check=False)

    def load(self, seconds):
        """Ledger writers and pgbench together."""
        bench = self.db.start_pgbench(seconds)
        self.ledger.start(writers=3)
        self.ledger.wait_commits(20)
        return bench

    def must_be_whole(self, at_least=20):
        report = self.ledger.check()
        print(report, flush=True)
        report.must_be_whole(at_least=at_least)
        self.assertEqual(self.db.faults(), [])


class Postgres(PostgresTest):
    def test_kill9_of_the_container(self):
        for _ in range(3):
            bench = self.load(60)
            self.docker("kill", "pg")
            bench.wait(60)
            self.docker("start", "pg")
            self.db.wait()
            self.ledger.stop()
            self.must_be_whole()

    def test_kill9_of_the_daemon(self):
        """The database pauses: no connection, no transaction of pgbench or of the ledger may fail."""
        bench = self.load(40)
        pauses = []
        for _ in range(4):
            self.daemon.kill9()
            began = time.monotonic()
            time.sleep(0.3)
            self.daemon.start()
            self.ledger.wait_commits(20)
            pauses.append(time.monotonic() - began)
            time.sleep(2)
        said, _ = bench.communicate(timeout=180)
        self.ledger.stop()
        self.assertEqual(self.ledger.errors, [])
        self.assertEqual(bench.returncode, 0, said)
        self.assertRegex(said, r"number of failed transactions: 0 ")
        print(f"pauses until 20 further commits: {', '.join(f'{p:.2f}' for p in pauses)} s; longest commit {self.ledger.longest_commit:.2f} s; "
              f"pgbench {re.search(r'tps = ([0-9.]+)', said).group(1)} tps", flush=True)
        self.must_be_whole()

    def test_kill9_of_both_at_once(self):
        for _ in range(2):
            bench = self.load(60)
            self.daemon.kill9()
            # Processes that wait for their storage cannot die before it is back: Docker says so, and goes on waiting.
            self.docker("kill", "pg", check=False, timeout=120)
            self.daemon.start()
            wait_until("the container to be dead", lambda: not self.engine.inspect("pg")["State"]["Running"], seconds=120)
            bench.communicate(timeout=120)
            self.docker("start", "pg", timeout=120)
            self.db.wait()
            self.ledger.stop()
            self.must_be_whole()

    def test_upgrade_of_the_daemon(self):
        bench = self.load(20)
        self.daemon.restart()
        self.ledger.wait_commits(20)
        said, _ = bench.communicate(timeout=180)
        self.ledger.stop()
        self.assertEqual((self.ledger.errors, bench.returncode), ([], 0), said)
        self.must_be_whole()

    def test_snapshot_clone_and_restore_while_it_writes(self):
        bench = self.load(25)
        before = read_books(self.ledger.folder)[1]
        self.daemon.holdfast("snapshot", "create", "pg", "s1")
        self.ledger.wait_commits(50)
        self.daemon.holdfast("volume", "clone", "pg", "pg2", "--snapshot", "s1")
        bench.communicate(timeout=180)
        self.ledger.stop()
        # A second PostgreSQL on the clone: it has all that was acknowledged before the snapshot, and is consistent.
        second = Database(self, "second", "pg2")
        second.run()
        self.addCleanup(self.docker, "rm", "-f", "second", check=False)
        connection = second.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT id, payload FROM {TABLE}")
            report = Report(read_books(self.ledger.folder)[0], before, cursor.fetchall())
        connection.close()
        print(f"clone: {report}", flush=True)
        report.must_be_whole(at_least=20)
        self.assertEqual(second.faults(), [])
        self.must_be_whole()
        # Restore: the first goes back to the same moment.
        self.docker("stop", "-t", "60", "pg", timeout=120)
        wait_until("pg to be detached", lambda: not self.daemon.attached("pg"))
        self.daemon.holdfast("snapshot", "restore", "pg", "s1", "--yes")
        self.docker("start", "pg")
        self.db.wait()
        self.assertEqual(self.db.query(f"SELECT count(*) FROM {TABLE}"), (report.rows,))
        self.assertEqual(self.db.faults(), [])


class PostgresOnXfs(PostgresTest):
    """XFS: ext4 grows online only with CAP_SYS_RESOURCE, which a machine for tests may lack."""

    volume = "size=2G,fs=xfs,name=pg"

    def test_resize_while_it_writes(self):
        bench = self.load(15)
        blocks = int(self.docker("exec", "pg", "stat", "-f", "-c", "%b", "/var/lib/postgresql").stdout)
        self.daemon.holdfast("volume", "resize", "pg", "4G")
        self.ledger.wait_commits(20)
        grown = int(self.docker("exec", "pg", "stat", "-f", "-c", "%b", "/var/lib/postgresql").stdout)
        self.assertGreater(grown, blocks * 1.9)
        said, _ = bench.communicate(timeout=120)
        self.ledger.stop()
        self.assertEqual((self.ledger.errors, bench.returncode), ([], 0), said)
        self.must_be_whole()


if __name__ == "__main__":
    pyunit.main()
