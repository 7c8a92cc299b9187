"""Run a notebook with parameters.

    given = parameters(["source=app.log"], defaults_of(notebook))
    execute(find_notebook("02_batch_run"), Path("run.ipynb"), given)

papermill runs it. Here is what it leaves open: parameters have the type of the
default that they replace, an unknown one is refused, no widget's state is kept.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etl.errors import BatchFailed, GateFailed, UsageError, did_you_mean
from etl.filesystem import DISK
from etl.runs.registry import make_folder

__all__ = ["defaults_of", "execute", "parameters"]

TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

KINDS = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}


def defaults_of(notebook: Path) -> dict[str, Any]:
    """Return a notebook's parameters with the literals that they have in it."""
    import papermill

    found = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(one["default"]) for name, one in found.items()}


def parameters(texts: Sequence[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `name=value` texts, each of the type of the parameter's default.

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
        kind = type(defaults[name])
        try:
            found[name] = READERS.get(kind, kind)(value)
        except (KeyError, ValueError):
            wanted = KINDS.get(kind, f"a {kind.__name__}")
            raise UsageError(f"parameter {name} has to be {wanted}, not {value!r}") from None
    return found


def execute(notebook: Path, target: Path, given: Mapping[str, Any]) -> None:
    """Run a notebook with parameters, and keep it as it was executed, also if it fails.

    Raises:
        GateFailed: If a quality gate in it was not passed.
        BatchFailed: If a cell fails, or its kernel ends.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    make_folder(target.parent)
    DISK.make_file(target)
    logging.getLogger("asyncio").addFilter(_is_not_of_dead_kernel)
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
        raise BatchFailed(
            f"the kernel ended unexpectedly; start the batch again: nothing is lost ({target})"
        ) from None


def _is_not_of_dead_kernel(record: logging.LogRecord) -> bool:
    """Return whether to log a task's error: that of a dead kernel is the one `execute` raises."""
    from nbclient.exceptions import DeadKernelError

    return not (record.exc_info and isinstance(record.exc_info[1], DeadKernelError))


def _list(text: str) -> list[Any]:
    if text.startswith("["):
        return list(json.loads(text))
    return [one.strip() for one in text.split(",") if one.strip()]


READERS: Mapping[type, Any] = {bool: lambda text: TRUTHS[text.lower()], list: _list}
