"""Workers on the machines of a Dask cluster, which places them and starts them again.

Each is a task in a slot of the cluster, and looks after one worker process (`main.py`): a
batch that kills its process leaves Dask's own processes, and what they hold for others, as
they are. Leases, totals and dead letters are in the store: Dask keeps nothing.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import Client, Future, KilledWorker, Reschedule, Worker, get_worker
from distributed.comm.addressing import get_address_host_port
from distributed.core import Status

from etl.errors import EtlError, StoreUnavailable, UsageError, WorkerFailed
from etl.pipeline.load import load_pipeline
from etl.queue import Control, open_queue
from etl.queue.urls import POSTGRES, without_secrets
from etl.settings import Settings
from etl.text import say
from etl.workers.main import WorkerOptions
from etl.workers.processes import WorkerProcesses
from etl.workers.signals import when_asked_to_end

__all__ = ["on_dask", "work_on"]

CONNECT_SECONDS = 5
"""How long a scheduler may take to answer."""


@dataclass(frozen=True)
class Job:
    """What a task is given. Dask writes its repr to logs, so that the URL is not in it.

    Attributes:
        store: The store's URL, with its password.
        options: Those of the worker.
        control: What the store asked of its workers when the task was made.
    """

    store: str = field(repr=False)
    options: WorkerOptions
    control: Control


def on_dask(
    client: Client,
    store: str,
    pipeline: str = Settings.pipeline,
    *,
    workers: int = 1,
    out: Path | str = "data/out",
    **options: Any,
) -> list[Future[None]]:
    """Return the futures of workers that a Dask cluster runs until they are stopped.

    A worker whose machine is lost, or is given back, is started on another. One whose future
    is cancelled, or whose client is gone, ends after its batch.

    Args:
        client: Connected to the cluster.
        store: URL of a store on PostgreSQL, as `Queue.secret_url` is.
        pipeline: `module:attr` or `path.py:attr`, which every machine can load.
        workers: How many; those for which no slot is free wait for one.
        out: Folder that sinks write below, the same on every machine.
        **options: More of `WorkerOptions`.

    Raises:
        UsageError: If the store is in a file or in memory, or the pipeline cannot be loaded.
        StoreError: If the store cannot be used.
    """
    if store.partition("://")[0] not in POSTGRES:
        raise UsageError(
            f"store {without_secrets(store)!r} is for one machine; use postgresql://user@host/db"
        )
    file, _, attribute = pipeline.rpartition(":")
    if file.endswith(".py"):
        pipeline = f"{Path(file).absolute()}:{attribute}"
    load_pipeline(pipeline)  # raises once, here, if there is a mistake in it
    given = WorkerOptions(out=str(Path(out).absolute()), pipeline=pipeline, **options)
    with closing(open_queue(store)) as queue:
        job = Job(store, given, queue.control())
    futures = [client.submit(etl_work, job, pure=False) for _ in range(workers)]
    for future in futures:
        future.add_done_callback(_renew)
    return futures


def work_on(address: str, store: str, options: WorkerOptions, workers: int) -> None:
    """Run workers on a cluster until SIGTERM or SIGINT, or until all have ended.

    Args:
        address: That of the scheduler: `tcp://host:8786`, or `tls://…`.
        store: URL of the store, with its password.
        options: Those of each worker.
        workers: How many.

    Raises:
        UsageError: As `on_dask`, or if the address is none.
        EtlError: If the scheduler cannot be reached.
        WorkerFailed: If a worker gives up, or the scheduler is lost.
    """
    stopping = threading.Event()
    when_asked_to_end(stopping.set)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what fails is told below
    try:
        get_address_host_port(address, strict=True)
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except ValueError as error:
        raise UsageError(f"scheduler {address!r} is no address: {error}") from error
    except OSError as error:
        raise EtlError(f"scheduler {address!r} cannot be reached: {error}") from error
    with client:
        futures = on_dask(client, store, workers=workers, **asdict(options))
        slots = client.nthreads()
        machines = len({urlsplit(one).hostname for one in slots})
        there = f"machines: {machines}, slots: {sum(slots.values())}"
        say(f"etl: workers asked for on {address}: {workers}; {there}", err=True)
        try:
            while not stopping.wait(0.1) and sum(map(_goes_on, futures)):
                pass
        finally:
            _stop(client, futures)


def etl_work(job: Job) -> None:
    """Look after one worker process until it ends, or until this slot is no longer ours.

    Dask shows a task by its function's name.
    """
    dask = get_worker()
    try:
        with closing(open_queue(job.store)) as queue:
            asked = queue.control()  # perhaps while this task waited for a slot
            if asked.stops > job.control.stops:
                return
            drain = job.options.drain or asked.drains > job.control.drains
            # A slot stands for a core.
            process = WorkerProcesses(queue, 1, replace(job.options, drain=drain), threads=1)
            try:
                while process.check():
                    if _is_over(dask):
                        raise Reschedule
                    time.sleep(0.1)
            finally:
                process.stop()
    except StoreUnavailable as error:
        say(f"etl: {error}", err=True)  # into the log of Dask's worker
        time.sleep(1)
        raise Reschedule from None
    except EtlError as error:
        raise WorkerFailed(f"{error} (on {socket.gethostname()})") from None


def _is_over(dask: Worker) -> bool:
    """Return whether this task was cancelled, or its Dask worker closes, as when it is retired."""
    task = dask.state.tasks.get(dask.get_current_task())
    cancelled = task is None or task.state == "cancelled"
    return cancelled or dask.status not in (Status.running, Status.paused)


def _renew(future: Future[None]) -> None:
    """Start a worker again that Dask has given up, since it was on several machines that died."""
    if future.status == "error" and isinstance(future.exception(), KilledWorker):
        future.retry()
        future.add_done_callback(_renew)


def _goes_on(future: Future[None]) -> bool:
    """Return whether a worker has not ended; raise WorkerFailed if it should have gone on."""
    if future.status in ("cancelled", "lost"):
        raise WorkerFailed(
            "the scheduler is gone, or has cancelled the workers; nothing is lost: start them again"
        )
    if future.status == "error" and not isinstance(error := future.exception(), KilledWorker):
        raise WorkerFailed(f"a worker on the cluster gave up: {error}")
    return future.status != "finished"


def _stop(client: Client, futures: list[Future[None]]) -> None:
    """End workers after their batch, and wait for that."""
    keys = [future.key for future in futures]
    if client.status == "running":
        with suppress(OSError):  # the scheduler is gone, and so they end
            client.cancel(futures)
            while any(client.run(_has_any, keys, on_error="ignore").values()):
                time.sleep(0.1)


def _has_any(keys: list[Any], dask_worker: Worker) -> bool:
    """Return whether a Dask worker still runs one of these tasks."""
    return any(key in dask_worker.state.tasks for key in keys)
