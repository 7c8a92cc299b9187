"""`etl run` and `etl put`: read sources into a store."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from typer import Exit, Option

from etl.cli import options as opt
from etl.cli.commands import etl_command
from etl.cli.loading import loading
from etl.cli.store import check_store, open_store
from etl.errors import SourceError
from etl.records.context import AS_FOUND, ReadOptions
from etl.settings import ALLOCATOR, Settings, settings
from etl.text import counted, say

if TYPE_CHECKING:
    from etl.queue import Queue
    from etl.sources.resolve import NewFiles, Source, Sources

NewStore = Annotated[str | None, Option(help="URL or path. Default: a new one in data/runs.")]
Serve = Annotated[bool, Option(help="Serve the store over HTTP on --port, until Ctrl-C.")]

LOOK_SECONDS = 2.0
"""Seconds between looks for new files in folders that are followed."""

MAX_FOLLOWED = 10_000
"""Files that are followed at a time."""


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
    workers: opt.RunWorkers = None,
    reread: opt.Reread = False,
    trace: Annotated[bool, Option(help="Print the paths of the last lines.")] = False,
    serve: Serve = False,
    port: opt.Port = Settings.server_port,
    as_json: opt.Json = False,
) -> None:
    """Process files with a pipeline and show the result."""
    os.environ |= ALLOCATOR | os.environ
    with loading():
        from etl.analysis.traces import traces
        from etl.cli.progress import show_progress
        from etl.cli.summary import show_summary
        from etl.cli.work import serve_beside
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
            stack.callback(say, "Shutting down...", err=as_json)
        try:
            with show_progress() as show:  # which is gone from the screen before the summary
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
                    watch=show,
                    worker_stdout=stdout,
                )
        except KeyboardInterrupt:
            say(f"etl: interrupted; to continue: {_again(sources, pipeline, store)}", err=True)
            raise
        queue = open_store(store)
        more = {"traces": traces.polars(queue, 100).to_dicts()} if trace else {}
        show_summary(queue, result.to_dict() | more, as_json=as_json)
        if serve:
            ended = threading.Event()
            when_asked_to_end(ended.set)  # before the line that tells how to end it
            say(f"📊 Dashboard running at {url}", err=as_json)
            ended.wait()
    _end_for(result.unreadable)
    if result["lost_outputs"]:
        raise Exit(1)


def _again(sources: Sequence[str], pipeline: str, store: str) -> str:
    """Return the command that goes on with a run: the same on its store; not for a stream."""
    from etl.queue.urls import without_secrets

    named = without_secrets(store)
    if "-" in sources or "run" not in sys.argv:  # what was read of a stream waits, the rest is gone
        return etl_command("work", "--drain", "--pipeline", pipeline, store=named)
    words = iter(sys.argv[sys.argv.index("run") + 1 :])
    again = []
    for word in words:
        if word == "--store":
            next(words, None)
        elif word != "--reread" and not word.startswith("--store="):
            again.append(without_secrets(word))
    return etl_command("run", *again, store=named)


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
    follow: Annotated[
        bool, Option(help="Keep reading as files grow and appear, until Ctrl-C.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Put lines into the queue of a store, for workers to process."""
    from etl.cli.tables import print_json
    from etl.runs.registry import new_run_id, recorded_use
    from etl.sources.identity import Claims
    from etl.sources.resolve import NewFiles, passed_over, resolve_sources
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
    claims = Claims()
    found = resolve_sources(sources, options, by_reference=False, follow=stop, claims=claims)
    if follow:
        followed = counted(len(found), "source")
        say(f"etl: following {followed} into {queue.url}; stop with Ctrl-C", err=True)

    with recorded_use(queue, new_run_id(), kind="put"):
        new = NewFiles(sources, options, stop, claims) if stop else None
        lines, unreadable = _put_all(queue, found, new, reread=reread)
    if as_json:
        print_json({"put": lines, "unreadable": unreadable})
    else:
        say(f"{lines:,} lines put into {queue.url}")
        if words := passed_over(found.skipped, found.skipped_binary):
            say(words)
    _end_for(unreadable)


def _put_all(
    queue: Queue, sources: Sources, new: NewFiles | None, *, reread: bool
) -> tuple[int, list[str]]:
    """Put all sources; return how many lines that was, and what is wrong with the sources.

    Args:
        queue: Where they are put.
        sources: What is read: one after another, or, if it is followed, at the same time.
        new: Files that appear while sources are followed; None if they are not.
        reread: Read files again that were read before.
    """
    from etl.sources.ingest import ingest

    unreadable: list[str] = []

    def put(source: Source) -> int:
        lines = 0
        try:
            for chunk in ingest(queue, source, reread=reread):
                lines += chunk.batch.lines
        except SourceError as error:
            if new is None and len(sources) == 1 and not lines:
                raise
            unreadable.append(str(error))
        return lines

    if new is None:
        return sum(map(put, sources)), unreadable
    return _follow(put, sources, new), unreadable


def _follow(put: Callable[[Source], int], sources: Sources, new: NewFiles) -> int:
    """Put sources until they end; return how many lines that was."""
    from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

    lines = 0
    with ThreadPoolExecutor(MAX_FOLLOWED) as pool:
        running: dict[Future[int], Source] = {pool.submit(put, one): one for one in sources}
        try:
            while running or (new and not new.stop.is_set()):
                if running:
                    wait(running, timeout=LOOK_SECONDS, return_when=FIRST_EXCEPTION)
                else:
                    new.stop.wait(LOOK_SECONDS)
                for future in [one for one in running if one.done()]:
                    lines += future.result()
                    del running[future]
                if not new.stop.is_set():
                    try:
                        for one in new.look([*running.values()]):
                            running[pool.submit(put, one)] = one
                    except OSError as error:  # too many open files, say: the next look finds them
                        say(f"etl: {error}; looking again", err=True)
        finally:
            new.stop.set()  # what fails is not unheard while others go on
    return lines


def _end_for(unreadable: Sequence[str]) -> None:
    """End with exit code 1 if sources could not be read, or only in part; say which."""
    for text in unreadable:
        say(f"etl: {text}", err=True)
    if unreadable:
        raise Exit(1)
