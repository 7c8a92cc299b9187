"""`etl lab` and `etl app`: the control room, as a notebook or as a web page."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from etl.errors import UsageError
from etl.settings import Settings

STORE = "data/runs/control_room.db"

More = Annotated[list[str] | None, Argument(help="Options for the Jupyter server, after --.")]
Store = Annotated[str, Option(envvar="ETL_STORE", help="URL or path of the store to show.")]
Port = Annotated[int, Option(help="Port to listen on.")]
Name = Annotated[
    list[str] | None, Option(help="Additional host name of this server, such as a proxy's.")
]
Browser = Annotated[bool, Option(help="Open a browser.")]


def lab(
    more: More = None,
    store: Store = STORE,
    port: Port = Settings.lab_port,
    name: Name = None,
    browser: Browser = True,
) -> None:
    """Open the control room in JupyterLab, until Ctrl-C.

    The notebook is a copy, in the folder of a new run. It has been run, and its console is beside
    its cells.
    """
    from etl.notebook.launch import serve_lab

    _check_is_there(store)
    serve_lab(store, port, more or (), names=name or (), browser=browser)


def app(
    more: More = None,
    store: Store = STORE,
    port: Port = Settings.app_port,
    name: Name = None,
    browser: Browser = True,
    pipeline: Annotated[
        str | None,
        Option(help="module:attr or path.py:attr. Default: what the store was last run with."),
    ] = None,
    workers: Annotated[
        int | None,
        Option(min=0, help="Workers, as threads. Default: 1 for --pipeline and the demo, else 0."),
    ] = None,
    interval: Annotated[
        float | None,
        Option(min=0, help="Seconds to hold a batch before it is processed. Default: 0; demo: 2."),
    ] = None,
) -> None:
    """Serve the control room as a web page for this machine only, until Ctrl-C.

    All pages show the same control room; its workers end with the server.
    """
    from etl.notebook.launch import serve_page

    _check_is_there(store)
    serve_page(
        store,
        port,
        more or (),
        pipeline=pipeline,
        workers=workers,
        interval=interval,
        names=name or (),
        browser=browser,
    )


def _check_is_there(store: str) -> None:
    """Raise UsageError if a store is named that is not there; that of the demo is made."""
    from etl.queue.urls import file_of, url_of

    file = file_of(url_of(store))
    if store != STORE and file and not file.exists():
        raise UsageError(
            f"there is no store {store!r}; `etl run` and `etl put` make one, the demo needs none"
        )
