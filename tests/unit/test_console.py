"""Every control of the console, kernel-side: clicks, and what the store and the widgets say."""

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
def console(pipeline: Pipeline, tmp_path: Path) -> Iterator[ControlRoom]:
    (tmp_path / "some.log").write_text("INFO one\nERROR two\n" * 50)
    made = ControlRoom(open_queue("sqlite://"), pipeline, interval=0, out=tmp_path, data=tmp_path)
    yield made
    made.close()


def click(console: ControlRoom, *names: str) -> None:
    for name in names:
        console.buttons[name].click()
    console.settle(idle=False)


def light(console: ControlRoom) -> str:
    return console.header.light.value.split("etl-is-")[1].split("'")[0]


def kill(console: ControlRoom, *lines: str) -> None:
    """Have lines die and wait for it."""
    console.queue.put(Batch.from_lines(lines, source="test"))
    console.settle()


def until(console: ControlRoom, holds: Callable[[], bool]) -> None:
    """Wait until something holds that a thread of the console brings about."""
    for _ in range(200):
        console.settle(idle=False)
        if holds():
            return
        threading.Event().wait(0.02)
    pytest.fail("it never came to hold")


def test_the_story_of_the_first_seed(console: ControlRoom):
    click(console, "Pause")
    assert light(console) == "paused"
    click(console, *["INFO", "WARNING"] * 6)
    assert len(console.view._shown) == 12
    assert sum(console.figure.data[0].y) == 0
    click(console, "Resume")
    console.settle()
    assert list(console.figure.data[0].y) == [0, 6, 6, 0, 0]
    click(console, "CRITICAL")
    console.settle()
    assert list(console.figure.data[0].y) == [0, 6, 6, 0, 0]
    assert [row[2:4] for row in console.dead_letters.groups.rows] == [["check", "poison"]]
    assert light(console) == "idle"


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR", "CRITICAL"])
def test_a_button_makes_a_line_of_its_level(console: ControlRoom, level: str):
    click(console, "Pause", level)

    ((_, shown, text),) = console.view._shown.values()
    assert shown == level
    assert text.startswith(level)


def test_a_step_lets_one_batch_through(console: ControlRoom):
    click(console, "Pause", "INFO", "INFO", "Step")

    until(console, lambda: console.queue.stats().done == 1)
    assert console.queue.stats().waiting == 1


def test_a_drain_ends_the_workers_and_resume_starts_them(console: ControlRoom):
    click(console, "Drain")
    until(console, lambda: light(console) == "absent")
    click(console, "Resume", "INFO")

    assert console.settle().done == 1


def test_a_burst_has_its_size_and_pace(console: ControlRoom):
    console.controls.lines.value = 120
    console.controls.batch_lines.value = 50
    click(console, "Pause", "Burst")

    until(console, lambda: console.queue.stats().waiting == 120)
    assert console.queue.stats().waiting_batches == 3


def test_many_lines_are_counted_beyond_the_icons(console: ControlRoom):
    console.controls.lines.value = 700
    click(console, "Pause", "Burst")

    until(console, lambda: console.view.more == 200)
    assert len(console.view._shown) == 500


def test_a_file_is_fed(console: ControlRoom):
    click(console, "Feed")

    until(console, lambda: "100 lines of some.log fed" in console.header.note.value)
    assert console.settle().done == 100
    assert console.controls.progress.layout.visibility == "hidden"


def test_an_upload_is_fed_and_its_name_is_only_text(console: ControlRoom):
    name = "../<b>.log"
    about = {"name": name, "type": "", "size": 7, "last_modified": datetime.now(tz=UTC)}
    console.controls.upload.value = [about | {"content": b"INFO a\n"}]

    until(console, lambda: "1 lines of" in console.header.note.value)
    assert "<b>" not in console.header.note.value
    assert console.settle().done == 1


def test_pace_and_number_of_workers_can_be_changed(console: ControlRoom):
    console.controls.interval.value, console.controls.workers.value = 0.01, 3
    until(console, lambda: len(console.queue.read("workers")) == 3)
    console.controls.workers.value = 0
    until(console, lambda: light(console) == "absent")

    assert console.thread_workers is not None
    assert console.thread_workers.interval == 0.01


def test_dead_letters_are_tried_replayed_and_gone(console: ControlRoom, pipeline: Pipeline):
    kill(console, "CRITICAL a", "CRITICAL b")
    console.dead_letters.groups.chosen = console.dead_letters.groups.rows[0][0]
    click(console, "Dry-run")
    until(console, lambda: "0 of 2 now pass" in console.header.note.value)
    pipeline.add("check", None)
    click(console, "Dry-run")
    until(console, lambda: "2 of 2 now pass" in console.header.note.value)
    click(console, "Replay")
    until(console, lambda: "2 lines wait again" in console.header.note.value)

    assert console.settle().dead == 0
    assert console.dead_letters.groups.rows == []
    assert console.dead_letters.groups.chosen == ""


def test_a_letter_is_edited_and_replayed(console: ControlRoom):
    kill(console, "CRITICAL a")
    console.dead_letters.groups.chosen = console.dead_letters.groups.rows[0][0]
    console.settle(idle=False)
    console.dead_letters.lines.chosen = console.dead_letters.lines.rows[0][0]
    console.settle(idle=False)
    assert "level → check" in console.dead_letters.detail.value
    console.dead_letters.edit.value = "INFO a"
    click(console, "Edit and replay")

    assert console.settle().done == 1


def test_letters_are_discarded(console: ControlRoom):
    kill(console, "CRITICAL a")
    click(console, "Discard")

    until(console, lambda: len(DeadLetters(console.queue)) == 0)
    assert console.queue.stats().dead == 1


def test_a_trace_is_shown_hop_by_hop_and_lit(console: ControlRoom):
    kill(console, "INFO a")
    console.traces.lines.chosen = console.traces.lines.rows[0][0]

    until(console, lambda: "level: &#x27;INFO&#x27;" in console.traces.detail.value)
    assert len([x for x in console.figure.data[8].x if x is not None]) == 6


def test_a_tap_looks_between_processors(console: ControlRoom):
    kill(console, "INFO a", "ERROR b", "INFO c")
    console.traces.processor.value, console.traces.where.value = "level", "level = 'INFO'"
    click(console, "Tap")

    until(console, lambda: "INFO c" in console.traces.tapped.value)
    assert "ERROR b" not in console.traces.tapped.value
    kill(console, "INFO d")
    assert "INFO d" in console.traces.tapped.value
    click(console, "Tap")
    until(console, lambda: console.tapped is None)
    kill(console, "INFO e")
    assert "INFO e" not in console.traces.tapped.value


def test_a_tap_in_a_cell_begins_with_what_was_and_follows(console: ControlRoom):
    kill(console, "INFO a", "ERROR b", "INFO c")
    with console.tap("level", where=pl.col("level") == "ERROR", limit=2) as tap:
        assert tap.frame().to_dict("list") == {"line": ["ERROR b"], "level": ["ERROR"]}
        kill(console, "ERROR d", "ERROR e")
    kill(console, "ERROR f")

    assert tap.rows()["line"].to_list() == ["ERROR d", "ERROR e"]
    assert "<td>ERROR d</td>" in tap._repr_html_()


@pytest.mark.parametrize("where", ["nothing = 1", "((", "level"])
def test_a_tap_that_cannot_be_says_so(console: ControlRoom, where: str):
    kill(console, "INFO a")
    console.traces.where.value = where
    click(console, "Tap")

    until(console, lambda: "etl-bad" in console.header.note.value)


def test_a_tap_of_an_unknown_processor_names_the_known(console: ControlRoom):
    with pytest.raises(UsageError, match="did you mean 'check'"):
        console.tap("chekc")


def test_text_from_logs_is_escaped_everywhere(console: ControlRoom):
    console.queue.put(Batch.from_lines([BAD], source=BAD))
    console.settle()
    console.dead_letters.groups.chosen = console.dead_letters.groups.rows[0][0]
    console.settle(idle=False)
    console.dead_letters.lines.chosen = console.dead_letters.lines.rows[0][0]
    console.traces.lines.chosen = console.traces.lines.rows[0][0]
    until(console, lambda: "onerror" in console.traces.detail.value)
    click(console, "Tap")
    until(console, lambda: "onerror" in console.traces.tapped.value)

    panels = (console.dead_letters.detail, console.traces.detail, console.traces.tapped)
    assert "onerror" in console.dead_letters.detail.value
    assert [panel for panel in panels if "<img" in panel.value] == []


def test_a_console_without_a_pipeline_watches_workers_elsewhere(pipeline: Pipeline):
    queue = open_queue("sqlite://")
    console = ControlRoom(queue, data=Path("nowhere"))
    queue.put(Batch.from_lines(["INFO a", "CRITICAL b"]))
    Worker(queue, pipeline).drain()
    console.settle()

    assert console.buttons["Dry-run"].disabled
    assert console.controls.workers.disabled
    assert len([x for x in console.figure.data[7].x if x is not None]) == 6
    click(console, "Pause")
    assert queue.stats().paused
    console.close()


def test_a_store_that_processes_elsewhere_work_on_is_steered(tmp_path: Path):
    queue = open_queue(f"sqlite:///{tmp_path / 'store.db'}")
    console = ControlRoom(queue, data=tmp_path)
    click(console, "INFO", "CRITICAL", "Pause")
    command = [sys.executable, "-m", "etl", "work", "--store", queue.url, "--drain"]
    command += ["--pipeline", "etl.demo:dashboard", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        until(console, lambda: len(queue.read("workers")) == 1)
        assert queue.stats().waiting == 2
        click(console, "Resume")
        assert worker.wait(60) == 0
    console.settle()

    assert [row[2:4] for row in console.dead_letters.groups.rows] == [["check", "poison"]]
    assert list(console.figure.data[0].y) == [0, 1, 0, 0, 0]
    console.close()
    queue.close()


def test_another_store_is_attached(console: ControlRoom, pipeline: Pipeline):
    kill(console, "CRITICAL a")
    other = open_queue("sqlite://")
    console.attach(other, pipeline, interval=0)
    click(console, "INFO")

    assert console.settle().done == 1
    assert console.dead_letters.groups.rows == []
    assert other.stats().accepted == 1


class Flaky(SqliteQueue):
    """A store that cannot be reached while `away` is set."""

    away = False

    def __getattribute__(self, name: str) -> Any:
        away = ("stats", "control", "changes", "register", "pause", "put", "peek")
        if name in away and self.away:
            raise StoreError("the store is away")
        return super().__getattribute__(name)


def noted(console: ControlRoom, text: str) -> bool:
    """Wait until the console says something, on a store that cannot answer."""
    deadline = time.monotonic() + 20
    while text not in console.header.note.value and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return text in console.header.note.value


def test_a_store_that_is_away_for_a_while_is_said_and_comes_back(pipeline: Pipeline):
    queue = Flaky(None)
    console = ControlRoom(queue, pipeline, workers=0, data=Path("nowhere"))
    queue.away = True
    assert noted(console, "The store cannot be reached; trying again. the store is away")
    console.buttons["Pause"].click()
    assert noted(console, "Pause could not be done: the store is away")
    console.buttons["INFO"].click()
    assert noted(console, "INFO could not be done: the store is away")
    assert "etl-bad" in console.header.note.value
    queue.away = False
    assert noted(console, "can be reached again")
    assert not queue.stats().paused
    assert queue.stats().accepted == 0
    click(console, "Pause", "INFO")
    assert (light(console), len(console.view._shown)) == ("paused", 1)
    console.close()


def test_workers_that_the_store_s_absence_ended_are_replaced(pipeline: Pipeline, tmp_path: Path):
    queue = Flaky(None)
    console = ControlRoom(
        queue, pipeline, interval=0, workers=0, out=tmp_path, data=Path("nowhere")
    )
    queue.away = True
    console.controls.workers.value = 1
    assert noted(console, "The store cannot be reached")
    started = threading.Event()
    console.do(started.set)
    assert started.wait(20)
    queue.away = False
    assert noted(console, "can be reached again")
    click(console, "INFO")

    assert console.settle().done == 1
    console.close()


def test_a_store_in_constant_change_is_drawn_five_times_a_second_at_most(
    console: ControlRoom, monkeypatch: pytest.MonkeyPatch
):
    drawn, enough, draw = [], threading.Event(), ControlRoom.draw

    def count(self: ControlRoom) -> None:
        drawn.append(time.monotonic())
        if len(drawn) == 11:
            enough.set()
        draw(self)

    monkeypatch.setattr(ControlRoom, "draw", count)
    while not enough.is_set():
        console.buttons["INFO"].click()
        console.queue.put(Batch.from_lines(["INFO a"], source="churn"))

    assert drawn[10] - drawn[0] >= 10 * PERIOD


def test_a_failing_callback_is_told_and_stops_nothing(console: ControlRoom):
    console.do(lambda: 1 / 0)
    console.settle(idle=False)
    assert "ZeroDivisionError" in console.header.note.value
    click(console, "INFO")

    assert console.settle().done == 1


def test_buttons_may_be_clicked_from_many_threads(console: ControlRoom):
    clicks = [threading.Thread(target=console.buttons["INFO"].click) for _ in range(20)]
    for one in clicks:
        one.start()
    for one in clicks:
        one.join()
    console.settle(idle=False)

    assert console.settle().accepted == 20


def test_closing_ends_all_threads_and_may_be_done_twice(pipeline: Pipeline):
    before = set(threading.enumerate())
    console = ControlRoom(open_queue("sqlite://"), pipeline, data=Path("nowhere"))
    console.settle()
    console.close()
    console.close()

    left = [one.name for one in set(threading.enumerate()) - before if one.name.startswith("etl")]
    assert left == []


def test_it_may_be_shown_twice_and_prints_nothing(
    console: ControlRoom, capfd: pytest.CaptureFixture[str]
):
    one, two = console._repr_mimebundle_(), console._repr_mimebundle_()
    click(console, "INFO")

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
    console = ControlRoom(queue, pipeline, workers=0, data=Path("nowhere"))
    console.close()
    for widget in _all(console.room):
        monkeypatch.setattr(widget, "_send", partial(weigh, sent))
    worker = Worker(queue, pipeline)
    seen = []
    for turn in range(360):
        now += 10
        queue.put(Batch.from_lines([f"INFO {turn}", f"ERROR {turn}"], source="soak"))
        console.draw()
        worker.drain()
        console.draw()
        if turn in (120, 240, 359):
            gc.collect()
            seen.append((len(gc.get_objects()), threading.active_count(), sent[0]))

    objects, threads, bytes_sent = zip(*seen, strict=True)
    assert objects[2] - objects[0] < 5000
    assert len(set(threads)) == 1
    assert 0 < bytes_sent[2] - bytes_sent[1] < 1.2 * (bytes_sent[1] - bytes_sent[0])
    assert console.view._shown == {}
    assert len(console.traces.lines.rows) <= 60
    assert sys.getsizeof(console._told) < 200


def weigh(sent: list[int], message: Any, buffers: Any = None) -> None:
    """Count the bytes of what a widget tells its page."""
    sent[0] += len(json.dumps(message, default=str)) + sum(map(len, buffers or ()))


def test_queue_is_the_protocol(console: ControlRoom):
    queue: Queue = console.queue
    assert repr(console) == f"<Console on {queue.url}>"
