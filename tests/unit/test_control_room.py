"""Every control of the control room, kernel-side: clicks, and what store and widgets say."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import Batch, Count, DeadLetters, Pipeline, Worker, open_queue, reject
from etl.errors import StoreError, UsageError
from etl.notebook.control_room.control_room import PERIOD, ControlRoom, _all
from etl.notebook.control_room.snapshot import level_of
from etl.notebook.control_room.view import QueueView
from etl.queue import Queue
from etl.queue.sqlite import SqliteQueue

BAD = "<img src=x onerror=alert(1)> CRITICAL"


def find_level(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(level=pl.col("line").str.extract(r"\b([A-Z]{4,8})\b"))


def refuse(frame: pl.DataFrame) -> pl.DataFrame:
    return reject(frame, pl.col("level") == "CRITICAL", "poison", "CRITICAL is poison")


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline("test").add("level", find_level).add("check", refuse)
    return made.add("count", Count("level"))


@pytest.fixture
def room(pipeline: Pipeline, tmp_path: Path) -> Iterator[ControlRoom]:
    (tmp_path / "some.log").write_text("INFO one\nERROR two\n" * 50)
    made = ControlRoom(open_queue("sqlite://"), pipeline, interval=0, out=tmp_path, data=tmp_path)
    yield made
    made.close()


def click(room: ControlRoom, *names: str) -> None:
    for name in names:
        room.buttons[name].click()
    room.settle(idle=False)


def light(room: ControlRoom) -> str:
    return room.header.light.value.split("etl-is-")[1].split("'")[0]


def make_dead(room: ControlRoom, *lines: str) -> None:
    """Put lines and wait until they are processed."""
    room.queue.put(Batch.from_lines(lines, source="test"))
    room.settle()


def until(room: ControlRoom, holds: Callable[[], bool]) -> None:
    """Wait until something holds that a thread of the control room brings about."""
    for _ in range(200):
        room.settle(idle=False)
        if holds():
            return
        threading.Event().wait(0.02)
    pytest.fail("it never came to hold")


def test_the_story_of_the_first_seed(room: ControlRoom):
    click(room, "Pause")
    assert light(room) == "paused"
    click(room, *["INFO", "WARNING"] * 6)
    assert len(room.view._shown) == 12
    assert sum(room.figure.data[0].y) == 0
    click(room, "Resume")
    room.settle()
    assert list(room.figure.data[0].y) == [0, 6, 6, 0, 0]
    click(room, "CRITICAL")
    room.settle()
    assert list(room.figure.data[0].y) == [0, 6, 6, 0, 0]
    assert [row[2:5] for row in room.dead_letters.groups.rows] == [
        ["control room", "check", "poison"]
    ]
    assert light(room) == "idle"


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR", "CRITICAL"])
def test_a_button_makes_a_line_of_its_level(room: ControlRoom, level: str):
    click(room, "Pause", level)

    ((_, shown, text),) = room.view._shown.values()
    assert shown == level
    assert text.startswith(level)


def test_a_step_lets_one_batch_through(room: ControlRoom):
    click(room, "Pause", "INFO", "INFO", "Step")

    until(room, lambda: room.queue.stats().done == 1)
    assert room.queue.stats().waiting == 1


def test_a_drain_ends_the_workers_and_resume_starts_them(room: ControlRoom):
    click(room, "Drain")
    until(room, lambda: light(room) == "absent")
    click(room, "Resume", "INFO")

    assert room.settle().done == 1


def test_a_burst_has_its_size_and_pace(room: ControlRoom):
    room.controls.lines.value = 120
    room.controls.batch_lines.value = 50
    click(room, "Pause", "Burst")

    until(room, lambda: room.queue.stats().waiting == 120)
    assert room.queue.stats().waiting_batches == 3


def test_many_lines_are_counted_beyond_the_icons(room: ControlRoom):
    room.controls.lines.value = 700
    click(room, "Pause", "Burst")

    until(room, lambda: room.view.more == 200)
    assert len(room.view._shown) == 500


def test_a_file_is_fed(room: ControlRoom):
    click(room, "Feed")

    until(room, lambda: "100 lines of some.log fed" in room.header.note.value)
    assert room.settle().done == 100
    assert room.controls.progress.layout.visibility == "hidden"


def test_an_upload_is_fed_and_its_name_is_only_text(room: ControlRoom):
    name = "../<b>.log"
    about = {"name": name, "type": "", "size": 7, "last_modified": datetime.now(tz=UTC)}
    room.controls.upload.value = [about | {"content": b"INFO a\n"}]

    until(room, lambda: "1 lines of" in room.header.note.value)
    assert "<b>" not in room.header.note.value
    assert room.settle().done == 1


def test_pace_and_number_of_workers_can_be_changed(room: ControlRoom):
    room.controls.interval.value, room.controls.workers.value = 0.01, 3
    until(room, lambda: len(room.queue.read("workers")) == 3)
    room.controls.workers.value = 0
    until(room, lambda: light(room) == "absent")

    assert room.thread_workers is not None
    assert room.thread_workers.interval == 0.01


def test_dead_letters_are_tried_and_replayed(room: ControlRoom, pipeline: Pipeline):
    make_dead(room, "CRITICAL a", "CRITICAL b")
    room.dead_letters.groups.chosen = room.dead_letters.groups.rows[0][0]
    click(room, "Dry-run")
    until(room, lambda: "0 of 2 now pass" in room.header.note.value)
    pipeline.add("check", None)
    click(room, "Dry-run")
    until(room, lambda: "2 of 2 now pass" in room.header.note.value)
    click(room, "Replay")
    until(room, lambda: "2 lines wait again" in room.header.note.value)

    assert room.settle().dead == 0
    assert room.dead_letters.groups.rows == []
    assert room.dead_letters.groups.chosen == ""


def test_a_dead_letter_is_edited_and_replayed(room: ControlRoom):
    make_dead(room, "CRITICAL a")
    room.dead_letters.groups.chosen = room.dead_letters.groups.rows[0][0]
    room.settle(idle=False)
    room.dead_letters.lines.chosen = room.dead_letters.lines.rows[0][0]
    room.settle(idle=False)
    assert "level → check" in room.dead_letters.detail.value
    room.dead_letters.edit.value = "INFO a"
    click(room, "Edit and replay")

    assert room.settle().done == 1


def test_dead_letters_are_discarded(room: ControlRoom):
    make_dead(room, "CRITICAL a")
    click(room, "Discard")

    until(room, lambda: len(DeadLetters(room.queue)) == 0)
    assert room.queue.stats().dead == 1


def test_a_trace_is_shown_hop_by_hop_and_lit(room: ControlRoom):
    make_dead(room, "INFO a")
    room.traces.lines.chosen = room.traces.lines.rows[0][0]

    until(room, lambda: "level: &#x27;INFO&#x27;" in room.traces.detail.value)
    assert len([x for x in room.figure.data[8].x if x is not None]) == 6


def test_a_tap_looks_between_processors(room: ControlRoom):
    make_dead(room, "INFO a", "ERROR b", "INFO c")
    room.traces.processor.value, room.traces.where.value = "level", "level = 'INFO'"
    click(room, "Tap")

    until(room, lambda: "INFO c" in room.traces.tapped.value)
    assert "ERROR b" not in room.traces.tapped.value
    make_dead(room, "INFO d")
    assert "INFO d" in room.traces.tapped.value
    click(room, "Tap")
    until(room, lambda: room.tapped is None)
    make_dead(room, "INFO e")
    assert "INFO e" not in room.traces.tapped.value


def test_a_tap_in_a_cell_begins_with_what_was_and_follows(room: ControlRoom):
    make_dead(room, "INFO a", "ERROR b", "INFO c")
    with room.tap("level", where=pl.col("level") == "ERROR", limit=2) as tap:
        assert tap.frame().to_dict("list") == {"line": ["ERROR b"], "level": ["ERROR"]}
        make_dead(room, "ERROR d", "ERROR e")
    make_dead(room, "ERROR f")

    assert tap.rows()["line"].to_list() == ["ERROR d", "ERROR e"]
    assert "<td>ERROR d</td>" in tap._repr_html_()


@pytest.mark.parametrize("where", ["nothing = 1", "((", "level"])
def test_a_tap_that_cannot_be_says_so(room: ControlRoom, where: str):
    make_dead(room, "INFO a")
    room.traces.where.value = where
    click(room, "Tap")

    until(room, lambda: "etl-bad" in room.header.note.value)


def test_a_tap_of_an_unknown_processor_names_the_known(room: ControlRoom):
    with pytest.raises(UsageError, match="did you mean 'check'"):
        room.tap("chekc")


def test_text_from_logs_is_escaped_everywhere(room: ControlRoom):
    room.queue.put(Batch.from_lines([BAD], source=BAD))
    room.settle()
    room.dead_letters.groups.chosen = room.dead_letters.groups.rows[0][0]
    room.settle(idle=False)
    room.dead_letters.lines.chosen = room.dead_letters.lines.rows[0][0]
    room.traces.lines.chosen = room.traces.lines.rows[0][0]
    until(room, lambda: "onerror" in room.traces.detail.value)
    click(room, "Tap")
    until(room, lambda: "onerror" in room.traces.tapped.value)

    panels = (room.dead_letters.detail, room.traces.detail, room.traces.tapped)
    assert "onerror" in room.dead_letters.detail.value
    assert [panel for panel in panels if "<img" in panel.value] == []


def test_a_control_room_without_a_pipeline_watches_workers_elsewhere(pipeline: Pipeline):
    queue = open_queue("sqlite://")
    room = ControlRoom(queue, data=Path("nowhere"))
    queue.put(Batch.from_lines(["INFO a", "CRITICAL b"]))
    Worker(queue, pipeline).drain()
    room.settle()

    assert room.buttons["Dry-run"].disabled
    assert room.controls.workers.disabled
    assert len([x for x in room.figure.data[7].x if x is not None]) == 6
    click(room, "Pause")
    assert queue.stats().paused
    room.close()


def test_a_store_that_processes_elsewhere_work_on_is_controlled(tmp_path: Path):
    queue = open_queue(f"sqlite:///{tmp_path / 'store.db'}")
    room = ControlRoom(queue, data=tmp_path)
    click(room, "INFO", "CRITICAL", "Pause")
    command = [sys.executable, "-m", "etl", "work", "--store", queue.url, "--drain"]
    command += ["--pipeline", "etl.demo:dashboard", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        until(room, lambda: len(queue.read("workers")) == 1)
        assert queue.stats().waiting == 2
        click(room, "Resume")
        assert worker.wait(60) == 0
    room.settle()

    assert [row[2:5] for row in room.dead_letters.groups.rows] == [
        ["control room", "check", "poison"]
    ]
    assert list(room.figure.data[0].y) == [0, 1, 0, 0, 0]
    room.close()
    queue.close()


def test_another_store_is_attached(room: ControlRoom, pipeline: Pipeline):
    make_dead(room, "CRITICAL a")
    other = open_queue("sqlite://")
    room.attach(other, pipeline, interval=0)
    click(room, "INFO")

    assert room.settle().done == 1
    assert room.dead_letters.groups.rows == []
    assert other.stats().accepted == 1


class Flaky(SqliteQueue):
    """A store that cannot be reached while `away` is set."""

    away = False

    def __getattribute__(self, name: str) -> Any:
        away = ("stats", "control", "changes", "register", "pause", "put", "peek")
        if name in away and self.away:
            raise StoreError("the store is away")
        return super().__getattribute__(name)


def noted(room: ControlRoom, text: str) -> bool:
    """Wait until the control room says something, on a store that cannot answer."""
    deadline = time.monotonic() + 20
    while text not in room.header.note.value and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return text in room.header.note.value


def test_a_store_that_is_away_for_a_while_is_said_and_comes_back(pipeline: Pipeline):
    queue = Flaky(None)
    room = ControlRoom(queue, pipeline, workers=0, data=Path("nowhere"))
    queue.away = True
    assert noted(room, "The store cannot be reached; trying again. the store is away")
    room.buttons["Pause"].click()
    assert noted(room, "Pause failed: the store is away")
    room.buttons["INFO"].click()
    assert noted(room, "INFO failed: the store is away")
    assert "etl-bad" in room.header.note.value
    queue.away = False
    assert noted(room, "can be reached again")
    assert not queue.stats().paused
    assert queue.stats().accepted == 0
    click(room, "Pause", "INFO")
    assert (light(room), len(room.view._shown)) == ("paused", 1)
    room.close()


def test_workers_that_the_store_s_absence_ended_are_replaced(pipeline: Pipeline, tmp_path: Path):
    queue = Flaky(None)
    room = ControlRoom(queue, pipeline, interval=0, workers=0, out=tmp_path, data=Path("nowhere"))
    queue.away = True
    room.controls.workers.value = 1
    assert noted(room, "The store cannot be reached")
    started = threading.Event()
    room.do(started.set)
    assert started.wait(20)
    queue.away = False
    assert noted(room, "can be reached again")
    click(room, "INFO")

    assert room.settle().done == 1
    room.close()


def test_a_store_in_constant_change_is_drawn_five_times_a_second_at_most(
    room: ControlRoom, monkeypatch: pytest.MonkeyPatch
):
    drawn, enough, draw = [], threading.Event(), ControlRoom.draw

    def count(self: ControlRoom) -> None:
        drawn.append(time.monotonic())
        if len(drawn) == 11:
            enough.set()
        draw(self)

    monkeypatch.setattr(ControlRoom, "draw", count)
    while not enough.is_set():
        room.buttons["INFO"].click()
        room.queue.put(Batch.from_lines(["INFO a"], source="churn"))

    assert drawn[10] - drawn[0] >= 10 * PERIOD


def test_a_failing_callback_is_shown_and_stops_nothing(room: ControlRoom):
    room.do(lambda: 1 / 0)
    room.settle(idle=False)
    assert "ZeroDivisionError" in room.header.note.value
    click(room, "INFO")

    assert room.settle().done == 1


def test_buttons_may_be_clicked_from_many_threads(room: ControlRoom):
    clicks = [threading.Thread(target=room.buttons["INFO"].click) for _ in range(20)]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    room.settle(idle=False)

    assert room.settle().accepted == 20


def test_closing_ends_all_threads_and_may_be_done_twice(pipeline: Pipeline):
    before = set(threading.enumerate())
    room = ControlRoom(open_queue("sqlite://"), pipeline, data=Path("nowhere"))
    room.settle()
    room.close()
    room.close()

    left = [one.name for one in set(threading.enumerate()) - before if one.name.startswith("etl")]
    assert left == []


def test_it_may_be_shown_twice_and_prints_nothing(
    room: ControlRoom, capfd: pytest.CaptureFixture[str]
):
    one, two = room._repr_mimebundle_(), room._repr_mimebundle_()
    click(room, "INFO")

    view = "application/vnd.jupyter.widget-view+json"
    assert one[view]["model_id"] == two[view]["model_id"]
    assert capfd.readouterr() == ("", "")


def test_only_what_came_and_what_left_is_sent(monkeypatch: pytest.MonkeyPatch):
    view, sent = QueueView(), []
    monkeypatch.setattr(QueueView, "send", lambda _self, message: sent.append(message))
    view.show([("1", "INFO", "a"), ("2", "INFO", "b")], 0)
    view.show([("2", "INFO", "b"), ("3", "INFO", "c")], 5)
    view.show([("2", "INFO", "b"), ("3", "INFO", "c")], 5)

    assert sent[1:] == [{"came": [("3", "INFO", "c")], "left": ["1"]}]
    assert view.more == 5


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-01-01 WARN disk", "WARNING"),
        ("[error] no", "ERROR"),
        ("err: no", "ERROR"),
        ("fatal: no", "CRITICAL"),
        ("informative text", "OTHER"),
        ("debug INFO", "DEBUG"),
    ],
)
def test_a_lines_level_is_found(line: str, level: str):
    assert level_of(line) == level


def test_an_hour_of_updates_leaks_nothing(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch):
    now, sent = 1e9, [0]
    queue = SqliteQueue(None, clock=lambda: now)
    room = ControlRoom(queue, pipeline, workers=0, data=Path("nowhere"))
    room.close()
    for widget in _all(room.box):
        monkeypatch.setattr(widget, "_send", partial(weigh, sent))
    worker = Worker(queue, pipeline)
    seen = []
    for turn in range(120):
        now += 30
        queue.put(Batch.from_lines([f"INFO {turn}", f"ERROR {turn}"], source="soak"))
        room.draw()
        worker.drain()
        room.draw()
        if turn in (40, 80, 119):
            gc.collect()
            seen.append((len(gc.get_objects()), threading.active_count(), sent[0]))

    objects, threads, bytes_sent = zip(*seen, strict=True)
    assert objects[2] - objects[0] < 5000
    assert len(set(threads)) == 1
    assert 0 < bytes_sent[2] - bytes_sent[1] < 1.2 * (bytes_sent[1] - bytes_sent[0])
    assert room.view._shown == {}
    assert len(room.traces.lines.rows) <= 60
    assert sys.getsizeof(room._awaiting) < 200


def weigh(sent: list[int], message: Any, buffers: Any = None) -> None:
    """Count the bytes of what a widget sends to its page."""
    sent[0] += len(json.dumps(message, default=str)) + sum(map(len, buffers or ()))


def test_queue_is_the_protocol(room: ControlRoom):
    queue: Queue = room.queue
    assert repr(room) == f"<ControlRoom on {queue.url}>"
