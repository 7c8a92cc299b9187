"""A pipeline drawn: as a Mermaid flowchart, and as an HTML table."""

from __future__ import annotations

import html
import re
from typing import Any

import polars as pl

from etl.pipeline.plan import INPUT, Plan
from etl.text import html_table

__all__ = ["as_html", "mermaid"]


def mermaid(plan: Plan) -> str:
    """Return a DAG as a Mermaid flowchart."""
    ids = {name: f"n{number}" for number, name in enumerate((INPUT, *plan.nodes))}
    lines = ["flowchart LR", f"    {ids[INPUT]}([{INPUT}])"]
    edges = []
    for node in plan.nodes.values():
        left, right = ("[(", ")]") if node.is_sink else ("[", "]")
        lines.append(f"    {ids[node.name]}{left}{_label(node.name)}{right}")
        arrow = "-.->" if node.tee else "-->"
        label = "" if node.when is None else f"|{_label(_short(node.when))}|"
        parents = (ids[parent] for parent in node.after if parent in ids)
        edges += [f"    {parent} {arrow}{label} {ids[node.name]}" for parent in parents]
    return "\n".join([*lines, *edges])


def as_html(plan: Plan) -> str:
    """Return a DAG as an HTML table with a row per processor."""
    rows = [
        (
            node.name,
            ", ".join(node.after),
            ("" if node.when is None else _short(node.when)) + (" (copy)" if node.tee else ""),
            _describe(node.processor),
        )
        for node in plan.nodes.values()
    ]
    caption = f"{plan.name} · version {plan.version}"
    return html_table(["processor", "after", "when", "what"], rows, caption=caption)


def _describe(processor: Any) -> str:
    function = getattr(processor, "function", processor)
    name = getattr(function, "__name__", type(processor).__name__)
    return f"each {name}" if function is not processor else name


def _short(expression: pl.Expr) -> str:
    return re.sub(r"col\(\"(\w+)\"\)|\[|\]", r"\1", str(expression))


def _label(text: str) -> str:
    return '"' + html.escape(text, quote=True).replace("\n", " ") + '"'
