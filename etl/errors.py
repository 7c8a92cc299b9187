"""What can go wrong, as one tree.

    EtlError
    ├── UsageError                the caller asked for something that cannot be
    │   ├── PipelineError         the DAG does not hold together
    │   ├── FormatError           no such format, or a pattern that does not compile
    │   └── SourceError           a source is missing, a directory is empty, ...
    ├── StoreError                the store cannot be used
    │   ├── IncompatibleStore     made by a newer etl, or by an older one
    │   ├── StoreFull             no room on the disk
    │   ├── StoreUnavailable      cannot be reached at this moment
    │   ├── StoreLost             its file was removed or replaced while in use, or is damaged
    │   ├── PayloadDamaged        the text of a batch cannot be read
    │   └── QueueClosed           used after close()
    ├── QueueFull                 the limit on waiting lines or bytes is reached
    ├── LeaseLost                 the lease ran out; another worker has the batch
    ├── OutputsChanged            another process has replaced an output
    ├── SourceLocked              two runs read one source into one store
    ├── SourceChanged             a file's bytes are not those that were queued
    │   └── SourceUnavailable     a file cannot be read here: it is gone, or not on this machine
    ├── ProcessorTimeout          a processor took longer than it may
    ├── ProcessorStop             a processor failed, and its policy says stop
    │   └── OutputFull            no room on the disk that a sink writes to
    ├── WorkerFailed              worker processes ended before their first batch
    ├── BatchFailed               a batch run's notebook failed, or one of many
    └── GateFailed                a batch is processed and written, and not good enough

A message names the thing, the value found, and the next step. The command
line prints it on one line and exits with 2 for a `UsageError`, 3 for
`GateFailed`, else with 1.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterable

__all__ = [
    "BatchFailed",
    "EtlError",
    "FormatError",
    "GateFailed",
    "IncompatibleStore",
    "LeaseLost",
    "OutputFull",
    "OutputsChanged",
    "PayloadDamaged",
    "PipelineError",
    "ProcessorStop",
    "ProcessorTimeout",
    "QueueClosed",
    "QueueFull",
    "SourceChanged",
    "SourceError",
    "SourceLocked",
    "SourceUnavailable",
    "StoreError",
    "StoreFull",
    "StoreLost",
    "StoreUnavailable",
    "UsageError",
    "WorkerFailed",
    "did_you_mean",
    "is_echo",
    "is_interrupt",
]


class EtlError(Exception):
    """Something went wrong in etl."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class UsageError(EtlError):
    """The call asks for something that cannot be."""


class PipelineError(UsageError):
    """The pipeline does not hold together."""


class FormatError(UsageError):
    """No such log format."""


class SourceError(UsageError):
    """The source cannot be read."""


class StoreError(EtlError):
    """The store cannot be used."""


class IncompatibleStore(StoreError):
    """The store was made by a newer etl; upgrade this one."""


class StoreFull(StoreError):
    """There is no room left for the store on its disk."""


class StoreUnavailable(StoreError):
    """The store cannot be reached at this moment."""


class StoreLost(StoreError):
    """The store's file was removed or replaced while it was in use, or is damaged."""


class QueueClosed(StoreError):
    """The queue was closed; open it again with open_queue()."""


class QueueFull(EtlError):
    """The queue is at its limit; wait for workers to catch up."""


class LeaseLost(EtlError):
    """The lease ran out and another worker may have the batch; nothing was changed."""


class OutputsChanged(EtlError):
    """Another process has replaced an output in the meantime; nothing was changed."""


class SourceLocked(EtlError):
    """Another run is reading the source into this store."""


class SourceChanged(EtlError):
    """The source's bytes are not those that were queued."""


class SourceUnavailable(SourceChanged):
    """The source cannot be read on this machine at this moment."""


class PayloadDamaged(StoreError):
    """The text of a batch cannot be read: what the store keeps of it is damaged."""


class ProcessorTimeout(EtlError):
    """A processor took longer than it may."""


class ProcessorStop(EtlError):
    """A processor failed and its retry policy says to stop."""


class OutputFull(ProcessorStop):
    """There is no room left on the disk that a sink writes to."""


class WorkerFailed(EtlError):
    """Worker processes ended before their first batch."""


class BatchFailed(EtlError):
    """A batch run failed; its notebook shows where."""


class GateFailed(EtlError):
    """A batch is processed and written, and a quality gate says it is not good enough."""


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is Ctrl-C, rather than raised by the code that ran.

    A signal interrupts the main thread only.
    """
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)


def is_echo(error: BaseException) -> bool:
    """Return whether an exception may be Ctrl-C in another thread than the main one.

    Polars raises it in every thread that waits for it. What code raises by itself, it raises again.
    """
    return isinstance(error, KeyboardInterrupt) and not is_interrupt(error)


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest known name, else the list of them."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(names)}" if names else ""
