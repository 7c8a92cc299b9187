"""The store in one SQLite file, used by many threads and processes.

WAL, with one connection that writes and one that reads, each behind a lock.
SQLite has one writer at a time anyway, and releases Python's lock while it
works. Every change is synced to the disk but for leases and heartbeats: after a
power cut a batch that was leased is simply waiting again.
"""

from __future__ import annotations

import io
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from etl.errors import IncompatibleStore, StoreError, StoreFull
from etl.queue.database import Clock, Database, Transaction
from etl.queue.sql import SQLITE
from etl.queue.urls import IN_MEMORY, url_of
from etl.queue.writes import DatabaseQueue

__all__ = ["SqliteQueue"]

APPLICATION_ID = 0x45544C31
"""`ETL1` in the file's header: tells our files from those of other programs."""

VERSION = 5
"""Of the schema; a file with a higher one was made by a newer etl."""


MAX_ORPHANS = 100
"""Rows that refer to none that are listed; as many as SQLite lists of what else is wrong."""


class SqliteQueue(DatabaseQueue):
    """A `Queue` in an SQLite file, or in memory if there is no path.

    Args:
        path: The file; made with its folder if it is not there.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        clock: Returns Unix seconds.

    Raises:
        StoreError: If the file is not ours, or cannot be used.
        IncompatibleStore: If a newer etl made it.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        clock: Clock = time.time,
    ) -> None:
        super().__init__(SqliteDatabase(path, clock), max_lines=max_lines, max_bytes=max_bytes)
        self.url = self.secret_url = IN_MEMORY if path is None else url_of(str(path))
        self._file = path.absolute() if path else None


class SqliteTransaction(Transaction):
    """A connection to SQLite; time is that of this machine."""

    dialect = SQLITE

    def now(self) -> float:
        """See `Transaction.now`."""
        return (self.clock or time.time)()

    given_now = now

    def run(self, statement: str, where: str = "", /, **values: Any) -> Any:
        """See `Transaction.run`."""
        cursor = super().run(statement, where, **values)
        if cursor.description is None:
            return cursor
        try:
            return _Rows(cursor)
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
        self.connection.text_factory = _any_text  # slower
        return _Rows(super().run(statement, where, **values))

    def tuples(self, statement: str, where: str = "", /, **values: Any) -> list[tuple[Any, ...]]:
        """See `Transaction.tuples`."""
        return list(map(tuple, self.run(statement, where, **values)))


class _Rows:
    """The rows of a statement, read at once: another one may change what it would go on to read."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._rows = cursor.fetchall()

    def __iter__(self) -> Iterator[sqlite3.Row]:
        return iter(self._rows)

    def fetchall(self) -> list[sqlite3.Row]:
        return self._rows

    def fetchone(self) -> sqlite3.Row | None:
        return self._rows[0] if self._rows else None


class SqliteDatabase(Database):
    """An SQLite file with our tables in it, or one in memory if there is no path."""

    poll = (0.001, 0.025)

    def __init__(self, path: Path | None, clock: Clock | None) -> None:
        name = "the store in memory" if path is None else f"store {str(path)!r}"
        super().__init__(name, clock)
        self._path = path
        self._changes = 0  # committed by us, of which `data_version` does not tell
        if path is not None:
            self._check_header(path)
        with self._as_store_errors(), ExitStack() as unless_whole:
            self._writer = unless_whole.enter_context(closing(self._connect(path)))
            self._writer.text_factory = _any_text
            self._create()
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA wal_autocheckpoint = 4000")
            self._reader = self._writer if path is None else self._connect(path)
            unless_whole.pop_all()
        if path is None:
            self._read_lock = self._lock
        self._close = weakref.finalize(self, _close_all, self._reader, self._writer)
        self._close.atexit = False
        self._closed = False

    def version(self) -> tuple[int, int]:
        """See `Database.version`."""
        with self.read() as db:
            return self._changes, db.connection.execute("PRAGMA data_version").fetchone()[0]

    @contextmanager
    def _writing(self, *, durable: bool) -> Iterator[Transaction]:
        db = self._writer
        before = db.total_changes
        try:
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            yield SqliteTransaction(db, self.clock)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._changes += db.total_changes != before

    @contextmanager
    def _reading(self, *, snapshot: bool) -> Iterator[Transaction]:
        try:
            if snapshot:
                self._reader.execute("BEGIN")
            yield SqliteTransaction(self._reader, self.clock)
        finally:
            if snapshot and self._reader.in_transaction:
                self._reader.execute("ROLLBACK")

    def own_check(self) -> list[str]:
        """See `Database.own_check`; on a connection of its own, so that others go on reading."""
        with self._as_store_errors(), ExitStack() as stack:
            db = self._reader
            if self._path:
                db = stack.enter_context(closing(self._connect(self._path)))
            found = [row[0] for row in db.execute("PRAGMA integrity_check")]
            orphans = db.execute("PRAGMA foreign_key_check").fetchmany(MAX_ORPHANS)
        found += [f"row {row[1]} of {row[0]} has no row in {row[2]}" for row in orphans]
        return [] if found == ["ok"] else [one for one in found if one != "ok"]

    def _disconnect(self) -> None:
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
                _execute_script(db, "sqlite/schema")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            for step in range(VERSION if empty else version, VERSION):
                _execute_script(db, f"sqlite/migration_{step + 1}")
                if step == 1:
                    _rename_in_payloads(db)
            if version < VERSION:
                _execute_script(db, "views")
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


def _any_text(data: bytes) -> str:
    """Return a text, even one that is damaged: its row's checksum tells."""
    return data.decode("utf-8", "backslashreplace")


def _close_all(*connections: sqlite3.Connection) -> None:
    for connection in connections:
        connection.close()


def _execute_script(db: sqlite3.Connection, name: str) -> None:
    """Execute a script inside a transaction, which `executescript` would commit."""
    statement = ""
    for line in SQLITE.script(name).splitlines(keepends=True):
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
