"""Which runs there were: a small file per run, written when it begins and when it ends.

    with recorded(run_id, kind="cli", store=queue.url) as record:
        ...
        record.update(counts=...)
    runs()                      all of them, as a pandas frame

A run's file is `<run id>/run.json` below `settings().runs`; it is replaced as a whole. It
holds only what people want to know of a run later: what a run works with is in its store,
and a run whose record cannot be written continues without.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

import etl
from etl.errors import StoreError, UsageError
from etl.filesystem import DISK
from etl.queue import Queue
from etl.queue.process import alive, birth
from etl.queue.urls import IN_MEMORY, file_of, url_of, without_secrets
from etl.records.batch import new_id
from etl.records.columns import INTEGER, INTEGER_OR_NULL, JSON, NUMBER, TEXT, TIME, TOTALS, Table
from etl.records.run_record import FILE, Record, read
from etl.settings import settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "amend",
    "find",
    "has_ended",
    "last_pipeline",
    "latest_store",
    "make_folder",
    "new_run_id",
    "place_of",
    "read",
    "recorded",
    "recorded_use",
    "run_rows",
    "runs",
    "state_of",
]

RUNS = Table.of(
    "runs",
    **dict.fromkeys(("run", "state", "kind"), TEXT),
    started_at=TIME,
    ended_at=TIME,
    seconds=NUMBER,
    **dict.fromkeys(TOTALS.names, INTEGER_OR_NULL),
    **dict.fromkeys(("sources", "parameters"), JSON),
    **dict.fromkeys(("pipeline", "version", "store", "out", "error", "host"), TEXT),
    pid=INTEGER,
    etl=TEXT,
    python=TEXT,
    polars=TEXT,
)


def new_run_id() -> str:
    """Return a name for a run that sorts by its start, such as 20261121-231502-4f2a."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


@contextmanager
def recorded(run_id: str, *, folder: Path | None = None, **known: Any) -> Iterator[Record]:
    """Record a run from here to the end of the block, and how it ended.

    Args:
        run_id: Its name; a run that is started again replaces its record.
        folder: Where runs are recorded; by default `settings().runs`.
        known: What is known of it: `kind` (cli, batch, work, serve, listen, room, lab, put),
            `sources`, `pipeline`, `version`, `store`, `out`, `parameters`.

    Yields:
        The record; what is added to it is written at the end.
    """
    place = place_of(run_id, folder)
    record: Record = {
        "run": run_id,
        "state": "running",
        "started_at": time.time(),
        "ended_at": None,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": birth(os.getpid()),
        "etl": etl.__version__,
        "python": platform.python_version(),
        "polars": pl.__version__,
    } | known
    _write(place, record)
    try:
        yield record
        record["state"] = "finished"
    except BaseException as error:
        reason = str(error) or "interrupted"
        record |= {"state": "failed", "error": f"{type(error).__name__}: {reason}"}
        raise
    finally:
        record["ended_at"] = time.time()
        _write(place, record)


@contextmanager
def recorded_use(queue: Queue, run_id: str, *, kind: str, **known: Any) -> Iterator[None]:
    """Record that a store is in use, by a room, a server or a producer; not one in memory."""
    if queue.url == IN_MEMORY:
        yield
        return
    with recorded(run_id, kind=kind, store=queue.url, **known) as record:
        yield
        with suppress(StoreError):
            record["counts"] = queue.stats().totals()


def amend(run_id: str, *, folder: Path | None = None, **more: Any) -> None:
    """Add to the record of a run; nothing is written where there is none."""
    place = place_of(run_id, folder)
    if (record := read(place)) is not None:
        _write(place, record | more)


def place_of(run_id: str, folder: Path | None = None) -> Path:
    """Return the folder of a run.

    Raises:
        UsageError: If the run's name would lead elsewhere.
    """
    plain = run_id and Path(run_id).name == run_id and run_id.isprintable()
    if not plain or run_id.startswith("."):
        raise UsageError(f"a run cannot be called {run_id!r}; use letters, digits, - and _")
    return (folder or settings().runs) / run_id


def make_folder(folder: Path) -> None:
    """Make a folder for what a run writes; below that of all runs, it is for its owner only."""
    private = settings().runs.absolute() in folder.absolute().parents
    DISK.make_folder(folder, private=private)


def state_of(record: Record) -> str:
    """Return a run's state: running, finished, gate, failed or killed.

    A run that is recorded as running, and whose process is gone, was killed.
    """
    here = record.get("host") == socket.gethostname()
    if record["state"] == "running" and here and not alive(record["pid"], record.get("born", "")):
        return "killed"
    return str(record["state"])


def has_ended(record: Record) -> bool:
    """Return whether a run is known to have ended."""
    return state_of(record) in ("finished", "gate", "failed", "killed")


def latest_store(folder: Path | None = None) -> Path | None:
    """Return the file that is the store of the newest run, or None if there is none."""
    stores = [file_of(str(record.get("store", ""))) for _, record in _records(folder)]
    return next((store for store in reversed(stores) if store and store.is_file()), None)


def find(store: str, *, kind: str, folder: Path | None = None) -> Record | None:
    """Return the newest record of a kind of run on a store, or None."""
    return _newest(store, lambda record: record.get("kind") == kind, folder)


def last_pipeline(store: str, folder: Path | None = None) -> str | None:
    """Return the name of the pipeline of the newest run on a store, or None."""
    record = _newest(store, lambda record: bool(record.get("pipeline")), folder)
    return str(record["pipeline"]) if record else None


def _newest(store: str, holds: Callable[[Record], bool], folder: Path | None) -> Record | None:
    url = without_secrets(url_of(store))
    found = [one for _, one in _records(folder) if one.get("store") == url and holds(one)]
    return found[-1] if found else None


def run_rows(folder: Path | None = None) -> list[Record]:
    """Return what `runs` does, as dicts: cheap, and needs no pandas."""
    now = time.time()
    rows = []
    for place, record in _records(folder):
        state, ended = state_of(record), record.get("ended_at")
        until = ended or (now if state == "running" else None)
        row = dict.fromkeys(RUNS.names) | record | (record.get("counts") or {})
        row |= {"run": place.name, "state": state}
        row["seconds"] = until - record["started_at"] if until else None
        rows.append(row)
    return rows


def runs(folder: Path | None = None) -> pd.DataFrame:
    """Return one row per recorded run, oldest first.

    Columns: `run`, `state` (str: running, finished, gate, failed, killed),
    `kind` (str: cli, batch, room, lab, …); `started_at`, `ended_at` (datetime64, UTC),
    `seconds` (float64); `accepted`, `done`, `filtered`, `dead`, `leased`,
    `waiting` (Int64, the store's source lines when it ended; missing if it did
    not); `sources` (object: list of str), `parameters` (object: dict);
    `pipeline`, `version` (of the pipeline), `store`, `out`, `error`, `host`
    (str); `pid` (int64); `etl`, `python`, `polars` (str: versions).

    Args:
        folder: Where they are recorded; by default `settings().runs`.
    """
    return RUNS.frame(run_rows(folder))


def _records(folder: Path | None) -> list[tuple[Path, Record]]:
    """Return the folders of all runs with their records, oldest first."""
    folders = (file.parent for file in (folder or settings().runs).glob(f"*/{FILE}"))
    found = [(one, record) for one in folders if (record := read(one))]
    return sorted(found, key=lambda one: (float(one[1]["started_at"]), one[0].name))


def _write(place: Path, record: Record) -> None:
    """Replace a run's file by a whole new one; if that fails, the run continues without."""
    text = json.dumps(record, default=str, indent=1)
    staged = place / f".{FILE}-{new_id()}"
    try:
        DISK.make_folder(place, private=True)
        DISK.make_file(staged).write_text(text, encoding="utf-8")
        DISK.sync(staged)
        staged.replace(place / FILE)
        DISK.sync(place)
    except OSError as error:
        logging.getLogger(__name__).warning("run %s is not recorded: %s", place.name, error)
