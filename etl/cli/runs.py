"""`etl batch`, `etl runs` and `etl prune`: run files as notebooks; list and remove runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from etl.cli.options import Json
from etl.errors import UsageError

Files = Annotated[list[str] | None, Argument(help="Files, globs, folders. Default: sample logs.")]
Folder = Annotated[
    Path | None, Option(help="Folder of the batch. Default: a new one in data/runs.")
]
Parameters = Annotated[
    list[str] | None, Option("-p", "--parameter", help="Parameter of the notebook: name=value.")
]
Jobs = Annotated[int, Option(min=1, help="Number of batches at the same time, with --each.")]
Age = Annotated[str, Option(help="Remove runs that ended longer ago: 30d, 12h, 4w.")]
DryRun = Annotated[bool, Option("--dry-run", help="Print what would be removed; remove nothing.")]
Force = Annotated[
    bool, Option("--force", help="Also remove runs with waiting lines or open dead letters.")
]


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
            print(f"run {done['run']} passed; report: {done['report']}")
        return
    if not (sources and out):
        raise UsageError("--each needs files, and --out with a folder for all batches")
    batches = run_each(sources, parameter or [], out=out, jobs=jobs)
    show_rows("batches", batches, BATCHES, as_json=as_json)
    if not as_json:
        print(f"summary: {out / 'summary.html'}")
    codes = {one["code"] for one in batches}
    sys.exit(next((code for code in (1, 2, 3) if code in codes), int(codes != {0})))


def runs(as_json: Json = False) -> None:
    """List the recorded runs, oldest first."""
    from etl.cli.tables import RUNS, show_rows
    from etl.runs.registry import run_rows

    show_rows("runs", run_rows(), RUNS, as_json=as_json, empty="no run is recorded")


def prune(older_than: Age, dry_run: DryRun = False, force: Force = False) -> None:
    """Remove the folders of old runs, with their records, stores and output."""
    from etl.runs.prune import age
    from etl.runs.prune import prune as remove
    from etl.text import size

    decisions = remove(age(older_than), dry_run=dry_run, force=force)
    for one in decisions:
        reason = f": {one.reason}" if one.reason else ""
        print(f"{one.run}  {size(one.size):>9}  {one.status}{reason}")
    gone = [one.size for one in decisions if one.status != "kept"]
    verb = "would be removed" if dry_run else "removed"
    print(f"{len(gone)} runs {verb} ({size(sum(gone))}), {len(decisions) - len(gone)} kept")
