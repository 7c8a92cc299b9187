"""`etl status`, `top`, `trace` and `graph` show; `pause` and `resume` control."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Option

from etl.cli.options import Json, Pipeline, Store
from etl.cli.store import open_store
from etl.settings import Settings
from etl.text import say

Limit = Annotated[int, Option(min=1, help="Maximum number of lines to show, the newest.")]
Interval = Annotated[float, Option(min=0.1, help="Seconds between updates.")]
Once = Annotated[bool, Option(help="Print one view and exit.")]


def status(store: Store = None, as_json: Json = False) -> None:
    """Show the totals and processors of a store (exit code 1: committed output is lost)."""
    from etl.cli.tables import show_summary
    from etl.runs.run import summary
    from etl.sources.ingest import source_errors

    queue = open_store(store)
    found = summary(queue) | {"store": queue.url, "unreadable": source_errors(queue)}
    show_summary(queue, found, as_json=as_json)
    sys.exit(1 if found["lost_outputs"] else 0)


def pause(store: Store = None) -> None:
    """Pause a store: workers lease no further batch until `etl resume`."""
    open_store(store).pause("")
    say("paused; to continue: etl resume")


def resume(store: Store = None) -> None:
    """Resume a paused store."""
    open_store(store).resume()
    say("resumed")


def trace(store: Store = None, limit: Limit = 100, as_json: Json = False) -> None:
    """Show the paths of the last lines, with their times."""
    from etl.analysis.traces import traces
    from etl.cli.tables import TRACES, show_rows

    show_rows("traces", traces.polars(open_store(store), limit).to_dicts(), TRACES, as_json=as_json)


def graph(pipeline: Pipeline = Settings.pipeline) -> None:
    """Print a pipeline as a Mermaid flowchart."""
    from etl.pipeline.load import load_pipeline

    say(*load_pipeline(pipeline).to_mermaid().split("\n"))


def top(store: Store = None, interval: Interval = 0.5, once: Once = False) -> None:
    """Show rates, totals and processors of a store, and update them until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live

    from etl.cli.tables import live_view

    queue, console = open_store(store), Console()
    if once or not console.is_terminal:
        console.print(live_view(queue))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            since = queue.version()
            live.update(live_view(queue), refresh=True)
            queue.wait(since, interval)
