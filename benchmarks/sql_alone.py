"""Leases and commits a second by the SQL alone: what is left when Python is not there.

A queue leases and commits a batch while every statement that it sends is recorded. The record is
written as a script for pgbench, which runs it with many clients: there is no second copy of the
statements. What is sent together, without waiting for each answer, is so in the script, unless
its answer is used. Of the values,

- a time is now, or some seconds from now,
- the lease's token is a new one each time,
- the worker's name is the number of the client,
- keys of rows (`KEYS`) are those that the script's own statements return,

and the rest are those of the recorded batch.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import floor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import psycopg
from client import LINES, batch, pipeline

from etl import Worker, open_queue
from etl.records.batch import Lease
from etl.records.result import BatchResult

KEYS = ("now", "seq", "payload")
"""Columns of answers that later statements use."""

NEAR = 1e6
"""Seconds from now within which a number is a time."""

WORKER = "the worker"


@dataclass(frozen=True, slots=True)
class Sent:
    """A statement that was sent.

    Attributes:
        sql: Its text, with `%(name)s` for values.
        values: The values by name.
        together: Whether it was sent without waiting for its answer.
        row: Its answer, if that has columns of `KEYS`.
    """

    sql: str
    values: Mapping[str, Any]
    together: bool
    row: Mapping[str, Any] | None = None


@contextmanager
def recording() -> Iterator[list[Sent]]:
    """Record what is sent through psycopg until the block ends."""
    sent: list[Sent] = []
    pipelines: list[None] = []
    execute, executemany = psycopg.Cursor.execute, psycopg.Cursor.executemany

    def record_one(cursor: psycopg.Cursor, query: str, params: Any = None, **options: Any) -> Any:
        execute(cursor, query, params, **options)
        parts = [query] if params else [part for part in query.split(";") if part.strip()]
        for number, part in enumerate(parts):
            cursor.set_result(number)
            together = bool(pipelines) or number < len(parts) - 1
            sent.append(Sent(part.strip(), params or {}, together, keys_in(cursor)))
        cursor.set_result(0)
        return cursor

    def record_many(cursor: psycopg.Cursor, query: str, rows: Iterable[Any], **more: Any) -> None:
        rows = list(rows)
        executemany(cursor, query, rows, **more)
        sent.extend(Sent(query, row, together=True) for row in rows)

    @contextmanager
    def record_pipeline(_connection: psycopg.Connection) -> Iterator[object]:
        pipelines.append(None)
        yield SimpleNamespace(sync=lambda: None)
        pipelines.pop()

    with (
        patch.object(psycopg.Cursor, "execute", record_one),
        patch.object(psycopg.Cursor, "executemany", record_many),
        patch.object(psycopg.Connection, "pipeline", record_pipeline),
    ):
        yield sent


def keys_in(cursor: psycopg.Cursor) -> Mapping[str, Any] | None:
    """Return the first row of a cursor, which stays unread, if later statements use it."""
    names = [column.name for column in cursor.description or ()]
    if not set(KEYS) & set(names) or not cursor.rowcount:
        return None
    row = cursor.fetchone()
    cursor.scroll(0, mode="absolute")
    return row


def one_lease_and_commit(url: str) -> tuple[Lease, list[Sent]]:
    """Return a lease of a batch with a real result, and what it and its commit have sent."""
    results: list[BatchResult] = []
    with closing(open_queue(url)) as queue:
        queue.put(batch(0), batch(0))
        worker = Worker(
            queue,
            pipeline,
            name=WORKER,
            batch_lines=LINES,
            watch=lambda _lease, result: results.append(result),
        )
        worker.step()
        with recording() as sent:
            lease = queue.lease(WORKER, lines=LINES)
            queue.commit(lease, results[0])
    return lease, sent


class Script:
    """A script for pgbench that does what was recorded.

    Attributes:
        text: The script.
        variables: Its texts, which pgbench is given by name.
    """

    def __init__(self, lease: Lease, sent: Iterable[Sent]) -> None:
        self._names: dict[str, str] = {}
        self._token = lease.token
        self._row: dict[str, Any] = {}
        self.text = "\n".join(self._lines(sent)) + "\n"
        self.variables = {name: text for text, name in self._names.items()}

    def _lines(self, sent: Iterable[Sent]) -> Iterator[str]:
        yield "\\set token random(1, 9000000000000000000)"
        together = False
        for one in sent:
            if together != (one.together and not one.row):
                together = not together
                yield "\\startpipeline" if together else "\\endpipeline"
            values = {name: self._value(name, value) for name, value in one.values.items()}
            sql = re.sub(r"%\((\w+)\)s", lambda found, values=values: values[found[1]], one.sql)
            yield f"{sql} \\gset" if one.row else f"{sql};"
            self._row |= one.row or {}
        if together:
            yield "\\endpipeline"

    def _value(self, name: str, value: Any) -> str:
        """Return a value as SQL."""
        seq = self._row.get("seq")
        if value is None:
            return "NULL"
        if name in KEYS and value == self._row.get(name):
            return f":{name}"
        if value in ([seq], json.dumps([seq])):
            return (
                "ARRAY[CAST(:seq AS BIGINT)]" if isinstance(value, list) else "'[' || :seq || ']'"
            )
        if isinstance(value, list):
            return (
                f"ARRAY[{', '.join(self._value(name, one) for one in value)}]" if value else "'{}'"
            )
        if isinstance(value, int | float):
            return self._number(value)
        return self._text(f"\\x{value.hex()}" if isinstance(value, bytes) else str(value))

    def _number(self, value: float) -> str:
        now = self._row["now"]
        if abs(value - now) > NEAR:
            return repr(value)
        if isinstance(value, float):
            return f"(CAST(:now AS DOUBLE PRECISION) + {value - now:.3f})"
        return f"(CAST(floor(CAST(:now AS DOUBLE PRECISION)) AS BIGINT) + {value - floor(now)})"

    def _text(self, value: str) -> str:
        changing = {WORKER: ":client_id", self._token: ":token"}
        if value in changing:
            return changing[value]
        if not value:  # which pgbench cannot be given
            return "''"
        sql = f":{self._names.setdefault(value, f'text{len(self._names)}')}"
        for part, variable in changing.items():
            if part in value:
                sql = f"replace({sql}, '{part}', CAST({variable} AS TEXT))"
        return sql


def leases_and_commits(bin: Path, url: str, clients: int, count: int) -> float:
    """Return how many leases and commits a second pgbench makes.

    Args:
        bin: The folder of PostgreSQL's programs.
        url: An empty store.
        clients: How many do so at once.
        count: How many they do, all in all.
    """
    script = Script(*one_lease_and_commit(url))
    with closing(open_queue(url)) as queue:
        queue.put(*(batch(number) for number in range(count)))
    command = [str(bin / "pgbench"), "--no-vacuum", "--protocol=prepared", "--file=/dev/stdin"]
    command += [f"--client={clients}", f"--jobs={min(clients, 2)}"]
    command += [f"--transactions={count // clients}"]
    command += [f"--define={name}={text}" for name, text in script.variables.items()]
    done = subprocess.run(
        [*command, url], input=script.text, capture_output=True, text=True, check=False
    )
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        said = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise RuntimeError(f"pgbench: {said[0]}")
    return float(found[1])
