"""JupyterLab that has run the control room's notebook, and shows the console beside its cells.

The server runs the notebook in the session that every page of it attaches to. Then it trusts the
notebook, saves it with what it shows, and tells the pages that wait: an extension of JupyterLab,
`lab_pane`, puts the output of the cell with the tag `console` at the right of the cells.
"""

from __future__ import annotations

import asyncio
import signal
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from jupyterlab.labapp import LabApp
from tornado.web import HTTPError, authenticated

from etl.errors import UsageError
from etl.notebook.execution import KernelRun
from etl.notebook.guard import guard
from etl.server.hosts import AllowedHosts

__all__ = ["lab_with"]

ENDS_SECONDS = 10.0
"""How long a server that ends waits for the notebook to be let go, at most."""


def lab_with(notebook: Path, originals: Path, hosts: AllowedHosts) -> Any:
    """Return JupyterLab's application class that opens with a notebook, and with the checks.

    Args:
        notebook: What to run and to show, below the server's root folder.
        originals: A folder of notebooks that are not to be written to.
        hosts: The names of the server.
    """

    class Lab(LabApp):  # type: ignore[misc]
        @classmethod
        def get_extension_package(cls) -> str:
            return str(LabApp.get_extension_package())

        @classmethod
        def initialize_server(cls, *given: Any, **more: Any) -> Any:
            server = super().initialize_server(*given, **more)
            guard(server.web_app, hosts)
            _protect(server.contents_manager, originals)
            _Opening(server, notebook).begin()
            signal.signal(signal.SIGINT, partial(_interrupt, server))
            return server

    return Lab


class _Opening:
    """Runs the notebook, and opens a browser on it."""

    def __init__(self, server: Any, notebook: Path) -> None:
        root = Path(server.root_dir)
        if not notebook.is_relative_to(root):
            raise UsageError(f"the control room is in {str(notebook.parent)!r}, outside of {root}")
        _clear(notebook, server.contents_manager.notary)
        self._server = server
        self._path = notebook.relative_to(root).as_posix()
        self._has_session, self._has_run = asyncio.Event(), asyncio.Event()
        self._kernel: KernelRun | None = None
        self._opening: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Run the notebook as soon as the server runs, and end it with the server."""
        server, application = self._server, self._server.web_app
        application.settings["page_config_data"]["etlNotebook"] = self._path
        where = url_path_join(server.base_url, "etl", "has-run")
        application.add_handlers(".*$", [(where, _HasRun, {"event": self._has_run})])
        exists, end_kernels = server.session_manager.session_exists, server.cleanup_kernels

        async def session_exists(path: str) -> bool:
            """Return whether there is a session; a page that is early waits for its own."""
            if path == self._path:
                await self._has_session.wait()
            return bool(await ensure_async(exists(path)))

        async def cleanup_kernels() -> None:
            if self._kernel is not None:
                await self._kernel.end()
            if self._opening is not None:  # threads that read files for it end with it
                await asyncio.wait([self._opening], timeout=ENDS_SECONDS)
            await end_kernels()

        server.session_manager.session_exists = session_exists
        server.cleanup_kernels = cleanup_kernels
        server.io_loop.add_callback(self._begin)

    def _begin(self) -> asyncio.Task[None]:
        self._opening = asyncio.create_task(self._run())
        return self._opening  # whose errors the loop logs

    async def _start(self) -> str:
        sessions, name = self._server.session_manager, Path(self._path).name
        made = await sessions.create_session(path=self._path, name=name, type="notebook")
        return str(made["kernel"]["id"])

    async def _run(self) -> None:
        server, path = self._server, self._path
        contents = server.contents_manager
        self._kernel = KernelRun(server.kernel_manager, self._start)
        try:
            await self._kernel.started()
            self._has_session.set()
            model = await ensure_async(contents.get(path))
            if problem := await self._kernel.run(model["content"]):
                server.log.warning("%s was not run to its end: %s", path, problem)
            contents.notary.mark_cells(model["content"], trusted=True)
            await ensure_async(contents.save(model, path))
        finally:
            self._has_session.set()
            self._has_run.set()


class _HasRun(JupyterHandler):
    """Answers once the notebook has run."""

    def initialize(self, event: asyncio.Event) -> None:
        """Know what to wait for."""
        self._event = event

    @authenticated
    async def get(self) -> None:
        """Answer 204."""
        await self._event.wait()
        self.set_status(204)


def _interrupt(server: Any, *_: object) -> None:
    """Stop a server with its kernels; at a second Ctrl-C, without waiting for them.

    Jupyter does neither unless it is started from a terminal. The server is stopped by its loop:
    in the midst of what it does, such as to listen, that would fail.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    server.io_loop.add_callback_from_signal(partial(server.stop, from_signal=True))


def _clear(file: Path, notary: Any) -> None:
    """Remove the outputs with which a notebook came, whose widgets are not there, and trust it."""
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, file)
    notary.sign(notebook)


def _protect(contents: Any, originals: Path) -> None:
    """Let nobody save, rename or delete a notebook in the folder of those that are copied from."""
    originals = originals.resolve()
    rename, delete = contents.rename_file, contents.delete_file

    def refuse(path: str, **_: object) -> None:
        file = Path(contents.root_dir, path.strip("/")).resolve()
        if file == originals or file.is_relative_to(originals):
            raise HTTPError(403, f"{path} is the original; save a copy of it elsewhere")

    def rename_file(old_path: str, new_path: str) -> Any:
        refuse(old_path)
        refuse(new_path)
        return rename(old_path, new_path)

    def delete_file(path: str) -> Any:
        refuse(path)
        return delete(path)

    contents.register_pre_save_hook(refuse)
    contents.rename_file, contents.delete_file = rename_file, delete_file
