#!/usr/bin/python3
"""The ledger's checker must see each kind of fault; without a database, rows are made up here."""
import os
import sys
import tempfile
import threading
import unittest

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import pyunit  # noqa: E402
from pg_ledger import Book, Ledger, Report, payload_of, pgbench_faults, read_books  # noqa: E402


def rows(*ids):
    return [(i, payload_of(i)) for i in ids]


class Check(unittest.TestCase):
    def test_whole(self):
        report = Report({1, 2, 3}, {1, 2}, rows(1, 2))
        self.assertEqual(report.faults, {})
        report.must_be_whole()
        self.assertEqual((report.acknowledged, report.in_doubt, report.rows), (2, 1, 2))

    def test_in_doubt_may_be_there(self):
        Report({1, 2, 3}, {1, 2}, rows(1, 2, 3)).must_be_whole()

    def refused(self, report, fault, ids):
        self.assertEqual(report.faults, {fault: ids})
        with self.assertRaisesRegex(AssertionError, f"{len(ids)} {fault}: {ids[0]}"):
            report.must_be_whole()

    def test_missing(self):
        self.refused(Report({1, 2, 3}, {1, 2, 3}, rows(1, 3)), "missing", [2])

    def test_doubled(self):
        self.refused(Report({1, 2}, {1, 2}, rows(1, 2, 2)), "doubled", [2])

    def test_unknown(self):
        self.refused(Report({1}, {1}, rows(1, 77)), "unknown", [77])

    def test_altered(self):
        self.refused(Report({1, 2}, {1, 2}, [(1, payload_of(1)), (2, payload_of(2)[:-1] + "x")]), "altered", [2])

    def test_everything_gone(self):
        self.refused(Report({1, 2}, {1, 2}, []), "missing", [1, 2])

    def test_nothing_acknowledged_proves_nothing(self):
        with self.assertRaisesRegex(AssertionError, "at least 1"):
            Report({1}, set(), []).must_be_whole()
        with self.assertRaisesRegex(AssertionError, "at least 3"):
            Report({1, 2}, {1, 2}, rows(1, 2)).must_be_whole(at_least=3)


class Books(unittest.TestCase):
    def test_round_trip_and_torn_last_line(self):
        with tempfile.TemporaryDirectory() as folder:
            book = Book(os.path.join(folder, "book-1-0"))
            book.attempt([1, 2])
            book.acknowledge([1, 2])
            book.attempt([3])
            book.close()
            with open(os.path.join(folder, "book-1-1"), "w", encoding="ascii") as stream:
                stream.write("try 9\nack 9\ntry 10\nack 1")
            self.assertEqual(read_books(folder), ({1, 2, 3, 9, 10}, {1, 2, 9}))


class FakeDatabase:
    """Just enough of psycopg2: rows commit together, and one commit in `fails_every` loses its answer."""

    def __init__(self, fails_every=0):
        self.rows, self._lock, self._commits, self._fails_every = [], threading.Lock(), 0, fails_every

    def connect(self):
        return FakeConnection(self)

    def after_read(self):
        """What happens right after the table was read."""

    def commit(self, new):
        with self._lock:
            self.rows += new
            self._commits += 1
            if self._fails_every and self._commits % self._fails_every == 0:
                raise ConnectionError("the answer was lost")


class FakeConnection:
    def __init__(self, database):
        self._database, self._new = database, []

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        new = list(self._new)
        self._new.clear()
        if kind is None and new:
            self._database.commit(new)

    def cursor(self):
        return FakeCursor(self._database, self._new)

    def close(self):
        pass


class FakeCursor:
    def __init__(self, database, new):
        self._database, self._new, self._rows = database, new, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def execute(self, sql, values=None):
        if sql.startswith("INSERT"):
            self._new.append(values)
        if sql.startswith("SELECT"):
            self._rows = list(self._database.rows)
            self._database.after_read()

    def fetchall(self):
        return self._rows


class Writers(unittest.TestCase):
    def run_ledger(self, database):
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(folder, database.connect)
            for _ in range(2):
                ledger.start(writers=3)
                ledger.wait_commits(20)
                ledger.stop()
            return ledger, ledger.check()

    def test_rows_and_books_agree(self):
        _, report = self.run_ledger(FakeDatabase())
        report.must_be_whole(at_least=80)
        self.assertEqual(report.rows, report.acknowledged)

    def test_lost_answers_are_in_doubt_and_never_repeated(self):
        ledger, report = self.run_ledger(FakeDatabase(fails_every=5))
        report.must_be_whole(at_least=80)
        self.assertGreater(len(ledger.errors), 0)
        self.assertEqual(report.in_doubt, 2 * len(ledger.errors))


class WritesOnWhileChecked(unittest.TestCase):
    def test_what_is_committed_after_the_table_was_read_is_not_missing(self):
        with tempfile.TemporaryDirectory() as folder:
            database = FakeDatabase()
            ledger = Ledger(folder, database.connect)
            book = Book(os.path.join(folder, "book-1-0"))

            def commit(*ids):
                book.attempt(list(ids))
                database.commit(rows(*ids))
                book.acknowledge(list(ids))

            commit(1, 2)
            database.after_read = lambda: commit(3, 4)
            report = ledger.check()
            book.close()
            report.must_be_whole(at_least=2)
            self.assertEqual((report.acknowledged, report.rows), (2, 2))

    def test_what_was_lost_is_missing_all_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            database = FakeDatabase()
            book = Book(os.path.join(folder, "book-1-0"))
            book.attempt([1, 2])
            book.acknowledge([1, 2])
            book.close()
            self.assertEqual(Ledger(folder, database.connect).check().missing, [1, 2])


class Pgbench(unittest.TestCase):
    GOOD = {"accounts": (7,), "tellers": (7,), "branches": (7,), "history": (7,)}

    def query(self, sums=None, accounts=(200_000, 200_000), torn=0):
        sums = {**self.GOOD, **(sums or {})}

        def answer(sql):
            if "torn" in sql:
                return (torn,)
            name = sql.rpartition("pgbench_")[2]
            if "sum(" in sql:
                return sums[name]
            return {"accounts": accounts, "tellers": (20, 20), "branches": (2, 2)}[name]
        return answer

    def test_good(self):
        self.assertEqual(pgbench_faults(self.query(), 2), [])

    def test_each_fault(self):
        self.assertRegex(pgbench_faults(self.query(sums={"history": (8,)}), 2)[0], "sums of balances differ.*history 8")
        self.assertRegex(pgbench_faults(self.query(accounts=(199_999, 199_999)), 2)[0], "pgbench_accounts has 199999 rows")
        self.assertRegex(pgbench_faults(self.query(accounts=(200_000, 199_999)), 2)[0], "199999 distinct")
        self.assertRegex(pgbench_faults(self.query(torn=1), 2)[0], "1 tellers")


if __name__ == "__main__":
    pyunit.main()
