"""Frames as Plotly figures: pure functions, the same for a live console and for a report.

For what happens now:

    levels(counts)            lines processed, by level
    throughput(history)       lines a second, and lines that wait, of the last two minutes
    latency(processors)       time per line of every processor
    graph(processors, edges)  the pipeline: where lines, time and errors go
    charts(levels, history)   those of its screen, as plain data

For looking back on a run:

    flow(history)             lines a second, and lines that wait, over all of it
    level_times(counts)       lines by level over time
    time_shares(shares)       where the time went
    latency_times(latency)    time per line of every processor over time
    paths(edges)              the paths of lines
    failure_times(dead)       dead letters over time, by kind of failure
    comparison(processors)    time per line in two runs
    templates(found)          the most frequent message templates

Every figure is light, or dark with `dark=True`. The look is a Plotly template
that other figures may use too, once this package is imported:
`plotly.express.line(frame, template="etl")`, or `"etl_dark"`.
"""

from etl.analysis.figures.lines import failure_times as failure_times
from etl.analysis.figures.lines import flow as flow
from etl.analysis.figures.lines import level_times as level_times
from etl.analysis.figures.lines import paths as paths
from etl.analysis.figures.lines import templates as templates
from etl.analysis.figures.look import LEVELS as LEVELS
from etl.analysis.figures.look import Figure as Figure
from etl.analysis.figures.look import label as label
from etl.analysis.figures.processors import comparison as comparison
from etl.analysis.figures.processors import latency_times as latency_times
from etl.analysis.figures.processors import time_shares as time_shares
from etl.analysis.figures.room import WINDOW as WINDOW
from etl.analysis.figures.room import Spec as Spec
from etl.analysis.figures.room import charts as charts
from etl.analysis.figures.room import graph as graph
from etl.analysis.figures.room import latency as latency
from etl.analysis.figures.room import levels as levels
from etl.analysis.figures.room import refresh as refresh
from etl.analysis.figures.room import throughput as throughput
