"""A format: what a line must look like, and which columns it gives."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import polars as pl

from etl.errors import FormatError
from etl.formats.about import ABOUT, format_hint
from etl.formats.blocks import is_block, read_blocks
from etl.formats.catalogue import ANOTHERS, DOUBTFUL, PATTERNS, REFUSED
from etl.formats.columns import MARKS, Reader, cascade, group_names, safe, sample
from etl.formats.envelopes import DOCKER, peel, read_docker
from etl.formats.extract import extract
from etl.formats.generic import read_generic
from etl.formats.heads import (
    TABLES,
    is_postgres_csv,
    read_cef,
    read_headed,
    read_leef,
    read_postgres_csv,
)
from etl.formats.keyed import is_json, is_logfmt, read_json, read_logfmt
from etl.formats.layouts import compile_spec, split_of
from etl.formats.otlp import is_otlp, read_otlp
from etl.formats.splits import Split

__all__ = ["FORMATS", "NAME", "SPEC", "Format", "detect", "get_format", "read_lines", "written_by"]

NAME = "[a-z][a-z0-9_]*"

SPEC = re.compile(rf"(?:({NAME})=)?((?:template|regex):(?s:.*))")
"""A layout in words of a user: `template:…` or `regex:…`, perhaps with a name and `=` before it."""

FEW = 24  # lines that formats are tried on first
LONG = 1000  # characters of a line that Rust's regexes look at, also in a sample
MANY = 200  # lines, of fewer a split costs more than it saves
ROUNDS = 6  # of trying formats on what is left
DEPTH = 3  # of envelopes in envelopes


@dataclass(frozen=True)
class Format:
    """One layout of log lines.

    Attributes:
        name: The text in the column `format`: `python`, `shop`, `template:{date} …`, `regex:…`.
        patterns: Rust regexes with named groups, one for each variant of the format. No
            line may fit two of them in different ways: their order is not kept.
        reader: For lines that tell their columns: lines -> frame of `_fits` and raw columns.
        fits: For a format with a reader: whether one line fits, to look at a sample.
        typed: Whether `-` means null and `status` a number; not so in templates and regexes.
        refused: A regex of lines that do not fit, whatever the patterns say.
        split: A quicker way to read most lines that fit the patterns, with the same result.
        anothers: A regex of lines that a sample gives to another format.
    """

    name: str
    patterns: tuple[str, ...] = ()
    reader: Reader | None = None
    fits: Callable[[str], object] | None = None
    typed: bool = True
    refused: str | None = None
    split: Split | None = None
    anothers: str | None = None

    @property
    def groups(self) -> list[str]:
        """Names of the raw columns; empty for a format with a reader, where the lines tell."""
        return list(dict.fromkeys(safe(g) for p in self.patterns for g in group_names(p)))

    def read(
        self, lines: pl.Series, header: str | None = None, *, one_line: bool = False
    ) -> pl.DataFrame:
        """Return `_fits` (Boolean), `format` and the raw columns, a row for each line.

        Args:
            lines: The lines.
            header: The head of a table that begins above them, if there is one.
            one_line: Whether it is known that no line has a line break in it.
        """
        if self.reader is _headed:
            got = _headed(lines, header)
        elif self.reader:
            got = self.reader(lines)
        else:
            got = self._by_patterns(lines, one_line=one_line)
        if "format" in got.columns:
            return got.select(*MARKS, pl.exclude(MARKS))
        fits, found = got["_fits"], {column.name: column for column in got.get_columns()}
        name = pl.Series("format", [self.name]).new_from_index(0, len(lines))
        if not fits.all(ignore_nulls=False):
            name = name.set(~fits.fill_null(value=False), None)
        absent = pl.Series([None], dtype=pl.String).new_from_index(0, len(lines))
        raw = [found[g] if g in found else absent.alias(g) for g in self.groups or got.columns[1:]]
        return pl.DataFrame([fits, name, *raw])

    def _by_patterns(self, lines: pl.Series, *, one_line: bool = False) -> pl.DataFrame:
        few = lines.gather_every(max(1, len(lines) // 32))
        patterns = [*self.patterns]
        if len(patterns) > 1:
            fit = pl.select(pl.lit(few).str.contains(p).sum().alias(p) for p in patterns)
            patterns.sort(key=lambda p: -fit[p][0])
        asked = lines
        if self.refused:
            asked = lines.set(lines.str.contains(self.refused).fill_null(value=False), None)
        quick = self.split.reader(few) if self.split and len(lines) > MANY else None
        readers: list[Callable[..., pl.DataFrame]] = [quick] if quick else []
        readers += [partial(extract, pattern=pattern) for pattern in patterns]
        return cascade(asked, [partial(read, one_line=one_line) for read in readers])

    def accepts(self, line: str) -> bool:
        """Return whether one line fits; `score` and detection look at a sample so."""
        if self.fits:
            return bool(self.fits(line))
        if not self.typed:  # a user's own pattern may be Rust's and not Python's
            return bool(self.read(pl.Series([line]))["_fits"][0])
        if len(line) > LONG:  # Python's regexes may take long where Rust's do not
            text = pl.Series([line])
            if self.refused and text.str.contains(self.refused)[0]:
                return False
            return any(text.str.contains(pattern)[0] for pattern in self.patterns)
        if any(_compiled(no).search(line) for no in (self.refused, self.anothers) if no):
            return False
        return any(_compiled(pattern).search(line) for pattern in self.patterns)

    def score(self, lines: pl.Series) -> int:
        """Count the lines that fit."""
        if not self.typed:
            return int(self.read(lines)["_fits"].sum())
        return sum(map(self.accepts, lines.drop_nulls()))


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _headed(lines: pl.Series, header: str | None = None) -> pl.DataFrame:
    return cascade(lines, read_headed(lines, header))


FORMATS: Mapping[str, Format] = {
    "docker": Format("docker", reader=read_docker, fits=_compiled(DOCKER).search),
    "otlp": Format("otlp", reader=read_otlp, fits=is_otlp),
    "json": Format("json", reader=read_json, fits=is_json),
    **{
        name: Format(
            name,
            (p,) if isinstance(p, str) else p,
            refused=REFUSED.get(name),
            anothers=ANOTHERS.get(name),
        )
        for name, p in PATTERNS.items()
    },
    "cef": Format("cef", reader=read_cef, fits=_compiled(r"^CEF: ?[0-9.]+\|(?:[^|]*\|){6}").search),
    "leef": Format(
        "leef", reader=read_leef, fits=_compiled(r"^LEEF: ?[0-9.]+\|(?:[^|]*\|){4}").search
    ),
    "postgres_csv": Format("postgres_csv", reader=read_postgres_csv, fits=is_postgres_csv),
    "block": Format("block", reader=read_blocks, fits=is_block),
    "logfmt": Format("logfmt", reader=read_logfmt, fits=is_logfmt),
    # those below need the head of their file, and take every line below it
    **{name: Format(name, reader=_headed, fits=lambda _: False) for name in TABLES},
    "generic": Format("generic", reader=read_generic, fits=lambda _: False),
}


def get_format(spec: str) -> Format:
    """Return a named format, or make one of `template:…`, `regex:…` or `shop=template:…`.

    Raises:
        FormatError: If there is no such format, or the template or regex cannot be used.
    """
    if own := SPEC.fullmatch(spec):
        name, layout = own[1] or spec, own[2]
        return Format(name, compile_spec(layout), typed=False, split=split_of(layout))
    if spec in FORMATS:
        return FORMATS[spec]
    raise FormatError(f"unknown format {spec!r}{format_hint(spec, ABOUT)}")


def written_by(name: str) -> Format:
    """Return the format that the column `format` names.

    A name that is not one of ours is that of a user's own format: its columns are raw text.

    Raises:
        FormatError: If it is not a name, or the template or regex cannot be used.
    """
    known = name in FORMATS or not re.fullmatch(NAME, name)
    return get_format(name) if known else Format(name, typed=False)


def detect(lines: pl.Series) -> Format | None:
    """Return the format that most lines fit, or None if less than half of them do.

    Looks at up to 200 lines that are not blank. Of formats that fit equally well the earlier
    in `FORMATS` wins: the ones that ask more of a line come first. Apache's and nginx's
    access logs look the same; they are called nginx_access.
    """
    some = sample(lines)
    score, best = max(((f.score(some), f) for f in FORMATS.values()), key=lambda pair: pair[0])
    return best if score and 2 * score >= len(some) else None


def read_lines(
    lines: pl.Series, header: str | None = None, *, one_line: bool = False
) -> pl.DataFrame:
    """Return `_fits`, `format` and raw columns: what each line is, envelopes peeled.

    Formats that a few lines fit are tried first, then those that fit a few of what is left,
    and so on; the generic reader has the rest. The arguments are those of `Format.read`.
    """
    return _peeled(lines, header=header, one_line=one_line)


def _peeled(
    lines: pl.Series,
    *,
    generic: bool = True,
    header: str | None = None,
    one_line: bool = False,
    depth: int = 0,
) -> pl.DataFrame:
    if not len(lines):
        return FORMATS["generic"].read(lines)
    headed = [] if depth else read_headed(lines, header)
    got = cascade(lines, headed, more=partial(_readers, generic=generic, one_line=one_line))
    if "format" not in got.columns:
        return got.with_columns(pl.lit("generic").alias("format"))
    if depth >= DEPTH:
        return got
    return peel(got, partial(_peeled, depth=depth + 1))


def _readers(left: pl.Series, done: int, *, generic: bool, one_line: bool) -> list[Reader]:
    if done > ROUNDS:
        return []
    some = sample(left)
    some = some.gather_every(-(-len(some) // FEW) or 1)
    long = some.str.len_chars() > LONG
    fitting: dict[str, Format] = {}
    for line in [*some.filter(~long), *some.filter(long).head(3)]:
        if not any(form.accepts(line) for form in fitting.values()):
            first = next((form for form in FORMATS.values() if form.accepts(line)), None)
            fitting |= {first.name: first} if first else {}
    if not fitting or done == ROUNDS:
        return [FORMATS["generic"].read] if generic else []
    if "json" in fitting:  # which takes their lines, too
        fitting |= {name: FORMATS[name] for name in ("docker", "otlp")}
    if "python" in fitting and len(fitting) > 1:  # and supervisor's
        fitting["supervisor"] = FORMATS["supervisor"]
    forms = [form for form in FORMATS.values() if form.name in fitting]
    return [_reader(form, some, one_line=one_line) for form in forms]


def _reader(form: Format, some: pl.Series, *, one_line: bool) -> Reader:
    """Return what reads a format's lines; without those that a sample shows to be prose."""
    read = partial(form.read, one_line=one_line)
    if form.name not in DOUBTFUL:
        return read
    doubtful, alike = DOUBTFUL[form.name]
    hosts = some.str.extract(doubtful).drop_nulls()
    peers = some.filter(some.str.contains(alike))
    fit = sum(map(form.accepts, peers))
    if not len(hosts) or (2 * fit >= len(peers) and not (2 < len(hosts) < 2 * hosts.n_unique())):
        return read
    return lambda lines: read(lines.set(lines.str.contains(doubtful), None))
