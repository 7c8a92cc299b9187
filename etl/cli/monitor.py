"""`etl status`, `trace` and `graph` show; `pause` and `resume` control."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Option

from etl.cli.commands import etl_command
from etl.cli.options import Json, Pipeline, Store
from etl.cli.store import open_store
from etl.settings import Settings
from etl.text import say

Limit = Annotated[int, Option(min=1, help="Maximum number of lines to show, the newest.")]


def status(store: Store = None, as_json: Json = False) -> None:
    """Show the totals and processors of a store (exit code 1: committed output is lost)."""
    from etl.cli.summary import show_summary
    from etl.runs.run import summary
    from etl.sources.ingest import source_errors

    queue = open_store(store)
    found = summary(queue) | {"store": queue.url, "unreadable": source_errors(queue)}
    show_summary(queue, found, as_json=as_json)
    sys.exit(1 if found["lost_outputs"] else 0)


def pause(store: Store = None) -> None:
    """Pause a store: workers lease no further batch until `etl resume`."""
    queue = open_store(store)
    queue.pause("")
    say(f"paused; to continue: {etl_command('resume', store=queue.url)}")


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
