"""`etl run` and `etl put`: read sources into a store."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Annotated

from typer import Option

from etl.cli import options as opt
from etl.cli.store import check_store, open_store
from etl.records.context import AS_FOUND, ReadOptions
from etl.settings import Settings, settings

NewStore = Annotated[str | None, Option(help="URL or path. Default: a new one in data/runs.")]
Serve = Annotated[bool, Option(help="Serve the store over HTTP on --port, until Ctrl-C.")]


def run(
    sources: opt.Sources,
    pipeline: opt.Pipeline = Settings.pipeline,
    format: opt.Format = None,
    template: opt.Template = None,
    regex: opt.Regex = None,
    multiline: opt.Multiline = AS_FOUND.multiline,
    timezone: opt.Timezone = AS_FOUND.timezone,
    year: opt.Year = None,
    unmatched: opt.IfUnmatched = AS_FOUND.unmatched,
    keep_line: opt.KeepLine = False,
    store: NewStore = None,
    out: opt.Out = None,
    workers: opt.Workers = Settings.workers,
    reread: opt.Reread = False,
    trace: Annotated[bool, Option(help="Print the paths of the last lines.")] = False,
    serve: Serve = False,
    port: opt.Port = Settings.server_port,
    as_json: opt.Json = False,
) -> None:
    """Process files with a pipeline and show the result."""
    from etl.analysis.traces import traces
    from etl.cli.progress import show_progress
    from etl.cli.tables import show_summary
    from etl.cli.work import serve_beside
    from etl.queue.urls import without_secrets
    from etl.runs.registry import new_run_id
    from etl.runs.run import run as run_sources
    from etl.workers.signals import when_asked_to_end

    check_store(store)
    run_id = new_run_id()
    store = store or str(settings().runs / run_id / "store.db")
    stdout = sys.stderr if as_json else sys.stdout
    with contextlib.ExitStack() as stack:
        if serve:
            url = stack.enter_context(serve_beside(store, run_id, port))
            stack.callback(print, "Shutting down...", file=stdout, flush=True)
        show = stack.enter_context(show_progress())
        try:
            result = run_sources(
                sources,
                pipeline=pipeline,
                format=opt.format_spec(format, template, regex),
                multiline=multiline,
                timezone=timezone,
                year=year,
                unmatched=unmatched,
                keep_line=keep_line,
                store=store,
                out=out,
                workers=workers,
                reread=reread,
                run_id=run_id,
                watch=lambda progress: show(progress.stats),
                worker_stdout=stdout,
            )
        except KeyboardInterrupt:
            place = without_secrets(store)
            print(f"etl: interrupted; to continue: etl work --store {place}", file=sys.stderr)
            raise
        queue = open_store(store)
        more = {"traces": traces.polars(queue, 100).to_dicts()} if trace else {}
        show_summary(queue, result.to_dict() | more, as_json=as_json)
        if serve:
            ended = threading.Event()
            when_asked_to_end(ended.set)  # before the line that tells how to end it
            print(f"📊 Dashboard running at {url}", file=stdout, flush=True)
            ended.wait()


def put(
    sources: opt.Sources,
    store: opt.NamedStore = None,
    format: opt.Format = None,
    template: opt.Template = None,
    regex: opt.Regex = None,
    multiline: opt.Multiline = AS_FOUND.multiline,
    timezone: opt.Timezone = AS_FOUND.timezone,
    year: opt.Year = None,
    unmatched: opt.IfUnmatched = AS_FOUND.unmatched,
    keep_line: opt.KeepLine = False,
    reread: opt.Reread = False,
    follow: Annotated[bool, Option(help="Keep reading as files grow, until Ctrl-C.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Put lines into the queue of a store, for workers to process."""
    from concurrent.futures import ThreadPoolExecutor

    from etl.cli.tables import print_json
    from etl.runs.registry import new_run_id, recorded_use
    from etl.sources.ingest import ingest
    from etl.sources.resolve import Source, passed_over, resolve_sources
    from etl.workers.signals import when_asked_to_end

    stop = threading.Event() if follow else None
    if stop:
        when_asked_to_end(stop.set)
    options = ReadOptions(
        format=opt.format_spec(format, template, regex),
        multiline=multiline,
        timezone=timezone,
        year=year,
        unmatched=unmatched,
        keep_line=keep_line,
    )
    queue = open_store(store, create=True)
    found = resolve_sources(sources, options, by_reference=False, follow=stop)
    if follow:
        print(
            f"etl: following {len(found)} files into {queue.url}; stop with Ctrl-C", file=sys.stderr
        )

    def put_one(source: Source) -> int:
        return sum(read.batch.lines for read in ingest(queue, source, reread=reread))

    # Files that grow are read at the same time, others one after another.
    with (
        recorded_use(queue, new_run_id(), kind="put"),
        ThreadPoolExecutor(len(found) if follow else 1) as pool,
    ):
        lines = sum(pool.map(put_one, found))
    if as_json:
        print_json({"put": lines})
    else:
        print(f"{lines:,} lines put into {queue.url}")
        if words := passed_over(found.skipped, found.skipped_binary):
            print(words)
