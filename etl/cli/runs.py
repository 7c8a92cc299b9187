"""`etl batch`, `etl runs` and `etl prune`: run files as notebooks; list runs; remove the old."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from etl.cli.options import Json
from etl.errors import UsageError
from etl.text import say

Files = Annotated[list[str] | None, Argument(help="Files, globs, folders, URLs. Default: samples.")]
Folder = Annotated[
    Path | None, Option(help="Folder of the batch. Default: a new one in data/runs.")
]
Parameters = Annotated[
    list[str] | None, Option("-p", "--parameter", help="Parameter of the notebook: name=value.")
]
Jobs = Annotated[int, Option(min=1, help="Number of batches at the same time, with --each.")]
Age = Annotated[
    str | None, Option(help="Remove what ended longer ago: 30d, 12h, 4w. Needed without --store.")
]
OldStore = Annotated[
    str | None, Option(help="URL or path of a store: remove what is old in it, rather than runs.")
]
DryRun = Annotated[bool, Option("--dry-run", help="Print what would be removed; remove nothing.")]
Force = Annotated[
    bool, Option("--force", help="Also remove runs with waiting lines or open dead letters.")
]

MANY = 10_000
"""Rows removed from a store from which on its file is rewritten."""


def batch(
    sources: Files = None,
    out: Folder = None,
    parameter: Parameters = None,
    each: Annotated[bool, Option("--each", help="Run each file as a batch of its own.")] = False,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Run files as a notebook, with a report and quality gates (exit code 3: one failed)."""
    from etl.cli.progress import watch_store
    from etl.cli.tables import BATCHES, print_json, show_rows
    from etl.notebook.batch.command import run_batch, run_each

    if not each:
        done = run_batch(sources or [], parameter or [], out=out, watching=watch_store)
        if as_json:
            print_json(done)
        else:
            say(f"run {done['run']} passed; report: {done['report']}")
        return
    if not (sources and out):
        raise UsageError("--each needs files, and --out with a folder for all batches")
    batches = run_each(sources, parameter or [], out=out, jobs=jobs)
    show_rows("batches", batches, BATCHES, as_json=as_json)
    if not as_json:
        say(f"summary: {out / 'summary.html'}")
    codes = {one["code"] for one in batches}
    sys.exit(next((code for code in (1, 2, 3) if code in codes), int(codes != {0})))


def runs(as_json: Json = False) -> None:
    """List the recorded runs, oldest first."""
    from etl.cli.tables import RUNS, show_rows
    from etl.runs.registry import run_rows

    show_rows("runs", run_rows(), RUNS, as_json=as_json, empty="no run is recorded")


def prune(
    older_than: Age = None, store: OldStore = None, dry_run: DryRun = False, force: Force = False
) -> None:
    """Remove the folders of old runs, or what is old in a store."""
    from etl.runs.prune import age

    if store is not None:
        if force:
            raise UsageError("--force is for runs; discard open dead letters with: etl dlq discard")
        _prune_store(store, age(older_than) if older_than else None, dry_run=dry_run)
    elif older_than is None:
        raise UsageError("nothing says how old; use --older-than 30d, or --store")
    else:
        _prune_runs(age(older_than), dry_run=dry_run, force=force)


def _prune_runs(older_than: float, *, dry_run: bool, force: bool) -> None:
    from etl.runs.prune import prune as remove
    from etl.text import size

    decisions = remove(older_than, dry_run=dry_run, force=force)
    for one in decisions:
        reason = f": {one.reason}" if one.reason else ""
        say(f"{one.run}  {size(one.size):>9}  {one.status}{reason}")
    gone = [one.size for one in decisions if one.status != "kept"]
    verb = "would be removed" if dry_run else "removed"
    say(f"{len(gone)} runs {verb} ({size(sum(gone))}), {len(decisions) - len(gone)} kept")


def _prune_store(store: str, older_than: float | None, *, dry_run: bool) -> None:
    from etl.cli.store import open_store
    from etl.text import size

    queue = open_store(store)
    verb = "would be removed" if dry_run else "removed"
    removed = queue.prune(older_than, dry_run=dry_run)
    for kind, count in removed.items():
        say(f"{kind} {verb}: {count:,}")
    if dry_run:
        return
    queue.reclaim()  # what workers had that were killed
    if workers := len(queue.read("workers")):
        say(f"no space given back while workers run: {workers}")
    else:
        say(f"space given back: {size(queue.shrink(always=sum(removed.values()) >= MANY))}")
