"""`etl top`: an overview of a store that is renewed, and keys that control it."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from typer import Option

from etl.cli.commands import relative
from etl.cli.options import Json, Store
from etl.cli.store import open_store

Interval = Annotated[float, Option(min=0.1, help="Seconds between updates.")]
Once = Annotated[bool, Option(help="Print one view and exit.")]

ARROWS = re.compile(r"\x1b(\[[0-9;]*[A-Za-z~]|O[A-Z])")
"""What keys send that have no letter."""

Wait = Callable[[float], str]
"""Waits so many seconds for keys, and returns those that came."""


def top(
    store: Store = None, interval: Interval = 0.5, once: Once = False, as_json: Json = False
) -> None:
    """Show rates, levels, workers and failures of a store; q quits, p pauses, r resumes."""
    from rich.console import Console

    from etl.analysis.overview import OverviewReader
    from etl.cli.tables import print_json
    from etl.cli.top_view import view

    queue, console = open_store(store), Console()
    reader = OverviewReader(queue)
    if as_json:
        print_json(reader.read())
    elif once or not console.is_terminal:
        shown = view(reader.read(), relative(queue.url), width=console.width)
        console.print(shown)
    else:
        _show(queue, reader, console, interval)


def _show(queue: Any, reader: Any, console: Any, interval: float) -> None:
    """Show what there is until `q`, Ctrl-C or SIGTERM."""
    from rich.live import Live
    from rich.text import Text

    from etl.cli.top_view import view
    from etl.errors import StoreUnavailable
    from etl.text import printable

    name = relative(queue.url)
    acts = {"p": queue.pause, "r": queue.resume}
    with (
        suppress(KeyboardInterrupt),
        _ends_by_signal(),
        _keys() as (wait, reads),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            try:
                seen = reader.read()
                size = console.size
                shown: Any = view(seen, name, width=size.width, height=size.height, keys=reads)
            except StoreUnavailable as error:
                shown = Text(f"{printable(str(error))}; trying again", "bold red")
            live.update(shown, refresh=True)
            for key in wait(interval):
                if key == "q":
                    return
                with suppress(StoreUnavailable):
                    acts.get(key, lambda: None)()


@contextmanager
def _ends_by_signal() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that the terminal is restored."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signals = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {one: signal.signal(one, end) for one in signals}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def _keys() -> Iterator[tuple[Wait, bool]]:
    """Yield what waits for a key, and whether keys are read: only if stdin is a terminal.

    The terminal gives each key at once and shows none, until the block ends.
    """
    try:
        import termios
        import tty
    except ImportError:  # on Windows
        yield _nothing, False
        return
    if not (sys.stdin and sys.stdin.isatty()):
        yield _nothing, False
        return
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        modes = termios.tcgetattr(handle)
        modes[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the screen as it is
        termios.tcsetattr(handle, termios.TCSANOW, modes)
        yield lambda seconds: _typed(handle, seconds), True
    finally:
        termios.tcsetattr(handle, termios.TCSAFLUSH, before)


def _typed(handle: int, seconds: float) -> str:
    if not select.select([handle], [], [], seconds)[0]:
        return ""
    typed = os.read(handle, 1024)
    if not typed:  # the terminal is gone
        return _nothing(seconds)
    return ARROWS.sub("", typed.decode("ascii", "ignore")).lower()


def _nothing(seconds: float) -> str:
    threading.Event().wait(seconds)
    return ""
