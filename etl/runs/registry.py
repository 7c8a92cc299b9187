"""Which runs there were: a small file per run, written when it begins and when it ends.

    with recorded(run_id, kind="cli", store=queue.url) as record:
        ...
        record.update(counts=...)
    runs()                      all of them, as a pandas frame

A run's file is `<run id>/run.json` below `settings().runs`; each write of it is whole or
not there. Here is only what one wants to know of a run later: what it works
with is in its store, and a run goes on where this file cannot be written.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import etl
from etl.errors import StoreError, UsageError
from etl.queue import TOTALS, Queue
from etl.queue.process import alive, birth
from etl.queue.urls import IN_MEMORY, file_of, url_of, without_secrets
from etl.records.columns import TIME, frame_of
from etl.settings import settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ENDED",
    "FILE",
    "Record",
    "amend",
    "find",
    "latest_store",
    "new_run_id",
    "place_of",
    "read",
    "recorded",
    "recorded_use",
    "run_rows",
    "runs",
    "state_of",
]


FILE = "run.json"


ENDED = frozenset({"finished", "gate", "failed", "killed"})
"""States of a run that goes on no more; `killed` is what a run is whose process is gone."""


COLUMNS = (
    dict.fromkeys(("run", "state", "kind"), "str")
    | {"started_at": TIME, "ended_at": TIME, "seconds": "float64"}
    | dict.fromkeys(TOTALS, "Int64")
    | dict.fromkeys(("sources", "parameters"), "object")
    | dict.fromkeys(("pipeline", "version", "store", "out", "error", "host"), "str")
    | {"pid": "int64", "etl": "str", "python": "str", "polars": "str"}
)


Record = dict[str, Any]


def new_run_id() -> str:
    """Return a name for a run that sorts by its start, such as 20261121-231502-4f2a."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


def latest_store(folder: Path | None = None) -> Path | None:
    """Return the file that is the store of the newest run, or None if there is none."""
    newest = sorted((one for _, one in _records(folder)), key=lambda one: -one["started_at"])
    stores = (file_of(str(one.get("store", ""))) for one in newest)
    return next((store for store in stores if store and store.is_file()), None)


@contextmanager
def recorded(run_id: str, *, folder: Path | None = None, **known: Any) -> Iterator[Record]:
    """Record a run from here to the end of the block, and how it ended.

    Args:
        run_id: Its name; a run that is started again replaces its record.
        folder: Where; by default `settings().runs`.
        known: What is known of it: `kind` (cli, batch or room), `sources`,
            `pipeline`, `version`, `store`, `out`, `parameters`.

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
        "polars": version("polars"),
    } | known
    _write(place, record)
    try:
        yield record
    except BaseException as error:
        said = str(error) or "interrupted"
        record |= {"state": "failed", "error": f"{type(error).__name__}: {said}"}
        raise
    else:
        record["state"] = "finished"
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
    if (
        not run_id
        or Path(run_id).name != run_id
        or run_id.startswith(".")
        or not run_id.isprintable()
    ):
        raise UsageError(f"a run cannot be called {run_id!r}; use letters, digits, - and _")
    return (folder or settings().runs) / run_id


def read(place: Path) -> Record | None:
    """Return the record in a run's folder, or None if there is none that can be read."""
    try:
        found = json.loads((place / FILE).read_bytes())
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"state", "started_at", "pid"} <= set(found)
    return found if whole else None


def state_of(record: Record) -> str:
    """Return a run's state; one that says it runs, and whose process is gone, was killed."""
    here = record.get("host") == socket.gethostname()
    if record["state"] == "running" and here and not alive(record["pid"], record.get("born", "")):
        return "killed"
    return str(record["state"])


def find(store: str, *, kind: str, folder: Path | None = None) -> Record | None:
    """Return the newest record of a kind of run on a store, or None."""
    url = without_secrets(url_of(store))
    records = (one for _, one in _records(folder) if one.get("store") == url)
    found = [one for one in records if one.get("kind") == kind]
    return max(found, key=lambda one: float(one["started_at"]), default=None)


def run_rows(folder: Path | None = None) -> list[Record]:
    """Return what `runs` does, as dicts: cheap, and needs no pandas."""
    now = time.time()
    rows = []
    for place, record in _records(folder):
        state, ended = state_of(record), record.get("ended_at")
        until = ended or (now if state == "running" else None)
        row = dict.fromkeys(COLUMNS) | record | (record.get("counts") or {})
        row |= {"run": place.name, "state": state}
        row["seconds"] = until - record["started_at"] if until else None
        rows.append(row)
    return sorted(rows, key=lambda row: (row["started_at"], row["run"]))


def runs(folder: Path | None = None) -> pd.DataFrame:
    """Return one row per recorded run, oldest first.

    Columns: `run`, `state` (str: running, finished, gate, failed, killed),
    `kind` (str: cli, batch, room); `started_at`, `ended_at` (datetime64, UTC),
    `seconds` (float64); `accepted`, `done`, `filtered`, `dead`, `leased`,
    `waiting` (Int64, the store's source lines when it ended; missing if it did
    not); `sources` (object: list of str), `parameters` (object: dict);
    `pipeline`, `version` (of the pipeline), `store`, `out`, `error`, `host`
    (str); `pid` (int64); `etl`, `python`, `polars` (str: versions).

    Args:
        folder: Where they are recorded; by default `settings().runs`.
    """
    return frame_of(run_rows(folder), COLUMNS)


def _records(folder: Path | None) -> Iterator[tuple[Path, Record]]:
    for file in (folder or settings().runs).glob(f"*/{FILE}"):
        if (record := read(file.parent)) is not None:
            yield file.parent, record


def _write(place: Path, record: Record) -> None:
    """Replace a run's file by a whole new one; where that cannot be, the run goes on without."""
    shown = json.dumps(record, default=str, indent=1)
    try:
        place.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=place)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(shown)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place / FILE)
        folder = os.open(place, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except OSError as error:
        logging.getLogger(__name__).warning("run %s is not recorded: %s", place.name, error)
