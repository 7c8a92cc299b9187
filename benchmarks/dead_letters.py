"""How long pages, groups and a prune of 2,000,000 dead letters take, and how much memory.

    python benchmarks/dead_letters.py /tmp/dead --count 2000000

Each measurement is a process of its own, on a copy of the store where it changes it.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from etl.dlq import DeadLetters
from etl.queue import DeadLetterFilter, Queue, open_queue

KINDS = 20
RARE = 200_000
"""One dead letter of so many is of the rare kind, which has a source of its own."""

PAGES = {
    "the newest": {},
    "in the middle": {"before": 1_000_000},
    "of any status, at the end": {"before": 1_000, "status": None},
    "of a rare kind": {"fingerprint": "f0"},
    "of a common kind, in the middle": {"fingerprint": "f3", "before": 1_000_000},
    "of a rare source": {"source": "/logs/0.log"},
    "of a source, a processor and a code": {
        "source": "/logs/0.log",
        "processor": "p0",
        "code": "c0",
    },
    "of a status that none has": {"status": "replayed"},
    "after 10,000 others": {"skip": 10_000},
}


def rows(count: int) -> Iterator[tuple[object, ...]]:
    """Yield dead letters as they are stored."""
    for number in range(count):
        kind = 0 if number % RARE == 0 else 1 + number % (KINDS - 1)
        line = f"2026-11-22 09:00:00,000 INFO shop: order {number} {'x' * 60}"
        at = 1.8e9 + number / 1000
        name = f"/logs/{kind}.log"
        yield (kind + 1, name, number, 1, line, f"no order {number}", 1, at, at, "b", "{}")


def fill(path: Path, count: int) -> None:
    """Make a store with so many dead letters."""
    open_queue(path).close()
    kinds = ((f"p{n % 4}", f"c{n}", "x" * 800, f"f{n}", f"/logs/{n}.log") for n in range(KINDS))
    with sqlite3.connect(path) as db:
        db.executemany(
            "INSERT INTO failures (processor, code, error, traceback, path, version, run, "
            "fingerprint, source) VALUES (?, ?, '', ?, '[]', 'v', 'r', ?, ?)",
            kinds,
        )
        db.executemany(
            "INSERT INTO dead_letters (failure, source, line_number, lines, line, message, "
            "attempts, first_failed_at, last_failed_at, batch, context) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows(count),
        )
        db.execute(
            "INSERT INTO totals_by_slot (slot, accepted, done, filtered, dead, leased, waiting, "
            "leased_bytes, waiting_bytes, leased_batches, waiting_batches, pruned) "
            "VALUES (0, ?, 0, 0, ?, 0, 0, 0, 0, 0, 0, 0)",
            (count, count),
        )
    db.close()


def pages(queue: Queue) -> str:
    """Return how long pages of 100 take, the best of five."""
    found = [
        (name, best(lambda which=which: queue.dead_letters(DeadLetterFilter(limit=100, **which))))
        for name, which in PAGES.items()
    ]
    found += [
        ("groups", best(lambda: queue.dead_letter_groups(DeadLetterFilter()))),
        ("totals", best(queue.stats)),
    ]
    return "\n".join(f"    {name}: {seconds * 1000:.1f} ms" for name, seconds in found)


def best(call: Callable[[], object]) -> float:
    """Return the seconds that the quickest of five calls took."""
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


def prune(queue: Queue) -> str:
    """Discard all dead letters, prune them, and return what was given back."""
    DeadLetters(queue).discard()
    return f"{queue.prune(0)}, {queue.shrink():,} bytes given back"


MEASURED: dict[str, Callable[[Queue, Path], object]] = {
    "pages": lambda queue, _: "\n" + pages(queue),
    "export as JSON": lambda queue, path: DeadLetters(queue).export(path.with_suffix(".jsonl")),
    "export as Parquet": lambda queue, path: DeadLetters(queue).export(
        path.with_suffix(".parquet")
    ),
    "replay": lambda queue, _: DeadLetters(queue).replay(),
    "discard": lambda queue, _: DeadLetters(queue).discard(),
    "discard and prune": lambda queue, _: prune(queue),
}


def measure(name: str, path: Path) -> None:
    """Print what one measurement finds, with its time and its peak of memory."""
    queue = open_queue(path)
    started = time.perf_counter()
    found = MEASURED[name](queue, path)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    queue.close()
    print(f"{name}: {found}\n    {seconds:.1f} s, {peak:,.0f} MB at most", flush=True)


def main() -> None:
    """Make the store, and measure each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2_000_000)
    parser.add_argument("--only", choices=MEASURED, help="measure one, on the store of that folder")
    given = parser.parse_args()
    store = given.folder / "dead.db"
    if given.only:
        measure(given.only, store)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    fill(given.folder / "made.db", given.count)
    for name in MEASURED:
        shutil.copy(given.folder / "made.db", store)
        subprocess.run([sys.executable, __file__, str(given.folder), "--only", name], check=True)
        for file in given.folder.glob("dead.*"):
            file.unlink()


if __name__ == "__main__":
    main()
