"""Lines of a template that are split, or have the usual time: the same as by the regex."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from etl.errors import FormatError
from etl.formats import Format, get_format
from etl.formats.extract import extract

SEPARATORS = (" ", "  ", ": ", " - ", "] ", " [", "|", "\t", ",", ", ", "[", '"', " é ", ":", "x")
TIMES = (
    "2024-03-05 10:00:00,123", "2024-03-05T10:00:00.123Z", "05/Mar/2024:10:00:00 +0000",
    "Mar  5 10:00:00", "Mar 15 10:00:00", "Tue Mar  5 10:00:00 2024", "240305 100000",
    "1709632800.123", "10:00:00", "2024-03-05 10:00:00 CET", "5 Mar 2024 10:00:00.123",
    "03/05/24 10:00:00 PM", "03-05 10:00:00.123", "20240305 10:00:00", "2024-03-05, 10:00:00",
    "2024-03-05 10:00:00.123456", "yesterday", "",
)  # fmt: skip
WORDS = (
    "INFO",
    "WARN",
    "a",
    "",
    "é",
    "main-1",
    "PM",
    "+0100",
    "UTC",
    "12",
    "a b",
    "-",
    "[x]",
    "GMT ",
)
NAMES = ("timestamp", "datetime", "pid", "level", "logger", "host")


def plain(form: Format) -> Format:
    """Return a format that reads all lines by its regexes."""
    return replace(form, split=None)


@st.composite
def templates(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=0, max_size=5, unique=True))
    between = [draw(st.sampled_from(SEPARATORS)) for _ in names]
    first, last = (draw(st.sampled_from(("", "", "[", "<", " ", "]"))) for _ in range(2))
    return [*names, "message"], [first, *between, last]


@st.composite
def lines_of(draw: st.DrawFn, names: list[str], between: list[str]) -> str:
    """Return a line that a template would write, or nearly."""
    time = draw(st.sampled_from(TIMES))
    text = between[0]
    for name, after in zip(names, between[1:], strict=True):
        odd = draw(st.integers(0, 9)) == 0
        value = time if name in ("timestamp", "datetime") and not odd else None
        if value is None:
            kind = (
                st.sampled_from(["1", "77"])
                if name == "pid" and not odd
                else st.sampled_from(WORDS)
            )
            value = draw(
                kind if name != "message" else st.text(max_size=5) | st.sampled_from(WORDS)
            )
        text += value + after * draw(st.sampled_from((1, 1, 1, 1, 1, 2)))
    odd = draw(st.integers(0, 19))
    if odd == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from([" ", "\n", "\t", "\xa0", "x", "]"])) + text[at:]
    return text if odd != 1 else text[: len(text) // 2]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_template_reads_lines_as_its_regex_does(data: st.DataObject):
    names, between = data.draw(templates())
    fields = zip(between, names, strict=False)
    spec = "template:" + "".join(f"{b}{{{n}}}" for b, n in fields) + between[-1]
    try:
        form = get_format(spec)
    except FormatError:
        return
    usual = data.draw(lines_of(names, between))
    others = data.draw(st.lists(lines_of(names, between) | st.text(max_size=20), max_size=30))
    lines = pl.Series([*[usual] * 200, *others, None, "", *[usual] * 30])

    assert_frame_equal(form.read(lines), plain(form).read(lines))


@pytest.mark.parametrize(
    ("template", "usual", "odd"),
    [
        (
            "{timestamp}:{datetime} {level} {message}",
            "2024-03-05T10:00:00Z:2024-03-05T10:00:00Z INFO x",
            "INFO:2024-03-05T10:00:00Z INFO x",
        ),
        (
            "{timestamp} - {level} - {message}",
            "2024-03-05 10:00:00 - INFO - x",
            "2024-03-05 10:00:00 -  - INFO - ",
        ),
        (
            "{timestamp} {level} {message}",
            "2024-03-05 10:00:00 INFO x",
            "2024-03-05 10:00:00 CET x y",
        ),
        (
            "{timestamp},{level} {message}",
            "2024-03-05 10:00:00,INFO x",
            "2024-03-05 10:00:00,5,INFO x",
        ),
        (
            "{level} {message} [{thread}]",
            "ERROR disk is full [main-2]",
            "INFO  [cache] hit [main-1]",
        ),
    ],
)
def test_a_line_that_may_be_read_in_two_ways_is_read_as_ever(template: str, usual: str, odd: str):
    form = get_format(f"template:{template}")
    lines = pl.Series([*[usual] * 300, odd])

    assert_frame_equal(form.read(lines), plain(form).read(lines))


PATTERNS = (
    r"^(?P<a>\S+) (?P<rest>(?s:.*))$",
    r"^(?P<rest>(?s:.*))$",
    r"^(?:(?P<a>x)|y)?-(?P<rest>(?s:.*))$",
    r"^x|(?P<a>y)(?P<rest>(?s:.*))$",
    r"(?P<a>y)(?P<rest>(?s:.*))$",
    r"^[|(](?P<rest>(?s:.*))$",
    r"^(?P<a>[^\n]*?)\s*(?P<rest>(?s:.*))$",
    r"^\|(?P<b>é*)(?P<a>x)?(?P<rest>(?s:.*))$",
    r"^(?P<a>\S+) (?P<rest>.*)$",
    r"^(?<a>(?s:.+?)) (?<rest>.*)$",
    r"^(?P<a>[^ ]*) ?(?P<rest>.*)$",
    r"(?s)^(?P<a>x*)(?P<rest>.*)$",
    r"^(?s)(?P<a>x*)(?P<rest>.*)$",
    r"^(?mi)(?P<a>X*)(?P<rest>.*)$",
    r"^(?R)(?P<a>x*)(?P<rest>.*)$",
)


@pytest.mark.parametrize("pattern", PATTERNS)
@given(st.lists(st.none() | st.text("xy -|(é\n\x85", max_size=8)))
def test_the_rest_of_a_line_is_what_the_last_group_would_be(pattern: str, texts: list[str | None]):
    lines = pl.Series(texts, dtype=pl.String)
    found = lines.str.extract_groups(f"(?:{pattern})()").struct.unnest()
    names = [name for name in ("b", "a", "rest") if f"<{name}>" in pattern]
    expected = found.select(pl.nth(-1).is_not_null().alias("_fits"), *names)

    assert_frame_equal(extract(lines, pattern), expected)


FIXED = (
    r"^(?P<date>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d) (?P<level>[A-Z]+) (?P<rest>.*)$",
    r"^(?P<date>\d{4}-\d\d-\d\d) (?P<time>\d\d:\d\d:\d\d) (?P<rest>\d+)",
    r"^\[(?P<date>[0-9]{4}\-[0-9]{2}-[0-9]{2}T?) ?(?P<time>\S+)\] (?P<rest>(?s:.*))$",
    r"^(?P<a>[A-Z]{3}) \d{4}-\d{2}-\d{2}(?P<b> \d\d:\d\d:\d\d)? (?i:info|(?P<c>x)) (?P<rest>.+)",
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?P<rest>[^|]*)\|?$",
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?P<rest>\b.*)",
    r"^(?P<date>\d{4}-\d\d-\d\d \d\d:\d\d:\d{2,}) (?P<rest>.*)$",
    r"^(?P<date>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?P<rest> .*)|(?P<b>x)",
    r"^(?P<a>[a-z ]{14})(?P<rest>.*)",
)


@pytest.mark.parametrize("pattern", FIXED)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_head_of_fixed_width_is_what_the_regex_would_take(pattern: str, data: st.DataObject):
    usual = data.draw(st.from_regex(pattern, alphabet=st.characters(max_codepoint=127)))
    odd = st.sampled_from(["٣", "é", "x", "\n", "\0", " ", "\x85", ""])
    near = st.builds(
        lambda at, odd: usual[:at] + odd + usual[at + len(odd) :],
        st.integers(0, len(usual)),
        odd,
    )
    text = st.text("0٣9-: ,TINFOABCéx|[]\n\0", max_size=40)
    others = data.draw(st.lists(st.none() | text | near, max_size=40))
    lines = pl.Series([*[usual] * 200, *others, *[usual] * 3], dtype=pl.String)
    found = lines.str.extract_groups(f"(?:{pattern})()").struct.unnest()
    names = [name for name in found.columns if not name.isdigit()]
    expected = found.select(pl.nth(-1).is_not_null().alias("_fits"), *names)

    assert_frame_equal(extract(lines, pattern), expected)


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?P<a>x\(?P<b>.*)$",
        r"^2020-01-01T00:00(?P<a>[\\[0](]*)|(?P<b>x)",
        "^2020-01-01T00:00(?x)(?P<a>x) # (\n|(?P<b>x)",
    ],
)
def test_a_regex_whose_marks_mean_something_else_is_read_whole(pattern: str):
    lines = pl.Series(["2020-01-01T00:00x"] * 400 + ["2020-01-01T00:00[(", "x(P<b", "x", "y"] * 9)
    found = lines.str.extract_groups(f"(?:{pattern})()").struct.unnest()
    names = [name for name in found.columns if not name.isdigit()]
    expected = found.select(pl.nth(-1).is_not_null().alias("_fits"), *names)

    assert_frame_equal(extract(lines, pattern), expected)
