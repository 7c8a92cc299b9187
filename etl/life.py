"""Whether a process of this machine still lives, and when this one is asked to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

__all__ = ["alive", "birth", "when_asked_to_end"]


def alive(pid: int, born: str = "") -> bool:
    """Say whether a process runs; one that is dead and not yet buried does not.

    Args:
        pid: Its number.
        born: Its `birth`, where known: a number is used again, at the latest after a restart.
    """
    try:
        os.kill(pid, 0)
        fields = _stat(pid)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process, or a system without /proc
        return True
    return fields[0] not in ("Z", "X") and born in ("", fields[19])


def birth(pid: int) -> str:
    """Return when a process began, in ticks since the machine did; empty if that is not known."""
    try:
        return _stat(pid)[19]
    except OSError:
        return ""


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


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5)'s stat from `state`, the third, on."""
    text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    return text.rpartition(")")[2].split()
