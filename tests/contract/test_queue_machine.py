"""The queue against a tiny model of it, in an order that Hypothesis chooses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import polars as pl
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from etl.dlq.dead_letters import DeadLetters
from etl.errors import LeaseLost, UsageError
from etl.execution.records import batch_of, parts_of
from etl.queue.postgres import PostgresQueue
from etl.queue.sqlite import SqliteQueue
from etl.queue.writes import DatabaseQueue
from etl.records.batch import Batch, Lease
from etl.records.result import DEAD_LETTER_SCHEMA, BatchResult, FailureKind

SECONDS = 10.0
FAILURES = [FailureKind(f"f{number}", "parse", "bad", "", "", ("parse",)) for number in range(2)]


class QueueMachine(RuleBasedStateMachine):
    """Every line has a name; the model is a place for each name, and a due time for each lease."""

    leases = Bundle("leases")

    def __init__(self, make: Callable[..., DatabaseQueue]) -> None:
        super().__init__()
        self.now = 1_000.0
        self.queue = make(clock=lambda: self.now)
        self.dead_letters = DeadLetters(self.queue)
        self.names = 0
        self.places: dict[str, str] = {}
        self.leased: dict[str, tuple[float, list[str]]] = {}
        self.later: dict[str, float] = {}
        self.paused, self.steps = False, 0

    def teardown(self) -> None:
        """Work off what is left: every line must come out once."""
        self.now += 1_000_000
        self.queue.resume()
        while lease := self.queue.lease("last", lines=5):
            names = self.names_in(lease)
            assert all(self.places[name] in ("waiting", "leased") for name in names)
            self.move(names, "done")
            self.queue.commit(lease, BatchResult(done=lease.lines, passed=replayed(lease)))
        self.leased.clear()
        self.the_store_agrees()
        assert self.queue.stats().idle
        self.queue.close()

    def names_in(self, lease: Lease) -> list[str]:
        return batch_of(lease).frame()["line"].to_list()

    def move(self, names: list[str], place: str) -> None:
        self.places.update(dict.fromkeys(names, place))

    def in_place(self, place: str) -> list[str]:
        return [name for name, found in self.places.items() if found == place]

    def lives(self, lease: Lease) -> bool:
        return lease.token in self.leased

    def free(self, lease: Lease, place: str) -> None:
        """End a lease in the model."""
        _, names = self.leased.pop(lease.token)
        self.move(names, place)

    # Producers and workers

    @rule(sizes=st.lists(st.integers(0, 5), max_size=3), source=st.sampled_from("ab"))
    def put(self, sizes: list[int], source: str) -> None:
        batches = []
        for size in sizes:
            names = [f"{source}{self.names + number}" for number in range(size)]
            self.names += size
            self.move(names, "waiting")
            batches.append(Batch.from_lines(names, source=source))
        self.queue.put(*batches, *batches[:1])

    @rule(target=leases, lines=st.integers(1, 12), worker=st.sampled_from("xy"))
    def lease(self, lines: int, worker: str) -> Any:
        if not self.paused or self.steps:
            for token, (due, names) in list(self.leased.items()):
                if due < self.now:
                    self.move(names, "waiting")
                    del self.leased[token]
        lease = self.queue.lease(worker, lines=lines, seconds=SECONDS)
        ready = [name for name in self.in_place("waiting") if self.later.get(name, 0) <= self.now]
        if lease is None:
            assert not ready or (self.paused and not self.steps)
            return multiple()
        names = self.names_in(lease)
        assert set(names) <= set(ready), "leased twice at once, too early, or after its end"
        assert len(names) <= lines or len(lease.batches) == 1
        assert not self.paused or self.steps
        self.steps -= self.paused
        self.leased[lease.token] = (self.now + SECONDS, names)
        self.move(names, "leased")
        return lease

    @rule(lease=consumes(leases), data=st.data())
    def commit(self, lease: Lease, data: st.DataObject) -> None:
        frame = batch_of(lease).frame()
        drawn = st.lists(
            st.sampled_from(["done", "done", "filtered", "dead"]),
            min_size=frame.height,
            max_size=frame.height,
        )
        statuses = dict(zip(frame["line"], data.draw(drawn), strict=True))
        result = result_of(frame, statuses)
        if not self.lives(lease):
            with pytest.raises(LeaseLost):
                self.queue.commit(lease, result)
            return
        self.queue.commit(lease, result)
        self.free(lease, "done")
        self.places.update(statuses)

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        if not self.lives(lease):
            with pytest.raises(LeaseLost):
                self.queue.renew(lease, seconds=SECONDS)
            return
        self.queue.renew(lease, seconds=SECONDS)
        self.leased[lease.token] = (self.now + SECONDS, self.leased[lease.token][1])

    @rule(lease=consumes(leases), delay=st.sampled_from([0.0, 5.0]))
    def release(self, lease: Lease, delay: float) -> None:
        if not self.lives(lease):
            with pytest.raises(LeaseLost):
                self.queue.release(lease, delay=delay)
            return
        self.queue.release(lease, delay=delay)
        self.later.update(dict.fromkeys(self.names_in(lease), self.now + delay if delay else 0))
        self.free(lease, "waiting")

    @rule(lease=consumes(leases), parts=st.integers(1, 4))
    def split(self, lease: Lease, parts: int) -> None:
        if not self.lives(lease):
            with pytest.raises(LeaseLost):
                self.queue.split(lease, parts_of(lease, parts))
            return
        self.queue.split(lease, parts_of(lease, parts))
        self.later.update(dict.fromkeys(self.names_in(lease), 0))
        self.free(lease, "waiting")

    @rule(seconds=st.sampled_from([1.0, 6.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def reclaim(self) -> None:
        self.queue.register("x")
        assert self.queue.reclaim() == [], "this process lives"

    # Operators

    @rule()
    def pause(self) -> None:
        self.queue.pause()
        self.paused, self.steps = True, 0

    @precondition(lambda self: self.paused)
    @rule()
    def resume(self) -> None:
        self.queue.resume()
        self.paused, self.steps = False, 0

    @precondition(lambda self: self.paused)
    @rule(batches=st.integers(1, 2))
    def step(self, batches: int) -> None:
        self.queue.step(batches)
        self.steps += batches

    @precondition(lambda self: self.in_place("dead"))
    @rule(data=st.data(), force=st.booleans())
    def replay(self, data: st.DataObject, force: bool) -> None:  # noqa: FBT001 - drawn by name
        some = data.draw(st.lists(st.sampled_from(self.in_place("dead")), min_size=1, unique=True))
        frame = self.dead_letters.frame()
        rows = frame[frame["line"].isin(some)]
        if not force and (rows["replays"] >= 3).any():
            with pytest.raises(UsageError):
                self.dead_letters.replay(ids=rows["id"])
            return
        assert self.dead_letters.replay(ids=rows["id"], force=force) == len(some)
        self.move(some, "waiting")
        self.later.update(dict.fromkeys(some, 0))

    @precondition(lambda self: self.in_place("dead"))
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.in_place("dead")))
        frame = self.dead_letters.frame()
        assert self.dead_letters.discard(ids=frame[frame["line"] == one]["id"]) == 1
        self.places[one] = "discarded"

    @precondition(lambda self: self.in_place("discarded"))
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.in_place("discarded")))
        frame = self.dead_letters.frame(status="discarded")
        assert self.dead_letters.reopen(ids=frame[frame["line"] == one]["id"]) == 1
        self.places[one] = "dead"

    # What holds after every step

    @invariant()
    def the_store_agrees(self) -> None:
        stats = self.queue.stats()
        assert stats.conserved
        assert stats.accepted == self.names == len(self.places)
        found = {name: getattr(stats, name) for name in ("done", "filtered", "waiting", "leased")}
        assert found == {name: len(self.in_place(name)) for name in found}
        assert stats.dead == len(self.in_place("dead")) + len(self.in_place("discarded"))

    @invariant()
    def the_totals_are_sums(self) -> None:
        (totals,) = self.all("SELECT * FROM totals")
        sums = {"waiting": (0, 0, 0), "leased": (0, 0, 0)}
        for row in self.all(
            "SELECT state, sum(lines) AS n, sum(bytes) AS size, count(*) AS batches "
            "FROM batches GROUP BY 1"
        ):
            sums[row["state"]] = (row["n"], row["size"], row["batches"])
        for name, found in sums.items():
            assert found == tuple(totals[name + of] for of in ("", "_bytes", "_batches"))
        dead = self.all("SELECT id FROM dead_letters WHERE status IN ('open', 'discarded')")
        assert totals["dead"] == len(dead)

    @invariant()
    def the_letters_agree(self) -> None:
        rows = self.all("SELECT line, status FROM dead_letters")
        assert len({row["line"] for row in rows}) == len(rows), "one letter a line"
        opened = sorted(row["line"] for row in rows if row["status"] == "open")
        assert opened == sorted(self.in_place("dead"))

    @invariant()
    def no_payload_is_left_behind(self) -> None:
        payloads = {row["id"] for row in self.all("SELECT id FROM payloads")}
        assert payloads == {row["payload"] for row in self.all("SELECT payload FROM batches")}

    def all(self, sql: str) -> list[dict[str, Any]]:
        return self.queue._database.rows(sql)


def replayed(lease: Lease) -> list[int]:
    frame = batch_of(lease).frame()
    return (
        frame["dead_letter_id"].drop_nulls().to_list() if "dead_letter_id" in frame.columns else []
    )


def result_of(frame: pl.DataFrame, statuses: dict[str, str]) -> BatchResult:
    """Make the result in which each line gets its status."""
    if "dead_letter_id" not in frame.columns:
        frame = frame.with_columns(dead_letter_id=pl.lit(None, pl.Int64))
    status = pl.Series(list(statuses.values()), dtype=pl.String)
    given = {"failure": pl.col("line_number") % 2, "lines": 1, "message": "bad", "attempts": 1}
    gone = frame.filter(status == "dead")
    columns = {
        name: name if name in gone.columns else pl.lit(None)
        for name in DEAD_LETTER_SCHEMA
        if name not in given
    }
    columns |= {
        name: pl.lit(value) if isinstance(value, (int, str)) else value
        for name, value in given.items()
    }
    table = gone.select(**{name: columns[name] for name in DEAD_LETTER_SCHEMA}).cast(
        DEAD_LETTER_SCHEMA
    )
    counts = {name: list(statuses.values()).count(name) for name in ("done", "filtered", "dead")}
    passed = frame.filter(status != "dead")["dead_letter_id"].drop_nulls().to_list()
    return BatchResult(**counts, dead_letters=table, failures=FAILURES, passed=passed)


def test_the_queue_in_memory_does_what_the_model_does():
    rounds = settings(max_examples=100, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(lambda: QueueMachine(partial(SqliteQueue, None)), settings=rounds)


def test_the_queue_in_postgresql_does_what_the_model_does(postgres_schema):
    def make(clock: Callable[[], float]) -> PostgresQueue:
        return PostgresQueue(postgres_schema(), create=True, clock=clock)

    rounds = settings(max_examples=12, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(lambda: QueueMachine(make), settings=rounds)
