"""The durability ledger: what PostgreSQL acknowledged is recorded outside of it, and compared after a crash.

Each writer inserts rows in transactions of its own. Before it sends one it records the attempt, after the COMMIT came back it
records the acknowledgement in a file that it syncs. An id is never used twice, also not after an error, so that afterwards

  missing   an acknowledged row that is not there       (durability lost)
  doubled   an id that is there more than once          (a replayed or duplicated write)
  unknown   an id that nobody attempted                 (foreign or torn data)
  altered   a row whose content is not that of its id   (corruption)

must all be empty. An attempt without acknowledgement may be there or not: the answer was lost.
"""
import glob
import hashlib
import os
import threading
import time

TABLE = "holdfast_ledger"
WRITERS_MAX = 64
PAYLOAD_REPEAT = 8  # 256 bytes of text a row


def payload_of(row_id):
    return hashlib.md5(str(row_id).encode(), usedforsecurity=False).hexdigest() * PAYLOAD_REPEAT


class Book:
    """One writer's file: lines `try <id>` and `ack <id>`; an incomplete last line (we were killed) does not count."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def attempt(self, ids):
        os.write(self._fd, "".join(f"try {i}\n" for i in ids).encode())

    def acknowledge(self, ids):
        os.write(self._fd, "".join(f"ack {i}\n" for i in ids).encode())
        os.fdatasync(self._fd)

    def close(self):
        os.close(self._fd)


def read_books(folder):
    """(attempted ids, acknowledged ids) of all books in the folder."""
    attempted, acknowledged = set(), set()
    for path in glob.glob(os.path.join(folder, "book-*")):
        with open(path, encoding="ascii") as stream:
            for line in stream.read().split("\n")[:-1]:
                kind, _, number = line.partition(" ")
                {"try": attempted, "ack": acknowledged}[kind].add(int(number))
    return attempted, acknowledged


class Report:
    def __init__(self, attempted, acknowledged, rows):
        seen, doubled, altered = set(), set(), set()
        for row_id, payload in rows:
            if row_id in seen:
                doubled.add(row_id)
            seen.add(row_id)
            if payload != payload_of(row_id):
                altered.add(row_id)
        self.rows = len(seen)
        self.acknowledged = len(acknowledged)
        self.in_doubt = len(attempted - acknowledged)
        self.missing = sorted(acknowledged - seen)
        self.doubled = sorted(doubled)
        self.unknown = sorted(seen - attempted)
        self.altered = sorted(altered)

    @property
    def faults(self):
        return {name: ids for name in ("missing", "doubled", "unknown", "altered") if (ids := getattr(self, name))}

    def __str__(self):
        text = f"{self.acknowledged} acknowledged, {self.in_doubt} in doubt, {self.rows} rows found"
        for name, ids in self.faults.items():
            text += f"; {len(ids)} {name}: {', '.join(map(str, ids[:10]))}{' …' if len(ids) > 10 else ''}"
        return text

    def must_be_whole(self, at_least=1):
        """Raises unless nothing is amiss and enough was acknowledged for the answer to mean something."""
        if self.faults:
            raise AssertionError(f"the database lost or changed what it had acknowledged: {self}")
        if self.acknowledged < at_least:
            raise AssertionError(f"only {self.acknowledged} commits were acknowledged, at least {at_least} were expected")


class Ledger:
    """folder: for the books, not on the storage under test. connect: makes a psycopg2 connection."""

    def __init__(self, folder, connect, *, rows_per_commit=2):
        self.folder = folder
        self._connect = connect
        self._rows_per_commit = rows_per_commit
        self._threads = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._round = 0
        self.errors = []            # (seconds since the start, text) of each failed transaction or connection
        self.longest_commit = 0.0   # seconds from the first statement to the acknowledgement
        self.commits = 0
        os.makedirs(folder, exist_ok=True)

    def create_table(self):
        # No primary key: a doubled row must be able to show itself.
        connection = self._connect()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (id bigint NOT NULL, payload text NOT NULL)")
                cursor.execute(f"CREATE INDEX IF NOT EXISTS {TABLE}_id ON {TABLE} (id)")
        finally:
            connection.close()

    def start(self, writers=4):
        assert 0 < writers <= WRITERS_MAX and not self._threads
        self._stop.clear()
        self._round += 1
        self._began = time.monotonic()
        for number in range(writers):
            thread = threading.Thread(target=self._write, args=(number, self._round), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self, seconds=120):
        """Ends the writers after their transaction in hand; what hangs longer than that is an error."""
        self._stop.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.1, end - time.monotonic()))
            if thread.is_alive():
                raise AssertionError(f"a writer's transaction still hangs {seconds} s after the stop")
        self._threads = []

    def wait_commits(self, more, seconds=120):
        """Waits until so many further commits were acknowledged."""
        goal, end = self.commits + more, time.monotonic() + seconds
        while self.commits < goal:
            if time.monotonic() > end:
                raise AssertionError(f"{self.commits - goal + more} of {more} commits within {seconds} s; last errors: "
                                     f"{self.errors[-3:]}")
            time.sleep(0.02)

    def _write(self, number, round_number):
        book = Book(os.path.join(self.folder, f"book-{round_number}-{number}"))
        next_id = (round_number * WRITERS_MAX + number) << 32
        connection = None
        while not self._stop.is_set():
            ids = list(range(next_id, next_id + self._rows_per_commit))
            next_id += self._rows_per_commit
            try:
                if connection is None:
                    connection = self._connect()
                book.attempt(ids)
                began = time.monotonic()
                with connection, connection.cursor() as cursor:
                    for row_id in ids:
                        cursor.execute(f"INSERT INTO {TABLE} VALUES (%s, %s)", (row_id, payload_of(row_id)))
                took = time.monotonic() - began  # `with connection` has committed
                book.acknowledge(ids)
                with self._lock:
                    self.commits += 1
                    self.longest_commit = max(self.longest_commit, took)
            except Exception as error:  # psycopg2's tree of errors, whatever the server's end causes
                with self._lock:
                    self.errors.append((time.monotonic() - self._began, f"{type(error).__name__}: {error}".strip()))
                connection = self._drop(connection)
                self._stop.wait(0.1)
        self._drop(connection)
        book.close()

    @staticmethod
    def _drop(connection):
        try:
            if connection is not None:
                connection.close()
        except Exception:  # a connection that is broken already
            pass

    def check(self):
        """Compares the books with the table as it is now. Writers may go on: what must be there was acknowledged before the table is
        read, and what may be there was attempted by the time that it has been."""
        acknowledged = read_books(self.folder)[1]
        connection = self._connect()
        try:
            with connection, connection.cursor() as cursor:
                # The heap itself, not the index: both must agree, and pg_amcheck compares them.
                cursor.execute("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")
                cursor.execute(f"SELECT id, payload FROM {TABLE}")
                rows = cursor.fetchall()
                return Report(read_books(self.folder)[0], acknowledged, rows)
        finally:
            connection.close()


def pgbench_faults(query, scale):
    """pgbench's own invariants as sentences; empty when all hold. query(sql) returns one row as a tuple of numbers."""
    faults = []
    sums = {name: query(f"SELECT coalesce(sum({column}), 0) FROM pgbench_{name}")[0]
            for name, column in (("accounts", "abalance"), ("tellers", "tbalance"), ("branches", "bbalance"), ("history", "delta"))}
    if len(set(sums.values())) != 1:
        faults.append("sums of balances differ: " + ", ".join(f"{name} {value}" for name, value in sums.items()))
    for name, key, count in (("accounts", "aid", 100_000), ("tellers", "tid", 10), ("branches", "bid", 1)):
        rows, distinct = query(f"SELECT count(*), count(DISTINCT {key}) FROM pgbench_{name}")
        if (rows, distinct) != (count * scale, count * scale):
            faults.append(f"pgbench_{name} has {rows} rows, {distinct} distinct; {count * scale} belong there")
    # Each teller's balance by itself: a transaction is there as a whole or not at all.
    (torn,) = query("SELECT count(*) FROM (SELECT t.tid FROM pgbench_tellers t LEFT JOIN pgbench_history h ON h.tid = t.tid "
                    "GROUP BY t.tid, t.tbalance HAVING t.tbalance <> coalesce(sum(h.delta), 0)) torn")
    if torn:
        faults.append(f"{torn} tellers whose balance is not the sum of their history")
    return faults
