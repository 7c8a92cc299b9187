"""Quality gates: whether what a batch made is good enough.

gates = evaluate_gates(queue.stats(), rows, max_dead_ratio=0.01)
raise_for_gates(result, gates)     raises GateFailed, last of all
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etl.errors import GateFailed
from etl.queue import Stats
from etl.records.columns import FLAG, TEXT, Table
from etl.runs.registry import amend
from etl.runs.result import RunResult

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["evaluate_gates", "raise_for_gates"]

GATES = Table.of("gates", gate=TEXT, limit=TEXT, value=TEXT, passed=FLAG)


def evaluate_gates(
    stats: Stats,
    rows: pl.LazyFrame | None,
    *,
    max_dead_ratio: float = 1.0,
    max_dead: int = -1,
    max_generic_ratio: float = 1.0,
    formats: Iterable[Mapping[str, Any]] = (),
    min_lines: int = 0,
    expect_columns: str | Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row per quality gate.

    Columns: `gate`, `limit`, `value` (str); `passed` (bool).

    Args:
        stats: The totals of the batch's store.
        rows: Its output, as `profile.output` returns it.
        max_dead_ratio: Dead lines at most, as a share of those read.
        max_dead: The same as a number; -1 for any.
        max_generic_ratio: Records of no known format at most, as a share of those read.
        formats: What was read in each source: rows of `source_formats` of the store.
        min_lines: Lines read at least.
        expect_columns: Columns that the output must have, as a list or with commas between.
    """
    ratio = stats.dead / stats.accepted if stats.accepted else 0.0
    left = stats.waiting + stats.leased
    names = expect_columns.split(",") if isinstance(expect_columns, str) else expect_columns
    wanted = [name.strip() for name in names if name.strip()]
    there = set(rows.collect_schema()) if rows is not None else set()
    missing = [name for name in wanted if name not in there]
    table = [
        ("no line is missing", "every one", "yes" if stats.conserved else "no", stats.conserved),
        ("lines that still wait", "0", f"{left:,}", left == 0),
        ("lines read", f"≥ {min_lines:,}", f"{stats.accepted:,}", stats.accepted >= min_lines),
        ("dead lines, share", f"≤ {max_dead_ratio:.2%}", f"{ratio:.2%}", ratio <= max_dead_ratio),
    ]
    if max_dead >= 0:
        table.append(("dead lines", f"≤ {max_dead:,}", f"{stats.dead:,}", stats.dead <= max_dead))
    if max_generic_ratio < 1:
        counts = Counter[str]()
        for row in formats:
            counts[row["format"]] += row["records"]
        generic = counts["generic"] / (counts.total() or 1)
        passed = generic <= max_generic_ratio
        table.append(
            ("records of no known format", f"≤ {max_generic_ratio:.2%}", f"{generic:.2%}", passed)
        )
    if wanted:
        found = f"no {', '.join(missing)}" if missing else "all there"
        table.append(("columns", ", ".join(wanted), found, not missing))
    return GATES.frame([dict(zip(GATES.names, row, strict=True)) for row in table])


def _why(row: Mapping[str, Any]) -> str:
    text = f"{row['gate']}: {row['value']}"
    return text if row["gate"] == "columns" else f"{text}, not {row['limit']}"


def raise_for_gates(result: RunResult, gates: pd.DataFrame) -> None:
    """Record in the registry of runs how the gates came out, and raise if one failed.

    A source that could not be read, or only in part, is a gate that failed.

    Args:
        result: The batch.
        gates: As `evaluate_gates` returns them.

    Raises:
        GateFailed: If a gate was not passed; all output is written.
    """
    rows = gates.to_dict("records")
    rows += [
        {"gate": "source", "limit": "readable", "value": text, "passed": False}
        for text in result.unreadable
    ]
    failed = [row for row in rows if not row["passed"]]
    why = "; ".join(map(_why, failed))
    amend(result.run, state="gate" if failed else "finished", error=why, gates=rows)
    if failed:
        raise GateFailed(
            f"{len(failed)} of {len(rows)} quality gates failed: {why}. All output is in "
            f"{str(result.out)!r}; fix the cause, replay, and start the batch again, or change "
            "the limit"
        )
