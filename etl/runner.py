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
from etl.flow import Flow, checked, for_sink, merge
from etl.isolate import Bad, Result, run_isolated
from etl.ledger import Ledger
from etl.lines import Batch, Outcome, Tally
from etl.plan import INPUT, Node, Plan
from etl.processors import Delivery, Staged, Stateful

if TYPE_CHECKING:
    from etl.pipeline import Pipeline

__all__ = ["Pass", "Runner"]

ORIGIN = ("_row", "line", "line_number", "raw", "letter")

Watch = Callable[[str, Flow, Flow, list[Bad]], None]
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

    def run(self, batch: Batch, *, token: str = "") -> Outcome:
        """Run a batch and stage what its sinks write; then call `keep` or `undo`.

        Raises:
            SourceChanged: If the batch is a reference whose file has changed.
            ProcessorStop: If a processor failed whose policy is to stop.
            PipelineError: If the pipeline cannot run.
        """
        started = time.perf_counter()
        plan = self._prepare()
        delivery = Delivery(id=batch.id, token=token, out=self._out)
        one = Pass(
            plan,
            self._processors,
            batch,
            sleep=self._sleep,
            delivery=delivery,
            watch=_all_watch([tap.see for tap in self._pipeline.taps]),
        )
        self._staged = one.staged
        one.go()
        self._states = {
            name: json.dumps(processor.state())
            for name, processor in self._processors.items()
            if isinstance(processor, Stateful)
        }
        return one.ledger.outcome(
            states=self._states,
            outputs=[output for staged in one.staged for output in staged.outputs],
            version=plan.version,
            run=self._run,
            slot=self._slot,
            seconds=time.perf_counter() - started,
        )

    def keep(self) -> None:
        """Publish what was staged: the batch is committed."""
        self._committed.update(self._states)
        staged, self._staged = self._staged, []
        for one in staged:
            one.publish()

    def undo(self) -> None:
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


class Pass:
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
        self.ledger = Ledger(frame.select(name for name in ORIGIN if name in frame.columns))
        self.staged: list[Staged] = []
        self._frame = frame.drop("raw", "letter", strict=False)
        self._plan = plan
        self._processors = processors
        self._batch = batch
        self._sleep = sleep
        self._delivery = delivery
        self._watch = watch
        self._inbox: dict[str, list[Flow]] = {}

    def go(self, at: str = INPUT) -> None:
        """Run every processor that rows come to, in the plan's order; they begin at `at`."""
        start = Flow(self._frame, ((),))
        if at == INPUT:
            self._route(INPUT, start)
        else:
            self._send(self._plan.nodes[at], start)
        for node in self._plan.order:
            flows = self._inbox.get(node.name, [])
            if flows and not node.is_sink:
                self._route(node.name, self._step(node, merge(flows)))
        self._run_sinks()

    def _run_sinks(self) -> None:
        """Give sinks their rows; if a line dies in one, no other keeps a copy of it."""
        deaths = self.ledger.deaths
        kept: list[tuple[Node, Flow]] = []
        for node in self._plan.order:
            flows = self._inbox.get(node.name, [])
            if flows and node.is_sink:
                flow = self.ledger.living(merge(flows))
                if not flow.frame.is_empty():
                    kept.append((node, self._step(node, flow)))
                    self.ledger.end(kept[-1][1])
        while self.ledger.copied and self.ledger.deaths > deaths:
            deaths = self.ledger.deaths
            self._discard_staged()
            for node, flow in kept:
                living = self.ledger.living(flow)
                if not living.frame.is_empty():
                    for bad in self._run_sink(node, living).bad:
                        self._fail(node, living, bad)

    def _discard_staged(self) -> None:
        for staged in self.staged:
            staged.discard()
        self.staged.clear()

    def _step(self, node: Node, flow: Flow) -> Flow:
        """Run one processor on the rows that have come to it; return those that go on."""
        flow = Flow(flow.frame, tuple((*path, node.name) for path in flow.paths))
        started = time.perf_counter()
        result = self._run_sink(node, flow) if node.is_sink else self._run(node, flow)
        seconds = time.perf_counter() - started
        out = flow.rows(result.good.sort("_row") if result.retries else result.good)
        filtered = self._count_filtered(flow, out, result.bad)
        failed = sum(bad.rows.height for bad in result.bad)
        for bad in result.bad:
            self._fail(node, flow, bad)
        if result.retries and not failed:
            self.ledger.retried(node.name, result.errors)
        dropped = failed if node.on_error == "drop" else 0
        tally = Tally(
            received=flow.frame.height,
            emitted=out.frame.height,
            filtered=filtered + dropped,
            errors=result.errors,
            retries=result.retries,
            dead=failed - dropped,
            seconds=seconds,
        )
        self.ledger.count(node.name, tally)
        if self._watch:
            self._watch(node.name, flow, out, result.bad)
        return out

    def _run(self, node: Node, flow: Flow) -> Result:
        processor = self._processors[node.name]
        takes_batch = _takes_batch(processor)

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            out = processor(frame, self._batch) if takes_batch else processor(frame)
            return checked(out, frame)

        return self._isolated(node, call, flow)

    def _run_sink(self, node: Node, flow: Flow) -> Result:
        """Stage the rows that can be; what was staged while looking for culprits is undone."""
        if self._delivery is None:
            return Result(flow.frame)
        delivery, sink = self._delivery, self._processors[node.name]
        if self.staged:
            delivery = replace(delivery, id=f"{delivery.id}~{len(self.staged)}")
        tried: list[Staged] = []

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            tried.append(sink.stage(for_sink(flow.rows(frame)), delivery))
            return frame

        try:
            result = self._isolated(node, call, flow)
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
        self, node: Node, call: Callable[[pl.DataFrame], pl.DataFrame], flow: Flow
    ) -> Result:
        return run_isolated(
            self._processors[node.name],
            call,
            flow.frame,
            retry=node.retry,
            timeout=node.timeout,
            sleep=self._sleep,
        )

    def _route(self, name: str, flow: Flow) -> None:
        """Send rows on: a copy down every tee, each row down its first branch."""
        children = self._plan.children[name]
        rest, otherwise = flow, None
        for node in children:
            if node.tee:
                self.ledger.copied = True
                self._send(node, flow if node.when is None else self._split(node, flow)[0])
            elif node.when is None:
                otherwise = node
            else:
                taken, rest = self._split(node, rest)
                self._send(node, taken)
        if otherwise is not None:
            self._send(otherwise, rest)
        elif all(node.tee for node in children):
            self.ledger.end(rest)
        else:
            self.ledger.trace(rest, "filtered")

    def _split(self, node: Node, flow: Flow) -> tuple[Flow, Flow]:
        """Return the rows that a branch takes, and the others."""
        frame = flow.frame
        if frame.is_empty() or node.when is None:
            return flow, flow
        try:
            holds = frame.select(node.when.fill_null(value=False)).to_series()
            return flow.rows(frame.filter(holds)), flow.rows(frame.filter(~holds))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            self._fail_branch(node, flow, error)
            return flow.rows(frame.clear()), flow.rows(frame.clear())

    def _send(self, node: Node, flow: Flow) -> None:
        if not flow.frame.is_empty():
            self._inbox.setdefault(node.name, []).append(flow)

    def _count_filtered(self, flow: Flow, out: Flow, bad: list[Bad]) -> int:
        """Count the rows that a processor dropped, and notice rows that it copied."""
        before, after = flow.frame["_row"], out.frame["_row"]
        if len(before) == len(after) and (before == after).all():
            return 0
        left = pl.concat([after, *(one.rows["_row"] for one in bad)])
        if not bad and (after.diff().drop_nulls() > 0).all():
            filtered = len(before) - len(after)
        else:
            unique = left.n_unique()
            self.ledger.copied |= unique != len(left)
            filtered = before.n_unique() - unique
        if filtered:
            self.ledger.trace_dropped(flow, left)
        return filtered

    def _fail(self, node: Node, flow: Flow, bad: Bad) -> None:
        """Bury rows that failed alike, or do what else the node's policy says."""
        failed = flow.rows(bad.rows)
        match node.on_error:
            case "stop":
                raise ProcessorStop(
                    f"processor {node.name!r} failed on {bad.rows.height} lines, and its policy is "
                    f"to stop: {bad.error or bad.code}: {bad.reasons[0]}"
                )
            case "drop":
                self.ledger.error(node.name, bad, "dropped")
                self.ledger.trace(failed, "filtered")
            case _:
                self.ledger.error(node.name, bad, "dead")
                self.ledger.bury(node.name, failed, bad)

    def _fail_branch(self, node: Node, flow: Flow, error: BaseException) -> None:
        flow = Flow(flow.frame, tuple((*path, node.name) for path in flow.paths))
        text = str(error).split("\n", maxsplit=1)[0]
        reason = f"when= of {node.name!r} cannot be evaluated: {text}"
        rows = flow.frame.height
        reasons = pl.Series([reason]).new_from_index(0, rows)
        self._fail(node, flow, Bad(flow.frame, "when", reasons, type(error).__name__))
        dropped = rows if node.on_error == "drop" else 0
        tally = Tally(received=rows, errors=rows, filtered=dropped, dead=rows - dropped)
        self.ledger.count(node.name, tally)


def _all_watch(watches: Sequence[Watch]) -> Watch | None:
    """Return a watch that tells all of these; None if there are none."""

    def watch(name: str, before: Flow, after: Flow, bad: list[Bad]) -> None:
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
