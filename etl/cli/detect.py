"""`etl detect` and `etl formats`: what a log is, before it is read; the formats there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

from etl.cli import options as opt
from etl.cli.commands import quoted
from etl.errors import SourceError
from etl.text import say

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from etl.formats import Description
    from etl.sources.resolve import Source

Files = Annotated[list[str], Argument(help="Files, glob patterns, or - for stdin.")]

MOST = 8
"""Candidates and names of columns that are shown."""

STDIN = "stdin"


def detect(
    files: Files,
    format: opt.Format = None,
    template: opt.Template = None,
    regex: opt.Regex = None,
    as_json: opt.Json = False,
) -> None:
    """Show what the beginning of a file is: format, records, layout and the first rows.

    With --format, --template or --regex: how many records fit it, and the first that do not.
    """
    from rich.console import Console

    from etl.cli.tables import print_json
    from etl.formats import describe
    from etl.sources.sample import first_lines

    spec = opt.format_spec(format, template, regex)
    found: list[dict[str, Any]] = []
    for number, source in enumerate(_sources(files)):
        lines, modified = first_lines(source)
        one = describe(lines, spec, modified=modified)
        command = _next(source.name, one, _options(format, template, regex))
        if as_json:
            found.append({"file": source.name, **_fields(one), "next": command})
        else:
            if number:
                say("")
            _show(Console(), source.name, one, named=spec, command=command)
    if as_json:
        print_json({"files": found})


def formats(as_json: opt.Json = False) -> None:
    """List the log formats that etl knows, and those of your own in etl-formats.toml."""
    from etl.cli.tables import FORMATS, show_rows
    from etl.formats import user_formats
    from etl.formats.about import ABOUT

    rows: list[dict[str, str | None]] = [
        {"format": one.name, "about": one.about, "file": one.file, "spec": one.spec}
        for one in user_formats().values()
    ]
    rows += [
        {"format": name, "about": about, "file": None, "spec": name}
        for name, about in ABOUT.items()
    ]
    show_rows("formats", rows, FORMATS, as_json=as_json)


def _sources(files: list[str]) -> Iterator[Source]:
    """Yield what is named.

    Raises:
        SourceError: If one is not there, or is a folder; before the first is yielded.
    """
    from etl.sources.resolve import resolve_sources

    for name in files:
        if Path(name).is_dir():
            raise SourceError(f"{name!r} is a folder; name files in it: {name.rstrip('/')}/*.log")
    yield from resolve_sources(files)


def _options(format: str | None, template: str | None, regex: str | None) -> str:
    """Return the options that name a format, as a shell takes them."""
    given = (("format", format), ("template", template), ("regex", regex))
    return "".join(f" --{name} {quoted(text)}" for name, text in given if text)


def _next(name: str, found: Description, options: str) -> str:
    """Return the command that comes next: a run, or a look without a layout that nothing fits.

    A layout that was found for records of no known format is part of it if all of them fit: with
    it, those that do not become dead letters.
    """
    file = "-" if name == STDIN else quoted(name)
    fits_all = found.template_share == found.generic == 1
    if not options and fits_all and found.template and found.template.count("{") > 1:
        options = _options(None, found.template.removeprefix("template:"), None)
    return f"etl run {file}{options}" if found.fits else f"etl detect {file}"


def _fields(found: Description) -> dict[str, Any]:
    """Return a description as JSON has it: times as ISO 8601."""
    return {
        "records": found.records,
        "several_lines": found.several,
        "begins": found.begins,
        "start": found.start,
        "header": found.header,
        "candidates": [{"format": n, "share": share} for n, share in found.candidates],
        "formats": [{"format": n, "share": share} for n, share in found.formats],
        "fits": found.fits,
        "generic": found.generic,
        "without_time": found.timeless,
        "empty": found.empty,
        "template": found.template and found.template.removeprefix("template:"),
        "template_share": found.template_share,
        "rows": [_json(row) for row in found.rows.drop("_fits").to_dicts()],
        "unfit": found.unfit.to_dicts(),
    }


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime | date | time) else value
        for name, value in row.items()
    }


def _show(
    console: Console, name: str, found: Description, *, named: str | None, command: str
) -> None:
    """Print a description."""
    from rich.text import Text

    from etl.cli.tables import CANDIDATES, UNFIT, row_columns, table
    from etl.text import percent, printable

    def show(text: str, style: str = "") -> None:
        console.print(Text(printable(text), style), soft_wrap=True)

    if not found.records:
        show(f"{name}: no lines")
        return
    show(_headline(name, found, named), "bold")
    several = f"{found.several:,} of {found.records:,}" if found.several else "none"
    show(f"a record begins at {found.begins}; {several} have several lines")
    if named is None and (rows := _candidates(found)):
        console.print(table(rows[:MOST], CANDIDATES))
    if found.template:
        text = quoted(found.template.removeprefix("template:"))
        share = percent(found.template_share)
        show(f"layout of the generic records ({share} fit): --template {text}")
    if rows := found.rows.to_dicts():
        console.print(table(rows, row_columns(rows)))
    if more := _others(found.rows):
        show(f"more columns: {more}")
    if found.unfit.height:
        show("the first that do not fit:")
        console.print(table(found.unfit.to_dicts(), UNFIT))
    show(f"next: {command}", "dim")


def _others(rows: pl.DataFrame) -> str:
    """Return the names of the columns that a table of rows does not show and some have."""
    after = rows.columns[rows.columns.index("message") + 1 :]
    names = ["pid", *after]
    names = [name for name in names if rows[name].null_count() < rows.height]
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _headline(name: str, found: Description, named: str | None) -> str:
    from etl.text import counted, percent

    records = counted(found.records, "record")
    without = f"{percent(found.timeless)} without a time"
    if named is not None:
        from etl.formats import get_format

        fit = round(found.fits * found.records)
        return f"{name}: {fit:,} of {records} fit {get_format(named).name}, {without}"
    best, share = found.formats[0]
    generic = "" if best == "generic" else f"{percent(found.generic)} generic, "
    return f"{name}: format {best} ({percent(share)} of {records}), {generic}{without}"


def _candidates(found: Description) -> list[dict[str, Any]]:
    """Return the formats that some records fit, or were read by, the best first."""
    fit, read = dict(found.candidates), dict(found.formats)
    return [
        {"format": name, "fit": fit.get(name), "read": read.get(name, 0.0)}
        for name in dict.fromkeys([*read, *fit])
    ]
