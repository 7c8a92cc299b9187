"""Durable queues of Python side by side: items put one by one, and taken and acknowledged.

    python queues.py [--lines N] [--rounds N]
    python queues.py measure NAME FOLDER ITEMS

Each is measured in a process of its own, on the disk of the folder. What a put has survived when it
returns is not the same for all of them: the table says it. Those that let it be chosen are
measured both ways.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import measure
from results import Target, save
from rounds import Scratch, complaint, options
from small import LINE, worker

from etl import Batch, open_queue
from etl.records.result import BatchResult

SYNCED = "machine"
"""What a put has survived: the file was synced before it returned."""

WRITTEN = "process"
"""What a put has survived: the data is with the operating system, but may not be on the disk."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Contender:
    """A queue.

    Attributes:
        name: What the table calls it.
        survives: The end of what a put has survived: of the process, or of the machine.
        opened: Takes a new folder, and returns what puts an item, and what takes and
            acknowledges one.
    """

    name: str
    survives: str
    opened: Callable[[Path], tuple[Call, Call]]


def etl(folder: Path) -> tuple[Call, Call]:
    """Return the calls of etl: a batch of one line, leased and committed by itself."""
    queue = open_queue(f"sqlite:///{folder / 'run.db'}")
    queue.register("benchmark")
    result = BatchResult(done=1)

    def take() -> None:
        lease = queue.lease("benchmark", lines=1)
        if lease is None:
            raise SystemExit("the queue of etl is empty before all its items were taken")
        queue.commit(lease, result)

    return lambda: queue.put(Batch.from_lines([LINE])), take


def litequeue(folder: Path, *, synced: bool = False) -> tuple[Call, Call]:
    """Return the calls of litequeue."""
    from litequeue import LiteQueue

    queue = LiteQueue(str(folder / "queue.db"))
    if synced:
        queue.conn.execute("PRAGMA synchronous = FULL")
    return lambda: queue.put(LINE), lambda: queue.done(queue.pop().message_id)


def persist_sqlite(folder: Path) -> tuple[Call, Call]:
    """Return the calls of persist-queue's queue in SQLite."""
    from persistqueue import SQLiteAckQueue

    queue = SQLiteAckQueue(str(folder / "queue"))
    return lambda: queue.put(LINE), lambda: queue.ack(queue.get(block=False))


def persist_files(folder: Path) -> tuple[Call, Call]:
    """Return the calls of persist-queue's queue in files."""
    from persistqueue import Queue

    (folder / "temporary").mkdir()
    queue = Queue(str(folder / "queue"), tempdir=str(folder / "temporary"))

    def take() -> None:
        queue.get(block=False)
        queue.task_done()

    return lambda: queue.put(LINE), take


CONTENDERS = (
    Contender("etl", SYNCED, etl),
    Contender("litequeue, synchronous=FULL", SYNCED, lambda path: litequeue(path, synced=True)),
    Contender("litequeue", WRITTEN, litequeue),
    Contender("persist-queue, SQLite", SYNCED, persist_sqlite),
    Contender("persist-queue, files", WRITTEN, persist_files),
)

WARM_UP = 50
"""Items before those that are measured: what is done once, is done then."""

DRAIN = "drain"
"""Part that is of etl only: a worker takes lines together that were put one by one."""


def per_second(items: int, call: Call) -> float:
    """Return how many calls are made a second."""
    started = time.perf_counter()
    for _ in range(items):
        call()
    return items / (time.perf_counter() - started)


def once(name: str, folder: Path, items: int) -> dict[str, float]:
    """Return the numbers of one queue, or of etl's worker."""
    if name == DRAIN:
        return {"drained": drained(folder, items)}
    put, take = next(one for one in CONTENDERS if one.name == name).opened(folder)
    for call in (put, take):
        per_second(WARM_UP, call)
    return {"puts": per_second(items, put), "takes": per_second(items, take)}


def drained(folder: Path, items: int) -> float:
    """Return the lines that a worker drains per CPU second of its process."""
    queue = open_queue(f"sqlite:///{folder / 'run.db'}")
    one = worker(queue, out=str(folder / "out"))
    for count in (WARM_UP, items):
        for _ in range(count):
            queue.put(Batch.from_lines([LINE]))
        started = time.process_time()
        one.drain()
        seconds = time.process_time() - started
    if queue.stats().done != WARM_UP + items:
        raise SystemExit(f"{queue.stats().done} of {WARM_UP + items} lines were done by the worker")
    return items / seconds


def measured(name: str, folder: Path, items: int, rounds: int) -> dict[str, float] | str:
    """Return the medians of some rounds, each in a process of its own, or what went wrong."""
    found = []
    for _ in range(rounds):
        with Scratch(folder / "queue") as path:
            words = ["measure", name, str(path), str(items)]
            sample = measure([sys.executable, __file__, *words], cwd=path)
        if sample.code:
            return f"not measured: {complaint(sample)}"
        found.append(json.loads(sample.stdout))
    return {key: median(one[key] for one in found) for key in found[0]}


def table(rows: list[dict]) -> Iterator[str]:
    """Yield the lines of the table of queues."""
    yield "| | a put has survived the end of the | puts/s | get and acknowledge/s |"
    yield "|---|---|---:|---:|"
    for row in rows:
        numbers = f"{row['puts']:,.0f} | {row['takes']:,.0f}"
        yield f"| {row['name']} | {row['survives']} | {numbers} |"


def main() -> None:
    """Measure, and print the table."""
    parser = options(__doc__, lines=5_000)
    given = parser.parse_args()
    folder = given.folder.resolve()
    rows, problems = [], []
    for one in CONTENDERS:
        found = measured(one.name, folder, given.lines, given.rounds)
        if isinstance(found, str):
            problems.append(f"- {one.name}: {found}")
        else:
            rows.append({"name": one.name, "survives": one.survives, **found})
    print(*table(rows), "", *problems, sep="\n")
    puts = {row["name"]: row["puts"] for row in rows}
    if "etl" in puts:
        print(Target("etl, durable puts of one line a second", puts["etl"], ">=", 5_000))
    drain = measured(DRAIN, folder, given.lines, given.rounds)
    if isinstance(drain, str):
        print(f"- {DRAIN}: {drain}")
    else:
        text = "etl, lines put one by one that a worker drains per CPU second"
        print(Target(text, drain["drained"], ">=", 50_000))
        rows.append({"name": DRAIN, **drain})
    save(given.save, "queues", rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        _, _, name, path, items = sys.argv
        print(json.dumps(once(name, Path(path), int(items))))
    else:
        main()
