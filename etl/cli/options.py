"""The options and arguments that several commands have, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from etl.errors import UsageError
from etl.records.context import Unmatched

Sources = Annotated[
    list[str], Argument(help="Files, archives, glob patterns, folders, or - for stdin.")
]
Format = Annotated[str | None, Option(help="Format of the lines. Default: detected.")]
Template = Annotated[str | None, Option(help='Layout of a line: "{date} {level}: {message}".')]
Regex = Annotated[str | None, Option(help="Layout of a line: a regex with named groups.")]
Multiline = Annotated[
    str, Option(metavar="auto|off|REGEX", help="Which lines belong together: a regex of the first.")
]
Timezone = Annotated[str, Option(help="Zone of times that have none: Europe/Berlin.")]
Year = Annotated[int | None, Option(help="Year of the first time that has none.")]
KeepLine = Annotated[bool, Option("--keep-line", help="Also write the text of each record.")]
IfUnmatched = Annotated[Unmatched, Option(help="What to do with lines of no known format.")]
Reread = Annotated[bool, Option(help="Read files again that were read before.")]
Store = Annotated[
    str | None,
    Option(envvar="ETL_STORE", help="URL or path of the store. Default: that of the newest run."),
]
NamedStore = Annotated[str | None, Option(envvar="ETL_STORE", help="URL or path of the store.")]
Pipeline = Annotated[str, Option(help="Pipeline, as module:attribute or path.py:attribute.")]
Out = Annotated[Path | None, Option(help="Folder for output. Default: `out` beside the store.")]
Workers = Annotated[int, Option(min=1, help="Number of worker processes.")]
RunWorkers = Annotated[
    int | None,
    Option(min=1, help="Worker processes. Default: one per core, or threads of this one."),
]
LogFormat = Annotated[str | None, Option(help="Write a log to stderr, as human or json.")]
Port = Annotated[int, Option(min=0, max=65535, help="Port to listen on; 0 for a free one.")]
Json = Annotated[bool, Option("--json", help="Print one JSON object.")]


def format_spec(format: str | None, template: str | None, regex: str | None) -> str | None:
    """Return the spec of the format that the three options ask for, or None to detect it.

    Raises:
        UsageError: If more than one is given, or the format is not known.
    """
    given = {"": format, "template:": template, "regex:": regex}
    specs = [prefix + text for prefix, text in given.items() if text]
    if len(specs) > 1:
        raise UsageError("--format, --template and --regex exclude each other; give one of them")
    if not specs or specs == ["auto"]:
        return None
    from etl.formats import resolve_format

    return resolve_format(specs[0])
