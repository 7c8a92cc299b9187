"""What holds of every format and every line, whatever they are."""

from __future__ import annotations

import json
import random
import re
import runpy
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import FormatError
from etl.formats import FORMATS, describe, get_format, join_records, normalise, parse, record_start
from etl.formats.keyed import MAX_KEYS
from etl.formats.stamps import ZONES
from etl.formats.times import Clock, read_times

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TIME = "2026-11-21T10:00:00.250Z"
LAYOUTS = [
    "%Y-%m-%d %H:%M:%S,%f", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y/%m/%d %H:%M:%S", "%Y.%m.%d-%H.%M.%S",
    "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y%m%d-%H:%M:%S", "%y%m%d %H:%M:%S", "%d.%m.%Y %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S", "%d-%b-%Y %H:%M:%S.%f", "%d%b%Y %H:%M:%S", "%d %B %Y %H:%M:%S",
    "%Y %b %d %H:%M:%S", "%b %d, %Y %I:%M:%S %p", "%b/%d/%Y %H:%M:%S", "%B %d %Y %H:%M:%S",
    "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S.%f %Y", "%a, %d %b %Y %H:%M:%S",
    "%A %d %b %Y %H:%M:%S",
    "%H:%M:%S %Y-%m-%d", "[%Y-%m-%d][%H:%M:%S]", "%d/%m/%Y -- %H:%M:%S", "%m/%d/%Y %I:%M:%S %p",
]  # fmt: skip
DAYS = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=9 * i, hours=7 * i) for i in range(80)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_weekday_month_and_hour_of_a_layout_is_read_back(layout: str) -> None:
    assert {(d.weekday(), d.month) for d in DAYS} >= {(d.weekday(), d.month) for d in DAYS[:40]}
    text = pl.Series([day.strftime(layout) for day in DAYS])
    assert read_times(text, Clock(NOW)).to_list() == DAYS


def test_every_zone_is_read_back() -> None:
    for name, hours in ZONES.items():
        zone = timezone(timedelta(hours=hours))
        text = pl.Series(
            [day.astimezone(zone).strftime(f"%Y-%m-%d %H:%M:%S {name}") for day in DAYS]
        )
        assert read_times(text, Clock(NOW)).to_list() == DAYS, name
    for minutes in range(-12 * 60, 14 * 60 + 1, 15):
        zone = timezone(timedelta(minutes=minutes))
        text = pl.Series(
            [day.astimezone(zone).strftime("%d %b %Y %H:%M:%S %z") for day in DAYS[:20]]
        )
        assert read_times(text, Clock(NOW)).to_list() == DAYS[:20], minutes


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_at_the_head_of_a_line_is_found(layout: str) -> None:
    lines = [f"{day.strftime(layout)} ERROR pier.tide: low" for day in DAYS]
    got = normalise(parse(pl.DataFrame({"line": lines})), now=NOW)
    assert got["timestamp"].to_list() == DAYS
    assert got.select("level", "message").unique().rows() == [("ERROR", "low")]


def words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+|[0-9]+", text))


def lost(line: str, row: dict[str, object], name: str) -> set[str]:
    """Return the words of a line that no value, no column's name and no format's text has."""
    form = FORMATS[name]
    fixed = " ".join([*row, name, *form.patterns, str(form.fits)])
    kept = " ".join(str(value) for key, value in row.items() if key != "line")
    return words(line) - words(kept.replace("\\n", "\n")) - words(fixed)


EXAMPLES = runpy.run_path(str(Path(__file__).with_name("test_formats.py")))["EXAMPLES"]
SAMPLES = [(name, line) for name, line, _ in EXAMPLES]
TAIL = st.text("abcxyz0189 |:=[](){}<>\"'/.,;-", min_size=1, max_size=30)
KEYED = {"json", "docker", "otlp", "logfmt", "cef", "leef", "postgres_csv"}


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(SAMPLES), TAIL)
def test_every_word_of_a_formats_line_is_in_some_column(sample: tuple[str, str], tail: str) -> None:
    name, line = sample
    longer = line if name in KEYED else f"{line} {tail}"
    row = parse(pl.DataFrame({"line": [longer]})).row(0, named=True)
    unread = lost(longer, row, row["format"])
    unread -= {str(row.get("level"))[:1]}  # Ruby's first letter
    assert row["format"] in KEYED or not unread, (row["format"], unread)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(SAMPLES), st.text("abcxyz ", min_size=1, max_size=20))
def test_a_longer_message_makes_no_line_another_formats(sample: tuple[str, str], tail: str) -> None:
    name, line = sample
    accepted = {other for other, form in FORMATS.items() if form.accepts(f"{line} {tail}")}
    same = {"nginx_access", "apache_access"} if name == "nginx_access" else {name}
    assert accepted <= same | ({"json"} if name in ("docker", "otlp") else set())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(SAMPLES), min_size=1, max_size=12))
def test_lines_of_many_formats_in_one_file_keep_their_own(samples: list[tuple[str, str]]) -> None:
    got = parse(pl.DataFrame({"line": [line for _, line in samples]}))
    for (name, line), form in zip(samples, got["format"], strict=True):
        alone = parse(pl.DataFrame({"line": [line]}))["format"][0]
        assert form in (alone, name)


def test_a_hundred_thousand_random_lines_neither_crash_nor_vanish() -> None:
    chance = random.Random(5)
    marks = " \t:|[](){}<>=,;-/\\\"'#%\0\x1b.é\u2028"
    pieces = [*marks, TIME, "INFO", "[error]", "1795255200", "Nov 21 10:00:00", "a.b.C", "77"]
    pieces += ["key=", "{", '"a":', "word", "\\n", "%s", "Date: ", "__CURSOR=s", "\tat a.b(c:1)"]
    lines = ["".join(chance.choices(pieces, k=chance.randint(0, 16))) for _ in range(100_000)]
    before = pl.DataFrame({"line": lines, "line_number": pl.int_range(1, 100_001, eager=True)})
    assert normalise(parse(before), now=NOW)["line"].equals(before["line"])
    records = join_records(before, record_start(before["line"]))
    got = normalise(parse(records), now=NOW)
    assert records["line_count"].sum() == 100_000
    assert got["line"].equals(records["line"])
    assert got["format"].null_count() == 0
    assert got["_fits"].all()


def test_ten_thousand_keys_are_bounded_and_none_is_lost() -> None:
    lines = [json.dumps({f"k{i * 10 + j}": i for j in range(10)}) for i in range(1000)]
    got = parse(pl.DataFrame({"line": lines}))
    assert got.width <= MAX_KEYS + 4
    held = sum(got[name].count() for name in got.columns if re.fullmatch("k[0-9]+", name))
    rest = sum(len(json.loads(text)) for text in got["rest"].drop_nulls())
    assert held + rest == 10_000


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("regex:(", r"regex '\(' does not compile: "),
        ("regex:[0-9]+", r"regex '\[0-9\]\+' needs named groups: write "),
        ("template:no fields", "template 'no fields' does not work: it needs two or more {fields}"),
        ("template:{a} {b:int}", "template '{a} {b:int}'"),
        ("template:{a} {a}", "template '{a} {a}' does not work"),
        ("pyhton", "unknown format 'pyhton'; did you mean 'python'"),
    ],
)
def test_a_format_that_cannot_be_used_says_what_is_wrong(spec: str, said: str) -> None:
    with pytest.raises(FormatError) as error:
        get_format(spec)
    assert re.search(said, str(error.value)) or said in str(error.value)


def test_a_template_that_matches_nothing_is_said_so() -> None:
    lines = pl.Series([f"{TIME} INFO low", f"{TIME} WARN lower"])
    found = describe(lines, "template:{level}|{message}")
    assert (found.fits, found.records) == (0.0, 2)
    assert found.unfit["line"].to_list() == lines.to_list()
