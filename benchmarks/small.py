"""How long a single line waits for a worker, in a queue where nothing else is to be done.

    python small.py thread DB    put to done, the worker in a thread of the same process
    python small.py process DB   put to done, the worker in another process
    python small.py work DB      that other process; ends when its standard input does

DB is a path for a new SQLite store.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import polars as pl

from etl import Batch, Pipeline, Worker, open_queue
from etl.queue import Queue

LINES = 200
PAUSE = 0.05
DEFAULT_TIMEOUT = 30.0
LINE = "2026-11-21 10:11:12,345 INFO benchmark: one line of a usual length, put alone"


def url(db: Path) -> str:
    """Return the URL of a store in a file."""
    return f"sqlite:///{db.resolve()}"


def same(frame: pl.DataFrame) -> pl.DataFrame:
    """Pass lines on: what is measured is the way, not the work."""
    return frame


def worker(queue: Queue, **options: Callable) -> Worker:
    """Return a worker whose pipeline does nothing."""
    return Worker(queue, Pipeline("small").add("same", same), **options)


@contextmanager
def thread(queue: Queue, _db: Path) -> Iterator[None]:
    """Run a worker in a thread of this process, on the same open queue."""
    running = worker(queue)
    running.start()
    try:
        yield
    finally:
        running.stop()


@contextmanager
def process(_queue: Queue, db: Path) -> Iterator[None]:
    """Run a worker in another process on the same store."""
    command = [sys.executable, __file__, "work", str(db)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        yield
        other.stdin.close()


def work(db: Path) -> None:
    """Be the other process: work until standard input ends."""
    running = worker(open_queue(url(db)))
    running.start()
    print("ready", flush=True)
    sys.stdin.read()
    running.stop()


Where = Callable[[Queue, Path], AbstractContextManager[None]]


def latency(db: Path, where: Where) -> dict[str, float]:
    """Put single lines into an idle queue and return p50 and p95 of put to done, in seconds.

    The time includes looking at the counters until the line is done.
    """
    queue = open_queue(url(db))
    times = []
    with where(queue, db):
        for _ in range(LINES):
            time.sleep(PAUSE)
            goal = queue.stats().done + 1
            started = time.perf_counter()
            queue.put(Batch.from_lines([LINE]))
            while queue.stats().done < goal:
                if time.perf_counter() - started > DEFAULT_TIMEOUT:
                    raise SystemExit(f"a line was not done after {DEFAULT_TIMEOUT} seconds")
                time.sleep(0.0005)
            times.append(time.perf_counter() - started)
    times.sort()
    return {"p50": times[len(times) // 2], "p95": times[int(len(times) * 0.95)]}


if __name__ == "__main__":
    what, store = sys.argv[1], Path(sys.argv[2])
    if what == "work":
        work(store)
    else:
        print(json.dumps(latency(store, {"thread": thread, "process": process}[what])))
