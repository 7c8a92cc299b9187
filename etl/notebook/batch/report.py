"""Pages that need no network: the report of one batch, and the summary of many.

    write_report(Path("run.ipynb"), Path("report.html"), about)
    write_summary(Path("summary.html"), batches)

nbconvert renders both from the templates in `report_template`; charts carry their
library with them, once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etl.filesystem import DISK

__all__ = ["COUNTS", "STATES", "write_report", "write_summary"]

STATES = {
    "finished": "passed",
    "gate": "quality gate failed",
    "refused": "refused",
    "failed": "failed",
    "killed": "killed",
}
"""The states of a batch as a page shows them, the worst last."""

COUNTS = ("accepted", "done", "filtered", "dead")

PLOTLY = "application/vnd.plotly.v1+json"

HIDDEN = {"notebook-only", "papermill-error-cell-tag"}
"""Tags of cells that a report leaves out."""

HALF = "half"
"""Tag of the heading of a section that is half as wide as the page."""

HERE = Path(__file__).parent

BASIC = {"bar", "pie", "scatter"}
"""Traces that the part of plotly.js in `vendor` can draw; for others a page has all of it."""

VENDORED = HERE / "vendor" / "plotly-basic-4.1.1.min.js"


def write_report(executed: Path, page: Path, about: Mapping[str, Any]) -> None:
    """Render an executed notebook as one HTML file that loads nothing.

    Args:
        executed: The notebook.
        page: The file to write.
        about: For the head and the foot: `title`, `state`, `error` (str), `facts` and
            `parameters` (pairs of str), `gates` (str: those that failed), `footer` (str).
    """
    import nbformat

    nb = nbformat.read(executed, as_version=4)
    data = [one.get("data", {}) for cell in nb.cells for one in _outputs(cell)]
    library = _library([one[PLOTLY] for one in data if PLOTLY in one])
    resources = _resources(about) | {
        "plotly": library,
        "templates": _templates() if library else {},
        "mime": PLOTLY,
        "json": lambda value: json.dumps(value).replace("<", "\\u003c"),
        "sections": _sections,
        "outputs": _outputs,
    }
    text, _ = _exporter().from_notebook_node(nb, resources=resources)
    DISK.make_file(page).write_text(text, encoding="utf-8")


def write_summary(page: Path, batches: Sequence[Mapping[str, Any]]) -> None:
    """Write a page with a row per batch, and a link to the report of each.

    Args:
        page: The file to write.
        batches: As `command.run_each` returns them.
    """
    worst = max((one["state"] for one in batches), key=list(STATES).index)
    about = {"title": f"{len(batches):,} batches", "state": worst}
    template = _exporter().environment.get_template("summary.html.j2")
    columns = (*COUNTS, "seconds")
    text = template.render(resources=_resources(about), batches=batches, columns=columns)
    DISK.make_file(page).write_text(text, encoding="utf-8")


def _exporter() -> Any:
    from nbconvert import HTMLExporter

    return HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report_template", extra_template_basedirs=[str(HERE)]
    )


def _resources(about: Mapping[str, Any]) -> dict[str, Any]:
    css = (HERE / "report_template" / "report.css").read_text("utf-8")
    return {"about": about, "css": css, "states": STATES}


def _library(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return the JavaScript that draws figures: as little of plotly.js as can."""
    if not figures:
        return ""
    if {trace.get("type", "scatter") for one in figures for trace in one["data"]} <= BASIC:
        return VENDORED.read_text("utf-8")
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _templates() -> dict[str, Any]:
    """Return the look of figures on a light and on a dark page."""
    import plotly.io

    from etl.analysis import figures  # noqa: F401 - makes them

    names = {"light": "etl", "dark": "etl_dark"}
    return {shade: plotly.io.templates[name].to_plotly_json() for shade, name in names.items()}


def _sections(nb: Any) -> list[dict[str, Any]]:
    """Return the cells that a report shows, from each heading to the next."""
    found: list[dict[str, Any]] = [{"cells": [], "half": False}]
    for cell in nb.cells:
        tags = set(cell.metadata.get("tags", ()))
        if HIDDEN & tags:
            continue
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            found.append({"cells": [], "half": HALF in tags})
        found[-1]["cells"].append(cell)
    return [one for one in found if one["cells"]]


def _outputs(cell: Any) -> list[Any]:
    """Return the outputs of a cell that a report shows."""
    quiet = "no-output" in cell.metadata.get("tags", ())
    found = cell.get("outputs", ())
    return [one for one in found if not quiet or one.output_type == "error"]
