"""Whether a process of this machine still runs."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["alive", "birth"]


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


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5)'s stat from `state`, the third, on."""
    text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    return text.rpartition(")")[2].split()
