"""The log of etl itself: text for a terminal, or one JSON object a line.

Every line has the values that the log was opened with, such as the run, and those of the event,
such as the batch. Text from logs that are processed appears in it only as values, escaped.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from etl.errors import UsageError
from etl.records.batch import Lease
from etl.records.result import BatchResult
from etl.text import printable

if TYPE_CHECKING:
    from etl.workers.main import WorkerOptions

__all__ = ["KINDS", "Log", "forward", "log_commits", "open_log"]

KINDS = ("human", "json")

Log = Any
"""A structlog logger: `log.info("event", batch="…")`, and `log.bind(run="…")`."""


def open_log(kind: str, *, file: TextIO | None = None, **bound: str) -> Log:
    """Return a logger that writes to stderr.

    Args:
        kind: `human` or `json`.
        file: A file to write to instead.
        **bound: Values that every line has.

    Raises:
        UsageError: If there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown log format {kind!r}; use {' or '.join(KINDS)}")
    file = file or sys.stderr
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if kind == "json":
        processors.append(structlog.processors.JSONRenderer())
    else:
        plain = structlog.dev.plain_traceback
        colours = file.isatty()
        renderer = structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)
        processors += [_harmless, renderer]
    log = structlog.wrap_logger(
        _FileLogger(file),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    return log.bind(**bound)


def log_commits(options: WorkerOptions) -> Callable[[Lease, BatchResult], None]:
    """Return what logs a line for each batch that a worker with these options commits."""
    log = open_log(options.log_format, run=options.run)

    def watch(lease: Lease, result: BatchResult) -> None:
        log.log(
            logging.WARNING if result.dead else logging.INFO,
            "committed",
            batch=lease.batches[0].id,
            batches=len(lease.batches),
            worker=lease.worker,
            done=result.done,
            filtered=result.filtered,
            dead=result.dead,
            seconds=round(result.seconds, 4),
        )

    return watch


def forward(name: str, log: Log) -> None:
    """Send the warnings and errors of a library's logger to our log."""
    logger = logging.getLogger(name)
    logger.handlers = [_Forward(log)]
    logger.propagate = False
    logger.setLevel(logging.WARNING)


class _FileLogger:
    """Writes lines to a file; what cannot be written, as on a full disk, is left out.

    A server that could not log would otherwise end, or refuse what it could store.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lock = threading.Lock()

    def msg(self, message: str) -> None:
        """Write a line."""
        with self._lock, contextlib.suppress(OSError):
            print(message, file=self._file, flush=True)

    debug = info = warning = error = critical = exception = log = msg


class _Forward(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage(), exc_info=record.exc_info)


def _harmless(_logger: Any, _level: str, event: MutableMapping[str, Any]) -> Any:
    """Escape control characters in values; a traceback keeps its lines."""
    return {
        key: "\n".join(map(printable, value.split("\n"))) if isinstance(value, str) else value
        for key, value in event.items()
    }
