"""Which lines make a record, and that joining them loses none."""

from __future__ import annotations

import json
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.formats import join_records, normalise, parse, record_start, starts
from etl.formats.records import CSV, start_in_words

DATA = Path(__file__).parents[2] / "data"
HEAD = "2026-11-21 10:00:0"


def frame(*lines: str) -> pl.DataFrame:
    numbers = pl.Series(range(1, len(lines) + 1), dtype=pl.Int64)
    return pl.DataFrame(
        {"line": list(lines), "line_number": numbers}, {"line": pl.String, "line_number": pl.Int64}
    )


def joined(*lines: str, **limits: int) -> pl.DataFrame:
    before = frame(*lines)
    return join_records(before, record_start(before["line"]), **limits)


TRACES = {
    "Java": ["java.lang.Error: low", "\tat a.B.c(B.java:9)", "Caused by: x.Y: z", "\t... 2 more"],
    "Python": ["Traceback (most recent call last):", '  File "a.py", line 9', "ValueError: low"],
    "Go": ["goroutine 1 [running]:", "main.main()", "\t/app/main.go:9 +0x1d"],
    ".NET": ["System.Exception: low", "   at A.B() in C:\\a.cs:line 9"],
    "Node": ["Error: low", "    at Object.<anonymous> (/app/a.js:9:1)"],
    "Ruby": ["a.rb:9:in `b': low (RuntimeError)", "\tfrom a.rb:2:in `c'"],
    "PHP": ["Stack trace:", "#0 /a.php(9): b()", "#1 {main}", "  thrown in /a.php on line 9"],
    "SQL": ["\tselect *", "\tfrom tides", "where low"],
    "blank": ["", "after a blank line"],
}  # fmt: skip


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
@pytest.mark.parametrize("head", [HEAD + "{} ERROR pier: low", "[{:02}/Nov/2026:10:00:00] low"])
def test_a_head_with_a_time_has_the_lines_below_it(head: str, trace: list[str]):
    lines = [head.format(1), *trace, head.format(2), head.format(3), *trace]
    got = joined(*lines)

    assert got["line_number"].to_list() == [1, len(trace) + 2, len(trace) + 3]
    assert got["line_count"].to_list() == [1 + len(trace), 1, 1 + len(trace)]
    assert got["line"][0] == "\n".join(lines[: 1 + len(trace)])


@pytest.mark.parametrize("trace", [TRACES["Java"], TRACES["Python"]])
def test_a_level_begins_a_record_where_lines_have_no_time(trace: list[str]):
    got = joined("INFO:pier:open", "ERROR:pier:low", *trace, "INFO:pier:shut")
    assert got["line_number"].to_list() == [1, 2, 3 + len(trace)]


def test_indented_lines_go_on():
    got = joined("info: Pier.Tide[1]", "      open", "fail: Pier.Tide[2]", "      low", "      now")
    assert got["line_count"].to_list() == [2, 3]
    rows = normalise(parse(got))
    assert rows.select("level", "message").rows() == [("INFO", "open"), ("ERROR", "low\n      now")]


@pytest.mark.parametrize(
    "lines",
    [
        ['{"a": 1}', '{"a": 2}'],
        ['1.2.3.4 - - [21/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 1'] * 3,
        ["plain", "words", "only"],
        ["ts=1795255200 level=info msg=a", "ts=1795255201 level=info msg=b"],
        ["", " "],
        [],
    ],
)  # fmt: skip
def test_there_is_nothing_to_join_where_every_line_is_a_record(lines: list[str]):
    assert joined(*lines)["line_count"].to_list() == [1] * len(lines)


def test_pretty_printed_json_is_a_record_an_object():
    objects = [
        {"ts": f"{HEAD}{i}", "level": "warn", "msg": "low", "at": {"x": [i, 0]}} for i in range(3)
    ]
    text = "\n".join(json.dumps(one, indent=2) for one in objects)
    rows = normalise(parse(joined(*text.split("\n"))))
    assert rows.select("level", "message", "format").unique().row(0) == ("WARNING", "low", "json")
    assert rows["line_count"].to_list() == [11, 11, 11]

    text = json.dumps(objects, indent=2)
    rows = normalise(parse(joined(*text.split("\n")))).filter(pl.col("format") == "json")
    assert rows["message"].to_list() == ["low"] * 3


def test_a_quoted_line_break_is_within_a_record():
    before = frame("time,level,message", f'{HEAD}0,warn,"low,', '""now"""', f"{HEAD}1,info,ok")
    start = record_start(before["line"])
    got = join_records(before, start)

    assert str(start).startswith(CSV)
    assert got["line_count"].to_list() == [1, 2, 1]
    assert normalise(parse(got))["message"].to_list() == [before["line"][0], 'low,\n"now"', "ok"]


def test_a_stray_quote_costs_one_record():
    lines = ["time,message", f'{HEAD}1,"a', 'b"', f'{HEAD}2,6" high', f"{HEAD}3,ok", f"{HEAD}4,ok"]
    assert joined(*lines)["line_count"].to_list() == [1, 2, 1, 1, 1]


def test_partial_lines_of_containers_are_one_record_per_stream():
    cri = [f"2026-11-21T10:00:00.{i}Z" for i in range(5)]
    got = joined(
        f"{cri[0]} stdout P one ", f"{cri[1]} stderr F other", f"{cri[2]} stdout P two ",
        f"{cri[3]} stdout F three", f"{cri[4]} stdout F next",
    )  # fmt: skip
    assert got["line_count"].to_list() == [3, 1, 1]
    assert normalise(parse(got))["message"].to_list() == ["one two three", "other", "next"]

    docker = [
        f'{{"log":"{text}","stream":"stdout","time":"2026-11-21T10:00:00Z"}}'
        for text in ("one ", "two\\n", "next\\n")
    ]
    got = joined(*docker)
    assert got["line_count"].to_list() == [2, 1]
    assert normalise(parse(got))["message"].to_list() == ["one two", "next"]


def test_a_trace_in_a_containers_log_is_one_record():
    inner = [f"{HEAD}1 ERROR pier: low", *TRACES["Java"], f"{HEAD}2 INFO pier: ok"]
    cri = [f"2026-11-21T10:00:00.{i}Z stderr F {line}" for i, line in enumerate(inner)]
    rows = normalise(parse(joined(*cri)))
    assert rows["message"].to_list() == ["\n".join(["low", *TRACES["Java"]]), "ok"]
    assert rows["level"].to_list() == ["ERROR", "INFO"]


def test_what_the_heads_of_a_records_later_lines_say_is_kept():
    cri = [f"2026-11-21T10:00:0{i}.5Z stderr F {text}" for i, text in enumerate(["low", "\tat a"])]
    rows = normalise(parse(joined(*cri, "2026-11-21T10:00:09.5Z stderr F next")))
    assert rows["message"].to_list() == ["low\n\tat a", "next"]
    assert rows["rest"].to_list() == ["2026-11-21T10:00:01.5Z stderr F", None]

    docker = [
        f'{{"log":"{text}","stream":"stdout","time":"2026-11-21T10:00:0{i}Z"}}'
        for i, text in enumerate(["one ", "two\\n"])
    ]
    rows = normalise(parse(joined(*docker)))
    assert rows.select("message", "rest").row(0) == (
        "one two", '{"stream": "stdout", "time": "2026-11-21T10:00:01Z"}'
    )  # fmt: skip


def test_a_trace_that_syslog_wrote_a_line_at_a_time_is_one_record():
    head = "Nov 21 10:00:0{} pier {}: "
    app = [head.format(i, "tide[7]") for i in range(4)]
    lines = [app[0] + "low", *(app[1] + line for line in TRACES["Java"]), app[3] + "ok"]
    rows = normalise(parse(joined(*lines)))
    assert rows["line_count"].to_list() == [1 + len(TRACES["Java"]), 1]
    assert rows["message"].to_list() == ["\n".join(["low", *TRACES["Java"]]), "ok"]
    assert rows["rest"][0].split("\n") == [app[1].strip()] * len(TRACES["Java"])

    other = head.format(2, "other[8]") + "\tat a.B(C.java:9)"
    assert joined(lines[0], other, *lines[1:])["line_count"][0] == 1


BLOCK = [
    "Log Name: System",
    "Date: 11/21/2026 10:00:0{} AM",
    "Level: Warning",
    "Description:",
    "low",
]


def test_a_block_of_keys_is_a_record():
    rows = normalise(parse(joined(*[line.format(i) for i in range(3) for line in BLOCK])))
    assert rows["line_count"].to_list() == [5, 5, 5]
    assert rows.select("format", "level", "message").unique().rows() == [
        ("block", "WARNING", "low")
    ]
    assert rows["timestamp"].dt.second().to_list() == [0, 1, 2]
    assert joined("INFO: a", "WARN: b", "ERROR: c", "INFO: d")["line_count"].to_list() == [1] * 4


@pytest.mark.parametrize("bare", ["panic: low", "thread 'main' panicked at 'low', a.rs:9:1"])
def test_a_panic_without_a_time_is_a_record(bare: str):
    got = joined(HEAD + "1 low", bare, "goroutine 1 [running]:", HEAD + "2 ok")
    assert got["line_count"].to_list() == [1, 2, 1]


def test_objects_of_several_lines_are_records():
    lines = ['{"level": "warn", "msg": "low",', '"stack": ["a",', '"b"]}', '{"msg": "ok"}']
    rows = normalise(parse(joined(*lines)))
    assert rows.select("level", "message").rows() == [("WARNING", "low"), (None, "ok")]


@pytest.mark.parametrize("first", ["--a1b2-A--", "__CURSOR=s", "Start-Date: x"])
def test_blocks_of_known_programs_are_records(first: str):
    assert joined(*[first, "a", "b: c"] * 3)["line_count"].to_list() == [3, 3, 3]


def test_blocks_of_a_slow_log_may_lack_their_time():
    user = ["# User@Host: ann[ann] @ pier []", "# Query_time: 1.5  Lock_time: 0"]
    lines = ["started with:", "# Time: 261121 10:00:00", *user, "SET timestamp=1795255200;", "a;"]
    rows = normalise(parse(joined(*lines, *user, "SET timestamp=1795255201;", "b;")))
    assert rows["line_count"].to_list() == [1, 5, 4]
    assert rows["timestamp"].dt.second().to_list() == [None, 0, 1]


def test_a_record_over_a_limit_is_cut_and_marked():
    lines = [f"{HEAD}1 low", *(f"\tline {i}" for i in range(9)), f"{HEAD}2 ok"]
    got = joined(*lines, max_lines=4)
    assert got["line_count"].to_list() == [4, 4, 2, 1]
    assert got["is_cut"].to_list() == [True, True, False, False]
    assert "\n".join(got["line"]) == "\n".join(lines)
    assert joined(*lines, max_bytes=40)["line"].str.len_bytes().max() <= 50


def test_the_bytes_of_a_record_are_those_of_its_lines():
    lines = [f"{HEAD}1 low", "\tbad \\xff", f"{HEAD}2 ok"]
    before = frame(*lines).with_columns(raw=pl.Series([None, b"\tbad \xff", None], dtype=pl.Binary))
    got = join_records(before, record_start(before["line"]))
    assert got["raw"].to_list() == [f"{HEAD}1 low\n".encode() + b"\tbad \xff", None]


STARTS = st.sampled_from(
    [None, CSV, ":partial ", ":not ^\\s", "^a", ":inside cri ^a", ":partial ^a"]
)


@given(st.lists(st.text(max_size=12).map(lambda x: x.replace("\n", "")), max_size=30), STARTS,
       st.integers(1, 5), st.integers(1, 60))  # fmt: skip
def test_joining_keeps_every_line(lines: list[str], start: str | None, most: int, size: int):
    got = join_records(frame(*lines), start, max_lines=most, max_bytes=size)
    assert sorted("\n".join(got["line"]).split("\n")) == sorted(lines or [""])
    assert got["line_count"].sum() == len(lines)
    assert got["line_number"].is_unique().all()


@given(st.lists(st.text(max_size=20), max_size=20))
def test_any_lines_have_a_start_that_can_be_applied(lines: list[str]):
    some = pl.Series(lines, dtype=pl.String)
    begins = starts(some, record_start(some))
    assert len(begins) == len(lines)
    assert begins.head(1).all()


def test_a_real_log_with_traces_has_a_record_an_event():
    lines = (DATA / "java_app.log").read_text("utf-8").removesuffix("\n").split("\n")
    rows = normalise(parse(joined(*lines)))
    assert rows["timestamp"].null_count() == 0
    assert rows["line_count"].sum() == len(lines)
    assert (rows["line_count"] > 1).any()


TIMED = "2026-11-21 10:00:00 ERROR pier: low"
JAVA = ["java.lang.E: x", "\tat a.B.c(B.java:1)"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (['{"a": 1}', '{"a": 2}'], "every line"),
        ([TIMED, *JAVA, TIMED], "a line with a time"),
        (["ERROR: low", *JAVA, "INFO: high"], "a line with a level"),
        (["low", "  tide", "high"], "a line that is not indented and goes on with nothing"),
        (["{", '  "a": 1', "}", "{", '  "a": 2', "}"], "an opening brace"),
        (["Start-Date: 1", "End-Date: 2", "Start-Date: 3"], "the first line of a block"),
        (["# User@Host: a[a] @ b []", "# Query_time: 1"], "a line with # Time: or # User@Host:"),
        (["Traceback (most recent call last):", '  File "a"'], "the first line of a traceback"),
        (["id,at,text", '1,now,"one', 'more"', "2,now,x", "3,now,y"], "a line after closed quotes"),
        ([f"pod-1  | {x}" for x in (TIMED, *JAVA)], "a line with a time, inside of compose"),
        (
            [f"2026-11-21T10:00:00.1Z stdout {x} a" for x in "PPF"],
            "a line that completes no partial one",
        ),
    ],
)
def test_what_begins_a_record_is_said_in_words(lines: list[str], words: str):
    assert start_in_words(record_start(pl.Series(lines))) == words


def test_a_line_of_redis_signal_handler_is_a_record_with_its_time():
    lines = [
        "12:M 21 Nov 2026 10:00:00.000 * DB saved on disk",
        "12:signal-handler (1795255201) Received SIGTERM scheduling shutdown...",
        "12:M 21 Nov 2026 10:00:01.500 # User requested shutdown...",
    ]
    rows = normalise(parse(joined(*lines)))
    assert rows["format"].to_list() == ["redis"] * 3
    assert rows["timestamp"].dt.second().to_list() == [0, 1, 1]
    assert rows["message"][1] == "Received SIGTERM scheduling shutdown..."


def test_lines_of_the_jvm_between_those_of_its_program_are_records():
    program = ["2026-11-21 10:00:00,250 INFO [main] a.Tide - low", "java.io.IOException: no tide"]
    rows = normalise(parse(joined(*program, "[0.045s][info][gc] Using G1", *program)))
    assert rows["format"].to_list() == ["log4j", "jvm", "log4j"]
    assert rows["message"][1] == "Using G1"


def test_numbers_like_times_behind_words_begin_no_records():
    chance = random.Random(11)
    ids = [1_611_965_628_600_829_264, *(chance.randrange(-(2**63), 2**63) for _ in range(300))]
    lines = [f"order {number} is {id}" for number, id in enumerate(ids)]
    assert record_start(pl.Series(lines)) is None
    times = [f"event at {1_709_632_800 + n}: ok" for n in range(50)]
    assert record_start(pl.Series(["event at 1709632800: it failed", "  at a", *times]))
