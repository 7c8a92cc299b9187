"""`etl store` and `etl check`, and how every command opens its store."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from etl.cli.options import Json
from etl.errors import UsageError
from etl.settings import settings
from etl.text import say

if TYPE_CHECKING:
    from etl.queue import Queue


Named = Annotated[
    str | None, Argument(metavar="URL", help="URL of the store, or path of its file.")
]
Checked = Annotated[
    str | None,
    Argument(envvar="ETL_STORE", help="URL or path of the store. Default: that of the newest run."),
]
AsOption = Annotated[str | None, Option("--store", help="The same as the argument.")]
Root = Annotated[
    Path | None, Option(help="Folder for output, which all workers of the store must use.")
]


def init(url: Named = None, named: AsOption = None, out: Root = None) -> None:
    """Create a store, if it does not exist; upgrade one on PostgreSQL; name its output folder."""
    from etl.queue import open_queue

    url = _one_of(url, named)
    check_store(url)
    if url is None:
        raise UsageError("no store is named; give its path or URL: etl store init q.db")
    with closing(open_queue(url, create=True)) as queue:
        if out is not None:
            queue.reclaim()
            queue.set_output_root(out)
        say(f"{queue.url} is ready")


def check(store: Checked = None, named: AsOption = None, as_json: Json = False) -> None:
    """Verify all that a store holds, and its output (exit code 1: something is damaged)."""
    from etl.cli.tables import show_check

    with closing(open_store(_one_of(store, named))) as queue:
        found = queue.check()
        show_check(queue.url, found, as_json=as_json)
    sys.exit(0 if found.whole else 1)


def _one_of(argument: str | None, option: str | None) -> str | None:
    """Return the store that a command was given, as an argument or as an option."""
    return argument if option is None else option


def open_store(
    store: str | None,
    *,
    create: bool = False,
    max_lines: int | None = None,
    max_bytes: int | None = None,
) -> Queue:
    """Open the named store, or that of the newest run.

    Args:
        store: URL or path, or None.
        create: Create the store's file if it does not exist. It must be named then, so that
            lines are not put into whatever store was used last.
        max_lines: See `open_queue`.
        max_bytes: See `open_queue`.

    Raises:
        UsageError: If no store is named, or the named one does not exist.
    """
    from etl.queue import open_queue
    from etl.queue.urls import file_of
    from etl.runs.registry import latest_store

    check_store(store)
    if create and store is None:
        raise UsageError("no store is named; use --store or ETL_STORE")
    url = str(store or latest_store() or "")
    if not url:
        raise UsageError(f"no run is recorded in {settings().runs}; name a store with --store")
    file = file_of(url)
    if file and not create and not file.exists():
        raise UsageError(
            f"store {str(file)!r} does not exist; name one that does, or create it with: "
            f"etl store init {shlex.quote(str(file))}"
        )
    return open_queue(url, max_lines=max_lines, max_bytes=max_bytes)


def check_store(store: str | None) -> None:
    """Raise UsageError if a store's name is empty, or its data would be lost at exit."""
    from etl.queue.urls import IN_MEMORY

    if store == IN_MEMORY:
        raise UsageError("a store in memory ends with this command; name a file")
    if store is not None and not store.strip():
        raise UsageError("--store is empty; name a store, or omit the option")
