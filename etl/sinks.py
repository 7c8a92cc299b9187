"""Where processed lines end: Parquet, JSON lines, the console.

A sink stages a batch's rows before the commit and publishes them after it, so
that nobody sees a row of a batch that was not committed. A file is written
under a hidden name, synced, and renamed once the store knows it is due; if the
worker is killed in between, the next one renames it. A batch leaves one file
however often it was tried.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import polars as pl

from etl.errors import ProcessorStop
from etl.lines import Output, new_id
from etl.processors import Delivery

__all__ = [
    "Console",
    "JsonLines",
    "Parquet",
    "printable",
    "publish_files",
    "remove_staged",
]


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file under its hidden name."""

    outputs: Sequence[Output]

    def publish(self) -> None:
        """Give it its name."""
        publish_files(self.outputs)

    def discard(self) -> None:
        """Remove it."""
        for output in self.outputs:
            Path(output.staged).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class StagedText:
    """Lines that are printed once their batch is committed."""

    lines: Sequence[str]
    outputs: Sequence[Output] = ()

    def publish(self) -> None:
        """Print them."""
        print("\n".join(self.lines), flush=True)

    def discard(self) -> None:
        """Print nothing."""


@dataclass(frozen=True)
class Parquet:
    """Write each batch as one Parquet file.

    Args:
        folder: Where to; a relative one is below the run's output folder.
        compression: A Parquet codec that Polars knows: lz4, zstd, snappy, ...
        leave_out: Columns that are not written.
    """

    folder: str = "."
    compression: str = "lz4"
    leave_out: Sequence[str] = ()

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file."""
        rows = frame.drop(self.leave_out, strict=False).with_columns(
            pl.col(pl.Null).cast(pl.String)
        )
        return _stage_file(
            self.folder,
            delivery,
            "parquet",
            lambda path: rows.write_parquet(path, compression=self.compression),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class JsonLines:
    """Write each batch as one file of JSON objects, one a line.

    Args:
        folder: Where to; a relative one is below the run's output folder.
    """

    folder: str = "."

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedFile:
        """Write the rows to a hidden file."""
        return _stage_file(self.folder, delivery, "jsonl", frame.write_ndjson)


@dataclass(frozen=True)
class Console:
    """Print one line a row, with control characters made visible.

    Args:
        text: Expression that gives the text; by default the original line.
    """

    text: pl.Expr = pl.col("line")  # noqa: RUF009 - an expression does not change

    def stage(self, frame: pl.DataFrame, delivery: Delivery) -> StagedText:  # noqa: ARG002
        """Make the lines ready; they are printed after the commit."""
        texts = frame.select(self.text.cast(pl.String).fill_null("")).to_series()
        return StagedText([printable(text) for text in texts])


def printable(text: str, most: int | None = None) -> str:
    """Return text that cannot steer a terminal: control and format characters as escapes.

    Args:
        text: Any text.
        most: Characters at which it is cut, with `…` for the rest.
    """
    shown = text if most is None else text[: most + 1]
    if not shown.isprintable():
        shown = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown
        )
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def publish_files(outputs: Iterable[Output]) -> None:
    """Give committed files their final names; one that has it already is left alone."""
    folders = set()
    for output in outputs:
        folders.add(Path(output.final).parent)
        try:
            Path(output.staged).replace(output.final)
        except FileNotFoundError:
            if not Path(output.final).exists():
                raise
    for folder in folders:
        _sync(folder)


def remove_staged(out: Path, tokens: Iterable[str]) -> None:
    """Remove what killed workers had staged under these lease tokens and not committed."""
    for token in tokens:
        for path in out.rglob(f".*-{token}.tmp"):
            path.unlink(missing_ok=True)


def _stage_file(
    folder: str, delivery: Delivery, suffix: str, write: Callable[[Path], object]
) -> StagedFile:
    place = delivery.out / folder
    name = quote(delivery.id, safe="~")
    final = place / f"{name}.{suffix}"
    staged = place / f".{name}-{new_id()[-8:]}-{delivery.token}.tmp"
    try:
        place.mkdir(parents=True, exist_ok=True)
        write(staged)
        _sync(staged)
        _sync(place)
    except BaseException as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        if isinstance(error, OSError) or "os error" in str(error):
            raise ProcessorStop(f"cannot write below {str(place)!r}: {error}") from error
        raise
    return StagedFile([Output(str(staged.absolute()), str(final.absolute()))])


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
