"""Run one processor on one frame, and find the rows that make it fail.

A processor that raises is run again on halves of its frame, and on halves of
those, until each row that raises is alone; the other rows go on. The rows that
failed are tried again as the retry policy says, each time from a fresh copy and,
for a stateful processor, from the state before. Not here: where rows go next.
"""

from __future__ import annotations

import copy
import ctypes
import random
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import polars as pl

from etl.errors import PipelineError, ProcessorStop, ProcessorTimeout, is_echo, is_interrupt
from etl.pipeline.plan import Node
from etl.processors.processor import REJECT, Abandoned, Each
from etl.records.frames import without

__all__ = [
    "FailedRows",
    "ProcessorOutput",
    "Watchdog",
    "message_of",
    "no_watchdog",
    "run_with_bisection",
    "uninterrupted",
]

T = TypeVar("T")

PROBES = 32
"""Single rows, drawn at random, that are tried first when a frame fails."""


TIMEOUT_PROBES = 3
"""The same after a timeout: each probe may take as long again."""


Call = Callable[[pl.DataFrame], pl.DataFrame]


Watchdog = Callable[[str, float], AbstractContextManager[object]]
"""Given a processor's name and its timeout, ends the process if the call in it hangs."""


def no_watchdog(_processor: str, _timeout: float) -> AbstractContextManager[object]:
    """Let a call hang."""
    return nullcontext()


RowError = tuple[int, BaseException]
"""The position of a row in its frame, and what was raised for it."""


Rows = tuple[pl.DataFrame, list[RowError]]
"""The rows that passed, and the errors of those that did not."""


@dataclass(frozen=True, slots=True)
class FailedRows:
    """Rows that failed alike, and why.

    Attributes:
        rows: The rows as they were at the failure.
        code: Short name of the reason.
        reasons: String series, one sentence per row.
        error: Class of the exception, or empty.
        traceback: Its traceback, or empty.
        attempts: How often the rows were tried.
    """

    rows: pl.DataFrame
    code: str
    reasons: pl.Series
    error: str = ""
    traceback: str = ""
    attempts: int = 1


@dataclass(slots=True)
class ProcessorOutput:
    """What one processor made of a frame.

    Attributes:
        rows: The rows that go on, in order unless some were retried.
        failed: The rows that failed, grouped by reason.
        errors: Source lines that failed at the first try.
        retries: Source lines that were tried again, summed over the tries.
    """

    rows: pl.DataFrame
    failed: list[FailedRows] = field(default_factory=list)
    errors: int = 0
    retries: int = 0


def run_with_bisection(
    node: Node,
    call: Call,
    frame: pl.DataFrame,
    *,
    sleep: Callable[[float], None],
    lines: Callable[[pl.DataFrame], int] = len,
    watchdog: Watchdog = no_watchdog,
) -> ProcessorOutput:
    """Return what a processor makes of a frame; a row that fails takes no other with it.

    Args:
        node: Has the processor, its retry policy and its timeout.
        call: Runs the processor on a frame.
        frame: The rows.
        sleep: Waits for some seconds between tries.
        lines: Returns how many source lines some of the rows stand for.
        watchdog: Watches each call that has a timeout.

    Raises:
        ProcessorStop: If the processor asks for everything to stop.
    """
    retry, attempt = node.retry, _Attempt(node, call, watchdog)
    good, failed = attempt.run(frame)
    output = ProcessorOutput(good, errors=lines(frame[[place for place, _ in failed]]))
    tries = 1
    while tries < retry.attempts:
        again = [place for place, error in failed if isinstance(error, retry.on)]
        if not again:
            break
        given_up = [one for one in failed if not isinstance(one[1], retry.on)]
        output.failed += _group(frame, given_up, tries)
        sleep(retry.seconds(tries))
        tries += 1
        output.retries += lines(frame[again])
        more, errors = attempt.run(frame[again])
        failed = [(again[place], error) for place, error in errors]
        good = _join([good, more])
    output.rows, rejected = _take_rejected(good)
    output.failed += _group(frame, failed, tries) + rejected
    output.errors += sum(lines(group.rows) for group in rejected)
    return output


class _Attempt:
    """Calls a processor; after a failure, finds the rows that cause it."""

    def __init__(self, node: Node, call: Call, watchdog: Watchdog) -> None:
        processor = node.processor
        self._rows: Callable[[pl.DataFrame], Rows] = (
            processor.rows if isinstance(processor, Each) else lambda frame: (call(frame), [])
        )
        self._stateful = node.stateful
        self._name, self._timeout, self._watchdog = node.name, node.timeout, watchdog

    def run(self, frame: pl.DataFrame) -> Rows:
        """Return the rows that pass, and the position and error of each that fails."""
        passed: list[pl.DataFrame] = []
        failed: list[RowError] = []
        pieces = [(0, frame.height)]
        while pieces:
            start, size = pieces.pop()
            result = self._try(frame.slice(start, size))
            if not isinstance(result, BaseException):
                passed.append(result[0])
                failed += [(start + row, error) for row, error in result[1]]
            elif size <= 1:
                failed += [(row, result) for row in range(start, start + size)]
            elif size == frame.height and self._all_fail(frame, result):
                return frame.clear(), [(row, result) for row in range(size)]
            else:
                half = size // 2
                pieces += [(start + half, size - half), (start, half)]
        return _join(passed) if passed else frame.clear(), failed

    def _all_fail(self, frame: pl.DataFrame, error: BaseException) -> bool:
        """Return whether every row seems to fail, so that bisection would find nothing.

        A processor with a mistake in it fails on every row: to run it on each of
        50,000 shows nothing that running it on some does not.
        """
        probes = TIMEOUT_PROBES if isinstance(error, ProcessorTimeout) else PROBES
        if isinstance(error, PipelineError) or frame.height <= probes:
            return isinstance(error, PipelineError)
        before = self._state()
        for row in random.sample(range(frame.height), probes):
            result = self._try(frame.slice(row, 1))
            if not isinstance(result, BaseException) and not result[1]:
                self._restore(before)
                return False
        return True

    def _try(self, frame: pl.DataFrame) -> Rows | BaseException:
        """Return the result of one call, or what it raised after going back to the state before.

        Whatever that is, such as a CancelledError or another library's panic, it is the rows'.
        """
        result = self._once(frame)
        if isinstance(result, BaseException) and is_echo(result):
            result = self._once(frame)
        return result

    def _once(self, frame: pl.DataFrame) -> Rows | BaseException:
        before = self._state()
        try:
            if self._timeout is None:
                return self._rows(frame.clone())
            with self._watchdog(self._name, self._timeout):
                return _call_within(self._timeout, self._rows, frame.clone())
        except ProcessorStop:
            raise
        except BaseException as error:
            if is_interrupt(error):
                raise
            self._restore(before)
            return error

    def _state(self) -> Any:
        return copy.deepcopy(self._stateful.state()) if self._stateful else None

    def _restore(self, state: Any) -> None:
        if self._stateful:
            self._stateful.restore(copy.deepcopy(state))


def _call_within(seconds: float, call: Callable[[pl.DataFrame], Rows], frame: pl.DataFrame) -> Rows:
    """Return the result of a call that runs in a thread, or raise ProcessorTimeout."""
    future: Future[Rows] = Future()

    def run() -> None:
        try:
            future.set_result(call(frame))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            future.set_exception(error)

    thread = threading.Thread(target=run, name="etl-processor", daemon=True)
    thread.start()
    if not wait([future], seconds).done:
        # Ends a loop in Python code; a call into C ends when it returns, and is let go.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Abandoned)
        )
        raise ProcessorTimeout(f"took longer than {seconds:g} s")
    return future.result()


def uninterrupted(call: Callable[[], T]) -> T:
    """Return what a call returns; it is made again if Ctrl-C in the main thread has ended it."""
    try:
        return call()
    except KeyboardInterrupt as error:
        if not is_echo(error):
            raise
    return call()


def _take_rejected(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[FailedRows]]:
    """Return the rows that `reject` did not mark, and those that it did by code."""
    if REJECT not in frame.columns:
        return frame, []
    marks = frame[REJECT]
    frame = without(frame, (REJECT,))
    marked = marks.is_not_null()
    if not marked.any():
        return frame, []
    places = marked.arg_true().alias("place")
    said = marks[places].struct.unnest().hstack([places])
    if said["reason"].null_count():
        said = said.with_columns(pl.col("reason").fill_null(""))
    failed = [
        FailedRows(frame[one["place"]], str(one["code"][0]), one["reason"])
        for one in said.partition_by("code", maintain_order=True)
    ]
    return frame.filter(~marked), failed


def _group(frame: pl.DataFrame, errors: list[RowError], attempts: int) -> list[FailedRows]:
    """Return the rows that raised, grouped by what was raised and where."""
    groups: dict[tuple[str, str, int], list[RowError]] = {}
    for position, error in errors:
        groups.setdefault((type(error).__name__, *_place(error)), []).append((position, error))
    return [
        FailedRows(
            frame[[position for position, _ in members]],
            code="timeout" if name == ProcessorTimeout.__name__ else "error",
            reasons=pl.Series([_plain(message_of(error)) for _, error in members]),
            error=name,
            traceback=_traceback(members[0][1]),
            attempts=attempts,
        )
        for (name, _, _), members in groups.items()
    ]


def message_of(error: BaseException) -> str:
    """Return what an exception says, or its class if it says nothing."""
    try:
        return str(error).strip() or type(error).__name__
    except BaseException:  # noqa: BLE001 - of a class whose `__str__` raises
        return type(error).__name__


def _plain(text: str) -> str:
    """Return text that can be stored, as half of a surrogate pair cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _place(error: BaseException) -> tuple[str, int]:
    """Return the file and line where an error was raised."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return (last.tb_frame.f_code.co_filename, last.tb_lineno) if last else ("", 0)


def _traceback(error: BaseException) -> str:
    """Return the traceback as text, from the user's code on."""
    frames = traceback.TracebackException.from_exception(error, limit=-12)
    return _plain("".join(frames.format()))


def _join(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
