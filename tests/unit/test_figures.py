"""Figures are pure functions of frames: always of one shape, and never more than text."""

from __future__ import annotations

import pytest

from etl import Batch, Worker, figures, metrics, open_queue
from etl.demo import dashboard
from etl.figures import room
from etl.queue import Queue

BAD = "<img src=x onerror=alert(1)>"
EDGES = [("input", "level"), ("level", "check"), ("check", "count")]


@pytest.fixture
def worked() -> Queue:
    """Give a store that has processed three lines, one of which died."""
    queue = open_queue("sqlite://")
    queue.put(Batch.from_lines(["INFO a", "WARNING b", "CRITICAL c"]))
    Worker(queue, dashboard).drain()
    return queue


def spec(queue: Queue, **more: object) -> figures.Spec:
    frames = {
        "counts": metrics.state_totals(queue).get("count", {}),
        "history": metrics.history(queue),
        "processors": metrics.processors(queue),
        "edges": EDGES,
        "now": queue.records("queue_history")[-1]["second"] if queue.stats().accepted else 1e9,
    }
    return figures.panels(**(frames | more))


def test_bars_show_lines_by_level_in_a_fixed_order():
    bars = figures.levels({"ERROR": 2, "INFO": 5}).data[0]

    assert list(bars.x) == ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    assert list(bars.y) == [0, 5, 0, 2, 0]


def test_an_unknown_level_is_drawn_last_and_escaped():
    assert figures.levels({BAD: 1}).data[0].x[-1] == "&lt;img src=x onerror=alert(1)&gt;"


def test_every_colour_of_a_level_differs():
    assert len(set(figures.LEVELS.values())) == len(figures.LEVELS)


def test_throughput_is_a_difference_and_depth_a_level(worked: Queue):
    history = metrics.history(worked)
    last = worked.records("queue_history")[-1]["second"]

    rate, waiting = figures.throughput(history, now=last).data

    assert rate.y[-1] == 2
    assert len(rate.y) == len(waiting.y) == figures.WINDOW
    assert waiting.y[-1] == 0


def test_times_are_in_microseconds_and_in_order(worked: Queue):
    _, p50, p95, p99 = figures.latency(metrics.processors(worked)).data

    assert list(p50.y) == ["level", "check", "count"]
    for low, middle, high in zip(p50.x, p95.x, p99.x, strict=True):
        assert 0.01 < low <= middle <= high < 60e6


def test_the_graph_counts_lines_and_rings_errors(worked: Queue):
    edges, lit, nodes = figures.graph(
        metrics.processors(worked), EDGES, lit=["input", "level"]
    ).data

    assert "<b>check</b><br>3 · 1 dead" in nodes.text
    assert list(nodes.marker.line.width) == [1, 1, 4, 1]
    assert [x for x in lit.x if x is not None] == pytest.approx([0, 1 / 3])
    assert len(edges.x) == 3 * len(EDGES)


def test_a_processors_name_is_escaped(worked: Queue):
    nodes = figures.graph(metrics.processors(worked), [("input", "<b>")]).data[-1]

    assert any("&lt;b&gt;" in text for text in nodes.text)


def test_branches_stand_above_each_other(worked: Queue):
    edges = [("input", "a"), ("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    nodes = figures.graph(metrics.processors(worked).head(0), edges).data[-1]

    places = dict(zip([text.split("<")[1][2:] for text in nodes.text], nodes.x, strict=True))
    assert places["b"] == places["c"]
    assert places["a"] < places["b"] < places["d"]


def test_the_control_room_has_one_shape_for_any_store(worked: Queue):
    empty, full = spec(open_queue("sqlite://")), spec(worked, lit=["input", "level"])

    assert [one["type"] for one in empty["data"]] == [one["type"] for one in full["data"]]
    assert empty["layout"].keys() == full["layout"].keys()
    assert figures.control_room(
        counts={},
        history=metrics.history(worked),
        processors=metrics.processors(worked),
        edges=EDGES,
        now=1e9,
    ).data


@pytest.mark.parametrize(("width", "height"), [(1100, 520), (500, 1020)])
def test_a_narrow_page_has_one_column(worked: Queue, width: int, height: int):
    layout = spec(worked, width=width)["layout"]

    assert (layout["width"], layout["height"]) == (width, height)
    starts = {round(layout[f"xaxis{mark}"]["domain"][0] * 2) for mark in ("", "2")}
    assert len(starts) == (2 if width > 800 else 1)


def test_a_refresh_changes_only_what_differs(worked: Queue):
    plotly = pytest.importorskip("plotly.graph_objects")
    before = spec(open_queue("sqlite://"))
    after = spec(worked, dark=True)
    widget = plotly.FigureWidget(before)

    figures.refresh(widget, before, after)

    assert list(widget.data[0].y) == [0, 1, 1, 0, 0]
    assert widget.layout.font.color == after["layout"]["font"]["color"]
    assert widget.data[0].type == "bar"


@pytest.mark.parametrize(
    ("value", "top"), [(0, 10), (10, 10), (11, 20), (21, 50), (51, 100), (99_000, 100_000)]
)
def test_axes_end_at_round_numbers(value: float, top: float):
    assert room._nice(value, 10) == top
