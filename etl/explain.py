"""Show what a pipeline does with one line, hop by hop, with no lasting effect."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from etl.flow import Flow
from etl.isolate import Bad
from etl.lines import Batch
from etl.runner import Runner

if TYPE_CHECKING:
    from etl.pipeline import Pipeline

__all__ = ["Explanation", "Hop", "explain"]


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

    batch = Batch.from_lines([line], source="explain", format=format)
    outcome = Runner(pipeline, sleep=lambda _seconds: None).trial(batch, watch=watch)
    state = "dead" if outcome.dead else "done" if outcome.done else "filtered"
    return Explanation(batch.frame()["line"][0], state, hops)


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
