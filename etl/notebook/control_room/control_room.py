"""The control room: watch and control a store from a notebook, or as a web page.

    room = ControlRoom(open_queue("sqlite:///q.db"), pipeline)
    room                   # shows it; more than once is fine
    room.close()

Widgets never run the engine. What a person does puts a command into a queue;
one thread, the pump, takes the commands and, at most five times a second,
reads a snapshot of the store and draws all of it. Without a pipeline the
control room watches and controls a store that workers elsewhere are working on.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import os
import queue as queues
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import ipywidgets as w

from etl.analysis.figures import charts, refresh
from etl.analysis.overview import OverviewReader
from etl.analysis.traces import traces
from etl.errors import EtlError, StoreError, UsageError
from etl.execution.dry_run import dry_run
from etl.execution.tap import Tap
from etl.notebook.control_room.actions import Actions
from etl.notebook.control_room.panels import (
    HINTS,
    RANGES,
    DeadLettersPanel,
    DemoPanel,
    OperatorPanel,
    TabsPanel,
    header,
    header_state,
)
from etl.notebook.control_room.snapshot import Snapshot, View, read_snapshot
from etl.notebook.control_room.view import Chart, Part
from etl.notebook.opening import Options
from etl.notebook.shipped import sample_folder
from etl.pipeline.load import load_pipeline
from etl.pipeline.pipeline import Pipeline
from etl.queue import Queue, Stats
from etl.records.batch import Batch
from etl.runs.registry import new_run_id, recorded_use
from etl.runs.run import output_folder
from etl.text import cell_text
from etl.workers.threads import ThreadWorkers

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ControlRoom", "attended"]

PERIOD = 0.2
"""Seconds between two drawings, at least."""

DATA = sample_folder()

DEAD_LETTERS = {
    *("Dry run", "dry-run", "Replay", "replay", "replay-passing", "replay-edited"),
    *("Discard", "discard", "Undo", "undo", "choose", "choose-line"),
}
"""Actions that are answered beside the dead letters."""

TAP = ("tap", "Tap")
"""Actions that are answered beside the tap; all others are beside the operator's buttons."""

Command = Callable[[], None]
T = TypeVar("T")


def attended() -> bool:
    """Return whether someone looks at this notebook: JupyterLab or Voilà runs it, not a batch."""
    server = os.environ.get("SERVER_SOFTWARE", "")
    return "JPY_SESSION_NAME" in os.environ or server.startswith("voila")


def _loaded(pipeline: Pipeline | str | None) -> Pipeline | None:
    return load_pipeline(pipeline) if isinstance(pipeline, str) else pipeline


class ControlRoom:
    """A live control room for one store.

    Args:
        queue: The store.
        pipeline: What the workers of this notebook run, or its name as `module:attr`; None if
            workers run elsewhere.
        interval: Seconds for which its workers hold a batch before they process it.
        batch_lines: Lines that they take together.
        workers: How many to start, as threads of this process.
        out: Folder that sinks write below; by default the store's output root, or that beside it.
        data: Folder of files that are offered to be fed.
        demo: Whether there are controls that make lines, which are open at first.
        problem: What is wrong from the start, in a sentence.

    Attributes:
        buttons: The operator's and the demo's buttons by their names.
        view: What of the store is looked at.
    """

    def __init__(
        self,
        queue: Queue,
        pipeline: Pipeline | str | None = None,
        *,
        data: Path = DATA,
        **options: Unpack[Options],
    ) -> None:
        self.queue, self.pipeline = queue, _loaded(pipeline)
        self.thread_workers: ThreadWorkers | None = None
        self.view = View()
        self.traced: dict[str, Any] | None = None
        self.tapped: Tap | None = None
        self.hint: int | None = 0
        self._commands: queues.SimpleQueue[Command] = queues.SimpleQueue()
        self._closing = threading.Event()
        self._awaiting: list[threading.Event] = []  # set once all is drawn
        self._record = contextlib.ExitStack()
        self.named = ""  # the pipeline, as the screen names it
        atexit.register(self.close)  # a thread that the interpreter ends may end it badly
        self._reached = True
        self._screen: dict[str, Any] = {"dark": False, "width": 676, "height": 172}
        self._build(sorted(data.glob("*.*l*")))
        self._open(queue, pipeline, lambda command: command(), **options)
        self._thread = threading.Thread(target=self._pump, name="etl-control-room", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"<ControlRoom on {self.queue.url}>"

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = self.box._repr_mimebundle_(**options)
        return bundle | {"text/plain": "A live control room: run this cell to see it."}

    # For cells

    def attach(
        self,
        queue: Queue,
        pipeline: Pipeline | str | None = None,
        **options: Unpack[Options],
    ) -> ControlRoom:
        """Show and control another store from now on, with the options of a new room."""
        self._open(queue, pipeline, self.do, **options)
        self.settle(idle=False)
        return self

    def settle(self, timeout: float = 60.0, *, idle: bool = True) -> Stats:
        """Wait until nothing waits and the screen shows it, and return the totals.

        Args:
            timeout: Seconds to wait at most.
            idle: Whether to wait for the workers too, or just for the screen.

        Raises:
            UsageError: If lines still wait after that time.
        """
        deadline = time.monotonic() + timeout
        while idle and not (stats := self.queue.stats()).idle:
            if time.monotonic() > deadline:
                raise UsageError(f"{stats.waiting} lines still wait after {timeout:g} s")
            self.queue.wait(self.queue.version(), 0.1)
        drawn = threading.Event()
        self.do(lambda: self._awaiting.append(drawn))
        drawn.wait(max(1.0, deadline - time.monotonic()))
        return self.queue.stats()

    def tap(self, processor: str, *, where: pl.Expr | None = None, limit: int = 20) -> Tap:
        """Return a tap of the rows that leave a processor; in a cell it shows them.

        It begins with the last lines that passed, as the pipeline now treats
        them, and continues with what the workers of this notebook process.

        Raises:
            UsageError: If there is no pipeline, no such processor, or `where` cannot be used.
        """
        if self.pipeline is None:
            raise UsageError("a tap needs the pipeline; give it to ControlRoom")
        tap = self.pipeline.tap(processor, where=where, limit=limit)
        rows = traces.polars(self.queue).iter_rows(named=True)
        lines = [row["line"] for row in rows if processor in row["path"]]
        dry_run(self.pipeline, Batch.from_lines(lines, source="tap"), watch=tap.see)
        tap.rows()
        return tap

    def close(self) -> None:
        """Stop the control room's thread and workers; what it showed stays. Twice is fine."""
        self._closing.set()
        self.do(lambda: None)
        self._thread.join(10)
        if self.thread_workers is not None:
            self.thread_workers.stop()
        self._record.close()

    # For the panels, on any thread

    def show_tap(self, tap: Tap | None) -> None:
        """Show the rows of a tap from now on, or no longer follow the one that is shown."""
        if self.tapped is not None:
            self.tapped.close()
        self.tapped = tap

    def open_demo(self, *, shown: bool) -> None:
        """Show the controls that make lines, or hide them."""
        self.demo_is_open = shown
        self.demo.open(shown=shown)
        switch = self.operator.demo
        (switch.add_class if shown else switch.remove_class)("etl-on")
        switch.icon = "times" if shown else "bolt"

    def look(self, *, dark: bool, width: int, height: int) -> None:
        """Draw the chart for a page of these colours, in so many pixels."""
        self._screen = {"dark": dark, "width": width, "height": height}

    def follow_replayed(self) -> None:
        """Show the paths of the lines that are processed next."""
        self.view.tab = "traces"

    def do(self, command: Command) -> None:
        """Have the pump run a command soon."""
        self._commands.put(command)

    def later(
        self,
        name: str,
        work: Callable[[], T],
        then: Callable[[T], None],
        failed: Command = lambda: None,
    ) -> None:
        """Do what may take long in a thread of its own; the pump is given the result.

        Args:
            name: What it is called if it fails.
            work: Does it.
            then: Takes the result.
            failed: Called before an error is shown.
        """

        def complain(error: Exception) -> None:
            failed()
            self._complain(error, name)

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - shown to the operator
                self.do(lambda error=error: complain(error))  # type: ignore[misc]
            else:
                self.do(lambda: self._guarded(lambda: then(result), name))

        threading.Thread(target=run, name="etl-control-room-job", daemon=True).start()

    # What is on the screen

    def _build(self, files: list[Path]) -> None:
        self._actions = Actions(self, {path.name: path for path in files})
        act, runs = self._act, self.pipeline is not None
        self.header, self.icons, self.graph = header(act), Part("queue", act), Part("pipeline", act)
        self.icons.add_class("etl-area-queue")
        self.graph.add_class("etl-area-pipe")
        self.operator = OperatorPanel(act)
        self.demo = DemoPanel(act, [path.name for path in files], own_workers=runs)
        self.dead_letters, self.tabs = DeadLettersPanel(act), TabsPanel(act)
        self._spec = charts(
            [], {"seconds": range(-119, 1), "rate": [0.0] * 120, "waiting": [0] * 120}
        )
        self.figure = Chart(self._spec)
        self.ranges = w.ToggleButtons(options=list(RANGES), value="2 m").add_class("etl-ranges")
        self.ranges.description, self.ranges.style.button_width = "Range", "auto"
        self.ranges.observe(lambda change: act("range", change["new"]), "value")
        plot = w.Box([self.figure]).add_class("etl-plotly")
        chart = w.VBox([self.ranges, plot]).add_class("etl-charts").add_class("etl-area-charts")
        parts = [self.header, self.operator.box, self.demo.box, self.icons, self.graph, chart]
        grid = w.Box([*parts, self.dead_letters.part, self.tabs.part]).add_class("etl-room")
        self.box = w.Box([grid]).add_class("etl-console").add_class("etl-root")
        operator = {one.description: one for one in (self.operator.step, self.operator.drain)}
        self.buttons = {"Pause": self.operator.toggle, "Resume": self.operator.toggle, **operator}
        self.buttons |= self.demo.levels | {"Burst": self.demo.burst, "Feed": self.demo.feed}
        for widget in _all(self.box):
            _answer_at_once(widget)

    def _set_pace(self, interval: float, batch_lines: int, workers: int) -> None:
        self.demo.interval.widget.value = interval
        self.demo.batch_lines.widget.value = batch_lines
        self.demo.workers.widget.value = workers

    def _open(
        self,
        queue: Queue,
        pipeline: Pipeline | str | None,
        do: Callable[[Command], None],
        *,
        interval: float = 2.0,
        batch_lines: int = 1,
        workers: int = 1,
        out: Path | str | None = None,
        demo: bool = True,
        problem: str = "",
    ) -> None:
        """Set the controls, and have a store taken with them."""
        self._set_pace(interval, batch_lines, workers)
        self.operator.demo.layout.display = "" if demo else "none"
        self.open_demo(shown=demo)
        do(lambda: self._take_store(queue, pipeline, out, problem))

    def _take_store(
        self, queue: Queue, given: Pipeline | str | None, out: Path | str | None, problem: str
    ) -> None:
        if self.thread_workers is not None:
            self.thread_workers.stop()
        pipeline = _loaded(given)
        self.queue, self.pipeline, self.traced = queue, pipeline, None
        self.show_tap(None)
        self.tabs.trace = self.tabs.tapped = self.dead_letters.tried = None
        self.view = View(tab=self.view.tab, seconds=self.view.seconds)
        self._record.close()
        version = pipeline and pipeline.version
        known = {"pipeline": given} if isinstance(given, str) else {}
        self.named = given if isinstance(given, str) else pipeline.name if pipeline else ""
        use = recorded_use(queue, new_run_id(), kind="room", version=version, **known)
        self._record.enter_context(use)
        out = out or output_folder(queue)
        self.thread_workers = ThreadWorkers(queue, pipeline, out=out) if pipeline else None
        self._reader: OverviewReader | None = None
        self._version: object = None
        if problem:
            self.operator.said.say(problem, bad=True)
        if self.thread_workers is not None:
            queue.reclaim()
            self._actions.set_pace()
            self.do(lambda: self._guarded(self._actions.choose_file, "Feed"))

    # The pump

    def _act(self, name: str, detail: Any) -> None:
        command = self._actions.by_name.get(name)
        if command is not None:
            self.do(lambda: self._guarded(lambda: command(detail), name))

    def _pump(self) -> None:
        """Take commands as they come, and draw what has changed, five times a second at most."""
        drawn_at, pause = 0.0, PERIOD
        while not self._closing.is_set():
            wait = drawn_at + pause - time.monotonic()
            with contextlib.suppress(queues.Empty):
                self._guarded(self._commands.get(timeout=wait if wait > 0 else PERIOD))
                self._version = None
            started = time.monotonic()
            if started >= drawn_at + pause and self._has_changed(started - drawn_at):
                self._guarded(self.draw)
                drawn_at = time.monotonic()
                pause = max(PERIOD, 2 * (drawn_at - started)) if self._reached else 1.0

    def _has_changed(self, seconds: float) -> bool:
        """Return whether there may be news; after a second there is: ages grow."""
        try:
            before, self._version = self._version, self.queue.version()
        except StoreError:
            return True
        return self._version != before or seconds >= 1

    def draw(self) -> None:
        """Read the store and show it: the pump's work, and that of tests without one."""
        awaiting, self._awaiting = self._awaiting, []
        try:
            if self.thread_workers is not None:
                self.thread_workers.check()
            self._show(self._snapshot())
            if not self._reached:
                self._reached = True
                if self.thread_workers is not None:
                    self.thread_workers.replace_lost()
                self.operator.said.say("The store can be reached again.")
        except StoreError as error:
            if self._reached:
                text = f"The store cannot be reached; trying again. {error}"
                self.operator.said.say(text, bad=True)
            self._reached = False
        finally:
            for event in awaiting:
                event.set()

    def _snapshot(self) -> Snapshot:
        if self._reader is None:
            self._reader = OverviewReader(self.queue)
        self._reader.edges = self.pipeline.plan().edges if self.pipeline else None
        snapshot = read_snapshot(self.queue, self._reader, self.view)
        known = {one["fingerprint"] for one in snapshot.overview["kinds"]}
        if self.view.kind is not None and self.view.kind not in known:  # all of it is replayed
            self.view.kind = None
        return snapshot

    def _show(self, snapshot: Snapshot) -> None:
        found = snapshot.overview
        version = self.pipeline.version if self.pipeline else None
        self.header.show(**header_state(found))
        self.operator.show(found)
        self.icons.show(
            waiting=[[key, level, line[:120]] for key, level, line in found["waiting"]],
            more=found["more"],
            processing=found["processing"],
            leased=found["totals"]["leased"],
            waiting_lines=found["totals"]["waiting"],
            rate=found["rate"],
            died=[one["key"] for one in found["latest"]],
        )
        lit = self.traced["path"] if self.traced else ()
        self.graph.show(pipeline=found["pipeline"] | {"name": self.named}, path=list(lit))
        self.dead_letters.show(snapshot, self.view, version=version)
        if self.tapped is not None:
            self._show_tapped(self.tapped)
        can_tap, tapping = self.pipeline is not None, self.tapped is not None
        self.tabs.show(snapshot, self.view, can_tap=can_tap, tapping=tapping)
        self.demo.hints.show(hints=[list(one) for one in HINTS], at=self.hint)
        feed = self._actions.feed
        shown = (feed.share, feed.seconds_left) if feed else (None, None)
        self.demo.show_feed(*shown)
        self._draw_chart(found)

    def _draw_chart(self, found: dict[str, Any]) -> None:
        spec = charts(found["levels"], found["history"], **self._screen)
        if spec != self._spec:
            refresh(self.figure, self._spec, spec)
            self._spec = spec
            self._keep_figure()

    def _show_tapped(self, tap: Tap) -> None:
        try:
            rows = tap.rows()
        except UsageError:
            self.show_tap(None)
            raise
        cells = [[cell_text(value) for value in row] for row in rows.rows()]
        self.tabs.tapped = {"columns": rows.columns, "rows": cells}

    def _keep_figure(self) -> None:
        """Let a page that is loaded again begin with the figure as it is now.

        `FigureWidget` keeps what it was made with for new pages, in private
        attributes; it renews them only where it is displayed.
        """
        figure = self.figure
        figure._widget_data = copy.deepcopy(figure._data)  # noqa: SLF001
        figure._widget_layout = copy.deepcopy(figure._layout_obj._props)  # noqa: SLF001

    def _guarded(self, command: Command, name: str = "") -> None:
        try:
            command()
        except Exception as error:  # noqa: BLE001 - the pump continues, and the operator sees it
            self._complain(error, name)

    def _complain(self, error: Exception, name: str = "") -> None:
        """Say an error where the action was taken."""
        text = str(error) if isinstance(error, EtlError) else f"{type(error).__name__}: {error}"
        text = f"{name} failed: {text}" if name else text
        if name in DEAD_LETTERS:
            self.dead_letters.say(text, bad=True, drawer=self.view.kind is not None)
        elif name in TAP:
            self.tabs.part.say(text, bad=True)
        else:
            self.operator.said.say(text, bad=True)


def _all(widget: w.Widget) -> Iterator[w.Widget]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _all(child)


def _answer_at_once(widget: w.Widget) -> None:
    """Let what a person does come through while a cell computes.

    JupyterLab sends it on a subshell, a thread beside the cells; ipykernel 7.4
    takes it back to the thread that last wrote to the widget, where it would
    wait for the cell. Our callbacks only queue a command, on any thread.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, subshell: subshell  # noqa: SLF001
