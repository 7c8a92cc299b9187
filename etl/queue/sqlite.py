"""The store in one SQLite file, used by many threads and processes.

WAL, with one connection that writes and one that reads, each behind a lock.
SQLite has one writer at a time anyway, and releases Python's lock while it
works. Every change is synced to the disk but for leases and heartbeats: after a
power cut a batch that was leased is simply waiting again.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import shutil
import sqlite3
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from etl.errors import IncompatibleStore, StoreError, StoreFull, StoreLost
from etl.filesystem import DISK, file_id
from etl.queue.database import Clock, Database, Transaction
from etl.queue.sql import SQLITE
from etl.queue.urls import IN_MEMORY, url_of
from etl.queue.writes import DatabaseQueue
from etl.records.batch import new_id

__all__ = ["SqliteQueue"]

log = logging.getLogger("etl")

APPLICATION_ID = 0x45544C31
"""`ETL1` in the file's header: tells our files from those of other programs."""

BUSY_SECONDS = 60
"""Seconds that a transaction waits for another process's."""

VERSION = 6
"""Of the schema; a file with a higher one was made by a newer etl."""

SHRINK_SHARE = 0.1
"""Share of a file's pages from which on it is worth while to rewrite it without them."""


INSERTED_AT_ONCE = 100
"""Rows of one INSERT, if there are as many; SQLite allows 32,766 values."""

INSERT = re.compile(r"(?P<into>INSERT INTO [^()]+ \([^()]+\)\s+VALUES )(?P<row>\([\s:,\w]+\))")
"""A statement that inserts one row, and does nothing else."""

MAX_ORPHANS = 100
"""Rows that refer to none that are listed; as many as SQLite lists of what else is wrong."""
DAMAGED_KINDS = ("SQLITE_CORRUPT", "SQLITE_IOERR_SHORT_READ")
"""How the names of SQLite's errors begin for a file of which pages are missing or another's."""

DAMAGED_TEXTS = ("no such ", "Could not decode", "'utf-8' codec")
"""How the texts of other errors begin that such a file has: a table of ours is not there, or a
text is none."""


LOG_PAGES = (16, 4000)
"""Pages of the write-ahead log at which it is copied into the file: at least, and at most."""

LOG_SHARE = 8
"""The log takes no more than this part of what the disk has left: an eighth."""

SPACE_SECONDS = 1.0
"""Seconds between looks at what the disk has left."""


class SqliteQueue(DatabaseQueue):
    """A `Queue` in an SQLite file, or in memory if there is no path.

    Args:
        path: The file; made with its folder if it is not there, but not in place of an empty one.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        clock: Returns Unix seconds.

    Raises:
        StoreError: If the file is not ours, or cannot be used.
        StoreLost: If it is empty or damaged; later, if it was removed or replaced.
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
        sql = self.dialect.statement(statement, where)
        cursor = self.connection.execute(sql, values)
        if cursor.description is None:
            return cursor
        try:
            return _Rows(cursor)
        except sqlite3.OperationalError as error:
            if "UTF-8" not in str(error):
                raise
        self.connection.text_factory = _any_text  # slower
        return _Rows(self.connection.execute(sql, values))

    def many(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """See `Transaction.many`; rows that are inserted go together, in half the time."""
        rows = list(rows)
        at_once = len(rows) // INSERTED_AT_ONCE * INSERTED_AT_ONCE
        if at_once and (found := INSERT.fullmatch(self.dialect.statement(statement))):
            values = itemgetter(*re.findall(r":(\w+)", found["row"]))
            row = re.sub(r":\w+", "?", found["row"])
            sql = found["into"] + ", ".join([row] * INSERTED_AT_ONCE)
            for start in range(0, at_once, INSERTED_AT_ONCE):
                some = rows[start : start + INSERTED_AT_ONCE]
                self.connection.execute(sql, [*chain.from_iterable(map(values, some))])
            rows = rows[at_once:]
        super().many(statement, rows)

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

    poll = (0.001, 0.08)

    _path: Path | None = None  # of the file, once it is open
    _durable: bool | None = None  # whether commits wait for the disk, once that is known

    def __init__(self, path: Path | None, clock: Clock | None) -> None:
        name = "the store in memory" if path is None else f"store {str(path)!r}"
        super().__init__(name, clock)
        self._changes = 0  # committed by us, of which `data_version` does not tell
        self._ids: dict[Path, str] = {}
        self._looked_at = -math.inf  # when we last asked what the disk has left
        if path is not None:
            path = path.absolute()  # the process may go to another folder
            self._check_path(path)
        with self._as_store_errors(), ExitStack() as unless_whole:
            if path and not path.exists():
                self._make_file(path)
            self._writer = unless_whole.enter_context(closing(self._connect(path)))
            self._writer.text_factory = _any_text
            self._create(self._writer)
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._reader = self._writer if path is None else self._connect(path)
            unless_whole.pop_all()
        if path is None:
            self._read_lock = self._lock
        else:
            self._path, self._log = path, path.with_name(f"{path.name}-wal")
            self._check_file()
        self._close = weakref.finalize(self, _close_all, self._reader, self._writer)
        self._close.atexit = False
        self._closed = False

    def version(self) -> tuple[int, int]:
        """See `Database.version`."""
        with self.read() as db:
            return self._changes, db.connection.execute("PRAGMA data_version").fetchone()[0]

    def work_version(self) -> object:
        """See `Database.work_version`."""
        with self.read() as db:
            return self._wakes, tuple(db.row("work_version"))

    def wait_for_work(self, since: object, timeout: float) -> bool:
        """See `Database.wait_for_work`; most looks only ask whether anything was written."""
        known: object = None

        def may_have_work() -> bool:
            nonlocal known
            before, known = known, self._glance()
            return known != before and self.work_version() != since

        return self._wait(may_have_work, timeout)

    def _glance(self) -> object:
        """Return what `version` does, or another value after `wake`; the file is not checked."""
        with self._read_lock, self._as_store_errors():
            self._check_open()
            version = self._reader.execute("PRAGMA data_version").fetchone()[0]
        return self._wakes, self._changes, version

    def shrink(self, *, always: bool) -> int:
        """See `Database.shrink`."""
        with self._lock, self._as_store_errors():
            self._check_open()
            db = self._writer
            before, free = self._size(), self._pragma("freelist_count")
            if always or free >= SHRINK_SHARE * self._pragma("page_count"):
                db.execute("PRAGMA temp_store = FILE")  # of the size that the file will have
                db.execute("VACUUM")
                db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return max(0, before - self._size())

    def _size(self) -> int:
        """Return the bytes of the file, and of the log beside it."""
        if self._path is None:
            return self._pragma("page_count") * self._pragma("page_size")
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def _pragma(self, name: str) -> int:
        return int(self._writer.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _writing(self, *, durable: bool) -> Iterator[Transaction]:
        db = self._writer
        before = db.total_changes
        self._check_file()
        self._limit_log()
        try:
            self._sync(durable=durable)
            db.execute("BEGIN IMMEDIATE")
            yield SqliteTransaction(db, self.clock)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        self._changes += db.total_changes != before

    def _sync(self, *, durable: bool) -> None:
        """Have commits wait for the disk, or not."""
        if durable is not self._durable:
            self._durable = None  # in case of an error
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable

    def _limit_log(self) -> None:
        """Let the write-ahead log take only a part of what the disk has left.

        Else it may fill the disk by itself, and cannot be copied into the file any more.
        """
        if self._path and time.monotonic() - self._looked_at > SPACE_SECONDS:
            self._looked_at = time.monotonic()
            page = self._writer.execute("PRAGMA page_size").fetchone()[0]
            pages = shutil.disk_usage(self._path.parent).free // page // LOG_SHARE
            least, most = LOG_PAGES
            pages = min(most, max(least, pages))
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            self._writer.execute(f"PRAGMA journal_size_limit = {pages * page}")

    def _give_back(self) -> None:
        """Give back the space of the write-ahead log, if nobody uses it and that can be done."""
        if self._closed or not self._lock.acquire(blocking=False):
            return
        try:
            with contextlib.suppress(sqlite3.Error):  # the disk is as full as before
                self._writer.execute("PRAGMA busy_timeout = 0")
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._writer.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        finally:
            self._lock.release()

    @contextmanager
    def _reading(self, *, snapshot: bool) -> Iterator[Transaction]:
        self._check_file()
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

    def _check_file(self) -> None:
        """Raise StoreLost unless the file and its log are those that were opened.

        SQLite would go on writing to a file that has no name any more.
        """
        for path in (self._path, self._log) if self._path else ():
            try:
                found = path.stat()
            except FileNotFoundError:
                if path not in self._ids:  # the log, of which there is none yet
                    continue
                self._leave(path)
                raise self._lost(path, "was removed") from None
            except OSError as error:
                raise StoreError(f"{self.name} cannot be used: {error.strerror}") from error
            if self._ids.setdefault(path, file_id(found)) != file_id(found):
                self._leave(path)
                raise self._lost(path, "was replaced by another file")
            if path == self._path and not found.st_size:
                raise self._lost(path, "was cut to nothing")

    def _leave(self, path: Path) -> None:
        """Complete the file that was open, wherever it is now, if that is what was lost.

        Else what is in its log would be read as a part of the file that has its name now.
        """
        if path != self._path or not self._lock.acquire(blocking=False):
            return  # another thread does it
        try:
            self._writer.execute("PRAGMA busy_timeout = 0")
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.Error as error:
            log.warning("%s: its log cannot be written to the file: %s", self.name, error)
        finally:
            self._lock.release()

    def _lost(self, path: Path, why: str) -> StoreLost:
        what = self.name if path == self._path else f"the log {path.name!r} of {self.name}"
        return StoreLost(
            f"{what} {why} while in use; end all that use the store, bring the file back or "
            "restore a backup, and start again"
        )

    def _make_file(self, path: Path) -> None:
        """Make the store under another name: whoever sees its name sees all of it."""
        made = path.with_name(f".{path.name}.{new_id()}")
        try:
            with closing(self._connect(made)) as db:
                self._create(db)
                db.execute("PRAGMA journal_mode = WAL")
            try:
                path.hardlink_to(made)
            except FileExistsError:  # another has just made it
                pass
            except OSError:  # a file system without links
                made.rename(path)
            DISK.sync(path.parent)
        except OSError as error:
            raise StoreError(f"{self.name} cannot be made: {error.strerror}") from error
        finally:
            for name in ("", "-journal", "-wal", "-shm"):
                made.with_name(made.name + name).unlink(missing_ok=True)

    def _check_path(self, path: Path) -> None:
        try:
            DISK.make_folder(path.parent, private=True)
            if path.is_dir():
                raise StoreError(f"{self.name} is a folder; name a file in it")
            log = path.with_name(f"{path.name}-wal")
            has_log = bool(_size_of(log))  # asked first: whoever makes a store makes its log later
            if not path.exists():
                if has_log:
                    raise StoreLost(
                        f"{self.name} is not there, but the log of one is, {log.name!r}: bring the "
                        "file back, or restore a backup; remove the log to make a new store"
                    )
                return
            # Not read here: to close a file ends all locks that this process has on it, also those
            # of other connections, https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks
            size = path.stat().st_size
        except OSError as error:
            raise StoreError(f"{self.name} cannot be opened: {error.strerror}") from error
        if not size:
            raise StoreLost(
                f"{self.name} is empty (0 bytes): if a store was here, restore it from a backup; "
                "remove the file to make a new one"
            )

    def _connect(self, path: Path | None) -> sqlite3.Connection:
        """Open the file; one that is made is for its owner only, and so is what goes with it."""
        target, uri = ":memory:" if path is None else str(path), False
        with ExitStack() as while_made:
            if path is not None and not path.exists():
                with contextlib.suppress(OSError):  # SQLite cannot make a file there, either
                    private = while_made.enter_context(
                        tempfile.NamedTemporaryFile(dir=path.absolute().parent)
                    )
                    names = [quote(os.fsencode(one)) for one in (path.absolute(), private.name)]
                    target, uri = f"file://{names[0]}?modeof={names[1]}", True
            db = sqlite3.connect(
                target,
                uri=uri,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA temp_store = MEMORY")
        return db

    def _create(self, db: sqlite3.Connection) -> None:
        """Make the tables in a new file, or migrate those of an earlier version.

        Raises:
            StoreError: If the file is another program's.
            IncompatibleStore: If it is of a later version.
        """
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
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._check_file()
            text, kind = str(error), getattr(error, "sqlite_errorname", "")
            if kind == "SQLITE_NOTADB":
                raise StoreLost(
                    f"{self.name} is not an etl store, or is damaged: {text}; name another file, "
                    "see what can be read with etl check, or restore a backup"
                ) from error
            if kind.startswith(DAMAGED_KINDS) or text.startswith(DAMAGED_TEXTS):
                raise StoreLost(
                    f"{self.name} is damaged: {text}; see what can be read with etl check, and "
                    "restore a backup"
                ) from error
            if kind.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                self._give_back()
                raise StoreFull(
                    f"{self.name} cannot be written: {text}; free some space, or check the "
                    "disk: nothing was lost"
                ) from error
            raise StoreError(f"{self.name} cannot be used: {text}") from error


_any_text = partial(str, encoding="utf-8", errors="backslashreplace")
"""Returns a text, even of bytes that are damaged: their row's checksum tells."""


def _size_of(path: Path) -> int:
    """Return the bytes of a file; 0 if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


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
