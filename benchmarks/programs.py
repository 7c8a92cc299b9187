"""The command lines of the benchmark: `etl run`, and the scripts it is compared with."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pattern import PATTERN

HERE = Path(__file__).resolve().parent
ETL = Path(sys.executable).with_name("etl")

REGEX = ("--regex", PATTERN)
ONE_EACH = ("--multiline", "off")
FORMAT = ("--format", "python")
TEMPLATE = ("--template", "{timestamp} {level} {logger}: {message}")

ALL = ("counts", "first", "last", "digest")
"""What of the output is compared with that of Polars: see `check.py`."""

Command = Callable[[Path, Path], Sequence[str]]
"""Takes the input file and the output folder, and returns the command line."""


class NotInstalled(Exception):
    """A program is not installed; the message says how to install it."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A program that does the work on an input of some size.

    Attributes:
        name: What the table calls it.
        lines: Lines of its input.
        command: Its command line.
        stdin: Whether it reads the input from standard input.
        poison: Share of lines in its input that match nothing.
        answer: The script whose output is right.
        compared: Keys of the answer that must be equal.
        columns: Columns that are part of the digest beside the line number.
    """

    name: str
    lines: int
    command: Command
    stdin: bool = False
    poison: float = 0.001
    answer: str = "polars"
    compared: Sequence[str] = ALL
    columns: Sequence[str] = ("level", "message")

    @property
    def key(self) -> tuple[str, int]:
        """What its results are kept by."""
        return self.name, self.lines


def script(name: str) -> Command:
    """Return the command of one of the scripts `with_NAME.py`."""
    path = str(HERE / f"with_{name}.py")
    return lambda source, out: [sys.executable, path, str(source), str(out)]


def installed(name: str, package: str) -> str:
    """Return the path of a program.

    Args:
        name: What it is called.
        package: The Debian package that it is in.

    Raises:
        NotInstalled: If it is not there.
    """
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise NotInstalled(f"not installed: apt-get install {package}")
    return found


def etl(
    *options: str,
    stdin: bool = False,
    pipeline: str = "pipeline",
    store: str = "",
    off: Sequence[str] | None = None,
) -> Command:
    """Return the command of the work by etl.

    Args:
        options: How lines are read, and other options.
        stdin: Whether the input comes from standard input.
        pipeline: Name of a pipeline in `pipeline.py`; empty for the default pipeline.
        store: URL of the store; a new file in the output folder if empty.
        off: Features that `without.py` switches off; None to run etl as it is.
    """
    without = [sys.executable, str(HERE / "without.py"), ",".join(off or ())]
    program = [str(ETL)] if off is None else without
    named = ("--pipeline", f"{HERE / 'pipeline.py'}:{pipeline}") if pipeline else ()
    return lambda source, out: [
        *program,
        *("run", "-" if stdin else str(source), *named, *options, "--json"),
        *("--out", str(out), "--store", store or str(out / "run.db")),
    ]
