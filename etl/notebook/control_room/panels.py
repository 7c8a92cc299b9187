"""The control room's panels: what is where, and how a snapshot is shown in them.

A panel only draws. What a person does in it is passed on as a name to `act`,
at once and on whatever thread it comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

import ipywidgets as w

from etl.analysis.overview import LEVELS
from etl.notebook.control_room.snapshot import MAX_LISTED, Snapshot, View, facts, path_of
from etl.notebook.control_room.view import Act, Part, StyledPart
from etl.records.result import INPUT

__all__ = ["DeadLettersPanel", "DemoPanel", "OperatorPanel", "TabsPanel", "header_state"]


MIXES: Mapping[str, Sequence[int]] = {
    "mostly INFO": (10, 70, 14, 5, 1),
    "even": (1, 1, 1, 1, 1),
    "incident": (5, 20, 25, 35, 15),
}
"""Share of each of `LEVELS` in a burst."""

SIMULATED = LEVELS[1:]

HINTS = (
    ("Press Pause.", "The light turns red, and lines wait until you resume."),
    ("Press INFO and WARNING", "a few times each: every line is an icon in the queue."),
    ("Press Resume.", "The icons leave one by one, and the bars rise."),
    ("Press CRITICAL.", "Such lines are rejected: watch it wait, then fly to Dead letters."),
    ("Open it there,", "fix the processor in a cell or edit the line, and replay it."),
)

RANGES = {"2 m": 120, "15 m": 900, "1 h": 3600}

MAX_KINDS = 100
"""Kinds of dead letters that are listed."""

HEAD = (
    *("at", "state", "paused_by", "reason", "totals", "conserved", "open", "discarded"),
    *("oldest", "empty_in", "growing", "rate", "rate_in", "dead_last_minute"),
)
"""What of an overview the header shows, besides lists."""


def header_state(overview: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the header shows of an overview."""
    return {name: overview[name] for name in HEAD} | {
        "workers": [{"state": one["state"]} for one in overview["workers"]],
        "targets": [
            {name: one[name] for name in ("name", "lines", "error")} for one in overview["targets"]
        ],
        "kinds": [0] * len(overview["kinds"]),
        "history": {"rate": overview["history"]["rate"][-120:]},
    }


def _button(name: str, icon: str, tip: str, act: Act, *classes: str) -> w.Button:
    made = w.Button(description=name, icon=icon, tooltip=tip)
    for one in classes:
        made.add_class(one)
    made.on_click(lambda _button: act(name, None))
    return made


def _group(title: str, *widgets: w.Widget) -> w.VBox:
    for widget in widgets:  # for who hears it; the style sheet hides it
        if "description" in widget.traits() and not widget.description:
            widget.description = title
    label = w.HTML(f"<label>{escape(title)}</label>")
    return w.VBox([label, w.HBox(widgets)]).add_class("etl-group")


class OperatorPanel:
    """Pause or Resume as one button, Step, Drain; what is said of them; and the demo's switch."""

    def __init__(self, act: Act) -> None:
        pause = "Let the workers take no more lines (P)"
        self.toggle = w.Button(description="Pause", icon="pause", tooltip=pause)
        self.toggle.add_class("etl-toggle-pause")
        self.toggle.on_click(lambda _button: act(self.toggle.description, None))
        self.step = _button("Step", "step-forward", "Pause first", act, "etl-do-step")
        self.step.disabled = True
        self.drain = _button("Drain", "sign-out", "Workers end once the queue is empty", act)
        self.said = Part("saying", act)
        self.said.add_class("etl-saying-row")
        self.store = w.HTML().add_class("etl-store")
        self.demo = _button("Demo", "bolt", "Make lines: one, many, or those of a file", act)
        self.demo.add_class("etl-do-demo")
        parts = (self.toggle, self.step, self.drain, self.said, self.store, self.demo)
        self.box = w.HBox(parts).add_class("etl-area-row")

    def show(self, overview: Mapping[str, Any]) -> None:
        """Show what can be done now."""
        paused = overview["state"] == "paused"
        name = "Resume" if paused else "Pause"
        if self.toggle.description != name:
            self.toggle.description, self.toggle.icon = name, "play" if paused else "pause"
            tips = (
                "Let the workers take no more lines (P)",
                "Let the workers take lines again (P)",
            )
            self.toggle.tooltip = tips[paused]
            (self.toggle.add_class if paused else self.toggle.remove_class)("etl-main-button")
        self.step.disabled = not paused
        self.step.tooltip = "Process one batch (S)" if paused else "Pause first"
        self.drain.disabled = overview["state"] in ("draining", "absent")
        store = f"<span title='{escape(overview['store'])}'>{escape(overview['store'])}</span>"
        if self.store.value != store:
            self.store.value = store


class Limited:
    """A number that a person gives, and the word beside it if it is out of range.

    Attributes:
        widget: The field.
    """

    def __init__(
        self, widget: w.IntText | w.FloatText, low: int, high: int, width: int, name: str
    ) -> None:
        self.widget = widget
        self._low, self._high, self._name = low, high, name
        self._range = f"{low:,} to {high:,}"
        self.word = w.HTML().add_class("etl-word")
        widget.description, widget.layout.width = name, f"{width}px"
        widget.observe(lambda _change: self._look(), "value")

    @property
    def problem(self) -> str:
        """Why it cannot be used; empty if it can."""
        if self._low <= self.widget.value <= self._high:
            return ""
        return f"{self._name}: {self._range}"

    def _look(self) -> None:
        bad = bool(self.problem)
        self.word.value = self._range if bad else ""
        (self.widget.add_class if bad else self.widget.remove_class)("etl-invalid")


class DemoPanel:
    """The controls that make lines, and set how fast they are processed."""

    def __init__(self, act: Act, files: Sequence[str], *, own_workers: bool) -> None:
        self.levels = {
            level: _button(
                level, "square", f"Put one {level} line", act, "etl-make", f"etl-make-{level}"
            )
            for level in SIMULATED
        }
        self.burst = _button("Burst", "bolt", "Put many lines at once", act)
        self.feed = _button("Feed", "file-text-o", "Put a file's lines", act)
        self.lines = Limited(w.IntText(200), 1, 1_000_000, 64, "Lines")
        self.mix = w.Dropdown(options=list(MIXES), layout={"width": "112px"})
        self.mix.description = "Mix of levels"
        self.file = w.Dropdown(options=list(files) or [""], layout={"width": "134px"})
        self.file.description = "File"
        self.upload = w.FileUpload(
            description="", icon="upload", multiple=False, tooltip="Upload at most 10 MB"
        ).add_class("etl-upload")
        self.feeding = Part("feeding", act)
        self.batch_lines = Limited(w.IntText(1), 1, 1_000_000, 50, "Lines per batch")
        self.interval = Limited(w.FloatText(0.0, step=0.5), 0, 60, 50, "Seconds per batch")
        self.workers = Limited(w.IntText(1), 0, 8, 48, "Workers")
        self.hints = Part("hints", act)
        for one in (self.interval, self.batch_lines, self.workers):
            one.widget.observe(lambda _change: act("Pace", None), "value")
            one.widget.disabled = not own_workers
        self.upload.observe(lambda _change: act("Upload", None), "value")
        caption = partial(w.HTML, layout={"width": "auto"})
        between, unit = caption("every"), caption("s")
        for one in (between, unit):
            one.add_class("etl-caption")
        pace = (self.batch_lines.widget, between, self.interval.widget, unit)
        words = (self.batch_lines.word, self.interval.word)
        groups = [
            _group("Add a line", *self.levels.values()),
            _group("Burst", self.lines.widget, self.lines.word, self.mix, self.burst),
            _group("File", self.file, self.feed, self.upload, self.feeding),
            *([_group("Pace: lines, seconds", *pace, *words)] if own_workers else []),
            *([_group("Workers", self.workers.widget, self.workers.word)] if own_workers else []),
        ]
        parts = [w.HBox(groups).add_class("etl-groups"), self.hints]
        self.box = w.VBox(parts).add_class("etl-area-demo")

    def open(self, *, shown: bool) -> None:
        """Show the drawer, or close it."""
        (self.box.remove_class if shown else self.box.add_class)("etl-closed")

    def show_feed(self, share: float | None, left: float | None) -> None:
        """Show how much of a file has been fed in place of the button; None if none is."""
        self.feeding.show(share=share, left=left)
        for widget in (self.feed, self.upload):
            widget.layout.display = "none" if share is not None else ""

    def weights(self) -> Sequence[int]:
        """Return the share of each level in a burst."""
        return MIXES[self.mix.value]


class DeadLettersPanel:
    """The kinds of dead letters, and the drawer with the lines of one of them.

    Attributes:
        tried: What the last dry run found, or None: `at`, `version`, `passes` and `reasons`.
    """

    def __init__(self, act: Act) -> None:
        self.part = Part("dead", act)
        self.part.add_class("etl-area-dead")
        self.tried: dict[str, Any] | None = None
        self._said_in = "list"

    def say(self, text: str, *, bad: bool = False, undo: Any = None, drawer: bool = False) -> None:
        """Say what came of an action, where it was taken."""
        self._said_in = "drawer" if drawer else "list"
        self.part.state = self.part.state | {"answer_in": self._said_in}
        self.part.say(text, bad=bad, undo=undo)

    def show(self, snapshot: Snapshot, view: View, *, version: str | None) -> None:
        """Show a snapshot.

        Args:
            snapshot: What to show.
            view: What of it is looked at.
            version: Of the pipeline as it is now; None if there is none here.
        """
        overview = snapshot.overview
        kinds = overview["kinds"]
        names = ("at", "state", "open", "discarded", "latest", "totals")
        self.part.show(
            **{name: overview[name] for name in names},
            kinds=kinds[:MAX_KINDS],
            drawer=self._drawer(snapshot, view, version),
            answer_in=self._said_in,
        )

    def _drawer(self, snapshot: Snapshot, view: View, version: str | None) -> dict[str, Any] | None:
        kinds = snapshot.overview["kinds"]
        place = next((n for n, one in enumerate(kinds) if one["fingerprint"] == view.kind), None)
        if place is None:
            return None
        chosen, tried = snapshot.dead_letter, self.tried
        passes = set(tried["passes"]) if tried else set()
        stale = bool(tried) and tried["version"] != version  # type: ignore[index]

        def outcome(id: int) -> bool | None:
            known = tried and not stale and (id in passes or id in tried["reasons"])
            return (id in passes) if known else None

        lines = [
            {
                "id": row["id"],
                "number": row["line_number"],
                "text": row["line"][:2000],
                "ok": outcome(row["id"]),
                "reason": (tried or {}).get("reasons", {}).get(row["id"], ""),
            }
            for row in snapshot.lines
        ]
        lines.sort(key=lambda one: {False: 0, True: 1, None: 2}[one["ok"]])
        ids = {row["id"] for row in snapshot.lines}
        return {
            "kind": kinds[place],
            "number": place + 1,
            "total": len(kinds),
            "before": kinds[place - 1]["fingerprint"] if place else None,
            "after": kinds[place + 1]["fingerprint"] if place + 1 < len(kinds) else None,
            "path": path_of(snapshot.lines[0]) if snapshot.lines else [kinds[place]["processor"]],
            "lines": lines,
            "can_run": version is not None,
            "tried": None
            if tried is None or tried["kind"] != view.kind
            else {
                "at": tried["at"],
                "stale": stale,
                "pass": len(passes & ids) if len(ids) < MAX_LISTED else len(passes),
                "fail": len(tried["reasons"]),
            },
            "line": None
            if chosen is None
            else {
                "id": chosen["id"],
                "number": chosen["line_number"],
                "text": chosen["line"],
                "processor": chosen["processor"],
                "message": chosen["message"],
                "facts": facts(chosen)[:4000],
            },
        }


class TabsPanel:
    """Traces, workers, lines that wait, errors, and the tap."""

    def __init__(self, act: Act) -> None:
        self.part = Part("tabs", act)
        self.part.add_class("etl-area-tabs")
        self.trace: dict[str, Any] | None = None
        self.tapped: dict[str, Any] | None = None

    def show(self, snapshot: Snapshot, view: View, *, can_tap: bool, tapping: bool) -> None:
        """Show a snapshot."""
        overview = snapshot.overview
        nodes = overview["pipeline"]["nodes"]
        counts = {
            "workers": len(overview["workers"]),
            "queue": overview["totals"]["waiting"],
            "errors": len(overview["errors"]),
        }
        state: dict[str, Any] = {"tab": view.tab, "at": overview["at"], "counts": counts}
        if view.tab == "traces":
            state |= {"traces": [_trace_row(row) for row in snapshot.traces], "trace": self.trace}
        elif view.tab == "workers":
            state["workers"] = overview["workers"]
        elif view.tab == "queue":
            state["queue"] = snapshot.queue
        elif view.tab == "errors":
            minutes = snapshot.error_minutes
            state |= {"errors": overview["errors"], "error_minutes": [list(one) for one in minutes]}
        elif view.tab == "tap":
            names = [node["name"] for node in nodes if node["name"] != INPUT]
            state |= {"processors": names, "tap": tapping, "can_tap": can_tap}
            state["tapped"] = self.tapped
        self.part.show(**state)


def _trace_row(trace: Mapping[str, Any]) -> dict[str, Any]:
    names = ("key", "state", "at", "path", "seconds")
    return {name: trace[name] for name in names} | {"line": trace["line"][:300]}


def header(act: Act) -> StyledPart:
    """Return the header, which also brings the style sheet."""
    made = StyledPart("header", act)
    made.add_class("etl-area-head")
    return made
