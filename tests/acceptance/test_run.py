"""What `etl.run` returns, and what a run of a folder reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import etl
from etl.runs.result import RunResult

LINES = "".join(f"2026-11-21 10:00:0{number},000 INFO app: line {number}\n" for number in range(5))


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunResult:
    """Give the result of a run of one file."""
    monkeypatch.setenv("ETL_RUNS", str(tmp_path / "runs"))
    (tmp_path / "app.log").write_text(LINES)
    return etl.run(tmp_path / "app.log", workers=1)


def test_a_result_has_the_counts_and_the_rows_of_all_files(result: RunResult, tmp_path: Path):
    assert result.counts == {
        "accepted": 5, "done": 5, "filtered": 0, "dead": 0, "leased": 0, "waiting": 0
    }  # fmt: skip
    assert (result.new, result.skipped) == (5, 0)
    assert sorted(result.output()["line_number"]) == [1, 2, 3, 4, 5]
    assert result.out == tmp_path / "runs" / result.run / "out"
    queue = result.open().queue
    assert queue.stats().done == 5
    queue.close()


def test_a_result_is_the_mapping_that_json_prints(result: RunResult):
    assert {**result} == result.to_dict()
    assert result["done"] == 5
    assert json.loads(json.dumps(result.to_dict()))["out"] == str(result.out)


def test_a_result_shows_itself_in_a_line_and_as_a_card(result: RunResult):
    assert repr(result).startswith(f"<RunResult {result.run}: 5 accepted, 5 done, 0 filtered, 0 d")
    assert "lines read" in result._repr_html_()


def test_the_output_of_a_run_without_files_is_an_empty_frame(result: RunResult):
    for file in result.out.glob("*.parquet"):
        file.unlink()
    assert result.output().is_empty()


@pytest.mark.parametrize("verb", ["run", "put"])
def test_a_folder_is_read_without_what_earlier_runs_wrote(site, verb, monkeypatch):
    monkeypatch.setenv("ETL_RUNS", str(site.folder / "data" / "runs"))
    log = site.write("data/app.log", LINES)
    site.write("data/.hidden", "no line")
    earlier = etl.run(log, workers=1)
    assert not earlier.output().is_empty()

    said = site.etl(verb, "data")
    assert "hidden, or written by etl or Docker" in said
    assert site.queue.stats().accepted == 5


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_threads_of_a_run_share_its_store(
    kind: str,
    store_url: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("ETL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("etl.runs.run.Settings.workers", 4)
    for number in range(12):
        (tmp_path / f"{number}.log").write_text(LINES * 2_000)
    result = etl.run(tmp_path / "*.log", store=store_url(kind), out=tmp_path / "out")
    assert (result.counts["done"], result.counts["accepted"]) == (120_000, 120_000)
    assert result.output().group_by("source").len()["len"].to_list() == [10_000] * 12
    with result.open() as store:
        names = store.metrics.processors(by_worker=True)["worker"]
        assert names.str.contains(f"-{os.getpid()}-").all()
        assert store.metrics.workers().empty
