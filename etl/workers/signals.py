"""What happens when a process is asked to end.

Not by psutil, which sends signals and receives none, nor by anyio, whose receiver needs an
event loop in the main thread: commands without one wait for the same signals.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["when_asked_to_end"]


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
