"""What people do in the control room: commands that the pump runs, by name."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from etl.analysis.overview import LEVELS
from etl.analysis.traces import traces
from etl.dlq.dead_letters import DeadLetters
from etl.errors import UsageError
from etl.execution.dry_run import Hop
from etl.notebook.control_room.panels import HINTS, RANGES, SIMULATED
from etl.notebook.control_room.snapshot import MAX_TRACES, trace_key
from etl.records.batch import Batch
from etl.sources.files import FileSource
from etl.sources.ingest import ingest
from etl.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from etl.execution.dry_run import Explanation
    from etl.notebook.control_room.control_room import ControlRoom

__all__ = ["Actions"]

T = TypeVar("T")

CHUNK = 1 << 16
"""Bytes of a fed file that make a batch, so that its progress can be seen."""

MAX_BATCHES = 1000
"""Batches that a burst is put as, at most."""

MAX_UNDO = 10_000
"""Dead letters of which a discard can be undone with a click."""

MAX_TRIED = 1_000
"""Dead letters whose new reason is kept of a dry run."""

SAMPLED = 100
"""Lines of a file that are tried on the pipeline before it is fed."""

MESSAGES = {
    "DEBUG": "cache {} refreshed",
    "INFO": "user {} logged in",
    "WARNING": "disk {} is 91 % full",
    "ERROR": "request {} timed out after 30 s",
    "CRITICAL": "node {} lost power",
}
"""Text of simulated lines, by level."""

SAME = ("source", "line_number")
"""Columns that no hop changes."""


class Actions:
    """The commands of one control room.

    Attributes:
        by_name: Command by the name that the panels know it by; each takes one argument.
        feed: What is being fed, or None.
    """

    def __init__(self, room: ControlRoom, files: Mapping[str, Path]) -> None:
        self.feed: Feed | None = None
        self._room = room
        self._files = files
        self._made = 0
        self._asked = ""  # a file that was said not to fit
        self.by_name: dict[str, Callable[[Any], None]] = {
            "Pause": self._pause,
            "Resume": self._resume,
            "Step": self._step,
            "Drain": self._drain,
            "Demo": lambda _: room.open_demo(shown=not room.demo_is_open),
            **{level: partial(self._simulate, level) for level in SIMULATED},
            "Burst": self._burst,
            "Feed": self._feed,
            "Upload": self._feed_upload,
            "stop-feed": self._stop_feed,
            "Pace": self.set_pace,
            "hint": self._hint,
            "look": self._look,
            "range": self._range,
            "tab": self._tab,
            "trace": self._choose_trace,
            "tap": self._tap,
            "choose": self._choose_kind,
            "choose-line": self._choose_line,
            "dry-run": self._dry_run,
            "replay": self._replay,
            "replay-passing": self._replay_passing,
            "replay-edited": self._replay_edited,
            "discard": self._discard,
            "undo": self._reopen,
        }

    # Workers

    def _say(self, text: str) -> None:
        self._room.operator.said.say(text)

    def _pause(self, _: Any) -> None:
        room = self._room
        room.queue.pause()
        waiting = room.queue.stats().waiting
        lines = f"{waiting:,} {'line waits' if waiting == 1 else 'lines wait'}"
        self._say(f"Paused. {lines if waiting else 'New lines wait'} until you resume.")

    def _resume(self, _: Any) -> None:
        self._room.queue.resume()
        self.set_pace()
        self._say("Resumed.")

    def _step(self, _: Any) -> None:
        self._room.queue.step()
        self._say("One batch is let through.")

    def _drain(self, _: Any) -> None:
        self._room.queue.drain()
        self._say("Draining: workers end once the queue is empty; Resume starts them again.")

    def set_pace(self, _: Any = None) -> None:
        """Give the control room's workers the number and the pace that are set."""
        demo, thread_workers = self._room.demo, self._room.thread_workers
        if thread_workers is None or any(
            one.problem for one in (demo.interval, demo.batch_lines, demo.workers)
        ):
            return
        thread_workers.set_pace(demo.interval.widget.value, demo.batch_lines.widget.value)
        thread_workers.set_size(demo.workers.widget.value)

    # The screen

    def _hint(self, step: int | None) -> None:
        at = self._room.hint
        self._room.hint = None if step is None or at is None else min(at + step, len(HINTS) - 1)

    def _look(self, seen: Mapping[str, Any]) -> None:
        self._room.look(dark=seen["dark"], width=seen["width"], height=seen["height"])

    def _range(self, name: str) -> None:
        self._room.view.seconds = RANGES[name]

    def _tab(self, name: str) -> None:
        self._room.view.tab = name

    # Lines

    def _made_line(self, level: str) -> str:
        self._made += 1
        return f"{level} {MESSAGES[level].format(self._made)}"

    def _simulate(self, level: str, _: Any) -> None:
        batch = Batch.from_lines([self._made_line(level)], source="control room")
        self._room.queue.put(batch, block=False)
        self._say(f"One {level} line queued.")

    def _burst(self, _: Any) -> None:
        demo, queue = self._room.demo, self._room.queue
        if problem := demo.lines.problem or demo.batch_lines.problem:
            raise UsageError(problem)
        count = demo.lines.widget.value
        levels = random.choices(LEVELS, demo.weights(), k=count)
        lines = [self._made_line(level) for level in levels]
        size = max(demo.batch_lines.widget.value, -(-count // MAX_BATCHES))
        batches = [
            Batch.from_lines(lines[start : start + size], source="burst")
            for start in range(0, count, size)
        ]
        self._room.later(
            "Burst",
            lambda: queue.put(*batches, block=False),
            lambda _nothing: self._say(f"{count:,} lines queued."),
        )

    def _feed(self, _: Any) -> None:
        path = self._files.get(self._room.demo.file.value)
        if path is None:
            raise UsageError("there is no file to feed; upload one")
        self._feed_file(FileSource(path.name, path, chunk=CHUNK))

    def _feed_upload(self, _: Any) -> None:
        upload = self._room.demo.upload
        for item in upload.value:
            folder = tempfile.TemporaryDirectory(prefix="etl-upload-")
            path = Path(folder.name, "upload")
            path.write_bytes(item["content"])
            source = FileSource(item["name"], path, by_reference=False, chunk=CHUNK)
            self._feed_file(source, folder.cleanup)
        if upload.value:
            upload.value = ()

    def _feed_file(self, source: FileSource, after: Callable[[], None] = lambda: None) -> None:
        room = self._room
        if self.feed is not None:
            raise UsageError(f"{self.feed.source.name} is being fed; stop it first")
        if self._asked != source.name and (fails := self._failing(source)):
            self._asked = source.name
            after()
            raise UsageError(f"{fails}; press Feed again to feed it all the same")
        self._asked = ""
        self.feed = feed = Feed(source, room.queue)

        def done(lines: int) -> None:
            self.feed = None
            ended = "stopped" if feed.stopping.is_set() else "fed"
            self._say(f"{lines:,} lines of {source.name} {ended}.")

        def failed() -> None:
            self.feed = None

        def run() -> int:
            try:
                return feed.run()
            finally:
                after()

        room.later("Feed", run, done, failed)

    def _failing(self, source: FileSource) -> str:
        """Return what is to be said of a file of which the pipeline reads less than half."""
        dead, lines = self._fails(source)
        if dead * 2 < max(1, lines):
            return ""
        return f"{dead} of the first {lines} lines of {source.name} would fail on this pipeline"

    def choose_file(self) -> None:
        """Offer first a file of which the pipeline reads nearly all."""
        for name, path in self._files.items():
            if self._room.pipeline and self._fails(FileSource(name, path))[0] == 0:
                self._room.demo.file.value = name
                return

    def _fails(self, source: FileSource) -> tuple[int, int]:
        """Return how many of a file's first lines would fail on the pipeline, and of how many."""
        pipeline = self._room.pipeline
        with source.path.open("rb") as file:
            lines = [line for _, line in zip(range(SAMPLED), file, strict=False)]
        if pipeline is None or not lines:
            return 0, 0
        return pipeline.dry_run(Batch.from_lines(lines, source=source.name)).dead, len(lines)

    def _stop_feed(self, _: Any) -> None:
        if self.feed is not None:
            self.feed.stopping.set()

    # Dead letters

    def _which(self, detail: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return which dead letters: those of a kind, or all."""
        fingerprint = (detail or {}).get("fingerprint")
        return {"fingerprint": fingerprint} if fingerprint else {}

    def _answer(self, text: str, undo: Any = None) -> None:
        panel = self._room.dead_letters
        panel.say(text, undo=undo, drawer=self._room.view.kind is not None)

    def _choose_kind(self, fingerprint: str | None) -> None:
        self._room.view.kind, self._room.view.dead_letter = fingerprint, None

    def _choose_line(self, id: int) -> None:
        self._room.view.dead_letter = int(id)

    def _dry_run(self, detail: Mapping[str, Any] | None) -> None:
        room, which = self._room, self._which(detail)
        if (pipeline := room.pipeline) is None:
            raise UsageError("a dry run needs the pipeline; this room was opened without one")
        version = pipeline.version
        dead_letters = DeadLetters(room.queue)

        def done(result: Any) -> None:
            passes, fails = result.would_pass, result.would_fail
            room.dead_letters.tried = {
                "kind": which.get("fingerprint"),
                "at": time.time(),
                "version": version,
                "passes": passes,
                "reasons": {id: result.reasons.get(id, "cannot be read") for id in fails},
            }
            if not which:
                self._answer(f"{len(passes):,} of {len(passes) + len(fails):,} pass now.")

        room.later("Dry run", lambda: dead_letters.dry_run(pipeline, **which), done)

    def _replay(self, detail: Mapping[str, Any] | None) -> None:
        work = partial(DeadLetters(self._room.queue).replay, **self._which(detail))
        self._room.later("Replay", work, self._requeued)

    def _requeued(self, count: int) -> None:
        wait = "" if self._room.queue.read("workers") else " No worker is running: start etl work."
        self._answer(f"{counted(count, 'line')} requeued.{wait}")
        self._room.dead_letters.tried = None
        self._room.follow_replayed()

    def _replay_passing(self, _: Any) -> None:
        tried = self._room.dead_letters.tried or {}
        ids = list(tried.get("passes", ()))
        work = partial(DeadLetters(self._room.queue).replay, ids=ids)
        self._room.later("Replay", work, self._requeued)

    def _replay_edited(self, detail: Mapping[str, Any]) -> None:
        dead_letters = DeadLetters(self._room.queue)
        edited: pd.DataFrame = dead_letters.frame(ids=[int(detail["id"])])
        dead_letters.replay(edited=edited.assign(line=detail["line"]))
        self._requeued(1)

    def _discard(self, detail: Mapping[str, Any] | None) -> None:
        queue, which = self._room.queue, self._which(detail)
        dead_letters = DeadLetters(queue)

        def work() -> tuple[int, list[int] | None]:
            lines = int(detail["lines"]) if detail else 0
            if lines > MAX_UNDO:
                return dead_letters.discard(**which), None
            ids = [int(id) for id in dead_letters.frame(**which)["id"]]
            return dead_letters.discard(ids=ids), ids

        def done(found: tuple[int, list[int] | None]) -> None:
            count, ids = found
            self._room.view.kind = None
            self._answer(f"{counted(count, 'dead letter')} discarded.", undo=ids)

        self._room.later("Discard", work, done)

    def _reopen(self, ids: list[int]) -> None:
        work = partial(DeadLetters(self._room.queue).reopen, ids=ids)
        self._room.later(
            "Undo",
            work,
            lambda count: self._answer(
                f"{count:,} {'dead letter is' if count == 1 else 'dead letters are'} open again."
            ),
        )

    # Traces

    def _choose_trace(self, key: str) -> None:
        room = self._room
        room.view.trace = None if key == room.view.trace else key
        rows = traces.polars(room.queue, MAX_TRACES).to_dicts() if room.view.trace else []
        trace = next((row for row in rows if trace_key(row) == key), None)
        room.traced = trace
        if trace is None or room.pipeline is None:
            room.tabs.trace = trace and _explained(trace, None)
        else:
            work = partial(room.pipeline.explain, trace["line"])

            def show(found: Explanation) -> None:
                room.tabs.trace = _explained(trace, found)

            room.later("Trace", work, show)

    def _tap(self, wanted: Mapping[str, Any]) -> None:
        """Open a tap, or close the one that is open; the rows it has seen stay on the screen."""
        room = self._room
        if room.tapped is not None:
            room.show_tap(None)
            return
        condition = str(wanted["where"]).strip()
        where = pl.sql_expr(condition) if condition else None
        limit = int(wanted["limit"] or 5)
        if not 1 <= limit <= 50:
            raise UsageError("rows: 1 to 50")
        work = partial(room.tap, wanted["processor"], where=where, limit=limit)
        room.later("Tap", work, room.show_tap)


class Feed:
    """A file that is being fed.

    Args:
        source: The file.
        queue: Where to.

    Attributes:
        stopping: Ends it after its batch.
    """

    def __init__(self, source: FileSource, queue: Any) -> None:
        self.source, self.stopping = source, threading.Event()
        self._queue, self._size = queue, max(1, source.size)
        self._read, self._began = 0, time.monotonic()

    @property
    def share(self) -> float:
        """How much of the file has been fed: 0 to 1."""
        return min(1.0, self._read / self._size)

    @property
    def seconds_left(self) -> float | None:
        """How long it takes yet at the rate until now; None at the beginning."""
        passed = time.monotonic() - self._began
        return passed * (1 - self.share) / self.share if self.share > 0 and passed > 1 else None

    def run(self) -> int:
        """Put the file's lines and return how many."""
        lines = 0
        for part in ingest(self._queue, self.source, reread=True):
            lines, self._read = lines + part.batch.lines, self._read + part.size
            if self.stopping.is_set():
                break
        return lines


def _explained(trace: Mapping[str, Any], explained: Explanation | None) -> dict[str, Any]:
    """Return one line before and after every hop, as far as its pipeline is known."""
    seconds = dict(zip(trace["path"], trace["hop_seconds"], strict=True))
    hops = explained.hops if explained else [Hop(name, [], [], []) for name in seconds]
    return {
        "key": trace_key(dict(trace)),
        "line": trace["line"][:500],
        "hops": [_hop_row(hop, seconds.get(hop.processor)) for hop in hops],
    }


def _hop_row(hop: Hop, seconds: float | None) -> dict[str, Any]:
    """Return a hop: its name, microseconds, and what it changed of the line's first row."""
    old, new = (rows[0] if rows else {} for rows in (hop.before, hop.after))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in SAME]
    ends = not hop.after and not hop.errors and hop.before
    errors = ["the line goes no further"] if ends else hop.errors
    after = [f"{key}: {new[key]!r}"[:200] for key in changed if key in new]
    return {
        "processor": hop.processor,
        "us": None if seconds is None else seconds * 1e6,
        "before": ", ".join(f"{key}: {old[key]!r}"[:200] for key in changed if key in old),
        "after": ", ".join([*after, *errors]),
        "failed": bool(errors),
    }
