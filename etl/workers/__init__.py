"""Lease batches, run them, commit: one worker, threads, processes, Dask; and how they are stopped.

`on_dask` and `work_on` are loaded when they are first used: they need the extra `dask`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etl.errors import UsageError

if TYPE_CHECKING:
    from etl.workers.dask import on_dask as on_dask
    from etl.workers.dask import work_on as work_on

__all__ = ["on_dask", "work_on"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'etl.workers' has no attribute {name!r}")
    try:
        from etl.workers import dask
    except ImportError as error:
        raise UsageError(
            f"workers on Dask need distributed ({error}); install it: pip install 'etl[dask]'"
        ) from error
    return getattr(dask, name)
