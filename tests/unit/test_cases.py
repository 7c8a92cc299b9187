"""Cases in TOML: read, checked, and made of dead letters whatever their text is."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import Batch, DeadLetters, Parse, Pipeline, Queue, drop, normalise, reject
from etl.errors import UsageError
from etl.records.context import Context
from etl.testing.assertions import drain
from etl.testing.cases import append_case, case_of, read_cases

SHOP = """
import polars as pl
from etl import Pipeline, reject

def price(frame):
    cents = pl.col("line").str.extract(r"total=(-?\\d+)").cast(pl.Int64) * 100
    return reject(frame.with_columns(cents=cents), cents.is_null(), "no_price", "it has no price")

pipeline = Pipeline("shop").add("price", price).add("end", None)
"""

CASES = """
pipeline = "shop.py:pipeline"
format = "logfmt"

[[case]]
name = "a total is cents"
line = "total=12"
path = ["...", "end"]
fields.cents = 1200
rows = 1

[[case]]
line = "gratis"
dead = {processor = "price", code = "no_price", message = "no price"}

[[case]]
line_hex = "ff746f74616c3d31"
pipeline = "etl.demo:levels"
format = "json"
state = "done"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def fail(queue: Queue, *lines: str | bytes, source: str = "logs/app.log") -> list[dict]:
    """Put lines through a pipeline that refuses all, and return the rows of their dead letters."""
    queue.put(Batch.from_lines(lines, source=source, format="json"))
    drain(queue, Pipeline().add("parse", Parse()))
    return DeadLetters(queue).frame().to_dict("records")


def message(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_cases(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_cases_are_read_with_the_keys_above_all_of_them(shop: Path):
    path = shop / "shop.etl.toml"
    path.write_text(CASES)
    first, second, third = read_cases(path)

    assert (first.name, second.name, third.name) == ("a total is cents", "2 gratis", "3 bytes")
    assert first.expected == {"path": ["...", "end"], "rows": 1, "fields": {"cents": 1200}}
    assert (first.pipeline, first.format) == (f"{shop / 'shop.py'}:pipeline", "logfmt")
    assert second.dead
    assert (third.line, third.pipeline, third.format) == (b"\xfftotal=1", "etl.demo:levels", "json")


def test_cases_are_checked_wherever_one_stands(shop: Path):
    path = shop / "shop.etl.toml"
    path.write_text(CASES.replace('format = "json"', "").replace("1200", "1_300"))
    first, second, _ = read_cases(path)

    second.check()
    with pytest.raises(AssertionError, match="cents: expected 1300, found 1200"):
        first.check()
    with pytest.raises(AssertionError, match="cents: there is no such field"):
        first.check(Pipeline().add("end", None))


def test_names_are_never_the_same(shop: Path):
    path = shop / "shop.etl.toml"
    case = '[[case]]\nname = "n"\nline = ""\npipeline = "p:p"\n'
    path.write_text(case * 3)

    assert [case.name for case in read_cases(path)] == ["n", "n (2)", "n (3)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[case]\n", "Expected ']]'"),
        ("", "there are no cases"),
        ("case = 1", "there are no cases"),
        ("[[cases]]\nline = 'x'", "unknown key 'cases'; did you mean 'case'?"),
        ("[[case]]\nlien = 'x'", "case 1: unknown key 'lien'; did you mean 'line'?"),
        ("[[case]]\npipeline = 'p:p'", "case 1: a case has one line"),
        ("[[case]]\nline = 'x'\nline_hex = 'ff'", "case 1: a case has one line"),
        ("[[case]]\nline = 'x'", "case 1: no pipeline; add pipeline"),
        ("[[case]]\nline = 1", "case 1: line = 1 is not a string"),
        ("[[case]]\nline = 'x'\nrows = true", "case 1: rows = True is not a whole number"),
        ("[[case]]\nline = 'x'\npath = 'a'", "case 1: path = 'a' is not a list of strings"),
        (
            "pipeline = 'p:p'\n[[case]]\nline = 'x'\npath = [1]",
            "case 1: path = [1] is not a list of strings",
        ),
        (
            "pipeline = 'p:p'\n[[case]]\nline = 'x'\n[[case]]\nline_hex = 'xy'",
            "case 2: line_hex: non-hexadecimal",
        ),
        (
            "pipeline = 'p:p'\n[[case]]\nline = 'x'\ndead.procesor = 'x'",
            "case 1, dead: unknown key 'procesor'; did you mean 'processor'?",
        ),
        (
            "pipeline = 'p:p'\n[[case]]\nline = 'x'\ndead = {}\nstate = 'done'",
            "case 1: a dead line has no 'state'",
        ),
    ],
)
def test_a_mistake_names_the_case_and_the_key(tmp_path: Path, text: str, said: str):
    assert message(tmp_path / "x.etl.toml", text).startswith(said)


def test_a_dead_letter_becomes_a_case_that_passes_once_it_is_fixed(shop: Path, queue: Queue):
    (dead_letter,) = fail(queue, "total=7")
    path = shop / "tests" / "shop.etl.toml"
    path.parent.mkdir()
    text = append_case(
        path, dead_letter, pipeline=f"{shop}/shop.py:pipeline", fields={"cents": 700}
    )

    assert text == (
        '[[case]]\nname = "app.log line 1"\nformat = "json"\nline = "total=7"\nfields.cents = 700\n'
    )
    assert path.read_text() == f'pipeline = "../shop.py:pipeline"\n\n{text}'
    read_cases(path)[0].check()
    with pytest.raises(AssertionError, match="expected 'done', found 'filtered'"):
        read_cases(path)[0].check(Pipeline().add("price", drop(pl.lit(value=True))))


def test_a_dead_letter_that_is_wrong_itself_becomes_a_case_that_fails(shop: Path, queue: Queue):
    path = shop / "shop.etl.toml"
    for dead_letter in fail(queue, "x", b"\xff"):
        append_case(path, dead_letter, pipeline=f"{shop}/shop.py:pipeline", dead=True)
    first, second = read_cases(path)

    assert first.expected == {"processor": "parse", "code": "no_format"}
    assert (first.line, second.line) == ("x", b"\xff")


def test_a_case_of_another_pipeline_says_so_itself(shop: Path, queue: Queue):
    path = shop / "shop.etl.toml"
    path.write_text(CASES.rstrip())
    (dead_letter,) = fail(queue, "x")
    append_case(path, dead_letter, pipeline="etl.demo:levels")
    append_case(path, dead_letter, pipeline=f"{shop}/shop.py:pipeline", name="again")

    assert [case.pipeline for case in read_cases(path)[3:]] == [
        "etl.demo:levels",
        f"{shop}/shop.py:pipeline",
    ]


def test_a_case_is_not_added_twice(shop: Path, queue: Queue):
    (dead_letter,) = fail(queue, "x")
    path = shop / "x.etl.toml"
    for name in ("the first of its file", "the last"):
        append_case(path, dead_letter, pipeline="etl.demo:levels", name=name)
    whole = path.read_text()
    for name in ("the first of its file", "the last"):
        with pytest.raises(UsageError, match=r"'x.etl.toml' holds this case already"):
            append_case(path, dead_letter, pipeline="etl.demo:levels", name=name)
    assert path.read_text() == whole
    append_case(path, dead_letter, pipeline="etl.demo:levels", name="the last", dead=True)
    assert len(read_cases(path)) == 3


def test_what_cannot_be_a_case_is_refused_and_nothing_is_written(shop: Path, queue: Queue):
    (dead_letter,) = fail(queue, "x")
    path = shop / "x.etl.toml"
    with pytest.raises(UsageError, match=r"cases are kept in \*.etl.toml, not in 'x.toml'"):
        append_case(shop / "x.toml", dead_letter, pipeline="p:p")
    for value in (None, b"x", {"a": 1}, [{"a": 1}]):
        with pytest.raises(UsageError, match=r"fields.when = .* cannot be written"):
            append_case(path, dead_letter, pipeline="p:p", fields={"when": value})
    unread = {"lines": 9, "processor": "input", "code": "source_changed"}
    with pytest.raises(UsageError, match="stands for 9 lines"):
        append_case(path, dead_letter | unread, pipeline="p:p")
    path.write_text("[[case]]\nlien = 'x'")
    with pytest.raises(UsageError, match="unknown key 'lien'"):
        append_case(path, dead_letter, pipeline="p:p")

    assert path.read_text() == "[[case]]\nlien = 'x'"
    assert not (shop / "x.toml").exists()


SCALARS = st.text() | st.floats() | st.integers() | st.booleans() | st.dates()
DEAD_LETTER = {"id": 1, "lines": 1, "line_number": 3, "raw": None, "format": None}
DEAD_LETTER |= {"processor": "parse", "code": "no_format"}


@given(line=st.text(), source=st.text(), key=st.text(), value=SCALARS | st.lists(SCALARS))
def test_any_text_comes_back_from_toml_as_it_was_and_hides_nothing(line, source, key, value):
    text = case_of(
        DEAD_LETTER | {"line": line, "source": source}, fields={key: value}, name=f"a {source}"
    )
    (case,) = tomllib.loads(text)["case"]

    assert (case["line"], case["name"]) == (line, f"a {source}")
    assert repr(case["fields"]) == repr({key: value})
    assert all(char.isprintable() for char in text.replace("\n", ""))


def test_a_case_keeps_what_its_line_is_read_by(queue: Queue, tmp_path: Path):
    context = Context(modified=1_600_000_000, timezone="Europe/Berlin", record_start="^x")
    line = "Mar  5 10:00:00 host app[1]: hello"
    queue.put(Batch.from_lines([line], context=context))
    pipeline = Pipeline("p").add("parse", Parse()).add("normal", normalise)
    refusing = Pipeline("p").add("no", lambda f: reject(f, pl.lit(value=True), "no", "no"))
    drain(queue, refusing)
    (dead_letter,) = DeadLetters(queue).frame().to_dict("records")
    path = tmp_path / "year.etl.toml"
    fields = {"timestamp": datetime(2020, 3, 5, 9, tzinfo=UTC)}
    text = append_case(path, dead_letter, pipeline="etl.default:pipeline", fields=fields)
    assert "context.modified = 1600000000\n" in text
    assert 'context.timezone = "Europe/Berlin"\n' in text
    (case,) = read_cases(path)
    case.check(pipeline)
    wrong = path.read_text().replace("context.modified", "context.modifeid")
    assert "did you mean 'modified'" in message(path, wrong)
