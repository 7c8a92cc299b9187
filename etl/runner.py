"""Run batches through a pipeline: route the lines, keep their paths, tell what became of them.

One `Runner` belongs to one worker. It has its own copy of every stateful
processor, stages what sinks write, and either keeps a batch (after its
commit) or undoes it. Whole frames move from processor to processor; a line's
path costs nothing until branches merge, then one integer column, `_path`.

A line that dies anywhere in a batch reaches no sink in that batch, so that
its replay writes it once. Not here: what to do when a processor raises
(`isolate.py`) and anything about leases (`worker.py`).
"""

from __future__ import annotations

import copy
import hashlib
import html
import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from etl.errors import PipelineError, ProcessorStop
from etl.isolate import Bad, Result, run_isolated
from etl.lines import LETTER_SCHEMA, Batch, Failure, Outcome, Tally, Trace
from etl.pipeline import INPUT, Node, Pipeline, Plan
from etl.processors import Delivery, Staged, Stateful

__all__ = ["Explanation", "Hop", "Runner", "explain"]

TRACE_LINES = 1000
"""How many lines of a batch are kept as traces: the last ones."""

LONGEST_TRACED = 2000
"""Characters of a line that its trace keeps."""

MOST_REASONS = 100
"""A processor with more distinct reasons than this in one batch is failing in one way."""

ORIGIN = ("line", "line_number", "raw", "letter")

NOISE = r"""0[xX][0-9a-fA-F]+|[0-9]+|'[^']*'|"[^"]*\""""
"""What makes messages of the same failure differ: numbers, hex, quoted values."""


class Flow(NamedTuple):
    """Rows on their way, and the paths they may have come by.

    With one path there is no `_path` column; with more it indexes into them.
    """

    frame: pl.DataFrame
    paths: tuple[tuple[str, ...], ...]

    def rows(self, wanted: pl.DataFrame) -> Flow:
        """Return a flow of some of the rows."""
        return Flow(wanted, self.paths)


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
        delivery = Delivery(id=batch.id, token=token, source=batch.source, out=self._out)
        one = _Pass(plan, self._processors, batch, sleep=self._sleep, delivery=delivery)
        self._staged = one.staged
        one.go()
        self._states = {
            name: json.dumps(processor.state())
            for name, processor in self._processors.items()
            if isinstance(processor, Stateful)
        }
        return one.outcome(
            states=self._states,
            outputs=[output for staged in one.staged for output in staged.outputs],
            version=plan.version,
            run=self._run,
            slot=self._slot,
            seconds=time.perf_counter() - started,
        )

    def trial(self, batch: Batch) -> Outcome:
        """Run a batch with no lasting effect: nothing is staged, no state is kept."""
        one = _Pass(self._prepare(), self._processors, batch, sleep=self._sleep)
        one.go()
        self.undo()
        return one.outcome()

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
                processor.restore(self._state_of(name))

    def _prepare(self) -> Plan:
        """Take the pipeline as it is now, with an own copy of what is stateful in it."""
        plan = self._pipeline.plan()
        originals = {name: node.processor for name, node in plan.nodes.items()}
        for name, original in originals.items():
            if self._originals.get(name) is original:
                continue
            own = copy.deepcopy(original) if isinstance(original, Stateful) else original
            if isinstance(own, Stateful):
                own.restore(self._state_of(name))
            self._processors[name] = own
        self._originals = originals
        self._processors = {name: self._processors[name] for name in originals}
        return plan

    def _state_of(self, name: str) -> Any:
        return json.loads(self._committed.get(name, "null"))


class _Pass:
    """One batch on its way through one plan."""

    def __init__(
        self,
        plan: Plan,
        processors: Mapping[str, Any],
        batch: Batch,
        *,
        sleep: Callable[[float], None] = time.sleep,
        delivery: Delivery | None = None,
        watch: Callable[[str, Flow, Flow, list[Bad]], None] | None = None,
    ) -> None:
        frame = batch.frame().with_row_index("_row")
        self.origin = frame.select(name for name in ("_row", *ORIGIN) if name in frame.columns)
        self.staged: list[Staged] = []
        self._plan = plan
        self._processors = processors
        self._batch = batch
        self._sleep = sleep
        self._delivery = delivery
        self._watch = watch
        self._frame = frame.drop("raw", "letter", strict=False)
        self._copied = False
        self._inbox: dict[str, list[Flow]] = {}
        self._tallies: dict[str, Tally] = {}
        self._ended: list[pl.Series] = []
        self._letters: list[pl.DataFrame] = []
        self._failures: list[Failure] = []
        self._errors: list[tuple[str, str, str, int, str]] = []
        self._traced: list[pl.DataFrame] = []
        self._paths: dict[tuple[str, ...], int] = {}
        self._trace_from = max(0, frame.height - TRACE_LINES)

    def go(self) -> None:
        """Run every processor that lines come to, in the plan's order."""
        self._route(INPUT, Flow(self._frame, ((),)))
        for node in self._plan.order:
            flows = self._inbox.pop(node.name, [])
            if flows:
                flow = _merge(flows)
                if node.is_sink:
                    flow = self._living(flow)
                if not flow.frame.is_empty():
                    self._route(node.name, self._step(node, flow))

    def outcome(self, **rest: Any) -> Outcome:
        """Tell what became of the batch, counted in source lines."""
        letters = self._gather_letters()
        total, dead = self.origin.height, letters.height
        if self._copied:
            ended = pl.concat([pl.Series("_row", [], pl.UInt32), *self._ended]).unique()
            done = ended.len() - int(ended.is_in(letters["_row"].implode()).sum())
        else:
            done = sum(len(rows) for rows in self._ended)
        return Outcome(
            done=done,
            filtered=total - done - dead,
            dead=dead,
            tallies=self._tallies,
            letters=letters.select(LETTER_SCHEMA.keys()),
            failures=self._failures,
            passed=self._passed(letters),
            errors=self._errors,
            trace=self._trace(),
            **rest,
        )

    def _step(self, node: Node, flow: Flow) -> Flow:
        flow = Flow(flow.frame, tuple((*path, node.name) for path in flow.paths))
        processor = self._processors[node.name]
        started = time.perf_counter()
        result = run_isolated(
            processor,
            self._caller(node, processor, flow),
            flow.frame,
            retry=node.retry,
            timeout=node.timeout,
            sleep=self._sleep,
        )
        seconds = time.perf_counter() - started
        out = flow.rows(result.good.sort("_row") if result.retries else result.good)
        bad_rows = sum(bad.rows.height for bad in result.bad)
        filtered = self._count_filtered(flow, out, result.bad)
        dropped = 0
        if bad_rows:
            dropped = self._fail(node, flow, result.bad)
        self._tallies[node.name] = Tally(
            received=flow.frame.height,
            emitted=out.frame.height,
            filtered=filtered + dropped,
            errors=result.errors,
            retries=result.retries,
            dead=bad_rows - dropped,
            seconds=seconds,
        )
        self._note_retries(node, result)
        if filtered:
            self._trace_filtered(flow, out, result.bad)
        if self._watch:
            self._watch(node.name, flow, out, result.bad)
        return out

    def _caller(
        self, node: Node, processor: Any, flow: Flow
    ) -> Callable[[pl.DataFrame], pl.DataFrame]:
        if node.is_sink:
            return lambda frame: self._stage(processor, flow.rows(frame))
        takes_batch = _takes_batch(processor)

        def call(frame: pl.DataFrame) -> pl.DataFrame:
            out = processor(frame, self._batch) if takes_batch else processor(frame)
            return _checked(out, frame)

        return call

    def _stage(self, sink: Any, flow: Flow) -> pl.DataFrame:
        if self._delivery is not None:
            part = len(self.staged)
            named = Delivery(
                id=f"{self._delivery.id}-{part}" if part else self._delivery.id,
                token=self._delivery.token,
                source=self._delivery.source,
                out=self._delivery.out,
            )
            self.staged.append(sink.stage(_for_sink(flow), named))
        return flow.frame

    def _route(self, name: str, flow: Flow) -> None:
        """Send rows on: a copy down every tee, each row down its first branch."""
        children = self._plan.children[name]
        if not children:
            self._end(flow)
            return
        rest, otherwise = flow, None
        for node in children:
            if node.tee:
                self._copied = True
                self._send(node, flow if node.when is None else self._split(node, flow)[0])
            elif node.when is None:
                otherwise = node
            else:
                taken, rest = self._split(node, rest)
                self._send(node, taken)
        if otherwise is not None:
            self._send(otherwise, rest)
        elif not rest.frame.is_empty() and any(not node.tee for node in children):
            self._record_trace(rest, "filtered")
        elif not rest.frame.is_empty():
            self._end(rest)

    def _split(self, node: Node, flow: Flow) -> tuple[Flow, Flow]:
        if flow.frame.is_empty():
            return flow, flow
        try:
            holds = flow.frame.select(node.when.fill_null(value=False)).to_series()  # type: ignore[union-attr]
            return flow.rows(flow.frame.filter(holds)), flow.rows(flow.frame.filter(~holds))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            self._fail_branch(node, flow, error)
            return flow.rows(flow.frame.clear()), flow.rows(flow.frame.clear())

    def _send(self, node: Node, flow: Flow) -> None:
        if not flow.frame.is_empty():
            self._inbox.setdefault(node.name, []).append(flow)

    def _end(self, flow: Flow) -> None:
        if not flow.frame.is_empty():
            self._ended.append(flow.frame["_row"])
            self._record_trace(flow, "done")

    def _living(self, flow: Flow) -> Flow:
        """Leave out lines of which another copy has died."""
        if not (self._copied and self._letters):
            return flow
        dead = pl.concat([letters["_row"] for letters in self._letters])
        return flow.rows(flow.frame.filter(~pl.col("_row").is_in(dead.implode())))

    def _count_filtered(self, flow: Flow, out: Flow, bad: list[Bad]) -> int:
        """Count the rows that a processor dropped, and notice rows that it copied."""
        before, after = flow.frame["_row"], out.frame["_row"]
        rejected = [one.rows["_row"] for one in bad]
        if len(before) == len(after) and (before == after).all():
            return 0
        left = pl.concat([after, *rejected])
        if not bad and (after.diff().drop_nulls() > 0).all():
            return len(before) - len(after)
        unique = left.n_unique()
        if unique != len(left):
            self._copied = True
        return before.n_unique() - unique

    def _fail(self, node: Node, flow: Flow, bad: list[Bad]) -> int:
        """Bury the rows that failed, or do what else the node's policy says.

        Returns how many rows were dropped instead of buried.
        """
        for one in bad:
            summary = (node.name, one.error or one.code, one.reasons[0], one.rows.height)
            if node.on_error == "stop":
                raise ProcessorStop(
                    f"processor {node.name!r} failed on {summary[3]} lines, and its policy is to "
                    f"stop: {summary[1]}: {summary[2]}"
                )
            dropped = node.on_error == "drop"
            self._errors.append((*summary, "dropped" if dropped else "dead"))
            if dropped:
                self._record_trace(flow.rows(one.rows), "filtered")
            else:
                self._bury(node.name, flow.rows(one.rows), one)
        return sum(one.rows.height for one in bad) if node.on_error == "drop" else 0

    def _fail_branch(self, node: Node, flow: Flow, error: BaseException) -> None:
        text = str(error).split("\n", maxsplit=1)[0]
        reasons = pl.Series([f"when= of {node.name!r} cannot be evaluated: {text}"]).new_from_index(
            0, flow.frame.height
        )
        bad = Bad(flow.frame, "when", reasons, type(error).__name__)
        dropped = self._fail(node, flow, [bad])
        rows = flow.frame.height
        self._tallies[node.name] = Tally(
            received=rows, errors=rows, filtered=dropped, dead=rows - dropped
        )

    def _bury(self, processor: str, flow: Flow, bad: Bad) -> None:
        """Make dead letters of rows that failed alike."""
        frame = flow.frame
        path = frame["_path"] if "_path" in frame.columns else pl.lit(0, pl.UInt32).alias("_path")
        alike = bad.reasons.str.replace_all(NOISE, "#").str.head(200).alias("alike")
        if alike.n_unique() > MOST_REASONS:
            alike = pl.Series("alike", [""]).new_from_index(0, frame.height)
        rows = frame.select("_row").with_columns(
            path,
            alike,
            bad.reasons.alias("message"),
            _payloads(frame),
            attempts=pl.lit(bad.attempts, pl.Int64),
        )
        kinds = rows.select("alike", "_path").unique(maintain_order=True)
        kinds = kinds.with_row_index("failure", offset=len(self._failures))
        for _, text, index in kinds.iter_rows():
            self._failures.append(
                Failure(
                    fingerprint=_fingerprint(processor, bad.code, bad.error, text),
                    processor=processor,
                    code=bad.code,
                    error=bad.error,
                    traceback=bad.traceback,
                    path=flow.paths[index],
                )
            )
        keys = ["alike", "_path"]
        self._letters.append(
            rows.join(kinds, on=keys, how="left", maintain_order="left").drop(keys)
        )
        self._record_trace(flow, "dead")

    def _gather_letters(self) -> pl.DataFrame:
        """Join the rows that died with the lines they came from, one letter a line."""
        if not self._letters:
            return pl.DataFrame(schema={"_row": pl.UInt32, **LETTER_SCHEMA})
        dead = pl.concat(self._letters)
        if self._copied:
            dead = dead.unique("_row", keep="first", maintain_order=True)
        dead = dead.sort("_row").join(self.origin, on="_row", how="left", maintain_order="left")
        missing = [
            pl.lit(None, dtype).alias(name)
            for name, dtype in LETTER_SCHEMA.items()
            if name not in dead.columns
        ]
        return dead.with_columns(missing).with_columns(lines=pl.lit(1, pl.Int64))

    def _passed(self, letters: pl.DataFrame) -> list[int]:
        """Return the ids of the replayed dead letters that did not die again."""
        if "letter" not in self.origin.columns:
            return []
        again = letters["letter"].drop_nulls()
        ids = self.origin["letter"].drop_nulls()
        return ids.filter(~ids.is_in(again.implode())).to_list()

    def _note_retries(self, node: Node, result: Result) -> None:
        if result.retries and not result.bad:
            text = f"{result.errors} lines failed and then passed"
            self._errors.append((node.name, "retried", text, result.errors, "retried"))

    def _trace_filtered(self, flow: Flow, out: Flow, bad: list[Bad]) -> None:
        left = pl.concat([out.frame["_row"], *(one.rows["_row"] for one in bad)])
        recent = flow.frame.filter(pl.col("_row") >= self._trace_from)
        gone = recent.filter(~pl.col("_row").is_in(left.implode()))
        self._record_trace(flow.rows(gone), "filtered")

    def _record_trace(self, flow: Flow, state: str) -> None:
        frame = flow.frame.filter(pl.col("_row") >= self._trace_from)
        if frame.is_empty():
            return
        ids = [self._paths.setdefault(path, len(self._paths)) for path in flow.paths]
        path = (
            pl.lit(ids[0], pl.UInt32).alias("path")
            if len(ids) == 1
            else pl.Series("path", ids, pl.UInt32).gather(frame["_path"])
        )
        self._traced.append(frame.select("_row").with_columns(path, state=pl.lit(state)))

    def _trace(self) -> Trace | None:
        if not self._traced:
            return None
        lines = self.origin.tail(TRACE_LINES).select(
            "_row", pl.col("line").str.head(LONGEST_TRACED), "line_number"
        )
        ends = pl.concat(self._traced).sort("_row", maintain_order=True).tail(TRACE_LINES)
        joined = ends.join(lines, on="_row", how="left", maintain_order="left").drop("_row")
        per_line = {
            name: tally.seconds / max(1, tally.received) for name, tally in self._tallies.items()
        }
        paths = [[(name, per_line.get(name, 0.0)) for name in path] for path in self._paths]
        return Trace(joined, paths)


def _merge(flows: list[Flow]) -> Flow:
    """Join the rows of several branches in the lines' original order."""
    if len(flows) == 1:
        return flows[0]
    paths: list[tuple[str, ...]] = []
    frames = []
    for flow in flows:
        start = len(paths)
        paths += flow.paths
        own = pl.col("_path") if "_path" in flow.frame.columns else pl.lit(0, pl.UInt32)
        frames.append(flow.frame.with_columns((own + start).cast(pl.UInt32).alias("_path")))
    frame = pl.concat(frames, how="diagonal_relaxed").sort("_row", maintain_order=True)
    return _compact(Flow(frame, tuple(paths)))


def _compact(flow: Flow) -> Flow:
    """Forget paths that no row has come by, once there are many."""
    if len(flow.paths) <= MOST_REASONS:
        return flow
    used = flow.frame["_path"].unique().sort()
    new = pl.col("_path").replace_strict(used, range(len(used)), return_dtype=pl.UInt32)
    return Flow(flow.frame.with_columns(new), tuple(flow.paths[old] for old in used))


def _checked(out: Any, frame: pl.DataFrame) -> pl.DataFrame:
    """Return what a processor gave back, with the pipeline's own columns in it."""
    if isinstance(out, pl.LazyFrame):
        out = out.collect()
    if not isinstance(out, pl.DataFrame):
        raise PipelineError(
            f"the processor returned {type(out).__name__}, not a Polars DataFrame; return the frame"
        )
    lost = [name for name in ("_row", "_path") if name in frame.columns and name not in out.columns]
    if lost and out.height != frame.height:
        raise PipelineError(
            f"the processor returned {out.height} rows for {frame.height} without the column "
            f"{lost[0]!r}, so that rows cannot be told apart; keep the columns that begin with '_'"
        )
    return out.hstack(frame.select(lost)) if lost else out


def _for_sink(flow: Flow) -> pl.DataFrame:
    """Return the rows as a sink wants them: the user's columns, and `path` as text."""
    frame = flow.frame
    if "path" in frame.columns:
        frame = frame.rename({"path": "path_"})
    texts = [" → ".join(path[:-1]) for path in flow.paths]
    path = (
        pl.lit(texts[0]).alias("path")
        if len(texts) == 1
        else pl.Series("path", texts).gather(frame["_path"])
    )
    public = [name for name in frame.columns if not name.startswith("_")]
    return frame.select(public).with_columns(path)


def _payloads(frame: pl.DataFrame) -> pl.Series:
    """Return each row's columns as JSON text, without those that every line has."""
    left_out = {"line", "line_number", "source"}
    own = [name for name in frame.columns if not name.startswith("_") and name not in left_out]
    writable = [
        pl.col(name).bin.encode("hex") if frame.schema[name] == pl.Binary else pl.col(name)
        for name in own
        if frame.schema[name] != pl.Object
    ]
    if not writable:
        return pl.Series("payload", [None], pl.String).new_from_index(0, frame.height)
    return frame.select(pl.struct(writable).struct.json_encode().alias("payload")).to_series()


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _takes_batch(processor: Any) -> bool:
    """Say whether a processor has a second parameter without a default."""
    try:
        parameters = inspect.signature(processor).parameters.values()
    except (TypeError, ValueError):
        return False
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in places and one.default is one.empty]
    return len(needed) > 1


@dataclass(frozen=True, slots=True)
class Hop:
    """One processor that a line passed: the rows before it and after it, and its errors."""

    processor: str
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]
    errors: list[str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a pipeline does with one line, hop by hop; `state` is done, filtered or dead."""

    line: str
    state: str
    hops: list[Hop]

    def __str__(self) -> str:
        text = [f"{self.line!r} → {self.state}"]
        for hop in self.hops:
            text.append(f"  {hop.processor}")
            text += [f"    {key}: {old!r} → {new!r}" for key, old, new in _changes(hop)]
            text += [f"    error: {error}" for error in hop.errors]
        return "\n".join(text)

    def _repr_html_(self) -> str:
        rows = []
        for hop in self.hops:
            changes = [f"{key}: {old!r} → {new!r}" for key, old, new in _changes(hop)]
            cell = "<br>".join(html.escape(text) for text in (*changes, *hop.errors))
            rows.append(f"<tr><td>{html.escape(hop.processor)}</td><td>{cell}</td></tr>")
        title = f"{html.escape(self.line)} → {html.escape(self.state)}"
        return f"<table><caption>{title}</caption><tbody>{''.join(rows)}</tbody></table>"


def explain(pipeline: Pipeline, line: str | bytes, *, format: str | None = None) -> Explanation:
    """Run one line with no side effects; see `Pipeline.explain`."""
    hops: list[Hop] = []

    def watch(name: str, flow: Flow, out: Flow, bad: list[Bad]) -> None:
        errors = [f"{one.error or one.code}: {one.reasons[0]}" for one in bad]
        hops.append(Hop(name, _public(flow.frame), _public(out.frame), errors))

    plan = pipeline.plan()
    own = {name: copy.deepcopy(node.processor) for name, node in plan.nodes.items()}
    batch = Batch.from_lines([line], source="explain", format=format)
    one = _Pass(plan, own, batch, sleep=lambda _seconds: None, watch=watch)
    one.go()
    outcome = one.outcome()
    state = "dead" if outcome.dead else "done" if outcome.done else "filtered"
    return Explanation(one.origin["line"][0], state, hops)


def _public(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return frame.select(pl.exclude("^_.*$")).to_dicts()


def _changes(hop: Hop) -> list[tuple[str, Any, Any]]:
    """Return what a hop changed in the line's first row: name, before, after."""
    before = hop.before[0] if hop.before else {}
    after = hop.after[0] if hop.after else {}
    return [
        (key, before.get(key), value)
        for key, value in after.items()
        if key not in before or before[key] != value
    ]
