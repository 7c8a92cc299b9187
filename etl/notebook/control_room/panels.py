"""The console's panels: ipywidgets, and how a snapshot is shown in them.

A panel only draws. What a person does in it is handed on as a name to `act`,
at once and on whatever thread it comes. All text from logs is escaped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from etl.analysis.figures import LEVELS
from etl.notebook.control_room.snapshot import Snapshot
from etl.notebook.control_room.view import Table

if TYPE_CHECKING:
    from etl.execution.dry_run import Explanation

__all__ = ["ControlsPanel", "DeadLettersPanel", "HeaderPanel", "TracesPanel", "card"]

Act = Callable[[str], None]


MIXES: Mapping[str, Sequence[int]] = {
    "mostly INFO": (10, 70, 14, 5, 1),
    "even": (1, 1, 1, 1, 1),
    "incident": (5, 20, 25, 35, 15),
}
"""Share of each of `LEVELS` in a burst."""


SAME = ("source", "line_number")
"""Columns that no hop changes."""


STATES = {
    "working": "working",
    "idle": "idle",
    "paused": "paused",
    "draining": "draining",
    "absent": "no worker",
}


def card(title: str, *children: w.Widget, kind: str = "") -> w.VBox:
    """Return a panel with a title."""
    head = [w.HTML(f"<h3>{escape(title)}</h3>")] if title else []
    box = w.VBox([*head, *children])
    return box.add_class("etl-card").add_class(kind or "etl-plain")


def _button(act: Act, name: str, icon: str, tip: str, kind: str = "") -> w.Button:
    button = w.Button(description=name, icon=icon, tooltip=tip)
    button.add_class(kind or "etl-button")
    button.on_click(lambda _button: act(name))
    return button


class HeaderPanel:
    """The status light, the totals, and a line that says what happened last."""

    def __init__(self) -> None:
        self.light, self.totals, self.note = w.HTML(), w.HTML(), w.HTML()
        self.box = w.VBox([w.HBox([self.light, self.note]), self.totals])
        self.box.add_class("etl-header")

    def show(self, snapshot: Snapshot, state: str) -> None:
        """Show the totals of a snapshot and the workers' state."""
        stats = snapshot.stats
        light = f"<div class='etl-light etl-is-{state}' role=status>{STATES[state]}</div>"
        self.light.value = light
        cells = {
            "lines/s": f"{snapshot.rate:,.1f}",
            "waiting": f"{stats.waiting:,}",
            "oldest": _age(stats.oldest_age),
            "in flight": f"{stats.leased:,}",
            "done": f"{stats.done:,}",
            "filtered": f"{stats.filtered:,}",
            "dead": f"{stats.dead:,}",
            "workers": f"{snapshot.workers}",
        }
        figures = "".join(
            f"<div class='etl-figure'><b data-name='{name}'>{value}</b><span>{name}</span></div>"
            for name, value in cells.items()
        )
        mark = "<i class='etl-good'>✓</i>" if stats.conserved else "<i class='etl-bad'>✗</i>"
        law = (
            f"{mark} {stats.accepted:,} accepted = {stats.done:,} done + {stats.filtered:,} "
            f"filtered + {stats.dead:,} dead + {stats.leased:,} in flight + "
            f"{stats.waiting:,} waiting"
        )
        self.totals.value = (
            f"<div class='etl-figures'>{figures}</div><div class='etl-law'>{law}</div>"
        )

    def say(self, text: str, *, bad: bool = False) -> None:
        """Show a sentence."""
        self.note.value = f"<div class='etl-note{' etl-bad' if bad else ''}'>{escape(text)}</div>"


class ControlsPanel:
    """The buttons that steer workers and make lines."""

    def __init__(self, act: Act, files: Sequence[str], *, own_workers: bool) -> None:
        steer = (
            ("Pause", "pause", "Lend no batch to any worker"),
            ("Resume", "play", "Go on"),
            ("Step", "step-forward", "Let one batch through while paused"),
            ("Drain", "sign-out", "Workers end once nothing waits"),
        )
        self.buttons = {name: _button(act, name, icon, tip) for name, icon, tip in steer}
        for name in list(LEVELS)[1:]:
            tip = f"Put one {name} line into the queue"
            self.buttons[name] = _button(act, name, "plus", tip, f"etl-make-{name}")
        self.buttons["Burst"] = _button(act, "Burst", "bolt", "Put many lines at once")
        self.buttons["Feed"] = _button(act, "Feed", "file-text-o", "Put a file's lines")
        small = w.Layout(width="92px")
        self.lines = w.BoundedIntText(200, min=1, max=1_000_000, layout=small, description="Lines")
        wide = w.Layout(width="126px")
        self.mix = w.Dropdown(options=list(MIXES), layout=wide, description="Mix of levels")
        wide = w.Layout(width="170px")
        self.file = w.Dropdown(options=list(files) or [""], layout=wide, description="File")
        self.upload = w.FileUpload(
            description="Upload", multiple=False, tooltip="At most 10 MB; larger files: etl put"
        )
        self.progress = w.FloatProgress(0, max=1, description="Progress").add_class("etl-progress")
        self.interval = w.BoundedFloatText(0, min=0, max=60, step=0.1, layout=small)
        self.batch_lines = w.BoundedIntText(1, min=1, max=1_000_000, layout=small)
        self.workers = w.BoundedIntText(1, min=0, max=8, layout=w.Layout(width="64px"))
        for widget in (self.interval, self.batch_lines, self.workers):
            widget.observe(lambda _change: act("Pace"), "value")
            widget.disabled = not own_workers
        self.upload.observe(lambda _change: act("Upload"), "value")
        names = list(LEVELS)[1:]
        self.box = w.HBox(
            [
                self._group("Workers", *(self.buttons[name] for name, _, _ in steer)),
                self._group("Simulate a line", *(self.buttons[name] for name in names)),
                self._group("Burst: lines, mix", self.lines, self.mix, self.buttons["Burst"]),
                self._group("File", self.file, self.buttons["Feed"], self.upload, self.progress),
                self._group("Seconds between batches", self.interval),
                self._group("Lines per batch", self.batch_lines),
                self._group("Workers here", self.workers),
            ]
        )
        self.box.add_class("etl-controls")

    def _group(self, title: str, *widgets: w.Widget) -> w.VBox:
        for widget in widgets:
            widget.description = widget.description or title  # for who hears it; the CSS hides it
        row = w.HBox(list(widgets))
        group = w.VBox([w.HTML(f"<label>{title}</label>"), row])
        group.add_class("etl-group")
        return group

    def show_progress(self, share: float | None) -> None:
        """Show how much of a file has been fed; None if none is."""
        self.progress.layout.visibility = "hidden" if share is None else "visible"
        self.progress.value = share or 0.0

    def weights(self) -> Sequence[int]:
        """Return the share of each level in a burst."""
        return MIXES[self.mix.value]


class DeadLettersPanel:
    """Groups of dead letters, the lines of one group, and one of these lines."""

    def __init__(self, act: Act, *, can_run: bool) -> None:
        self.groups = Table(
            columns=["#lines", "processor", "error", "message", "sample", "first", "last"],
            empty="No dead letters: every line has found its way.",
        )
        self.lines = Table(columns=["#line", "text", "#tries", "#replays"])
        self.detail = w.HTML()
        self.edit = w.Textarea(layout=w.Layout(width="100%", height="54px"), disabled=True)
        self.edit.description = "The line, to be edited and replayed"
        tools = (
            ("Dry-run", "flask", "Try the group on the pipeline as it is now; changes nothing"),
            ("Replay", "repeat", "Put the group back into the queue; all, if none is chosen"),
            ("Edit and replay", "pencil", "Replay the chosen line as it is in the box"),
            ("Discard", "trash-o", "Close the group for good; all, if none is chosen"),
        )
        self.buttons = {name: _button(act, name, icon, tip) for name, icon, tip in tools}
        self.buttons["Dry-run"].disabled = not can_run
        self.groups.observe(lambda _change: act("Choose group"), "chosen")
        self.lines.observe(lambda _change: act("Choose letter"), "chosen")
        tools_row = w.HBox(list(self.buttons.values()))
        tools_row.add_class("etl-tools")
        parts = (self.groups, tools_row, self.lines, self.detail, self.edit)
        self.box = card("Dead letters", *parts, kind="etl-letters")
        self.show_dead_letter(None)

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot's groups, and the lines of the chosen one."""
        rows = [
            [
                row["fingerprint"],
                f"{row['lines']:,}",
                row["processor"],
                row["error"] or row["code"],
                row["message"][:160],
                row["sample"],
                _clock(row["first_failed_at"]),
                _clock(row["last_failed_at"]),
            ]
            for row in snapshot.groups
        ]
        _set(self.groups, rows)
        lines = [
            [
                str(row["id"]),
                f"{row['line_number']:,}",
                row["line"][:200],
                str(row["attempts"]),
                str(row["replays"]),
            ]
            for row in snapshot.dead_letters
        ]
        _set(self.lines, lines)
        self.lines.layout.display = "" if lines else "none"
        for table in (self.groups, self.lines):
            if table.chosen and table.chosen not in {row[0] for row in table.rows}:
                table.chosen = ""

    def show_dead_letter(self, dead_letter: Mapping[str, Any] | None) -> None:
        """Show all that is known of one letter, or nothing."""
        self.edit.disabled = self.buttons["Edit and replay"].disabled = dead_letter is None
        self.edit.value = dead_letter["line"] if dead_letter else ""
        self.edit.layout.display = "" if dead_letter else "none"
        if dead_letter is None:
            self.detail.value = ""
            return
        path = " → ".join(json.loads(dead_letter["path"]))
        facts = {
            "error": f"{dead_letter['error'] or dead_letter['code']}: {dead_letter['message']}",
            "processor": f"{dead_letter['processor']}, after {_times(dead_letter['attempts'])}",
            "path": path,
            "from": f"{dead_letter['source']}, line {dead_letter['line_number']:,}",
            "fields": dead_letter["payload"] or "",
        }
        rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
        trace = f"<pre>{escape(dead_letter['traceback'])}</pre>" if dead_letter["traceback"] else ""
        self.detail.value = f"<dl class='etl-facts'>{rows}</dl>{trace}"


class TracesPanel:
    """The last lines with their paths, one of them hop by hop, and the tap."""

    def __init__(self, act: Act) -> None:
        self.lines = Table(
            columns=["state", "line", "path", "#µs"], empty="No line has been processed yet."
        )
        self.detail = w.HTML()
        self.processor = w.Dropdown(options=[""], layout=w.Layout(width="120px"))
        self.where = w.Text(placeholder="where, such as level = 'INFO'")
        self.limit = w.BoundedIntText(5, min=1, max=50, layout=w.Layout(width="64px"))
        self.button = _button(act, "Tap", "tint", "Show rows as they leave this processor")
        self.tapped = w.HTML()
        self.lines.observe(lambda _change: act("Choose trace"), "chosen")
        tap = w.HBox([self.processor, self.where, self.limit, self.button])
        tap.add_class("etl-tools")
        parts = (self.lines, self.detail, tap, self.tapped)
        self.box = card("Traces", *parts, kind="etl-traces")

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot's traces."""
        rows = [
            [
                trace_key(trace),
                trace["state"],
                trace["line"][:200],
                " → ".join(trace["path"]),
                f"{trace['seconds'] * 1e6:,.0f}",
            ]
            for trace in snapshot.traces
        ]
        _set(self.lines, rows)
        names = list(dict.fromkeys(after for _, after in snapshot.edges)) or [""]
        if list(self.processor.options) != names:
            self.processor.options = names

    def show_trace(self, trace: Mapping[str, Any] | None, explained: Explanation | None) -> None:
        """Show one line before and after every hop, as far as its pipeline is known."""
        if trace is None:
            self.detail.value = ""
            return
        times = dict(zip(trace["path"], trace["hop_seconds"], strict=True))
        if explained is None:
            rows = "".join(_hop(name, seconds, [], [], []) for name, seconds in times.items())
        else:
            rows = "".join(
                _hop(hop.processor, times.get(hop.processor), hop.before, hop.after, hop.errors)
                for hop in explained.hops
            )
        head = "<tr><th>processor</th><th>µs</th><th>before</th><th>after</th></tr>"
        title = f"<p><code>{escape(trace['line'][:500])}</code></p>"
        self.detail.value = f"{title}<table class='etl-hops'>{head}{rows}</table>"

    def show_open(self, *, tapping: bool) -> None:
        """Let the button say what it would do: open a tap or close it."""
        self.button.description = "Close tap" if tapping else "Tap"
        self.button.icon = "times" if tapping else "tint"
        for widget in (self.processor, self.where, self.limit):
            widget.disabled = tapping

    def show_rows(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Show what came by the tap."""
        if not rows:
            self.tapped.value = "<p class='etl-empty'>No such line has come by yet.</p>"
            return
        head = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(str(value)[:120])}</td>" for value in row) + "</tr>"
            for row in rows
        )
        self.tapped.value = f"<table class='etl-hops'><tr>{head}</tr>{body}</table>"


def trace_key(trace: Mapping[str, Any]) -> str:
    """Return what tells a trace from the others."""
    return f"{trace['batch']}:{trace['line_number']}"


def _hop(
    name: str,
    seconds: float | None,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    errors: list[str],
) -> str:
    old, new = (rows[0] if rows else {} for rows in (before, after))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in SAME]
    if not after and not errors and before:
        errors = ["the line goes no further"]
    left = "<br>".join(escape(f"{key}: {old[key]!r}") for key in changed if key in old)
    right = [escape(f"{key}: {new[key]!r}") for key in changed if key in new]
    right += [f"<em>{escape(error)}</em>" for error in errors]
    time_text = "" if seconds is None else f"{seconds * 1e6:,.1f}"
    cells = (escape(name), time_text, left, "<br>".join(right))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _set(table: Table, rows: list[list[str]]) -> None:
    if table.rows != rows:
        table.rows = rows


def _times(tries: int) -> str:
    return "one try" if tries == 1 else f"{tries} tries"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def _age(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
