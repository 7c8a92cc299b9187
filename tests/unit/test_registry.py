"""Runs are recorded when they begin and when they end; old ones go, and nothing else does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from functools import partial

import polars as pl
import pytest

from etl import Batch, Pipeline, Worker, open_queue, reject
from etl.errors import UsageError
from etl.queue.urls import url_of
from etl.runs.prune import age, prune
from etl.runs.registry import amend, find, new_run_id, read, recorded, recorded_use, run_rows, runs

DAY = 86400.0


def dead_process():
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def ended(folder, name, **more):
    """Record a run that ended a thousand days ago."""
    with recorded(name, folder=folder, kind="cli", **more):
        pass
    amend(name, folder=folder, ended_at=read(folder / name)["ended_at"] - 1000 * DAY)
    return folder / name


def store(place, *lines, work=True):
    """Make a store in a run's folder; lines that say poison die."""
    queue = open_queue(str(place / "store.db"))
    queue.put(Batch.from_lines([*lines], source="test"))
    if work:
        refuse = partial(reject, where=pl.col("line") == "poison", code="x", reason="poison")
        Worker(queue, Pipeline("p").add("refuse", refuse)).drain()
    queue.close()


def test_a_run_is_recorded_while_it_runs_and_when_it_has_ended(tmp_path):
    with recorded("a", folder=tmp_path, kind="cli", sources=["x.log"]) as record:
        assert [row["state"] for row in run_rows(tmp_path)] == ["running"]
        record["counts"] = {"accepted": 7}
    (row,) = run_rows(tmp_path)
    assert (row["state"], row["accepted"], row["sources"]) == ("finished", 7, ["x.log"])
    assert row["ended_at"] >= row["started_at"]
    assert names(tmp_path / "a") == ["run.json"]


@pytest.mark.parametrize("error", [ValueError("no such thing"), KeyboardInterrupt("x")])
def test_a_run_that_fails_says_why(tmp_path, error):
    with pytest.raises(type(error)), recorded("a", folder=tmp_path):
        raise error
    (row,) = run_rows(tmp_path)
    assert row["state"] == "failed"
    assert row["error"] == f"{type(error).__name__}: {error}"


def test_a_run_whose_process_is_gone_was_killed(tmp_path):
    with recorded("a", folder=tmp_path):
        amend("a", folder=tmp_path, pid=dead_process())
        assert run_rows(tmp_path)[0]["state"] == "killed"
        amend("a", folder=tmp_path, pid=os.getpid(), born="another process of that number")
        assert run_rows(tmp_path)[0]["state"] == "killed"
        amend("a", folder=tmp_path, host=f"not {socket.gethostname()}")
        assert run_rows(tmp_path)[0]["state"] == "running"


def test_the_frame_has_the_same_columns_and_dtypes_with_and_without_runs(tmp_path):
    empty = runs(tmp_path)
    ended(tmp_path, "a")
    with recorded("b", folder=tmp_path, store="s", counts={"accepted": 3}):
        frame = runs(tmp_path)
    assert frame.dtypes.to_dict() == empty.dtypes.to_dict()
    assert frame["run"].tolist() == ["a", "b"]
    assert frame["accepted"].isna().tolist() == [True, False]


def test_what_is_no_record_is_passed_over(tmp_path):
    for name, text in {"a": "{", "b": "[]", "c": "{}", "d": '{"state": "finished"}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    assert run_rows(tmp_path) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "/a", ".hidden", "a\nb"])
def test_a_run_cannot_be_called_what_leads_elsewhere(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be called"), recorded(name, folder=tmp_path):
        pass


def test_a_run_continues_where_it_cannot_be_recorded(tmp_path, caplog):
    (tmp_path / "a").write_text("a file in the way")
    with recorded("a", folder=tmp_path) as record:
        assert record["state"] == "running"
    assert "run a is not recorded" in caplog.text


def test_the_newest_run_on_a_store_is_found(tmp_path):
    for name in ("a", "b"):
        ended(tmp_path, name, store=url_of("s.db"))
    for store in ("s.db", "sqlite:///s.db", url_of("s.db")):
        assert find(store, kind="cli", folder=tmp_path)["run"] == "b"
    assert find("sqlite:///s.db", kind="batch", folder=tmp_path) is None
    assert find("sqlite:///other.db", kind="cli", folder=tmp_path) is None


def test_a_control_room_is_recorded_unless_its_store_is_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("ETL_RUNS", str(tmp_path))
    for url in ("sqlite://", str(tmp_path / "store.db")):
        queue = open_queue(url)
        with recorded_use(queue, new_run_id(), kind="room"):
            pass
        queue.close()
    (row,) = run_rows(tmp_path)
    assert (row["kind"], row["state"], row["accepted"]) == ("room", "finished", 0)


def test_an_old_run_is_removed_and_a_young_one_stays(tmp_path):
    old = ended(tmp_path, "old")
    store(old, "fine")
    (old / "out").mkdir()
    (old / "out" / "rows.parquet").write_bytes(b"x" * 1000)
    with recorded("young", folder=tmp_path):
        pass
    (decision,) = prune(30 * DAY, folder=tmp_path, dry_run=True)
    assert decision.size > 1000
    assert decision.status == "would be removed"
    assert (old / "out" / "rows.parquet").exists()
    assert prune(30 * DAY, folder=tmp_path) == [replace(decision, status="removed")]
    assert names(tmp_path) == ["young"]


@pytest.mark.parametrize(
    ("lines", "work", "why"),
    [(["fine"], False, "1 lines still wait"), (["poison"], True, "1 dead letters are open")],
)
def test_lines_that_someone_wants_are_kept_unless_forced(tmp_path, lines, work, why):
    old = ended(tmp_path, "old")
    store(old, *lines, work=work)
    (decision,) = prune(DAY, folder=tmp_path)
    assert decision.status == "kept"
    assert why in decision.reason
    assert (old / "store.db").exists()
    assert prune(DAY, folder=tmp_path, force=True)[0].status == "removed"
    assert not old.exists()


def test_a_run_that_has_not_ended_is_never_removed(tmp_path):
    with recorded("a", folder=tmp_path):
        amend("a", folder=tmp_path, started_at=0.0)
        assert prune(0, folder=tmp_path, force=True)[0].reason == "it is running"
        amend("a", folder=tmp_path, host="elsewhere")
        assert prune(0, folder=tmp_path, force=True)[0].reason == "it is running"
    assert (tmp_path / "a").exists()


def test_a_folder_in_which_another_run_or_a_worker_works_is_kept(tmp_path):
    old = ended(tmp_path, "old")
    store(old, "fine")
    with recorded("other", folder=tmp_path, store=f"sqlite:///{old / 'store.db'}"):
        assert "another run works in it" in prune(DAY, folder=tmp_path, force=True)[0].reason
    queue = open_queue(str(old / "store.db"))
    queue.register("someone")
    assert "1 workers run" in prune(DAY, folder=tmp_path, force=True)[0].reason
    queue.unregister("someone")
    queue.close()
    assert prune(DAY, folder=tmp_path)[0].status == "removed"


def test_only_folders_of_runs_are_removed_and_links_are_not_followed(tmp_path):
    folder, outside = tmp_path / "runs", tmp_path / "outside"
    precious = ended(outside, "precious")
    (outside / "file").write_text("precious")
    old = ended(folder, "old")
    (old / "link").symlink_to(outside)
    (folder / "linked").symlink_to(precious)
    (folder / "mine").mkdir()
    (folder / "mine" / "notes").write_text("no run's")
    assert [one.run for one in prune(DAY, folder=folder)] == ["old"]
    assert names(folder) == ["linked", "mine"]
    assert (outside / "file").exists()
    assert (precious / "run.json").exists()


def test_ages_are_read():
    assert [age(text) for text in ("30d", "12h", "1.5m", "4w")] == [30 * DAY, 43200, 90, 28 * DAY]
    with pytest.raises(UsageError, match="'a month' is no age"):
        age("a month")
