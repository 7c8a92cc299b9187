"""`etl work` and `etl serve`: run until they are stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib import import_module
from typing import Annotated

from typer import Option

from etl.cli.commands import etl_command
from etl.cli.options import LogFormat, NamedStore, Out, Pipeline, Port, Workers
from etl.cli.store import open_store
from etl.settings import Settings
from etl.text import say

BatchLines = Annotated[int, Option(min=1, help="Number of lines to process together.")]
LeaseSeconds = Annotated[
    float, Option(min=1, help="Seconds until a lease expires, unless renewed.")
]
On = Annotated[
    str | None,
    Option(metavar="ADDRESS", help="Run the workers on a Dask cluster: its scheduler's address."),
]
Token = Annotated[str | None, Option(envvar="ETL_TOKEN", help="Token that clients must send.")]
COMMIT_LOG = "etl.server.logging:log_commits"
"""What writes a worker's log; loaded by this name, and only where a log is asked for."""

MaxLines = Annotated[int | None, Option(min=1, help="Refuse lines when so many are waiting.")]


def work(
    store: NamedStore = None,
    pipeline: Pipeline = Settings.pipeline,
    out: Out = None,
    workers: Workers = 1,
    on: On = None,
    batch_lines: BatchLines = Settings.batch_lines,
    interval: Annotated[
        float, Option(min=0, help="Seconds to hold a batch before it is processed.")
    ] = 0.0,
    lease: LeaseSeconds = Settings.lease_seconds,
    drain: Annotated[bool, Option(help="Exit when the queue is empty.")] = False,
    log_format: LogFormat = None,
) -> None:
    """Process the queue of a store, until Ctrl-C or SIGTERM; the current batch is finished."""
    from etl.pipeline.load import load_pipeline
    from etl.queue import identity
    from etl.runs.registry import new_run_id, recorded_use
    from etl.runs.run import output_folder
    from etl.workers.main import WorkerOptions, run_worker
    from etl.workers.processes import WorkerProcesses

    loaded = load_pipeline(pipeline)
    queue = open_store(store, create=not on)  # a file that is made is of no use to a cluster
    if log_format:
        import_module("etl.server.logging")  # raises here if it cannot be had
    else:
        say(f"etl: working on {queue.url}; stop with Ctrl-C", err=True)
        if queue.control().paused:
            resume = etl_command("resume", store=queue.url)
            say(f"etl: the store is paused; to continue: {resume}", err=True)
    options = WorkerOptions(
        out=str(out or output_folder(queue)),
        pipeline=pipeline,
        batch_lines=batch_lines,
        interval=interval,
        lease_seconds=lease,
        drain=drain,
        watch=COMMIT_LOG if log_format else "",
        log_format=log_format or "",
    )
    if on:
        from etl.workers import work_on

        work_on(on, queue.secret_url, options, workers)
        return
    known = {"pipeline": pipeline, "version": loaded.version}
    with recorded_use(queue, new_run_id(), kind="work", **known):
        if workers == 1 and not any(node.timeout for node in loaded.plan().order):
            run_worker(queue, loaded, options)
        else:  # one that hangs can only be ended from outside
            WorkerProcesses(queue, workers, options).run_until_signal()
    if drain and not log_format:
        say(f"etl: {identity(queue.stats().totals())}", err=True)


def serve(
    store: NamedStore = None,
    host: Annotated[str, Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = Settings.server_port,
    token: Token = None,
    name: Annotated[list[str] | None, Option(help="Additional host name of this server.")] = None,
    max_lines: MaxLines = None,
    work: Annotated[bool, Option(help="Also run worker processes.")] = False,
    pipeline: Pipeline = Settings.pipeline,
    out: Out = None,
    workers: Workers = 1,
    log_format: LogFormat = "human",
) -> None:
    """Serve a store over HTTP, until Ctrl-C or SIGTERM.

    POST /logs puts lines into the queue. GET /stats, /trace, /errors, /queue, /workers,
    /history and /metrics show the store. POST /pause, /resume and /drain control it. /dlq
    has the dead letters. /docs documents all of them, with examples.

    By default, only this machine can connect. Any other --host requires a token, which
    clients send as 'Authorization: Bearer TOKEN'.
    """
    from etl.pipeline.load import load_pipeline
    from etl.runs.registry import new_run_id, recorded_use
    from etl.runs.run import output_folder
    from etl.server import serve as server
    from etl.server.logging import open_log
    from etl.server.service import Service
    from etl.workers.main import WorkerOptions
    from etl.workers.processes import WorkerProcesses

    queue = open_store(
        store, create=True, max_lines=max_lines, max_bytes=Settings.max_waiting_bytes
    )
    run, kind = new_run_id(), log_format or "human"
    address = server.Address(host, port, token, name or ())
    service = Service(queue, run=run, log=open_log(kind, run=run))
    options = WorkerOptions(
        out=str(out or output_folder(queue)),
        pipeline=pipeline,
        run=run,
        watch=COMMIT_LOG,
        log_format=kind,
    )
    if work:
        load_pipeline(pipeline)  # raises once, here, if there is a mistake in it
    beside = partial(WorkerProcesses, queue, workers, options)
    announce = partial(print, flush=True)
    known = {"pipeline": pipeline} if work else {}
    with recorded_use(queue, run, kind="serve", **known):
        server.serve(service, address, workers=beside if work else None, announce=announce)


@contextmanager
def serve_beside(store: str, run: str, port: int) -> Iterator[str]:
    """Serve the store of a run in the background until the block ends; yield the server's URL."""
    from etl.runs.registry import new_run_id, recorded_use
    from etl.server import serve as server
    from etl.server.logging import open_log
    from etl.server.service import Service

    with closing(open_store(store, create=True)) as queue:
        service = Service(queue, run=run, log=open_log("human", run=run))
        address = server.Address(port=port)
        with (
            recorded_use(queue, new_run_id(), kind="serve"),
            server.serve_beside(service, address) as url,
        ):
            yield url
