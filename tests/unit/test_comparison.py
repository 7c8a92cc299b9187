"""Two runs side by side: numbers, what counts as a change, and the sentences about it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

import etl
from etl import Batch, Pipeline, Store, Worker, open_queue, reject
from etl.analysis.compare import Comparison, compare_stores
from etl.errors import UsageError
from etl.queue import Queue
from etl.records.result import BatchResult, ProcessorStats
from etl.runs.compare import compare

BAD = "<img src=x onerror=alert(1)>"


def ran(seconds: dict[str, float], *, lines: int = 1000, url: str = "sqlite://") -> Queue:
    """Make a store whose processors took so many seconds for so many lines each."""
    queue = open_queue(url)
    queue.put(Batch.from_lines(["x"] * lines))
    processor_stats = {
        name: ProcessorStats(received=lines, seconds=took) for name, took in seconds.items()
    }
    queue.commit(queue.lease("w"), BatchResult(done=lines, processor_stats=processor_stats))
    return queue


def died(*words: str, of: int = 100, source: str = "memory") -> Queue:
    """Make a store in which each of these words has killed one line, by a code of that name."""
    queue = open_queue("sqlite://")
    pipeline = Pipeline("p").add("pass", None)
    for word in sorted(set(words)):
        pipeline.add(f"no {word}", lambda frame, w=word: reject(frame, frame["line"] == w, w, w))
    lines = [*words, *["fine"] * (of - len(words))]
    queue.put(Batch.from_lines(lines, source=source))
    Worker(queue, pipeline).drain()
    return queue


def changes(frame: pd.DataFrame, key: str) -> dict[str, str]:
    return dict(zip(frame[key], frame["change"], strict=True))


def test_a_processor_is_compared_by_its_time_per_line():
    found = compare_stores(ran({"parse": 1.0}), ran({"parse": 6.0}, lines=2000)).processors
    (row,) = found.to_dict("records")

    assert (row["lines_a"], row["lines_b"]) == (1000, 2000)
    assert row["seconds_per_line_a"] == pytest.approx(0.001)
    assert row["ratio"] == pytest.approx(3)
    assert row["change"] == "slower"


def test_processors_are_slower_faster_new_gone_or_as_before():
    a = ran({"slow": 1.0, "fast": 3.0, "same": 1.0, "old": 1.0})
    b = ran({"slow": 2.0, "fast": 1.0, "same": 1.2, "young": 1.0})
    found = compare_stores(a, b)

    assert changes(found.processors, "processor") == {
        "slow": "slower",
        "fast": "faster",
        "same": "",
        "young": "new",
        "old": "gone",
    }
    assert changes(compare_stores(a, b, slower=1.1).processors, "processor")["same"] == "slower"


@pytest.mark.parametrize(
    ("took", "lines"), [({"parse": 9.0}, 99), ({"parse": 0.002, "rest": 1.0}, 1000)]
)
def test_few_lines_or_little_time_are_no_change(took: dict[str, float], lines: int):
    before = {name: 0.001 if name == "parse" else 1.0 for name in took}
    found = compare_stores(ran(before, lines=lines), ran(took, lines=lines))

    assert changes(found.processors, "processor")["parse"] == ""
    assert found.sentences()[0] == "No processor got slower."


def test_the_slower_one_that_costs_most_is_told_first():
    a = ran({"small": 0.1, "large": 1.0})
    b = ran({"small": 0.5, "large": 2.0})
    found = compare_stores(a, b)

    assert found.slower["processor"].to_list() == ["large", "small"]
    assert found.sentences()[0] == (
        "Processor 'large' got slower: 2 ms a line, 2.0 times the 1 ms before; so did 'small'."
    )


def test_failures_are_new_gone_grown_shrunk_or_as_before():
    a = died("gone", "grown", "shrunk", "shrunk", "same")
    b = died("new", "new", "new", "grown", "grown", "shrunk", "same")
    found = compare_stores(a, b)

    expected = {"new": "new", "gone": "gone", "grown": "grown", "shrunk": "shrunk", "same": ""}
    assert changes(found.failures, "code") == expected
    assert found.failures["code"].iloc[0] == "new"
    assert (found.dead_ratio_a, found.dead_ratio_b) == (0.05, 0.07)
    assert found.sentences()[1:] == [
        "1 kind of failure is new: 'new: new' in 'no new' (3 lines, 0 before).",
        "7.00% of the lines are dead, 5.00% before.",
    ]


def test_a_failure_is_the_same_in_the_log_of_another_day():
    a, b = died("bad", source="app-01.log"), died("bad", "bad", source="app-02.log")
    found = compare_stores(a, b).failures
    assert found[["code", "lines_a", "lines_b", "change"]].to_numpy().tolist() == [
        ["bad", 1, 2, "grown"]
    ]


def test_a_kind_that_only_grew_is_told_and_so_is_one_that_is_gone():
    assert (
        compare_stores(died("a"), died("a", "a"))
        .sentences()[1]
        .startswith("1 kind of failure is more frequent: 'a: a'")
    )
    assert compare_stores(died("a"), died()).sentences()[1:] == [
        "No failure is new, and 1 is gone.",
        "0.00% of the lines are dead, 1.00% before.",
    ]


def test_a_run_is_the_same_as_itself():
    queue = died("a")
    found = compare_stores(queue, queue)

    assert set(found.failures["change"]) == {""}
    assert str(found).splitlines() == [
        "No processor got slower.",
        "No failure is new.",
        "1.00% of the lines are dead, as before.",
    ]


def test_empty_stores_can_be_compared():
    found = compare_stores(open_queue("sqlite://"), open_queue("sqlite://"))

    assert found.processors.empty
    assert found.failures.empty
    assert repr(found) == "<Comparison: processors slower: 0, kinds of failure new: 0>"


def test_text_of_a_failure_is_escaped():
    found = compare_stores(died(), died(BAD))

    assert BAD in str(found)
    assert "<img" not in found._repr_html_()


@pytest.mark.parametrize("how", ["path", "text", "url", "folder", "id", "store"])
def test_a_run_is_named_by_its_store_its_folder_or_its_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
):
    store = tmp_path / "data" / "runs" / "20261121-1" / "store.db"
    ran({"parse": 1.0}, url=str(store)).close()
    record = {"state": "finished", "started_at": 1.0, "pid": 1, "store": f"sqlite:///{store}"}
    store.with_name("run.json").write_text(json.dumps(record))
    monkeypatch.setenv("ETL_RUNS", str(store.parent.parent))
    names: dict[str, str | Path | Store] = {
        "path": store,
        "text": str(store),
        "url": f"sqlite:///{store}",
        "folder": store.parent,
        "id": "20261121-1",
        "store": etl.open(store),
    }
    found = compare(names[how], names[how])

    assert isinstance(found, Comparison)
    assert found.processors["lines_a"].to_list() == [1000]


def test_a_run_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path):
    with pytest.raises(UsageError, match=r"no store, folder or run '.*nope.db'"):
        compare(tmp_path / "nope.db", tmp_path)

    assert list(tmp_path.iterdir()) == []
