"""The control room as a web page: Voilà's server and front end, one kernel, a page of our own.

Voilà would run a notebook in a kernel of its own for each visitor, and end it with the page. A
control room has workers, so here one kernel is there for all pages, as long as the server. It runs
one cell, whose output is all that a page shows; until then the page shows that it is loading.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from html import escape
from pathlib import Path
from typing import Any

from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from nbformat import v4
from tornado.ioloop import IOLoop
from tornado.web import authenticated
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import AllowListFileHandler
from voila.tornado.contentshandler import VoilaContentsHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.treehandler import TornadoVoilaTreeHandler
from voila.utils import get_page_config

from etl.notebook.execution import KernelRun
from etl.notebook.guard import guard
from etl.server.hosts import AllowedHosts
from etl.text import say

__all__ = ["cell", "page_with"]

PAGE = Path(__file__).with_name("page.html")

CELL = """\
import os
from etl import open_queue
from etl.notebook.control_room import ControlRoom
from etl.notebook.opening import opening

queue = open_queue(os.environ["ETL_STORE"])
room = ControlRoom(
    queue, **opening(queue, {pipeline!r}, workers={workers!r}, interval={interval!r})
)
room
"""
"""The store's URL may have a password, and IPython keeps a history of cells: so it is not in it."""

FAILED = "The control room did not start. "

EXTENSIONS = (
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
)
"""Those of JupyterLab that the page loads; others would cost time, and show nothing."""

UNUSED = (
    AllowListFileHandler,
    TornadoVoilaHandler,
    TornadoVoilaTreeHandler,
    VoilaContentsHandler,
    VoilaShutdownKernelHandler,
)
"""Of Voilà's handlers those that show files, and end the kernel of a page that is left."""


def cell(pipeline: str | None, *, workers: int | None, interval: float | None) -> str:
    """Return the code that shows the control room of the store that `ETL_STORE` names.

    Args: see `etl.notebook.opening`.
    """
    return CELL.format(pipeline=pipeline, workers=workers, interval=interval)


def page_with(code: str, hosts: AllowedHosts) -> Any:
    """Return Voilà's application class that shows the output of a cell, with the checks.

    Args:
        code: The cell.
        hosts: The names of the server.
    """

    class Page(Voila):  # type: ignore[misc]
        base_url: Any
        server_url: Any

        def init_settings(self) -> dict[str, Any]:
            self.server_url = _prefix(self.server_url or self.base_url)
            self.base_url = _prefix(self.base_url)
            self.voila_configuration.extension_allowlist = list(EXTENSIONS)
            settings = dict(super().init_settings())
            self.kernel = _SharedKernel(self.kernel_manager, code)
            return settings

        def init_handlers(self) -> list[Any]:
            kept = [one for one in super().init_handlers() if one[1] not in UNUSED]
            prefix = self.server_url
            return [
                *kept,
                (url_path_join(prefix, r"/voila/api/shutdown/.*"), _Left),
                (url_path_join(prefix, r"/"), _Page, {"server": self}),
            ]

        def initialize(self, argv: Any = None) -> None:
            super().initialize(argv)
            self.ioloop = IOLoop.current()
            signal.signal(signal.SIGINT, self._handle_signal_stop)  # as Voilà has it for SIGTERM

        def stop(self) -> None:
            self.ioloop.run_sync(self.kernel.end)
            super().stop()

        def listen(self) -> None:
            guard(self.app, hosts)
            IOLoop.current().add_callback(self._begin)
            super().listen()

        async def _begin(self) -> None:
            say(f"The control room is at {self.display_url} (Ctrl-C ends it)")
            try:
                await self.kernel.shown()
            except RuntimeError as error:
                self.log.error("%s%s", FAILED, error)  # noqa: TRY400 - it is the cell's

    return Page


def _prefix(url: str) -> str:
    """Return a path that begins and ends with a slash, as Voilà needs it."""
    return f"/{url.strip('/')}/" if url.strip("/") else "/"


class _SharedKernel:
    """The kernel that runs the cell, for all pages.

    Args:
        manager: What starts it.
        code: The cell.
    """

    def __init__(self, manager: Any, code: str) -> None:
        self._manager, self._code = manager, code
        self._kernel: KernelRun | None = None
        self._outputs: asyncio.Task[list[Any]] | None = None

    async def shown(self) -> tuple[str, list[Any]]:
        """Return the kernel's id and what its cell shows; start another if it has ended.

        Raises:
            RuntimeError: If the cell fails. The next call tries it again.
        """
        if self._kernel is None or self._outputs is None or not await self._kernel.lives():
            self._kernel = KernelRun(self._manager, self._start)
            self._outputs = asyncio.create_task(self._run(self._kernel))
        kernel, outputs = self._kernel, self._outputs
        return await kernel.started(), await asyncio.shield(outputs)

    async def end(self) -> None:
        """End the kernel if it is not there yet; the server ends it later."""
        if self._kernel is not None:
            await self._kernel.end()

    async def _start(self) -> str:
        environment = os.environ | {"SERVER_SOFTWARE": "voila"}
        return str(await self._manager.start_kernel(cwd=str(Path.cwd()), env=environment))

    async def _run(self, kernel: KernelRun) -> list[Any]:
        code = v4.new_code_cell(self._code)
        if problem := await kernel.run(v4.new_notebook(cells=[code])):
            await ensure_async(self._manager.shutdown_kernel(await kernel.started(), now=True))
            raise RuntimeError(problem)
        return [one for one in code.outputs if "data" in one]


class _Page(JupyterHandler):
    """Answers with the page: at once what is the same for all, then what the cell shows."""

    def initialize(self, server: Any) -> None:
        """Know the server."""
        self._server = server

    @authenticated
    async def get(self) -> None:
        """Answer with HTML, in two parts."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        before, after = PAGE.read_text(encoding="utf-8").split("<!-- console -->")
        self.write(before.replace("{base}", escape(self.base_url)))
        await self.flush()
        try:
            kernel, outputs = await self._server.kernel.shown()
        except RuntimeError as error:
            self.write(f'<p id="failed" role="alert">{escape(FAILED + str(error))}</p>')
            return
        config = get_page_config(
            base_url=self.base_url,
            settings=self.settings,
            log=self.log,
            voila_configuration=self._server.voila_configuration,
        ) | {"baseUrl": self.base_url, "kernelId": kernel, "jupyterLabTheme": "light"}
        for output in outputs:
            self.write(
                _script("application/vnd.voila.cell-output+json", output | {"trusted": True})
            )
        self.write(_script("application/json", config, name="jupyter-config-data"))
        self.write(after.replace("{base}", escape(self.base_url)))


class _Left(APIHandler):
    """Answers a page that is left: it may, and its kernel stays."""

    def check_xsrf_cookie(self) -> None:
        """Ask for no cookie, which the page does not have: nothing is done."""

    @authenticated
    async def post(self) -> None:
        """Answer 204."""
        self.set_status(204)


def _script(kind: str, content: Any, *, name: str = "") -> str:
    text = json.dumps(content).replace("<", "\\u003c")
    return f'<div><script type="{kind}" id="{name}">{text}</script></div>\n'
