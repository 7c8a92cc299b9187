"""The control room as a server on this machine: JupyterLab, or Voilà as a web page.

Both run in this process until Ctrl-C ends them, and their kernels with them.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from etl.errors import UsageError
from etl.notebook.opening import opening
from etl.notebook.shipped import copy_notebooks, find_notebook
from etl.queue import open_queue
from etl.queue.urls import url_of, without_secrets
from etl.runs.registry import make_folder, new_run_id, place_of, recorded
from etl.server.hosts import AllowedHosts
from etl.settings import settings

__all__ = ["serve_lab", "serve_page"]

NOTEBOOK = "01_control_room"

ENCRYPTED = "--KernelManager.transport_encryption=auto"
"""Other users of this machine cannot read what goes to a kernel over TCP."""

HERE = Path(__file__).parent

SETTINGS = HERE
"""Where JupyterLab finds that it need not ask about news, in a box over the control room."""

EXTENSIONS = HERE / "lab_pane"
"""Where it finds the extension that shows the console beside the cells."""


def serve_lab(
    store: str,
    port: int,
    more: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    browser: bool = True,
) -> None:
    """Serve a JupyterLab that has run the control room's notebook and shows its console.

    The notebook is a copy in the folder of a new run, beside copies of the other notebooks.

    Args:
        store: URL or path of the store that the notebook's last chapter shows.
        port: Where to listen; JupyterLab takes the next free one if it is taken.
        more: Further options for JupyterLab.
        names: Further names of the server in a Host header, such as that of a proxy.
        browser: Whether to open a browser.

    Raises:
        UsageError: If the store cannot be used, or nothing can be written in the folder of runs.
    """
    hosts = AllowedHosts(names)
    lab = _part("etl.notebook.lab")
    logging.getLogger("tornado.general").addFilter(_is_news)
    original, run = find_notebook(NOTEBOOK), new_run_id()
    with closing(open_queue(store)) as queue:
        opening(queue)  # raises here, not in a cell, if something cannot be used
    folder = place_of(run).absolute()
    _fill(folder)
    notebook, root = folder / original.name, _root_above(folder)
    options = [
        f"--port={port}",
        "--ServerApp.ip=127.0.0.1",
        ENCRYPTED,
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{quote(notebook.relative_to(root).as_posix())}",
        f"--LabApp.workspaces_dir={folder / '.workspaces'}",  # no tabs of earlier sessions
        f"--LabApp.extra_labextensions_path={EXTENSIONS}",
        *(f"--ServerApp.local_hostnames={name}" for name in sorted(hosts.names)),
        "--ServerApp.log_level=WARN",
        "--LabApp.log_level=WARN",
        "--allow-root",  # in a container there is often nobody else
        *([] if browser else ["--no-browser"]),
    ]
    paths = [str(SETTINGS), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    os.environ |= _environment(store) | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
    with recorded(run, kind="lab", store=without_secrets(url_of(store)), out=str(folder)):
        lab.lab_with(notebook, original.parent, hosts).launch_instance(_merged(options, more))


def serve_page(
    store: str,
    port: int,
    more: Sequence[str] = (),
    *,
    pipeline: str | None = None,
    workers: int | None = None,
    interval: float | None = None,
    names: Sequence[str] = (),
    browser: bool = True,
) -> None:
    """Serve the control room of a store as a web page, and print where.

    All pages show the same control room, whose workers end with the server.

    Args:
        store: URL or path of the store; it is made if it is not there.
        port: Where to listen.
        more: Further options for Voilà.
        pipeline: What its workers run, as `module:attr` or `path.py:attr`; by default what
            `opening` finds, and so are the two that follow.
        workers: How many there are at the start.
        interval: Seconds for which each holds a batch before it processes it.
        names: Further names of the server in a Host header, such as that of a proxy.
        browser: Whether to open a browser.

    Raises:
        UsageError: If the port is taken, or the store or the pipeline cannot be used.
    """
    page = _part("etl.notebook.page")
    logging.getLogger("tornado.general").addFilter(_is_news)
    with closing(open_queue(store)) as queue:
        opening(queue, pipeline)  # raises here, not in a cell, if something cannot be used
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used: {error.strerror}; name another with --port"
            ) from error
    options = [
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        ENCRYPTED,
        "--KernelManager.autorestart=False",  # one without the cell would show nothing
        "--Voila.port_retries=0",
        "--Voila.log_level=ERROR",
        *([] if browser else ["--no-browser"]),
    ]
    os.environ |= _environment(store) | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    code = page.cell(pipeline, workers=workers, interval=interval)
    server = page.page_with(code, AllowedHosts(names))
    server.launch_instance(_merged(options, more))


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether to log what Tornado says: not what is so on purpose, or at every end.

    Jupyter gives up a connection after three pings without an answer. Tornado reads the same
    settings, in seconds and for pings of its own, and warns that this is too long. PyZMQ warns of a
    word from a kernel that arrives while the connection to it is being closed.
    """
    said = record.getMessage()
    return "websocket_ping_timeout" not in said and "Got events for closed stream" not in said


def _part(module: str) -> Any:
    """Import a module that needs what only the extra `notebook` installs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "etl").partition(".")[0] == "etl":
            raise
        raise UsageError(f"{error.name} is not installed; pip install 'etl[notebook]'") from error


def _fill(folder: Path) -> None:
    """Make the folder of a run, with copies of the notebooks in it."""
    try:
        make_folder(folder)
        copy_notebooks(folder)
    except OSError as error:
        raise UsageError(
            f"nothing can be written below {str(folder.parent)!r}: {error.strerror}; "
            "name another folder of runs with ETL_RUNS"
        ) from error


def _root_above(folder: Path) -> Path:
    """Return what JupyterLab shows: the current folder, if the run's is in it and not hidden."""
    here = Path.cwd()
    if folder.is_relative_to(here):
        parts = folder.relative_to(here).parts
        if not any(part.startswith(".") for part in parts):
            return here
    return folder.parent


def _merged(options: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return all options; of those given twice, which Jupyter refuses, only the user's own."""
    own = {option.partition("=")[0] for option in more}
    return [option for option in options if option.partition("=")[0] not in own] + list(more)


def _environment(store: str) -> dict[str, str]:
    """Return the variables that name the store and the runs to a kernel in another folder."""
    return {"ETL_STORE": url_of(store), "ETL_RUNS": str(settings().runs.absolute())}
