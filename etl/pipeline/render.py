"""A pipeline drawn: as a Mermaid flowchart, and as an HTML table."""

from __future__ import annotations

import html
import re
from typing import Any

import polars as pl

from etl.pipeline.plan import INPUT, Plan

__all__ = ["html_table", "mermaid"]


def mermaid(plan: Plan) -> str:
    """Return a DAG as a Mermaid flowchart."""
    ids = {name: f"n{number}" for number, name in enumerate((INPUT, *plan.nodes))}
    lines = ["flowchart LR", f"    {ids[INPUT]}([{INPUT}])"]
    for node in plan.nodes.values():
        left, right = ("[(", ")]") if node.is_sink else ("[", "]")
        lines.append(f"    {ids[node.name]}{left}{_label(node.name)}{right}")
    for node in plan.nodes.values():
        arrow = "-.->" if node.tee else "-->"
        label = "" if node.when is None else f"|{_label(_short(node.when))}|"
        lines += [
            f"    {ids[parent]} {arrow}{label} {ids[node.name]}"
            for parent in node.after
            if parent in ids
        ]
    return "\n".join(lines)


def html_table(plan: Plan) -> str:
    """Return a DAG as an HTML table with a row per processor."""
    rows = "".join(
        f"<tr><td>{_cell(node.name)}</td><td>{_cell(', '.join(node.after))}</td>"
        f"<td>{_cell('' if node.when is None else _short(node.when))}"
        f"{' (copy)' if node.tee else ''}</td><td>{_cell(_describe(node.processor))}</td></tr>"
        for node in plan.nodes.values()
    )
    return (
        f"<table><caption>{_cell(plan.name)} · version {plan.version}</caption><thead><tr>"
        "<th>processor</th><th>after</th><th>when</th><th>what</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _describe(processor: Any) -> str:
    function = getattr(processor, "function", processor)
    name = getattr(function, "__name__", type(processor).__name__)
    return f"each {name}" if function is not processor else name


def _short(expression: pl.Expr) -> str:
    return re.sub(r"col\(\"(\w+)\"\)|\[|\]", r"\1", str(expression))


def _label(text: str) -> str:
    return '"' + html.escape(text, quote=True).replace("\n", " ") + '"'


def _cell(text: str) -> str:
    return html.escape(text, quote=True)
