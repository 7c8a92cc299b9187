"""The usual lines of a template, read faster than by the regex that reads all of its lines.

A time, which the regex tries in many layouts, is looked for in the one that most lines of a
sample have. The text behind the last field is looked for at the end of a line only. What is
read so is what the regex reads; the regex has the lines that are not so simple.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from etl.formats.catalogue import TIME
from etl.formats.columns import ungrouped
from etl.formats.extract import extract
from etl.formats.stamps import ZONE_NAMES

__all__ = ["Split"]

SAMPLE = 8  # lines whose time is looked at
FEW = 1 / 4  # of a sample: to read fewer lines apart costs more than it saves
_HMS = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_BSD = f"[A-Z][a-z]{{2}} [ 0-9][0-9] {_HMS}"
_DATE = (
    "(?:[0-9]{1,4}[-/.][0-9]{1,2}(?:[-/.][0-9]{1,4})?(?:[ T]|, ?)|[0-9]{8}[ T-]"
    "|[0-9]{1,2}[ /-][A-Z][a-z]{2}[ /-][0-9]{2,4}[ :])"
)
# The times that `TIME` reads in one way, by what behind them would be a part of them:
_OPEN = rf"{_DATE}{_HMS}(?:[.,][0-9]+)?(?: ?[AP]M)?"  # much, see `_GOES_ON`
_CLOSED = (  # digits at most
    rf"{_OPEN}(?:Z| ?[+-][0-9]{{2}}:?[0-9]{{2}}| (?:{ZONE_NAMES}))|{_BSD}|[0-9]{{6}} [0-9]{{6}}"
    rf"|[A-Z][a-z]{{2}} {_BSD}(?:\.[0-9]+)? [0-9]{{4}}"
)
_WORD = rf"[0-9]{{10,19}}(?:\.[0-9]+)?|{_HMS}(?:[.,][0-9]+)?"  # all but blanks
_GOES_ON = f"(?:[0-9.,:]| ?[AP]M| ?[+-][0-9:]|Z| (?:{ZONE_NAMES}))"


@dataclass(frozen=True)
class Split:
    """How to read the usual lines of a template.

    Attributes:
        pattern: Regex with named groups, the last of which takes the rest of a line.
        times: Fields that are a time, and the text behind each.
        after: Text behind the last field.
    """

    pattern: str
    times: tuple[tuple[str, str], ...]
    after: str

    def reader(self, few: pl.Series) -> Callable[..., pl.DataFrame] | None:
        """Return what reads lines such as a few that are given, called as `extract` is.

        None if none is faster.
        """
        pattern = self.pattern
        longer: list[tuple[int, str]] = []
        for name, after in self.times:
            start, end = pattern.split(f"(?P<{name}>{TIME})")
            some = few.gather_every(-(-len(few) // SAMPLE) or 1)
            time = _common(some.str.extract(f"{ungrouped(start)}({TIME}){ungrouped(end)}"))
            if not time or not _ends(time, after):
                return None  # what `TIME` takes depends on what is behind it
            pattern = f"{start}(?P<{name}>{_like(time)}){end}"
            if re.fullmatch(_OPEN, time) and re.match(r"[.,:]| +([\w+-]|$)", after):
                mark = "" if after[0] == " " else pl.escape_regex(after[0])
                if start == "^":  # most times: what is behind it is soon looked at
                    longer.append((len(time), f"^{mark}{_GOES_ON}"))
                else:
                    longer.append((0, ungrouped(start) + _like(time) + mark + _GOES_ON))
        if not self.after and pattern == self.pattern:
            return None
        read = partial(_read, pattern=pattern, longer=longer, after=self.after)
        return read if read(few)["_fits"].sum() > FEW * len(few) else None


def _read(
    lines: pl.Series,
    pattern: str,
    longer: Sequence[tuple[int, str]],
    after: str,
    *,
    one_line: bool = False,
) -> pl.DataFrame:
    """Read lines by a pattern, but for those with a longer time, or without what ends a line.

    `longer` has regexes of a longer time, and the character from where each is looked for.
    """
    for at, regex in longer:
        behind = lines.str.slice(at) if at else lines
        lines = lines.set(behind.str.contains(regex).fill_null(value=False), None)
    got = extract(lines, pattern, one_line=one_line)
    if not after:
        return got
    last = got.to_series(-1)
    fits = last.str.ends_with(after).fill_null(value=False)
    got = got.with_columns(fits.alias("_fits"), last.str.strip_suffix(after))
    return got if fits.all() else got.select("_fits", pl.when("_fits").then(pl.exclude("_fits")))


def _common(times: pl.Series) -> str | None:
    """Return one of the times that are written as most are."""
    times = times.drop_nulls()
    counts = Counter(map(_like, times))
    return max(times, key=lambda time: counts[_like(time)]) if len(times) else None


def _ends(time: str, after: str) -> bool:
    """Return whether it is known where such a time ends that has this text behind it."""
    if re.fullmatch(_OPEN, time):
        return not re.match("[0-9A-Za-z+-]", after)
    if re.fullmatch(_CLOSED, time):
        return not re.match("[0-9A-Za-z:]", after)
    return bool(re.fullmatch(_WORD, time)) and after[0].isspace()


def _like(time: str) -> str:
    """Return the regex of times that are written as this one is, as many characters long."""
    tokens = re.findall("[A-Z][a-z]{2} [ 0-9][0-9] |[A-Z][a-z]{2}|(?s:.)", time)
    return "".join(map(_like_token, tokens))


def _like_token(token: str) -> str:
    if token.isdigit():
        return "[0-9]"
    if len(token) == 1:
        return pl.escape_regex(token)
    return "[A-Z][a-z]{2}" + (" [ 0-9][0-9] " if len(token) > 3 else "")
