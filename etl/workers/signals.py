"""What happens when a process is asked to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

import anyio
import anyio.to_thread

from etl.workers.worker import Worker

__all__ = ["run_until_signal", "when_asked_to_end"]


def when_asked_to_end(act: Callable[[], None]) -> None:
    """Call `act` once, in a thread of its own, when SIGTERM or Ctrl-C asks this process to end.

    A signal's handler itself may interrupt code that holds a lock, such as that
    of a `threading.Event`, and would wait for it for ever.
    """
    asked: SimpleQueue[None] = SimpleQueue()  # its `put` may interrupt anything

    def wait() -> None:
        asked.get()
        act()

    threading.Thread(target=wait, name="etl-end", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked.put(None))


def run_until_signal(worker: Worker, parent: int | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT, or until it ends on its own.

    A signal lets it finish its batch. If `parent` is given and that process
    is gone, the same happens.
    """

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        worker.request_stop()

    when_asked_to_end(worker.request_stop)
    if parent is not None:
        threading.Thread(target=watch_parent, name="etl-parent", daemon=True).start()
    anyio.run(worker.run)
