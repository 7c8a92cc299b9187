"""A store at one moment, for a screen: plain data that JSON can hold, without pandas.

    reader = OverviewReader(queue)
    reader.read()["totals"]        # {"accepted": 1742, "done": 242, …}

The control room, the dashboard of `etl serve` and `etl top` show the same overview. All of it
was committed by workers or put by producers; what it adds are rates, ages and words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from operator import itemgetter
from typing import Any

from etl.analysis.metrics import growth, state_totals
from etl.analysis.traces import traces
from etl.queue import Control, DeadLetterFilter, Queue, Stats
from etl.queue.urls import file_of
from etl.records.result import INPUT
from etl.records.stats import ProcessorStats
from etl.settings import Settings

__all__ = ["LEVELS", "OTHER", "OverviewReader", "level_of", "overview"]

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
OTHER = "OTHER"
"""What stands for no level."""

POINTS = 240
"""Points of a history, at most."""

MAX_ROWS = 60
"""Errors and traces that are listed."""

LATE_SECONDS = 10.0
"""Seconds without a heartbeat after which a worker is late."""

STEADY_SECONDS = 60
"""Seconds for which a backlog that does not fall is said to grow."""

MINUTES = 12
"""Minutes of which the failures of a kind are counted one by one."""

_NAMES = "DEBUG|INFO|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL|ALERT|EMERG"
_LEVEL = re.compile(rf"\b({_NAMES})\b", re.IGNORECASE)
_SHORT = {"W": "WARNING", "D": "DEBUG", "I": "INFO"}

Edges = Sequence[tuple[str, str]]


def overview(queue: Queue, *, edges: Edges | None = None, **more: int) -> dict[str, Any]:
    """Return one overview of a store: see `OverviewReader.read`."""
    return OverviewReader(queue, edges).read(**more)


def level_of(line: str) -> str:
    """Return the level that a line names, or OTHER."""
    found = _LEVEL.search(line)
    if found is None:
        return OTHER
    name = found[1].upper()
    return _SHORT.get(name[0]) or ("ERROR" if name.startswith("ERR") else "CRITICAL")


class OverviewReader:
    """Reads overviews of one store, one after another.

    Args:
        queue: The store.
        edges: Of the pipeline, if that is known; else they are those that the last lines took.
    """

    def __init__(self, queue: Queue, edges: Edges | None = None) -> None:
        self.edges = edges
        self._queue = queue
        self._drains = queue.control().drains
        self._taken: set[tuple[str, str]] = set()  # edges that lines took, if no others are known
        self._since: dict[tuple[str, str], float] = {}  # when a worker had a batch first
        self._worked: dict[str, list[tuple[float, int]]] = {}  # lines by then, of each worker

    def read(self, *, icons: int = 80, seconds: int = 120) -> dict[str, Any]:
        """Return an overview as a dict that JSON can hold. Times are Unix seconds.

        Args:
            icons: Lines that wait, and are listed.
            seconds: Length of the history; an hour is kept.

        Raises:
            StoreError: If the store cannot be read.
        """
        queue, now = self._queue, time.time()
        stats, control = queue.stats(), queue.control()
        counted = queue.read("processors")
        rows = queue.read("workers")
        kinds = self._kinds() if stats.dead else []
        open_lines = sum(kind["lines"] for kind in kinds)
        workers = [self._worker(row, now) for row in rows]
        self._forget(rows, counted, now)
        history = _history(queue, now, max(seconds, STEADY_SECONDS))
        waiting = _lines(queue, icons) if stats.waiting else []
        return {
            "at": now,
            "store": _name(queue.url),
            "state": self._state(stats, control, workers),
            "paused_by": control.paused_by,
            "reason": control.reason,
            "totals": stats.totals(),
            "conserved": stats.conserved,
            "open": open_lines,
            "discarded": max(0, stats.dead - open_lines),
            "oldest": stats.oldest_age if stats.waiting else 0.0,
            **_backlog(stats, history),
            "rate": max(0.0, growth(history, now, _finished)),  # a replay takes some back
            "rate_in": growth(history, now, itemgetter("accepted")),
            "dead_last_minute": sum(kind["last_minutes"][-1] for kind in kinds),
            "history": _points(history, now, seconds),
            "levels": _levels(queue),
            "pipeline": self._pipeline(counted, kinds),
            "waiting": waiting,
            "more": max(0, stats.waiting - len(waiting)),
            "processing": _lines(queue, 3, leased=True) if stats.leased else [],
            "kinds": kinds,
            "latest": self._latest() if open_lines else [],
            "workers": workers,
            "targets": [asdict(one) for one in queue.targets()],
            "errors": queue.read("errors", limit=MAX_ROWS)[::-1],
        }

    def _state(self, stats: Stats, control: Control, workers: Sequence[object]) -> str:
        if not workers:
            self._drains = control.drains
        table = {
            "paused": stats.paused,
            "absent": not workers,
            "draining": control.drains > self._drains,
            "working": not stats.idle,
        }
        return next((state for state, holds in table.items() if holds), "idle")

    def _kinds(self) -> list[dict[str, Any]]:
        minutes = self._queue.dead_letter_minutes(MINUTES)
        return [
            {
                "fingerprint": group["fingerprint"],
                "lines": group["lines"],
                "reason": group["message"][:200] or group["error"] or group["code"],
                "code": group["error"] or group["code"],
                "sample": group["sample"],
                "level": level_of(group["sample"]),
                "processor": group["processor"],
                "source": group["source"],
                "first": group["first_failed_at"],
                "last": group["last_failed_at"],
                "replays": group["replays"],
                "last_minutes": minutes.get(group["fingerprint"], [0] * MINUTES),
            }
            for group in self._queue.dead_letter_groups(DeadLetterFilter())
        ]

    def _latest(self) -> list[dict[str, Any]]:
        newest = self._queue.dead_letters(DeadLetterFilter(limit=8))
        rows = newest.select("id", "last_failed_at", "line", "processor", "batch", "line_number")
        return [
            {
                "id": id,
                "key": f"{batch}:{number}",
                "at": at,
                "line": line[:200],
                "level": level_of(line),
                "processor": name,
            }
            for id, at, line, name, batch, number in rows.rows()[::-1]
        ]

    def _pipeline(
        self, counted: Iterable[Mapping[str, Any]], kinds: Iterable[Mapping[str, Any]]
    ) -> dict[str, Any]:
        totals: dict[str, ProcessorStats] = {}
        for row in counted:
            stats = ProcessorStats(**{name: row[name] for name in ProcessorStats.__slots__})
            totals[row["processor"]] = totals.get(row["processor"], ProcessorStats()) + stats
        edges = self.edges
        if edges is None:
            paths = traces.polars(self._queue, MAX_ROWS)["path"].to_list()
            self._taken |= {pair for path in paths for pair in pairwise((INPUT, *path))}
            edges = sorted(self._taken)
        names = dict.fromkeys([INPUT, *(name for edge in edges for name in edge)])
        if self.edges is None:
            names |= dict.fromkeys(totals)
        heads = [after for before, after in edges if before == INPUT]
        received = max((totals[name].received for name in heads if name in totals), default=0)
        failed: dict[str, int] = {}
        for kind in kinds:
            failed[kind["processor"]] = failed.get(kind["processor"], 0) + kind["lines"]
        busy = sum(stats.seconds for stats in totals.values()) or 1.0
        nodes = []
        for name in names:
            stats = totals.get(name, ProcessorStats())
            if name == INPUT:
                stats = ProcessorStats(received=received, emitted=received)
            nodes.append(
                {
                    "name": name,
                    "received": stats.received,
                    "emitted": stats.emitted,
                    "filtered": stats.filtered,
                    "errors": stats.errors,
                    "dead": stats.dead,
                    "open": failed.get(name, 0),
                    "share": stats.seconds / busy,
                    "seconds": stats.seconds,
                }
            )
        others = len(totals.keys() - names)
        return {"nodes": nodes, "edges": [list(edge) for edge in edges], "others": others}

    def _worker(self, row: Mapping[str, Any], now: float) -> dict[str, Any]:
        name, silent = row["name"], max(0.0, now - row["heartbeat_at"])
        batch = ""
        since = None
        if row["batch"]:
            first, lines = row["first_line"], row["lines"] or 0
            last = f" – {first + lines - 1:,}" if lines > 1 else ""
            batch = f"{row['source']}, line{'s' if last else ''} {first:,}{last}"
            since = self._since.setdefault((name, row["batch"]), row["leased_at"] or now)
        late = silent > LATE_SECONDS
        return {
            "name": name,
            "host": row["host"],
            "pid": row["pid"],
            "state": "late" if late else "working" if batch else "idle",
            "batch": batch,
            "for": None if since is None else max(0.0, now - since),
            "rate": self._rate(name),
            "heartbeat": silent,
        }

    def _rate(self, worker: str) -> float:
        """Return a worker's lines a second between the oldest and the newest look."""
        looks = self._worked.get(worker, [])
        if len(looks) < 2 or looks[-1][0] <= looks[0][0]:
            return 0.0
        return max(0.0, (looks[-1][1] - looks[0][1]) / (looks[-1][0] - looks[0][0]))

    def _forget(
        self,
        rows: Iterable[Mapping[str, Any]],
        counted: Iterable[Mapping[str, Any]],
        now: float,
    ) -> None:
        """Keep what is to be known at the next look, of the workers that run."""
        rows = list(rows)
        held = {(row["name"], row["batch"]) for row in rows}
        self._since = {key: at for key, at in self._since.items() if key in held}
        lines: dict[str, int] = {row["name"]: 0 for row in rows}
        for row in counted:
            if row["worker"] in lines:
                lines[row["worker"]] = max(lines[row["worker"]], row["received"])
        self._worked = {
            name: [*(look for look in self._worked.get(name, []) if look[0] > now - 10), (now, n)]
            for name, n in lines.items()
        }


def _name(url: str) -> str:
    """Return what a store is called for short."""
    file = file_of(url)
    return file.name if file else url


def _levels(queue: Queue) -> list[list[Any]]:
    """Return lines by level, of the first processor that counts levels."""
    totals = state_totals(queue).values()
    counts = next((counts for counts in totals if set(counts) & set(LEVELS)), {})
    other = sum(count for level, count in counts.items() if level not in LEVELS)
    found = [[level, int(counts.get(level, 0))] for level in LEVELS]
    return [*found, [OTHER, int(other)]] if other else found


def _lines(queue: Queue, limit: int, *, leased: bool = False) -> list[list[str]]:
    """Return key, level and text of the first lines that wait, or that workers have."""
    rows = queue.peek(limit, leased=leased).select("batch", "line_number", "line").iter_rows()
    return [[f"{batch}:{number}", level_of(line), line[:200]] for batch, number, line in rows]


def _history(queue: Queue, now: float, seconds: int) -> list[dict[str, Any]]:
    """Return the totals second by second, with the last of those before."""
    rows = queue.read("queue_history", limit=seconds + 2)
    return [row for row in rows if row["second"] <= now + 1]  # the clock may have been set back


def _backlog(stats: Stats, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return in how many seconds nothing waits any more, and whether that is not in sight."""
    if not stats.waiting or not history:
        return {"empty_in": None, "growing": False}
    newest = history[-1]
    before = [row for row in history if row["second"] <= newest["second"] - 10] or history[:1]
    then = before[-1]
    falls = (then["waiting"] - newest["waiting"]) / max(1, newest["second"] - then["second"])
    minute = [row for row in history if row["second"] <= newest["second"] - STEADY_SECONDS]
    return {
        "empty_in": stats.waiting / falls if falls > 0 else None,
        "growing": bool(minute) and newest["waiting"] >= minute[-1]["waiting"] > 0,
    }


def _points(history: Sequence[Mapping[str, Any]], now: float, seconds: int) -> dict[str, Any]:
    """Return rate and backlog at evenly spaced seconds up to now, at most `POINTS`."""
    step = -(-seconds // POINTS)
    end = int(now) // step * step
    marks = range(end - seconds, end + 1, step)
    finished: list[int] = []
    waiting: list[int] = []
    totals = {"finished": 0, "waiting": 0}
    if history and seconds >= Settings.history_seconds:  # what was before may be forgotten
        totals["finished"] = _finished(history[0])
    place = 0
    for mark in marks:
        while place < len(history) and history[place]["second"] <= mark:
            row = history[place]
            totals = {"finished": _finished(row), "waiting": row["waiting"]}
            place += 1
        finished.append(totals["finished"])
        waiting.append(totals["waiting"])
    rate = [max(0.0, (after - before) / step) for before, after in pairwise(finished)]
    return {
        "seconds": [mark - end for mark in marks[1:]],
        "rate": rate,
        "waiting": waiting[1:],
    }


def _finished(row: Mapping[str, Any]) -> int:
    return int(row["done"] + row["filtered"] + row["dead"])
