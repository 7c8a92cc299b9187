"""What sinks write, when it can be seen, and what happens when they cannot."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import OutputFull, ProcessorStop
from etl.processors.processor import Delivery, Sink
from etl.records.result import Output
from etl.sinks.jsonl import JsonLines
from etl.sinks.parquet import Parquet
from etl.sinks.publish import publish_files, remove_old_staged, remove_staged
from etl.sinks.stdout import Stdout
from etl.text import printable

FRAME = pl.DataFrame({"line": ["one", "zwei ü"], "n": [1, None], "source": ["a", "a"]})


def delivery(out: Path, *, id: str = "b1", lease: str = "t1") -> Delivery:
    return Delivery(id=id, token=lease, out=out)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("[!.]*") if path.is_file())


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*"))


@pytest.fixture(params=[Parquet(), JsonLines()], ids=["parquet", "jsonl"])
def sink(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("made", [Parquet(), JsonLines(), Stdout()])
def test_every_sink_is_known_as_one(made: Any):
    assert isinstance(made, Sink)


def test_a_staged_file_cannot_be_seen_until_it_is_published(sink: Any, tmp_path: Path):
    staged = sink.stage(FRAME, delivery(tmp_path))
    assert visible(tmp_path) == []
    (name,) = hidden(tmp_path)
    assert name.startswith(".b1-")
    assert name.endswith("-t1.tmp")

    staged.publish()
    assert [Path(name).stem for name in visible(tmp_path)] == ["b1"]
    assert hidden(tmp_path) == []


def test_a_discarded_file_is_gone(sink: Any, tmp_path: Path):
    staged = sink.stage(FRAME, delivery(tmp_path))
    staged.discard()
    staged.discard()

    assert list(tmp_path.iterdir()) == []


def test_the_same_batch_twice_leaves_one_file(sink: Any, tmp_path: Path):
    for token in ("t1", "t2"):
        sink.stage(FRAME, delivery(tmp_path, lease=token)).publish()

    assert len(visible(tmp_path)) == 1
    assert hidden(tmp_path) == []


def test_two_workers_may_stage_the_same_batch_at_once(sink: Any, tmp_path: Path):
    lost = sink.stage(FRAME.head(1), delivery(tmp_path, lease="lost"))
    sink.stage(FRAME, delivery(tmp_path, lease="kept")).publish()
    lost.discard()

    (name,) = visible(tmp_path)
    read = pl.read_parquet if name.endswith("parquet") else pl.read_ndjson
    assert read(tmp_path / name).height == 2


def test_what_is_staged_is_named_by_absolute_paths(
    sink: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    staged = sink.stage(FRAME, delivery(Path("out")))
    monkeypatch.chdir("/")
    staged.publish()

    assert len(visible(tmp_path / "out")) == 1


def test_parquet_is_read_back_by_pandas_and_polars(tmp_path: Path):
    Parquet("lines").stage(FRAME, delivery(tmp_path)).publish()

    path = tmp_path / "lines" / "b1.parquet"
    assert pl.read_parquet(path).equals(FRAME)
    assert pd.read_parquet(path)["line"].tolist() == ["one", "zwei ü"]


def test_parquet_leaves_columns_out(tmp_path: Path):
    Parquet(leave_out=("line", "not there")).stage(FRAME, delivery(tmp_path)).publish()

    assert pl.read_parquet(tmp_path / "b1.parquet").columns == ["n", "source"]


def test_columns_of_nothing_but_nulls_can_be_read_and_joined(tmp_path: Path):
    empty = FRAME.with_columns(pid=pl.lit(None))
    full = FRAME.with_columns(pid=pl.lit("7"))
    Parquet().stage(empty, delivery(tmp_path, id="b1")).publish()
    Parquet().stage(full, delivery(tmp_path, id="b2")).publish()

    rows = pl.read_parquet(tmp_path / "*.parquet")
    assert rows["pid"].to_list() == [None, None, "7", "7"]
    assert pd.read_parquet(tmp_path / "b1.parquet")["pid"].isna().all()


def test_a_file_of_another_folder_is_not_below_out(tmp_path: Path):
    Parquet(str(tmp_path / "else")).stage(FRAME, delivery(tmp_path / "out")).publish()

    assert visible(tmp_path / "else") == ["b1.parquet"]
    assert not (tmp_path / "out").exists()


def test_json_lines_are_one_object_a_line(tmp_path: Path):
    frame = FRAME.with_columns(line=pl.Series(['say "hi"\n\u2028', "\x00"]))
    JsonLines().stage(frame, delivery(tmp_path)).publish()

    text = (tmp_path / "b1.jsonl").read_text()
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    assert rows == frame.to_dicts()


def test_a_disk_that_cannot_be_written_stops_the_pipeline(sink: Any, tmp_path: Path):
    out = tmp_path / "out"
    out.write_text("in the way")

    with pytest.raises(ProcessorStop, match=r"cannot write below '.*out': "):
        sink.stage(FRAME, delivery(out))


def test_a_full_disk_stops_the_pipeline_and_leaves_nothing(
    sink: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("etl.sinks.publish.new_id", lambda: "this-try")
    (tmp_path / ".b1-this-try-t1.tmp").symlink_to("/dev/full")

    with pytest.raises(OutputFull, match="cannot write below"):
        sink.stage(FRAME, delivery(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_publishing_twice_is_fine(sink: Any, tmp_path: Path):
    staged = sink.stage(FRAME, delivery(tmp_path))
    publish_files(staged.outputs)
    publish_files(staged.outputs)

    assert len(visible(tmp_path)) == 1


def test_publishing_what_is_nowhere_is_an_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        publish_files([Output(str(tmp_path / "staged"), str(tmp_path / "final"))])


def test_what_dead_workers_staged_is_removed_by_token(tmp_path: Path):
    for token in ("dead", "alive"):
        Parquet("deep/er").stage(FRAME, delivery(tmp_path, lease=token))
    remove_staged(tmp_path, ["dead", "unknown"])

    assert [path.name.split("-")[-1] for path in tmp_path.rglob(".*")] == ["alive.tmp"]


def test_what_was_staged_long_ago_is_removed_unless_it_is_wanted(tmp_path: Path):
    old = [f"{number:024x}" for number in range(3)]
    for token in (*old, f"{9:024x}"):
        staged = Parquet("deep/er").stage(FRAME, delivery(tmp_path, lease=token))
        if token in old:
            os.utime(staged.outputs[0].staged, (0, 0))
    (wanted,) = tmp_path.rglob(f".*-{old[1]}.tmp")
    (tmp_path / ".notes-of-a-user.tmp").touch()
    os.utime(tmp_path / ".notes-of-a-user.tmp", (0, 0))
    remove_old_staged(tmp_path, {old[0], str(wanted)})

    left = {path.name.split("-")[-1] for path in tmp_path.rglob(".*.tmp")}
    assert left == {"user.tmp", *(f"{number:024x}.tmp" for number in (0, 1, 9))}


def test_the_console_prints_after_the_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    staged = Stdout(pl.format("[{}]", "line")).stage(FRAME, delivery(tmp_path))
    assert capsys.readouterr().out == ""

    staged.publish()
    assert capsys.readouterr().out == "[one]\n[zwei ü]\n"
    assert staged.outputs == ()


def test_the_console_prints_nothing_that_was_discarded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    Stdout().stage(FRAME, delivery(tmp_path)).discard()

    assert capsys.readouterr().out == ""


def test_the_console_prints_numbers_and_nulls(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    Stdout(pl.col("n")).stage(FRAME, delivery(tmp_path)).publish()

    assert capsys.readouterr().out == "1\n\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü ✓", "plain ü ✓"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\x08\x00", "a\\rb\\x08\\x00"),
        ("a\u2028b\u202e", "a\\u2028b\\u202e"),
        ("\x9b31m", "\\x9b31m"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str):
    assert printable(text) == shown


@given(st.text(), st.integers(1, 20))
def test_whatever_is_printed_is_printable_and_as_short_as_asked(text: str, most: int):
    assert printable(text).isprintable()
    assert printable(text, most).isprintable()
    assert len(printable(text, most)) <= most


def test_text_that_is_too_long_is_cut_with_a_mark():
    assert printable("12345", 5) == "12345"
    assert printable("123456", 5) == "1234…"
    assert printable("12\n45", 5) == "12\\n…"
