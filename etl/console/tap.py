"""Look into the stream between two processors, with no effect on it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import polars as pl

from etl.errors import UsageError, did_you_mean
from etl.lines import Batch
from etl.processors import Stateful
from etl.runner import Pass
from etl.traces import trace_rows

if TYPE_CHECKING:
    from etl.flow import Flow
    from etl.isolate import Bad
    from etl.pipeline import Pipeline
    from etl.queue import Queue

__all__ = ["tap"]


def tap(
    queue: Queue, pipeline: Pipeline, processor: str, *, where: pl.Expr | None, limit: int
) -> pl.DataFrame:
    """Return the last rows that left a processor, oldest first; see `Console.tap`.

    The store's traces tell which lines came last; these are run through copies
    of the processors, and nothing of that is kept.

    Raises:
        UsageError: If there is no such processor, or `where` names no column of its rows.
    """
    plan = pipeline.plan()
    if processor not in plan.nodes:
        raise UsageError(f"unknown processor {processor!r}{did_you_mean(processor, plan.nodes)}")
    lines = [row["line"] for row in trace_rows(queue) if processor in row["path"]]
    seen: list[pl.DataFrame] = []

    def watch(name: str, _flow: Flow, out: Flow, _bad: list[Bad]) -> None:
        if name == processor:
            seen.append(out.frame.select(pl.exclude("^_.*$", "source", "line_number")))

    own = {
        name: copy.deepcopy(node.processor)
        if isinstance(node.processor, Stateful)
        else node.processor
        for name, node in plan.nodes.items()
    }
    batch = Batch.from_lines(lines, source="tap")
    Pass(plan, own, batch, sleep=lambda _seconds: None, watch=watch).go()
    if not seen:
        return pl.DataFrame({"line": []}, schema={"line": pl.String})
    try:
        return (seen[0] if where is None else seen[0].filter(where)).tail(limit)
    except pl.exceptions.PolarsError as error:
        text = str(error).split("\n", maxsplit=1)[0]
        raise UsageError(f"where= cannot be used on the rows of {processor!r}: {text}") from error
