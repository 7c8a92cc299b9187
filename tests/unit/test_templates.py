"""Message templates: what is a value, what is new, and how often loghub's experts agree."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.analysis.templates import ALIKE, MAX_LENGTH, new_templates, template_of, templates
from etl.errors import UsageError

LOGHUB = Path(__file__).parents[3] / "shared" / "data" / "loghub"

needs_loghub = pytest.mark.skipif(
    not LOGHUB.is_dir(), reason="the loghub samples are not here: ../shared/data/loghub"
)

COLUMNS = {
    "template": "str",
    "lines": "int64",
    "share": "float64",
    "sample": "str",
    "first_seen": "datetime64[us, UTC]",
    "last_seen": "datetime64[us, UTC]",
}


def counts(texts: list[str]) -> dict[str, int]:
    frame = templates(texts)
    return dict(zip(frame["template"], frame["lines"], strict=True))


@pytest.mark.parametrize("texts", [[], ["one 1", "one 2"]])
def test_the_frame_has_its_documented_columns(texts: list[str]):
    assert templates(texts).dtypes.astype(str).to_dict() == COLUMNS
    assert new_templates(texts, []).dtypes.astype(str).to_dict() == COLUMNS


@pytest.mark.parametrize(
    ("text", "template"),
    [
        ("took 12 ms, -3 left", "took <*>, <*> left"),
        ("block blk_-160899 from 10.0.0.1:80", "block <*> from <*>"),
        ("id 123e4567-e89b-12d3-a456-426614174000 ok", "id <*> ok"),
        ("at 0x7fff and deadbeefcafe", "at <*> and <*>"),
        ("open /var/log/app.log: no", "open <*>: no"),
        (r"load C:\Windows\a.dll now", "load <*> now"),
        ("get https://example.com/a?b=c failed", "get <*> failed"),
        ("user 'bob smith' and \"eve\" in", "user <*> and <*> in"),
        ('"GET /a HTTP/1.1" 200', "GET <*>"),
        ("free 4.5 KB of 2 GB", "free <*> of <*>"),
        ("since Fri, Jul 4 here", "since <*> here"),
        ("com.example.app started", "<*> started"),
        ("many \t  blanks", "many blanks"),
        ("no value at all", "no value at all"),
    ],
)
def test_what_looks_like_a_value_is_one(text: str, template: str):
    assert counts([text]) == {template: 1}


def test_a_word_that_takes_many_values_is_a_value():
    users = ["root", "admin", "guest", "oracle", "mail", "backup"]
    lines = [f"failed login of {user} by ssh" for user in users]

    assert counts(lines) == {"failed login of <*> by ssh": ALIKE}
    assert len(counts(lines[1:])) == ALIKE - 1


def test_two_words_may_be_values():
    lines = [f"user {user} left {room} early" for user in "abcdef" for room in "uvwxyz"]

    assert counts(lines) == {"user <*> left <*> early": 36}


def test_the_most_frequent_is_first_and_has_a_sample_and_a_share():
    frame = templates(["end", "read 7 rows", "read 9 rows", None])  # type: ignore[list-item]

    assert frame["template"].to_list() == ["read <*> rows", "end"]
    assert frame["sample"].to_list() == ["read 7 rows", "end"]
    assert frame["share"].to_list() == pytest.approx([2 / 3, 1 / 3])


def test_times_are_those_of_the_rows():
    times = [datetime(2026, 1, day, tzinfo=UTC) for day in (3, 1, 2)]
    rows = pl.DataFrame({"timestamp": times, "message": ["a 1", "a 2", "b"], "line": ["x"] * 3})
    frame = templates(rows).set_index("template")

    assert (frame["first_seen"]["a <*>"].day, frame["last_seen"]["a <*>"].day) == (1, 3)
    assert templates(["a"])["first_seen"].isna().all()


def test_another_column_may_be_looked_at_and_one_that_is_not_there_is_an_error():
    rows = pl.DataFrame({"line": ["x 1"], "why": ["y 2"]})

    assert templates(rows)["template"].to_list() == ["x <*>"]
    assert templates(rows, text="why")["template"].to_list() == ["y <*>"]
    with pytest.raises(UsageError, match=r"no column 'whi' .* line, why"):
        templates(rows, text="whi")


def test_new_is_what_no_earlier_line_says():
    frame = new_templates(["took 1 s", "took 2 s", "lost host"], ["took 9 s", "found host"])

    assert frame["template"].to_list() == ["lost host"]
    assert frame["share"].to_list() == pytest.approx([1 / 3])


def test_a_word_is_a_value_on_both_days_or_on_none():
    before = [f"login of {user} failed" for user in ("root", "admin", "guest", "mail", "www")]

    assert new_templates(["login of eve failed"], before).empty


@given(st.lists(st.text(max_size=40), max_size=30))
def test_any_text_has_a_template_and_every_line_counts(texts: list[str]):
    frame = templates(texts)

    assert frame["lines"].sum() == len(texts)
    assert set(frame["sample"]) <= {text[:MAX_LENGTH] for text in texts}


def test_every_line_can_be_given_its_template():
    rows = pl.DataFrame({"message": ["b 2", None, "a 1", "b 3"]})

    assert template_of(rows).to_list() == ["b <*>", None, "a <*>", "b <*>"]
    assert template_of(["x 1"]).name == "template"


def test_very_long_and_very_different_lines_are_no_trouble():
    texts = ["x" * 1_000_000, "word " * 10_000, *(f"{chr(97 + n % 26) * n}" for n in range(200))]

    assert templates(texts)["lines"].sum() == len(texts)


AGREED = {
    "Android": 0.96,
    "Apache": 1.0,
    "BGL": 0.98,
    "HDFS": 0.99,
    "OpenSSH": 0.99,
    "OpenStack": 1.0,
    "Spark": 0.99,
    "Windows": 1.0,
}
"""Grouping accuracy that is reached: the share of lines whose template has just the lines that
the experts' template has. https://arxiv.org/abs/1811.03509"""


@needs_loghub
@pytest.mark.parametrize("name", AGREED)
def test_templates_are_those_of_loghubs_experts(name: str):
    table = pl.read_csv(LOGHUB / f"{name}.csv", infer_schema=False)
    both = pl.DataFrame({"ours": template_of(table["Content"]), "theirs": table["EventId"]})
    ours, theirs, common = (pl.len().over(key) for key in ("ours", "theirs", ["ours", "theirs"]))
    accuracy = both.select(((ours == common) & (theirs == common)).mean()).item()

    assert accuracy >= AGREED[name]
