"""Show what a pipeline does with one line, hop by hop, with no lasting effect."""

from __future__ import annotations

import copy
import html
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.execution.batch_run import BatchRun, Watch
from etl.execution.bisect import FailedRows
from etl.execution.routing import RoutedRows
from etl.pipeline.plan import INPUT
from etl.processors.processor import Stateful
from etl.records.batch import Batch
from etl.records.result import BatchResult
from etl.text import printable

if TYPE_CHECKING:
    from etl.pipeline.pipeline import Pipeline

__all__ = ["End", "Explanation", "Hop", "dry_run", "explain"]

LEFT = "<td style='text-align:left'>"
"""Notebooks put the text of cells to the right, as if all were numbers."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One processor that a line passed: the rows before it and after it, and its errors."""

    processor: str
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    errors: list[str]


@dataclass(frozen=True, slots=True)
class End:
    """Where a row of the line ended, and by which path.

    `row` holds its fields if it came to a leaf; `code`, `error` and `message`
    say why it is dead.
    """

    path: tuple[str, ...]
    row: dict[str, Any]
    code: str = ""
    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What a pipeline does with one line, hop by hop; `state` is done, filtered or dead.

    `ends` are the places where its rows came to that state, in their order.
    """

    line: str
    state: str
    hops: list[Hop]
    ends: list[End]

    def __str__(self) -> str:
        text = [f"{self.line!r} → {self.state}"]
        for hop in self.hops:
            copies = len(hop.after) > 1
            text.append(f"  {hop.processor}{f': {len(hop.after)} rows' if copies else ''}")
            text += [f"    {change}" for change in _changes(hop)]
            text += [f"    error: {_safe(error)}" for error in hop.errors]
        return "\n".join(text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for hop in self.hops:
            cell = "<br>".join(html.escape(text) for text in (*_changes(hop), *hop.errors))
            rows.append(f"<tr>{LEFT}{html.escape(hop.processor)}</td>{LEFT}{cell}</td></tr>")
        title = f"{html.escape(self.line)} → {html.escape(self.state)}"
        return f"<table><caption>{title}</caption><tbody>{''.join(rows)}</tbody></table>"


def explain(pipeline: Pipeline, line: str | bytes, *, format: str | None = None) -> Explanation:
    """Run one line with no side effects; see `Pipeline.explain`."""
    hops: list[Hop] = []

    def watch(name: str, routed: RoutedRows, out: RoutedRows, bad: list[FailedRows]) -> None:
        errors = [f"{one.error or one.code}: {one.reasons[0]}" for one in bad]
        hops.append(Hop(name, _public(routed.frame), _public(out.frame), errors))

    batch = Batch.from_lines([line], source="explain", format=format)
    outcome, routed_rows = dry_run(pipeline, batch, watch=watch)
    if outcome.dead:
        state, ends = "dead", _dead_ends(outcome)
    elif outcome.done:
        state, ends = "done", [end for routed in routed_rows for end in _leaf_ends(routed)]
    else:
        state, ends = "filtered", _filtered_ends(outcome)
    return Explanation(batch.frame()["line"][0], state, hops, ends)


def dry_run(
    pipeline: Pipeline,
    batch: Batch,
    *,
    at: str = INPUT,
    until: str | None = None,
    watch: Watch | None = None,
) -> tuple[BatchResult, list[RoutedRows]]:
    """Run a batch with no lasting effect, and return the rows that came to the end as well.

    Sinks write nothing, states stay as they are, and no retry waits.

    Args:
        pipeline: What to run it through.
        batch: What to run.
        at: The processor that its rows come to first; by default as lines do.
        until: The processor that is the end; by default the leaves are.
        watch: Is told what each processor did.
    """
    plan = pipeline.plan()
    plan = plan if until is None else plan.up_to(until)
    own = {
        name: copy.deepcopy(node.processor)
        if isinstance(node.processor, Stateful)
        else node.processor
        for name, node in plan.nodes.items()
    }
    routed_rows: list[RoutedRows] = []

    def look(name: str, routed: RoutedRows, out: RoutedRows, bad: list[FailedRows]) -> None:
        if name == until or (until is None and all(one.tee for one in plan.children[name])):
            routed_rows.append(out)
        if watch:
            watch(name, routed, out, bad)

    one = BatchRun(plan, own, batch, sleep=lambda _seconds: None, watch=look)
    one.execute(at)
    return one.builder.outcome(), routed_rows


def _leaf_ends(routed: RoutedRows) -> list[End]:
    rows = _public(routed.frame)
    ids = routed.frame["_path"] if "_path" in routed.frame.columns else [0] * len(rows)
    return [End(routed.paths[id], row) for id, row in zip(ids, rows, strict=True)]


def _dead_ends(outcome: BatchResult) -> list[End]:
    ends = []
    for dead_letter in outcome.dead_letters.iter_rows(named=True):
        why = outcome.failures[dead_letter["failure"]]
        ends.append(End(why.path, {}, why.code, why.error, dead_letter["message"]))
    return ends


def _filtered_ends(outcome: BatchResult) -> list[End]:
    if outcome.trace is None:
        return []
    paths = [tuple(name for name, _ in path) for path in outcome.trace.paths]
    return [End(paths[id], {}) for id in outcome.trace.lines["path"]]


def _public(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.select(pl.exclude("^_.*$")).to_dicts()


def _safe(error: str) -> str:
    """Return an error's lines without what could steer a terminal."""
    return "\n".join(printable(line) for line in error.expandtabs(4).splitlines())


def _changes(hop: Hop) -> list[str]:
    """Return what a hop changed in the line's first row: `level: 'LOG' → 'INFO'`."""
    before = hop.before[0] if hop.before else {}
    after = hop.after[0] if hop.after else {}
    return [
        f"{key}: {_show(before.get(key))} → {_show(value)}"
        for key, value in after.items()
        if key not in before or before[key] != value
    ]


def _show(value: Any) -> str:
    return str(value) if isinstance(value, datetime) else repr(value)
