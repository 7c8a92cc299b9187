"""Run cells in a kernel of a Jupyter server that is left running, or ended at any moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["KernelRun"]

LOG = logging.getLogger(__name__)
"""Takes what nbclient logs before it raises an error, which says the same."""
LOG.addHandler(logging.NullHandler())
LOG.propagate = False


class KernelRun:
    """A kernel that is being started, and then runs cells.

    Jupyter's servers cannot end a kernel that is being started, and print what it says when it is
    ended while it runs; `end` is to be called before they try.

    Args:
        manager: The server's kernel manager.
        start: Starts the kernel, and returns its id.
    """

    def __init__(self, manager: Any, start: Callable[[], Coroutine[Any, Any, str]]) -> None:
        self._manager = manager
        self._starting = asyncio.create_task(start())
        self._running: asyncio.Task[str | None] | None = None
        self._ended = False

    async def started(self) -> str:
        """Return the kernel's id, once it has one."""
        return await asyncio.shield(self._starting)

    async def run(self, notebook: Any) -> str | None:
        """Run all cells of a notebook, which takes their outputs, up to the first that fails.

        Args:
            notebook: The notebook, as nbformat has it.

        Returns:
            Why a cell failed or the kernel ended, in one line, or None.

        Raises:
            CancelledError: If the run is ended.
        """
        kernel = await self.started()
        if self._ended:
            raise asyncio.CancelledError
        self._running = asyncio.create_task(_run(self._manager.get_kernel(kernel), notebook))
        problem = await self._running
        if self._ended and problem:
            raise asyncio.CancelledError
        return problem

    async def lives(self) -> bool:
        """Return whether the kernel is there, or will be."""
        if not self._starting.done():
            return True
        if (
            self._starting.exception() is not None
            or (kernel := await self.started()) not in self._manager
        ):
            return False
        return bool(await self._manager.get_kernel(kernel).is_alive())

    async def end(self) -> None:
        """End the kernel at once, unless it has run all cells: then it may close what it has."""
        self._ended = True
        await asyncio.wait([self._starting])
        if self._starting.exception() is not None or (self._running and self._running.done()):
            return
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._manager.shutdown_kernel(self._starting.result(), now=True)


async def _run(kernel: Any, notebook: Any) -> str | None:
    """Do what `run` does.

    `NotebookClient.async_execute` would do the same, but it takes Ctrl-C and SIGTERM for itself,
    and does not give them back to the server.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    client: Any = NotebookClient(
        notebook,
        km=kernel,
        timeout=None,
        store_widget_state=False,
        record_timing=False,
        log=LOG,
    )
    try:
        client.kc = kernel.client()
        # No heartbeat: its thread would get in the way of a server that ends.
        client.kc.start_channels(stdin=False, hb=False)
        await client.kc.wait_for_ready(timeout=60)
        about = await client.kc.kernel_info(reply=True, timeout=60)
        notebook.metadata["language_info"] = about["content"]["language_info"]
        for index, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, index)
    except CellExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (DeadKernelError, RuntimeError, TimeoutError) as error:
        return f"the kernel does not answer: {error}"
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    return None
