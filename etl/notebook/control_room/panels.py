"""The control room's panels: ipywidgets, and how a snapshot is shown in them.

A panel only draws. What a person does in it is passed on as a name to `act`,
at once and on whatever thread it comes. All text from logs is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from etl.analysis.figures import LEVELS
from etl.execution.dry_run import Hop
from etl.notebook.control_room.snapshot import Snapshot
from etl.notebook.control_room.view import TableView
from etl.queue import identity
from etl.text import Html, clock, html_table

if TYPE_CHECKING:
    import polars as pl

    from etl.execution.dry_run import Explanation

__all__ = ["ControlsPanel", "DeadLettersPanel", "HeaderPanel", "TracesPanel", "card"]

Act = Callable[[str], None]

MIXES: Mapping[str, Sequence[int]] = {
    "mostly INFO": (10, 70, 14, 5, 1),
    "even": (1, 1, 1, 1, 1),
    "incident": (5, 20, 25, 35, 15),
}
"""Share of each of `LEVELS` in a burst."""

SIMULATED = tuple(LEVELS)[1:]

CONTROLS = {
    "Pause": ("pause", "Lease no batch to any worker"),
    "Resume": ("play", "Lease batches again"),
    "Step": ("step-forward", "Let one batch through while paused"),
    "Drain": ("sign-out", "Workers end once the queue is empty"),
}
"""Buttons that control workers: icon and tooltip."""

INPUTS = {level: ("plus", f"Put one {level} line into the queue") for level in SIMULATED} | {
    "Burst": ("bolt", "Put many lines at once"),
    "Feed": ("file-text-o", "Put a file's lines"),
}

TOOLS = {
    "Dry-run": ("flask", "Try the group on the pipeline as it is now; changes nothing"),
    "Replay": ("repeat", "Put the group back into the queue; all, if none is chosen"),
    "Edit and replay": ("pencil", "Replay the chosen line as it is in the box"),
    "Discard": ("trash-o", "Close the group for good; all, if none is chosen"),
}

SAME = ("source", "line_number")
"""Columns that no hop changes."""


def card(title: str, *children: w.Widget, kind: str) -> w.VBox:
    """Return a panel with a title."""
    head = [w.HTML(f"<h3>{escape(title)}</h3>")] if title else []
    return w.VBox([*head, *children]).add_class("etl-card").add_class(kind)


def _buttons(act: Act, table: Mapping[str, tuple[str, str]]) -> dict[str, w.Button]:
    made = {}
    for name, (icon, tip) in table.items():
        made[name] = w.Button(description=name, icon=icon, tooltip=tip)
        made[name].add_class(f"etl-make-{name}" if name in LEVELS else "etl-button")
        made[name].on_click(lambda _button, name=name: act(name))
    return made


def _group(title: str, *widgets: w.Widget) -> w.VBox:
    for widget in widgets:
        widget.description = widget.description or title  # for who hears it; the CSS hides it
    return w.VBox([w.HTML(f"<label>{title}</label>"), w.HBox(widgets)]).add_class("etl-group")


class HeaderPanel:
    """The status light, the totals, and a line that says what happened last."""

    def __init__(self) -> None:
        self.light, self.totals, self.note = w.HTML(), w.HTML(), w.HTML()
        self.box = w.VBox([w.HBox([self.light, self.note]), self.totals]).add_class("etl-header")

    def show(self, snapshot: Snapshot, state: str) -> None:
        """Show the totals of a snapshot and the workers' state."""
        stats, word = snapshot.stats, "no worker" if state == "absent" else state
        self.light.value = f"<div class='etl-light etl-is-{state}' role=status>{word}</div>"
        counts = {"processing": stats.leased, **stats.totals()}
        age = stats.oldest_age
        cells = {
            "lines/s": f"{snapshot.rate:,.1f}",
            "waiting": f"{stats.waiting:,}",
            "oldest": f"{age:.1f} s" if age < 100 else f"{age / 60:.0f} min",
            **{name: f"{counts[name]:,}" for name in ("processing", "done", "filtered", "dead")},
            "workers": f"{snapshot.workers}",
        }
        figures = "".join(
            f"<div class='etl-figure'><b data-name='{name}'>{value}</b><span>{name}</span></div>"
            for name, value in cells.items()
        )
        mark = "<i class='etl-good'>✓</i>" if stats.conserved else "<i class='etl-bad'>✗</i>"
        self.totals.value = (
            f"<div class='etl-figures'>{figures}</div>"
            f"<div class='etl-identity'>{mark} {identity(stats.totals())}</div>"
        )

    def say(self, text: str, *, bad: bool = False) -> None:
        """Show a sentence."""
        self.note.value = f"<div class='etl-note{' etl-bad' if bad else ''}'>{escape(text)}</div>"


class ControlsPanel:
    """The buttons that control workers and make lines."""

    def __init__(self, act: Act, files: Sequence[str], *, own_workers: bool) -> None:
        def wide(pixels: int) -> w.Layout:
            return w.Layout(width=f"{pixels}px")

        many = partial(w.BoundedIntText, min=1, max=1_000_000, layout=wide(92))
        self.buttons = _buttons(act, CONTROLS | INPUTS)
        self.lines = many(200, description="Lines")
        self.mix = w.Dropdown(options=list(MIXES), layout=wide(126), description="Mix of levels")
        self.file = w.Dropdown(options=files or [""], layout=wide(170), description="File")
        self.upload = w.FileUpload(
            description="Upload", multiple=False, tooltip="At most 10 MB; larger files: etl put"
        )
        self.progress = w.FloatProgress(0, max=1, description="Progress").add_class("etl-progress")
        self.interval = w.BoundedFloatText(0, min=0, max=60, step=0.1, layout=wide(92))
        self.batch_lines = many(1)
        self.workers = w.BoundedIntText(1, min=0, max=8, layout=wide(64))
        for widget in (self.interval, self.batch_lines, self.workers):
            widget.observe(lambda _change: act("Pace"), "value")
            widget.disabled = not own_workers
        self.upload.observe(lambda _change: act("Upload"), "value")
        groups = {
            "Workers": [self.buttons[name] for name in CONTROLS],
            "Simulate a line": [self.buttons[name] for name in SIMULATED],
            "Burst: lines, mix": [self.lines, self.mix, self.buttons["Burst"]],
            "File": [self.file, self.buttons["Feed"], self.upload, self.progress],
            "Seconds between batches": [self.interval],
            "Lines per batch": [self.batch_lines],
            "Workers in this notebook": [self.workers],
        }
        boxes = [_group(title, *widgets) for title, widgets in groups.items()]
        self.box = w.HBox(boxes).add_class("etl-controls")

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
        self.groups = TableView(
            lambda group: str(group["fingerprint"]),
            {
                "#lines": lambda group: f"{group['lines']:,}",
                "source": lambda group: str(group["source"]),
                "processor": lambda group: str(group["processor"]),
                "error": lambda group: str(group["error"] or group["code"]),
                "message": lambda group: str(group["message"][:160]),
                "sample": lambda group: str(group["sample"]),
                "first": lambda group: clock(group["first_failed_at"])[-8:],
                "last": lambda group: clock(group["last_failed_at"])[-8:],
            },
            empty="No dead letters.",
            choose=lambda: act("Choose group"),
        )
        self.lines = TableView(
            lambda row: str(row["id"]),
            {
                "#line": lambda row: f"{row['line_number']:,}",
                "text": lambda row: str(row["line"][:200]),
                "#attempts": lambda row: str(row["attempts"]),
                "#replays": lambda row: str(row["replays"]),
            },
            choose=lambda: act("Choose dead letter"),
        )
        self.detail = w.HTML()
        self.edit = w.Textarea(layout=w.Layout(width="100%", height="54px"), disabled=True)
        self.edit.description = "The line, to be edited and replayed"
        self.buttons = _buttons(act, TOOLS)
        self.buttons["Dry-run"].disabled = not can_run
        tools = w.HBox(list(self.buttons.values())).add_class("etl-tools")
        parts = (self.groups, tools, self.lines, self.detail, self.edit)
        self.box = card("Dead letters", *parts, kind="etl-letters")
        self.show_dead_letter(None)

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot's groups, and the lines of the chosen one."""
        self.groups.show(snapshot.groups)
        self.lines.show(snapshot.dead_letters)
        self.lines.layout.display = "" if snapshot.dead_letters else "none"

    def show_dead_letter(self, dead_letter: Mapping[str, Any] | None) -> None:
        """Show all that is known of one dead letter, or nothing."""
        self.edit.disabled = self.buttons["Edit and replay"].disabled = dead_letter is None
        self.edit.value = dead_letter["line"] if dead_letter else ""
        self.edit.layout.display = "" if dead_letter else "none"
        self.detail.value = _facts(dead_letter) if dead_letter else ""


class TracesPanel:
    """The last lines with their paths, one of them hop by hop, and the tap."""

    def __init__(self, act: Act) -> None:
        self.lines = TableView(
            trace_key,
            {
                "state": lambda trace: str(trace["state"]),
                "line": lambda trace: str(trace["line"][:200]),
                "path": lambda trace: " → ".join(trace["path"]),
                "#µs": lambda trace: f"{trace['seconds'] * 1e6:,.0f}",
            },
            empty="No line has been processed yet.",
            choose=lambda: act("Choose trace"),
        )
        self.detail, self.tapped = w.HTML(), w.HTML()
        self.processor = w.Dropdown(options=[""], layout=w.Layout(width="120px"))
        self.where = w.Text(placeholder="where, such as level = 'INFO'")
        self.limit = w.BoundedIntText(5, min=1, max=50, layout=w.Layout(width="64px"))
        tap = {"Tap": ("tint", "Show rows as they leave this processor")}
        self.button = _buttons(act, tap)["Tap"]
        tools = w.HBox([self.processor, self.where, self.limit, self.button])
        parts = (self.lines, self.detail, tools.add_class("etl-tools"), self.tapped)
        self.box = card("Traces", *parts, kind="etl-traces")

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot's traces; the processors that can be tapped are those of its edges."""
        self.lines.show(snapshot.traces)
        names = tuple(dict.fromkeys(after for _, after in snapshot.edges)) or ("",)
        if self.processor.options != names:
            self.processor.options = names

    def show_trace(self, trace: Mapping[str, Any] | None, explained: Explanation | None) -> None:
        """Show one line before and after every hop, as far as its pipeline is known."""
        if trace is None:
            self.detail.value = ""
            return
        seconds = dict(zip(trace["path"], trace["hop_seconds"], strict=True))
        hops = explained.hops if explained else [Hop(name, [], [], []) for name in seconds]
        columns = ("processor", "µs", "before", "after")
        rows = (_hop_cells(hop, seconds.get(hop.processor)) for hop in hops)
        self.detail.value = f"<p><code>{escape(trace['line'][:500])}</code></p>" + html_table(
            columns, rows, css="etl-hops", formats={"µs": ",.1f"}, most=500
        )

    def set_tapping(self, *, tapping: bool) -> None:
        """Have the button open a tap or close it."""
        self.button.description = "Close tap" if tapping else "Tap"
        self.button.icon = "times" if tapping else "tint"
        for widget in (self.processor, self.where, self.limit):
            widget.disabled = tapping

    def show_tapped(self, rows: pl.DataFrame) -> None:
        """Show the rows that a tap has seen."""
        if rows.is_empty():
            self.tapped.value = "<p class='etl-empty'>No such line has been processed yet.</p>"
        else:
            self.tapped.value = html_table(rows.columns, rows.rows(), css="etl-hops", most=120)


def trace_key(trace: Mapping[str, Any]) -> str:
    """Return the key of a trace."""
    return f"{trace['batch']}:{trace['line_number']}"


def _facts(dead_letter: Mapping[str, Any]) -> str:
    facts = {
        "error": f"{dead_letter['error'] or dead_letter['code']}: {dead_letter['message']}",
        "processor": f"{dead_letter['processor']}, attempts: {dead_letter['attempts']:,}",
        "path": " → ".join(json.loads(dead_letter["path"])),
        "from": f"{dead_letter['source']}, line {dead_letter['line_number']:,}",
        "fields": dead_letter["payload"] or "",
    }
    rows = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    trace = f"<pre>{escape(dead_letter['traceback'])}</pre>" if dead_letter["traceback"] else ""
    return f"<dl class='etl-facts'>{rows}</dl>{trace}"


def _hop_cells(hop: Hop, seconds: float | None) -> Sequence[object]:
    """Return a hop's row: its name, microseconds, and what it changed of the line's first row."""
    old, new = (rows[0] if rows else {} for rows in (hop.before, hop.after))
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key) and key not in SAME]
    ends = not hop.after and not hop.errors and hop.before
    errors = ["the line goes no further"] if ends else hop.errors
    return (
        hop.processor,
        None if seconds is None else seconds * 1e6,
        [f"{key}: {old[key]!r}" for key in changed if key in old],
        [f"{key}: {new[key]!r}" for key in changed if key in new]
        + [Html(f"<em>{escape(error)}</em>") for error in errors],
    )
