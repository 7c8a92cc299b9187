"""What screens show of a store."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from etl import Batch, Worker
from etl.analysis.overview import OverviewReader, level_of, overview
from etl.demo import dashboard
from etl.dlq import DeadLetters

LINES = ["INFO a", "WARNING b", "CRITICAL c", "CRITICAL d", "no word"]


@pytest.fixture
def worked(queue):
    queue.put(*[Batch.from_lines([line], source="shop.log") for line in LINES])
    Worker(queue, dashboard).drain()
    return queue


def test_it_is_plain_data(worked):
    found = overview(worked)
    assert json.loads(json.dumps(found)) == found


def test_an_empty_store(queue):
    found = overview(queue)
    assert (found["state"], found["open"], found["kinds"], found["latest"]) == ("absent", 0, [], [])
    assert found["levels"][1] == ["INFO", 0]
    assert found["pipeline"] == {"nodes": [found["pipeline"]["nodes"][0]], "edges": [], "others": 0}
    assert set(found["history"]["waiting"]) == {0}


def test_what_was_done_and_what_failed(worked):
    found = overview(worked)
    assert found["totals"] == worked.stats().totals()
    assert found["conserved"]
    assert (found["open"], found["discarded"], found["dead_last_minute"]) == (3, 0, 3)
    assert dict(found["levels"])["INFO"] == 1
    nodes = {node["name"]: node for node in found["pipeline"]["nodes"]}
    assert [nodes[name]["received"] for name in ("input", "level", "check", "count")] == [
        5,
        5,
        4,
        2,
    ]
    assert [nodes[name]["open"] for name in ("level", "check", "count")] == [1, 2, 0]
    assert sum(node["share"] for node in nodes.values()) == pytest.approx(1)
    assert ["check", "count"] in found["pipeline"]["edges"]
    first = found["kinds"][0]
    assert (first["lines"], first["processor"], first["sample"]) == (2, "check", "CRITICAL d")
    assert (len(first["last_minutes"]), sum(first["last_minutes"])) == (12, 2)
    assert [one["level"] for one in found["latest"]] == ["OTHER", "CRITICAL", "CRITICAL"]
    assert sum(found["history"]["rate"]) == 5
    assert found["rate"] == found["rate_in"] > 0


def test_what_is_discarded_is_told_apart(worked):
    DeadLetters(worked).discard(processor="check")
    found = overview(worked)
    assert (found["totals"]["dead"], found["open"], found["discarded"]) == (3, 1, 2)


def test_lines_that_wait_and_lines_that_workers_have(queue):
    queue.put(*[Batch.from_lines([line], source="a.log") for line in LINES])
    queue.register("w")
    lease = queue.lease("w")
    reader = OverviewReader(queue, edges=[("input", "x")])
    found = reader.read(icons=2)
    assert [item[1:] for item in found["processing"]] == [["INFO", "INFO a"]]
    assert [item[1] for item in found["waiting"]] == ["WARNING", "CRITICAL"]
    assert found["more"] == 2
    assert found["oldest"] >= 0
    assert found["state"] == "working"
    [worker] = found["workers"]
    assert (worker["state"], worker["batch"]) == ("working", "a.log, line 1")
    assert worker["for"] >= 0
    assert [node["name"] for node in found["pipeline"]["nodes"]] == ["input", "x"]
    queue.renew(lease)
    assert reader.read()["workers"][0]["for"] >= worker["for"]
    queue.pause("tea")
    assert (reader.read()["state"], reader.read()["paused_by"]) == ("paused", "operator")
    queue.release(lease)
    assert reader.read()["workers"][0]["batch"] == ""


@pytest.mark.parametrize(("seconds", "points"), [(120, 120), (900, 225), (3600, 240)])
def test_a_history_has_few_points_that_are_evenly_spaced(worked, seconds, points):
    history = overview(worked, seconds=seconds)["history"]
    assert len(history["seconds"]) == len(history["rate"]) == len(history["waiting"]) == points
    steps = {b - a for a, b in pairwise(history["seconds"])}
    assert steps == {seconds // points}
    assert history["seconds"][-1] == 0


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026 warn: x", "WARNING"),
        ("ERR x", "ERROR"),
        ("FATAL x", "CRITICAL"),
        ("information", "OTHER"),
    ],
)
def test_the_level_that_a_line_names(line, level):
    assert level_of(line) == level
