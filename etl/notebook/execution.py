"""Run cells in a kernel that a Jupyter server has started, and leave it running."""

from __future__ import annotations

from typing import Any

__all__ = ["run_cells"]


async def run_cells(kernel: Any, notebook: Any) -> str | None:
    """Run all cells of a notebook, which takes their outputs, up to the first that fails.

    `NotebookClient.async_execute` would do the same, but it takes Ctrl-C and SIGTERM for itself,
    and gives neither back to the server.

    Args:
        kernel: The kernel's manager.
        notebook: The notebook, as nbformat has it.

    Returns:
        Why a cell failed or the kernel ended, in one line, or None.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    client = NotebookClient(
        notebook, km=kernel, timeout=None, store_widget_state=False, record_timing=False
    )
    try:
        await client.async_start_new_kernel_client()
        await _name_language(client)
        for index, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, index)
    except CellExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (DeadKernelError, RuntimeError) as error:
        return f"the kernel ended: {error}"
    finally:
        if client.kc is not None:
            client.kc.stop_channels()
    return None


async def _name_language(client: Any) -> None:
    """Write what the kernel's language is, or a page does, and has then changed the notebook."""
    about = await client.kc.kernel_info(reply=True, timeout=60)
    client.nb.metadata["language_info"] = about["content"]["language_info"]
