"""What a run says that it waits for, on a terminal and without one."""

from __future__ import annotations

import dataclasses

import pytest

from etl import Batch, open_queue
from etl.cli.progress import STALLED, _Teller
from etl.records.result import BatchResult
from etl.runs.progress import Progress, waits_for

BAD = "\x1b[2J\nfake"


@pytest.fixture
def queue():
    made = open_queue("sqlite://")
    yield made
    made.close()


def now(queue, seconds: float = 0.0, **more) -> Progress:
    return Progress(0, more.pop("size", 10), queue.stats(), seconds, queue, **more)


def put(queue, lines: int) -> None:
    queue.put(*(Batch.from_lines([f"line {n}"]) for n in range(lines)))


def test_it_names_the_source_that_is_read(queue):
    said = waits_for(now(queue, reading=f"a{BAD}.log", place=2, sources=14))
    assert said == "reading a\\x1b[2J\\nfake.log, 2 of 14"


def test_a_stream_that_brings_nothing_is_waited_for(queue):
    said = waits_for(now(queue, size=None, reading="stdin", place=1, sources=1))
    assert said.startswith("waiting for lines on stdin")
    put(queue, 1)
    assert waits_for(now(queue, size=None, reading="stdin", sources=1)) == "reading stdin"


def test_a_stream_that_fills_the_queue_waits_for_room(queue):
    put(queue, 3)
    full = dataclasses.replace(queue.stats(), waiting_bytes=2**40)
    said = waits_for(Progress(0, None, full, 1.0, queue, "stdin", 1, 1))
    assert "room in the queue: 3 lines" in said


def test_workers_are_waited_for_from_their_start_to_the_last_line(queue):
    put(queue, 2)
    assert waits_for(now(queue)) == "waiting for workers to start"
    queue.register("w1")
    assert waits_for(now(queue)) == "2 lines left, to be tried again"
    lease = queue.lease("w1")
    assert waits_for(now(queue)) == "1 line left for 1 worker"
    queue.commit(lease, BatchResult(done=1))
    lease = queue.lease("w1")
    assert waits_for(now(queue)).startswith("waiting for the last 1 line, with w1 on ")
    queue.commit(lease, BatchResult(done=1))
    assert waits_for(now(queue)) == "waiting for 1 worker to end"


def test_a_pause_is_said_with_its_reason(queue):
    queue.pause(f"disk {BAD}")
    assert waits_for(now(queue)) == "paused: disk \\x1b[2J\\nfake"


def test_without_a_terminal_a_stall_is_said_once(queue, capsys):
    put(queue, 2)
    tell = _Teller().tell
    for seconds in (0.0, 1.0, STALLED - 0.1):
        tell(now(queue, seconds))
    assert capsys.readouterr().err == ""
    for seconds in (STALLED, STALLED + 1, 2 * STALLED, 3 * STALLED):
        tell(now(queue, seconds))
    assert capsys.readouterr().err == "etl: waiting for workers to start\n"


def test_without_a_terminal_a_run_that_goes_on_says_nothing(queue, capsys):
    tell = _Teller().tell
    for seconds in range(20):
        put(queue, 1)
        tell(now(queue, float(seconds)))
    assert capsys.readouterr().err == ""


def test_a_paused_store_is_said_at_once_with_the_command_that_resumes_it(queue, capsys):
    queue.pause()
    tell = _Teller().tell
    tell(now(queue, 0.0))
    tell(now(queue, 9.0))
    said = capsys.readouterr().err
    assert said.count("the store is paused; to continue: ") == 1
    assert "resume --store" in said
