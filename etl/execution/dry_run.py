"""Run a batch with no lasting effect, and show what a pipeline does with one line, hop by hop."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.execution.batch_run import BatchRun, Watch
from etl.execution.bisect import FailedRows
from etl.execution.routing import RoutedRows
from etl.pipeline.plan import INPUT
from etl.processors.processor import Delivery
from etl.records.batch import Batch
from etl.records.context import DEFAULT, Context
from etl.records.result import BatchResult
from etl.text import html_table, printable

if TYPE_CHECKING:
    from etl.pipeline.pipeline import Pipeline

__all__ = ["End", "Explanation", "Hop", "dry_run", "explain"]


@dataclass(frozen=True, slots=True)
class Hop:
    """One processor that a line passed: the rows before it and after it, and its errors."""

    processor: str
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    errors: list[str]

    def text(self) -> list[str]:
        """Return what changed in the line's first row, `level: 'LOG' → 'INFO'`, and the errors."""
        before = self.before[0] if self.before else {}
        after = self.after[0] if self.after else {}
        return [
            f"{key}: {_show(before.get(key))} → {_show(value)}"
            for key, value in after.items()
            if key not in before or before[key] != value
        ] + [f"error: {error}" for error in self.errors]


@dataclass(frozen=True, slots=True)
class End:
    """Where a row of the line ended.

    Attributes:
        path: Processors that it passed, the last one included.
        row: Its fields if it came to an end of the pipeline, else empty.
        code: Short name of the reason if it is dead.
        error: Class of the exception, or empty.
        message: The reason in one sentence.
    """

    path: tuple[str, ...]
    row: dict[str, Any]
    code: str = ""
    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """What a pipeline does with one line.

    Attributes:
        line: Its text.
        state: done, filtered or dead.
        hops: The processors that it passed, in order.
        ends: Where its rows came to that state, in order.
    """

    line: str
    state: str
    hops: list[Hop]
    ends: list[End]

    def __str__(self) -> str:
        text = [f"{self.line!r} → {self.state}"]
        for hop in self.hops:
            rows = f": {len(hop.after)} rows" if len(hop.after) > 1 else ""
            text += [f"  {hop.processor}{rows}", *(f"    {one}" for one in hop.text())]
        return "\n".join(text)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = [(hop.processor, hop.text()) for hop in self.hops]
        caption = f"{self.line} → {self.state}"
        return html_table(["processor", "changes"], rows, caption=caption, most=1000)


def explain(
    pipeline: Pipeline, line: str | bytes, *, format: str | None = None, context: Context = DEFAULT
) -> Explanation:
    """Return what a pipeline does with one line; see `Pipeline.explain`."""
    hops: list[Hop] = []
    plan = pipeline.plan()

    def watch(name: str, routed: RoutedRows, out: RoutedRows, failed: list[FailedRows]) -> None:
        errors = [
            f"{group.error or group.code}: {_safe(plan.masked_text(group.reasons[0]))}"
            for group in failed
        ]
        before, after = (_fields(one.rows(plan.masked(one.frame))) for one in (routed, out))
        hops.append(Hop(name, before, after, errors))

    batch = Batch.from_lines([line], source="explain", format=format, context=context)
    result, ended = dry_run(pipeline, batch, watch=watch)
    state = "dead" if result.dead else "done" if result.done else "filtered"
    text = plan.masked_text(batch.frame()["line"][0])
    return Explanation(text, state, hops, _ends(result, ended))


def dry_run(
    pipeline: Pipeline,
    batch: Batch,
    *,
    at: str = INPUT,
    until: str | None = None,
    watch: Watch | None = None,
    kept: Delivery | None = None,
) -> tuple[BatchResult, list[RoutedRows]]:
    """Return the result of a batch that runs with no lasting effect, and the rows at its ends.

    Sinks write nothing, states stay as they are, and no retry waits.

    Args:
        pipeline: What to run it through.
        batch: What to run.
        at: The processor that its rows come to first; by default as lines do.
        until: The processor that is the end; by default the leaves are.
        watch: Called after each processor.
        kept: What a store keeps of the data sets that sinks write, whose rows must fit them; by
            default all rows do.

    Raises:
        SourceChanged: If the batch is a reference whose file has changed.
        ProcessorStop: If a processor failed whose policy is to stop.
        PipelineError: If the pipeline cannot run.
    """
    plan = pipeline.plan()
    plan = plan if until is None else plan.up_to(until)
    ended: list[RoutedRows] = []

    def gather(name: str, _routed: RoutedRows, out: RoutedRows, _failed: list[FailedRows]) -> None:
        if name == until or (until is None and all(node.tee for node in plan.children[name])):
            ended.append(out)

    watches = [gather, watch] if watch else [gather]
    batch_run = BatchRun(
        plan.with_own_states(), batch, sleep=lambda _seconds: None, watches=watches, kept=kept
    )
    batch_run.execute(at)
    return batch_run.builder.result(), ended


def _ends(result: BatchResult, ended: list[RoutedRows]) -> list[End]:
    if result.dead:
        dead = result.dead_letters.select("failure", "message").iter_rows()
        kinds = ((result.failures[index], message) for index, message in dead)
        return [End(kind.path, {}, kind.code, kind.error, message) for kind, message in kinds]
    if result.done:
        ids = [routed.per_path("path", range(len(routed.paths))) for routed in ended]
        return [
            End(routed.paths[index], row)
            for routed, indexes in zip(ended, ids, strict=True)
            for index, row in zip(indexes, _fields(routed), strict=True)
        ]
    if result.trace is None:
        return []
    paths = [tuple(name for name, _ in path) for path in result.trace.paths]
    return [End(paths[index], {}) for index in result.trace.lines["path"]]


def _fields(routed: RoutedRows) -> list[dict[str, Any]]:
    return routed.frame.select(pl.exclude("^_.*$")).to_dicts()


def _safe(error: str) -> str:
    """Return an error's lines without characters that control a terminal."""
    return "\n".join(printable(line) for line in error.expandtabs(4).splitlines())


def _show(value: Any) -> str:
    return str(value) if isinstance(value, datetime) else repr(value)
