"""Run a notebook with parameters.

    execute(find_notebook("02_batch_run"), Path("run.ipynb"), {"source": "app.log"})

papermill runs it; no widget's state is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.errors import BatchFailed, GateFailed
from etl.filesystem import DISK
from etl.runs.registry import make_folder

__all__ = ["execute"]


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
