"""Puts and works on a store whose disk fails; run by test_disk_faults.py with the shim preloaded.

Each line of its input is a JSON object that says when the disk fails. It is done in a process of
its own, which prints what it was told: as a user knows it.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from etl import Batch, JsonLines, Pipeline, Worker, open_queue
from etl.errors import EtlError

BATCHES = 3
STEPS = 6


def told(do: Callable[[], Any]) -> Any:
    """Return what comes of something, or the error."""
    try:
        return do()
    except EtlError as error:
        return f"{type(error).__name__}: {error}"


def put(queue: Any, number: int) -> int:
    batch = Batch.from_lines([f"batch {number} line {n}" for n in range(3)], source=str(number))
    queue.put(batch, block=False)
    return batch.lines


def step(worker: Worker) -> int | None:
    result = worker.step()
    return result and result.done


def use(folder: Path) -> dict[str, Any]:
    """Open the store, put, and work; return what was told each time."""
    opened: list[Any] = []
    said = told(lambda: opened.append(open_queue(folder / "store.db")))
    if said:
        return {"opened": said, "puts": [], "steps": []}
    queue = opened[0]
    puts = [told(lambda number=number: put(queue, number)) for number in range(BATCHES)]
    worker = Worker(queue, Pipeline().add("out", JsonLines()), out=folder / "out")
    steps = [told(lambda: step(worker)) for _ in range(STEPS)]
    return {"opened": "", "puts": puts, "steps": steps, "closed": queue}


def main() -> None:
    shim = ctypes.CDLL(None)
    logging.disable(logging.CRITICAL)
    for line in sys.stdin:
        wanted = json.loads(line)
        if child := os.fork():
            os.waitpid(child, 0)
            continue
        folder = Path(wanted["folder"])
        prefix = str(folder / "store.db").encode()
        shim.disk_fails(prefix, wanted["at"], wanted["error"], wanted["forever"])
        said = use(folder)
        queue = said.pop("closed", None)
        if queue and not wanted["killed"]:
            queue.close()
        print(json.dumps(said | {"failed": shim.disk_failed()}), flush=True)
        os._exit(0)


main()
