"""A disk that fails at each of its writes: a commit is there or not, and the worker knows which."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import JsonLines, Pipeline, Worker
from etl.queue.sqlite import SqliteQueue

HERE = Path(__file__).parent
STRIDE = 1 if os.environ.get("ETL_CHAOS_ROUNDS") else 97
"""Every so many writes are made to fail: all of them in `make chaos`."""


@pytest.fixture(scope="module")
def use(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a function that uses a store on a disk that fails, and returns what it was told."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "a C compiler makes the disk that fails: apt-get install gcc libc6-dev"
    shim = tmp_path_factory.mktemp("shim") / "disk_faults.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(shim), str(HERE / "disk_faults.c")]
    subprocess.run([*command, "-ldl"], check=True)
    process = subprocess.Popen(
        [sys.executable, str(HERE / "disk_faults.py")],
        env=os.environ | {"LD_PRELOAD": str(shim), "POLARS_MAX_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(folder: Path, **wanted: Any) -> dict[str, Any]:
        process.stdin.write(json.dumps({"folder": str(folder), **wanted}) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.communicate()
    assert process.returncode == 0


def counted(told: list[Any]) -> int:
    """Return how many lines a process was told are stored, or done."""
    return sum(one for one in told if isinstance(one, int))


def check(folder: Path, said: dict[str, Any]) -> None:
    """Check that the store holds what the process was told, and each line once.

    An hour later, so that no lease is left of a process that could not give it back.
    """
    queue = SqliteQueue(folder / "store.db", clock=lambda: time.time() + 3600)
    stats = queue.stats()
    assert stats.conserved
    accepted, done = counted(said["puts"]), counted(said["steps"])
    if said["steps"] and isinstance(said["steps"][-1], str):  # it could write nothing ever after
        unsure = (0, 3)  # so that what could not be synced last may be there, or not
        assert stats.accepted - accepted in unsure
        assert stats.done - done in unsure
    else:
        assert (stats.accepted, stats.done) == (accepted, done)
    queue.resume()
    Worker(queue, Pipeline().add("out", JsonLines()), out=folder / "out").drain()
    files = sorted((folder / "out").rglob("*.jsonl"))
    rows = [line for file in files for line in pl.read_ndjson(file)["line"]]
    assert len(rows) == len(set(rows)) == stats.accepted == queue.stats().done
    queue.close()


@pytest.mark.parametrize("killed", [False, True], ids=["closed", "killed"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_what_a_process_was_told_is_what_the_store_holds(use, tmp_path, error, forever, killed):
    for at in itertools.count(1, STRIDE):
        folder = tmp_path / str(at)
        folder.mkdir()
        said = use(folder, at=at, error=error, forever=forever, killed=killed)
        try:
            check(folder, said)
        except Exception as wrong:
            raise AssertionError(f"the write number {at} failed: {said}") from wrong
        shutil.rmtree(folder)
        if not said["failed"]:
            break
    assert at > STRIDE
