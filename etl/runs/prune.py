"""Remove the folders of old runs, and nothing else.

A folder is removed if it holds a run's record, the run ended long enough ago, no
process works in it, and its stores hold no line that someone still wants: none
that waits, none that is leased, no open dead letter. Links that lead out of it are
not followed.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from etl.errors import StoreError, UsageError
from etl.queue import DeadLetterFilter, open_queue
from etl.queue.urls import file_of
from etl.records.run_record import FILE, Record, read
from etl.runs.registry import has_ended, run_rows, state_of
from etl.settings import settings

__all__ = ["PruneDecision", "age", "prune"]

Status = Literal["removed", "would be removed", "kept"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, slots=True)
class PruneDecision:
    """What is done with the folder of an old run.

    Attributes:
        run: The run's id.
        size: Bytes in its folder.
        status: `removed`, `kept`, or, in a dry run, `would be removed`.
        reason: Why it is kept.
    """

    run: str
    size: int
    status: Status
    reason: str = ""


def age(text: str) -> float:
    """Return the seconds of an age such as 90m, 12h, 30d or 4w."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if found is None:
        raise UsageError(f"{text!r} is no age; write 30d, 12h or 4w")
    return float(found[1]) * UNITS[found[2]]


def prune(
    older_than: float,
    *,
    folder: Path | None = None,
    dry_run: bool = False,
    force: bool = False,
    now: float | None = None,
) -> list[PruneDecision]:
    """Remove folders of runs that ended long ago, and return what was done with each old one.

    Args:
        older_than: Seconds since a run's end; since its start, if it was killed.
        folder: Where runs are recorded; by default `settings().runs`.
        dry_run: Remove nothing.
        force: Also those in whose stores lines wait or dead letters are open.
        now: Unix seconds; by default the clock's.
    """
    folder = folder or settings().runs
    running = [row for row in run_rows(folder) if row["state"] == "running"]
    urls = (str(row[name] or "") for row in running for name in ("store", "out"))
    in_use = [file.resolve() for url in urls if url and (file := file_of(url))]
    before = (time.time() if now is None else now) - older_than
    decisions = []
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        record = None if place.is_symlink() or (place / FILE).is_symlink() else read(place)
        if record is None or float(record.get("ended_at") or record["started_at"]) > before:
            continue
        size = sum(path.lstat().st_size for path in place.rglob("*"))
        reason = next(_reasons(place, record, in_use, force=force), "")
        removable: Status = "would be removed" if dry_run else "removed"
        status = "kept" if reason else removable
        decisions.append(PruneDecision(place.name, size, status, reason))
        if status == "removed":
            _remove(place)
    return decisions


def _reasons(place: Path, record: Record, in_use: list[Path], *, force: bool) -> Iterator[str]:
    """Yield why a folder has to stay."""
    if not has_ended(record):
        yield f"it is {state_of(record)}"
    if any(one.is_relative_to(place.resolve()) for one in in_use):
        yield "another run works in it"
    for file in place.rglob("*"):
        if file.is_file() and not file.is_symlink() and _is_sqlite(file):
            yield from _store_reasons(file, force=force)


def _is_sqlite(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\0"


def _store_reasons(file: Path, *, force: bool) -> Iterator[str]:
    """Yield why a store has to stay."""
    try:
        queue = open_queue(str(file))
    except StoreError as error:
        if not force:
            yield f"{error} (or --force)"
        return
    queue.reclaim()  # what workers had leased that were killed
    workers, stats = len(queue.read("workers")), queue.stats()
    open_lines = sum(group["lines"] for group in queue.dead_letter_groups(DeadLetterFilter()))
    queue.close()
    if workers:
        yield f"{workers} workers run on {file.name}"
    if stats.waiting + stats.leased and not force:
        yield f"{stats.waiting + stats.leased:,} lines still wait; etl work, or --force"
    if open_lines and not force:
        yield f"{open_lines:,} dead letters are open; replay or discard them, or --force"


def _remove(place: Path) -> None:
    """Remove a folder, its record last: what is left after a crash is still known for a run's."""
    for path in place.iterdir():
        if path.name == FILE:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (place / FILE).unlink()
    place.rmdir()
