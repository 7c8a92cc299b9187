"""Which lines suffer when a processor raises, how often it is tried, and what it remembers."""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ProcessorStop
from etl.execution.bisect import PROBES, TIMEOUT_PROBES, ProcessorOutput, run_with_bisection
from etl.pipeline.plan import INPUT, Node
from etl.processors.builtin import Count
from etl.processors.processor import each, reject
from etl.processors.retry import Retry

ONCE = Retry(attempts=1)
TWICE = Retry(attempts=2, wait=0.0)


def numbers(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"n": pl.int_range(rows, eager=True)})


def run(
    call: Any,
    frame: pl.DataFrame,
    *,
    retry: Retry = ONCE,
    timeout: float | None = None,
    sleep: Any = lambda _seconds: None,
    processor: Any = None,
) -> ProcessorOutput:
    node = Node(name="n", processor=processor or call, after=(INPUT,), retry=retry, timeout=timeout)
    return run_with_bisection(node, call, frame, sleep=sleep)


def failing_on(failing: set[int], error: type[BaseException] = ValueError) -> Any:
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        found = failing & set(frame["n"])
        if found:
            raise error(f"cannot do with {min(found)}")
        return frame

    return call


def failed(result: ProcessorOutput) -> list[int]:
    return sorted(row for group in result.failed for row in group.rows["n"])


@pytest.mark.parametrize(
    "failing", [{500}, {10, 900}, {41, 42, 43}, {0}, {999}, {0, 999}, {499, 500}]
)
def test_exactly_the_lines_that_raise_are_found_in_a_thousand(failing: set[int]):
    result = run(failing_on(failing), numbers(1000))

    assert failed(result) == sorted(failing)
    assert result.rows["n"].to_list() == [n for n in range(1000) if n not in failing]
    assert result.errors == len(failing)


@given(st.sets(st.integers(0, 299), max_size=40), st.integers(1, 300))
def test_whatever_lines_raise_the_others_go_on_in_order(failing: set[int], rows: int):
    result = run(failing_on(failing), numbers(rows))

    bad = {n for n in failing if n < rows}
    assert failed(result) == sorted(bad)
    assert result.rows["n"].to_list() == [n for n in range(rows) if n not in bad]


@pytest.mark.parametrize("rows", [64, 128, 6400])
def test_a_pattern_in_the_lines_does_not_condemn_the_good_ones(rows: int):
    every_second = set(range(0, rows, 2))

    assert failed(run(failing_on(every_second), numbers(rows))) == sorted(every_second)


def test_a_processor_that_fails_on_every_line_is_not_called_for_each():
    calls = []

    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        calls.append(frame.height)
        raise KeyError("message")

    result = run(broken, numbers(50_000))
    assert len(failed(result)) == result.errors == 50_000
    assert result.rows.is_empty()
    assert len(calls) <= PROBES + 1


def test_one_failing_line_costs_a_few_calls_not_one_for_each_line():
    calls = []
    inner = failing_on({3000})

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        calls.append(frame.height)
        return inner(frame)

    assert failed(run(call, numbers(4096))) == [3000]
    assert len(calls) <= 1 + PROBES + 2 * 12


def test_a_failure_tells_what_was_raised_and_where():
    result = run(failing_on({7}), numbers(20))

    (group,) = result.failed
    assert (group.code, group.error, group.attempts) == ("error", "ValueError", 1)
    assert group.reasons.to_list() == ["cannot do with 7"]
    assert "raise error(f" in group.traceback
    assert group.traceback.endswith("ValueError: cannot do with 7\n")


def test_lines_that_fail_alike_share_a_failure_with_a_reason_each():
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        if frame["n"].is_in([3, 4]).any():
            raise ValueError(f"bad {frame['n'][0]}")
        if (frame["n"] == 5).any():
            raise TypeError
        return frame

    by_error = {group.error: group.reasons.to_list() for group in run(call, numbers(10)).failed}
    assert by_error == {"ValueError": ["bad 3", "bad 4"], "TypeError": ["TypeError"]}


def test_bisecting_joins_pieces_with_different_columns():
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        failing_on({4})(frame)
        return frame.with_columns(big=pl.lit(1)) if frame["n"].max() > 6 else frame

    good = run(call, numbers(8)).rows
    assert good["n"].to_list() == [0, 1, 2, 3, 5, 6, 7]
    assert good["big"].to_list()[-1] == 1


def test_lines_that_fail_are_tried_as_often_as_the_policy_says():
    waits: list[float] = []
    policy = Retry(attempts=4, wait=1.0, max_wait=3.0, jitter=0.0)

    result = run(failing_on({5}), numbers(10), retry=policy, sleep=waits.append)
    assert waits == [1.0, 2.0, 3.0]
    assert result.retries == 3
    assert [group.attempts for group in result.failed] == [4]


def test_jitter_shortens_a_wait_by_at_most_its_share():
    policy = Retry(wait=8.0, jitter=0.25)

    assert all(6.0 <= policy.seconds(1) <= 8.0 for _ in range(100))
    assert len({policy.seconds(1) for _ in range(10)}) > 1


def test_only_the_lines_that_failed_are_tried_again():
    seen: list[list[int]] = []

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        seen.append(frame["n"].to_list())
        return failing_on({2})(frame)

    run(call, numbers(4), retry=Retry(attempts=3, wait=0.0))
    assert seen[-2:] == [[2], [2]]


def test_a_line_that_passes_at_the_second_try_goes_on():
    waits: list[float] = []

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        return frame if waits else failing_on({1, 3})(frame)

    result = run(call, numbers(5), retry=TWICE, sleep=waits.append)
    assert sorted(result.rows["n"]) == [0, 1, 2, 3, 4]
    assert (result.failed, result.errors, result.retries) == ([], 2, 2)


def test_an_error_that_the_policy_does_not_name_is_not_tried_again():
    waits: list[float] = []
    policy = Retry(attempts=5, on=(ConnectionError,))

    result = run(failing_on({1}), numbers(3), retry=policy, sleep=waits.append)
    assert waits == []
    assert [group.attempts for group in result.failed] == [1]


def test_of_two_kinds_of_error_only_the_one_that_is_named_is_tried_again():
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        failing_on({1}, TypeError)(frame)
        return failing_on({2}, TimeoutError)(frame)

    result = run(call, numbers(4), retry=Retry(attempts=3, wait=0.0, on=(TimeoutError,)))
    assert {group.error: group.attempts for group in result.failed} == {
        "TypeError": 1,
        "TimeoutError": 3,
    }
    assert result.rows["n"].to_list() == [0, 3]


def test_each_attempt_starts_from_a_fresh_copy():
    heights: list[int] = []

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        heights.append(frame.width)
        frame.insert_column(0, pl.Series("dirt", [1] * frame.height))
        raise ValueError

    run(call, numbers(1), retry=Retry(attempts=3, wait=0.0))
    assert heights == [1, 1, 1]


def test_a_caller_s_frame_is_not_touched_by_a_processor_that_changes_it():
    frame = numbers(3)

    def call(given: pl.DataFrame) -> pl.DataFrame:
        given.insert_column(0, pl.Series("dirt", [1, 1, 1]))
        return given

    run(call, frame)
    assert frame.columns == ["n"]


def test_a_line_function_can_be_tried_on_any_frame():
    assert each(lambda row: {"n": row["n"] + 1})(numbers(2))["n"].to_list() == [1, 2]


def test_a_line_function_that_raises_fails_its_line_only():
    processor = each(lambda row: {"n": 10 // row["n"]})

    result = run(processor, numbers(4).with_row_index("_row"))
    assert result.rows["n"].to_list() == [10, 5, 3]
    assert failed(result) == [0]
    assert result.failed[0].error == "ZeroDivisionError"


def test_a_line_function_is_called_once_for_each_line_although_some_fail():
    seen: Counter[int] = Counter()

    def check(row: dict[str, int]) -> dict[str, int]:
        seen[row["n"]] += 1
        if row["n"] % 3 == 0:
            raise ValueError
        return row

    run(each(check), numbers(100).with_row_index("_row"))
    assert set(seen.values()) == {1}


def test_a_line_function_is_tried_again_for_its_failed_lines():
    tries: Counter[int] = Counter()

    def flaky(row: dict[str, int]) -> dict[str, int]:
        tries[row["n"]] += 1
        if row["n"] == 2 and tries[2] < 3:
            raise OSError("again")
        return row

    rows = numbers(4).with_row_index("_row")
    result = run(each(flaky), rows, retry=Retry(attempts=3, wait=0.0))
    assert sorted(result.rows["n"]) == [0, 1, 2, 3]
    assert tries == {0: 1, 1: 1, 2: 3, 3: 1}


def test_rejected_rows_are_grouped_by_code_and_not_tried_again():
    waits: list[float] = []

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        frame = reject(frame, pl.col("n") < 2, "small", pl.format("{} is small", "n"))
        return reject(frame, pl.col("n") == 9, "big", "nine")

    result = run(call, numbers(10), retry=TWICE, sleep=waits.append)
    assert {group.code: group.reasons.to_list() for group in result.failed} == {
        "small": ["0 is small", "1 is small"],
        "big": ["nine"],
    }
    assert result.rows.columns == ["n"]
    assert (result.errors, waits) == (3, [])


def test_a_row_that_is_rejected_twice_keeps_the_first_reason():
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        frame = reject(frame, pl.col("n") == 1, "first", "one")
        return reject(frame, pl.col("n") >= 1, "second", "many")

    result = run(call, numbers(3))
    assert {group.code: group.rows["n"].to_list() for group in result.failed} == {
        "first": [1],
        "second": [2],
    }


@pytest.fixture
def blocker():
    """Give an event that ends what is left of a blocked processor when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_processor_that_hangs_on_one_line_times_out_for_that_line(blocker: threading.Event):
    def call(frame: pl.DataFrame) -> pl.DataFrame:
        if (frame["n"] == 2).any():
            blocker.wait()
        return frame

    result = run(call, numbers(3), timeout=0.05)
    assert failed(result) == [2]
    assert result.rows["n"].to_list() == [0, 1]
    assert (result.failed[0].code, result.failed[0].error) == ("timeout", "ProcessorTimeout")
    assert result.failed[0].reasons.to_list() == ["took longer than 0.05 s"]


def test_a_processor_that_always_hangs_is_given_up_on_soon(blocker: threading.Event):
    calls = []

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        calls.append(frame.height)
        blocker.wait()
        return frame

    assert len(failed(run(call, numbers(5000), timeout=0.02))) == 5000
    assert len(calls) <= 1 + TIMEOUT_PROBES


def test_an_endless_loop_in_python_is_ended_after_its_time():
    ended = threading.Event()

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        try:
            while True:
                pass
        finally:
            ended.set()

    assert failed(run(call, numbers(1), timeout=0.05)) == [0]
    assert ended.wait(10)


def test_what_is_raised_within_the_time_is_raised_as_it_is():
    result = run(failing_on({1}), numbers(3), timeout=10.0)

    assert failed(result) == [1]
    assert result.failed[0].error == "ValueError"


class Panic(BaseException):
    """As other libraries raise it; and it cannot even say why."""

    def __str__(self) -> str:
        raise CancelledError


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize(
    "error", [SystemExit, GeneratorExit, CancelledError, StopIteration, MemoryError, Panic]
)
def test_whatever_is_raised_fails_its_lines_only(error: type[BaseException], timeout: float | None):
    result = run(failing_on({3}, error), numbers(8), timeout=timeout)

    assert failed(result) == [3]
    assert result.failed[0].error == error.__name__


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, CancelledError, Panic])
def test_whatever_a_line_function_raises_fails_its_line_only(error: type[BaseException]):
    @each
    def function(line: dict[str, Any]) -> dict[str, Any]:
        if line["n"] == 3:
            raise error
        return line

    result = run(None, numbers(8), processor=function)
    assert failed(result) == [3]
    assert result.failed[0].error == error.__name__


def test_a_panic_inside_polars_fails_its_lines_only():
    result = run(failing_on({3}, pl.exceptions.PanicException), numbers(8))

    assert failed(result) == [3]


def test_a_keyboard_interrupt_goes_through():
    with pytest.raises(KeyboardInterrupt):
        run(failing_on({3}, KeyboardInterrupt), numbers(8))


def test_a_keyboard_interrupt_that_is_no_signal_fails_its_lines_only():
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(run, failing_on({3}, KeyboardInterrupt), numbers(8)).result()
    assert failed(result) == [3]


def test_a_processor_may_ask_for_everything_to_stop():
    with pytest.raises(ProcessorStop):
        run(failing_on({3}, ProcessorStop), numbers(8), retry=TWICE)


class Sum:
    """Adds up numbers, and fails half-way on some."""

    def __init__(self, *failing: int, times: int = 1000) -> None:
        self.total = {"sum": 0}
        self.failing = set(failing)
        self.times = times

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        self.total["sum"] += int(frame["n"].sum())
        if self.times and self.failing & set(frame["n"]):
            self.times -= 1
            raise ValueError("half-way")
        return frame

    def state(self) -> dict[str, int]:
        return dict(self.total)

    def restore(self, state: dict[str, int] | None) -> None:
        self.total = dict(state or {"sum": 0})


class CarelessSum(Sum):
    """Hands out its own dict rather than a copy."""

    def state(self) -> dict[str, int]:
        return self.total

    def restore(self, state: dict[str, int] | None) -> None:
        self.total = state or {"sum": 0}


@pytest.mark.parametrize("rows", [10, 100])
@pytest.mark.parametrize("kind", [Sum, CarelessSum])
def test_lines_that_fail_leave_no_mark_on_the_state(kind: type[Sum], rows: int):
    adder = kind(7, 9)

    result = run(adder, numbers(rows))
    assert failed(result) == [7, 9]
    assert adder.total["sum"] == sum(range(rows)) - 16


def test_a_second_try_starts_from_the_state_before_the_first():
    adder = Sum(7, times=6)  # ten lines: whole, half, quarter, ... and the line itself

    result = run(adder, numbers(10), retry=Retry(attempts=20, wait=0.0))
    assert result.failed == []
    assert adder.total["sum"] == 45


def test_counts_are_kept_by_value_and_restored():
    count = Count("level")
    count(pl.DataFrame({"level": ["INFO", "ERROR", "INFO", None]}))
    state = count.state()
    count(pl.DataFrame({"level": ["INFO"]}))
    count.restore(state)

    assert count.state() == state == {"INFO": 2, "ERROR": 1, "None": 1}
    count.restore(None)
    assert count.state() == {}
