"""What a queue needs of a database: transactions of named statements, and news of changes.

A `Database` has a connection that writes and one that reads, which may be the same, each behind
a lock, and the name of each statement is the same for all of them. `sqlite.py` and `postgres.py`
say how to connect, to begin and to end; the statements are in `sql/`.
"""

from __future__ import annotations

import math
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from etl.errors import QueueClosed, StoreError
from etl.queue.sql import Dialect

__all__ = ["Clock", "Conflict", "Database", "Transaction"]


POLL_GROWTH = 0.04
"""Seconds between looks for a change after a second without one; twice that after four."""


class Conflict(StoreError):
    """A row is there already: another may have inserted it since we looked."""


Clock = Callable[[], float]
"""Returns Unix seconds."""


class Transaction(ABC):
    """A connection on which named statements run.

    Args:
        connection: One of the database's driver.
        clock: Tells the time instead of the database.
    """

    dialect: Dialect

    def __init__(self, connection: Any, clock: Clock | None = None) -> None:
        self.connection = connection
        self.clock = clock

    def together(self) -> AbstractContextManager[object]:
        """Send statements without waiting for each one's answer; they are read after the block."""
        return nullcontext()

    def ending(self) -> AbstractContextManager[object]:
        """Like `together`, and the transaction's end is sent with them: nothing follows."""
        return nullcontext()

    def given_now(self) -> float | None:
        """Return the time by the clock that was given; None lets a statement ask the database."""
        return self.clock() if self.clock else None

    @abstractmethod
    def now(self) -> float:
        """Return the time: the same clock for all who use the store."""

    def run(self, statement: str, where: str = "", /, **values: Any) -> Any:
        """Execute a statement by its name, and return a cursor, whatever else is executed.

        Args:
            statement: Its name.
            where: Conditions, for those that have a place for them.
            values: Its parameters.
        """
        return self.connection.execute(self.dialect.statement(statement, where), values)

    def many(self, statement: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute a statement once per row."""
        rows = list(rows)
        if len(rows) == 1:
            self.run(statement, **rows[0])
        elif rows:
            self.connection.cursor().executemany(self.dialect.statement(statement), rows)

    def rows(self, statement: str, where: str = "", /, **values: Any) -> list[Any]:
        """Return the rows of a statement, which have their values by name."""
        found: list[Any] = self.run(statement, where, **values).fetchall()
        return found

    def row(self, statement: str, where: str = "", /, **values: Any) -> Any:
        """Return the first row of a statement, or None."""
        return self.run(statement, where, **values).fetchone()

    @abstractmethod
    def tuples(self, statement: str, where: str = "", /, **values: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a statement as tuples."""


class Database(ABC):
    """Our tables in a database, for many threads and processes.

    Args:
        name: Names the store in messages.
        clock: Tells the time instead of the database; for tests.
    """

    poll: tuple[float, float]
    """Seconds between looks for a change by another process: at least, and at most."""

    announces = False
    """Whether those who wait for work find out at once only if it is announced."""

    def __init__(self, name: str, clock: Clock | None) -> None:
        self.name = name
        self.clock = clock
        self._closed = True  # until all is open
        self._writes = self._wakes = 0
        self._changed = threading.Condition()
        self._changed_at = time.monotonic()  # when somebody who waited last saw a change
        self._lock = threading.RLock()
        self._read_lock = threading.RLock()

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Transaction]:
        """Run a transaction; unless it is `durable`, a power cut may undo it."""
        with self._lock, self._as_store_errors():
            self._check_open()
            with self._writing(durable=durable) as db:
                yield db
        with self._changed:
            self._writes += 1
            self._changed.notify_all()

    @contextmanager
    def read(self, *, snapshot: bool = False) -> Iterator[Transaction]:
        """Give the connection that reads; as a `snapshot`, all of one moment."""
        with self._read_lock, self._as_store_errors():
            self._check_open()
            with self._reading(snapshot=snapshot) as db:
                yield db

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of any query, for tests and inspection."""
        with self.read() as db:
            return [dict(row) for row in db.connection.execute(sql).fetchall()]

    def wait(self, since: object, timeout: float) -> bool:
        """Wait until the version differs from `since`; return False if it does not in time."""
        return self._wait(lambda: self.version() != since, timeout)

    def _wait(self, changed: Callable[[], bool], timeout: float) -> bool:
        """Wait until something holds that a write may change; return whether it does in time."""
        deadline = time.monotonic() + timeout
        shortest, longest = self.poll
        while True:
            writes = self._writes
            if changed():
                self._changed_at = time.monotonic()
                return True
            now = time.monotonic()
            if now >= deadline:
                return False
            quiet = max(0.0, now - self._changed_at)  # another thread may just have seen a change
            poll = min(longest, shortest + POLL_GROWTH * math.sqrt(quiet))
            with self._changed:
                if self._writes == writes:
                    self._changed.wait(min(deadline - now, poll * random.uniform(0.7, 1.0)))

    def wake(self) -> None:
        """Let those in this process who wait for work look for it."""
        with self._changed:
            self._wakes += 1
            self._writes += 1
            self._changed.notify_all()

    def announce(self) -> None:  # noqa: B027 - nothing to do where nobody needs it
        """Wake those who wait for work, if the database `announces` it."""

    def shrink(self, *, always: bool) -> int:  # noqa: ARG002
        """Give free space back and return how many bytes; see `Upkeep.shrink`."""
        return 0

    def close(self) -> None:
        """Close both connections. Closing twice is allowed."""
        with self._lock, self._read_lock:
            self._closed = True
            self._disconnect()

    def own_check(self) -> list[str] | None:
        """Return what the database finds damaged in itself, or None if it has no such check."""
        return None

    @abstractmethod
    def version(self) -> object:
        """Return a value that differs once anything has been written by anyone."""

    @abstractmethod
    def work_version(self) -> object:
        """Return a value that differs once there may be work; see `wait_for_work`."""

    @abstractmethod
    def wait_for_work(self, since: object, timeout: float) -> bool:
        """Wait until there may be work since a `work_version`; return False if there is none."""

    @abstractmethod
    def _writing(self, *, durable: bool) -> AbstractContextManager[Transaction]:
        """Begin a transaction that is committed at the end, or rolled back by an error."""

    @abstractmethod
    def _reading(self, *, snapshot: bool) -> AbstractContextManager[Transaction]:
        """Give the connection that reads, in a transaction if it is to be a snapshot."""

    @abstractmethod
    def _as_store_errors(self) -> AbstractContextManager[None]:
        """Raise the driver's errors as those that callers know."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Close both connections, if they are open."""

    def _check_open(self) -> None:
        if self._closed:
            raise QueueClosed(f"{self.name} is closed; open it again with open_queue()")
