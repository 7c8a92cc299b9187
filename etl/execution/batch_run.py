"""Run batches through a pipeline: route the lines from processor to processor.

One `Runner` belongs to one worker. It has its own copy of every stateful
processor, stages what sinks write, and either keeps a batch (after its
commit) or undoes it.

A line that dies anywhere in a batch reaches no sink in that batch, so that
its replay writes it once. Not here: what to do when a processor raises
(`isolate.py`), what is written down (`ledger.py`), leases (`worker.py`).
"""

from __future__ import annotations

import copy
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.errors import PipelineError, ProcessorStop
from etl.execution.bisect import FailedRows, Result, run_with_bisection
from etl.execution.result_builder import ResultBuilder
from etl.execution.routing import RoutedRows, checked, for_sink, merge
from etl.pipeline.plan import INPUT, Node, Plan
from etl.processors.processor import Delivery, Staged, Stateful
from etl.records.batch import Batch
from etl.records.result import BatchResult, ProcessorStats

if TYPE_CHECKING:
    from etl.pipeline.pipeline import Pipeline

__all__ = ["BatchRun", "Runner"]

ORIGIN = ("_row", "line", "line_number", "raw", "dead_letter_id")


Watch = Callable[[str, RoutedRows, RoutedRows, list[FailedRows]], None]
"""Called after each processor with its name, the rows before and after, and those that failed."""


class Runner:
    """Runs one batch at a time through a pipeline for one worker.

    Args:
        pipeline: May be changed while this runs; the next batch sees it.
        states: Committed states of stateful processors by name, as JSON text.
        out: Folder that sinks write below.
        slot: Which of the pipeline's parallel states this worker has.
        run: Name of the run, kept with dead letters.
        sleep: Waits between tries.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        states: Mapping[str, str] | None = None,
        out: Path = Path("data/out"),
        slot: int = 0,
        run: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pipeline = pipeline
        self._committed = dict(states or {})
        self._out = out
        self._slot = slot
        self._run = run
        self._sleep = sleep
        self._originals: dict[str, Any] = {}
        self._processors: dict[str, Any] = {}
        self._staged: list[Staged] = []
        self._states: dict[str, str] = {}

    def run(self, batch: Batch, *, token: str = "") -> BatchResult:
        """Run a batch and stage what its sinks write; then call `keep` or `undo`.

        Raises:
            SourceChanged: If the batch is a reference whose file has changed.
            ProcessorStop: If a processor failed whose policy is to stop.
            PipelineError: If the pipeline cannot run.
        """
        started = time.perf_counter()
        plan = self._prepare()
        delivery = Delivery(id=batch.id, token=token, out=self._out)
        one = BatchRun(
            plan,
            self._processors,
            batch,
            sleep=self._sleep,
            delivery=delivery,
            watch=_all_watch([tap.see for tap in self._pipeline.taps]),
        )
        self._staged = one.staged
        one.execute()
        self._states = {
            name: json.dumps(processor.state())
            for name, processor in self._processors.items()
            if isinstance(processor, Stateful)
        }
        return one.builder.outcome(
            states=self._states,
            outputs=[output for staged in one.staged for output in staged.outputs],
            version=plan.version,
            run=self._run,
            slot=self._slot,
            seconds=time.perf_counter() - started,
        )

    def publish(self) -> None:
        """Publish what was staged: the batch is committed."""
        self._committed.update(self._states)
        staged, self._staged = self._staged, []
        for one in staged:
            one.publish()

    def rollback(self) -> None:
        """Throw away what was staged and go back to the committed states."""
        staged, self._staged = self._staged, []
        for one in staged:
            one.discard()
        for name, processor in self._processors.items():
            if isinstance(processor, Stateful):
                self._restore(name, processor)

    def _prepare(self) -> Plan:
        """Take the pipeline as it is now, with an own copy of what is stateful in it."""
        plan = self._pipeline.plan()
        originals = {name: node.processor for name, node in plan.nodes.items()}
        for name, original in originals.items():
            if self._originals.get(name) is original:
                continue
            own = copy.deepcopy(original) if isinstance(original, Stateful) else original
            if isinstance(own, Stateful):
                self._restore(name, own)
            self._processors[name] = own
        self._originals = originals
        self._processors = {name: self._processors[name] for name in originals}
        return plan

    def _restore(self, name: str, processor: Stateful) -> None:
        try:
            processor.restore(json.loads(self._committed.get(name, "null")))
        except Exception as error:
            raise PipelineError(
                f"processor {name!r} cannot go on from its committed state: "
                f"{type(error).__name__}: {error}; give it another name to start anew"
            ) from error


class BatchRun:
    """One batch on its way through one plan.

    Args:
        plan: The pipeline as it is now.
        processors: Its processors by name; stateful ones are the runner's own.
        batch: What runs.
        sleep: Waits between tries.
        delivery: What sinks may know; None lets them write nothing.
        watch: Is told what each processor did.
    """

    def __init__(
        self,
        plan: Plan,
        processors: Mapping[str, Any],
        batch: Batch,
        *,
        sleep: Callable[[float], None] = time.sleep,
        delivery: Delivery | None = None,
        watch: Watch | None = None,
    ) -> None:
        frame = batch.frame().with_row_index("_row")
        self.builder = ResultBuilder(frame.select(name for name in ORIGIN if name in frame.columns))
        self.staged: list[Staged] = []
        self._frame = frame.drop("raw", "dead_letter_id", strict=False)
        self._plan = plan
        self._processors = processors
        self._batch = batch
        self._sleep = sleep
        self._delivery = delivery
        self._watch = watch
        self._inbox: dict[str, list[RoutedRows]] = {}

    def execute(self, at: str = INPUT) -> None:
        """Run every processor that rows come to, in the plan's order; they begin at `at`."""
        start = RoutedRows(self._frame, ((),))
        if at == INPUT:
            self._route(INPUT, start)
        else:
            self._send(self._plan.nodes[at], start)
        for node in self._plan.order:
            routed_rows = self._inbox.get(node.name, [])
            if routed_rows and not node.is_sink:
                self._route(node.name, self._step(node, merge(routed_rows)))
        self._run_sinks()

    def _run_sinks(self) -> None:
        """Give sinks their rows; if a line dies in one, no other keeps a copy of it."""
        deaths = self.builder.deaths
        kept: list[tuple[Node, RoutedRows]] = []
        for node in self._plan.order:
            routed_rows = self._inbox.get(node.name, [])
            if routed_rows and node.is_sink:
                routed = self.builder.living(merge(routed_rows))
                if not routed.frame.is_empty():
                    kept.append((node, self._step(node, routed)))
                    self.builder.end(kept[-1][1])
        while self.builder.copied and self.builder.deaths > deaths:
            deaths = self.builder.deaths
            self._discard_staged()
            for node, routed in kept:
                living = self.builder.living(routed)
                if not living.frame.is_empty():
                    for bad in self._run_sink(node, living).bad:
                        self._fail(node, living, bad)

    def _discard_staged(self) -> None:
        for staged in self.staged:
            staged.discard()
        self.staged.clear()

    def _step(self, node: Node, routed: RoutedRows) -> RoutedRows:
        """Run one processor on the rows that have come to it; return those that go on."""
        routed = RoutedRows(routed.frame, tuple((*path, node.name) for path in routed.paths))
        started = time.perf_counter()
        result = self._run_sink(node, routed) if node.is_sink else self._run(node, routed)
        seconds = time.perf_counter() - started
        out = routed.rows(result.good.sort("_row") if result.retries else result.good)
        filtered = self._count_filtered(routed, out, result.bad)
        failed = sum(bad.rows.height for bad in result.bad)
        for bad in result.bad:
            self._fail(node, routed, bad)
        if result.retries and not failed:
            self.builder.retried(node.name, result.errors)
        dropped = failed if node.on_error == "drop" else 0
        tally = ProcessorStats(
            received=routed.frame.height,
            emitted=out.frame.height,
            filtered=filtered + dropped,
            errors=result.errors,
            retries=result.retries,
            dead=failed - dropped,
            seconds=seconds,
        )
        self.builder.count(node.name, tally)
        if self._watch:
            self._watch(node.name, routed, out, result.bad)
        return out

    def _run(self, node: Node, routed: RoutedRows) -> Result:
        processor = self._processors[node.name]
        takes_batch = _takes_batch(processor)

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            out = processor(frame, self._batch) if takes_batch else processor(frame)
            return checked(out, frame)

        return self._isolated(node, call, routed)

    def _run_sink(self, node: Node, routed: RoutedRows) -> Result:
        """Stage the rows that can be; what was staged while looking for culprits is undone."""
        if self._delivery is None:
            return Result(routed.frame)
        delivery, sink = self._delivery, self._processors[node.name]
        if self.staged:
            delivery = replace(delivery, id=f"{delivery.id}~{len(self.staged)}")
        tried: list[Staged] = []

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            tried.append(sink.stage(for_sink(routed.rows(frame)), delivery))
            return frame

        try:
            result = self._isolated(node, call, routed)
        except BaseException:
            self.staged += tried  # to be undone with the rest
            raise
        if len(tried) != 1 or result.bad:
            for staged in tried:
                staged.discard()
            tried.clear()
            if not result.good.is_empty():
                call(result.good)
        self.staged += tried
        return result

    def _isolated(
        self, node: Node, call: Callable[[pl.DataFrame], pl.DataFrame], routed: RoutedRows
    ) -> Result:
        return run_with_bisection(
            self._processors[node.name],
            call,
            routed.frame,
            retry=node.retry,
            timeout=node.timeout,
            sleep=self._sleep,
        )

    def _route(self, name: str, routed: RoutedRows) -> None:
        """Send rows on: a copy down every tee, each row down its first branch."""
        children = self._plan.children[name]
        rest, otherwise = routed, None
        for node in children:
            if node.tee:
                self.builder.copied = True
                self._send(node, routed if node.when is None else self._split(node, routed)[0])
            elif node.when is None:
                otherwise = node
            else:
                taken, rest = self._split(node, rest)
                self._send(node, taken)
        if otherwise is not None:
            self._send(otherwise, rest)
        elif all(node.tee for node in children):
            self.builder.end(rest)
        else:
            self.builder.trace(rest, "filtered")

    def _split(self, node: Node, routed: RoutedRows) -> tuple[RoutedRows, RoutedRows]:
        """Return the rows that a branch takes, and the others."""
        frame = routed.frame
        if frame.is_empty() or node.when is None:
            return routed, routed
        try:
            holds = frame.select(node.when.fill_null(value=False)).to_series()
            return routed.rows(frame.filter(holds)), routed.rows(frame.filter(~holds))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            self._fail_branch(node, routed, error)
            return routed.rows(frame.clear()), routed.rows(frame.clear())

    def _send(self, node: Node, routed: RoutedRows) -> None:
        if not routed.frame.is_empty():
            self._inbox.setdefault(node.name, []).append(routed)

    def _count_filtered(self, routed: RoutedRows, out: RoutedRows, bad: list[FailedRows]) -> int:
        """Count the rows that a processor dropped, and notice rows that it copied."""
        before, after = routed.frame["_row"], out.frame["_row"]
        if len(before) == len(after) and (before == after).all():
            return 0
        left = pl.concat([after, *(one.rows["_row"] for one in bad)])
        if not bad and (after.diff().drop_nulls() > 0).all():
            filtered = len(before) - len(after)
        else:
            unique = left.n_unique()
            self.builder.copied |= unique != len(left)
            filtered = before.n_unique() - unique
        if filtered:
            self.builder.trace_dropped(routed, left)
        return filtered

    def _fail(self, node: Node, routed: RoutedRows, bad: FailedRows) -> None:
        """Bury rows that failed alike, or do what else the node's policy says."""
        failed = routed.rows(bad.rows)
        match node.on_error:
            case "stop":
                raise ProcessorStop(
                    f"processor {node.name!r} failed on {bad.rows.height} lines, and its policy is "
                    f"to stop: {bad.error or bad.code}: {bad.reasons[0]}"
                )
            case "drop":
                self.builder.error(node.name, bad, "dropped")
                self.builder.trace(failed, "filtered")
            case _:
                self.builder.error(node.name, bad, "dead")
                self.builder.bury(node.name, failed, bad)

    def _fail_branch(self, node: Node, routed: RoutedRows, error: BaseException) -> None:
        routed = RoutedRows(routed.frame, tuple((*path, node.name) for path in routed.paths))
        text = str(error).split("\n", maxsplit=1)[0]
        reason = f"when= of {node.name!r} cannot be evaluated: {text}"
        rows = routed.frame.height
        reasons = pl.Series([reason]).new_from_index(0, rows)
        self._fail(node, routed, FailedRows(routed.frame, "when", reasons, type(error).__name__))
        dropped = rows if node.on_error == "drop" else 0
        tally = ProcessorStats(received=rows, errors=rows, filtered=dropped, dead=rows - dropped)
        self.builder.count(node.name, tally)


def _all_watch(watches: Sequence[Watch]) -> Watch | None:
    """Return a watch that tells all of these; None if there are none."""

    def watch(name: str, before: RoutedRows, after: RoutedRows, bad: list[FailedRows]) -> None:
        for one in watches:
            one(name, before, after, bad)

    return watch if watches else None


def _takes_batch(processor: Any) -> bool:
    """Say whether a processor has a second parameter without a default."""
    try:
        parameters = inspect.signature(processor).parameters.values()
    except (TypeError, ValueError):
        return False
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in places and one.default is one.empty]
    return len(needed) > 1
