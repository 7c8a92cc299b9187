"""The DAG of processors: build it, change it while it runs, check it, draw it.

    pipeline = (
        Pipeline("errors")
        .add("parse", Parse())
        .add("normalise", normalise)
        .add("warn", upper("message"), when=pl.col("level") == "WARNING")
        .add("rest", None, after="normalise")
        .add("end", Parquet(), after=("warn", "rest"))
    )

Adding a name that exists replaces its processor, and a running worker takes
the new one at its next batch. How a batch runs through it is in `runner.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

import polars as pl

from etl.errors import PipelineError, did_you_mean
from etl.pipeline.plan import INPUT, Node, OnError, Plan
from etl.processors.processor import Sink
from etl.processors.retry import Retry

if TYPE_CHECKING:
    from etl.execution.dry_run import Explanation
    from etl.execution.tap import Tap
    from etl.records.batch import Batch
    from etl.records.result import BatchResult
from etl.pipeline.render import html_table, mermaid

__all__ = ["Pipeline"]

_UNSET: Any = object()


def passing(frame: pl.DataFrame) -> pl.DataFrame:
    """Pass rows on unchanged: the processor of a step that only branches or merges."""
    return frame


class Pipeline:
    """A named DAG of processors.

    Args:
        name: Shown in drawings and kept with runs.
    """

    def __init__(self, name: str = "pipeline") -> None:
        self.name = name
        self._plan = Plan(name, {})
        self._taps: tuple[Tap, ...] = ()

    def add(
        self,
        name: str,
        processor: Any = _UNSET,
        *,
        after: str | Iterable[str] = _UNSET,
        when: pl.Expr | None = _UNSET,
        tee: bool = _UNSET,
        retry: Retry = _UNSET,
        timeout: float | None = _UNSET,
        on_error: OnError = _UNSET,
    ) -> Any:
        """Add a processor, or replace the one of that name and keep its place.

        Returns this pipeline, or, without a processor, a decorator:
        `@pipeline.add("fix", after="parse")`. Options that are not given keep
        their value when a processor is replaced.

        Args:
            name: The processor's name: not empty, and not "input".
            processor: A callable frame -> frame, a sink, or None to pass rows on.
            after: Name or names that it follows; by default the one added
                last, for the first one "input".
            when: Only rows where this holds take this branch. A row goes to
                the first branch whose `when` holds, else to the one without.
            tee: Give this branch a copy of the rows; they go on elsewhere as well.
            retry: How often rows that raise are tried; by default once.
            timeout: Seconds that one call may take.
            on_error: What becomes of rows that still fail: "dead-letter",
                "drop" (filtered), or "stop" (the batch is given back and the
                queue paused).

        Raises:
            PipelineError: If the name or an option cannot be used.
        """
        options: dict[str, Any] = {
            "after": (after,) if isinstance(after, str) else after,
            "when": when,
            "tee": tee,
            "retry": retry,
            "timeout": timeout,
            "on_error": on_error,
        }
        options = {key: value for key, value in options.items() if value is not _UNSET}
        if processor is _UNSET:
            return partial(self._decorate, name, options)
        chosen = passing if processor is None else processor
        _check_node(name, chosen, options)
        nodes = dict(self._plan.nodes)
        if name in nodes:
            nodes[name] = replace(nodes[name], processor=chosen, **options)
        else:
            options.setdefault("after", (next(reversed(nodes), INPUT),))
            nodes[name] = Node(name=name, processor=chosen, **options)
        self._plan = Plan(self.name, nodes)
        return self

    def _decorate(self, name: str, options: dict[str, Any], function: Any) -> Any:
        self.add(name, function, **options)
        return function

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
        """Return the node of a name."""
        try:
            return self._plan.nodes[name]
        except KeyError:
            hint = did_you_mean(name, self._plan.nodes)
            raise PipelineError(f"unknown processor {name!r}{hint}") from None

    def dry_run(self, batch: Batch) -> BatchResult:
        """Return what would become of a batch: nothing is written, kept or waited for."""
        from etl.execution.dry_run import dry_run

        return dry_run(self, batch)[0]

    def explain(self, line: str | bytes, *, format: str | None = None) -> Explanation:
        """Run one line with no side effects and show it before and after every hop."""
        from etl.execution.dry_run import explain

        return explain(self, line, format=format)

    def tap(self, processor: str, *, where: pl.Expr | None = None, limit: int = 20) -> Tap:
        """Return a look at the rows that leave a processor, in any worker of this process.

        Args:
            processor: Its name.
            where: Which rows; None for all.
            limit: How many rows are kept, the last ones.

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
        return html_table(self._plan)


def _check_node(name: str, processor: Any, options: dict[str, Any]) -> None:
    if not name or name == INPUT:
        raise PipelineError(f"a processor cannot be named {name!r}; choose another name")
    if not callable(processor) and not isinstance(processor, Sink):
        raise PipelineError(
            f"processor {name!r} is {processor!r}, which cannot be called; give a function "
            "from frame to frame"
        )
    if inspect.iscoroutinefunction(getattr(processor, "function", processor)):
        raise PipelineError(f"processor {name!r} is async; give a plain function, which may block")
    when, timeout, retry = (options.get(key) for key in ("when", "timeout", "retry"))
    if when is not None and not isinstance(when, pl.Expr):
        raise PipelineError(
            f"when={when!r} of {name!r} is no Polars expression; use pl.col(…) == …"
        )
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise PipelineError(f"timeout={timeout!r} of {name!r} is no number of seconds above 0")
    if retry is not None and not isinstance(retry, Retry):
        raise PipelineError(f"retry={retry!r} of {name!r} is no Retry; use Retry(attempts=3)")
    if "after" in options:
        options["after"] = tuple(options["after"])
    known = get_args(OnError)
    on_error = options.get("on_error", known[0])
    if on_error not in known:
        raise PipelineError(f"on_error={on_error!r} is unknown{did_you_mean(str(on_error), known)}")
