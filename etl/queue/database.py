"""One SQLite file, used by many threads and processes: transactions, and news of changes.

WAL, with one connection that writes and one that reads, each behind a lock.
SQLite has one writer at a time anyway, and releases Python's lock while it
works. Not here: the statements (`sql/`) and what they are for.
"""

from __future__ import annotations

import io
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import IncompatibleStore, QueueClosed, StoreError, StoreFull
from etl.queue.sql import STATEMENTS, script

__all__ = ["Database", "Transaction"]

APPLICATION_ID = 0x45544C31
"""`ETL1` in the file's header: tells our files from those of other programs."""

VERSION = 3
"""Of the schema; a file with a higher one was made by a newer etl."""

MAX_POLL_SECONDS = 0.025
"""Seconds between looks for a change by another process, at most."""


class Transaction:
    """A connection on which named statements run."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def run(self, statement: str, /, **values: Any) -> sqlite3.Cursor:
        """Execute a statement of `sql/` by its name."""
        return self.connection.execute(STATEMENTS[statement], values)

    def many(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute a statement once per row."""
        self.connection.executemany(STATEMENTS[statement], rows)

    def rows(self, statement: str, /, **values: Any) -> list[sqlite3.Row]:
        """Return the rows of a statement."""
        return self.run(statement, **values).fetchall()

    def row(self, statement: str, /, **values: Any) -> sqlite3.Row | None:
        """Return the first row of a statement, or None."""
        found: sqlite3.Row | None = self.run(statement, **values).fetchone()
        return found


class Database:
    """An SQLite file with our tables in it, or one in memory if there is no path.

    Args:
        path: The file; made with its folder if it is not there.

    Raises:
        StoreError: If the file is not ours, or cannot be used.
        IncompatibleStore: If a newer etl made it.
    """

    def __init__(self, path: Path | None) -> None:
        self.name = "the store in memory" if path is None else f"store {str(path)!r}"
        self._closed = True  # until all is open
        self._writes = 0
        self._changed = threading.Condition()
        self._lock = threading.RLock()
        if path is not None:
            self._check_header(path)
        with self._as_store_errors(), ExitStack() as unless_whole:
            self._writer = unless_whole.enter_context(closing(self._connect(path)))
            self._create()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA wal_autocheckpoint = 4000")
            self._reader = self._writer if path is None else self._connect(path)
            unless_whole.pop_all()
        self._read_lock = self._lock if path is None else threading.RLock()
        self._close = weakref.finalize(self, _close_all, self._reader, self._writer)
        self._close.atexit = False
        self._closed = False

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """Run a transaction; unless it is `durable`, a power cut may undo it."""
        with self._lock, self._as_store_errors():
            self._check_open()
            db = self._writer
            try:
                before = db.total_changes
                db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                db.execute("BEGIN IMMEDIATE")
                yield Transaction(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            changed = db.total_changes != before
        with self._changed:
            self._writes += changed
            self._changed.notify_all()

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[Transaction]:
        """Give the connection that reads; as a `snapshot`, all of one moment."""
        with self._read_lock, self._as_store_errors():
            self._check_open()
            try:
                if snapshot:
                    self._reader.execute("BEGIN")
                yield Transaction(self._reader)
            finally:
                if snapshot and self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of any query, for tests and inspection."""
        with self.read() as db:
            return [dict(row) for row in db.connection.execute(sql)]

    def version(self) -> tuple[int, int]:
        """Return a value that differs once anything has been written by anyone."""
        with self.read() as db:
            return self._writes, db.connection.execute("PRAGMA data_version").fetchone()[0]

    def wait(self, since: object, timeout: float) -> bool:
        """Wait until the version differs from `since`; return False if it does not in time."""
        deadline = time.monotonic() + timeout
        poll = 0.001
        while (now := self.version()) == since:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            with self._changed:
                if self._writes == now[0]:
                    self._changed.wait(min(left, poll))
            poll = min(MAX_POLL_SECONDS, poll * 1.5)
        return True

    def close(self) -> None:
        """Close both connections. Closing twice is allowed."""
        with self._lock, self._read_lock:
            self._closed = True
            self._close()

    def _check_header(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise StoreError(f"{self.name} is a folder; name a file in it")
            head = b""
            if path.exists():
                with path.open("rb") as file:
                    head = file.read(16)
        except OSError as error:
            raise StoreError(f"{self.name} cannot be opened: {error.strerror}") from error
        if head and head != b"SQLite format 3\0":
            raise StoreError(f"{self.name} is not an etl store; name another file")

    def _connect(self, path: Path | None) -> sqlite3.Connection:
        target = ":memory:" if path is None else str(path)
        db = sqlite3.connect(target, timeout=60, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _create(self) -> None:
        """Make the tables in a new file, or migrate those of an earlier version.

        Raises:
            StoreError: If the file is another program's.
            IncompatibleStore: If it is of a later version.
        """
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            found = db.execute("PRAGMA application_id").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if not empty and found != APPLICATION_ID:
                raise StoreError(f"{self.name} is a database of another program; name another")
            if version > VERSION:
                raise IncompatibleStore(
                    f"{self.name} was made by a newer etl (its version is {version}, this etl "
                    f"knows up to {VERSION}); upgrade etl"
                )
            if empty:
                _execute_script(db, "schema")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for step in range(VERSION if empty else version, VERSION):
                _execute_script(db, f"migration_{step + 1}")
                if step == 1:
                    _rename_in_payloads(db)
            db.execute(f"PRAGMA user_version = {VERSION}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    @contextmanager
    def _as_store_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                raise StoreFull(
                    f"{self.name} cannot be written: {text}; free some space, or check the "
                    "disk: nothing was lost"
                ) from error
            raise StoreError(f"{self.name} cannot be used: {text}") from error

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosed(f"{self.name} is closed; open it again with open_queue()")


def _close_all(*connections: sqlite3.Connection) -> None:
    for connection in connections:
        connection.close()


def _execute_script(db: sqlite3.Connection, name: str) -> None:
    """Execute a script inside a transaction, which `executescript` would commit."""
    statement = ""
    for line in script(name).splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):  # a trigger has semicolons inside
            db.execute(statement)
            statement = ""


def _rename_in_payloads(db: sqlite3.Connection) -> None:
    """Rename the column `letter` in the frames of replayed lines that version 1 stored."""
    for id, data in db.execute("SELECT id, data FROM payloads WHERE encoding = 'arrow'").fetchall():
        buffer = io.BytesIO()
        renamed = pl.read_ipc(data).rename({"letter": "dead_letter_id"}, strict=False)
        renamed.write_ipc(buffer, compression="zstd")
        db.execute("UPDATE payloads SET data = ? WHERE id = ?", (buffer.getvalue(), id))
