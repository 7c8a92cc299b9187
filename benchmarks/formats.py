"""Formats: how fast each is parsed and normalised, and what the ways to read lines cost.

    python formats.py [--lines N] [--rounds N] [--only FORMAT]

The lines are those of `data/`, again and again. Times are CPU seconds on one thread, medians
of interleaved rounds; ratios are medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median

os.environ["POLARS_MAX_THREADS"] = "1"  # is read when polars is imported

import polars as pl

from etl.formats import (
    Format,
    detect,
    get_format,
    join_records,
    normalise,
    parse,
    record_start,
)

DATA = Path(__file__).resolve().parent.parent / "data"
FILES = {
    "python": "python_app.log",
    "log4j": "java_app.log",
    "syslog3164": "syslog.log",
    "syslog5424": "syslog5424.log",
    "nginx_access": "nginx_access.log",
    "apache_access": "apache_access.log",
    "apache_error": "apache_error.log",
    "nginx_error": "nginx_error.log",
    "postgres": "postgresql.log",
    "redis": "redis.log",
    "dpkg": "dpkg.log",
    "json": "service.jsonl",
    "logfmt": "service.logfmt",
    "generic": "python_app.log",
}
TEMPLATES = {
    "{timestamp} {level} {logger}: {message}": "python",
    "{date} {time} {level} {logger}: {message}": "python",
    "{timestamp} {level} [{thread}] {logger} - {message}": "log4j",
    "{timestamp} {host} {app}: {message}": "syslog3164",
    "{timestamp} [{level}] {pid}#{tid}: {message}": "nginx_error",
    '{client} {ident} {user} [{timestamp}] "{request}" {status} {bytes} "{referer}" "{agent}"': (
        "nginx_access"
    ),
}
MEGA = 1_000_000

Work = Callable[[], object]


def frame_of(name: str, count: int) -> pl.DataFrame:
    """Return lines of a format that are not blank, and no lines that go on."""
    text = (DATA / FILES[name]).read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.split("\n") if line.strip()]
    form = get_format(name)
    lines = [line for line, fits in zip(lines, form.read(pl.Series(lines))["_fits"], strict=True)
             if fits]  # fmt: skip
    return pl.DataFrame({"line": list(islice(cycle(lines), count))})


def seconds(works: list[Work], rounds: int) -> list[tuple[float, ...]]:
    """Return the CPU seconds of each piece of work in each round."""
    for work in works:
        work()
    return [tuple(map(once, works)) for _ in range(rounds)]


def once(work: Work) -> float:
    """Return the CPU seconds of a piece of work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def by_format(given: argparse.Namespace) -> Iterator[str]:
    """Yield a row for each format: M lines a second, and what comes before they are parsed.

    That is, joining the lines of records, where there is nothing to join, as part of parsing and
    normalising; and, once for each file, to find what a record starts with and the format.
    """
    heads = [("parse", 8), ("normalise", 11), ("both", 8), ("joining", 9), ("start ms", 10)]
    yield f"{'M lines/s':16}" + "".join(f"{h:>{w}}" for h, w in [*heads, ("detect ms", 11)])
    for name in given.only or FILES:
        frame = frame_of(name, given.lines)
        parsed = parse(frame, name)
        start = record_start(frame["line"])
        works: list[Work] = [
            lambda frame=frame, name=name: parse(frame, name),
            lambda parsed=parsed: normalise(parsed),
            lambda frame=frame, start=start: join_records(frame, start),
            lambda frame=frame: record_start(frame["line"].head(1000)),
            lambda frame=frame: detect(frame["line"].head(1000)),
        ]
        found = seconds(works, given.rounds)
        parsing, normal, _, starting, detecting = map(median, zip(*found, strict=True))
        joining = median(join / (parsing + normal) for parsing, normal, join, *_ in found)
        size = given.lines / MEGA
        yield (
            f"{name:16}{size / parsing:8.2f}{size / normal:11.2f}{size / (parsing + normal):8.2f}"
            f"{joining:9.1%}{starting * 1000:10.1f}{detecting * 1000:11.1f}"
        )


def ratios(given: argparse.Namespace) -> Iterator[str]:
    """Yield how fast templates are against their regexes, and generic against templates."""
    yield ""
    yield f"{'template, its regex = 1':92}{'read':>6}{'whole':>7}"
    for template, name in TEMPLATES.items():
        frame = frame_of(name, given.lines)
        form = get_format(f"template:{template}")
        regex = get_format(f"regex:{form.patterns[0]}")
        works = [lambda form=one, frame=frame: form.read(frame["line"]) for one in (regex, form)]
        read = ratio(seconds(works, given.rounds))
        works = [lambda form=one, frame=frame: whole(frame, form) for one in (regex, form)]
        yield f"{template:92}{read:6.2f}{ratio(seconds(works, given.rounds)):7.2f}"
    template, name = next(iter(TEMPLATES.items()))
    frame = frame_of(name, given.lines)
    works = [
        lambda form=one: whole(frame, form)
        for one in (get_format(f"template:{template}"), get_format("generic"))
    ]
    yield f"{f'generic, {template} = 1':92}{'':6}{ratio(seconds(works, given.rounds)):7.2f}"


def whole(frame: pl.DataFrame, form: Format) -> pl.DataFrame:
    """Parse and normalise by a format."""
    return normalise(parse(frame, form.name))


def ratio(found: list[tuple[float, ...]]) -> float:
    """Return how many times as fast the second work is as the first."""
    return median(first / second for first, second in found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", default=[], choices=[*FILES], help="a format")
    given = parser.parse_args()
    for rows in (by_format(given), ratios(given)):
        print(*rows, sep="\n", flush=True)


if __name__ == "__main__":
    main()
