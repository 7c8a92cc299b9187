"""Lines cut at the text between their fields: faster than the groups of a regex.

A `Cut` is a pattern of which each field ends where the text behind it first stands. A regex
without groups tells which lines fit, in one pass over their heads; to find the text between
the fields is enough then. What a cut reads is what its pattern reads. A cut takes fewer lines
than its pattern does: times of one layout and width only, those that most lines of a sample
have. The pattern takes the others.
"""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile

import polars as pl

from etl.formats.catalogue import TIME
from etl.formats.columns import group_names, safe, ungrouped
from etl.formats.stamps import ZONE_NAMES

__all__ = ["Cut", "Cutter"]

FEW = 1 / 4  # of a sample: a cut that fits fewer lines costs more than it saves
_HMS = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_BSD = f"[A-Z][a-z]{{2}} [ 0-9][0-9] {_HMS}"
_DATE = (
    "(?:[0-9]{1,4}[-/.][0-9]{1,2}(?:[-/.][0-9]{1,4})?(?:[ T]|, ?)|[0-9]{8}[ T-]"
    "|[0-9]{1,2}[ /-][A-Z][a-z]{2}[ /-][0-9]{2,4}[ :])"
)
# The times that `TIME` reads in one way, by what may be a part of them behind what they are:
_OPEN = rf"{_DATE}{_HMS}(?:[.,][0-9]+)?(?: ?[AP]M)?"  # much, see `_GOES_ON`
_CLOSED = (  # digits at most
    rf"{_OPEN}(?:Z| ?[+-][0-9]{{2}}:?[0-9]{{2}}| (?:{ZONE_NAMES}))|{_BSD}|[0-9]{{6}} [0-9]{{6}}"
    rf"|[A-Z][a-z]{{2}} {_BSD}(?:\.[0-9]+)? [0-9]{{4}}"
)
_WORD = rf"[0-9]{{10,19}}(?:\.[0-9]+)?|{_HMS}(?:[.,][0-9]+)?"  # all but blanks
_GOES_ON = f"(?:[0-9.,:]| ?[AP]M| ?[+-][0-9:]|Z| (?:{ZONE_NAMES}))"
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]")


@dataclass(frozen=True)
class Cutter:
    """Reads the lines of one layout whose times look alike.

    Attributes:
        head: Regex of what is before the last field.
        longer: Regex of heads with a time that is longer than it looks, if there may be such.
        between: Text before each field, and behind the last one.
        names: The fields.
        widths: Of fields that have one.
    """

    head: str
    longer: str | None
    between: tuple[str, ...]
    names: tuple[str, ...]
    widths: dict[str, int]

    def fits(self, lines: pl.Series) -> pl.Series:
        """Return whether each line has a head that can be cut."""
        fits = lines.str.contains(self.head)
        if self.longer:
            fits &= ~lines.str.contains(self.longer)
        return fits.fill_null(value=False)

    def __call__(self, lines: pl.Series) -> pl.DataFrame:
        """Return `_fits` and a column for each field, as `columns.extract` does."""
        fits = self.fits(lines)
        columns: list[pl.Series] = []
        rest = _behind(lines.set(~fits, None), 0, self.between[0])
        while len(columns) < len(self.names) - 1:
            found, rest = self._next(rest, len(columns))
            columns += found
        columns.append(rest)
        if after := self.between[-1]:
            fits &= rest.str.ends_with(after).fill_null(value=False)
            columns[-1] = rest.str.strip_suffix(after)
            columns = [column.set(~fits, None) for column in columns]
        named = zip(columns, self.names, strict=True)
        return pl.DataFrame([fits.alias("_fits"), *(c.alias(safe(name)) for c, name in named)])

    def _next(self, rest: pl.Series, at: int) -> tuple[list[pl.Series], pl.Series]:
        """Cut the next field, or several that a blank ends; return it and what is behind."""
        last = len(self.names) - 1
        ends = zip(self.between[at + 1 :], self.names[at:last], strict=False)
        words = sum(
            1 for _ in takewhile(lambda end: end[0] == " " and end[1] not in self.widths, ends)
        )
        if words > 1:
            *found, behind = rest.str.splitn(" ", words + 1).struct.unnest()
            if not any((word == "").any() for word in found):  # a blank behind a blank
                return found, behind if at + words == last else _unpadded(behind)
        before = self.between[at + 1]
        end = self.widths.get(self.names[at]) or rest.str.find(before[0], literal=True)
        return [_slice(rest, 0, end)], _behind(rest, end, before, padded=at + 1 < last)


@dataclass(frozen=True)
class Cut:
    """A pattern that can be cut.

    Attributes:
        pattern: Regex with named groups. No group may hold the first character of the text
            behind it, but for times and the last group, which is all that is left.
        between: Text before each group, and behind the last one; blanks stand for any number
            of blanks, except before the last group and behind it.
    """

    pattern: str
    between: tuple[str, ...]

    def cutter(self, few: pl.Series) -> Cutter | None:
        """Return what reads lines such as a few that are given, or None if nothing does."""
        names = group_names(self.pattern)
        head = self.pattern.rpartition(f"(?P<{names[-1]}>")[0]
        widths = {}
        longer = None
        for name, after in zip(names[:-1], self.between[1:], strict=False):
            if name not in ("timestamp", "datetime"):
                continue
            start, body, end = _parts_of(head, name)
            time = _common(few.str.extract(f"{ungrouped(start)}({body}){ungrouped(end)}"))
            if not time or not _ends(time, after):
                return None
            if (
                body == TIME
                and re.fullmatch(_OPEN, time)
                and re.match(r"[.,:]| +([\w+-]|$)", after)
            ):
                goes_on = pl.escape_regex(after[0]) if after[0] != " " else ""
                longer = ungrouped(start) + _like(time) + goes_on + _GOES_ON
            head = start + _like(time) + end
            widths[name] = len(time)
        found = Cutter(ungrouped(head), longer, self.between, names, widths)
        return found if found.fits(few).sum() > FEW * len(few) else None


def _common(times: pl.Series) -> str | None:
    """Return one of the times that are written as most are."""
    shapes = {_like(time): time for time in times.drop_nulls()}
    counts = Counter(map(_like, times.drop_nulls()))
    return shapes[counts.most_common(1)[0][0]] if counts else None


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


def _parts_of(pattern: str, name: str) -> tuple[str, str, str]:
    """Return what is before a named group, in it and behind it."""
    start, _, rest = pattern.partition(f"(?P<{name}>")
    depth = 1
    for token in _TOKEN.finditer(rest):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if not depth:
            return start, rest[: token.start()], rest[token.end() :]
    raise ValueError(pattern)


def _behind(
    text: pl.Series, start: int | pl.Series, before: str, *, padded: bool = True
) -> pl.Series:
    """Return what is behind a text that begins at a byte; padded, its blanks may be more."""
    for token in re.findall(" +|[^ ]+", before) if padded else [before]:
        blank = padded and token[0] == " "
        text = _slice(text, start + (1 if blank else len(token.encode())))
        text = _unpadded(text) if blank else text
        start = 0
    return text


def _unpadded(text: pl.Series) -> pl.Series:
    return text.str.strip_chars_start(" ") if text.str.starts_with(" ").any() else text


def _slice(
    text: pl.Series, start: int | pl.Series, size: int | pl.Series | None = None
) -> pl.Series:
    """Slice at bytes, which `str.find` counts; no character is cut where it found one."""
    return text.cast(pl.Binary).bin.slice(start, size).cast(pl.String)  # type: ignore[arg-type]
