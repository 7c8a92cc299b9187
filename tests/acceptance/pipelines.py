"""Pipelines for the acceptance tests; the command line loads them by this file's path.

In the environment, `DELAY` is the seconds that each batch takes at least, `GATE` a file without
which none ends, and `MACHINE` the name of the machine on which a worker believes it runs.
"""

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from etl import Count, Parquet, Pipeline, Stdout, drop, each, normalise, reject
from etl.processors.builtin import Parse
from etl.processors.processor import only_polars

LINE = pl.col("line")

if machine := os.environ.get("MACHINE"):
    socket.gethostname = lambda: machine


def pace(frame: pl.DataFrame) -> pl.DataFrame:
    time.sleep(float(os.environ.get("DELAY", "0")))
    while (gate := os.environ.get("GATE")) and not Path(gate).exists():
        time.sleep(0.01)
    return frame


def number(frame: pl.DataFrame) -> pl.DataFrame:
    frame = frame.with_columns(number=LINE.str.extract(r"line (\d+)", 1).cast(pl.Int64))
    return reject(frame, LINE.str.contains("poison"), "poison", "the line is poison")


numbered = (
    Pipeline("numbered")
    .add("pace", pace)
    .add("blank", drop(LINE.str.strip_chars() == ""))
    .add("number", number)
    .add("odd", None, after="number", when=pl.col("number") % 2 == 1)
    .add("even", None, after="number")
    .add("count", Count("number"), after=("odd", "even"))
    .add("parquet", Parquet())
)

uncounted = Pipeline("uncounted").add("pace", pace).add("number", number).add("out", Parquet())

light = (
    Pipeline("light")
    .add("pace", pace)
    .add("number", number)
    .add("parquet", Parquet(leave_out=["line"]))
)


in_threads = (
    Pipeline("in_threads")
    .add("pace", only_polars(partial(pace)))
    .add("number", only_polars(partial(number)))
    .add("parquet", Parquet(leave_out=["line"]))
)


@dataclass(frozen=True)
class Lingering(Parquet):
    """Parquet that is slow to say that its file is written."""

    def stage(self, frame, delivery):
        staged = super().stage(frame, delivery)
        pace(frame)
        return staged


lingering = Pipeline("lingering").add("number", number).add("parquet", Lingering())

printing = (
    Pipeline("printing")
    .add("number", number)
    .add("parquet", Parquet(), tee=True)
    .add("console", Stdout(), after="number")
)

named = Pipeline("named").add("parse", Parse()).add("normalise", normalise).add("out", Parquet())


def on_trouble(act: Callable[[], object]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return a processor that does something when a line says `readiness_error`."""

    def processor(frame: pl.DataFrame) -> pl.DataFrame:
        if frame["line"].str.contains("trouble").any():
            act()
        return frame

    return processor


def _raise() -> None:
    raise ValueError("cannot stand trouble")


def _spin() -> None:
    while True:
        pass


def _backtrack() -> None:
    re.match(r"(x+x+)+y$", "x" * 60)  # keeps Python's lock for years


def _block() -> None:
    time.sleep(3600)


def _one(act: Callable[[], object], **options: object) -> Pipeline:
    return Pipeline("troubled").add("trouble", on_trouble(act), **options).add("parquet", Parquet())


raises = _one(_raise)
exits = _one(lambda: sys.exit(3))
dies = _one(lambda: os._exit(9))
killed = _one(lambda: os.kill(os.getpid(), signal.SIGKILL))
spins = _one(_spin, timeout=0.3)
blocks = _one(_block, timeout=0.3)
backtracks = _one(_backtrack, timeout=0.3)
stops = _one(_raise, on_error="stop")
unnumbered = Pipeline("unnumbered").add("keep", None).add("parquet", Parquet())


@each
def fussy(row: dict) -> dict:
    if "trouble" in row["line"]:
        raise ValueError(f"cannot stand {row['line']!r}")
    return row


picky = Pipeline("picky").add("fussy", fussy).add("parquet", Parquet())
