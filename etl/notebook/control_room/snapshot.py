"""What the control room shows, read from a store at once: everything else only draws it."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from etl.analysis.overview import MINUTES, OverviewReader, level_of
from etl.analysis.traces import traces
from etl.queue import DeadLetterFilter, Queue
from etl.text import cell_text

__all__ = ["MAX_LISTED", "Snapshot", "View", "facts", "path_of", "read_snapshot", "trace_key"]

MAX_ICONS = 80
"""Waiting lines that are shown one by one; the rest are counted."""

MAX_LISTED = 200
"""Dead letters of a kind, and waiting lines, that are listed."""

MAX_TRACES = 60
"""Traces that are listed."""

MAX_TEXT = 500
"""Characters of a line that are sent to a page."""


@dataclass(slots=True)
class View:
    """What of a store is looked at.

    Attributes:
        tab: The name of the tab that is open.
        kind: Fingerprint of the dead letters whose drawer is open; None if none is.
        dead_letter: Id of the one that is chosen there.
        trace: Key of the chosen trace.
        seconds: Length of the history.
    """

    tab: str = "traces"
    kind: str | None = None
    dead_letter: int | None = None
    trace: str | None = None
    seconds: int = 120


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A store at one moment.

    Attributes:
        overview: See `etl.analysis.overview`.
        traces: The last lines, the newest first, if they are looked at.
        lines: The dead letters of the kind that is open, the newest last.
        dead_letter: The one that is chosen, or None.
        queue: Lines that wait, if they are looked at.
        error_minutes: Errors of the last minutes by processor, if they are looked at.
    """

    overview: dict[str, Any]
    traces: list[dict[str, Any]]
    lines: list[dict[str, Any]] = field(default_factory=list)
    dead_letter: dict[str, Any] | None = None
    queue: list[dict[str, Any]] = field(default_factory=list)
    error_minutes: list[tuple[str, list[int]]] = field(default_factory=list)


def read_snapshot(queue: Queue, reader: OverviewReader, view: View) -> Snapshot:
    """Return what a store holds now, as far as it is looked at."""
    found = reader.read(icons=MAX_ICONS, seconds=view.seconds)
    lines: list[dict[str, Any]] = []
    if view.kind is not None:
        wanted = DeadLetterFilter(fingerprint=view.kind, limit=MAX_LISTED)
        lines = queue.dead_letters(wanted).to_dicts()
    chosen = next((one for one in lines if one["id"] == view.dead_letter), None)
    return Snapshot(
        overview=found,
        traces=_traces(queue) if view.tab == "traces" else [],
        lines=lines,
        dead_letter=chosen or (lines[0] if lines else None),
        queue=_waiting(queue) if view.tab == "queue" else [],
        error_minutes=_error_minutes(queue, found["at"]) if view.tab == "errors" else [],
    )


def trace_key(trace: dict[str, Any]) -> str:
    """Return the key of a trace."""
    return f"{trace['batch']}:{trace['line_number']}"


def facts(dead_letter: dict[str, Any]) -> str:
    """Return what else is known of a dead letter, as text of a few lines."""
    fields = json.loads(dead_letter["payload"]) if dead_letter["payload"] else {}
    lines = [f"{name} = {cell_text(value)}" for name, value in fields.items()]
    return "\n".join([*lines, *([dead_letter["traceback"]] if dead_letter["traceback"] else [])])


def path_of(dead_letter: dict[str, Any]) -> list[str]:
    """Return the processors that a dead letter passed, the last one included."""
    return list(json.loads(dead_letter["path"]))


def _traces(queue: Queue) -> list[dict[str, Any]]:
    rows = traces.polars(queue, MAX_TRACES).reverse().to_dicts()
    return [row | {"key": trace_key(row)} for row in rows]


def _waiting(queue: Queue) -> list[dict[str, Any]]:
    rows = queue.peek(MAX_LISTED).to_dicts()
    return [
        {
            "key": f"{row['batch']}:{row['line_number']}",
            "put_at": row["put_at"],
            "source": row["source"],
            "line_number": row["line_number"],
            "line": row["line"][:MAX_TEXT],
            "level": level_of(row["line"]),
        }
        for row in rows
    ]


def _error_minutes(queue: Queue, now: float) -> list[tuple[str, list[int]]]:
    """Return the errors of the last minutes by processor, the most first."""
    found: dict[str, list[int]] = defaultdict(lambda: [0] * MINUTES)
    for row in queue.read("processor_history"):
        minute = MINUTES - 1 - int(max(0.0, now - row["second"]) // 60)
        if row["errors"] and minute >= 0:
            found[row["processor"]][minute] += row["errors"]
    return sorted(found.items(), key=lambda item: -sum(item[1]))
