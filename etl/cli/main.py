"""The command line: each command is a few lines over what notebooks use too.

Errors are one line on stderr. Exit codes: 0 well, 1 a failed run, 2 a user's
mistake, 3 a quality gate of a batch was not passed. With `--json`, stdout holds
one JSON object and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from etl.errors import EtlError, GateFailed, UsageError
from etl.settings import Settings, settings
from etl.workers.signals import when_asked_to_end

if TYPE_CHECKING:
    from etl.queue import Queue

__all__ = ["app", "main"]

app = typer.Typer(
    help="Log lines through a durable queue, a pipeline and a dead-letter queue.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


dlq = typer.Typer(help="Dead letters: look at them, replay them, discard.", no_args_is_help=True)


app.add_typer(dlq, name="dlq")


stores = typer.Typer(help="Stores: make one.", no_args_is_help=True)


app.add_typer(stores, name="store")


Sources = Annotated[list[str], typer.Argument(help="Files, globs, folders, or - for stdin.")]


Store = Annotated[
    str | None,
    typer.Option(envvar="ETL_STORE", help="The store's URL or path; else the newest in data/runs."),
]


NamedStore = Annotated[
    str | None, typer.Option("--store", envvar="ETL_STORE", help="The store's URL or path.")
]


RoomStore = Annotated[str, typer.Option("--store", envvar="ETL_STORE", help="Store to show.")]


Browser = Annotated[bool, typer.Option(help="Open it in a browser.")]


More = Annotated[
    list[str] | None, typer.Argument(help="After --: options for the server, as Jupyter has them.")
]


PipelineName = Annotated[
    str, typer.Option("--pipeline", help="The pipeline: module:attr or path/to/file.py:attr.")
]


Format = Annotated[str | None, typer.Option(help="The lines' format; else it is detected.")]


Template = Annotated[
    str | None, typer.Option(help='Their layout: "{date} {time} {level} {component}: {message}".')
]


Regex = Annotated[str | None, typer.Option(help="Their layout as a regex with named groups.")]


Out = Annotated[Path | None, typer.Option(help="Folder for output; else `out` beside the store.")]


Workers = Annotated[int, typer.Option(min=1, help="Worker processes.")]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


Ids = Annotated[list[int] | None, typer.Argument(help="Dead letters by id.")]


Fingerprint = Annotated[str | None, typer.Option(help="Only this kind of failure.")]


Processor = Annotated[str | None, typer.Option(help="Only those that failed in this processor.")]


LogFormat = Annotated[
    str | None, typer.Option(help="Log to stderr: human or json. etl work says nothing without.")
]


Token = Annotated[
    str | None,
    typer.Option(envvar="ETL_TOKEN", help="What clients must show; ETL_TOKEN keeps it secret."),
]


Everything = Annotated[bool, typer.Option("--all", help="All open dead letters.")]


COMMIT_LOG = "etl.server.logging:log_commits"
"""What writes a worker's log; loaded by this name, and only where a log is asked for."""


@app.command()
def run(
    sources: Sources,
    *,
    pipeline: PipelineName = Settings.pipeline,
    format: Format = None,
    template: Template = None,
    regex: Regex = None,
    store: Annotated[
        str | None, typer.Option(help="The store's URL or path; else a new one in data/runs.")
    ] = None,
    out: Out = None,
    workers: Workers = Settings.workers,
    reread: Annotated[bool, typer.Option(help="Read files anew that were read before.")] = False,
    trace: Annotated[bool, typer.Option(help="Print the paths of the last lines.")] = False,
    serve: Annotated[bool, typer.Option(help="Serve the store on --port, until Ctrl-C.")] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine.")
    ] = Settings.server_port,
    as_json: Json = False,
) -> None:
    """Take files through a pipeline and say what became of their lines."""
    from etl.cli.tables import show_progress, show_summary, traces_table
    from etl.runs import registry
    from etl.runs.run import run as run_sources

    _check_store(store)
    out_console, err_console = _consoles()
    run_id = registry.new_run_id()
    store = store or str(settings().runs / run_id / "store.db")
    with contextlib.ExitStack() as stack:
        if serve:
            stdout = sys.stderr if as_json else sys.stdout
            url = stack.enter_context(_dashboard(store, run_id, port, stdout))
        with show_progress(err_console) as watch, _telling(store):
            result = run_sources(
                sources,
                pipeline=pipeline,
                format=_format(format, template, regex),
                store=store,
                out=out,
                workers=workers,
                reread=reread,
                run_id=run_id,
                watch=watch,
                worker_stdout=sys.stderr if as_json else None,
            )
        queue = _open(store)
        if as_json:
            _print_json(result.to_dict() | ({"traces": _traces(queue)} if trace else {}))
        else:
            if trace:
                out_console.print(traces_table(_traces(queue)))
            show_summary(out_console, queue, result)
        if serve:
            print(f"📊 Dashboard running at {url}", file=stdout, flush=True)
            _wait_for_end()


@app.command()
def put(
    sources: Sources,
    *,
    store: NamedStore = None,
    format: Format = None,
    template: Template = None,
    regex: Regex = None,
    reread: Annotated[bool, typer.Option(help="Read files anew that were read before.")] = False,
    follow: Annotated[bool, typer.Option(help="Go on as files grow, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Put lines into a store's queue; workers take them from there."""
    from concurrent.futures import ThreadPoolExecutor

    from etl.runs.registry import new_run_id, recorded_use
    from etl.sources.ingest import ingest
    from etl.sources.resolve import Source, passed_over, resolve_sources

    stop = threading.Event()
    if follow:
        when_asked_to_end(stop.set)
    spec = _format(format, template, regex)
    queue = _open(store, create=True)
    found = resolve_sources(
        sources, format=spec, by_reference=False, follow=stop if follow else None
    )
    if follow:
        print(f"etl: following {len(found)} files into {queue.url}; Ctrl-C ends", file=sys.stderr)

    def put_one(source: Source) -> int:
        return sum(read.batch.lines for read in ingest(queue, source, reread=reread))

    # Files that grow are read side by side, others one after another.
    with (
        recorded_use(queue, new_run_id(), kind="put"),
        ThreadPoolExecutor(len(found) if follow else 1) as pool,
    ):
        lines = sum(pool.map(put_one, found))
    if as_json:
        _print_json({"put": lines})
        return
    print(f"{lines:,} lines put into {queue.url}")
    if found.skipped:
        print(passed_over(found.skipped))


@app.command()
def work(
    *,
    store: NamedStore = None,
    pipeline: PipelineName = Settings.pipeline,
    out: Out = None,
    workers: Workers = 1,
    batch_lines: Annotated[
        int, typer.Option(min=1, help="Lines taken together.")
    ] = Settings.batch_lines,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between batches.")] = 0.0,
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds that a lease lasts.")
    ] = Settings.lease_seconds,
    drain: Annotated[bool, typer.Option(help="End once nothing waits.")] = False,
    log_format: LogFormat = None,
) -> None:
    """Process what waits in a store; SIGTERM or Ctrl-C ends after the current batch."""
    from etl.pipeline.load import load_pipeline
    from etl.runs.run import output_folder
    from etl.workers.main import WorkerOptions, run_worker
    from etl.workers.processes import WorkerProcesses

    loaded = load_pipeline(pipeline)
    queue = _open(store, create=True)
    if log_format:
        _extra("logging")
    else:
        print(f"etl: working on {queue.url}; Ctrl-C ends", file=sys.stderr)
        if queue.control().paused:
            print("etl: the store is paused; etl resume lets it go on", file=sys.stderr)
    options = WorkerOptions(
        out=str(out or output_folder(queue.url)),
        pipeline=pipeline,
        batch_lines=batch_lines,
        interval=interval,
        lease_seconds=lease,
        drain=drain,
        watch=COMMIT_LOG if log_format else "",
        log_format=log_format or "",
    )
    if workers == 1:
        run_worker(queue, loaded, options)
    else:
        WorkerProcesses(queue, workers, options).run_until_signal()


@app.command()
def serve(
    *,
    store: NamedStore = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Its port; 0 for a free one.")
    ] = Settings.server_port,
    token: Token = None,
    name: Annotated[
        list[str] | None, typer.Option(help="A further name that clients call it by.")
    ] = None,
    max_lines: Annotated[
        int | None, typer.Option(min=1, help="Waiting lines at which clients are told to wait.")
    ] = None,
    work: Annotated[bool, typer.Option(help="Run workers beside the server.")] = False,
    pipeline: PipelineName = Settings.pipeline,
    out: Out = None,
    workers: Workers = 1,
    log_format: LogFormat = "human",
) -> None:
    """Take lines, show and steer a store over HTTP, until SIGTERM or Ctrl-C.

    POST /logs stores lines. GET /stats, /trace, /errors, /queue, /workers, /history and
    /metrics show them. POST /pause, /resume and /drain steer. /dlq has the dead letters,
    /docs has all of it with examples.

    Only this machine can reach it. Any other --host needs a token, which clients show as
    'Authorization: Bearer TOKEN'.
    """
    from functools import partial

    from etl.pipeline.load import load_pipeline
    from etl.runs.registry import new_run_id, recorded_use
    from etl.runs.run import output_folder
    from etl.workers.main import WorkerOptions
    from etl.workers.processes import WorkerProcesses

    server = _extra("serve")
    queue = _open(store, create=True, max_lines=max_lines, max_bytes=Settings.max_waiting_bytes)
    run, kind = new_run_id(), log_format or "human"
    address = server.Address(host, port, token, name or ())
    service = server.Service(queue, run=run, log=_extra("logging").open_log(kind, run=run))
    options = WorkerOptions(
        out=str(out or output_folder(queue.url)),
        pipeline=pipeline,
        run=run,
        watch=COMMIT_LOG,
        log_format=kind,
    )
    if work:
        load_pipeline(pipeline)  # so that a mistake in it is told here, and once
    beside = partial(WorkerProcesses, queue, workers, options)
    with recorded_use(queue, run, kind="serve"):
        server.serve(
            service,
            address,
            workers=beside if work else None,
            announce=lambda text: print(text, flush=True),
        )


@app.command()
def status(*, store: Store = None, as_json: Json = False) -> None:
    """Show a store's totals and processors."""
    from etl.cli.tables import show_summary
    from etl.runs.run import summary

    queue = _open(store)
    result = summary(queue) | {"store": queue.url}
    if as_json:
        _print_json(result)
    else:
        show_summary(_consoles()[0], queue, result)


@app.command()
def pause(*, store: Store = None) -> None:
    """Let no worker take another batch, until resume."""
    _open(store).pause("")
    print("paused; etl resume goes on")


@app.command()
def resume(*, store: Store = None) -> None:
    """Let workers take batches again."""
    _open(store).resume()
    print("resumed")


@app.command()
def trace(
    *,
    store: Store = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines, the last ones.")] = 100,
    as_json: Json = False,
) -> None:
    """Show the paths of the last lines, with their times."""
    from etl.cli.tables import traces_table

    rows = _traces(_open(store), limit)
    if as_json:
        _print_json({"traces": rows})
    else:
        _consoles()[0].print(traces_table(rows))


@app.command()
def graph(*, pipeline: PipelineName = Settings.pipeline) -> None:
    """Print a pipeline as a Mermaid flowchart."""
    from etl.pipeline.load import load_pipeline

    print(load_pipeline(pipeline).to_mermaid())


@app.command()
def top(
    *,
    store: Store = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 0.5,
    once: Annotated[bool, typer.Option(help="Print one view and end.")] = False,
) -> None:
    """Watch a store live: rates, totals, processors. Ctrl-C ends."""
    from rich.live import Live

    from etl.cli.tables import live_view
    from etl.runs.run import summary

    queue = _open(store)
    console = _consoles()[0]
    if once or not console.is_terminal:
        console.print(live_view(queue, summary(queue)))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            since = queue.version()
            live.update(live_view(queue, summary(queue)), refresh=True)
            queue.wait(since, interval)


@app.command()
def lab(
    more: More = None,
    *,
    store: RoomStore = "data/runs/control_room.db",
    port: Annotated[
        int, typer.Option(help="Port on this machine, or the next free one.")
    ] = Settings.lab_port,
    browser: Browser = True,
) -> None:
    """Open the control room in JupyterLab. Ctrl-C ends it."""
    from etl.notebook.launch import serve_lab

    serve_lab(store, port, more or (), browser=browser)


@app.command("app")
def app_page(
    more: More = None,
    *,
    store: RoomStore = "data/runs/control_room.db",
    port: Annotated[int, typer.Option(help="Port on this machine.")] = Settings.app_port,
    browser: Browser = True,
) -> None:
    """Serve the control room as a web page, on this machine only. Ctrl-C ends it."""
    from etl.notebook.launch import serve_page

    serve_page(store, port, more or (), browser=browser)


@app.command()
def batch(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Files, globs or folders; none: sample logs.")
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="The batch's folder; else a new one in data/runs.")
    ] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value, as in the notebook.")
    ] = None,
    each: Annotated[bool, typer.Option("--each", help="A batch of its own for each file.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Batches at a time, with --each.")] = 1,
    as_json: Json = False,
) -> None:
    """Run files as a notebook, with a report and quality gates (exit code 3: one failed)."""
    from functools import partial

    _need("papermill")
    from etl.cli.tables import batches_table, watch_store
    from etl.notebook.batch.command import run_batch, run_each

    out_console, err_console = _consoles()
    if not each:
        watching = partial(watch_store, err_console)
        done = run_batch(sources or [], parameter or [], out=out, watching=watching)
        if as_json:
            _print_json(done)
        else:
            print(f"run {done['run']} passed; report: {done['report']}")
        return
    if not (sources and out):
        raise UsageError("--each needs files and a folder for all of them: --out")
    outcomes = run_each(sources, parameter or [], out=out, jobs=jobs)
    if as_json:
        _print_json({"batches": outcomes})
    else:
        out_console.print(batches_table(outcomes))
        print(f"summary: {out / 'summary.html'}")
    codes = {one["code"] for one in outcomes}
    sys.exit(next((code for code in (1, 2, 3) if code in codes), int(codes != {0})))


@app.command("runs")
def runs_list(*, as_json: Json = False) -> None:
    """List the runs that were recorded, the newest last."""
    from etl.cli.tables import runs_table
    from etl.runs.registry import run_rows

    rows = run_rows()
    if as_json:
        _print_json({"runs": rows})
    elif not rows:
        print("no run is recorded yet")
    else:
        _consoles()[0].print(runs_table(rows))


@app.command()
def prune(
    *,
    older_than: Annotated[str, typer.Option(help="Age of the runs' ends: 30d, 12h, 4w.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Also those with waiting lines or open dead letters.")
    ] = False,
) -> None:
    """Remove the folders of old runs: records, stores, and the output below them."""
    from etl.runs.prune import age
    from etl.runs.prune import prune as remove
    from etl.text import size

    decisions = remove(age(older_than), dry_run=dry_run, force=force)
    for one in decisions:
        reason = f": {one.reason}" if one.reason else ""
        print(f"{one.run}  {size(one.size):>9}  {one.status}{reason}")
    gone = [one.size for one in decisions if one.status != "kept"]
    verb = "would be removed" if dry_run else "removed"
    print(f"{len(gone)} runs {verb}, {size(sum(gone))}; {len(decisions) - len(gone)} old ones kept")


@stores.command("init")
def store_init(
    url: Annotated[str, typer.Argument(help="The store's URL, or the path of a file.")],
) -> None:
    """Make a store."""
    queue = _open(url, create=True)
    print(f"{queue.url} is ready")
    queue.close()


@dlq.command("list")
def dlq_list(
    *,
    store: Store = None,
    lines: Annotated[bool, typer.Option(help="Each line, rather than kinds of failure.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many lines, the newest.")] = 50,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    status: Annotated[str, typer.Option(help="open, replaying, replayed or discarded.")] = "open",
    as_json: Json = False,
) -> None:
    """List what failed, by kind of failure or line by line."""
    from etl.cli.tables import dead_letters_table, groups_table
    from etl.queue import DeadLetterFilter

    queue = _open(store)
    which: dict[str, Any] = {"fingerprint": fingerprint, "processor": processor, "status": status}
    if lines:
        rows = queue.dead_letters(DeadLetterFilter(**which, limit=limit)).drop("raw").to_dicts()
    else:
        rows = queue.dead_letter_groups(DeadLetterFilter(**which))
    if as_json:
        _print_json({"letters" if lines else "groups": rows})
    elif not rows:
        print(f"no dead letters {'of those ' if fingerprint or processor else ''}are {status}")
    else:
        _consoles()[0].print((dead_letters_table if lines else groups_table)(rows))
        if lines and len(rows) == limit:
            print(f"the newest {limit:,}; --limit shows more")


@dlq.command("show")
def dlq_show(
    dead_letter: Annotated[int, typer.Argument(help="Its id.")], *, store: Store = None
) -> None:
    """Show all that is known of one dead letter."""
    from etl.cli.tables import dead_letter_text
    from etl.queue import DeadLetterFilter

    found = _open(store).dead_letters(DeadLetterFilter(ids=[dead_letter], status=None)).to_dicts()
    if not found:
        raise UsageError(
            f"there is no dead letter {dead_letter}; etl dlq list --lines shows their ids"
        )
    _consoles()[0].print(dead_letter_text(found[0]), soft_wrap=True)


@dlq.command("replay")
def dlq_replay(
    ids: Ids = None,
    *,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Everything = False,
    force: Annotated[bool, typer.Option(help="Also those that died again three times.")] = False,
    dry_run: Annotated[
        str | None,
        typer.Option(metavar="PIPELINE", help="Only say how many would pass this pipeline now."),
    ] = None,
) -> None:
    """Put dead letters back into the queue."""
    from etl.dlq.dead_letters import DeadLetters
    from etl.pipeline.load import load_pipeline

    which = _which(ids, fingerprint, processor, everything=everything)
    dead_letters = DeadLetters(_open(store))
    if dry_run:
        print(dead_letters.dry_run(load_pipeline(dry_run), **which))
        return
    count = dead_letters.replay(force=force, **which)
    print(f"{count:,} lines wait again; etl work processes them")


@dlq.command("discard")
def dlq_discard(
    ids: Ids = None,
    *,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Everything = False,
) -> None:
    """Close dead letters for good."""
    from etl.dlq.dead_letters import DeadLetters

    which = _which(ids, fingerprint, processor, everything=everything)
    print(f"{DeadLetters(_open(store)).discard(**which):,} dead letters discarded")


@dlq.command("export")
def dlq_export(
    file: Annotated[Path, typer.Argument(help="The file to write: .jsonl or .parquet.")],
    ids: Ids = None,
    *,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Everything = False,
) -> None:
    """Write dead letters to a file, for a colleague; they stay where they are."""
    from etl.dlq.dead_letters import DeadLetters

    which = _which(ids, fingerprint, processor, everything=everything)
    print(f"{DeadLetters(_open(store)).export(file, **which):,} dead letters are in {file}")


@dlq.command("import")
def dlq_import(
    file: Annotated[Path, typer.Argument(help="A file that etl dlq export has written.")],
    *,
    store: NamedStore = None,
) -> None:
    """Put the lines of exported dead letters into a store's queue, once."""
    from etl.dlq.dead_letters import DeadLetters

    count = DeadLetters(_open(store, create=True)).import_(file)
    print(f"{count:,} lines wait; etl work processes them" if count else "nothing new in it")


@dlq.command("case")
def dlq_case(
    dead_letter: Annotated[int, typer.Argument(help="Its id.")],
    file: Annotated[Path, typer.Argument(help="The *.etl.toml file to add it to.")],
    *,
    store: Store = None,
    pipeline: PipelineName = Settings.pipeline,
    dead: Annotated[bool, typer.Option(help="The line must die again, rather than pass.")] = False,
) -> None:
    """Make a dead letter a test of the pipeline, which pytest then runs."""
    from etl.dlq.dead_letters import DeadLetters
    from etl.pipeline.load import load_pipeline
    from etl.testing.cases import append_case

    load_pipeline(pipeline)
    found = DeadLetters(_open(store)).frame(ids=[dead_letter], status=None).to_dict("records")
    print(append_case(file, found[0], pipeline=pipeline, dead=dead), end="")


def main() -> None:
    """Run the command line; an error is one line."""
    try:
        app(prog_name="etl")
    except EtlError as error:
        codes = ((UsageError, 2), (GateFailed, 3), (EtlError, 1))
        _fail(str(error), next(code for kind, code in codes if isinstance(error, kind)))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _fail(message: str, code: int) -> None:
    from etl.text import printable

    print(f"etl: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _consoles() -> tuple[Any, Any]:
    from rich.console import Console

    return Console(), Console(stderr=True)


def _open(store: str | None, *, create: bool = False, **options: int | None) -> Queue:
    """Open the named store, or that of the newest run."""
    from etl.queue import open_queue
    from etl.queue.urls import file_of
    from etl.runs.registry import latest_store

    _check_store(store)
    if create and store is None:  # lines must not end up in whatever store was used last
        raise UsageError("no store is named; name one with --store, or in ETL_STORE")
    url = str(store or latest_store() or "")
    if not url:
        raise UsageError("there is no run in data/runs yet; name a store with --store")
    file = file_of(url)
    if file and not create and not file.exists():
        raise UsageError(f"there is no store {str(file)!r}; etl run --store makes one")
    return open_queue(url, **options)


def _check_store(store: str | None) -> None:
    """Refuse the name of a store that would end with this command, or that is none."""
    from etl.queue.urls import IN_MEMORY

    if store == IN_MEMORY:
        raise UsageError("a store in memory ends with this command; name a file")
    if store is not None and not store.strip():
        raise UsageError("--store is empty; name a store, or leave it out")


def _extra(name: str) -> ModuleType:
    """Return a module of ours that needs the server extra."""
    import importlib

    try:
        return importlib.import_module(f"etl.server.{name}")
    except ModuleNotFoundError as error:
        raise UsageError(f"this needs {error.name}; pip install -e '.[server]'") from error


@contextlib.contextmanager
def _dashboard(store: str, run: str, port: int, file: TextIO) -> Iterator[str]:
    """Serve a run's store in the background, and give the server's URL."""
    from etl.runs.registry import new_run_id, recorded_use

    server = _extra("serve")
    queue = _open(store, create=True)
    service = server.Service(queue, run=run, log=_extra("logging").open_log("human", run=run))
    with (
        recorded_use(queue, new_run_id(), kind="serve"),
        server.serve_beside(service, server.Address(port=port)) as url,
    ):
        try:
            yield url
        finally:
            print("Shutting down...", file=file, flush=True)
    queue.close()


@contextlib.contextmanager
def _telling(store: str) -> Iterator[None]:
    """Say, if Ctrl-C ends the block, where that is which waits."""
    from etl.queue.urls import without_secrets

    try:
        yield
    except KeyboardInterrupt:
        place = without_secrets(store)
        print(f"etl: interrupted; the rest waits: etl work --store {place}", file=sys.stderr)
        raise


def _wait_for_end() -> None:
    """Wait for SIGTERM or Ctrl-C."""
    ended = threading.Event()
    when_asked_to_end(ended.set)
    ended.wait()


def _format(format: str | None, template: str | None, regex: str | None) -> str | None:
    """Return the one format that was asked for, checked."""
    given = [format, template and f"template:{template}", regex and f"regex:{regex}"]
    specs = [spec for spec in given if spec]
    if len(specs) > 1:
        raise UsageError("--format, --template and --regex say the same thing; give one of them")
    if not specs or specs[0] == "auto":
        return None
    from etl.formats import get_format

    return get_format(specs[0]).name


def _need(module: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UsageError(f"this needs {module}; pip install -e '.[notebook]'")


def _which(
    ids: list[int] | None, fingerprint: str | None, processor: str | None, *, everything: bool
) -> dict[str, Any]:
    which = {"ids": ids or None, "fingerprint": fingerprint, "processor": processor}
    which = {key: value for key, value in which.items() if value is not None}
    if not which and not everything:
        raise UsageError("which dead letters? give ids, --fingerprint, --processor, or --all")
    return which


def _traces(queue: Queue, limit: int = 100) -> list[dict[str, Any]]:
    from etl.analysis.traces import trace_rows

    return trace_rows(queue, limit)


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=str))
