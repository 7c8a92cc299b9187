"""A process that uses a store, as `stores.py` starts many of them.

    python client.py puts URL SECONDS    put small batches, one after the other
    python client.py drain URL           be a worker until nothing waits
    python client.py commit URL          lease, and commit the result of such a batch, until then
    python client.py idle URL WORKERS    be workers that wait, until standard input ends

It says `ready` once all is loaded and connected, begins at the next line of its standard input,
and prints its answer as JSON. Times are those of the machine's monotonic clock, which is the same
for all processes.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pattern import PATTERN
from small import LINE, worker

from etl import Batch, Parse, Pipeline, Worker, normalise, open_queue, upper
from etl.execution.batch_run import Runner

SMALL = 10
"""Lines of a batch that is put."""

LINES = 100
"""Lines of a batch that a worker processes."""

TEXT = (Path(__file__).parent.parent / "data" / "python_app.log").read_text(encoding="utf-8")
RECORDS = [line for line in TEXT.splitlines() if re.match(PATTERN, line)]

pipeline = (
    Pipeline("stores")
    .add("parse", Parse())
    .add("normalise", normalise)
    .add("upper", upper("message"))
)


def batch(number: int) -> Batch:
    """Return a batch of a worker's work: lines of a real log."""
    start = number * LINES % (len(RECORDS) - LINES)
    return Batch.from_lines(RECORDS[start : start + LINES], source="app.log", format="python")


def puts(url: str, seconds: str) -> Callable[[], object]:
    """Return a function that puts small batches for some seconds and tells how many a second."""
    queue = open_queue(url)

    def run() -> float:
        number, begun = 0, time.monotonic()
        while (spent := time.monotonic() - begun) < float(seconds):
            queue.put(Batch.from_lines([LINE] * SMALL, source="memory"))
            number += 1
        return number / spent

    return run


def drain(url: str) -> Callable[[], object]:
    """Return a function that works until nothing waits and tells when that was."""
    with_one = open_queue("sqlite://")
    with_one.put(batch(0))
    Worker(with_one, pipeline).drain()  # what a worker does once is done now
    one = Worker(open_queue(url), pipeline, batch_lines=LINES)

    def run() -> float:
        one.drain()
        return time.monotonic()

    return run


def commit(url: str) -> Callable[[], object]:
    """Return a function that leases and commits until nothing waits and tells when that was.

    Each batch has the result that a worker would commit, with its counts, times and traces;
    the batches are alike, so that it is made once.
    """
    runner = Runner(pipeline)
    for number in range(10):  # a worker traces its first lines, and then so many a second
        result = runner.run(batch(number))
    queue, name = open_queue(url), f"client-{os.getpid()}"
    queue.register(name)

    def run() -> float:
        while queue.stats().waiting:
            while lease := queue.lease(name, lines=LINES):
                queue.commit(lease, result)
        return time.monotonic()

    return run


def idle(url: str, workers: str) -> Callable[[], object]:
    """Return a function that waits for the end and tells when each batch was done, by its id."""
    done: dict[str, float] = {}

    def watch(lease: object, _result: object) -> None:
        done.update(dict.fromkeys((one.id for one in lease.batches), time.monotonic()))

    running = [worker(open_queue(url), watch=watch).start() for _ in range(int(workers))]

    def run() -> dict[str, float]:
        sys.stdin.read()
        for one in running:
            one.request_stop()
        for one in running:
            one.stop()
        return done

    return run


if __name__ == "__main__":
    start = {"puts": puts, "drain": drain, "commit": commit, "idle": idle}[sys.argv[1]](
        *sys.argv[2:]
    )
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(start()), flush=True)
