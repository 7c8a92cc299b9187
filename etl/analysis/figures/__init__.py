"""Frames as Plotly figures: pure functions, the same for a live console and for a report.

For the control room, each also a panel of one figure for a `FigureWidget`:

    levels(counts)            lines processed, by level
    throughput(history)       lines a second, and lines that wait, of the last two minutes
    latency(processors)       time per line of every processor
    graph(processors, edges)  the pipeline: where lines, time and errors go
    control_room(...)         all four in one figure

For looking back on a run:

    flow(history)             lines a second, and lines that wait, over all of it
    level_times(counts)       lines by level over time
    time_shares(shares)       where the time went
    latency_times(latency)    time per line of every processor over time
    paths(edges)              the ways that lines took
    failure_times(letters)    when lines died, by what killed them
    comparison(processors)    time per line in two runs
    templates(found)          the most frequent message templates

Every figure is light, or dark with `dark=True`. The look is a Plotly template
that other figures may use too, once this package is imported:
`plotly.express.line(frame, template="etl")`, or `"etl_dark"`.
"""

from etl.analysis.figures.look import LEVELS, label
from etl.analysis.figures.messages import templates
from etl.analysis.figures.room import (
    WINDOW,
    Spec,
    control_room,
    graph,
    latency,
    levels,
    panels,
    refresh,
    throughput,
)
from etl.analysis.figures.runs import comparison, flow, latency_times, paths, time_shares
from etl.analysis.figures.times import failure_times, level_times

__all__ = [
    "LEVELS",
    "WINDOW",
    "Spec",
    "comparison",
    "control_room",
    "failure_times",
    "flow",
    "graph",
    "label",
    "latency",
    "latency_times",
    "level_times",
    "levels",
    "panels",
    "paths",
    "refresh",
    "templates",
    "throughput",
    "time_shares",
]
