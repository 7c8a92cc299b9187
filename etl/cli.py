"""The command line: each command is a few lines over what notebooks use too.

Errors are one line on stderr. Exit codes: 0 well, 1 a failed run, 2 a user's
mistake. With `--json`, stdout holds one JSON object and nothing else.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from etl.errors import EtlError, StoreAway, UsageError

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
RoomStore = Annotated[str, typer.Option("--store", envvar="ETL_STORE", help="Store to show.")]
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
Everything = Annotated[bool, typer.Option("--all", help="All open dead letters.")]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
DEFAULT_PIPELINE = "etl.default:pipeline"


@app.command()
def run(
    sources: Sources,
    *,
    pipeline: PipelineName = DEFAULT_PIPELINE,
    format: Format = None,
    template: Template = None,
    regex: Regex = None,
    store: Annotated[
        str | None, typer.Option(help="The store's URL or path; else a new one in data/runs.")
    ] = None,
    out: Out = None,
    workers: Workers = CORES,
    again: Annotated[bool, typer.Option(help="Read files anew that were read before.")] = False,
    trace: Annotated[bool, typer.Option(help="Print the paths of the last lines.")] = False,
    as_json: Json = False,
) -> None:
    """Take files through a pipeline and say what became of their lines."""
    from etl import runs
    from etl.report import show_progress, show_summary, traces_table

    out_console, err_console = _consoles()
    with show_progress(err_console) as watch:
        result = runs.run(
            sources,
            pipeline=pipeline,
            format=_format(format, template, regex),
            store=store,
            out=out,
            workers=workers,
            again=again,
            watch=watch,
            worker_stdout=sys.stderr if as_json else None,
        )
    queue = _open(store or result["store"])
    if as_json:
        _print_json(result | ({"traces": _traces(queue)} if trace else {}))
        return
    if trace:
        out_console.print(traces_table(_traces(queue)))
    show_summary(out_console, queue, result)


@app.command()
def put(
    sources: Sources,
    *,
    store: Store = None,
    format: Format = None,
    template: Template = None,
    regex: Regex = None,
    again: Annotated[bool, typer.Option(help="Read files anew that were read before.")] = False,
    follow: Annotated[bool, typer.Option(help="Go on as files grow, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Put lines into a store's queue; workers take them from there."""
    import signal
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from etl.sources import Source, expand, feed

    stop = threading.Event()
    if follow:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    spec = _format(format, template, regex)
    queue = _open(store, create=True)
    found = expand(sources, format=spec, by_reference=False, follow=stop if follow else None)

    def put_one(source: Source) -> int:
        return sum(read.batch.lines for read in feed(queue, source, again=again))

    # Files that grow are read side by side, others one after another.
    with ThreadPoolExecutor(len(found) if follow else 1) as pool:
        lines = sum(pool.map(put_one, found))
    if as_json:
        _print_json({"put": lines})
    else:
        print(f"{lines:,} lines put into {queue.url}")


@app.command()
def work(
    *,
    store: Store = None,
    pipeline: PipelineName = DEFAULT_PIPELINE,
    out: Out = None,
    workers: Workers = 1,
    batch_lines: Annotated[int, typer.Option(min=1, help="Lines taken together.")] = 50_000,
    interval: Annotated[float, typer.Option(min=0, help="Seconds between batches.")] = 0.0,
    lease: Annotated[float, typer.Option(min=1, help="Seconds that a lease lasts.")] = 30.0,
    drain: Annotated[bool, typer.Option(help="End once nothing waits.")] = False,
    run: Annotated[str, typer.Option(hidden=True)] = "",
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Process what waits in a store; SIGTERM or Ctrl-C ends after the current batch."""
    from etl.pipeline import load_pipeline
    from etl.processes import WorkerProcesses
    from etl.runs import output_folder
    from etl.worker import Worker, run_until_signal

    loaded = load_pipeline(pipeline)
    queue = _open(store, create=True, wait=True)
    out = out or output_folder(queue.url)
    if workers == 1 or parent is not None:
        worker = Worker(
            queue,
            loaded,
            out=out,
            batch_lines=batch_lines,
            interval=interval,
            lease_seconds=lease,
            run=run,
            drain=drain,
        )
        run_until_signal(worker, parent)
        return
    options = ["--pipeline", pipeline, "--batch-lines", str(batch_lines), "--run", run]
    options += ["--interval", str(interval), "--lease", str(lease), *(["--drain"] * drain)]
    WorkerProcesses(queue, workers, options, out=out).run_until_signal()


@app.command()
def status(*, store: Store = None, as_json: Json = False) -> None:
    """Show a store's totals and processors."""
    from etl.report import show_summary
    from etl.runs import summary

    queue = _open(store)
    result = summary(queue)
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
    from etl.report import traces_table

    rows = _traces(_open(store), limit)
    if as_json:
        _print_json({"traces": rows})
    else:
        _consoles()[0].print(traces_table(rows))


@app.command()
def graph(*, pipeline: PipelineName = DEFAULT_PIPELINE) -> None:
    """Print a pipeline as a Mermaid flowchart."""
    from etl.pipeline import load_pipeline

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

    from etl.report import live_view
    from etl.runs import summary

    queue = _open(store)
    console = _consoles()[0]
    if once or not console.is_terminal:
        console.print(live_view(queue, summary(queue)))
        return
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            since = queue.changes()
            live.update(live_view(queue, summary(queue)), refresh=True)
            queue.wait(since, interval)


@app.command()
def lab(*, store: RoomStore = "data/runs/control_room.db") -> None:
    """Open the control room in JupyterLab."""
    _open_room(store, "jupyterlab")


@app.command("app")
def app_page(
    *,
    store: RoomStore = "data/runs/control_room.db",
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 8866,
) -> None:
    """Serve the control room as a web page, on this machine only."""
    options = ["--Voila.ip=127.0.0.1", "--VoilaConfiguration.show_tracebacks=True"]
    # A page that is left cannot end its kernel (Voilà refuses it): idle ones are ended here.
    options += ["--MappingKernelManager.cull_idle_timeout=120"]
    options += ["--MappingKernelManager.cull_interval=30"]
    _open_room(store, "voila", f"--port={port}", *options)


@stores.command("init")
def store_init(
    url: Annotated[str, typer.Argument(help="nats://host:4222/name, or the path of a file.")],
    *,
    replicas: Annotated[
        int | None, typer.Option(min=1, max=5, help="Nodes of the cluster that keep it all.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until its servers can be reached.")] = False,
) -> None:
    """Make a store, or change on how many nodes of a cluster it is kept."""
    queue = _open(url, create=True, wait=wait, replicas=replicas)
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
    from etl.queue import LetterFilter
    from etl.report import groups_table, letters_table

    queue = _open(store)
    which: dict[str, Any] = {"fingerprint": fingerprint, "processor": processor, "status": status}
    if lines:
        rows = queue.letters(LetterFilter(**which, limit=limit)).drop("raw").to_dicts()
    else:
        rows = queue.letter_groups(LetterFilter(**which))
    if as_json:
        _print_json({"letters" if lines else "groups": rows})
    elif not rows:
        print(f"no dead letters are {status}")
    else:
        _consoles()[0].print((letters_table if lines else groups_table)(rows))


@dlq.command("show")
def dlq_show(
    letter: Annotated[int, typer.Argument(help="Its id.")], *, store: Store = None
) -> None:
    """Show all that is known of one dead letter."""
    from etl.queue import LetterFilter
    from etl.report import letter_text

    found = _open(store).letters(LetterFilter(ids=[letter], status=None)).to_dicts()
    if not found:
        raise UsageError(f"there is no dead letter {letter}; etl dlq list --lines shows their ids")
    _consoles()[0].print(letter_text(found[0]), soft_wrap=True)


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
    from etl.dlq import DeadLetters
    from etl.pipeline import load_pipeline

    which = _which(ids, fingerprint, processor, everything=everything)
    letters = DeadLetters(_open(store))
    if dry_run:
        print(letters.dry_run(load_pipeline(dry_run), **which))
        return
    count = letters.replay(force=force, **which)
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
    from etl.dlq import DeadLetters

    which = _which(ids, fingerprint, processor, everything=everything)
    print(f"{DeadLetters(_open(store)).discard(**which):,} dead letters discarded")


def main() -> None:
    """Run the command line; an error is one line."""
    try:
        app(prog_name="etl")
    except EtlError as error:
        _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _fail(message: str, code: int) -> None:
    from etl.sinks import printable

    if last_words := os.environ.get("ETL_LAST_WORDS"):
        from etl.processes import GAVE_UP

        Path(last_words).write_text(message, encoding="utf-8")
        sys.exit(GAVE_UP)
    print(f"etl: {printable(message)}", file=sys.stderr)
    sys.exit(code)


def _consoles() -> tuple[Any, Any]:
    from rich.console import Console

    return Console(), Console(stderr=True)


def _open(
    store: str | None,
    *,
    create: bool = False,
    wait: bool = False,
    replicas: int | None = None,
) -> Queue:
    """Open the named store, or that of the newest run; `wait` until it can be reached."""
    from etl.queue import open_queue
    from etl.runs import latest_store

    url = str(store or latest_store() or "")
    if not url:
        raise UsageError("there is no run in data/runs yet; name a store with --store")
    path = url.removeprefix("sqlite:///")
    if not create and "://" not in path and not Path(path).exists():
        raise UsageError(f"there is no store {path!r}; etl run --store makes one")
    while True:
        try:
            return open_queue(url, replicas=replicas)
        except StoreAway as error:
            if not wait:
                raise
            print(f"etl: {error}; trying again", file=sys.stderr)


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


def _open_room(store: str, module: str, *options: str) -> None:
    """Become a server that shows the control room's notebook on a store."""
    import importlib.util

    notebook = Path(__file__).parent.parent / "notebooks" / "01_control_room.ipynb"
    if not notebook.exists():
        raise UsageError(f"there is no {str(notebook)!r}; run this from a checkout of etl")
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"this needs {module}; pip install -e '.[notebook]'")
    path = store.removeprefix("sqlite:///")
    url = store if "://" in path else f"sqlite:///{Path(path).absolute()}"
    command = [sys.executable, "-m", module, str(notebook), *options]
    os.execve(sys.executable, command, os.environ | {"ETL_STORE": url})  # noqa: S606


def _which(
    ids: list[int] | None, fingerprint: str | None, processor: str | None, *, everything: bool
) -> dict[str, Any]:
    which = {"ids": ids or None, "fingerprint": fingerprint, "processor": processor}
    which = {key: value for key, value in which.items() if value is not None}
    if not which and not everything:
        raise UsageError("which dead letters? give ids, --fingerprint, --processor, or --all")
    return which


def _traces(queue: Queue, limit: int = 100) -> list[dict[str, Any]]:
    from etl.traces import trace_rows

    return trace_rows(queue, limit)


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=str))
