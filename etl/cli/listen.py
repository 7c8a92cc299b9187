"""`etl listen`: receive lines over the network."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from etl.cli import options as opt
from etl.cli.store import open_store
from etl.cli.work import MaxLines
from etl.records.context import AS_FOUND, ReadOptions
from etl.settings import Settings
from etl.text import counted, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.queue import Queue
    from etl.sources.addresses import ListenAddress
    from etl.sources.listener import SyslogListener

Addresses = Annotated[
    list[str],
    Argument(
        metavar="URL...",
        help="Where: syslog://127.0.0.1:5514 (UDP and TCP), syslog+udp, syslog+tcp, syslog+tls.",
    ),
]
Pem = Annotated[Path | None, Option(help="PEM file of the certificate, for syslog+tls.")]
Key = Annotated[Path | None, Option(help="PEM file of its key. Default: in the certificate's.")]
ClientCa = Annotated[
    Path | None, Option(help="PEM file of the authorities that clients need a certificate of.")
]


def listen(
    addresses: Addresses,
    store: opt.NamedStore = None,
    cert: Pem = None,
    key: Key = None,
    client_ca: ClientCa = None,
    format: opt.Format = None,
    template: opt.Template = None,
    regex: opt.Regex = None,
    timezone: opt.Timezone = AS_FOUND.timezone,
    unmatched: opt.IfUnmatched = AS_FOUND.unmatched,
    keep_line: opt.KeepLine = False,
    max_lines: MaxLines = None,
    work: Annotated[bool, Option(help="Also run worker processes.")] = False,
    pipeline: opt.Pipeline = Settings.pipeline,
    out: opt.Out = None,
    workers: opt.Workers = 1,
    as_json: opt.Json = False,
) -> None:
    """Put syslog messages that are sent to this machine into the queue of a store.

    Listens until Ctrl-C or SIGTERM; what was read is put first. A URL without a host is for this
    machine only. While the queue is full, TCP connections are not read, and datagrams are dropped
    and counted.
    """
    from etl.cli.tables import print_json
    from etl.runs.registry import new_run_id, recorded_use
    from etl.sources.addresses import ListenAddress, tls_context
    from etl.sources.listener import SyslogListener
    from etl.workers.signals import when_asked_to_end

    options = ReadOptions(
        format=opt.format_spec(format, template, regex),
        multiline="off",
        timezone=timezone,
        unmatched=unmatched,
        keep_line=keep_line,
    )
    named = [ListenAddress.parse(address) for address in addresses]
    is_tls = any(address.transport == "tls" for address in named)
    tls = tls_context(cert, key, client_ca) if is_tls else None
    queue = open_store(
        store, create=True, max_lines=max_lines, max_bytes=Settings.max_waiting_bytes
    )
    with closing(queue), recorded_use(queue, new_run_id(), kind="listen"):
        listener = SyslogListener(queue, named, options, tls=tls)
        when_asked_to_end(listener.stop)
        _announce(listener.listening, queue, has_client_ca=client_ca is not None)
        if work:
            with _workers(queue, listener, pipeline, out, workers):
                received = listener.run()
        else:
            received = listener.run()
    if as_json:
        print_json(received.as_json())
    else:
        say(f"{counted(received.lines, 'line')} put into {queue.url}", *received.problems())


def _announce(listening: list[ListenAddress], queue: Queue, *, has_client_ca: bool) -> None:
    for address in listening:
        say(f"etl: listening on {address} into {queue.url}; stop with Ctrl-C", err=True)
    for address in listening:
        if not address.is_local and not (address.transport == "tls" and has_client_ca):
            say(f"etl: whoever reaches {address} can put lines; protect it by a firewall", err=True)


@contextmanager
def _workers(
    queue: Queue, listener: SyslogListener, pipeline: str, out: Path | None, count: int
) -> Iterator[None]:
    """Run worker processes until the block ends; if they fail, the listener ends."""
    import threading

    from etl.pipeline.load import load_pipeline
    from etl.runs.run import output_folder
    from etl.workers.background import in_background
    from etl.workers.main import WorkerOptions
    from etl.workers.processes import CHECK_SECONDS, WorkerProcesses

    load_pipeline(pipeline)  # raises once, here, if there is a mistake in it
    options = WorkerOptions(out=str(out or output_folder(queue)), pipeline=pipeline)
    ended = threading.Event()
    started = WorkerProcesses(queue, count, options)

    def keep_working() -> None:
        workers = started
        try:
            while not ended.wait(CHECK_SECONDS):
                if not workers.check():  # a drain has ended them
                    workers.stop()
                    workers = WorkerProcesses(queue, count, options)
        finally:
            workers.stop()
            listener.stop()

    working = in_background(keep_working, name="etl-workers")
    try:
        yield
    finally:
        ended.set()
        working.result()
