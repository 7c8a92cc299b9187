"""Text for people: made harmless, cut, times and sizes."""

from __future__ import annotations

import time

__all__ = ["clock", "duration", "printable", "size"]


def printable(text: str, most: int | None = None) -> str:
    """Return text that cannot steer a terminal: control and format characters as escapes.

    Args:
        text: Any text.
        most: Characters at which it is cut, with `…` for the rest.
    """
    shown = text if most is None else text[: most + 1]
    if not shown.isprintable():
        shown = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
        )
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def clock(seconds: float) -> str:
    """Return Unix seconds as text, UTC: `2026-11-21 09:00:00`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def duration(seconds: float) -> str:
    """Return seconds with three digits and a unit: `850 ns`, `12.5 µs`, `3.2 ms`, `1.4 s`."""
    for unit, each in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= each:
            return f"{seconds / each:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def size(count: float) -> str:
    """Return a number of bytes with a unit: `512 bytes`, `3.4 MB`."""
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= each:
            return f"{count / each:,.1f} {unit}"
    return f"{count:,.0f} bytes"
