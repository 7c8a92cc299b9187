"""What the console's buttons do: commands that the pump runs, by name."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.analysis.figures import LEVELS
from etl.dlq.dead_letters import DeadLetters
from etl.errors import UsageError
from etl.notebook.control_room.panels import trace_key
from etl.queue import DeadLetterFilter
from etl.records.batch import Batch
from etl.sources.files import FileSource
from etl.sources.ingest import ingest

if TYPE_CHECKING:
    from etl.notebook.control_room.control_room import ControlRoom

__all__ = ["Actions"]

CHUNK = 1 << 16
"""Bytes of a fed file that make a batch, so that one sees it go."""


MAX_BATCHES = 1000
"""Batches that a burst is put as, at most."""


SAYINGS = {
    "DEBUG": "cache {} refreshed",
    "INFO": "user {} logged in",
    "WARNING": "disk {} is 91 % full",
    "ERROR": "request {} timed out after 30 s",
    "CRITICAL": "node {} lost power",
}
"""What simulated lines say."""


class Actions:
    """The commands of one console.

    Attributes:
        by_name: Command by the name that the panels know it by.
        progress: Share of a file that has been fed, or None.
    """

    def __init__(self, console: ControlRoom, files: Mapping[str, Path]) -> None:
        self.progress: float | None = None
        self._console = console
        self._files = files
        self._made = 0
        self.by_name: dict[str, Callable[[], None]] = {
            "Pause": self._pause,
            "Resume": self._resume,
            "Step": self._step,
            "Drain": self._drain,
            "Burst": self._burst,
            "Feed": self._feed,
            "Upload": self._feed_upload,
            "Pace": self.set_pace,
            "Dry-run": self._dry_run,
            "Replay": self._replay,
            "Edit and replay": self._replay_edited,
            "Discard": self._discard,
            "Choose group": lambda: None,
            "Choose letter": self._choose_letter,
            "Choose trace": self._choose_trace,
            "Tap": self._tap,
            **{level: partial(self._simulate, level) for level in LEVELS},
        }

    def _say(self, text: str) -> None:
        self._console.header.say(text)

    # Workers

    def _pause(self) -> None:
        self._console.queue.pause()
        self._say("Paused: lines wait until you resume.")

    def _resume(self) -> None:
        self._console.queue.resume()
        self._say("Resumed.")
        self.set_pace()

    def _step(self) -> None:
        self._console.queue.step()
        self._say("One batch may go.")

    def _drain(self) -> None:
        self._console.queue.drain()
        self._say("Draining: workers end once nothing waits. Resume starts them again.")

    def set_pace(self) -> None:
        """Give the console's workers the number and the pace that are set."""
        controls, thread_workers = self._console.controls, self._console.thread_workers
        if thread_workers is not None:
            thread_workers.set_pace(controls.interval.value, controls.batch_lines.value)
            thread_workers.set_size(controls.workers.value)

    # Lines

    def _line(self, level: str) -> str:
        self._made += 1
        return f"{level} {SAYINGS[level].format(self._made)}"

    def _simulate(self, level: str) -> None:
        batch = Batch.from_lines([self._line(level)], source="console")
        self._console.queue.put(batch, block=False)
        self._say(f"One {level} line queued.")

    def _burst(self) -> None:
        controls, queue = self._console.controls, self._console.queue
        count, weights = controls.lines.value, controls.weights()
        drawn = random.choices(list(LEVELS), weights, k=count)
        lines = [self._line(level) for level in drawn]
        size = max(controls.batch_lines.value, -(-count // MAX_BATCHES))
        batches = [
            Batch.from_lines(lines[start : start + size], source="burst")
            for start in range(0, count, size)
        ]
        self._say(f"Queuing {count:,} lines …")
        self._console.later(
            lambda: queue.put(*batches, block=False),
            lambda _nothing: self._say(f"{count:,} lines queued."),
        )

    def _feed(self) -> None:
        path = self._files.get(self._console.controls.file.value)
        if path is None:
            raise UsageError("there is no file to feed; upload one")
        self._feed_file(FileSource(path.name, path, chunk=CHUNK))

    def _feed_upload(self) -> None:
        upload = self._console.controls.upload
        for item in upload.value:
            folder = tempfile.TemporaryDirectory(prefix="etl-upload-")
            path = Path(folder.name, "upload").with_suffix(Path(item["name"]).suffix)
            path.write_bytes(item["content"])
            source = FileSource(item["name"], path, by_reference=False, chunk=CHUNK)
            self._feed_file(source, folder.cleanup)
        if upload.value:
            upload.value = ()

    def _feed_file(self, source: FileSource, after: Callable[[], None] = lambda: None) -> None:
        queue, size = self._console.queue, max(1, source.size)

        def work() -> int:
            lines = read = 0
            self.progress = 0.0
            try:
                for part in ingest(queue, source, reread=True):
                    lines, read = lines + part.batch.lines, read + part.size
                    self.progress = min(1.0, read / size)
            finally:
                self.progress = None
                after()
            return lines

        self._say(f"Feeding {source.name} …")
        self._console.later(work, lambda lines: self._say(f"{lines:,} lines of {source.name} fed."))

    # Dead letters

    def _which(self) -> dict[str, Any]:
        chosen = self._console.dead_letters.groups.chosen
        return {"fingerprint": chosen} if chosen else {}

    def _dry_run(self) -> None:
        dead_letters, pipeline = DeadLetters(self._console.queue), self._console.pipeline
        which = self._which()
        if pipeline is not None:
            work = partial(dead_letters.dry_run, pipeline, **which)
            self._say("Trying the dead letters …")
            self._console.later(work, lambda result: self._say(f"Dry-run: {result}."))

    def _replay(self) -> None:
        work = partial(DeadLetters(self._console.queue).replay, **self._which())
        self._say("Replaying …")
        self._console.later(work, lambda count: self._say(f"{count:,} lines wait again."))

    def _replay_edited(self) -> None:
        dead_letters, panel = DeadLetters(self._console.queue), self._console.dead_letters
        if panel.lines.chosen:
            edited = dead_letters.frame(ids=[int(panel.lines.chosen)]).assign(line=panel.edit.value)
            dead_letters.replay(edited=edited)
            panel.lines.chosen = ""
            self._say("The edited line waits.")

    def _discard(self) -> None:
        work = partial(DeadLetters(self._console.queue).discard, **self._which())
        self._say("Discarding …")
        self._console.later(work, lambda count: self._say(f"{count:,} dead letters discarded."))

    def _choose_letter(self) -> None:
        chosen = self._console.dead_letters.lines.chosen
        wanted = DeadLetterFilter(ids=[int(chosen)] if chosen else [], status=None)
        rows = self._console.queue.dead_letters(wanted).to_dicts() if chosen else []
        self._console.dead_letters.show_dead_letter(rows[0] if rows else None)

    # Traces

    def _choose_trace(self) -> None:
        from etl.analysis.traces import trace_rows

        console = self._console
        chosen, pipeline = console.traces.lines.chosen, console.pipeline
        rows = trace_rows(console.queue) if chosen else []
        trace = next((row for row in rows if trace_key(row) == chosen), None)
        console.traced = trace
        if trace is None or pipeline is None:
            console.traces.show_trace(trace, None)
            return
        work = partial(pipeline.explain, trace["line"])
        console.later(work, lambda explained: console.traces.show_trace(trace, explained))

    def _tap(self) -> None:
        """Open a tap, or close the one that is open; the rows it has seen stay on the screen."""
        console, panel = self._console, self._console.traces
        if console.tapped is not None:
            console.show_tap(None)
            return
        where = pl.sql_expr(panel.where.value) if panel.where.value.strip() else None
        name, limit = panel.processor.value, panel.limit.value
        self._say(f"Tapping the stream behind {name} …")
        console.later(partial(console.tap, name, where=where, limit=limit), console.show_tap)
