"""Formats of a user's own: the TOML file, and specs that need it no more."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import etl
from etl import Batch, Parse, Pipeline
from etl.errors import FormatError
from etl.formats import get_format, normalise, parse, resolve_format, user_formats

SHOP = "{timestamp} {level} [{thread}] {logger}: {message}"
SPEC = f"shop=template:{SHOP}"
FILE = f"""
[shop]
template = "{SHOP}"
about = "what the shop writes"

[legacy]
regex = '^(?P<timestamp>\\S+) (?P<message>.*)$'
"""
LINE = "2026-11-21 10:00:00 WARN [main] pier: low"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file of formats in the working directory."""
    monkeypatch.delenv("ETL_FORMATS", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "etl-formats.toml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_name_becomes_a_spec_that_needs_no_file(file: Path):
    assert resolve_format("shop") == SPEC
    assert resolve_format("legacy") == r"legacy=regex:^(?P<timestamp>\S+) (?P<message>.*)$"
    file.unlink()
    rows = normalise(parse(pl.DataFrame({"line": [LINE, "no"]}), SPEC))
    assert rows["_fits"].to_list() == [True, False]
    assert rows["format"].to_list() == ["shop", None]
    assert rows.row(0, named=True) == {
        "line": LINE, "_fits": True, "format": "shop", "level": "WARNING", "logger": "pier",
        "timestamp": datetime(2026, 11, 21, 10, tzinfo=UTC), "pid": None, "message": "low",
        "thread": "main",
    }  # fmt: skip


def test_the_fields_of_a_named_template_are_those_of_the_template_itself():
    lines = pl.DataFrame({"line": ["2026-11-21 10:00:00 - a=- b", "2026-11-21 10:00:01 x a= c"]})
    text = "{date} {time} {level} a={a} {message}"
    named = normalise(parse(lines, f"shop=template:{text}")).drop("format")
    assert named.equals(normalise(parse(lines, f"template:{text}")).drop("format"))


@pytest.mark.parametrize("spec", [None, "auto", "json", f"template:{SHOP}", SPEC, "regex:(?P<a>.)"])
def test_what_needs_no_file_stays_as_it_is(spec: str | None, file: Path):
    file.write_text("not TOML")
    assert resolve_format(spec) == spec


def test_there_is_no_format_without_a_file(file: Path):
    file.unlink()
    assert user_formats() == {}
    with pytest.raises(FormatError, match="unknown format 'shop'"):
        resolve_format("shop")


def test_the_environment_names_another_file(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.rename(file.with_name("mine.toml"))
    monkeypatch.setenv("ETL_FORMATS", "mine.toml")
    assert [(one.name, one.about, one.file) for one in user_formats().values()] == [
        ("shop", "what the shop writes", "mine.toml"),
        ("legacy", "", "mine.toml"),
    ]
    monkeypatch.setenv("ETL_FORMATS", "yours.toml")
    with pytest.raises(FormatError, match=r"ETL_FORMATS names 'yours\.toml', which is not there"):
        resolve_format("shop")
    monkeypatch.setenv("ETL_FORMATS", str(file.parent))
    with pytest.raises(FormatError, match="cannot be read: Is a directory"):
        resolve_format("shop")


def test_a_changed_file_is_read_again(file: Path):
    assert resolve_format("shop") == SPEC
    file.write_text('[shop]\ntemplate = "{level} {message}"')
    assert resolve_format("shop") == "shop=template:{level} {message}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[shop", "etl-formats.toml is not TOML: "),
        ("shop = 1", "shop = 1 is no format; write [shop] and template ="),
        ("[Shop]\nregex = '(?P<a>.)'", "[Shop]: 'Shop' is no name; use lower-case letters"),
        ("['a b']\nregex = '(?P<a>.)'", "[a b]: 'a b' is no name"),
        ("[json]\nregex = '(?P<a>.)'", "[json]: 'json' is a format of etl's own; take another"),
        ("[auto]\nregex = '(?P<a>.)'", "[auto]: 'auto' is a format of etl's own"),
        ("[shop]\ntemplat = 'x'", "[shop]: unknown key 'templat'; did you mean 'template'?"),
        ("[shop]\ntemplate = 5", "[shop]: template = 5 is no text"),
        ("[shop]\nabout = 'x'", "[shop] has neither template nor regex; give one: template ="),
        ("[shop]\ntemplate = 'a'\nregex = 'b'", "[shop] has both template and regex; give one"),
        ("[shop]\nregex = '(?P<a>['", "[shop]: regex '(?P<a>[' does not compile: unclosed"),
        ("[shop]\nregex = '(a)'", "[shop]: regex '(a)' needs named groups: write (?P<name>…)"),
        (
            "[shop]\ntemplate = '{a}{b}'",
            "[shop]: template '{a}{b}' does not work: it needs two or more",
        ),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, said: str, file: Path):
    file.write_text(text)
    with pytest.raises(FormatError) as caught:
        resolve_format("shop")
    assert str(caught.value).startswith("etl-formats.toml")
    assert said in str(caught.value)


def test_a_file_that_is_no_text_is_refused(file: Path):
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(FormatError, match=r"'etl-formats\.toml' cannot be read: it is not UTF-8"):
        user_formats()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("shpo", "unknown format 'shpo'; did you mean 'shop'?"),
        ("apache_eror", "did you mean 'apache_error'?"),
        ("json=template:{a} {b}", "'json' is a format of etl's own; take another name"),
        ("shop=template:{a}{b}", "template '{a}{b}' does not work"),
        ("Shop=template:{a} {b}", "unknown format 'Shop=template:{a} {b}'"),
    ],
)
@pytest.mark.usefixtures("file")
def test_a_name_that_is_no_format_is_refused_with_the_one_that_is_meant(name: str, said: str):
    with pytest.raises(FormatError) as caught:
        resolve_format(name)
    assert said in str(caught.value)


@pytest.mark.usefixtures("file")
def test_the_suggestions_have_formats_of_a_users_own():
    with pytest.raises(FormatError, match="shop"):
        resolve_format("???")


def test_a_batch_a_processor_and_a_run_take_the_spec_where_they_are_made(file: Path):
    batch, pinned = Batch.from_lines([LINE], format="shop"), Parse("shop")
    assert (batch.format, pinned.format) == (SPEC, SPEC)
    (file.parent / "app.log").write_text(LINE + "\n")
    result = etl.run("app.log", format="shop", workers=1)
    file.unlink()
    assert result.output().select("format", "thread").row(0) == ("shop", "main")
    found = Pipeline("p").add("parse", pinned).explain(LINE)
    assert found.hops[0].after[0]["format"] == "shop"
    with pytest.raises(FormatError, match="unknown format 'shop'"):
        Batch.from_lines([LINE], format="shop")


def test_a_line_that_does_not_fit_names_the_format_and_not_its_layout():
    found = Pipeline("p").add("parse", Parse(SPEC)).explain("no")
    assert found.ends[0].message == "the line does not match the format 'shop'"


def test_a_spec_keeps_line_breaks_in_its_layout():
    spec = "shop=regex:(?x) ^(?P<a>\\S+)\n (?P<b>.*)$"
    assert get_format(spec).name == "shop"
    assert resolve_format(spec) == spec


def test_a_verbose_regex_may_end_in_a_comment():
    spec = r"regex:(?x) ^(?P<a>\d+) \s (?P<b>.*)$ # the end"
    found = parse(pl.DataFrame({"line": ["1 x", "2 y", "z"]}), spec)
    assert found["_fits"].to_list() == [True, True, False]
    assert found["b"].to_list() == ["x", "y", None]


@pytest.mark.parametrize("count", [1, 200])
def test_a_level_that_is_padded_leaves_the_message_whole(count: int):
    lines = ["INFO  [cache] hit [main-1]", "ERROR disk is full [main-2]"]
    for name in ("message", "text"):
        frame = pl.DataFrame({"line": lines * count})
        found = parse(frame, f"template:{{level}} {{{name}}} [{{thread}}]")
        assert found[name].to_list() == ["[cache] hit", "disk is full"] * count
        alone = parse(
            frame.filter(pl.col("line").str.starts_with("INFO")),
            f"template:{{level}} {{{name}}} [{{thread}}]",
        )
        assert alone[name].to_list() == ["[cache] hit"] * count


def test_only_the_message_of_a_template_goes_on_in_the_next_line():
    lines = [
        "09:00 ERROR shop: declined\n\tat pay: no",
        "09:00 ERROR declined\ncom.shop.Pay: no",
    ]
    frame = pl.DataFrame({"line": lines})
    found = parse(frame, "template:{time} {level} {logger}: {message}")
    assert found["_fits"].to_list() == [True, False]
    assert found["message"][0] == "declined\n\tat pay: no"
    within = parse(frame, "template:{time} {level} {message}: {rest}")
    assert within["message"].to_list() == ["shop", "declined\ncom.shop.Pay"]
