"""What runs on the machine: programs that log, producers, workers, an operator, a replayer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from greenlet import getcurrent
from simulation.world import OUT, Killed, Process, World

from etl import Batch, Count, JsonLines, Parquet, Pipeline, reject
from etl.dlq.dead_letters import DeadLetters
from etl.errors import LeaseLost, StoreError, UsageError
from etl.sources.files import FileSource
from etl.sources.follow import FollowSource
from etl.sources.ingest import ingest
from etl.workers.compaction import try_to_compact
from etl.workers.worker import Worker

LOGS = Path("/logs")


class Model:
    """Every line that was written, and what the engine must do with it."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.killers = False

    def line(self, world: World, *, killers: bool = False) -> str:
        """Return a new line of some kind."""
        kinds, weights = ["good", "drop", "poison", "reject", "killer"], [12, 2, 1.5, 1, 0.0]
        weights[-1] = 0.7 * killers
        (kind,) = world.random.choices(kinds, weights)
        self.killers |= kind == "killer"
        number = len(self.written)
        # no two begin alike: a text that is cut and written again the same leaves no trace
        clock = f"09:00:{number // 1000:02},{number % 1000:03}"
        self.written.append(f"2026-11-22 {clock} INFO shop: line {number} {kind}")
        return self.written[-1]

    def lines(self, world: World, count: int, *, killers: bool) -> list[str]:
        """Return some new lines."""
        return [self.line(world, killers=killers) for _ in range(count)]


def having(kind: str) -> pl.Expr:
    return pl.col("line").str.ends_with(kind)


def check(frame: pl.DataFrame) -> pl.DataFrame:
    """Do with each line what its kind says; a killer line ends the process."""
    if frame.select(having("killer").any()).item():
        process = getcurrent().process
        process.world.note(f"{process.name} is killed by a line")
        process.alive = False
        raise Killed
    if frame.select(having("poison").any()).item():
        raise ValueError("poison")
    return reject(frame.filter(~having("drop")), having("reject"), "no", "no")


@cache
def pipeline_to(sink: type[JsonLines | Parquet]) -> Pipeline:
    """Return the pipeline that all workers have."""
    return (
        Pipeline("simulation")
        .add("check", check)
        .add("count", Count("line"))
        .add("out", sink("sink"))
    )


class TurnWorker(Worker):
    """A worker whose waiting is a turn of the others."""

    def _wait_for_work(self, since: object) -> None:  # noqa: ARG002
        self.gate("idle", seconds=0.5)


def work(process: Process) -> None:
    """Work until asked to stop, as `Worker.run` does."""
    world = process.world
    worker = process.worker = TurnWorker(
        process.queue,
        pipeline_to(world.sink),
        name=process.name,
        out=OUT,
        batch_lines=world.batch_lines,
        lease_seconds=world.lease_seconds,
        files=process.files,
        clock=lambda: world.now,
    )
    worker.gate = process.gate
    worker._stale = True
    worker._requests_before = _patiently(process, worker._requests)
    while True:
        try:
            ended = worker._turn()
        except StoreError:
            process.gate("pause")
            continue
        if ended:
            break
    with suppress(StoreError):
        process.queue.unregister(worker.name)


def heartbeat(process: Process) -> None:
    """Be known to live, as the thread of a worker does."""
    with suppress(StoreError, LeaseLost):
        process.worker._heartbeat()


def _patiently(process: Process, call: Callable[[], Any]) -> Any:
    while True:
        try:
            return call()
        except StoreError:
            process.gate("pause")


def client(batches: list[Batch]) -> Callable[[Process], None]:
    """Return a producer that puts each batch until it is told that it is stored."""

    def main(process: Process) -> None:
        while batches:
            process.queue.put(batches[0])
            process.gate("answer")
            batches.pop(0)

    return main


class Stop:
    """An event that a source waits for: its waiting is a turn of the others."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def is_set(self) -> bool:
        return self._process.stopping

    def wait(self, seconds: float) -> bool:
        self._process.gate("poll", seconds=seconds)
        return self._process.stopping


def follow(path: Path) -> Callable[[Process], None]:
    """Return a producer that follows a file until it is asked to stop."""

    def main(process: Process) -> None:
        stop: Any = Stop(process)
        source = FollowSource(path.name, path, stop, poll=2.0, files=process.files)
        for _ in ingest(process.queue, source):
            pass

    return main


def put(path: Path, *, by_reference: bool, chunk: int) -> Callable[[Process], None]:
    """Return a producer that puts what is new in a file, and ends."""

    def main(process: Process) -> None:
        source = FileSource(
            path.name, path, by_reference=by_reference, chunk=chunk, files=process.files
        )
        for _ in ingest(process.queue, source):
            pass

    return main


def join(process: Process) -> None:
    """Join the files of the output."""
    try_to_compact(process.queue, effort="all", files=process.files)


def operate(process: Process) -> None:
    """Ask for something, as a person does."""
    queue = process.queue
    what = process.world.random.choice(["pause", "resume", "resume", "step", "stop", "drain"])
    process.world.note(f"operator: {what}")
    getattr(queue, what)()


def replay(process: Process) -> None:
    """Replay some dead letters."""
    with suppress(UsageError):
        DeadLetters(process.queue).replay(limit=process.world.random.randint(1, 4))


def discard(process: Process) -> None:
    """Close a dead letter."""
    with suppress(UsageError):
        DeadLetters(process.queue).discard(limit=1)
