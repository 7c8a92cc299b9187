"""Lines of an unknown layout: all are read, nothing of them disappears, and none is taken for
another format.
"""

from __future__ import annotations

import random
import re
import string
import time
from collections import Counter
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.formats import FORMATS, describe, join_records, normalise, parse, record_start

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TIME = "2026-11-21T10:00:00.250Z"


def rows(*lines: str, spec: str | None = None) -> list[dict[str, object]]:
    got = normalise(parse(pl.DataFrame({"line": lines}), spec), now=NOW).drop("line")
    return [{k: v for k, v in row.items() if v is not None} for row in got.iter_rows(named=True)]


PROSE = f"the tide was low at {TIME} here"
HEADS = [  # line; level, logger, pid, thread, message
    (f"{TIME} INFO low tide", "INFO", None, None, None, "low tide"),
    (f"{TIME} ERROR pier.tide: low", "ERROR", "pier.tide", None, None, "low"),
    (f"{TIME} [warn] low", "WARNING", None, None, None, "low"),
    (f"{TIME} [INFO]  pier.tide: low", "INFO", "pier.tide", None, None, "low"),
    (f"[{TIME}] [77] [ERROR] low", "ERROR", None, 77, None, "low"),
    (f"[{TIME}][WARN ][pier.tide] [node-1] low", "WARNING", "pier.tide", None, "node-1", "low"),
    (f"[{TIME} INFO  pier::tide] low", "INFO", "pier::tide", None, None, "low"),
    (f"{TIME}  INFO pier::tide: low", "INFO", "pier::tide", None, None, "low"),
    (f"{TIME} | ERROR    | pier.tide:low:9 - low", "ERROR", "pier.tide:low:9", None, None, "low"),
    (f"{TIME}|I|tide|low now", "INFO", "tide", None, None, "low now"),
    (f"{TIME} - INFO  [main:Worker@57] - low", "INFO", None, None, "main:Worker@57", "low"),
    (f"{TIME} [main] DEBUG a.b.Tide - low", "DEBUG", "a.b.Tide", None, "main", "low"),
    (f"{TIME} [info] <0.4.0> low", "INFO", None, None, "0.4.0", "low"),
    (f"{TIME} SEVERE [main] a.b.Tide low", "ERROR", "a.b.Tide", None, "main", "low"),
    (f"{TIME} {{tide.py:9}} INFO - low", "INFO", None, None, None, "low"),
    (f"[{TIME}: WARNING/Worker-1] low", "WARNING", None, None, "Worker-1", "low"),
    (f"[{TIME}] pier.CRITICAL: low", "CRITICAL", "pier", None, None, "low"),
    (f"[{TIME}] [Server thread/WARN]: low", "WARNING", None, None, "Server thread", "low"),
    (f"INFO  [main] {TIME} Tide.java:9 - low", "INFO", None, None, None, "low"),
    (f"{TIME} tide[77]: low", None, "tide", 77, None, "low"),
    (f"{TIME} general: error: low", "ERROR", None, None, None, "low"),
    (f"{TIME} daemon.warn tide[77]: low", "WARNING", "tide", 77, None, "low"),
    (f"{TIME} UTC [77] ann@pier LOG:  low", "INFO", None, 77, None, "low"),
    ("INFO:     low tide", "INFO", None, None, None, "low tide"),
    ("[ERROR] low tide", "ERROR", None, None, None, "low tide"),
    ("warning: low tide", "WARNING", None, None, None, "low tide"),
    ('ERROR "low tide" on', "ERROR", None, None, None, '"low tide" on'),
    (f"{TIME} INFO 'low'", "INFO", None, None, None, "'low'"),
    ("low tide", None, None, None, None, "low tide"),
    ("error opening the lock", None, None, None, None, "error opening the lock"),
    (PROSE, None, None, None, None, PROSE),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), [(line, tuple(found)) for line, *found in HEADS])
def test_the_head_of_a_line_is_found(line: str, expected: tuple[object, ...]):
    row = rows(line)[0]
    names = ("level", "logger", "pid", "thread", "message")
    assert tuple(row.get(name) for name in names) == expected
    assert row["format"] == "generic"
    assert ("timestamp" in row) == (TIME in line)


def test_a_word_of_a_column_behind_the_level_is_the_logger():
    names = ["CBS", "CSI"] * 10
    lines = [f"2026-11-21 10:00:00, Info                  {name}    Low tide" for name in names]
    got = [*rows(*lines), *rows(lines[0])]
    assert {(row["level"], row["message"]) for row in got} == {("INFO", "Low tide")}
    assert [row["logger"] for row in got] == [*names, "CBS"]
    lines = [f"{TIME} INFO  {text}" for text in ["Low  tide", *["Low tide"] * 9]]
    assert not any("logger" in row for row in [*rows(*lines), *rows(lines[0])])


SENTENCES = [
    "Error handler installed",
    "Warning lights checked",
    "Info desk opened.",
    "Debug mode enabled by root",
]


@pytest.mark.parametrize("head", [TIME, f"[{TIME}]", f"{TIME} [main]"])
def test_a_sentence_that_begins_with_a_level_is_all_message(head: str):
    alone = [rows(f"{head} {text}")[0] for text in SENTENCES]
    for levels in (["INFO"] * 20, ["Error:"] * 6, []):
        lines = [f"{head} {level} low tide" for level in levels]
        got = rows(*lines, *(f"{head} {text}" for text in SENTENCES))
        assert all(row["message"] == "low tide" for row in got[: len(levels)])
        assert got[len(levels) :] == alone
    assert [(row.get("level"), row["message"]) for row in alone] == [(None, x) for x in SENTENCES]


@pytest.mark.parametrize(
    "text",
    [
        "Info: low tide", "Info  low tide", "[Info] low tide", "Info - low tide", "| Info low tide",
        "Info | low tide", "Info Low tide", "Info [a] low tide", "Info pier.tide: low tide",
    ],
)  # fmt: skip
def test_a_level_in_capitalised_form_with_a_mark_is_a_level(text: str):
    row = rows(f"{TIME} {text}")[0]
    assert (row["level"], str(row["message"]).lower()) == ("INFO", "low tide")


def test_a_column_of_levels_in_capitalised_form_stays_one():
    lines = [f"{TIME} {('Info', 'Error')[n % 2]} low tide" for n in range(20)]
    assert [row["level"] for row in rows(*lines)] == ["INFO", "ERROR"] * 10
    lines = [f"{TIME} Info Low tide", f"{TIME} Error Low tide", f"{TIME} Error low tide"]
    assert [row["level"] for row in rows(*lines)] == ["INFO", "ERROR", "ERROR"]


NOT = [
    (f"{TIME} ERROR pier: low", "syslog3164"),
    (f"{TIME} 0 pier: low", "syslog3164"),
    (f"{TIME} stdout pier: low", "syslog3164"),
    ("Nov 21 10:00:00 [main] pier: low", "syslog3164"),
    ("Nov 21 10:00:00 INFO pier: low", "syslog3164"),
    ("20261121-100000|E|worker-0|job=0 took=215ms", "logfmt"),
    ("a=1 b=2", "logfmt"),
    ("x{a}=1 level=info", "logfmt"),
    ("level=info " + " ".join(f"k{i}=1" for i in range(400)), "logfmt"),
    ("2026-11-21 10:00:00.250 UTC [7] error: low", "postgres"),
    ("name | text", "compose"),
    ("INFO low", "python"),
]


@pytest.mark.parametrize(("line", "name"), NOT)
def test_a_line_that_only_looks_like_a_format_is_not_of_it(line: str, name: str):
    assert not FORMATS[name].accepts(line)
    assert rows(line)[0]["format"] != name


WORD = st.text(string.ascii_letters + string.digits, min_size=1, max_size=9)
MARK = st.sampled_from(
    [" ", "  ", " - ", ": ", "|", " | ", "\t", "] ", " [", ", ", "; ", "/", "::"]
)
LEVEL = st.sampled_from(["INFO", "[error]", "W", "<Notice>", "DEBUG:", "fatal"])
STAMP = st.sampled_from(
    [
        TIME,
        "[21/Nov/2026:10:00:00 +0000]",
        "Nov 21 10:00:00",
        "1795255200",
        "10:00:00",
        "21.11.26 10:00:00",
    ]
)
LINE = st.lists(st.one_of(WORD, MARK, LEVEL, STAMP), min_size=1, max_size=9).map("".join)


@settings(max_examples=60)
@given(st.lists(LINE, min_size=1, max_size=30))
def test_every_word_of_a_line_is_in_some_column(lines: list[str]):
    got = parse(pl.DataFrame({"line": lines})).drop("line", "_fits", "format")
    for line, row in zip(lines, got.iter_rows(), strict=True):
        kept = Counter("".join(str(value) for value in row if value is not None))
        lost = Counter(re.sub("[^A-Za-z0-9]", "", line)) - kept
        assert not lost, line


def test_ten_thousand_random_lines_neither_crash_nor_vanish():
    chance = random.Random(11)
    marks = " \t:|[](){}<>=,;-/\\\"'#%\0\x1b.é\u2028"
    pieces = [*marks, TIME, "INFO", "[error]", "1795255200", "Nov 21 10:00:00", "a.b.C", "77"]
    pieces += ["key=", "{", '"a":', "word", "\\n", "%s"]
    lines = ["".join(chance.choices(pieces, k=chance.randint(0, 25))) for _ in range(10_000)]
    before = pl.DataFrame({"line": lines, "line_number": range(1, len(lines) + 1)})
    got = normalise(parse(before), now=NOW)
    assert got.select("line", "line_number").equals(before)
    assert got["_fits"].all()
    assert got["format"].null_count() == 0


LONG = [mark * 20_000 for mark in ("a.", "a:", '"', "[]", "A ", "|", "a=b ", "word ", TIME + " ")]


@pytest.mark.parametrize("line", LONG, ids=lambda line: line[:4])
def test_a_long_odd_line_takes_no_time(line: str):
    before = pl.DataFrame({"line": [line] * 3})
    start = time.process_time()
    got = normalise(parse(join_records(before, record_start(before["line"]))))
    assert got["_fits"].all()
    assert time.process_time() - start < 5


def test_colours_nuls_and_carriage_returns_are_no_part_of_a_line():
    plain = f"{TIME}  INFO pier::tide: low"
    odd = [
        f"\x1b[2m{TIME}\x1b[0m \x1b[33m INFO\x1b[0m \x1b[2mpier::tide\x1b[0m: low",
        "\0\0\0" + plain, plain + "\r", "\ufeff" + plain,
    ]  # fmt: skip
    expected = rows(plain)[0]
    assert [rows(line)[0] for line in odd] == [expected] * 4


def test_a_description_names_candidates_layout_and_shares():
    lines = [f"21.11.2026 10:00:0{i} [WARN] pier: low {i}" for i in range(8)] + ["no time", "here"]
    found = describe(pl.Series(lines))
    assert found.template == "template:{timestamp} [{level}] {logger}: {message}"
    assert found.formats == (("generic", 1.0),)
    assert found.candidates == ()
    assert found.template_share == 1.0
    assert (found.records, found.generic, found.timeless) == (8, 1.0, 0.0)  # the head has the rest
    assert found.rows.height == 5
    rows = normalise(parse(pl.DataFrame({"line": lines[:8]}), found.template))
    assert rows["message"].to_list() == [f"low {i}" for i in range(8)]
    assert rows["timestamp"][0] == datetime(2026, 11, 21, 10, tzinfo=UTC)


def test_a_description_of_a_known_format_has_its_share():
    lines = ["Nov 21 10:00:00 host tide[7]: low", "Nov 21 10:00:01 host tide[7]: now", "neither"]
    found = describe(pl.Series(lines * 10))
    assert found.candidates[0] == ("syslog3164", 1.0)
    assert found.template is None
    assert describe(pl.Series(['{"a": 1}'] * 3)).empty == 1.0
    assert describe(pl.Series([], dtype=pl.String)).records == 0


def test_a_description_counts_the_records_that_fit_a_named_format():
    lines = ["INFO low", "\tat a", "WARN high", "[INFO] no", "INFO again", "[WARN] no"]
    found = describe(pl.Series(lines), "regex:^(?P<level>[A-Z]+) (?P<message>(?s:.*))$")
    assert (found.records, found.several, found.fits) == (5, 1, 0.6)
    assert found.begins == "a line with a level"
    assert found.rows["message"].to_list() == ["low\n\tat a", "high", "again"]
    assert found.unfit.rows() == [(4, 1, "[INFO] no"), (6, 1, "[WARN] no")]
    assert describe(pl.Series(lines)).fits == 1.0
    assert describe(pl.Series(lines)).unfit.is_empty()


def test_a_description_takes_a_missing_year_from_when_the_file_was_changed():
    modified = datetime(2019, 12, 1, tzinfo=UTC).timestamp()
    found = describe(pl.Series(["Nov 21 10:00:00 host tide[7]: low"] * 3), modified=modified)
    assert found.rows["timestamp"][0] == datetime(2019, 11, 21, 10, tzinfo=UTC)
