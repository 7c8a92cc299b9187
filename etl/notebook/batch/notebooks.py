"""Run a notebook with parameters, and make a page of it that needs no network.

    run_notebook(find_notebook("02_batch_run"), target, {"source": "app.log"})
    write_report(target, Path("report.html"), about)

papermill runs it and nbconvert renders it. Here is what they leave open: parameters
have the type of the default that they replace, an unknown one is refused, no
widget's state is kept, and charts carry their library with them, once.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etl.errors import BatchFailed, GateFailed, UsageError, did_you_mean

__all__ = ["defaults_of", "find_notebook", "parameters", "run_notebook", "write_report"]

PLOTLY = "application/vnd.plotly.v1+json"


HIDDEN = {"notebook-only", "papermill-error-cell-tag"}
"""Tags of cells that a report leaves out."""


TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def find_notebook(name: str) -> Path:
    """Return where a notebook of this project is.

    Raises:
        UsageError: If etl was installed without its notebooks.
    """
    path = Path(__file__).parents[3] / "notebooks" / f"{name}.ipynb"
    if not path.exists():
        raise UsageError(f"there is no {str(path)!r}; run this from a checkout of etl")
    return path


def defaults_of(notebook: Path) -> dict[str, Any]:
    """Return a notebook's parameters with the literals that they have in it."""
    import papermill

    found = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(one["default"]) for name, one in found.items()}


def parameters(texts: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Read `name=value` texts; each value gets the type of the parameter's default.

    A list is written with commas between, or as JSON.

    Raises:
        UsageError: If a name is unknown, or a value of another type.
    """
    found = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark:
            raise UsageError(f"-p {text} is no name=value")
        if name not in defaults:
            raise UsageError(f"unknown parameter {name!r}{did_you_mean(name, defaults)}")
        found[name] = _typed(name, value, defaults[name])
    return found


def run_notebook(notebook: Path, target: Path, given: Mapping[str, Any]) -> None:
    """Run a notebook with parameters, and keep it as it was executed, also if it fails.

    Raises:
        GateFailed: If it says that what it made is not good enough.
        BatchFailed: If a cell fails, or its kernel dies.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(target),
            parameters=dict(given),
            progress_bar=False,
            store_widget_state=False,
            extra_arguments=["--log-level=CRITICAL"],
        )
    except PapermillExecutionError as error:
        if error.ename == GateFailed.__name__:
            raise GateFailed(error.evalue) from None
        raise BatchFailed(f"{error.ename}: {error.evalue} (see {str(target)!r})") from None
    except DeadKernelError:
        raise BatchFailed(f"the kernel died; start it again: nothing is lost ({target})") from None


def write_report(executed: Path, page: Path, about: Mapping[str, Any]) -> None:
    """Render an executed notebook as one HTML file that loads nothing.

    Args:
        executed: The notebook.
        page: The file to write.
        about: For the head and the foot: `title`, `state`, `verdict`, `error`
            (str), `facts` and `parameters` (pairs of str), `footer` (str).
    """
    import nbformat
    from nbconvert import HTMLExporter
    from plotly.offline import get_plotlyjs

    nb = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    drawn = any(PLOTLY in one.get("data", {}) for cell in nb.cells for one in _outputs(cell))
    here = Path(__file__).parent
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="report_template", extra_template_basedirs=[str(here)]
    )
    resources = {
        "about": about,
        "css": (here / "report_template" / "report.css").read_text("utf-8"),
        "plotly": get_plotlyjs() if drawn else "",
        "mime": PLOTLY,
        "figure": lambda figure: json.dumps(figure).replace("<", "\\u003c"),
        "shown": lambda cell: not HIDDEN & set(cell.metadata.get("tags", ())),
        "outputs": _outputs,
    }
    text, _ = exporter.from_notebook_node(nb, resources=resources)
    page.write_text(text, encoding="utf-8")


def _outputs(cell: Any) -> list[Any]:
    """Return the outputs of a cell that a report shows."""
    quiet = "no-output" in cell.metadata.get("tags", ())
    found = cell.get("outputs", ())
    return [one for one in found if not quiet or one.output_type == "error"]


def _typed(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return TRUTHS[text.lower()]
        if kind is list:
            return _list(text)
        return kind(text)
    except (KeyError, ValueError):
        wanted = KINDS.get(kind, f"a {kind.__name__}")
        raise UsageError(f"parameter {name} has to be {wanted}, not {text!r}") from None


def _list(text: str) -> list[Any]:
    if text.startswith("["):
        found = json.loads(text)
        if isinstance(found, list):
            return found
    return [one.strip() for one in text.split(",") if one.strip()]
