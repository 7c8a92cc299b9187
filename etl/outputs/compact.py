"""Join small Parquet files, and give all files of a data set the same columns.

A joined file is written under a hidden name and synced; then the store knows it in place of those
whose rows it has, in one transaction; then it gets its name, and the others are set aside: into a
hidden folder beside the output root, from which they are removed after ten minutes. Whoever is
killed in between, the next one goes on: the store knows what is pending, and what was replaced.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from etl.errors import OutputsChanged, ProcessorStop, UsageError, did_you_mean
from etl.filesystem import DISK, FileSystem
from etl.outputs.data_set import SUFFIX, DataSets, conform, misfits
from etl.processors.processor import Delivery
from etl.queue import Queue
from etl.records.batch import new_id
from etl.records.checksum import checksum_of_file
from etl.records.result import Output
from etl.records.schemas import type_of
from etl.sinks.publish import stage_file

__all__ = ["TARGET_BYTES", "Compaction", "Effort", "change_types", "compact", "set_aside"]

log = logging.getLogger("etl")

TARGET_BYTES = 128 << 20
"""Size up to which files are joined."""

SMALL_BYTES = 1 << 20
"""Size of a file below which it is joined also while there is other work."""

MIN_FILES = 8
"""Small files from which on they are joined while more are written."""

ASIDE_SECONDS = 600.0
"""Seconds for which a file can still be read after another took its place."""

Effort = Literal["all", "small", "many"]
"""Which files are joined: `all` below half the target size; those that are `small`; or those once
they are `many`, so that each byte is written again only a few times while a stream goes on."""


@dataclass(slots=True)
class Compaction:
    """What a compaction did.

    Attributes:
        replaced: Files that were joined, or rewritten.
        written: Files that hold their rows now.
        problems: Why others were left as they are.
    """

    replaced: int = 0
    written: int = 0
    problems: list[str] = field(default_factory=list)


def compact(
    queue: Queue,
    *,
    effort: Effort = "all",
    target: int = TARGET_BYTES,
    files: FileSystem = DISK,
) -> Compaction:
    """Join files of a store's data sets; rewrite those that lack columns; return what was done.

    Lines are in the output once at every moment for all who read what the store lists. May run
    while workers do, and several times at once: of two that join the same files, one gives up.

    Args:
        queue: The store.
        effort: Which files are joined.
        target: Bytes of a file up to which files are joined.
        files: Where they are.
    """
    done = Compaction()
    if effort == "all":
        _adopt(queue, files)
    for schema, unit in list(_units(queue, effort, target, files)):
        whole = [one for one in unit if _is_whole(one, schema, files, done)]
        if len(whole) > 1 or (whole and not _has(whole[0], schema, files)):
            _replace(queue, whole, schema, files, done)
    set_aside(queue, files)
    return done


def _adopt(queue: Queue, files: FileSystem) -> None:
    """Make data sets of the folders that earlier versions wrote, which kept no types."""
    data_sets = DataSets(queue.data_sets())
    for one in queue.outputs():
        path = Path(one.final)
        if one.final.endswith(SUFFIX) and data_sets.folder_of(path) is None:
            with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # `etl check` says so
                types = pl.read_parquet_schema(files.scannable(path))
                queue.agree_on_columns(path.parent, {k: str(v) for k, v in types.items()})


def change_types(queue: Queue, types: Mapping[str, str], files: FileSystem = DISK) -> None:
    """Give columns other types, in all data sets that have them; files follow by `compact`.

    Args:
        queue: The store, on which no worker runs.
        types: Types by column, as Polars shows them: `Float64`.
        files: Where the files are.

    Raises:
        UsageError: If there is no such column or type, a worker runs, or a value does not fit.
    """
    new = pl.Schema({name: type_of(text) for name, text in types.items()})
    data_sets = queue.data_sets()
    for name in new:
        if not any(name in columns for columns in data_sets.values()):
            known = {one for columns in data_sets.values() for one in columns}
            raise UsageError(f"the output has no column {name!r}{did_you_mean(name, known)}")
    queue.reclaim()  # what workers had that were killed
    folders = DataSets(data_sets)
    finals = [Path(one.final) for one in queue.outputs() if one.final.endswith(SUFFIX)]
    for final in [one for one in finals if folders.folder_of(one) is not None]:
        try:
            wrong = [name for name in misfits(final, new, files) if name in new]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise UsageError(
                f"{str(final)!r} cannot be read: {error}; nothing was changed, see etl check"
            ) from error
        if wrong:
            raise UsageError(
                f"values of {wrong[0]!r} in {str(final)!r} do not fit {types[wrong[0]]}; "
                "nothing was changed"
            )
    for folder, columns in data_sets.items():
        if changed := {name: str(new[name]) for name in new if name in columns}:
            queue.set_column_types(folder, changed)


def set_aside(queue: Queue, files: FileSystem = DISK) -> None:
    """Take files whose rows others hold out of the sight of readers; remove old ones."""
    replaced = queue.replaced_outputs()
    if not replaced:
        return
    root, data_sets = queue.output_root(), DataSets(queue.data_sets())

    def aside(final: Path) -> Path:
        """Return where it lies: beside what readers take as a whole."""
        below = root is not None and final.is_relative_to(root)
        top = root if root and below else data_sets.folder_of(final) or final.parent
        return top.parent / f".{top.name}.replaced" / final.relative_to(top)

    gone: list[Output] = []
    for one in replaced:
        final = Path(one.final)
        if files.exists(final) and not _move(final, aside(final), files):
            gone.append(one)
    for one in queue.replaced_outputs(older_than=ASIDE_SECONDS):
        place = aside(Path(one.final))
        if files.exists(place):  # else it may be in sight on another machine
            files.unlink(place)
            gone.append(one)
    if gone:
        queue.forget_replaced(gone)


def _move(final: Path, aside: Path, files: FileSystem) -> bool:
    """Set a file aside; return False if it cannot lie there, and was removed instead."""
    moved = True
    try:
        files.make_folder(aside.parent, private=True)
        files.replace(final, aside)
    except FileNotFoundError:  # another has moved it
        return True
    except OSError:  # who has it open can read on
        files.unlink(final)
        moved = False
    files.sync(final.parent)
    return moved


def _units(
    queue: Queue, effort: Effort, target: int, files: FileSystem
) -> Iterator[tuple[pl.Schema, list[Output]]]:
    """Yield files that are to become one, with the columns of their data set."""
    folders: dict[Path, list[Output]] = {}
    for one in queue.outputs():
        if one.final.endswith(SUFFIX) and one.staged == one.final:
            folders.setdefault(Path(one.final).parent, []).append(one)
    data_sets = DataSets(queue.data_sets())  # after the outputs: it has the columns of all of them
    for found in folders.values():
        schema = data_sets.schema_of(Path(found[0].final))
        if schema is None:
            continue
        sized = {one.final: _size(one, files) for one in found}
        other = {one.final for one in found if not _has(one, schema, files)}
        chosen = set(_chosen(sized, effort, target))
        unit: list[Output] = []
        room = 0
        for one in found:
            if one.final not in chosen | other:
                continue
            if unit and room < sized[one.final]:
                yield schema, unit
                unit = []
            room = (room if unit else target) - sized[one.final]
            unit.append(one)
        if unit:
            yield schema, unit


def _chosen(sizes: dict[str, int], effort: Effort, target: int) -> list[str]:
    """Return the files that are worth joining."""
    order = sorted(sizes, key=lambda name: (sizes[name], name))
    if effort == "all":
        return [name for name in order if sizes[name] < target // 2]
    small = [name for name in order if sizes[name] < SMALL_BYTES]
    if effort == "small":
        return small
    if len(small) >= MIN_FILES:
        return small
    medium = [name for name in order if sizes[name] < target // 2]
    return medium if sum(sizes[name] for name in medium) >= target else []


def _size(output: Output, files: FileSystem) -> int:
    if output.size is not None:
        return output.size
    try:
        return files.stat(Path(output.final)).st_size
    except FileNotFoundError:  # it was replaced in the meantime
        return 0


def _has(output: Output, schema: pl.Schema, files: FileSystem) -> bool:
    """Return whether a file has the columns of its data set; also if it cannot be read."""
    try:
        found = pl.read_parquet_schema(files.scannable(Path(output.final)))
        return dict(found) == dict(schema)
    except (OSError, pl.exceptions.PolarsError):
        return True


def _is_whole(output: Output, schema: pl.Schema, files: FileSystem, done: Compaction) -> bool:
    """Return whether a file is as it was written, and its values fit."""
    path = Path(output.final)
    try:
        if output.size is not None and checksum_of_file(path, files) != (
            output.size,
            output.checksum,
        ):
            done.problems.append(f"{output.final!r} is not what was written; see etl check")
            return False
        if wrong := misfits(path, schema, files):
            done.problems.append(
                f"{output.final!r} has values in {', '.join(map(repr, wrong))} that do not fit; "
                f"give it a wider type with: etl compact --type {wrong[0]!r}=…"
            )
            return False
    except FileNotFoundError:
        return False
    except (OSError, pl.exceptions.PolarsError) as error:
        done.problems.append(f"{output.final!r} cannot be read: {error}")
        return False
    return True


def _replace(
    queue: Queue, unit: Sequence[Output], schema: pl.Schema, files: FileSystem, done: Compaction
) -> None:
    """Write one file with the rows of several, and let it take their place."""
    place = Path(unit[0].final).parent
    delivery = Delivery(id=new_id(), token=new_id(), out=place, files=files)

    def write(path: Path) -> None:
        scans = [
            pl.scan_parquet(files.scannable(Path(one.final)), hive_partitioning=False)
            for one in unit
        ]
        rows = pl.concat([conform(one, schema) for one in scans])
        rows.sink_parquet(path, compression="zstd")

    try:
        staged = stage_file(".", delivery, "parquet", write)
    except (ProcessorStop, pl.exceptions.PolarsError) as error:
        done.problems.append(str(error))
        return
    try:
        queue.replace_outputs(unit, staged.outputs)
    except OutputsChanged:  # another compaction was quicker
        staged.discard()
        return
    # After any other error it may have taken place: what is pending is published by whoever works
    # on the store next, and what is not is removed after a day.
    done.replaced += len(unit)
    done.written += 1
    with contextlib.suppress(OSError):
        staged.publish()
        queue.mark_published(staged.outputs)
