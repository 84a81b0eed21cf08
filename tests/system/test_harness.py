#!/usr/bin/python3
"""The harness itself, on the real machine: engine, images, a database in a container, and the leak check."""
import os
import subprocess
import sys
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from harness import SystemTest, run, wait_until  # noqa: E402
from harness.base import need_psycopg2  # noqa: E402
from harness.leaks import Leaks, loops_of, mounts_below  # noqa: E402
from pg_ledger import TABLE, Ledger, pgbench_faults  # noqa: E402


class Engine(SystemTest):
    def setUp(self):
        super().setUp()
        self.host = self.make_host()
        self.engine = self.start_engine(self.host)

    def test_busybox_in_a_container(self):
        self.engine.ensure_image("bb")
        said = self.engine.docker("run", "--rm", "--network=none", "bb", "sh", "-c", "echo hello; id -u").stdout
        self.assertEqual(said, "hello\n0\n")

    def test_a_mount_made_on_the_host_is_seen_by_a_new_container(self):
        self.engine.ensure_image("bb")
        self.host.run(["sh", "-c", f"mkdir -p {self.path('m')} && mount -t tmpfs none {self.path('m')} && "
                                   f"echo inside > {self.path('m')}/f"])
        said = self.engine.docker("run", "--rm", "--network=none", "-v", f"{self.path('m')}:/data", "bb", "cat", "/data/f").stdout
        self.assertEqual(said, "inside\n")
        self.assertFalse(os.path.exists(self.path("m", "f")), "the mount reached the real machine")

    def test_containers_outlive_kill9_of_the_engine(self):
        self.engine.ensure_image("bb")
        self.engine.docker("run", "-d", "--name", "long", "--network=none", "bb", "sleep", "1000")
        pid = self.engine.container_pid("long")
        self.engine.kill9()
        self.assertTrue(os.path.exists(f"/proc/{pid}"))
        self.engine.start()
        self.assertEqual(self.engine.docker("rm", "-f", "long").stdout, "long\n")

    def test_ledger_over_a_killed_database(self):
        """The ledger on plain storage: PostgreSQL is killed while it writes, nothing may be lost; then we take a row away."""
        psycopg2 = need_psycopg2()
        self.engine.ensure_image("pg")
        for name in ("pg", "socket"):
            os.makedirs(self.path(name))
        self.engine.docker("run", "-d", "--name", "pg", "--network=none", "-v", f"{self.path('pg')}:/var/lib/postgresql",
                           "-v", f"{self.path('socket')}:/var/run/postgresql", "pg")

        def connect():
            return psycopg2.connect(host=self.path("socket"), user="postgres", dbname="postgres", connect_timeout=10)

        def accepts():
            try:
                connect().close()
                return True
            except psycopg2.OperationalError:
                return False
        wait_until("PostgreSQL to accept connections", accepts, seconds=60)
        ledger = Ledger(self.path("books"), connect)
        ledger.create_table()
        ledger.start(writers=3)
        ledger.wait_commits(50)
        self.engine.docker("kill", "pg")
        self.engine.docker("start", "pg")
        wait_until("PostgreSQL to be back", accepts, seconds=60)
        ledger.wait_commits(50)
        ledger.stop()
        self.assertGreater(len(ledger.errors), 0, "the kill did not reach the writers")
        report = ledger.check()
        report.must_be_whole(at_least=100)
        connection = connect()
        connection.autocommit = True
        connection.cursor().execute(f"DELETE FROM {TABLE} WHERE id = (SELECT min(id) FROM {TABLE})")
        connection.cursor().execute(f"INSERT INTO {TABLE} SELECT * FROM {TABLE} WHERE id = (SELECT max(id) FROM {TABLE})")
        connection.close()
        self.assertEqual(set(ledger.check().faults), {"missing", "doubled"})

    def test_postgres_in_a_container(self):
        self.engine.ensure_image("pg")
        self.host.run(["sh", "-c", f"mkdir -p {self.path('pg')} && mount -t tmpfs none {self.path('pg')}"])
        self.engine.docker("run", "-d", "--name", "pg", "--network=none", "--stop-signal=SIGINT", "-v", f"{self.path('pg')}:/var/lib/postgresql", "pg")

        def inside(*command, **more):
            return self.engine.docker("exec", "-u", "postgres", "pg", *command, **more)
        wait_until("PostgreSQL to accept connections", lambda: inside("pg_isready", check=False).returncode == 0, seconds=60)
        inside("pgbench", "-i", "-q", "-s", "1", "postgres")
        said = inside("pgbench", "-c", "2", "-T", "2", "postgres").stdout
        self.assertRegex(said, r"number of failed transactions: 0 ")

        def query(sql):
            return tuple(int(n) for n in inside("psql", "-Atc", sql, "postgres").stdout.strip().split("|"))
        self.assertGreater(query("select count(*) from pgbench_history")[0], 0)
        self.assertEqual(pgbench_faults(query, 1), [])
        inside("psql", "-c", "update pgbench_tellers set tbalance = tbalance + 1 where tid = 3", "postgres")
        self.assertEqual(len(pgbench_faults(query, 1)), 2)
        self.engine.docker("stop", "-t", "20", "pg")
        self.assertEqual(self.engine.inspect("pg")["State"]["ExitCode"], 0, self.engine.docker("logs", "pg", merge=True).stdout)


class TwoHosts(SystemTest):
    def test_engines_do_not_meet(self):
        engines = [self.start_engine(self.make_host(name)) for name in ("a", "b")]
        engines[0].ensure_image("bb")
        engines[0].docker("volume", "create", "only-a")
        self.assertIn("only-a", engines[0].docker("volume", "ls", "-q").stdout)
        self.assertEqual(engines[1].docker("volume", "ls", "-q").stdout, "")
        self.assertEqual(engines[1].docker("image", "ls", "-q").stdout, "")


class LeakCheck(SystemTest):
    """Leaves each kind of thing behind on purpose: the check must name it and take it away."""

    def found(self):
        return Leaks(self.scratch, self.test_id, patience=2).end()

    def test_process(self):
        child = subprocess.Popen(["sleep", "1000"], env=self.environment)
        self.assertEqual(self.found(), [f"process {child.pid}: sleep 1000"])
        self.assertEqual(child.wait(), -9)

    def test_process_without_the_mark_in_the_namespace_of_a_host(self):
        host = self.make_host()
        child = subprocess.Popen(host.enter(["env", "-i", "/bin/sleep", "1000"]))
        wait_until("the child to be in the host", lambda: os.readlink(f"/proc/{child.pid}/ns/mnt")
                   == os.readlink(f"/proc/{host.pid}/ns/mnt"))
        host.stop()
        leaks = self.leaks
        leaks.patience = 2
        self.assertIn(f"process {child.pid}: /bin/sleep 1000", leaks.end())
        self.assertEqual(child.wait(), -9)

    def test_mount(self):
        os.makedirs(self.path("m"))
        run(["mount", "-t", "tmpfs", "none", self.path("m")])
        self.assertEqual(self.found(), [f"mount {self.path('m')}"])
        self.assertEqual(mounts_below(self.scratch), [])

    def test_loop_device(self):
        with open(self.path("image"), "wb") as stream:
            stream.truncate(1 << 20)
        device = run(["losetup", "-f", "--show", self.path("image")]).stdout.strip()
        self.assertEqual(self.found(), [f"loop device {device} of {self.path('image')}"])
        self.assertEqual(loops_of(self.scratch), {})

    def test_nothing(self):
        self.assertEqual(self.found(), [])


if __name__ == "__main__":
    pyunit.main()
