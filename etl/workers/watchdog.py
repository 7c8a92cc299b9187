"""A worker process that hangs in a processor ends, and leaves word of it for who looks after it.

A call that takes longer than its processor's timeout is given up by a thread of the worker
(`execution/bisect.py`). Code that keeps Python's lock all the while, such as a regex that
backtracks, stops every thread. It does not stop the watchdog of the standard library's
faulthandler, which is no thread of Python: a little after the timeout it ends the process. The
process that looks after it (`processes.py`) then finds in a file what hung.

Not for a worker in a thread of a process that does other things, such as a notebook: there only
the process could be ended.
"""

from __future__ import annotations

import faulthandler
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from etl.queue import Hang

__all__ = ["Watchdog", "read_hang"]

GRACE_SECONDS = 1.0
"""Seconds after a timeout in which a call may still be given up without ending the process."""

FIRED = "Timeout ("
"""How a line begins that faulthandler writes when it ends a process."""


class Watchdog:
    """Ends this process when a call keeps Python's lock for longer than it may.

    Args:
        file: Where it writes what hung; read by `read_hang`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.open("w", encoding="utf-8")

    @contextmanager
    def __call__(self, hang: Hang) -> Iterator[None]:
        """Watch a call, of which this is what would be said."""
        self._file.seek(0)
        self._file.truncate()
        print(json.dumps(asdict(hang)), file=self._file, flush=True)
        faulthandler.dump_traceback_later(hang.timeout + GRACE_SECONDS, exit=True, file=self._file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def read_hang(file: Path) -> Hang | None:
    """Return what a process hung in that has ended, or None if it did not hang."""
    text = file.read_text(encoding="utf-8", errors="replace")
    hang, _, rest = text.partition("\n")
    return Hang(**json.loads(hang)) if rest.startswith(FIRED) else None
