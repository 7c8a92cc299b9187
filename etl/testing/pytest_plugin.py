"""pytest runs the cases in `*.etl.toml` files; fixtures for tests of pipelines.

    etl_queue              an empty queue in memory; afterwards no line is missing in it
    etl_golden             `testing.assert_golden`; `--etl-update-golden` writes the files anew

pytest loads this in every run, so it imports nothing of etl until it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from etl.queue import Queue
    from etl.testing.cases import Case

__all__ = ["CaseFile", "CaseItem", "etl_golden", "etl_queue"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our one option."""
    parser.getgroup("etl").addoption(
        "--etl-update-golden",
        action="store_true",
        help="write golden files anew with what the pipelines put out now",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseFile | None:
    """Collect files of cases."""
    if not file_path.name.endswith(".etl.toml"):
        return None
    return CaseFile.from_parent(parent, path=file_path)


class CaseFile(pytest.File):
    """A file of cases."""

    def collect(self) -> Iterable[CaseItem]:
        """Yield an item for each case."""
        from etl.errors import UsageError
        from etl.testing.cases import read_cases

        try:
            cases = read_cases(self.path)
        except UsageError as error:
            raise self.CollectError(str(error)) from None
        text = self.path.read_text(encoding="utf-8")
        heads = re.finditer(r"^[ \t]*\[\[[ \t]*case[ \t]*\]\]", text, re.MULTILINE)
        places = [text.count("\n", 0, head.start()) for head in heads]
        for number, case in enumerate(cases):
            place = places[number] if len(places) == len(cases) else None
            yield CaseItem.from_parent(self, name=case.name, case=case, place=place)


class CaseItem(pytest.Item):
    """One case, as a test."""

    def __init__(self, *, case: Case, place: int | None, **rest: Any) -> None:
        super().__init__(**rest)
        self._case = case
        self._place = place

    def runtest(self) -> None:
        """Check the case."""
        self._case.check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return what differs; a traceback through etl would say nothing more."""
        from etl.errors import EtlError

        if isinstance(excinfo.value, AssertionError | EtlError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the case is."""
        return self.path, self._place, f"case: {self.name}"


@pytest.fixture
def etl_queue() -> Iterator[Queue]:
    """Give an empty queue in memory; fail the test if a line is missing in it at the end."""
    from etl.queue import open_queue

    queue = open_queue("sqlite://")
    yield queue
    stats = queue.stats()
    queue.close()
    if not stats.conserved:
        pytest.fail(f"lines are missing or there twice: {stats}", pytrace=False)


@pytest.fixture
def etl_golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Give `etl.testing.assert_golden`, which writes the file if pytest is told to."""
    from etl.testing.assertions import assert_golden

    return partial(assert_golden, update=request.config.getoption("--etl-update-golden"))
