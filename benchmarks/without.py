"""Run `etl` with some of its features switched off, to see what each of them costs.

    python without.py traces,metrics run app.log ...

etl has no such options: here its functions are replaced, in this process. It works as long as
workers are threads of it, which they are if no processor calls Python for its rows.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable
from functools import wraps
from typing import Any

import polars as pl

from etl.cli.app import main as etl
from etl.execution.result_builder import ResultBuilder
from etl.queue import results, sqlite, writes
from etl.settings import Settings


def nothing(*_arguments: Any, **_options: Any) -> None:
    """Do nothing."""


def replace(owner: object, name: str, value: object) -> None:
    """Replace what an owner has by that name; it is an error if it has nothing of that name."""
    if not hasattr(owner, name):
        sys.exit(f"{owner!r} has no {name!r} to switch off: adapt without.py to the package")
    setattr(owner, name, value)


def changed(owner: object, name: str, **fixed: Any) -> None:
    """Give some arguments of a function these values, whatever its callers say."""
    function = getattr(owner, name)

    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options | fixed)

    replace(owner, name, call)


def traces() -> None:
    """Record the path of no line, but of dead ones."""
    replace(Settings, "traces_per_second", 0)


def metrics() -> None:
    """Keep no counts and times of processors, no history, and no formats of sources."""
    replace(results, "_keep_stats", nothing)
    replace(results, "_keep_formats", nothing)
    replace(ResultBuilder, "add_formats", nothing)
    changed(writes, "add_totals", at=None)


def checksums() -> None:
    """Compute no checksum of what is read, queued and written."""
    replace(zlib, "crc32", lambda _data, _value=0: 0)


def statistics() -> None:
    """Write Parquet without the least and greatest values of columns."""
    changed(pl.DataFrame, "write_parquet", statistics=False)


def sync() -> None:
    """Wait for no disk: a crash of the machine may lose what was done.

    The store still waits for it when it is made, and when SQLite copies its log into the file.
    """
    replace(os, "fsync", nothing)
    changed(sqlite.SqliteDatabase, "_writing", durable=False)


FEATURES: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (traces, metrics, checksums, statistics, sync)
}


def main() -> None:
    """Switch off what the first argument names, and give the rest to etl."""
    for feature in filter(None, sys.argv[1].split(",")):
        if feature not in FEATURES:
            sys.exit(f"unknown feature {feature!r}; there are {', '.join(FEATURES)}")
        FEATURES[feature]()
    del sys.argv[1]
    etl()


if __name__ == "__main__":
    main()
