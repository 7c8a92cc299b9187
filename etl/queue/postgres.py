"""The store in a PostgreSQL database, used by any number of processes on any number of machines.

Leases, renewals and heartbeats do not wait for the disk: after a power cut a batch
that was leased is simply waiting again. All else is as durable as the server is set to be.
Time is the database's, so that the clocks of workers do not matter. A process has one
connection, which also hears of work that has come. Not here: the statements (`sql/`), and
what they are for (`writes.py`, `reads.py`).
"""

from __future__ import annotations

import logging
import select
import selectors
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, ClassVar

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from etl.errors import (
    IncompatibleStore,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from etl.queue.database import Clock, Conflict, Database, Transaction
from etl.queue.sql import POSTGRES
from etl.queue.urls import without_secrets
from etl.queue.writes import DatabaseQueue

__all__ = ["PostgresQueue"]

VERSION = 4
"""Of the schema; a database with a higher one was made by a newer etl."""

DEFAULTS = {
    "application_name": "etl",
    "client_encoding": "UTF8",
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "tcp_user_timeout": "30000",  # milliseconds
    "target_session_attrs": "read-write",
}
"""What a URL need not say; of several hosts, the one that takes changes is used."""

DISK_FULL = "53100"
"""SQLSTATE of a server without room on its disk."""

UNAVAILABLE = ("08", "53", "57", "25006", "25P03")
"""How SQLSTATEs begin of a server that is away or takes no changes: no connection, no room for
another, a shutdown, a server that has become a standby, and a session that slept too long."""

IN_THE_WAY = ("40", "55P03")
"""How SQLSTATEs begin of what another's transaction was in the way of: another attempt may pass."""

THERE_ALREADY = "23505"
"""SQLSTATE of a row whose key another has, who may have inserted it in the meantime."""

TIMEOUTS = """SET {local} lock_timeout = '60s';
SET {local} idle_in_transaction_session_timeout = '30s';"""
"""A client that sleeps in a transaction keeps others from its rows no longer than that."""

ANNOUNCE = """BEGIN;
SET LOCAL synchronous_commit = off;
NOTIFY {channel};
COMMIT"""
"""A transaction of its own: a commit with a NOTIFY keeps all others of its kind waiting, so that
it must not wait for the disk."""

NUL, ESCAPE = "\0", "\U0010fffd"
"""PostgreSQL's text holds no NUL; a character of the last private plane stands for it."""

Connection = psycopg.Connection[dict[str, Any]]

# Who has set up no log is told of a lost connection by our errors, and not once more.
logging.getLogger("psycopg").addHandler(logging.NullHandler())


class PostgresQueue(DatabaseQueue):
    """A `Queue` in a PostgreSQL database.

    Args:
        url: `postgresql://user:password@host:port/database?…`, as libpq reads it.
        create: Make the tables, or bring those of an earlier version up to this one.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        clock: Tells the time instead of the database; for tests.

    Raises:
        UsageError: If it is no URL of PostgreSQL.
        StoreError: If the database has no tables of etl.
        IncompatibleStore: If they are of another version.
        StoreUnavailable: If the server cannot be reached.
    """

    _on_server = True

    def __init__(
        self,
        url: str,
        *,
        create: bool = False,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        database = PostgresDatabase(url, clock)
        try:
            database.open(create=create)
        except BaseException:
            database.close()
            raise
        super().__init__(database, max_lines=max_lines, max_bytes=max_bytes)
        self.url, self.secret_url = without_secrets(url), url


class PostgresTransaction(Transaction):
    """A connection to PostgreSQL; time is that of the server."""

    dialect = POSTGRES

    def __init__(
        self, connection: Connection, clock: Clock | None = None, now: float | None = None
    ) -> None:
        super().__init__(connection, clock)
        self._now = now
        self._end: psycopg.Cursor[dict[str, Any]] | None = None

    def together(self) -> AbstractContextManager[object]:
        """See `Transaction.together`."""
        pipeline: AbstractContextManager[object] = self.connection.pipeline()
        return pipeline

    @contextmanager
    def ending(self) -> Iterator[None]:
        """See `Transaction.ending`."""
        with self.together():
            yield
            self._end = self.connection.execute("COMMIT")

    def commit(self) -> bool:
        """End the transaction if it has not been; return whether it was committed."""
        end = self._end or self.connection.execute("COMMIT")
        return bool(end.statusmessage == "COMMIT")

    def now(self) -> float:
        """See `Transaction.now`."""
        if self.clock:
            return self.clock()
        if self._now is None:
            self._now = float(self.row("now")["now"])
        return self._now

    def tuples(self, statement: str, where: str = "", /, **values: Any) -> list[tuple[Any, ...]]:
        """See `Transaction.tuples`."""
        return [tuple(row.values()) for row in self.run(statement, where, **values)]


LISTEN_SECONDS = 0.1
"""Seconds after which a thread looks whether another has heard what was meant for both."""


class PostgresDatabase(Database):
    """Our tables in a PostgreSQL database."""

    poll = (0.02, 0.1)
    announces = True

    def __init__(self, url: str, clock: Clock | None) -> None:
        shown = without_secrets(url)
        super().__init__(f"store {shown!r}", clock)
        try:
            self._parameters: dict[str, Any] = {**DEFAULTS, **_given(url)}
        except psycopg.ProgrammingError:  # whose text may hold the password
            raise UsageError(
                f"{self.name} is no URL of PostgreSQL; use postgresql://user@host:5432/database, "
                "with %XX for special characters in names and passwords"
            ) from None
        self._read_lock = self._lock
        self._held: list[Connection] = []  # the connection, if there is one
        self._news = _News()
        self._close = weakref.finalize(self, _close_all, self._held, self._news)
        self._close.atexit = False
        self._begin = ""

    def open(self, *, create: bool) -> None:
        """Connect, and check the tables, or make them.

        Raises:
            StoreError: If there are none.
            IncompatibleStore: If they are of another version.
        """
        self._closed = False
        with self.write() as db:
            if create:
                self._create(db)
            version = _version(db)
        if version is None:
            raise StoreError(f"{self.name} has no tables of etl; make them: etl store init URL")
        if version < VERSION:
            raise IncompatibleStore(
                f"{self.name} was made by an older etl (its version is {version}, this etl "
                f"needs {VERSION}); upgrade it: etl store init URL"
            )

    def version(self) -> object:
        """See `Database.version`."""
        with self.read() as db:
            return db.row("changes")["changes"]

    def announce(self) -> None:
        """See `Database.announce`."""
        with self._lock, suppress(StoreError), self._as_store_errors():  # they look by themselves
            db = self._connection()
            if self._news.channel:
                db.execute(ANNOUNCE.format(channel=self._news.channel), prepare=False)

    def work_version(self) -> object:
        """See `Database.work_version`."""
        return self._news.heard

    def wait_for_work(self, since: object, timeout: float) -> bool:
        """See `Database.wait_for_work`; sends nothing to the server."""
        deadline = time.monotonic() + timeout
        while self._news.heard == since:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            try:
                self._listen(min(left, LISTEN_SECONDS))
            except (OSError, ValueError, IndexError, psycopg.Error):
                return True  # there is no connection: the look will tell why
        return True

    def wake(self) -> None:
        """See `Database.wake`."""
        self._news.hear()

    def _listen(self, timeout: float) -> None:
        """Wait until the server says something, and read it; or until another thread has."""
        connection = self._held[0].pgconn
        sources: list[Any] = [connection.socket, self._news.socket]
        heard = select.select(sources, [], [], timeout)[0]
        self._news.rest(heard)
        if connection.socket in heard and self._lock.acquire(timeout=0):
            try:
                connection.consume_input()
                while connection.notifies():
                    self._news.hear()
            finally:
                self._lock.release()

    def _create(self, db: Transaction) -> None:
        db.run("lock", name="tables")
        if db.connection.info.parameter_status("server_encoding") != "UTF8":
            raise StoreError(f"{self.name} is not in UTF-8; create the database with ENCODING UTF8")
        version = _version(db)
        if version is None:
            db.connection.execute(POSTGRES.script("postgres/schema"))
        for step in range(VERSION if version is None else version, VERSION):
            db.connection.execute(POSTGRES.script(f"postgres/migration_{step + 1}"))
        if version != VERSION:
            db.connection.execute(POSTGRES.script("views"))
            db.run("set_store_version", version=VERSION)

    @contextmanager
    def _writing(self, *, durable: bool) -> Iterator[Transaction]:
        db = self._connection()
        begin = [self._begin, "" if durable else "SET LOCAL synchronous_commit = off;"]
        try:
            answers = db.execute(" ".join([*begin, POSTGRES.statement("now")]), prepare=False)
            *_, (row,) = (answers.fetchall() for _ in answers.results() if answers.description)
            transaction = PostgresTransaction(db, self.clock, row["now"])
            yield transaction
            if not transaction.commit():
                raise StoreError(f"{self.name} has rolled a transaction back; nothing was changed")
        except BaseException:
            _rollback(db)
            raise

    @contextmanager
    def _reading(self, *, snapshot: bool) -> Iterator[Transaction]:
        db = self._connection()
        try:
            if snapshot:
                db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresTransaction(db, self.clock)
            if snapshot:
                db.execute("COMMIT")
        except BaseException:
            _rollback(db)
            raise

    def _connection(self) -> Connection:
        """Return the connection, made again if it was lost."""
        if self._held and _is_lost(self._held[0]):
            self._held.pop().close()
        if not self._held:
            self._held.append(self._connect())
        return self._held[0]

    def _connect(self) -> Connection:
        db: Connection = psycopg.connect(**self._parameters, autocommit=True, row_factory=dict_row)
        try:
            db.adapters.register_dumper(str, _TextDumper)
            db.adapters.register_loader("text", _TextLoader)
            session = db.execute(POSTGRES.statement("session"), prepare=False).fetchone() or {}
            if session["process"] == db.info.backend_pid:
                db.add_notify_handler(self._news.hear)
                self._news.channel = sql.Identifier(f"etl {session['schema']}").as_string()
                db.execute(f"LISTEN {self._news.channel}", prepare=False)
                db.execute(TIMEOUTS.format(local=""), prepare=False)
                self._begin = "BEGIN;"
            else:  # a pooler such as PgBouncer, which gives every transaction another session
                db.prepare_threshold = None
                self._news.channel = ""
                self._begin = f"BEGIN; {TIMEOUTS.format(local='LOCAL')}"
            self._news.hear()  # what was said in the meantime was not heard
        except BaseException:
            db.close()
            raise
        return db

    def _disconnect(self) -> None:
        self._close()

    @contextmanager
    def _as_store_errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._store_error(error) from error

    def _store_error(self, error: psycopg.Error) -> StoreError:
        text = str(error).strip().partition("\n")[0]
        if password := self._parameters.get("password"):
            text = text.replace(password, "…")
        state = error.sqlstate or ""
        if state == DISK_FULL:
            return StoreFull(
                f"{self.name} cannot be written: {text}; free some space on the server: nothing "
                "was lost"
            )
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not state
        if lost or state.startswith(UNAVAILABLE):
            return StoreUnavailable(f"{self.name} cannot be reached: {text}")
        if state.startswith(IN_THE_WAY):
            return StoreUnavailable(f"{self.name} was kept by others: {text}; try again")
        if state == THERE_ALREADY:
            return Conflict(f"{self.name} cannot be used: {text}")
        return StoreError(f"{self.name} cannot be used: {text}")


class _News:
    """How often work was announced, and on which channel it is.

    It is apart from the database, so that a connection does not keep that alive.

    Attributes:
        heard: How often.
        channel: The channel, as SQL; empty if the connection cannot listen.
        socket: Readable once something was heard, for threads that did not hear it.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.channel = ""
        self.socket, self._bell = socket.socketpair()
        self.socket.setblocking(False)
        self._bell.setblocking(False)

    def hear(self, _notify: object = None) -> None:
        """Count an announcement, and wake those who wait for one."""
        self.heard += 1
        with suppress(OSError):  # full: they wake anyway; closed: so is the store
            self._bell.send(b"!")

    def rest(self, readable: list[Any]) -> None:
        """Take back what wakes others, if it is among what is readable."""
        if self.socket in readable:
            with suppress(BlockingIOError):
                self.socket.recv(4096)

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close()
        self._bell.close()


class _TextDumper(Dumper):
    """Text as PostgreSQL can hold it."""

    def dump(self, obj: str) -> bytes:
        if NUL in obj or ESCAPE in obj:
            obj = obj.replace(ESCAPE, f"{ESCAPE}1").replace(NUL, f"{ESCAPE}0")
        return obj.encode()


class _TextLoader(Loader):
    """Text as it was."""

    escape: ClassVar[bytes] = ESCAPE.encode()

    def load(self, data: Buffer) -> str:
        found = bytes(data)
        text = found.decode()
        if self.escape in found:
            return text.replace(f"{ESCAPE}0", NUL).replace(f"{ESCAPE}1", ESCAPE)
        return text


def _given(url: str) -> dict[str, Any]:
    return {name: value for name, value in conninfo_to_dict(url).items() if value is not None}


def _version(db: Transaction) -> int | None:
    """Return the version of the tables, or None if there are none.

    Raises:
        IncompatibleStore: If it is a later one.
    """
    if db.row("store_table")["name"] is None:
        return None
    version = int(db.row("store_version")["version"])
    if version > VERSION:
        raise IncompatibleStore(
            f"the store was made by a newer etl (its version is {version}, this etl knows up to "
            f"{VERSION}); upgrade etl"
        )
    return version


def _is_lost(db: Connection) -> bool:
    """Return whether the server has ended a connection, without asking it."""
    with selectors.DefaultSelector() as selector:
        if not db.closed:
            selector.register(db.pgconn.socket, selectors.EVENT_READ)
        while not db.closed and selector.select(0):
            try:  # it has said something: farewell, as a rule, and then the end of the stream
                db.pgconn.consume_input()
            except psycopg.OperationalError:
                return True
    return db.closed


def _rollback(db: Connection) -> None:
    """End a transaction if one is open; a lost connection has ended it.

    psycopg then forgets which statements the server has prepared. A statement of a pipeline that
    was to prepare one, and came after one that failed, was not run; it takes it for prepared.
    """
    if not db.closed:
        with suppress(psycopg.Error):
            db.rollback()


def _close_all(connections: list[Connection], news: _News) -> None:
    for connection in connections:
        connection.close()
    news.close()
