"""This process's copy of a store whose changes are kept in a journal.

The journal is a list of operations that is the same for all. Each process
applies it, in its order, to tables in its memory. An operation is the same
function everywhere and looks at nothing but the tables, so after the same
message all copies are the same: what is true in one is true in all.

Not here: where the journal is, and how messages come and go (`journal.py`).
"""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

from etl import errors
from etl.errors import StoreError, StoreVersion
from etl.queue.database import Database
from etl.queue.nats.wire import decode, encode
from etl.queue.operations import OPERATIONS

__all__ = ["VERSION", "Replica", "message_of"]

VERSION = 1
"""Of messages, snapshots and tables."""

FORGOTTEN = 7 * 86400.0
"""Seconds after which no message of a silent client can still be on its way."""


def message_of(client: str, number: int, change: partial[Any], at: float | None) -> bytes:
    """Return an operation as a message; `at` is its time if it is not the journal's."""
    return encode([VERSION, client, number, at, change.func.__name__, change.keywords])


class Replica:
    """Tables that follow a journal.

    A client numbers its operations. One with a number that is not higher than
    the last is a copy that was sent again, and is passed over: each operation
    takes place once, however often it had to be sent.

    Attributes:
        database: The tables.
        applied: The sequence of the last message that was applied.
        blobs: By sequence, the blobs that hold messages too large for the journal.
    """

    def __init__(self, name: str) -> None:
        self.database = Database(None, name=name)
        self.applied = 0
        self.blobs: dict[int, str] = {}
        self._now = 0.0
        self._clients: dict[str, tuple[int, float, Any]] = {}

    def apply(self, sequence: int, at: float, message: bytes) -> tuple[str, int, Any] | None:
        """Apply a message and return its client, its number and its result or exception.

        Returns None for one that was applied before.

        Raises:
            StoreVersion: If a newer etl wrote it.
            StoreError: If this copy has failed, and is no longer what others have.
        """
        client, number, own_time, name, arguments = self._read("operation", message)
        result: Any
        with self.database.lock:
            if number <= self._clients.get(client, (0,))[0]:
                self.applied = sequence
                return None
            self._now = max(self._now, at if own_time is None else own_time)
            try:
                with self.database.write() as db:
                    result = OPERATIONS[name](db, self._now, **arguments)
            except Exception as error:
                if isinstance(error, MemoryError) or isinstance(
                    error.__cause__, sqlite3.OperationalError
                ):
                    raise StoreError(
                        f"this copy of {self.database.name} failed: {error}"
                    ) from error
                result = error
            self._note(client, number, result)
            self.applied = sequence
        return client, number, result

    def last(self, client: str) -> tuple[int, Any] | None:
        """Return number and result or exception of a client's last operation, if it had any."""
        found = self._clients.get(client)
        return (found[0], found[2]) if found else None

    def skip(self, sequence: int) -> None:
        """Note a message that changes nothing."""
        with self.database.lock:
            self.applied = sequence

    def dump(self) -> tuple[int, bytes]:
        """Return up to which message this copy goes, and all of it for `load`."""
        with self.database.lock:
            clients = {
                client: [number, at, *_told(result)]
                for client, (number, at, result) in self._clients.items()
            }
            applied, now, tables = self.applied, self._now, self.database.dump()
        return applied, encode([VERSION, applied, now, clients, tables])

    def load(self, data: bytes) -> None:
        """Become the copy that was dumped.

        Raises:
            StoreVersion: If a newer etl dumped it.
        """
        applied, now, clients, tables = self._read("snapshot", data)
        with self.database.lock:
            self.database.load(tables)
            self.applied, self._now = applied, now
            self._clients = {
                client: (number, at, _untold(kind, result))
                for client, (number, at, kind, result) in clients.items()
            }
            self.blobs.clear()

    def _note(self, client: str, number: int, result: Any) -> None:
        """Note a client's last number, and forget clients that are long gone."""
        if client not in self._clients:
            gone = self._now - FORGOTTEN
            self._clients = {one: seen for one, seen in self._clients.items() if seen[1] > gone}
        self._clients[client] = (number, self._now, result)

    def _read(self, what: str, message: bytes) -> list[Any]:
        """Return what a message says, if it is of this version."""
        rest: list[Any]
        version, *rest = decode(message)
        if version != VERSION:
            raise StoreVersion(
                f"{self.database.name} has {what}s of version {version}, this etl knows "
                f"version {VERSION}; upgrade etl"
            )
        return rest


def _told(result: Any) -> tuple[str, Any]:
    """Return a result as plain values: the name of its exception, if it is one, and the rest."""
    return (type(result).__name__, str(result)) if isinstance(result, Exception) else ("", result)


def _untold(kind: str, result: Any) -> Any:
    return getattr(errors, kind, StoreError)(result) if kind else result
