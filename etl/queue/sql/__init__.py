"""Named SQL: statements in files beside this one, with lists of columns from `records.columns`.

A statement begins with `-- name: …` and ends before the next. What stands in braces is
derived from a table of `records.columns`, here for one called `workers`:

    {workers}              name, slot, …
    {workers_values}       :name, :slot, …
    {workers_updates}      name = excluded.name, …
    {workers_sums}         received = workers.received + excluded.received, …, for counters
    {workers_definitions}  name TEXT NOT NULL, …
"""

from __future__ import annotations

import re
from importlib import resources

from etl.records.columns import (
    CHECKPOINTS,
    COUNTERS,
    ERRORS,
    FAILURES,
    LATENCY,
    PROCESSOR_HISTORY,
    PROCESSORS,
    QUEUE_HISTORY,
    SOURCE_FORMATS,
    STATES,
    STORED_DEAD_LETTERS,
    TOTALS,
    TRACES,
    WORKERS,
    Table,
)

__all__ = ["STATEMENTS", "script"]

STORED: dict[str, Table] = {
    "checkpoints": CHECKPOINTS,
    "dead_letters": STORED_DEAD_LETTERS,
    "errors": ERRORS,
    "failures": FAILURES,
    "latency": LATENCY,
    "new_dead_letters": STORED_DEAD_LETTERS.drop("id", "status", "replays"),
    "processor_history": PROCESSOR_HISTORY,
    "processors": PROCESSORS,
    "queue_history": QUEUE_HISTORY,
    "source_formats": SOURCE_FORMATS,
    "states": STATES,
    "traces": TRACES.pick("at", "worker", "batch", "source", "version"),
    "workers": WORKERS.drop("batch"),
}
"""Columns as a store keeps them."""


def _lists() -> dict[str, str]:
    found = {
        "totals_rows": ", ".join(f"('{name}')" for name in TOTALS.names),
        "totals_pivot": ", ".join(
            f"max(lines) FILTER (WHERE name = '{name}')" for name in TOTALS.names
        ),
    }
    for name, table in STORED.items():
        found[name] = ", ".join(table.names)
        found[f"{name}_values"] = ", ".join(f":{column}" for column in table.names)
        found[f"{name}_updates"] = ", ".join(f"{one} = excluded.{one}" for one in table.names)
        found[f"{name}_definitions"] = ", ".join(column.sql for column in table)
        found[f"{name}_sums"] = ", ".join(
            f"{one} = {name}.{one} + excluded.{one}" for one in COUNTERS.names
        )
    return found


LISTS = _lists()


def script(name: str) -> str:
    """Return the text of a file of SQL, with its lists of columns."""
    text = resources.files("etl.queue.sql").joinpath(f"{name}.sql").read_text("utf-8")
    return text.format_map(LISTS)


def _statements() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in ("batches", "control", "dead_letters", "reads", "results"):
        parts = re.split(r"^-- name: (\w+)$", script(name), flags=re.MULTILINE)
        for key, statement in zip(parts[1::2], parts[2::2], strict=True):
            found[key] = statement.strip().removesuffix(";")
    return found


STATEMENTS = _statements()
"""Every statement by its name."""
