"""What the control room's buttons do: commands that the pump runs, by name."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from etl.analysis.figures import LEVELS
from etl.analysis.traces import traces
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

T = TypeVar("T")

CHUNK = 1 << 16
"""Bytes of a fed file that make a batch, so that its progress can be seen."""

MAX_BATCHES = 1000
"""Batches that a burst is put as, at most."""

CONTROLS = {
    "Pause": "Paused: lines wait until you resume.",
    "Resume": "Resumed.",
    "Step": "One batch is let through.",
    "Drain": "Draining: workers end once the queue is empty. Resume starts them again.",
}
"""Buttons that call the queue's method of the same name, and what is said then."""

MESSAGES = {
    "DEBUG": "cache {} refreshed",
    "INFO": "user {} logged in",
    "WARNING": "disk {} is 91 % full",
    "ERROR": "request {} timed out after 30 s",
    "CRITICAL": "node {} lost power",
}
"""Text of simulated lines, by level."""


class Actions:
    """The commands of one control room.

    Attributes:
        by_name: Command by the name that the panels know it by.
        progress: Share of a file that has been fed, or None.
    """

    def __init__(self, room: ControlRoom, files: Mapping[str, Path]) -> None:
        self.progress: float | None = None
        self._room = room
        self._files = files
        self._made = 0
        self.by_name: dict[str, Callable[[], None]] = {
            **{name: partial(self._control, name) for name in CONTROLS},
            **{level: partial(self._simulate, level) for level in LEVELS},
            "Burst": self._burst,
            "Feed": self._feed,
            "Upload": self._feed_upload,
            "Pace": self.set_pace,
            "Dry-run": self._dry_run,
            "Replay": self._replay,
            "Edit and replay": self._replay_edited,
            "Discard": self._discard,
            "Choose group": lambda: None,  # the next drawing shows its lines
            "Choose dead letter": self._choose_dead_letter,
            "Choose trace": self._choose_trace,
            "Tap": self._tap,
        }

    def _say(self, text: str) -> None:
        self._room.header.say(text)

    def _in_background(self, text: str, work: Callable[[], T], said: Callable[[T], str]) -> None:
        self._say(text)
        self._room.later(work, lambda result: self._say(said(result)))

    # Workers

    def _control(self, name: str) -> None:
        getattr(self._room.queue, name.lower())()
        self._say(CONTROLS[name])
        if name == "Resume":
            self.set_pace()

    def set_pace(self) -> None:
        """Give the control room's workers the number and the pace that are set."""
        controls, thread_workers = self._room.controls, self._room.thread_workers
        if thread_workers is not None:
            thread_workers.set_pace(controls.interval.value, controls.batch_lines.value)
            thread_workers.set_size(controls.workers.value)

    # Lines

    def _line(self, level: str) -> str:
        self._made += 1
        return f"{level} {MESSAGES[level].format(self._made)}"

    def _simulate(self, level: str) -> None:
        batch = Batch.from_lines([self._line(level)], source="control room")
        self._room.queue.put(batch, block=False)
        self._say(f"One {level} line queued.")

    def _burst(self) -> None:
        controls, queue = self._room.controls, self._room.queue
        count = controls.lines.value
        levels = random.choices(list(LEVELS), controls.weights(), k=count)
        lines = [self._line(level) for level in levels]
        size = max(controls.batch_lines.value, -(-count // MAX_BATCHES))
        batches = [
            Batch.from_lines(lines[start : start + size], source="burst")
            for start in range(0, count, size)
        ]
        self._in_background(
            f"Queuing {count:,} lines …",
            lambda: queue.put(*batches, block=False),
            lambda _nothing: f"{count:,} lines queued.",
        )

    def _feed(self) -> None:
        path = self._files.get(self._room.controls.file.value)
        if path is None:
            raise UsageError("there is no file to feed; upload one")
        self._feed_file(FileSource(path.name, path, chunk=CHUNK))

    def _feed_upload(self) -> None:
        upload = self._room.controls.upload
        for item in upload.value:
            folder = tempfile.TemporaryDirectory(prefix="etl-upload-")
            path = Path(folder.name, "upload")
            path.write_bytes(item["content"])
            source = FileSource(item["name"], path, by_reference=False, chunk=CHUNK)
            self._feed_file(source, folder.cleanup)
        if upload.value:
            upload.value = ()

    def _feed_file(self, source: FileSource, after: Callable[[], None] = lambda: None) -> None:
        queue, size = self._room.queue, max(1, source.size)

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

        self._in_background(
            f"Feeding {source.name} …", work, lambda lines: f"{lines:,} lines of {source.name} fed."
        )

    # Dead letters

    def _chosen(self) -> tuple[DeadLetters, dict[str, Any]]:
        """Return the dead letters, and which of them: the chosen group, or all."""
        chosen = self._room.dead_letters.groups.chosen
        return DeadLetters(self._room.queue), {"fingerprint": chosen} if chosen else {}

    def _dry_run(self) -> None:
        dead_letters, which = self._chosen()
        if (pipeline := self._room.pipeline) is not None:
            self._in_background(
                "Trying the dead letters …",
                lambda: dead_letters.dry_run(pipeline, **which),
                lambda result: f"Dry-run: {result}.",
            )

    def _replay(self) -> None:
        dead_letters, which = self._chosen()
        work = partial(dead_letters.replay, **which)
        self._in_background("Replaying …", work, "{:,} lines wait again.".format)

    def _discard(self) -> None:
        dead_letters, which = self._chosen()
        work = partial(dead_letters.discard, **which)
        self._in_background("Discarding …", work, "{:,} dead letters discarded.".format)

    def _replay_edited(self) -> None:
        panel = self._room.dead_letters
        if panel.lines.chosen:
            dead_letters, _ = self._chosen()
            edited = dead_letters.frame(ids=[int(panel.lines.chosen)]).assign(line=panel.edit.value)
            dead_letters.replay(edited=edited)
            panel.lines.chosen = ""
            self._say("The edited line waits.")

    def _choose_dead_letter(self) -> None:
        panel = self._room.dead_letters
        wanted = DeadLetterFilter(ids=[int(panel.lines.chosen or 0)], status=None)
        found = self._room.queue.dead_letters(wanted).to_dicts()
        panel.show_dead_letter(found[0] if found else None)

    # Traces

    def _choose_trace(self) -> None:
        room, panel = self._room, self._room.traces
        rows = traces.polars(room.queue).to_dicts() if panel.lines.chosen else []
        trace = next((row for row in rows if trace_key(row) == panel.lines.chosen), None)
        room.traced = trace
        if trace is None or room.pipeline is None:
            panel.show_trace(trace, None)
        else:
            work = partial(room.pipeline.explain, trace["line"])
            room.later(work, partial(panel.show_trace, trace))

    def _tap(self) -> None:
        """Open a tap, or close the one that is open; the rows it has seen stay on the screen."""
        room, panel = self._room, self._room.traces
        if room.tapped is not None:
            room.show_tap(None)
            return
        where = pl.sql_expr(panel.where.value) if panel.where.value.strip() else None
        name, limit = panel.processor.value, panel.limit.value
        self._say(f"Tapping the rows behind {name} …")
        room.later(partial(room.tap, name, where=where, limit=limit), room.show_tap)
