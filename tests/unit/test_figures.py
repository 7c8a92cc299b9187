"""Figures are pure functions of frames: always of one shape, and never more than text."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest

import etl
from etl import Batch, DeadLetters, Pipeline, Worker, open_queue, reject
from etl.analysis import figures, metrics, traces
from etl.analysis.compare import compare_stores
from etl.analysis.figures import look, room
from etl.analysis.overview import overview
from etl.analysis.templates import templates
from etl.demo import dashboard
from etl.queue import Queue
from etl.text import duration

WEB = Path(etl.__file__).with_name("web")

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
    found = overview(queue)
    return figures.charts(found["levels"], found["history"], **more)


def test_bars_show_lines_by_level_in_a_fixed_order():
    bars = figures.levels({"ERROR": 2, "INFO": 5}).data[0]

    assert list(bars.x) == ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    assert list(bars.y) == [0, 5, 0, 2, 0]


def test_an_unknown_level_is_drawn_last_and_escaped():
    assert figures.levels({BAD: 1}).data[0].x[-1] == "&lt;img src=x onerror=alert(1)&gt;"


def test_levels_look_alike_in_figures_and_on_the_page():
    css = (WEB / "console.css").read_text()
    pairs = re.findall(r"--(\w+): light-dark\((#\w+), (#\w+)\)", css)
    on_page = {name.upper(): (light, dark) for name, light, dark in pairs}
    for name in look.LEVELS:
        assert (look.LEVELS[name], look.LEVELS_DARK[name]) == on_page[name]
    signs = re.search(r"const GLYPHS = {(.+?)}", (WEB / "parts.js").read_text())[1]
    assert dict(re.findall(r'(\w+): "(.+?)"', signs)) == look.GLYPHS


def test_every_colour_of_a_level_differs():
    assert len(set(figures.LEVELS.values())) == len(figures.LEVELS)


def test_throughput_is_a_difference_and_depth_a_level(worked: Queue):
    history = metrics.history(worked)
    last = worked.read("queue_history")[-1]["second"]

    rate, waiting = figures.throughput(history, now=last).data

    assert rate.y[-1] == 2
    assert len(rate.y) == len(waiting.y) == figures.WINDOW
    assert waiting.y[-1] == 0


def test_times_are_in_microseconds_and_in_order(worked: Queue, monkeypatch):
    monkeypatch.setattr(metrics, "ENOUGH_BATCHES", 1)
    _, p50, p95, p99 = figures.latency(metrics.processors(worked)).data

    assert list(p50.y) == ["level", "check", "count"]
    for low, middle, high in zip(p50.x, p95.x, p99.x, strict=True):
        assert 0.01 < low <= middle <= high < 60e6


def test_the_graph_counts_lines_and_rings_errors(worked: Queue):
    edges, lit, nodes = figures.graph(
        metrics.processors(worked), EDGES, lit=["input", "level"]
    ).data

    assert "<b>check</b><br>3<br>1 dead" in nodes.text
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


def test_the_graph_is_as_high_as_its_branches_need(worked: Queue):
    none = metrics.processors(worked).head(0)
    heights = {}
    for count in (1, 2, 3, 5):
        edges = [("input", str(number)) for number in range(count)]
        drawn = figures.graph(none, edges)
        _, *ys = drawn.data[-1].y
        gaps = [above - below for above, below in itertools.pairwise(ys)]
        heights[count] = drawn.layout.height
        assert all(gap * heights[count] / 1.35 > 60 for gap in gaps), "a node and two lines of text"
    assert list(heights.values()) == sorted(set(heights.values()))


def test_the_control_room_has_one_shape_for_any_store(worked: Queue):
    empty, full = spec(open_queue("sqlite://")), spec(worked)

    assert [one["type"] for one in empty["data"]] == [one["type"] for one in full["data"]]
    assert empty["layout"].keys() == full["layout"].keys()
    assert go.Figure(full).data[0].orientation == "h"


def test_rate_and_backlog_have_an_axis_each(worked: Queue):
    worked.put(*[Batch.from_lines([f"INFO {n}"]) for n in range(30)])
    layout, (_, rate, waiting) = (found := spec(worked))["layout"], found["data"]

    assert (rate["yaxis"], waiting["yaxis"]) == ("y2", "y3")
    assert waiting["y"][-1] == 30
    assert layout["yaxis3"]["range"] == [0, 50]
    assert layout["yaxis2"]["range"] == [0, 10]
    assert layout["yaxis3"]["overlaying"] == "y2"


@pytest.mark.parametrize(("seconds", "first"), [(120, "−2 m"), (900, "−15 m"), (3600, "−1 h")])
def test_a_history_says_how_far_back_it_goes(worked: Queue, seconds: int, first: str):
    history = overview(worked, seconds=seconds)["history"]
    axis = figures.charts([], history, width=800)["layout"]["xaxis2"]

    assert axis["ticktext"][-1] == "now"
    assert axis["ticktext"][0] == first


@pytest.mark.parametrize("width", [400, 676, 1000])
def test_its_charts_do_not_overlap(worked: Queue, width: int):
    layout = spec(worked, width=width)["layout"]

    assert layout["width"] == width
    assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]
    assert layout["xaxis2"]["domain"][1] < 1


def test_a_refresh_changes_only_what_differs(worked: Queue):
    plotly = pytest.importorskip("plotly.graph_objects")
    before = spec(open_queue("sqlite://"))
    after = spec(worked, dark=True)
    widget = plotly.FigureWidget(before)

    figures.refresh(widget, before, after)

    assert list(widget.data[0].x) == [0, 1, 1, 0, 0]
    assert widget.layout.font.color == after["layout"]["font"]["color"]
    assert widget.data[0].type == "bar"


@pytest.mark.parametrize(
    ("value", "top"), [(0, 10), (10, 10), (11, 20), (21, 50), (51, 100), (99_000, 100_000)]
)
def test_axes_end_at_round_numbers(value: float, top: float):
    assert room._nice(value, 10) == top


# Figures that look back on a run

Draw = Callable[..., go.Figure]

LOOKING_BACK: dict[str, Callable[[Queue], tuple[Draw, Any]]] = {
    "flow": lambda queue: (figures.flow, metrics.history(queue)),
    "time_shares": lambda queue: (figures.time_shares, metrics.time_shares(queue)),
    "latency": lambda queue: (figures.latency, metrics.processors(queue)),
    "latency_times": lambda queue: (figures.latency_times, metrics.latency_history(queue)),
    "paths": lambda queue: (figures.paths, traces.path_edges(queue)),
    "comparison": lambda queue: (figures.comparison, compare_stores(queue, queue).processors),
    "failure_times": lambda queue: (figures.failure_times, DeadLetters(queue).frame()),
    "templates": lambda queue: (figures.templates, templates(DeadLetters(queue).frame()["line"])),
    "level_times": lambda queue: (
        figures.level_times,
        metrics.history(queue).rename(columns={"second": "at", "done": "lines"}).assign(level=None),
    ),
}


@pytest.mark.parametrize("name", LOOKING_BACK)
def test_a_figure_is_drawn_of_any_store_light_or_dark(worked: Queue, name: str):
    for queue in (worked, open_queue("sqlite://")):
        draw, frame = LOOKING_BACK[name](queue)
        light, dark = draw(frame), draw(frame, dark=True)

        looks = [figure.layout.template.layout for figure in (light, dark)]
        assert [one.paper_bgcolor for one in looks] == [look.PAPER[False], look.PAPER[True]]
        assert light.layout.title.text
        assert [trace.type for trace in light.data] == [trace.type for trace in dark.data]


def history(*rows: tuple[int, int, int]) -> pd.DataFrame:
    """Make a history of (second, done, waiting)."""
    frame = pd.DataFrame(rows, columns=["second", "done", "waiting"])
    frame["second"] = pd.to_datetime(frame["second"], unit="s", utc=True)
    return frame.assign(filtered=0, dead=0)


def test_flow_is_lines_a_second_since_the_last_change():
    rate, waiting = figures.flow(history((100, 10, 90), (101, 40, 60), (105, 100, 0))).data

    assert [at.second for at in rate.x] == [39, 40, 41, 45], "from the second before the first"
    assert list(rate.y) == [0, 10, 30, 15]
    assert rate.line.shape == "vh", "a rate is that of the time up to its second"
    assert list(waiting.y) == [0, 90, 60, 0]
    assert waiting.line.shape == "hv", "a level holds from its second on"
    assert waiting.yaxis == "y2"


def test_the_flow_of_a_short_run_has_whole_seconds_on_its_axis():
    axes = [figures.flow(history((100, 1, 0), (end, 2, 0))).layout.xaxis for end in (101, 160)]
    assert [axis.dtick for axis in axes] == [1000, None]
    assert axes[0].range[0] < pd.Timestamp(99, unit="s", tz="UTC")
    assert axes[0].range[1] > pd.Timestamp(101, unit="s", tz="UTC"), "both ends have a label"
    assert len(figures.flow(history()).data[0].x) == 0


def test_shares_of_time_are_in_order_with_the_time_per_line():
    shares = pd.DataFrame(
        {"processor": ["parse", "<b>"], "lines": [1000, 10], "seconds": [3.0, 1.0]}
    ).assign(share=[0.75, 0.25], rate=[333.0, 10.0])
    (bars,) = figures.time_shares(shares).data

    assert list(bars.y) == ["parse", "&lt;b&gt;"]
    assert list(bars.x) == [0.75, 0.25]
    assert [text.strip() for text in bars.text] == ["75% · 3 ms a line", "25% · 100 ms a line"]


def test_latency_over_time_has_a_line_for_every_processor_the_busiest_first():
    frame = pd.DataFrame(
        [(at, name, 10, took) for at in (0, 1) for name, took in (("a", 0.1), ("b", 0.2))],
        columns=["at", "processor", "lines", "seconds_per_line"],
    )
    first, second = figures.latency_times(frame, most=1).data

    assert (first.name, list(first.y)) == ("b", [0.2, 0.2])
    assert (second.name, second.line.color) == ("a", look.OTHER)


def test_paths_flow_from_the_input_to_what_became_of_the_lines():
    edges = pd.DataFrame(
        [("input", "<i>", 5), ("<i>", "done", 4), ("<i>", "dead", 1)],
        columns=["before", "after", "lines"],
    )
    (sankey,) = figures.paths(edges).data

    assert list(sankey.node.label) == ["input", "&lt;i&gt;", "", ""]
    assert list(sankey.node.customdata) == ["input", "&lt;i&gt;", "done", "dead"]
    subtitle = figures.paths(edges).layout.title.subtitle.text
    assert re.sub("<.*?>", "", subtitle) == "The last 5 lines: ■ done 4 · ■ dead 1"
    assert list(zip(sankey.link.source, sankey.link.target, sankey.link.value, strict=True)) == [
        (0, 1, 5),
        (1, 2, 4),
        (1, 3, 1),
    ]
    assert sankey.node.color[3] == look.COLOURS["red"]


def test_a_comparison_joins_both_times_and_colours_what_changed():
    rows = [("a", 1e-6, 1e-6, ""), ("b", 1e-6, 4e-6, "slower"), ("c", 2e-6, float("nan"), "gone")]
    frame = pd.DataFrame(
        rows, columns=["processor", "seconds_per_line_a", "seconds_per_line_b", "change"]
    )
    ratio = frame["seconds_per_line_b"] / frame["seconds_per_line_a"]
    *joined, a, b, ratios = figures.comparison(frame.assign(ratio=ratio)).data

    assert list(a.y) == list(b.y) == ["b", "a"]
    assert (list(a.x), list(b.x)) == ([1e-6, 1e-6], [4e-6, 1e-6])
    assert [list(line.x) for line in joined] == [[1e-6, 4e-6], [1e-6, 1e-6]]
    assert joined[0].line.color == look.COLOURS["red"]
    assert [text.strip() for text in ratios.text] == ["4.00 ×", "1.00 ×"]


def test_a_comparison_of_long_times_fits_its_axis_and_leaves_out_what_took_none():
    frame = pd.DataFrame(
        {"processor": ["a", "b"], "seconds_per_line_a": [0.1, 0.2], "change": ["slower", ""]}
    ).assign(seconds_per_line_b=[0.4, 0.0], ratio=[4.0, 0.0])
    drawn = figures.comparison(frame)

    assert list(drawn.data[-1].y) == ["a"]
    assert -1.2 < drawn.layout.xaxis.range[0] < drawn.layout.xaxis.range[1] < 0


def test_kinds_of_failure_that_look_alike_are_drawn_apart():
    times = pd.to_datetime([0, 0], unit="s", utc=True)
    frame = pd.DataFrame({"first_failed_at": times, "fingerprint": ["x", "y"], "lines": [2, 1]})
    drawn = figures.failure_times(frame.assign(processor="p", code="c", error="", message="m"))

    assert [trace.name for trace in drawn.data] == ["p: c, m", "p: c, m (2)"]
    assert drawn.layout.barmode == "stack"


def test_levels_over_time_are_stacked_in_their_order():
    times = pd.to_datetime([0, 0, 10], unit="s", utc=True)
    frame = pd.DataFrame({"at": times, "level": ["ERROR", "INFO", None], "lines": [1, 9, 3]})
    traces = figures.level_times(frame).data

    assert [trace.name for trace in traces] == ["no level", "INFO", "ERROR"]
    assert [list(trace.y) for trace in traces] == [[3], [9], [1]]
    assert traces[2].marker.color == figures.LEVELS["ERROR"]


def test_failures_over_time_are_by_kind_and_the_rare_ones_are_one():
    times = pd.to_datetime([0, 1, 61, 61], unit="s", utc=True)
    frame = pd.DataFrame({"first_failed_at": times, "fingerprint": ["x", "x", "y", "z"]})
    frame = frame.assign(lines=[1, 1, 1, 1], processor="p", code="c", error="", message="m")
    first, rest = figures.failure_times(frame, every="1min", most=1).data

    assert (first.name, list(first.y)) == ("p: c, m", [2])
    assert (rest.name, list(rest.y)) == ("2 other kinds", [2])


def test_templates_stand_above_their_bars():
    bars, texts = figures.templates(templates(["<b> 1", "<b> 2", "end"]), most=1).data

    assert list(bars.x) == [2]
    assert list(texts.text) == ["&lt;b&gt; &lt;*&gt;"]
    assert texts.y[0] < bars.y[0]


@pytest.mark.parametrize("name", LOOKING_BACK)
def test_no_text_of_a_log_or_a_pipeline_is_read_as_html_or_tex(name: str):
    queue = open_queue("sqlite://")
    bad = f"{BAD} $x$"
    pipeline = Pipeline("p").add(
        bad, lambda frame: reject(frame, frame["line"].is_not_null(), bad, bad)
    )
    queue.put(Batch.from_lines([bad] * 3))
    Worker(queue, pipeline).drain()
    draw, frame = LOOKING_BACK[name](queue)
    if "level" in frame:
        frame = frame.assign(level=bad)
    data = json.dumps(draw(frame).to_plotly_json()["data"], default=str)

    assert "<img" not in data
    assert "$x$" not in data


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x1b[31m\nb", "a\\x1b[31m\\nb"), ("x" * 50, "x" * 39 + "…"), ("a$b", "a&#36;b")],
)
def test_a_label_is_one_short_harmless_line(text: str, shown: str):
    assert figures.label(text) == shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(2, "2 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 µs"), (3e-9, "3 ns")]
)
def test_times_are_said_with_a_unit_that_suits(seconds: float, said: str):
    assert duration(seconds) == said


SIGHT = {
    "full": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)),
    "no green": ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)),
    "no blue": ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304)),
}
"""What is seen of linear RGB: Machado, Oliveira and Fernandes 2009, severity 1."""


def seen(colour: str, sight: str) -> tuple[float, float, float]:
    """Return a colour as CIELAB, as it is seen."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    light = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    red, green, blue = (
        sum(k * part for k, part in zip(row, light, strict=True)) for row in SIGHT[sight]
    )
    xyz = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (max(v, 0) ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", [look.COLOURS, look.LEVELS], ids=["COLOURS", "LEVELS"])
def test_colours_are_told_apart_with_any_sight(palette: dict[str, str], sight: str):
    for one, other in itertools.combinations(palette.values(), 2):
        points = zip(seen(one, sight), seen(other, sight), strict=True)
        assert sum((a - b) ** 2 for a, b in points) ** 0.5 > 12, (one, other)


def test_the_look_is_there_for_other_figures():
    figure = go.Figure(layout={"template": "etl_dark"})

    assert figure.layout.template.layout.paper_bgcolor == look.PAPER[True]
    assert list(figure.layout.template.layout.colorway) == list(look.COLOURS.values())


def test_no_bar_of_buttons_lies_over_a_figure(worked: Queue, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plotly.io.renderers, "default", "plotly_mimetype")
    shown = figures.graph(metrics.processors(worked), EDGES)._repr_mimebundle_()
    assert shown["application/vnd.plotly.v1+json"]["config"]["displayModeBar"] is False


@pytest.mark.parametrize("columns", [4, 9])
def test_names_beside_each_other_stand_above_and_below_where_it_is_crowded(columns: int):
    names = [f"p{n}" for n in range(columns)]
    frame = pd.DataFrame(
        {"processor": names, "received": 1, "dead": 0, "errors": 0, "seconds": 1.0}
    )
    edges = [*itertools.pairwise(["input", *names]), (names[-1], "left"), (names[-1], "right")]
    nodes = figures.graph(frame, edges).data[2]
    crowded = ["bottom center", "top center"] * 6
    one_row = ["bottom center"] * 12 if columns == 4 else crowded
    assert list(nodes.textposition[:-2]) == one_row[: columns + 1]
    assert sorted(nodes.textposition[-2:]) == ["bottom center", "top center"]
