"""Run batches through a pipeline: route the rows from processor to processor.

One `Runner` belongs to one worker. It has its own copy of every stateful
processor, stages what sinks write, and publishes a batch after its commit or
rolls it back.

A line that becomes a dead letter reaches no sink in that batch, so that its replay
writes it once. Not here: what happens when a processor raises (`bisect.py`), what is
recorded (`result_builder.py`), leases (`workers/worker.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from etl.errors import PipelineError, ProcessorStop, is_interrupt
from etl.execution.bisect import (
    FailedRows,
    ProcessorOutput,
    Watchdog,
    message_of,
    no_watchdog,
    run_with_bisection,
    uninterrupted,
)
from etl.execution.fused import branches_after, set_columns, where
from etl.execution.records import records_of
from etl.execution.result_builder import ResultBuilder
from etl.execution.routing import RoutedRows, checked, for_sink, merge
from etl.filesystem import DISK, FileSystem
from etl.pipeline.plan import INPUT, Node, Plan
from etl.processors.processor import REJECT, Delivery, SinkOfDataSet, Staged, TypedSink
from etl.records.batch import Batch
from etl.records.frames import without
from etl.records.result import BatchResult, ProcessorStats
from etl.records.schemas import Remember, Schemas
from etl.settings import Settings

if TYPE_CHECKING:
    from etl.pipeline.pipeline import Pipeline

__all__ = ["BatchRun", "Runner", "Watch"]

ORIGIN = ("_row", "line", "line_number", "line_count", "raw", "dead_letter_id")
"""Columns that are kept of the batch's records to make dead letters of."""

TIMED_EVERY = 32
"""One batch in so many runs processor by processor, to know how much of the time each takes."""

Watch = Callable[[str, RoutedRows, RoutedRows, list[FailedRows]], None]
"""Called after each processor with its name, the rows before and after, and those that failed."""


class TraceAllowance:
    """How many more lines a worker may trace: so many a second, and no more at once."""

    def __init__(self) -> None:
        self._left = float(Settings.traces_per_second)
        self._at = time.monotonic()

    def take(self, lines: int) -> int:
        """Return how many of some lines are traced, which are then used up."""
        now = time.monotonic()
        more = (now - self._at) * Settings.traces_per_second
        self._left, self._at = min(self._left + more, Settings.traces_per_second), now
        taken = min(lines, int(self._left))
        self._left -= taken
        return taken


class Runner:
    """Runs one batch at a time through a pipeline for one worker.

    Args:
        pipeline: May be changed while this runs; the next batch runs through the new one.
        states: Committed states of stateful processors by name, as JSON text.
        out: Folder below which sinks write.
        slot: Slot of the worker; each has states of its own.
        run: Name of the run, kept with dead letters.
        sleep: Waits for some seconds between tries.
        files: Where what is referred to is read, and sinks write.
        remember: Keeps the columns of data sets.
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
        files: FileSystem = DISK,
        remember: Remember | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._schemas = Schemas(remember)
        self._committed = dict(states or {})
        self._out = out
        self._slot = slot
        self._run = run
        self._sleep = sleep
        self._files = files
        self._defined = self._plan = Plan(pipeline.name, {})
        self._staged: list[Staged] = []
        self._states: dict[str, str] = {}
        self._traces = TraceAllowance()
        self._times: dict[str, float] = {}
        self._runs = 0

    def run(
        self, batch: Batch, *, token: str = "", watchdog: Watchdog = no_watchdog
    ) -> BatchResult:
        """Return the result of a batch, with what sinks write staged; then publish or roll back.

        Args:
            batch: What to run.
            token: Token of the lease; staged files have it in their names.
            watchdog: Watches each call that has a timeout.

        Raises:
            SourceChanged: If the batch is a reference whose file has changed.
            ProcessorStop: If a processor failed whose policy is to stop.
            PipelineError: If the pipeline cannot run.
        """
        started = time.perf_counter()
        self._take_plan()
        batch_run = BatchRun(
            self._plan,
            batch,
            sleep=self._sleep,
            delivery=Delivery(
                id=batch.id,
                token=token,
                out=self._out,
                keep_line=batch.context.keep_line,
                files=self._files,
                schemas=self._schemas,
            ),
            watches=[partial(tap.see, plan=self._plan) for tap in self._pipeline.taps],
            traced=self._traces.take(batch.lines),
            watchdog=watchdog,
            files=self._files,
            times=self._times,
            apart=self._runs % TIMED_EVERY == 0,
        )
        self._runs += 1
        self._staged = batch_run.staged
        batch_run.execute()
        self._states = {
            name: json.dumps(processor.state()) for name, processor in self._plan.stateful.items()
        }
        return batch_run.builder.result(
            states=self._states,
            outputs=[output for staged in self._staged for output in staged.outputs],
            version=self._defined.version,
            run=self._run,
            slot=self._slot,
            seconds=time.perf_counter() - started,
        )

    def publish(self) -> None:
        """Publish what was staged: the batch is committed."""
        self._committed.update(self._states)
        all_staged, self._staged = self._staged, []
        for staged in all_staged:
            staged.publish()

    def rollback(self) -> None:
        """Discard what was staged, and go back to the committed states."""
        all_staged, self._staged = self._staged, []
        for staged in all_staged:
            staged.discard()
        self._restore(self._plan)

    def _take_plan(self) -> None:
        """Take the pipeline as it is now, with copies of its stateful processors."""
        defined = self._pipeline.plan()
        if defined is not self._defined:
            plan = defined.with_own_states()
            self._restore(plan)
            self._defined, self._plan = defined, plan

    def _restore(self, plan: Plan) -> None:
        for name, processor in plan.stateful.items():
            try:
                processor.restore(json.loads(self._committed.get(name, "null")))
            except Exception as error:
                raise PipelineError(
                    f"processor {name!r} cannot resume from its committed state: "
                    f"{type(error).__name__}: {error}; give it another name to start without one"
                ) from error


@dataclass
class BatchRun:
    """One batch on its way through one plan.

    Attributes:
        plan: What it runs through, with states of its own.
        batch: What runs.
        sleep: Waits for some seconds between tries.
        delivery: What sinks may know; None if they write nothing.
        kept: What sinks of data sets may know if they write nothing and only say which rows fit;
            None if they are not asked.
        watches: Called after each processor.
        traced: How many records may be traced of those that need not be.
        watchdog: Watches each call that has a timeout.
        files: Where what is referred to is read.
        times: Seconds a row that each processor took when it last ran by itself. Those that run
            together share their time by it.
        apart: Whether each processor runs by itself, to know these times.
    """

    plan: Plan
    batch: Batch
    sleep: Callable[[float], None]
    delivery: Delivery | None = None
    kept: Delivery | None = None
    watches: Sequence[Watch] = ()
    traced: int = Settings.kept_traces
    watchdog: Watchdog = no_watchdog
    files: FileSystem = DISK
    times: dict[str, float] = field(default_factory=dict)
    apart: bool = False

    def __post_init__(self) -> None:
        """Read the batch."""
        frame = records_of(self.batch, self.files).with_row_index("_row")
        origin = frame[[name for name in ORIGIN if name in frame.columns]]
        self.builder = ResultBuilder(origin, self.batch.source, self.plan, self.traced)
        self.staged: list[Staged] = []
        self._frame = without(frame, ("raw", "dead_letter_id"))
        self._inbox: dict[str, list[RoutedRows]] = {}

    def execute(self, at: str = INPUT) -> None:
        """Run every processor to which rows come, in the plan's order; they begin at `at`."""
        start = RoutedRows(self._frame, ((),))
        if at == INPUT:
            self._route(INPUT, start)
        else:
            self._send(self.plan.nodes[at], start)
        for node in self.plan.order:
            if node.name in self._inbox and not node.is_sink:
                rows = merge(self._inbox.pop(node.name))
                if not self._chain(node, rows):
                    self._route(node.name, self._step(node, rows))
        self._run_sinks()

    def _run_sinks(self) -> None:
        """Give sinks their rows; if a line fails in one, no other keeps a copy of it."""
        dead = self.builder.dead_rows
        written: list[tuple[Node, RoutedRows]] = []
        for node in self.plan.order:
            if node.name in self._inbox and node.is_sink:
                routed = self.builder.without_dead(merge(self._inbox.pop(node.name)))
                if not routed.frame.is_empty():
                    written.append((node, self._step(node, routed)))
                    self.builder.add_done(written[-1][1])
        while self.builder.copied and self.builder.dead_rows > dead:
            dead = self.builder.dead_rows
            for staged in self.staged:
                staged.discard()
            self.staged.clear()
            for node, routed in written:
                rest = self.builder.without_dead(routed)
                if not rest.frame.is_empty():
                    for failed in self._run_sink(node, rest).failed:
                        self._fail(node, rest, failed)

    def _step(self, node: Node, routed: RoutedRows) -> RoutedRows:
        """Run one processor on the rows that have come to it; return those that go on."""
        routed = routed.via(node.name)
        started = time.perf_counter()
        output = self._run_sink(node, routed) if node.is_sink else self._run(node, routed)
        seconds = time.perf_counter() - started
        self.times[node.name] = seconds / max(1, routed.frame.height)
        out = self._record(node, routed, output, seconds=seconds)
        for watch in self.watches:
            watch(node.name, routed, out, output.failed)
        return out

    def _run(self, node: Node, routed: RoutedRows) -> ProcessorOutput:
        def call(frame: pl.DataFrame) -> pl.DataFrame:
            given = (frame, self.batch) if node.takes_batch else (frame,)
            return checked(node.processor(*given), frame)

        return self._bisect(node, call, routed.frame)

    def _bisect(
        self, node: Node, call: Callable[[pl.DataFrame], pl.DataFrame], frame: pl.DataFrame
    ) -> ProcessorOutput:
        return run_with_bisection(
            node,
            call,
            frame,
            sleep=self.sleep,
            lines=lambda rows: self.builder.lines(rows["_row"]),
            watchdog=self.watchdog,
        )

    def _run_sink(self, node: Node, routed: RoutedRows) -> ProcessorOutput:
        """Stage the rows that can be; what was staged during a bisection is discarded."""
        if self.delivery is None:
            return self._ask_sink(node, routed)
        delivery = self.delivery
        if self.staged:
            delivery = replace(delivery, id=f"{delivery.id}~{len(self.staged)}")
        tried: list[Staged] = []
        sink, ready = node.processor, for_sink(routed)
        typed = isinstance(sink, TypedSink)
        if typed:  # outside of the bisection: an error of the store is no row's
            sink.agree(ready, delivery)

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            whole = frame.height == ready.height
            rows = ready if whole else for_sink(routed.rows(frame))
            if typed:
                rows = sink.fit(rows, delivery)
                if REJECT in rows.columns:  # the others are staged without them
                    return frame.with_columns(rows[REJECT])
            tried.append(sink.stage(rows, delivery))
            return frame

        try:
            output = self._bisect(node, call, routed.frame)
            if len(tried) != 1 or output.failed:
                for staged in tried:
                    staged.discard()
                tried.clear()
                if not output.rows.is_empty() and REJECT in call(output.rows).columns:
                    raise PipelineError(f"sink {node.name!r} rejects rows that it has let pass")
        finally:
            self.staged += tried  # after a failure, to be discarded with the rest
        return output

    def _ask_sink(self, node: Node, routed: RoutedRows) -> ProcessorOutput:
        """Find out which rows a sink would take, as far as the store knows; nothing is written."""
        sink, kept = node.processor, self.kept
        if kept is None or not isinstance(sink, SinkOfDataSet):
            return ProcessorOutput(routed.frame)
        sink.agree(for_sink(routed), kept)

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            rows = sink.fit(for_sink(routed.rows(frame)), kept)
            return frame.with_columns(rows[REJECT]) if REJECT in rows.columns else frame

        return self._bisect(node, call, routed.frame)

    def _record(
        self, node: Node, routed: RoutedRows, output: ProcessorOutput, *, seconds: float = 0.0
    ) -> RoutedRows:
        """Record what a processor did; return the rows that go on."""
        out = routed.rows(output.rows.sort("_row") if output.retries else output.rows)
        lines = self.builder.lines
        filtered = self._count_filtered(routed, out, output.failed)
        failed = sum(lines(group.rows["_row"]) for group in output.failed)
        for group in output.failed:
            self._fail(node, routed, group)
        if output.retries and not failed:
            message = f"{output.errors} lines failed and then passed"
            self.builder.add_error(node.name, "retried", message, output.errors, "retried")
        dropped = failed if node.on_error == "drop" else 0
        self.builder.processor_stats[node.name] += ProcessorStats(
            received=lines(routed.frame["_row"]),
            emitted=lines(out.frame["_row"]),
            filtered=filtered + dropped,
            errors=output.errors,
            retries=output.retries,
            dead=failed - dropped,
            seconds=seconds,
        )
        self.builder.add_formats(routed.frame, out.frame, output.failed)
        return out

    def _route(self, name: str, routed: RoutedRows) -> None:
        """Send rows on: a copy down every tee, each row down its first branch."""
        if self._branch(name, routed):
            return
        children = self.plan.children[name]
        rest, otherwise = routed, None
        for node in children:
            if node.tee:
                self.builder.copied = True
                self._send(node, self._split(node, routed)[0])
            elif node.when is None:
                otherwise = node
            else:
                taken, rest = self._split(node, rest)
                self._send(node, taken)
        if otherwise is not None:
            self._send(otherwise, rest)
        elif all(node.tee for node in children):
            self.builder.add_done(rest)
        else:
            self.builder.add_trace(rest, "filtered")

    def _may_fuse(self, routed: RoutedRows) -> bool:
        """Return whether several processors may run on rows at once: nobody looks in between."""
        return not (self.watches or self.apart or routed.frame.is_empty())

    def _chain(self, node: Node, routed: RoutedRows) -> bool:
        """Run processors in a row that only set columns; return False if that cannot be."""
        nodes = self.plan.chains.get(node.name)
        if nodes is None or not self._may_fuse(routed):
            return False
        started = time.perf_counter()
        try:
            frame = set_columns(nodes, routed.frame)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return False  # step by step it is found which rows fail
        seconds = time.perf_counter() - started
        lines = self.builder.lines(routed.frame["_row"])
        known = [self.times.get(one.name, 0.0) for one in nodes]
        total = sum(known)
        for one, own in zip(nodes, known, strict=True):
            routed = routed.via(one.name)
            share = own / total if total else 1 / len(nodes)
            self.builder.processor_stats[one.name] += ProcessorStats(
                received=lines, emitted=lines, seconds=seconds * share
            )
        self._route(nodes[-1].name, routed.rows(frame))
        return True

    def _branch(self, name: str, routed: RoutedRows) -> bool:
        """Send rows through branches that merge again at once; return False if that cannot be."""
        branches = branches_after(self.plan, name)
        if branches is None or len(routed.paths) > 1 or not self._may_fuse(routed):
            return False
        started = time.perf_counter()
        try:
            merged, taken = branches.take(routed)
        except BaseException as error:
            if is_interrupt(error):
                raise
            return False  # step by step it is found which rows fail
        seconds = (time.perf_counter() - started) / routed.frame.height
        for node, rows in zip(branches.nodes, taken, strict=True):
            if len(rows):
                lines = self.builder.lines(rows)
                self.builder.processor_stats[node.name] += ProcessorStats(
                    received=lines, emitted=lines, seconds=seconds * len(rows)
                )
        self._send(branches.merge, merged)
        return True

    def _split(self, node: Node, routed: RoutedRows) -> tuple[RoutedRows, RoutedRows]:
        """Return the rows that a branch takes, and the others; neither has rows that failed."""
        frame = routed.frame
        if frame.is_empty() or node.when is None:
            return routed, routed
        try:
            return uninterrupted(partial(_parted, routed, node.when))
        except BaseException as error:
            if is_interrupt(error):
                raise
            text = message_of(error).split("\n", maxsplit=1)[0]
            reason = f"when= of {node.name!r} cannot be evaluated: {text}"
            reasons = pl.Series([reason]).new_from_index(0, frame.height)
            failed = FailedRows(frame, "when", reasons, type(error).__name__)
            errors = self.builder.lines(frame["_row"])
            output = ProcessorOutput(frame.clear(), [failed], errors=errors)
            self._record(node, routed.via(node.name), output)
            return routed.rows(frame.clear()), routed.rows(frame.clear())

    def _send(self, node: Node, routed: RoutedRows) -> None:
        if not routed.frame.is_empty():
            self._inbox.setdefault(node.name, []).append(routed)

    def _count_filtered(self, routed: RoutedRows, out: RoutedRows, failed: list[FailedRows]) -> int:
        """Count the lines that a processor dropped, and notice rows that it copied."""
        before, after = routed.frame["_row"], out.frame["_row"]
        if len(before) == len(after) and (before == after).all():
            return 0
        left = pl.concat([after, *(group.rows["_row"] for group in failed)])
        if len(left) == len(before):
            passed = before.filter(~before.is_in(left[len(after) :].implode()))
            if len(passed) == len(after) and (passed == after).all():
                return 0
            if (left.sort() == before).all():
                return 0
        lines = self.builder.lines
        if not failed and _rises(after) and _rises(before):
            filtered = lines(before) - lines(after)
        else:
            unique = left.unique()
            self.builder.copied |= len(unique) != len(left)
            filtered = lines(before.unique()) - lines(unique)
        if filtered:
            self.builder.add_filtered(routed, left)
        return filtered

    def _fail(self, node: Node, routed: RoutedRows, failed: FailedRows) -> None:
        """Do with rows that failed alike what the node's policy says."""
        error, message = failed.error or failed.code, self.plan.masked_text(failed.reasons[0])
        lines = self.builder.lines(failed.rows["_row"])
        if node.on_error == "stop":
            raise ProcessorStop(
                f"processor {node.name!r} failed on {lines} lines, and its policy is "
                f"to stop: {error}: {message}"
            )
        if node.on_error == "drop":
            self.builder.add_error(node.name, error, message, lines, "dropped")
            self.builder.add_trace(routed.rows(failed.rows), "filtered")
        else:
            self.builder.add_error(node.name, error, message, lines, "dead")
            self.builder.add_dead_letters(node.name, routed, failed)


def _rises(rows: pl.Series) -> bool:
    """Return whether rows are in order, each of them once."""
    return bool((rows.diff().drop_nulls() > 0).all())


def _parted(routed: RoutedRows, when: pl.Expr) -> tuple[RoutedRows, RoutedRows]:
    """Return the rows for which a condition holds, and the others."""
    holds = where(routed.frame, when)
    return routed.rows(routed.frame.filter(holds)), routed.rows(routed.frame.filter(~holds))
