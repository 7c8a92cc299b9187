"""With what a control room opens on a store: it works on nobody's lines unasked."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from etl.errors import UsageError
from etl.pipeline.load import load_pipeline
from etl.queue import Queue
from etl.runs.registry import last_pipeline
from etl.runs.run import output_folder
from etl.settings import Settings

__all__ = ["DEMO", "Opening", "Options", "opening"]

DEMO = "etl.demo:dashboard"
"""The pipeline of the demo."""


class Options(TypedDict, total=False):
    """Options of a `ControlRoom`, and of its `attach`; it says what they are."""

    workers: int
    interval: float
    batch_lines: int
    demo: bool
    out: Path | str | None
    problem: str


class Opening(Options):
    """The same, and the name of the pipeline."""

    pipeline: str | None


def opening(
    queue: Queue,
    pipeline: str | None = None,
    *,
    workers: int | None = None,
    interval: float | None = None,
) -> Opening:
    """Return with what a control room opens on a store.

    A store into which nothing was put yet, or that the demo made, is to be tried: it gets the
    pipeline of the demo, a worker whose pace can be followed, and controls that make lines. Any
    other is shown as it is, with the pipeline that it was last run with, for dry runs and taps; its
    lines are left to whoever works on it, unless a pipeline or workers are asked for.

    Args:
        queue: The store.
        pipeline: Name of the pipeline, if that is known.
        workers: How many workers are asked for.
        interval: Seconds for which each holds a batch before it processes it.

    Raises:
        UsageError: If the pipeline that is named cannot be loaded.
    """
    known = last_pipeline(queue.url)
    fresh = known is None and not queue.stats().accepted
    name = pipeline or known or (DEMO if fresh else None)
    demo, problem = name == DEMO, ""
    if name:
        try:
            load_pipeline(name)
        except UsageError as error:
            if pipeline:
                raise
            name, problem = None, f"The pipeline of this store cannot be loaded here: {error}."
    if workers is None:
        workers = 1 if demo or pipeline else 0
    if interval is None:
        interval = 2.0 if demo else 0.0
    return {
        "pipeline": name,
        "workers": workers,
        "interval": interval,
        "batch_lines": 1 if demo or interval else Settings.batch_lines,
        "demo": demo,
        "out": output_folder(queue),
        "problem": problem,
    }
