"""The DAG of processors: build it, change it while workers run it, check it, draw it.

    pipeline = (
        Pipeline("errors")
        .add("parse", Parse())
        .add("normalise", normalise)
        .add("short", expr=pl.col("message").str.head(200))
        .add("warn", upper("message"), when=pl.col("level") == "WARNING")
        .add("rest", None, after="short")
        .add("end", Parquet(), after=("warn", "rest"))
    )

Adding a name that exists replaces its processor, and a running worker uses the new one
from its next batch on. How a batch runs through a pipeline is in `etl.execution`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack, overload

import polars as pl

from etl.errors import PipelineError, did_you_mean
from etl.pipeline.plan import INPUT, Node, OnError, Plan
from etl.pipeline.render import as_html, mermaid
from etl.processors.processor import Columns, Delivery, Processor, Sink
from etl.processors.retry import Retry
from etl.records.context import DEFAULT, Context

if TYPE_CHECKING:
    from etl.execution.dry_run import Explanation
    from etl.execution.tap import Tap
    from etl.records.batch import Batch
    from etl.records.result import BatchResult

__all__ = ["Pipeline"]

Function = TypeVar("Function", bound=Processor)


class Options(TypedDict, total=False):
    """Options of `Pipeline.add`."""

    after: str | Iterable[str]
    when: pl.Expr | None
    tee: bool
    retry: Retry
    timeout: float | None
    on_error: OnError


passing = Columns({})
"""The processor of a step that only branches or merges."""


def columns_of(name: str, expr: pl.Expr | Iterable[pl.Expr]) -> Columns:
    """Return the processor that sets columns by expressions.

    Raises:
        PipelineError: If one of them is no expression, or does not set one column.
    """
    expressions: dict[str, pl.Expr] = {}
    for one in [expr] if isinstance(expr, pl.Expr) else expr:
        if not isinstance(one, pl.Expr):
            raise PipelineError(f"expr of {name!r} must be Polars expressions, got {one!r}")
        try:
            column = one.meta.output_name()
        except pl.exceptions.PolarsError:
            raise PipelineError(
                f"expr of {name!r} sets several columns, or one without a name: {one}; give an "
                "expression for each column"
            ) from None
        if column in expressions:
            raise PipelineError(f"expr of {name!r} sets column {column!r} twice; set it once")
        expressions[column] = one
    return Columns(expressions)


class Pipeline:
    """A named DAG of processors.

    Args:
        name: Shown in drawings and kept with runs.
    """

    def __init__(self, name: str = "pipeline") -> None:
        self.name = name
        self._plan = Plan(name, {})
        self._taps: tuple[Tap, ...] = ()

    @overload
    def add(
        self, name: str, processor: Processor | Sink | None, **options: Unpack[Options]
    ) -> Self: ...

    @overload
    def add(
        self, name: str, *, expr: pl.Expr | Iterable[pl.Expr], **options: Unpack[Options]
    ) -> Self: ...

    @overload
    def add(self, name: str, **options: Unpack[Options]) -> Callable[[Function], Function]: ...

    def add(
        self,
        name: str,
        processor: Processor | Sink | EllipsisType | None = ...,
        *,
        expr: pl.Expr | Iterable[pl.Expr] | None = None,
        **options: Unpack[Options],
    ) -> Self | Callable[[Function], Function]:
        """Add a processor, or replace the one of that name and keep its place.

        Return this pipeline, or, without a processor, a decorator that adds a function
        and returns it: `@pipeline.add("fix", after="parse")`. When a processor is
        replaced, options that are not given keep their values.

        Args:
            name: The processor's name: not empty, and not "input".
            processor: A function `frame -> frame` or `(frame, batch) -> frame`, a sink, or
                None to pass rows on.
            expr: Instead of a processor: one Polars expression, or several, each of which sets
                the column of its name. What it makes of a row may not depend on other rows.
            **options: Any of these:

                - after: Name or names of what it follows; by default the processor added
                  last, and "input" for the first one.
                - when: Polars expression; only rows where it is true take this branch. A row
                  takes the first branch whose `when` is true, else the one without `when`,
                  and is filtered if there is none.
                - tee: True gives this branch a copy of the rows, which go on elsewhere as well.
                - retry: How often rows that raise are tried; by default once.
                - timeout: Seconds that one call may take; by default there is no limit.
                - on_error: What happens to rows that still fail: "dead-letter" (the default),
                  "drop" (they count as filtered), or "stop" (the batch is released and the
                  queue paused).

        Raises:
            PipelineError: If the name or an option cannot be used.
        """
        if expr is not None:
            if processor is not ...:
                raise PipelineError(f"{name!r} has a processor and expr=; give one of them")
            processor = columns_of(name, expr)
        if isinstance(processor, EllipsisType):

            def decorate(function: Function) -> Function:
                self.add(name, function, **options)
                return function

            return decorate
        given: dict[str, Any] = {
            **options,
            "processor": passing if processor is None else processor,
        }
        nodes = dict(self._plan.nodes)
        if "after" in given:
            after = given["after"]
            given["after"] = (after,) if isinstance(after, str) else tuple(after)
        if name in nodes:
            nodes[name] = replace(nodes[name], **given)
        else:
            nodes[name] = Node(name=name, **{"after": (next(reversed(nodes), INPUT),), **given})
        self._plan = Plan(self.name, nodes)
        return self

    def plan(self) -> Plan:
        """Return the pipeline as it is now, checked.

        Raises:
            PipelineError: If it cannot run; see `Plan.check`.
        """
        return self._plan.check()

    @property
    def version(self) -> str:
        """Twelve hex digits that change when any processor's source or place does."""
        return self._plan.version

    def __getitem__(self, name: str) -> Node:
        """Return the node of a name.

        Raises:
            PipelineError: If there is no such processor.
        """
        try:
            return self._plan.nodes[name]
        except KeyError:
            hint = did_you_mean(name, self._plan.nodes)
            raise PipelineError(f"unknown processor {name!r}{hint}") from None

    def dry_run(self, batch: Batch, *, kept: Delivery | None = None) -> BatchResult:
        """Return the result of a batch that runs with no lasting effect.

        Sinks write nothing, states stay as they are, and no retry waits.

        Args:
            batch: What to run.
            kept: What a store keeps of the data sets that sinks write, whose rows must fit them;
                by default all rows do.

        Raises:
            SourceChanged: If the batch is a reference whose file has changed.
            ProcessorStop: If a processor failed whose policy is to stop.
            PipelineError: If the pipeline cannot run.
        """
        from etl.execution.dry_run import dry_run

        return dry_run(self, batch, kept=kept)[0]

    def explain(
        self, line: str | bytes, *, format: str | None = None, context: Context = DEFAULT
    ) -> Explanation:
        """Return one line before and after every processor, run with no lasting effect.

        What a `mask` in the pipeline replaces is replaced at every hop.

        Args:
            line: Text, or bytes that may not be UTF-8; one with line breaks is a record.
            format: Name of its format, or None to have it detected.
            context: What is known of its source.

        Raises:
            ProcessorStop: If a processor failed whose policy is to stop.
            PipelineError: If the pipeline cannot run.
        """
        from etl.execution.dry_run import explain

        return explain(self, line, format=format, context=context)

    def tap(self, processor: str, *, where: pl.Expr | None = None, limit: int = 20) -> Tap:
        """Return a tap that keeps the last rows that leave a processor in this process's workers.

        Args:
            processor: Its name.
            where: Which rows; None for all.
            limit: How many rows are kept.

        Raises:
            PipelineError: If there is no such processor.
        """
        from etl.execution.tap import Tap

        tap = Tap(self[processor].name, where=where, limit=limit)
        self._taps = (*self.taps, tap)
        return tap

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The taps that are open."""
        self._taps = tuple(tap for tap in self._taps if not tap.closed)
        return self._taps

    def to_mermaid(self) -> str:
        """Return the DAG as a Mermaid flowchart."""
        return mermaid(self._plan)

    def __repr__(self) -> str:
        names = ", ".join(self._plan.nodes) or "empty"
        return f"<Pipeline {self.name}: {names}>"

    def _repr_html_(self) -> str:
        return as_html(self._plan)
