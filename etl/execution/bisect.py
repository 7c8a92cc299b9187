"""Run one processor on one frame, and find the lines that make it fail.

A processor that raises is run again on halves of its frame, and halves of
those, until the lines that raise are alone; the rest goes on. They are tried
again as the retry policy says, each time from a fresh copy and, for a stateful
processor, from the state before. Not here: where the lines go next.
"""

from __future__ import annotations

import copy
import ctypes
import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from etl.errors import PipelineError, ProcessorStop, ProcessorTimeout
from etl.processors.processor import REJECT, Each, Stateful
from etl.processors.retry import Retry

__all__ = ["FailedRows", "Result", "run_with_bisection"]

PROBES = 32
"""Single lines, drawn by chance, that are tried first when a frame fails."""


HANG_PROBES = 3
"""The same for a processor that ran out of time: each probe may cost that time again."""


FAILURES = (Exception, SystemExit, pl.exceptions.PanicException)
"""What a processor may raise and only its lines suffer."""


Call = Callable[[pl.DataFrame], pl.DataFrame]


Culprit = tuple[int, BaseException]


Rows = tuple[pl.DataFrame, list[Culprit]]


@dataclass(frozen=True, slots=True)
class FailedRows:
    """Rows that failed alike: `rows` as they were at the failure, and why.

    `reasons` has one text per row.
    """

    rows: pl.DataFrame
    code: str
    reasons: pl.Series
    error: str = ""
    traceback: str = ""
    attempts: int = 1


@dataclass(slots=True)
class Result:
    """What came out of one processor: good rows in order, bad ones, and counts."""

    good: pl.DataFrame
    bad: list[FailedRows] = field(default_factory=list)
    errors: int = 0
    retries: int = 0


def run_with_bisection(
    processor: Any,
    call: Call,
    frame: pl.DataFrame,
    *,
    retry: Retry,
    timeout: float | None,
    sleep: Callable[[float], None],
) -> Result:
    """Run `call` on a frame so that a line that fails takes no other with it.

    Args:
        processor: The processor behind `call`, to know what kind it is.
        call: Runs it on a frame.
        frame: The rows.
        retry: How often failing lines are tried.
        timeout: Seconds that one call may take, or None.
        sleep: Waits for some seconds between tries.

    Raises:
        ProcessorStop: If the processor asks for everything to stop.
    """
    attempt = _Attempt(processor, call, timeout)
    good, culprits = attempt.run(frame)
    result = Result(good, errors=len(culprits))
    tries = 1
    while culprits and tries < retry.attempts:
        again = [position for position, error in culprits if isinstance(error, retry.on)]
        if not again:
            break
        given_up = [culprit for culprit in culprits if not isinstance(culprit[1], retry.on)]
        result.bad += _describe(frame, given_up, tries)
        sleep(retry.seconds(tries))
        tries += 1
        result.retries += len(again)
        more, failed = attempt.run(frame[again])
        culprits = [(again[position], error) for position, error in failed]
        good = _join([good, more])
    result.good, rejected = _take_rejected(good)
    result.bad += _describe(frame, culprits, tries) + rejected
    result.errors += sum(bad.rows.height for bad in rejected)
    return result


class _Attempt:
    """Calls a processor, and on failure narrows down which rows are to blame."""

    def __init__(self, processor: Any, call: Call, timeout: float | None) -> None:
        self._rows = processor.rows if isinstance(processor, Each) else lambda f: (call(f), [])
        self._stateful = processor if isinstance(processor, Stateful) else None
        self._timeout = timeout

    def run(self, frame: pl.DataFrame) -> Rows:
        """Return the good rows, and the position and error of each that failed."""
        good, culprits, error = self._try(frame)
        if error is None:
            return good, culprits
        if frame.height <= 1 or isinstance(error, PipelineError) or self._all_fail(frame, error):
            return frame.clear(), [(row, error) for row in range(frame.height)]
        parts: list[pl.DataFrame] = []
        self._bisect(frame, 0, parts, culprits)
        return _join(parts) if parts else frame.clear(), culprits

    def _bisect(
        self, frame: pl.DataFrame, offset: int, parts: list[pl.DataFrame], culprits: list[Culprit]
    ) -> None:
        half = frame.height // 2
        for start, size in ((0, half), (half, frame.height - half)):
            piece = frame.slice(start, size)
            good, failed, error = self._try(piece)
            if error is None:
                parts.append(good)
                culprits += [(offset + start + row, why) for row, why in failed]
            elif size == 1:
                culprits.append((offset + start, error))
            else:
                self._bisect(piece, offset + start, parts, culprits)

    def _all_fail(self, frame: pl.DataFrame, error: BaseException) -> bool:
        """Say whether so many single rows fail that looking at each is of no use.

        A processor with a mistake in it fails on every row; to run it on each
        of 50,000 would find nothing that running it on some does not.
        """
        probes = HANG_PROBES if isinstance(error, ProcessorTimeout) else PROBES
        if frame.height <= probes:
            return False
        before = self._state()
        for row in random.sample(range(frame.height), probes):
            _, failed, failure = self._try(frame.slice(row, 1))
            if failure is None and not failed:
                self._restore(before)
                return False
        return True

    def _try(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[Culprit], BaseException | None]:
        before = self._state()
        try:
            if self._timeout is None:
                return *self._rows(frame.clone()), None
            return *_call_within(self._timeout, self._rows, frame.clone()), None
        except ProcessorStop:
            raise
        except FAILURES as error:
            self._restore(before)
            return frame, [], error

    def _state(self) -> Any:
        return copy.deepcopy(self._stateful.state()) if self._stateful else None

    def _restore(self, state: Any) -> None:
        if self._stateful:
            self._stateful.restore(copy.deepcopy(state))


def _call_within(seconds: float, call: Callable[[pl.DataFrame], Rows], frame: pl.DataFrame) -> Rows:
    """Run a call in a thread of its own and give up on it after some seconds."""
    answer: list[Rows] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(call(frame))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            failure.append(error)

    thread = threading.Thread(target=run, name="etl-processor", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        # Ends a loop in Python code; a call into C ends when it returns, and is let go.
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
        )
        raise ProcessorTimeout(f"took longer than {seconds:g} s")
    if failure:
        raise failure[0]
    return answer[0]


def _take_rejected(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[FailedRows]]:
    """Split off the rows that `reject` marked, grouped by their code."""
    if REJECT not in frame.columns:
        return frame, []
    marked = frame.filter(pl.col(REJECT).is_not_null())
    good = frame.filter(pl.col(REJECT).is_null()).drop(REJECT)
    bad = []
    codes = pl.col(REJECT).struct.field("code")
    for code in marked.select(codes.unique(maintain_order=True)).to_series():
        rows = marked.filter(codes == code)
        reasons = rows[REJECT].struct.field("reason").fill_null("")
        bad.append(FailedRows(rows.drop(REJECT), code, reasons))
    return good, bad


def _describe(frame: pl.DataFrame, culprits: list[Culprit], attempts: int) -> list[FailedRows]:
    """Group rows that raised by what they raised and where."""
    groups: dict[tuple[str, str, int], list[Culprit]] = {}
    for position, error in culprits:
        groups.setdefault((type(error).__name__, *_place(error)), []).append((position, error))
    return [
        FailedRows(
            frame[[position for position, _ in members]],
            code="timeout" if name == ProcessorTimeout.__name__ else "error",
            reasons=pl.Series([_message(error) for _, error in members], dtype=pl.String),
            error=name,
            traceback=_traceback(members[0][1]),
            attempts=attempts,
        )
        for (name, _, _), members in groups.items()
    ]


def _message(error: BaseException) -> str:
    return _plain(str(error).strip() or type(error).__name__)


def _plain(text: str) -> str:
    """Return text that can be stored: half a surrogate pair cannot."""
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
