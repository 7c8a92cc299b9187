"""Dead letters in SQLite: picking them, grouping them, moving them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

import polars as pl

from etl.errors import UsageError
from etl.queue import DeadLetterFilter

__all__ = ["move_dead_letters", "read_dead_letters", "read_groups"]

DEAD_LETTER_COLUMNS = (
    "d.id, d.failure, d.status, d.source, d.line_number, d.lines, d.line, d.raw, d.format, "
    "d.payload, d.message, d.attempts, d.replays, d.first_failed_at, d.last_failed_at, d.batch"
)

GROUPS = """
    SELECT f.fingerprint, f.processor, f.code, f.error, d.message, substr(d.line, 1, 200) AS sample,
           g.lines, g.replays, g.first_failed_at, g.last_failed_at
    FROM (
        SELECT d.failure, sum(d.lines) AS lines, max(d.replays) AS replays, max(d.id) AS newest,
               min(d.first_failed_at) AS first_failed_at, max(d.last_failed_at) AS last_failed_at
        FROM dead d JOIN failures f ON f.id = d.failure {where} GROUP BY d.failure
    ) g JOIN dead d ON d.id = g.newest JOIN failures f ON f.id = g.failure
    ORDER BY g.newest
"""

DEAD_LETTER_TYPES: dict[str, Any] = {
    "id": pl.Int64,
    "failure": pl.Int64,
    "status": pl.String,
    "source": pl.String,
    "line_number": pl.Int64,
    "lines": pl.Int64,
    "line": pl.String,
    "raw": pl.Binary,
    "format": pl.String,
    "payload": pl.String,
    "message": pl.String,
    "attempts": pl.Int64,
    "replays": pl.Int64,
    "first_failed_at": pl.Float64,
    "last_failed_at": pl.Float64,
    "batch": pl.String,
}

FAILURE_TYPES: dict[str, Any] = {
    "failure": pl.Int64,
    "fingerprint": pl.String,
    "processor": pl.String,
    "code": pl.String,
    "error": pl.String,
    "traceback": pl.String,
    "path": pl.String,
    "version": pl.String,
    "run": pl.String,
}


def read_dead_letters(db: sqlite3.Connection, wanted: DeadLetterFilter) -> pl.DataFrame:
    """Return the newest letters that are wanted, oldest first, each with its failure."""
    where, values = _where(wanted)
    limit = -1 if wanted.limit is None else wanted.limit
    rows = db.execute(
        f"SELECT {DEAD_LETTER_COLUMNS} FROM dead d JOIN failures f ON f.id = d.failure {where} "
        "ORDER BY d.id DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    kinds = db.execute("SELECT * FROM failures").fetchall()
    dead_letters = pl.DataFrame(map(tuple, rows[::-1]), schema=DEAD_LETTER_TYPES, orient="row")
    failures = pl.DataFrame(map(tuple, kinds), schema=FAILURE_TYPES, orient="row")
    return dead_letters.join(failures, on="failure", how="left", maintain_order="left")


def read_groups(db: sqlite3.Connection, wanted: DeadLetterFilter) -> list[dict[str, Any]]:
    """Return the wanted letters by fingerprint, the most frequent first."""
    where, values = _where(wanted)
    groups: dict[str, dict[str, Any]] = {}
    for row in map(dict, db.execute(GROUPS.format(where=where), values)):
        older = groups.get(row["fingerprint"])
        if older:
            row["lines"] += older["lines"]
            row["replays"] = max(row["replays"], older["replays"])
            row["first_failed_at"] = min(row["first_failed_at"], older["first_failed_at"])
            row["last_failed_at"] = max(row["last_failed_at"], older["last_failed_at"])
        groups[row["fingerprint"]] = row
    ranked = sorted(groups.values(), key=lambda row: (-row["lines"], row["fingerprint"]))
    return ranked[: wanted.limit]


def move_dead_letters(db: sqlite3.Connection, ids: Sequence[int], status: str) -> int:
    """Give open letters another status and return how many lines they stand for.

    Raises:
        UsageError: If one of them is not open.
    """
    listed = json.dumps([int(id) for id in ids])
    where = "id IN (SELECT value FROM json_each(?)) AND status = 'open'"
    lines = db.execute(f"SELECT sum(lines) FROM dead WHERE {where}", (listed,)).fetchone()[0]
    replays = "replays + 1" if status == "replaying" else "replays"
    moved = db.execute(
        f"UPDATE dead SET status = ?, replays = {replays} WHERE {where}", (status, listed)
    )
    if moved.rowcount != len(ids):
        raise UsageError(
            f"{len(ids) - moved.rowcount} of {len(ids)} dead letters are not open any more; "
            "nothing was changed, look at them again"
        )
    return int(lines or 0)


def _where(wanted: DeadLetterFilter) -> tuple[str, list[Any]]:
    """Return a WHERE clause over dead (d) and failures (f), and its values."""
    places = {
        "d.status": wanted.status,
        "f.fingerprint": wanted.fingerprint,
        "f.processor": wanted.processor,
        "f.code": wanted.code,
        "d.source": wanted.source,
    }
    given = {column: value for column, value in places.items() if value is not None}
    clauses = [f"{column} = ?" for column in given]
    values: list[Any] = list(given.values())
    if wanted.ids is not None:
        clauses.append("d.id IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([int(id) for id in wanted.ids]))
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", values
