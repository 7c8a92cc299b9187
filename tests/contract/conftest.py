"""What every contract test needs: a clock that is told the time, and an audit of the totals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from etl.queue import Queue, open_queue
from etl.queue.postgres import PostgresQueue
from etl.queue.sqlite import SqliteQueue
from etl.queue.urls import file_of
from etl.queue.writes import DatabaseQueue

STORES = ["file", "memory", "postgres"]


class Clock:
    """A clock that stands still until it is told to go on."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _audit(queue: Any) -> None:
    """Check that the totals are the sums over the batches and dead letters they stand for."""
    rows = queue._database.rows
    stats = queue.stats()
    assert stats.conserved, f"lines are missing: {stats}"
    (totals,) = rows("SELECT * FROM totals")
    assert min(totals.values()) >= 0
    sums = rows(
        "SELECT state, sum(lines) AS n, sum(bytes) AS size, count(*) AS batches "
        "FROM batches GROUP BY 1"
    )
    found = {row["state"]: (row["n"], row["size"], row["batches"]) for row in sums}
    for state in ("waiting", "leased"):
        names = (state, f"{state}_bytes", f"{state}_batches")
        assert tuple(totals[name] for name in names) == found.get(state, (0, 0, 0))
    (dead,) = rows("SELECT sum(lines) AS n FROM dead_letters WHERE status IN ('open', 'discarded')")
    assert totals["dead"] == (dead["n"] or 0) + totals["pruned"]
    orphans = "SELECT id FROM payloads WHERE id NOT IN (SELECT payload FROM batches)"
    assert rows(orphans) == []


@pytest.fixture
def audit() -> Callable[[Queue], None]:
    return _audit


@pytest.fixture
def contents() -> Callable[[DatabaseQueue], dict[str, Any]]:
    """Return a function that reads every row of every table, to show that nothing changed."""

    def read(queue: DatabaseQueue) -> dict[str, Any]:
        rows = queue._database.rows
        tables = rows(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()"
            if isinstance(queue, PostgresQueue)
            else "SELECT name FROM sqlite_master WHERE type = 'table'"
        )
        return {
            one["name"]: sorted(map(repr, rows(f"SELECT * FROM {one['name']}"))) for one in tables
        }

    return read


@pytest.fixture(params=STORES)
def queue(request: pytest.FixtureRequest, store_url: Callable[[str], str]) -> Iterator[Queue]:
    opened = open_queue(store_url(request.param))
    yield opened
    _audit(opened)
    opened.close()


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest, store_url: Callable[[str], str], clock: Clock
) -> Iterator[Callable[..., DatabaseQueue]]:
    """Make a store of any kind that reads the fake clock, with the limits it is given."""
    opened: list[DatabaseQueue] = []
    url = store_url(request.param)

    def make(**limits: int) -> DatabaseQueue:
        if request.param == "postgres":
            opened.append(PostgresQueue(url, clock=clock, **limits))
        else:
            opened.append(SqliteQueue(file_of(url), clock=clock, **limits))
        return opened[-1]

    yield make
    for one in opened:
        _audit(one)
        one.close()
