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


def act(room: ControlRoom, name: str, detail: Any = None) -> None:
    """Do what a person does in a part that is drawn by JavaScript."""
    room._act(name, detail)
    room.settle(idle=False)


def light(room: ControlRoom) -> str:
    return room.header.state["state"]


def said(room: ControlRoom) -> str:
    """Return what was said last beside the operator's buttons."""
    return room.operator.said.answer.get("text", "")


def answered(room: ControlRoom) -> str:
    """Return what was said last beside the dead letters."""
    return room.dead_letters.part.answer.get("text", "")


def bars(room: ControlRoom) -> list[float]:
    return list(room.figure.data[0].x)


def kinds(room: ControlRoom) -> list[tuple[str, str, str]]:
    found = room.dead_letters.part.state["kinds"]
    return [(kind["source"], kind["processor"], kind["code"]) for kind in found]


def drawer(room: ControlRoom) -> dict[str, Any] | None:
    return room.dead_letters.part.state["drawer"]


def open_first_kind(room: ControlRoom) -> None:
    act(room, "choose", room.dead_letters.part.state["kinds"][0]["fingerprint"])


def make_dead(room: ControlRoom, *lines: str) -> None:
    """Put lines and wait until they are processed."""
    room.queue.put(Batch.from_lines(lines, source="test"))
    room.settle()


def until(room: ControlRoom, holds: Callable[[], bool]) -> None:
    """Wait until something holds that a thread of the control room brings about."""
    for _ in range(400):
        room.settle(idle=False)
        if holds():
            return
        threading.Event().wait(0.02)
    pytest.fail("it never came to hold")


def test_the_story_of_the_first_seed(room: ControlRoom):
    click(room, "Pause")
    assert light(room) == "paused"
    assert room.operator.toggle.description == "Resume"
    click(room, *["INFO", "WARNING"] * 6)
    assert len(room.icons.state["waiting"]) == 12
    assert sum(bars(room)) == 0
    click(room, "Resume")
    room.settle()
    assert bars(room) == [0, 6, 6, 0, 0]
    click(room, "CRITICAL")
    room.settle()
    assert bars(room) == [0, 6, 6, 0, 0]
    assert kinds(room) == [("control room", "check", "poison")]
    assert light(room) == "idle"


@pytest.mark.parametrize("level", ["INFO", "WARNING", "ERROR", "CRITICAL"])
def test_a_button_makes_a_line_of_its_level(room: ControlRoom, level: str):
    click(room, "Pause", level)

    ((_, shown, text),) = room.icons.state["waiting"]
    assert shown == level
    assert text.startswith(level)
    assert said(room) == f"One {level} line queued."


def test_a_line_that_a_worker_has_is_in_the_tray(room: ControlRoom):
    room.demo.interval.widget.value = 30
    click(room, "CRITICAL")
    until(room, lambda: room.icons.state["processing"] != [])

    ((key, level, _),) = room.icons.state["processing"]
    assert level == "CRITICAL"
    assert room.icons.state["waiting"] == []
    assert room.icons.state["leased"] == 1
    room.thread_workers.set_size(0)
    until(room, lambda: room.icons.state["died"] == [key])


def test_a_step_lets_one_batch_through(room: ControlRoom):
    room.settle()
    assert room.operator.step.disabled
    click(room, "Pause", "INFO", "INFO")
    assert not room.operator.step.disabled
    click(room, "Step")

    until(room, lambda: room.queue.stats().done == 1)
    assert room.queue.stats().waiting == 1


def test_a_pause_says_what_waits(room: ControlRoom):
    click(room, "Pause")
    assert said(room) == "Paused. New lines wait until you resume."
    click(room, "INFO", "Resume")
    room.settle()
    room.demo.workers.widget.value = 0
    until(room, lambda: light(room) == "absent")
    click(room, "INFO", "INFO", "Pause")
    assert said(room) == "Paused. 2 lines wait until you resume."


def test_a_drain_ends_the_workers_and_resume_starts_them(room: ControlRoom):
    click(room, "Drain")
    until(room, lambda: light(room) == "absent")
    assert room.operator.drain.disabled
    act(room, "Resume")
    click(room, "INFO")

    assert room.settle().done == 1


def test_a_burst_has_its_size_and_pace(room: ControlRoom):
    room.demo.lines.widget.value = 120
    room.demo.batch_lines.widget.value = 50
    click(room, "Pause", "Burst")

    until(room, lambda: room.queue.stats().waiting == 120)
    assert room.queue.stats().waiting_batches == 3
    assert said(room) == "120 lines queued."


@pytest.mark.parametrize(("name", "value"), [("lines", 0), ("lines", 2_000_000)])
def test_a_number_that_is_out_of_range_is_refused_with_a_word(
    room: ControlRoom, name: str, value: int
):
    field = getattr(room.demo, name)
    field.widget.value = value
    assert field.word.value == "1 to 1,000,000"
    click(room, "Burst")

    assert "Lines: 1 to 1,000,000" in said(room)
    assert room.operator.said.answer["bad"]
    assert room.queue.stats().accepted == 0
    field.widget.value = 5
    assert field.word.value == ""


def test_many_lines_are_counted_beyond_the_icons(room: ControlRoom):
    room.demo.lines.widget.value = 700
    click(room, "Pause", "Burst")

    until(room, lambda: room.icons.state["more"] == 620)
    assert len(room.icons.state["waiting"]) == 80


def test_a_file_is_fed(room: ControlRoom):
    click(room, "Feed")

    until(room, lambda: said(room) == "100 lines of some.log fed.")
    assert room.settle().done == 100
    assert room.demo.feeding.state["share"] is None


def test_a_file_that_the_pipeline_does_not_read_is_fed_only_if_asked_twice(
    room: ControlRoom, tmp_path: Path
):
    room.settle()
    assert room.demo.file.value == "some.log"
    (tmp_path / "other.log").write_text("CRITICAL one\n" * 20)
    room._actions._files["other.log"] = tmp_path / "other.log"
    room.demo.file.options = ["some.log", "other.log"]
    room.demo.file.value = "other.log"
    click(room, "Feed")
    assert "20 of the first 20 lines of other.log would fail" in said(room)
    assert room.queue.stats().accepted == 0
    click(room, "Feed")
    until(room, lambda: said(room) == "20 lines of other.log fed.")
    assert room.settle().dead == 20


def test_an_upload_is_fed_and_its_name_is_only_text(room: ControlRoom):
    name = "../<b>.log"
    about = {"name": name, "type": "", "size": 7, "last_modified": datetime.now(tz=UTC)}
    room.demo.upload.value = [about | {"content": b"INFO a\n"}]

    until(room, lambda: said(room) == "1 lines of ../<b>.log fed.")
    assert room.settle().done == 1


def test_pace_and_number_of_workers_can_be_changed(room: ControlRoom):
    room.demo.interval.widget.value, room.demo.workers.widget.value = 0.01, 3
    until(room, lambda: len(room.queue.read("workers")) == 3)
    act(room, "tab", "workers")
    assert len(room.tabs.part.state["workers"]) == 3
    room.demo.workers.widget.value = 0
    until(room, lambda: light(room) == "absent")

    assert room.thread_workers is not None
    assert room.thread_workers.interval == 0.01


def test_dead_letters_are_tried_and_those_that_pass_replayed(room: ControlRoom, pipeline: Pipeline):
    make_dead(room, "CRITICAL a", "CRITICAL b 2")
    open_first_kind(room)
    act(room, "dry-run", {"fingerprint": room.view.kind})
    until(room, lambda: drawer(room)["tried"] is not None)
    assert (drawer(room)["tried"]["pass"], drawer(room)["tried"]["fail"]) == (0, 2)
    assert {line["reason"] for line in drawer(room)["lines"]} == {"CRITICAL is poison"}
    pipeline.add(
        "check", lambda frame: reject(frame, pl.col("line").str.contains("a"), "x", "an a")
    )
    room.settle(idle=False)
    assert drawer(room)["tried"]["stale"]
    assert {line["ok"] for line in drawer(room)["lines"]} == {None}
    act(room, "dry-run", {"fingerprint": room.view.kind})
    until(room, lambda: not drawer(room)["tried"]["stale"])
    assert [(line["ok"], line["reason"]) for line in drawer(room)["lines"]] == [
        (False, "an a"),
        (True, ""),
    ]
    act(room, "replay-passing")
    until(room, lambda: answered(room) == "1 line requeued.")
    room.settle()
    assert (room.queue.stats().done, room.queue.stats().dead) == (1, 1)
    assert room.view.tab == "traces"
    assert room.tabs.part.state["traces"][0]["line"] == "CRITICAL b 2"


def test_all_dead_letters_are_tried_and_replayed(room: ControlRoom, pipeline: Pipeline):
    make_dead(room, "CRITICAL a", "CRITICAL b")
    act(room, "dry-run", {"fingerprint": None})
    until(room, lambda: answered(room) == "0 of 2 pass now.")
    pipeline.add("check", None)
    act(room, "replay", {"fingerprint": None})
    until(room, lambda: answered(room) == "2 lines requeued.")

    assert room.settle().dead == 0
    assert kinds(room) == []


def test_a_dead_letter_is_edited_and_replayed(room: ControlRoom):
    make_dead(room, "CRITICAL a")
    open_first_kind(room)
    line = drawer(room)["line"]
    assert drawer(room)["path"] == ["level", "check"]
    assert (line["text"], line["message"]) == ("CRITICAL a", "CRITICAL is poison")
    act(room, "replay-edited", {"id": line["id"], "line": "INFO a"})

    assert room.settle().done == 1
    assert drawer(room) is None


def test_dead_letters_are_discarded_and_that_is_undone(room: ControlRoom):
    make_dead(room, "CRITICAL a", "CRITICAL b")
    open_first_kind(room)
    act(room, "discard", {"fingerprint": room.view.kind, "lines": 2})
    until(room, lambda: answered(room) == "2 dead letters discarded.")
    assert (room.header.state["open"], room.header.state["discarded"]) == (0, 2)
    assert room.queue.stats().dead == 2
    act(room, "undo", room.dead_letters.part.answer["undo"])
    until(room, lambda: answered(room) == "2 dead letters are open again.")

    assert room.header.state["open"] == 2
    assert len(DeadLetters(room.queue)) == 2


def test_a_trace_is_shown_hop_by_hop_and_lit(room: ControlRoom):
    make_dead(room, "INFO a")
    act(room, "trace", room.tabs.part.state["traces"][0]["key"])

    until(room, lambda: room.tabs.part.state["trace"] is not None)
    hops = room.tabs.part.state["trace"]["hops"]
    assert [hop["processor"] for hop in hops] == ["level", "check", "count"]
    assert hops[0]["after"] == "level: 'INFO'"
    assert room.graph.state["path"] == ["level", "check", "count"]


def test_a_tap_looks_between_processors(room: ControlRoom):
    def tapped() -> str:
        return json.dumps(room.tabs.part.state.get("tapped"))

    make_dead(room, "INFO a", "ERROR b", "INFO c")
    act(room, "tab", "tap")
    act(room, "tap", {"processor": "level", "where": "level = 'INFO'", "limit": 5})

    until(room, lambda: "INFO c" in tapped())
    assert "ERROR b" not in tapped()
    make_dead(room, "INFO d")
    assert "INFO d" in tapped()
    act(room, "tap", {})
    until(room, lambda: room.tapped is None)
    make_dead(room, "INFO e")
    assert "INFO e" not in tapped()


def test_errors_are_counted_by_minute_and_lines_that_wait_listed(room: ControlRoom):
    make_dead(room, "CRITICAL a")
    act(room, "tab", "errors")
    state = room.tabs.part.state
    assert [(one["processor"], one["lines"]) for one in state["errors"]] == [("check", 1)]
    assert state["error_minutes"] == [["check", [0] * 11 + [1]]]
    click(room, "Pause", "WARNING")
    act(room, "tab", "queue")
    (waiting,) = room.tabs.part.state["queue"]
    assert (waiting["level"], waiting["source"]) == ("WARNING", "control room")


def test_hints_can_be_turned_and_dismissed_and_the_demo_closed(room: ControlRoom):
    room.settle()
    assert room.demo.hints.state["at"] == 0
    act(room, "hint", 1)
    assert room.demo.hints.state["at"] == 1
    act(room, "hint", None)
    assert room.demo.hints.state["at"] is None
    act(room, "Demo")
    assert "etl-closed" in room.demo.box._dom_classes
    act(room, "Demo")
    assert "etl-closed" not in room.demo.box._dom_classes


def test_the_chart_has_the_size_and_the_colours_of_the_page(room: ControlRoom):
    act(room, "look", {"dark": True, "width": 500, "height": 130})
    until(room, lambda: room.figure.layout.height == 130)
    assert room.figure.layout.width == 500
    dark = room.figure.data[0].marker.color
    act(room, "look", {"dark": False, "width": 500, "height": 130})
    until(room, lambda: room.figure.data[0].marker.color != dark)
    room.ranges.value = "15 m"
    until(room, lambda: len(room.figure.data[1].x) == 225)


def test_every_drawing_reaches_the_page_whatever_the_page_says_meanwhile(
    room: ControlRoom, monkeypatch: pytest.MonkeyPatch
):
    room.close()
    chart, sent = room.figure, []
    monkeypatch.setattr(chart, "_send", lambda message, **_: sent.append(message))
    deltas = {"trace_deltas": [{}, {}, {}], "trace_edit_id": 0}
    report = {"method": "update", "state": {"_js2py_traceDeltas": deltas}}
    before, drawn = sys.getswitchinterval(), threading.Event()

    def say() -> None:
        while not drawn.is_set():
            chart._handle_msg({"content": {"data": report}})

    page = threading.Thread(target=say)
    sys.setswitchinterval(1e-5)
    page.start()
    for count in range(1, 201):
        chart.data[0].x = [count] * 5
    drawn.set()
    page.join()
    sys.setswitchinterval(before)

    updates = [message["state"].get("_py2js_restyle") for message in sent]
    assert [one["restyle_data"]["x"][0] for one in updates if one] == [
        [count] * 5 for count in range(1, 201)
    ]


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
    act(room, "tab", "tap")
    act(room, "tap", {"processor": "level", "where": where, "limit": 5})

    until(room, lambda: room.tabs.part.answer.get("bad", False))


def test_a_tap_of_an_unknown_processor_names_the_known(room: ControlRoom):
    with pytest.raises(UsageError, match="did you mean 'check'"):
        room.tap("chekc")


def test_a_control_room_without_a_pipeline_watches_workers_elsewhere(pipeline: Pipeline):
    queue = open_queue("sqlite://")
    room = ControlRoom(queue, data=Path("nowhere"))
    queue.put(Batch.from_lines(["INFO a", "CRITICAL b"]))
    Worker(queue, pipeline).drain()
    room.settle()

    assert room.demo.workers.widget.disabled
    assert ["check", "count"] in room.graph.state["pipeline"]["edges"]
    open_first_kind(room)
    assert not drawer(room)["can_run"]
    act(room, "dry-run", {"fingerprint": None})
    assert "needs the pipeline" in answered(room)
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

    assert kinds(room) == [("control room", "check", "poison")]
    assert bars(room) == [0, 1, 0, 0, 0]
    room.close()
    queue.close()


def test_another_store_is_attached(room: ControlRoom, pipeline: Pipeline):
    make_dead(room, "CRITICAL a")
    other = open_queue("sqlite://")
    room.attach(other, pipeline, interval=0)
    click(room, "INFO")

    assert room.settle().done == 1
    assert kinds(room) == []
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
    while text not in said(room) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return text in said(room)


def test_a_store_that_is_away_for_a_while_is_said_and_comes_back(pipeline: Pipeline):
    queue = Flaky(None)
    room = ControlRoom(queue, pipeline, workers=0, data=Path("nowhere"))
    queue.away = True
    assert noted(room, "The store cannot be reached; trying again. the store is away")
    room.buttons["Pause"].click()
    assert noted(room, "Pause failed: the store is away")
    room.buttons["INFO"].click()
    assert noted(room, "INFO failed: the store is away")
    assert room.operator.said.answer["bad"]
    queue.away = False
    assert noted(room, "can be reached again")
    assert not queue.stats().paused
    assert queue.stats().accepted == 0
    click(room, "Pause", "INFO")
    assert (light(room), len(room.icons.state["waiting"])) == ("paused", 1)
    room.close()


def test_workers_that_the_store_s_absence_ended_are_replaced(pipeline: Pipeline, tmp_path: Path):
    queue = Flaky(None)
    room = ControlRoom(queue, pipeline, interval=0, workers=0, out=tmp_path, data=Path("nowhere"))
    queue.away = True
    room.demo.workers.widget.value = 1
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
    assert "ZeroDivisionError" in said(room)
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
    assert room.icons.state["waiting"] == []
    assert len(room.tabs.part.state["traces"]) <= 60
    assert sys.getsizeof(room._awaiting) < 200


def weigh(sent: list[int], message: Any, buffers: Any = None) -> None:
    """Count the bytes of what a widget sends to its page."""
    sent[0] += len(json.dumps(message, default=str)) + sum(map(len, buffers or ()))


def test_queue_is_the_protocol(room: ControlRoom):
    queue: Queue = room.queue
    assert repr(room) == f"<ControlRoom on {queue.url}>"
