"""The control room as a server on this machine: JupyterLab, or Voilà as a web page.

Both run in this process until Ctrl-C ends them.
"""

from __future__ import annotations

import importlib
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl.errors import UsageError
from etl.notebook.batch.execute import find_notebook
from etl.notebook.guard import guarded_lab, guarded_page
from etl.queue.urls import url_of
from etl.server.hosts import AllowedHosts
from etl.settings import settings
from etl.text import say

__all__ = ["serve_lab", "serve_page"]

NOTEBOOK = "01_control_room"

ENCRYPTED = "--KernelManager.transport_encryption=auto"
"""Other users of this machine cannot read what goes to a kernel over TCP."""

PINGS = {"ws_ping_timeout": 30_000}
"""Milliseconds; Jupyter's own default is more than Tornado allows, which then warns."""

SETTINGS = Path(__file__).parent
"""Where JupyterLab finds that it need not ask about news, in a box over the control room."""

UNTRACKED = ("comm_msg", "comm_open", "comm_close", "status", "stream", "display_data", "error")
"""Messages that do not show that anybody is there: a control room sends them by itself."""


def serve_lab(
    store: str,
    port: int,
    more: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    browser: bool = True,
) -> None:
    """Serve a JupyterLab that opens on the control room's notebook.

    Args:
        store: URL or path of the store that the notebook's last chapter shows.
        port: Where to listen; JupyterLab takes the next free one if it is taken.
        more: Further options for JupyterLab.
        names: Further names of the server in a Host header, such as that of a proxy.
        browser: Whether to open a browser.
    """
    hosts = AllowedHosts(names)
    server = guarded_lab(_server("jupyterlab.labapp", "LabApp"), hosts)
    notebook = find_notebook(NOTEBOOK)
    options = [
        f"--port={port}",
        "--ServerApp.ip=127.0.0.1",
        ENCRYPTED,
        f"--ServerApp.root_dir={notebook.parent}",
        f"--LabApp.default_url=/lab/tree/{notebook.name}",
        "--ServerApp.answer_yes=True",
        *(f"--ServerApp.local_hostnames={name}" for name in sorted(hosts.names)),
        f"--ServerApp.tornado_settings={PINGS}",
        "--ServerApp.log_level=WARN",
        "--LabApp.log_level=WARN",
        "--allow-root",  # in a container there is often nobody else
        *([] if browser else ["--no-browser"]),
    ]
    paths = [str(SETTINGS), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    os.environ |= _environment(store) | {"JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
    server.launch_instance(_merged(options, more))


def serve_page(
    store: str,
    port: int,
    more: Sequence[str] = (),
    *,
    names: Sequence[str] = (),
    browser: bool = True,
) -> None:
    """Serve the control room's notebook as a web page, and print where.

    Args:
        store: URL or path of the store that the notebook's last chapter shows.
        port: Where to listen.
        more: Further options for Voilà.
        names: Further names of the server in a Host header, such as that of a proxy.
        browser: Whether to open a browser.

    Raises:
        UsageError: If the port is taken.
    """
    server = guarded_page(_server("voila.app", "Voila"), AllowedHosts(names))
    notebook = find_notebook(NOTEBOOK)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be used: {error.strerror}; name another with --port"
            ) from error
    options = [
        str(notebook),
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
        ENCRYPTED,
        "--Voila.port_retries=0",
        "--Voila.log_level=ERROR",
        "--VoilaConfiguration.show_tracebacks=True",
        # The kernel of a page that was cut off is ended some minutes later.
        "--MappingKernelManager.cull_idle_timeout=120",
        "--MappingKernelManager.cull_interval=30",
        *(f"--MappingKernelManager.untracked_message_types={name}" for name in UNTRACKED),
        *([] if browser else ["--no-browser"]),
    ]
    # A page that is left ends its kernel with a token from a cookie; Voilà never sets that cookie.
    cookie = f"_xsrf={secrets.token_hex(16)}; Path=/; SameSite=Strict"
    settings = PINGS | {"headers": {"Set-Cookie": cookie}}
    os.environ |= _environment(store) | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    say(f"The control room is at http://127.0.0.1:{port}/ (Ctrl-C ends it)")
    server.launch_instance(_merged(options, more), tornado_settings=settings)


def _server(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0]
        raise UsageError(f"{package} is not installed; pip install -e '.[notebook]'") from error


def _merged(options: Sequence[str], more: Sequence[str]) -> list[str]:
    """Return all options; of those given twice, which Jupyter refuses, only the user's own."""
    own = {option.partition("=")[0] for option in more}
    return [option for option in options if option.partition("=")[0] not in own] + list(more)


def _environment(store: str) -> dict[str, str]:
    """Return the variables that name the store and the runs to a kernel in another folder."""
    return {"ETL_STORE": url_of(store), "ETL_RUNS": str(settings().runs.absolute())}
