"""Text for people: made harmless, cut, printed, times and sizes, and tables as HTML.

What libraries warn of is for those who develop with them: `hide_library_warnings` keeps it off
the screen.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urlsplit, urlunsplit

__all__ = [
    "POSTGRES",
    "Html",
    "cell_text",
    "clock",
    "counted",
    "duration",
    "first_line",
    "hide_library_warnings",
    "html_card",
    "html_table",
    "printable",
    "say",
    "shortened",
    "size",
    "without_secrets",
    "wrong_with_regex",
]

POSTGRES = ("postgresql", "postgres")
"""Schemes of URLs of PostgreSQL."""

FILES = ("sqlite", "duckdb")
"""Schemes of URLs that are paths."""

HOST = r"(\[[\w:.%]*\]|[^:@/,\[]*)(:\d*)?"
HOSTS = re.compile(rf"{HOST}(,{HOST})*(/|$)")
"""What a URL of PostgreSQL has before its database, if it is one: else it may be a password."""

SHORT = 28
"""Characters up to which a cell of a table stays on one line."""


def printable(text: str, most: int | None = None) -> str:
    """Return text that cannot control a terminal: control and format characters as escapes.

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


def shortened(text: str, most: int) -> str:
    """Return printable text that is cut after a word, with `…` for the rest.

    Args:
        text: Any text.
        most: Characters at most.
    """
    shown = printable(text[: most + 1])
    if len(shown) <= most:
        return shown
    cut = shown[: most - 1]
    word = cut.rfind(" ")
    return (cut[:word].rstrip(" ,;:(") if word > most // 2 else cut) + "…"


def first_line(text: str) -> str:
    """Return the first line of a text, such as what an error says before it explains itself."""
    return text.lstrip().partition("\n")[0].rstrip()


def wrong_with_regex(error: Exception) -> str:
    """Return what is wrong with a regex, of the error that Polars raises."""
    return first_line(str(error).rpartition("error: ")[2])


def say(*lines: str, err: bool = False) -> None:
    """Print lines that cannot control a terminal: this is how all text for people is printed.

    Args:
        lines: What to print, a line each; a line break inside of one is an escape.
        err: Whether they go to stderr.
    """
    print("\n".join(map(printable, lines)), file=sys.stderr if err else sys.stdout, flush=True)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 line`, `1,742 lines`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def hide_library_warnings() -> None:
    """Print warnings of a user's own code only, each on one line of stderr.

    Those of libraries, and of how etl calls them, are not printed; `python -W` or PYTHONWARNINGS
    show all, as ever.
    """
    if sys.warnoptions:
        return
    paths = sysconfig.get_paths()
    hidden = tuple(paths[name] for name in ("stdlib", "purelib", "platlib"))
    hidden += (str(Path(__file__).parent),)

    def show(message: Warning | str, category: type[Warning], filename: str, *more: Any) -> None:
        if not filename.startswith((*hidden, "<frozen")):
            say(f"{filename}:{more[0]}: {category.__name__}: {message}", err=True)

    warnings.showwarning = show  # type: ignore[assignment]


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


class Html(str):
    """Text that is HTML already: whoever makes one has escaped what is in it."""

    __slots__ = ()


def percent(part: float, whole: float = 1.0) -> str:
    """Return a share as whole percents: 0% only for none of it, 100% only for all."""
    share = part / whole if whole else 0.0
    if 0 < share < 0.005:
        return "<1%"
    return ">99%" if 0.995 <= share < 1 else f"{share:.0%}"


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    caption: str = "",
    css: str = "",
    formats: Mapping[str, str] | None = None,
    most: int = 160,
) -> str:
    """Return rows as an HTML table: text escaped, columns of numbers aligned to the right.

    Args:
        columns: Their titles.
        rows: Cells, in the order of the columns. None is an empty cell, a list has a
            line per item, `Html` is taken as it is; zeros are pale, what begins with ✗ is red.
        caption: Title of the table.
        css: Class of the table.
        formats: Format specs by column, such as `.1%`; by default `,` for whole numbers
            and `,.3g` for others.
        most: Characters at which a text is cut.
    """
    table = [list(row) for row in rows]
    values = list(zip(*table, strict=True)) or [()] * len(columns)
    there = [[value for value in column if value is not None] for column in values]
    aligns = ["right" if one and all(map(_is_number, one)) else "left" for one in there]
    specs = [(formats or {}).get(name, "") for name in columns]

    def line(tag: str, row: Sequence[object]) -> str:
        cells = zip(row, specs, aligns, strict=True)
        return f"<tr>{''.join(_cell(tag, *cell, most) for cell in cells)}</tr>"

    opening = f'<table class="{css}">' if css else "<table>"
    title = f"<caption>{escape(printable(caption))}</caption>" if caption else ""
    body = "".join(line("td", row) + "\n" for row in table)
    return f"{opening}{title}\n<thead>{line('th', columns)}</thead>\n<tbody>{body}</tbody></table>"


def html_card(title: str, figures: Mapping[str, str], *, note: str = "") -> str:
    """Return a title, some figures side by side and a note as HTML, all escaped.

    Args:
        title: What it is about.
        figures: Values by their captions.
        note: A sentence below them.
    """
    cells = "".join(
        '<div style="padding:0 2.2em 0 0"><div style="font-size:1.7em;'
        f'font-variant-numeric:tabular-nums">{escape(value)}</div>'
        f'<div style="opacity:.65">{escape(name)}</div></div>'
        for name, value in figures.items()
    )
    head = f'<div style="font-weight:600">{escape(printable(title))}</div>' if title else ""
    foot = f'<div style="opacity:.65">{escape(printable(note))}</div>' if note else ""
    row = f'<div style="display:flex;flex-wrap:wrap">{cells}</div>'
    return f'<div class="etl-card">{head}{row}{foot}</div>'


def cell_text(value: object, spec: str = "", most: int = 160) -> str:
    """Return a value as the text of a table's cell; see `html_table`."""
    if value is None:
        return ""
    if _is_number(value):
        return format(value, spec or ("," if isinstance(value, int) else ",.3g"))
    return shortened(str(value), most)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(tag: str, value: object, spec: str, align: str, most: int) -> str:
    texts = value if isinstance(value, list) else [value]
    html = "<br>".join(
        text if isinstance(text, Html) else escape(cell_text(text, spec, most)) for text in texts
    )
    style = f"text-align:{align}"
    style += ";white-space:nowrap" if len(html) <= SHORT else ""
    style += ";opacity:.4" if html == "0" else ""
    style += ";color:#b3261e;font-weight:600" if html.startswith("✗") else ""
    return f'<{tag} style="{style}">{html}</{tag}>'


def without_secrets(url: str) -> str:
    """Return a URL without the name, password and query in it; a path as it is."""
    parts = urlsplit(url)
    if "://" not in url or parts.scheme in FILES:
        return url
    if parts.scheme in POSTGRES:  # there a password may hold a `?` or, wrongly, a `/`
        rest = url.partition("://")[2]
        rest = rest[rest.partition("/")[0].rfind("@") + 1 :].partition("?")[0]
        shown = rest.rpartition("@")[2]
        return f"{parts.scheme}://{shown if HOSTS.match(shown) else '…'}"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
