"""Dead letters: all that is needed to understand, fix and replay a line; none is lost by it."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time

import pandas as pd
import polars as pl
import pytest

from etl import (
    Batch,
    DeadLetters,
    Parse,
    Pipeline,
    Queue,
    Retry,
    Worker,
    each,
    normalise,
    open_queue,
    reject,
)
from etl.dlq.dead_letters import DryRun
from etl.errors import StoreFull, UsageError
from etl.execution.records import batch_of
from etl.queue import DeadLetterFilter
from etl.queue.sqlite import SqliteQueue
from etl.records.result import DEAD_LETTER_SCHEMA, BatchResult, FailureKind
from etl.sources.ingest import ingest
from etl.sources.resolve import resolve_sources
from etl.testing.cases import case_of

INTEGERS = ["id", "line_number", "lines", "attempts", "replays"]
TEXTS = ["status", "source", "line", "processor", "code", "error", "message", "traceback"]
TEXTS += ["version", "run", "fingerprint", "batch"]
TIMES = ["first_failed_at", "last_failed_at"]
IMG = "<img src=x onerror=alert(1)>"


def halve(row):
    return {**row, "half": int(row["line"]) // 2}


def half_or_none(row):
    return {**row, "half": int(row["line"]) // 2 if row["line"].isdigit() else None}


def numbers(function=halve) -> Pipeline:
    """Make a pipeline in which lines that are not numbers fail, unless it has been fixed."""
    return Pipeline("numbers").add("start", None).add("halve", each(function))


def work(queue: Queue, pipeline: Pipeline | None = None) -> int:
    return Worker(queue, pipeline or numbers(), name="w", run="run 1").drain()


def fail(queue: Queue, *lines: str | bytes, source: str = "app.log") -> DeadLetters:
    """Put lines through the pipeline, and return the dead letters they leave."""
    queue.put(Batch.from_lines(lines, source=source))
    work(queue)
    return DeadLetters(queue)


def counts(queue: Queue) -> tuple[int, int, int]:
    """Return how many lines are done, dead and waiting, once they are known to add up."""
    stats = queue.stats()
    assert stats.conserved
    return stats.done, stats.dead, stats.waiting


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


# Looking


def test_a_dead_letter_shows_all_about_its_failure(store, clock):
    queue = store()
    dead_letters = fail(queue, "8", "x y", "4")
    row = dead_letters.frame().iloc[0].to_dict()
    assert (row["line"], row["line_number"], row["source"], row["lines"]) == (
        "x y",
        2,
        "app.log",
        1,
    )
    assert (row["processor"], row["code"], row["error"]) == ("halve", "error", "ValueError")
    assert row["message"] == "invalid literal for int() with base 10: 'x y'"
    assert "in halve" in row["traceback"]
    assert (row["status"], row["attempts"], row["replays"], row["run"]) == ("open", 1, 0, "run 1")
    assert row["path"] == ("start", "halve")
    assert row["version"] == numbers().version
    assert (
        row["first_failed_at"]
        == row["last_failed_at"]
        == pd.Timestamp(clock.now, unit="s", tz="UTC")
    )
    assert len(dead_letters) == 1


def test_many_of_one_batch_are_kept_in_their_order_and_whole(queue):
    lines = [f"order {number}" for number in range(250)]
    queue.put(Batch.from_lines(lines, source="app.log"))
    refuse = Pipeline("refuse").add(
        "refuse", lambda frame: reject(frame, pl.lit(value=True), "poison", "bad")
    )
    work(queue, refuse)
    found = DeadLetters(queue).frame(limit=1000)
    assert found["line"].tolist() == lines
    assert found["line_number"].tolist() == list(range(1, 251))
    assert found["source"].unique().tolist() == ["app.log"]
    assert queue.check().whole


def test_the_frame_has_the_documented_columns(queue):
    frame = fail(queue, "x").frame()
    order = ["id", "status", "source", "line_number", "lines", "line", "raw", "format", "payload"]
    order += ["processor", "code", "error", "message", "traceback", "attempts", "replays"]
    order += ["first_failed_at", "last_failed_at", "path", "version", "run", "fingerprint", "batch"]
    order += ["context", "damaged"]
    assert frame.columns.to_list() == order
    assert {name: kinds(frame)[name] for name in INTEGERS} == dict.fromkeys(INTEGERS, "int64")
    assert {name: kinds(frame)[name] for name in TEXTS} == dict.fromkeys(TEXTS, "str")
    assert all(isinstance(frame[name].dtype, pd.DatetimeTZDtype) for name in TIMES)
    assert all(str(frame[name].dt.tz) == "UTC" for name in TIMES)


def test_a_frame_without_dead_letters_has_the_same_columns_and_dtypes(queue):
    empty = fail(queue, "1").frame()
    full = fail(queue, "x").frame()
    fixed = [*INTEGERS, *TEXTS, *TIMES]
    assert empty.columns.to_list() == full.columns.to_list()
    assert empty.empty
    assert {name: kinds(empty)[name] for name in fixed} == {
        name: kinds(full)[name] for name in fixed
    }


def test_the_payload_holds_the_fields_at_failure(queue):
    pipeline = Pipeline("p").add("add", lambda frame: frame.with_columns(level=pl.lit("INFO")))
    pipeline.add("no", lambda frame: reject(frame, pl.lit(value=True), "never", "not today"))
    queue.put(Batch.from_lines(["a"]))
    work(queue, pipeline)
    row = DeadLetters(queue).frame().iloc[0]
    assert row["payload"] == {"level": "INFO"}
    assert (row["code"], row["message"], row["processor"]) == ("never", "not today", "no")


def test_dead_letters_are_picked_by_what_they_have_in_common(queue):
    dead_letters = fail(queue, "x", "y", source="a")
    fail(queue, "z", source="b")
    assert dead_letters.frame(source="b")["line"].to_list() == ["z"]
    assert dead_letters.frame(ids=[1, 3])["line"].to_list() == ["x", "z"]
    assert dead_letters.frame(limit=2)["line"].to_list() == ["y", "z"]
    assert dead_letters.frame(processor="halve", code="error")["id"].to_list() == [1, 2, 3]
    assert dead_letters.frame(processor="start").empty
    dead_letters.discard(ids=[1])
    assert dead_letters.frame()["id"].to_list() == [2, 3]
    assert dead_letters.frame(status=None)["status"].to_list() == ["discarded", "open", "open"]
    assert dead_letters.frame(status="discarded")["id"].to_list() == [1]


def test_an_unknown_way_to_pick_is_named(queue):
    with pytest.raises(
        UsageError, match="cannot be picked by colour; use ids, status, fingerprint"
    ):
        DeadLetters(queue).frame(colour="red")


def test_groups_put_the_most_frequent_failure_first(store, clock):
    queue = store()
    pipeline = numbers().add("small", lambda f: reject(f, pl.col("half") > 9, "big", "too big"))
    queue.put(Batch.from_lines(["100", "x", "y"]))
    work(queue, pipeline)
    clock.tick(60)
    queue.put(Batch.from_lines(["z"]))
    work(queue, pipeline)
    groups = DeadLetters(queue).groups()
    assert groups["lines"].to_list() == [3, 1]
    assert groups["error"].to_list() == ["ValueError", ""]
    assert groups["code"].to_list() == ["error", "big"]
    assert groups["sample"].to_list() == ["z", "100"]
    first = groups.iloc[0]
    assert first["last_failed_at"] - first["first_failed_at"] == pd.Timedelta(seconds=60)
    assert groups["fingerprint"].is_unique


def test_one_failure_by_two_versions_of_a_pipeline_is_one_group(queue):
    dead_letters = fail(queue, "x")
    queue.put(Batch.from_lines(["y"], source="app.log"))
    work(queue, numbers().add("more", None))
    assert dead_letters.frame()["version"].nunique() == 2
    assert dead_letters.groups()["lines"].to_list() == [2]


def test_lines_of_several_logs_that_break_a_format_are_a_group_each(queue):
    pipeline = Pipeline("p").add("parse", Parse("json"))
    logs = {
        "python.log": "2026-11-21 10:00:0{},000 INFO app: line {}",
        "nginx.log": '127.0.0.{} - - [21/Nov/2026:10:00:00 +0000] "GET /{} HTTP/1.1" 200 1',
        "syslog": "Nov 21 10:00:0{} host cron[{}]: run",
        "redis.log": "12{}:M 21 Nov 2026 10:00:00.000 * DB saved {}",
    }
    lines = {name: [text.format(n, 90 + n) for n in range(9)] for name, text in logs.items()}
    for name, some in lines.items():
        queue.put(Batch.from_lines(some, source=name))
    queue.put(Batch.from_lines([line for some in lines.values() for line in some], source="all"))
    work(queue, pipeline)
    groups = DeadLetters(queue).groups()
    assert groups["lines"].to_list() == [9] * 8
    assert sorted(groups["source"]) == sorted([*logs, *["all"] * 4])


def test_failures_of_messages_that_say_other_things_are_groups_of_their_own(queue):
    lines = [f"2026-11-21 10:00:00,000 INFO app: {what} {n}" for what in "ab" for n in range(3)]
    queue.put(Batch.from_lines(lines))
    pipeline = Pipeline("p").add("parse", Parse()).add("normal", normalise)
    pipeline.add("no", lambda frame: reject(frame, pl.lit(value=True), "no", "it is refused"))
    work(queue, pipeline)
    assert DeadLetters(queue).groups()["lines"].to_list() == [3, 3]


def test_groups_have_the_same_columns_and_dtypes_when_there_are_none(queue):
    empty = DeadLetters(queue).groups()
    full = fail(queue, "x").groups()
    columns = ["fingerprint", "source", "processor", "code", "error", "message", "sample", "lines"]
    assert full.columns.to_list() == [*columns, "replays", *TIMES]
    assert [kinds(full)[name] for name in ("lines", "replays")] == ["int64", "int64"]
    assert kinds(empty) == kinds(full)


def test_text_from_logs_does_nothing_in_a_notebook(queue):
    queue.put(Batch.from_lines([IMG]))
    pipeline = Pipeline("p").add(IMG, lambda f: reject(f, pl.lit(value=True), IMG, pl.col("line")))
    work(queue, pipeline)
    html = DeadLetters(queue)._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") == 4
    assert "1 dead lines" in html


# Trying and replaying


def test_a_dry_run_does_not_wait_between_attempts(queue, monkeypatch):
    dead_letters = fail(queue, "x")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    pipeline = Pipeline().add("bad", each(lambda _row: 1 / 0), retry=Retry(attempts=5, wait=60))
    said = "0 of 1 now pass; 1 does not: division by zero"
    assert str(dead_letters.dry_run(pipeline)) == said
    assert waits == []


def test_a_dry_run_returns_what_would_pass_and_changes_nothing(queue, contents):
    dead_letters = fail(queue, "x", "y y")
    before = contents(queue)

    def fixed(row):
        return halve({**row, "line": row["line"].replace("x", "10")})

    result = dead_letters.dry_run(numbers(fixed))
    assert (list(result.would_pass), list(result.would_fail)) == ([1], [2])
    assert str(result).startswith("1 of 2 now pass; 1 does not: invalid literal")
    assert list(dead_letters.dry_run(numbers(), ids=[2]).would_fail) == [2]
    several = DryRun([], range(9), dict(enumerate("aaabbcde")))
    assert str(several) == (
        "0 of 9 now pass; 3 do not: a; 2 do not: b; 1 does not: c; 2 do not, for other reasons"
    )
    assert contents(queue) == before


def test_a_replayed_dead_letter_waits_like_any_line_and_is_closed_when_it_passes(queue, audit):
    dead_letters = fail(queue, "1", "x", "y")
    assert counts(queue) == (1, 2, 0)
    assert dead_letters.replay() == 2
    assert counts(queue) == (1, 0, 2)
    assert dead_letters.frame(status="replaying")["line"].to_list() == ["x", "y"]
    audit(queue)
    work(queue, numbers(half_or_none))
    assert counts(queue) == (3, 0, 0)
    assert dead_letters.frame(status=None)["status"].to_list() == ["replayed", "replayed"]
    assert queue.stats().accepted == 3


def test_a_replayed_line_keeps_its_source_number_and_format(queue):
    queue.put(Batch.from_lines(["1", "x", "2", "y"], source="app.log", format="json"))
    work(queue)
    DeadLetters(queue).replay()
    batch = batch_of(queue.lease("w"))
    frame = batch.frame()
    assert frame["line_number"].to_list() == [2, 4]
    assert frame["source"].unique().to_list() == ["app.log"]
    assert (batch.format, batch.source, batch.lines) == ("json", "app.log", 2)


def test_dead_letters_of_several_sources_are_replayed_apart(queue):
    fail(queue, "x", source="a")
    dead_letters = fail(queue, "y", source="b")
    assert dead_letters.replay() == 2
    assert queue.stats().waiting_batches == 2
    assert queue.peek().select("source", "line").rows() == [("a", "x"), ("b", "y")]


def test_a_replay_takes_just_the_dead_letters_it_is_given(queue):
    dead_letters = fail(queue, "x", "y", "z")
    assert dead_letters.replay(ids=[2]) == 1
    assert dead_letters.frame()["id"].to_list() == [1, 3]
    fingerprint = dead_letters.groups().loc[0, "fingerprint"]
    assert dead_letters.replay(fingerprint="unknown") == 0
    assert dead_letters.replay(fingerprint=fingerprint) == 2
    assert counts(queue) == (0, 0, 3)


def test_an_edited_line_is_replayed_as_edited(queue):
    dead_letters = fail(queue, "x", "y", "z")
    edited = dead_letters.frame(ids=[1, 2])
    edited.loc[edited["id"] == 1, "line"] = "42"
    assert dead_letters.replay(edited=edited) == 2
    assert queue.peek()["line"].to_list() == ["42", "y"]
    work(queue)
    assert counts(queue) == (1, 2, 0)
    assert dead_letters.frame()["line"].to_list() == ["y", "z"]
    assert dead_letters.frame(status="replayed")["line"].to_list() == ["x"], "the original is kept"


def test_original_bytes_are_replayed_unless_the_line_was_edited(queue):
    dead_letters = fail(queue, b"caf\xe9", b"th\xe9", b"plain")
    assert dead_letters.frame()["raw"].to_list()[:2] == [b"caf\xe9", b"th\xe9"]
    edited = dead_letters.frame()
    edited.loc[0, "line"] = "coffee"
    dead_letters.replay(edited=edited)
    frame = batch_of(queue.lease("w")).frame()
    assert frame["line"].to_list() == ["coffee", "th\\xe9", "plain"]
    assert frame["raw"].to_list() == [None, b"th\xe9", None]


def test_an_edit_with_a_line_break_is_still_one_record_of_one_source_line(queue):
    dead_letters = fail(queue, "x", "y")
    edited = dead_letters.frame()
    edited.loc[1, "line"] = "1\n2"
    assert dead_letters.replay(edited=edited) == 2
    assert queue.stats().conserved
    frame = batch_of(queue.lease("w")).frame()
    assert frame["line"].to_list() == ["x", "1\n2"]
    assert frame["line_count"].to_list() == [1, 1]


@pytest.mark.parametrize("taken", ["replay", "discard"])
def test_an_edited_replay_is_all_or_nothing(queue, contents, taken):
    dead_letters = fail(queue, "x", "y")
    edited = dead_letters.frame()
    getattr(dead_letters, taken)(ids=[2])
    before = contents(queue)
    with pytest.raises(
        UsageError,
        match=r"1 of 2 .* are not open; nothing was changed: \d+ is (not there|discarded|rep)",
    ):
        dead_letters.replay(edited=edited)
    assert contents(queue) == before


@pytest.mark.parametrize("verb", ["replay", "discard"])
def test_dead_letters_named_by_id_are_taken_all_or_none(queue, contents, verb):
    dead_letters = fail(queue, "x", "y")
    dead_letters.discard(ids=[2])
    before = contents(queue)
    with pytest.raises(UsageError, match="1 of 2 dead letters are not open"):
        getattr(dead_letters, verb)(ids=[1, 2])
    assert contents(queue) == before


def test_a_dead_letter_taken_by_another_in_between_stops_the_whole_replay(queue, contents):
    fail(queue, "x", "y")
    queue.discard([2])
    before = contents(queue)
    with pytest.raises(UsageError, match="are not open; nothing"):
        queue.replay([1, 2], [Batch.from_lines(["x", "y"])])
    with pytest.raises(UsageError, match="are not open; nothing"):
        queue.discard([1, 2])
    assert contents(queue) == before


@pytest.mark.parametrize("queue", ["file", "memory"], indirect=True)
def test_a_replay_without_room_on_the_disk_changes_nothing(queue, contents):
    dead_letters = fail(queue, *(f"{number:x}-{number**300:x}" for number in range(7, 300)))
    before = contents(queue)
    pages = queue._database._writer.execute("PRAGMA page_count").fetchone()[0]
    queue._database._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull):
        dead_letters.replay()
    assert contents(queue) == before
    queue._database._writer.execute("PRAGMA max_page_count = 1000000")
    assert dead_letters.replay() == 293


# Failing again, and giving up


def test_a_dead_letter_that_fails_again_is_open_again_with_its_history(store, clock, audit):
    queue = store()
    dead_letters = fail(queue, "x")
    first = dead_letters.frame().iloc[0]
    clock.tick(100)
    dead_letters.replay()
    work(queue, numbers().add("more", None))
    row = dead_letters.frame().iloc[0]
    assert (row["id"], row["status"], row["line"]) == (first["id"], "open", "x")
    assert (row["attempts"], row["replays"]) == (2, 1)
    assert row["first_failed_at"] == first["first_failed_at"]
    assert row["last_failed_at"] - first["last_failed_at"] == pd.Timedelta(seconds=100)
    assert row["version"] != first["version"]
    assert counts(queue) == (0, 1, 0)
    audit(queue)


def test_a_dead_letter_that_failed_three_times_more_is_only_replayed_by_force(queue, contents):
    dead_letters = fail(queue, "x")
    for _ in range(3):
        assert dead_letters.replay() == 1
        work(queue)
    fail(queue, "y")
    before = contents(queue)
    with pytest.raises(UsageError, match="1 of 2 dead letters failed again after 3 replays; fix"):
        dead_letters.replay()
    assert contents(queue) == before
    assert dead_letters.groups()["replays"].to_list() == [3]
    assert dead_letters.replay(force=True) == 2
    work(queue)
    assert dead_letters.frame()["replays"].to_list() == [4, 1]


def test_a_replay_whose_worker_never_came_back_is_not_lost(store, clock):
    queue = store()
    dead_letters = fail(queue, "x")
    dead_letters.replay()
    queue.lease("killed", seconds=5)
    clock.tick(6)
    work(queue)
    assert dead_letters.frame()["replays"].to_list() == [1]
    assert counts(queue) == (0, 1, 0)


def test_a_replayed_line_that_is_filtered_is_closed(queue):
    dead_letters = fail(queue, "x")
    dead_letters.replay()
    work(queue, Pipeline("p").add("none", lambda frame: frame.clear()))
    assert dead_letters.frame(status=None)["status"].to_list() == ["replayed"]
    assert queue.stats().filtered == 1


def test_discarded_dead_letters_are_closed_and_still_count_as_dead(queue, audit):
    dead_letters = fail(queue, "1", "x", "y")
    assert dead_letters.discard(ids=[1]) == 1
    assert dead_letters.frame()["line"].to_list() == ["y"]
    assert counts(queue) == (1, 2, 0)
    audit(queue)
    assert dead_letters.discard() == 1
    assert dead_letters.discard() == 0
    assert dead_letters.replay() == 0
    assert counts(queue) == (1, 2, 0)
    assert len(dead_letters) == 0


def test_discarded_dead_letters_are_open_again_once_they_are_reopened(queue, audit):
    dead_letters = fail(queue, "1", "x", "y", "z")
    before = dead_letters.frame()
    dead_letters.discard(ids=[1, 2])
    assert dead_letters.reopen(ids=[2]) == 1
    assert dead_letters.frame(status="discarded")["id"].to_list() == [1]
    assert counts(queue) == (1, 3, 0)
    audit(queue)
    assert dead_letters.reopen() == 1
    assert dead_letters.reopen() == 0
    pd.testing.assert_frame_equal(dead_letters.frame(), before)
    assert dead_letters.replay() == 3
    assert counts(queue) == (1, 0, 3)
    audit(queue)


def test_a_reopened_dead_letter_is_not_deleted_as_too_old(store, clock):
    queue = store()
    dead_letters = fail(queue, "x", "y")
    dead_letters.discard()
    clock.tick(10)
    dead_letters.reopen(ids=[1])
    assert queue.prune(older_than=5.0)["closed dead letters"] == 1
    assert dead_letters.frame(status=None)["id"].to_list() == [1]
    with pytest.raises(UsageError, match="1 of 1 dead letters are not discarded; nothing was"):
        dead_letters.reopen(ids=[2])


@pytest.mark.parametrize("taken", ["open", "replaying"])
def test_only_what_was_discarded_is_reopened_all_or_none(queue, contents, taken):
    dead_letters = fail(queue, "x", "y")
    dead_letters.discard(ids=[1])
    if taken == "replaying":
        dead_letters.replay(ids=[2])
    before = contents(queue)
    for reopen in (dead_letters.reopen, dead_letters._queue.reopen):
        with pytest.raises(UsageError, match="1 of 2 dead letters are not discarded; nothing was"):
            reopen(ids=[1, 2])
    with pytest.raises(UsageError, match="are not discarded; nothing was"):
        dead_letters.reopen(status=None)
    assert contents(queue) == before


def test_a_range_of_lines_is_reopened_with_all_of_them(queue):
    failure = FailureKind("f", "input", "source_changed", "", "", ("input",))
    given = {"failure": 0, "line": "bytes 0 to 9", "line_number": 1, "lines": 5, "message": "gone"}
    row = {name: given.get(name) for name in DEAD_LETTER_SCHEMA} | {"attempts": 1}
    queue.put(Batch.from_lines(list("abcde")))
    table = pl.DataFrame([row], schema=DEAD_LETTER_SCHEMA)
    queue.commit(queue.lease("w"), BatchResult(dead=5, dead_letters=table, failures=[failure]))
    dead_letters = DeadLetters(queue)
    assert (dead_letters.discard(), len(dead_letters)) == (1, 0)
    assert (dead_letters.reopen(), len(dead_letters)) == (5, 5)
    assert counts(queue) == (0, 5, 0)


@pytest.mark.parametrize("lines", [5, 1])
def test_lines_of_a_changed_file_are_not_replayed_or_taken_elsewhere(queue, tmp_path, lines):
    failure = FailureKind("f", "input", "source_changed", "", "", ("input",))
    given = {
        "failure": 0,
        "line": "bytes 0 to 9",
        "line_number": 1,
        "lines": lines,
        "message": "changed",
    }
    row = {name: given.get(name) for name in DEAD_LETTER_SCHEMA} | {"attempts": 1}
    queue.put(Batch.from_lines(list("abcde"[:lines])))
    lease = queue.lease("w")
    table = pl.DataFrame([row], schema=DEAD_LETTER_SCHEMA)
    queue.commit(lease, BatchResult(dead=lines, dead_letters=table, failures=[failure]))
    dead_letters = DeadLetters(queue)
    why = f"stands for {lines} lines of 'memory' that could not be read: changed"
    with pytest.raises(UsageError, match=why):
        dead_letters.replay()
    assert (
        dead_letters.dry_run(Pipeline().add("same", None)).would_fail
        == dead_letters.frame()["id"].tolist()
    )
    dead_letters.export(tmp_path / "a.jsonl")
    with contextlib.closing(open_queue("sqlite://")) as other:
        assert DeadLetters(other).import_(tmp_path / "a.jsonl") == 0
    with pytest.raises(UsageError, match=f"stands for {lines} lines that could not be read"):
        case_of(dead_letters.frame().iloc[0])
    assert (len(dead_letters), dead_letters.discard()) == (lines, 1)
    assert counts(queue) == (0, lines, 0)


# Beside running workers, and many


@pytest.mark.parametrize("status", ["open", None])
@pytest.mark.parametrize("limit", [2, None])
def test_a_page_by_source_or_kind_is_what_a_look_at_all_of_them_finds(store, clock, status, limit):
    queue = store()
    for source in ("a", "b", "a", "c"):
        fail(queue, "x y", "z z z", "7", source=source)
    DeadLetters(queue).discard(ids=[2, 5])
    every = queue.dead_letters(DeadLetterFilter(status=status))
    fingerprints = every["fingerprint"].unique().to_list()
    picked = [{"source": one} for one in ("a", "b", "none")]
    picked += [{"fingerprint": one} for one in fingerprints]
    picked += [{"processor": "halve", "source": "a"}, {"code": "error"}, {"code": "other"}]
    for which, before in itertools.product(picked, (None, 6)):
        found = queue.dead_letters(
            DeadLetterFilter(status=status, limit=limit, before=before, **which)
        )
        wanted = every.filter(**which)
        if before is not None:
            wanted = wanted.filter(pl.col("id") < before)
        assert found.equals(wanted if limit is None else wanted.tail(limit)), which
        after = queue.dead_letters(
            DeadLetterFilter(status=status, limit=limit, before=before, skip=1, **which)
        )
        later = wanted.head(max(0, wanted.height - 1))
        assert after.equals(later if limit is None else later.tail(limit)), which
        groups = queue.dead_letter_groups(DeadLetterFilter(status=status, **which))
        assert sum(group["lines"] for group in groups) == every.filter(**which).height


def test_dead_letters_of_a_kind_that_several_sources_had_are_found_by_source(store, clock):
    queue = store()
    for source in ("a", "b"):
        fail(queue, "x", source=source)
    with queue._database.write() as db:  # as an earlier version kept it
        db.connection.execute("UPDATE dead_letters SET failure = 1")
        db.connection.execute("UPDATE failures SET source = NULL WHERE id = 1")
    for limit in (5, None):
        found = queue.dead_letters(DeadLetterFilter(source="b", limit=limit))
        assert found["source"].to_list() == ["b"]
    assert [one["lines"] for one in queue.dead_letter_groups(DeadLetterFilter(source="b"))] == [1]


@pytest.mark.parametrize("verb", ["replay", "discard", "export"])
def test_however_many_there_are_a_page_of_them_is_in_memory(queue, tmp_path, monkeypatch, verb):
    monkeypatch.setattr("etl.dlq.dead_letters.PAGE", 10)
    dead_letters = fail(queue, *(f"x{number}" for number in range(35)))
    read = queue.dead_letters
    heights = []

    def counted(wanted):
        found = read(wanted)
        heights.append(found.height)
        return found

    monkeypatch.setattr(queue, "dead_letters", counted)
    given = [tmp_path / "bad.jsonl"] if verb == "export" else []
    assert getattr(dead_letters, verb)(*given) == 35
    assert max(heights) == 10


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_an_export_of_several_pages_begins_with_the_oldest(queue, tmp_path, monkeypatch, ending):
    monkeypatch.setattr("etl.dlq.dead_letters.PAGE", 10)
    dead_letters = fail(queue, *(f"x{number}" for number in range(35)))
    path = tmp_path / "to" / f"bad*[1].{ending}"
    path.parent.mkdir()
    assert dead_letters.export(path) == 35
    read = pl.read_ndjson if ending == "jsonl" else pl.read_parquet
    found = read(path.read_bytes())
    assert found["line"].to_list() == [f"x{number}" for number in range(35)]
    assert list(path.parent.iterdir()) == [path], "no part is left"


def test_dead_letters_are_replayed_while_a_worker_runs(queue, audit):
    def settled(dead: int) -> None:
        since = queue.version()
        while (stats := queue.stats()) and not (stats.idle and stats.dead == dead):
            assert queue.wait(since, 20)
            since = queue.version()

    pipeline = numbers()
    worker = Worker(queue, pipeline, name="thread").start()
    queue.put(*(Batch.from_lines([f"{n}", f"x{n}"]) for n in range(20)))
    dead_letters = DeadLetters(queue)
    settled(20)
    pipeline.add("halve", each(half_or_none))
    assert dead_letters.discard(ids=dead_letters.frame(limit=5)["id"]) == 5
    assert dead_letters.replay() == 15
    settled(5)
    worker.stop()
    assert counts(queue) == (35, 5, 0)
    audit(queue)


def test_two_who_replay_at_once_replay_each_dead_letter_once(queue, audit):
    dead_letters = fail(queue, *(f"x{n}" for n in range(50)))
    gate = threading.Barrier(2)
    replayed = []

    def replay() -> None:
        gate.wait(10)
        try:
            replayed.append(dead_letters.replay())
        except UsageError:
            replayed.append(0)

    threads = [threading.Thread(target=replay) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replayed) == [0, 50]
    assert counts(queue) == (0, 0, 50)
    audit(queue)


def test_fifty_thousand_dead_letters_are_looked_at_and_replayed(tmp_path, audit):
    many = 50_000
    queue = SqliteQueue(tmp_path / "many.db")
    queue.put(Batch(lines=many, payload=b"x\n" * many, source="big"))
    lease = queue.lease("w")
    given = {"failure": 0, "lines": 1, "message": "no", "attempts": 1}
    frame = batch_of(lease).frame()
    columns = {
        name: name if name in frame.columns else pl.lit(given.get(name))
        for name in DEAD_LETTER_SCHEMA
    }
    failure = FailureKind("f", "parse", "bad", "ValueError", "", ("parse",))
    table = frame.select(**columns).cast(DEAD_LETTER_SCHEMA)
    queue.commit(lease, BatchResult(dead=many, dead_letters=table, failures=[failure]))
    dead_letters = DeadLetters(queue)
    assert dead_letters.groups()["lines"].to_list() == [many]
    assert dead_letters.frame(limit=1000)["line_number"].to_list() == list(
        range(many - 999, many + 1)
    )
    assert dead_letters.replay() == many
    assert counts(queue) == (0, 0, many)
    audit(queue)
    queue.close()


# To a colleague and back


@pytest.fixture
def theirs(queue):
    """Give another store, to import into."""
    other = open_queue("sqlite://")
    yield other
    assert other.stats().conserved
    other.close()


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_dead_letters_go_to_another_store_as_they_were(queue, theirs, tmp_path, ending):
    lines = ["a", b"b\xff", "=cmd|' /C calc'!A0", IMG, "tab\there", "u\u2028v \U0001f600"]
    dead_letters = fail(queue, *lines, source="app.log")
    fail(queue, "x", source="other.log")
    queue.put(Batch.from_lines(["y"] * 200, source="app.log", format="json"))
    work(queue)
    path = tmp_path / f"bad.{ending}"
    assert dead_letters.export(path) == 207
    assert counts(queue) == (0, 207, 0)
    assert DeadLetters(theirs).import_(path) == 207
    assert counts(theirs) == (0, 0, 207)

    work(theirs)
    same = ["source", "line_number", "line", "raw", "format", "processor", "message"]
    before, after = (DeadLetters(one).frame()[same] for one in (queue, theirs))
    order = ["source", "line_number", "line"]
    pd.testing.assert_frame_equal(
        before.sort_values(order, ignore_index=True), after.sort_values(order, ignore_index=True)
    )


def test_the_same_dead_letters_are_imported_once_whatever_their_file_is(queue, theirs, tmp_path):
    dead_letters = fail(queue, "a", b"\xff", "c")
    dead_letters.export(tmp_path / "all.jsonl")
    dead_letters.export(tmp_path / "again.parquet")
    dead_letters.export(tmp_path / "one.jsonl", limit=1)
    imported = DeadLetters(theirs)

    assert imported.import_(tmp_path / "all.jsonl") == 3
    assert imported.import_(tmp_path / "all.jsonl") == 0
    work(theirs)
    assert imported.import_(tmp_path / "again.parquet") == 0
    assert imported.import_(tmp_path / "one.jsonl") == 1


def test_two_who_import_at_once_import_each_dead_letter_once(queue, theirs, tmp_path):
    fail(queue, *"abc").export(tmp_path / "bad.jsonl")
    gate = threading.Barrier(2)
    imported = []

    def import_() -> None:
        gate.wait(10)
        imported.append(DeadLetters(theirs).import_(tmp_path / "bad.jsonl"))

    threads = [threading.Thread(target=import_) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(imported) == [0, 3]


def test_an_imported_line_that_passes_there_is_done_there_and_stays_dead_here(
    queue, theirs, tmp_path
):
    fail(queue, "a", "b").export(tmp_path / "bad.jsonl", limit=1)
    DeadLetters(theirs).import_(tmp_path / "bad.jsonl")
    work(theirs, numbers(half_or_none))

    assert counts(theirs) == (1, 0, 0)
    assert counts(queue) == (0, 2, 0)
    assert DeadLetters(queue).frame()["status"].to_list() == ["open", "open"]


def test_a_range_without_lines_is_exported_to_look_at_and_not_imported(queue, theirs, tmp_path):
    log = tmp_path / "app.log"
    log.write_bytes(b"1\n2\n")
    for source in resolve_sources([str(log)]):
        list(ingest(queue, source))
    log.write_bytes(b"3\n4\n")
    work(queue)

    assert DeadLetters(queue).export(tmp_path / "bad.jsonl") == 1
    assert DeadLetters(theirs).import_(tmp_path / "bad.jsonl") == 0


ROW = {"source": "s", "line_number": 1, "lines": 1, "line": "x", "raw": None, "format": None}
ROW |= {"processor": "parse", "code": "no_format"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("no json", "Expecting value"),
        ("[]", "row 2 has no 'source'"),
        ({name.replace("or", "ro"): one for name, one in ROW.items()}, "did you mean 'fromat'"),
        (ROW | {"line": None}, "row 2: line must be str, got None"),
        (ROW | {"line_number": "1"}, "row 2: line_number must be int, got '1'"),
        (ROW | {"lines": 0}, "row 2: lines must be at least 1, got 0"),
        (ROW | {"context": "[]"}, "argument after \\*\\* must be a mapping"),
        (ROW | {"line": "\ud800"}, "surrogates not allowed"),
        (ROW | {"raw": "!"}, "base64"),
        (ROW | {"line_number": 1 << 70}, "Int64"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_whole(queue, tmp_path, row, said):
    text = row if isinstance(row, str) else json.dumps(row)
    (tmp_path / "bad.jsonl").write_text(json.dumps(ROW) + "\n" + text + "\n")
    with pytest.raises(UsageError, match=f"holds no exported dead letters: .*({said})"):
        DeadLetters(queue).import_(tmp_path / "bad.jsonl")

    assert counts(queue) == (0, 0, 0)


def test_files_of_other_kinds_are_refused_with_what_to_do(queue, tmp_path):
    dead_letters = fail(queue, "a")
    with pytest.raises(UsageError, match=r"name a .jsonl or a .parquet"):
        dead_letters.export(tmp_path / "bad.csv")
    with pytest.raises(UsageError, match="No such file"):
        dead_letters.import_(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="cannot be written"):
        dead_letters.export(tmp_path / "none" / "bad.jsonl")
    pl.DataFrame({"line": ["a"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="source"):
        dead_letters.import_(tmp_path / "x.parquet")
    pl.DataFrame([ROW | {"source": None}]).write_parquet(tmp_path / "y.parquet")
    with pytest.raises(UsageError, match="row 1: source must be str, got None"):
        dead_letters.import_(tmp_path / "y.parquet")


def test_an_unknown_status_is_refused(queue):
    with pytest.raises(UsageError, match="unknown status 'bogus'; use open, replaying"):
        DeadLetters(queue).frame(status="bogus")


def test_edited_dead_letters_may_be_a_frame_of_polars_and_need_their_columns(queue):
    dead_letters = fail(queue, "a")
    edited = pl.DataFrame({"id": dead_letters.frame()["id"].to_list(), "line": ["b"]})
    with pytest.raises(UsageError, match="need their columns 'id' and 'line'"):
        dead_letters.replay(edited=edited.drop("id"))
    assert dead_letters.replay(edited=edited) == 1
    assert queue.peek()["line"].to_list() == ["b"]


def test_the_failures_of_the_last_minutes_are_counted_by_kind(store, clock):
    queue = store()
    fail(queue, "a")
    clock.tick(180)
    fail(queue, "b", "c")
    [kind] = queue.dead_letter_groups(DeadLetterFilter())
    assert queue.dead_letter_minutes(5) == {kind["fingerprint"]: [0, 1, 0, 0, 2]}
    assert queue.dead_letter_minutes(2) == {kind["fingerprint"]: [0, 2]}
