"""Every read of a store: none changes anything."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import polars as pl

from etl.errors import PayloadDamaged, SourceChanged
from etl.queue.check import Check, check
from etl.queue.database import Transaction
from etl.queue.outputs import Outputs
from etl.queue.protocol import (
    STATUSES,
    Checkpoint,
    Control,
    DeadLetterFilter,
    Stats,
    TableName,
)
from etl.queue.sql import STORED
from etl.records.batch import Batch, Damaged, Reference, decode_payload
from etl.records.checksum import checksum_of_batch, checksum_of_values
from etl.records.columns import (
    CHECKED,
    DEAD_LETTERS,
    FAILURES,
    INTEGER,
    STORED_DEAD_LETTERS,
    WAITING,
    Column,
    Table,
)
from etl.records.context import DEFAULT, Context

__all__ = ["Reads", "as_control", "batch_of", "checkpoint_of", "control_of"]

ALL = 2**62
"""A limit that no table reaches."""

CHECKED_PLACES = tuple(map(STORED_DEAD_LETTERS.names.index, CHECKED.names))
"""Where the values are that a dead letter's checksum is of."""

MAX_TIMED = 20_000
"""Dead letters, the newest, whose times are looked at."""

MAX_LOOKED_UP = 200_000
"""Dead letters up to which a page is made of the newest of each kind of failure."""


PAYLOAD_PLACE = STORED_DEAD_LETTERS.names.index("payload")
"""Where a dead letter's fields are."""


_OF_BATCH = itemgetter("id", "source", "format", "first_line", "skip", "lines")


class Reads(Outputs):
    """The reads of a `Queue`, over one `Database`."""

    def stats(self) -> Stats:
        """See `QueueReader.stats`."""
        with self._database.read(snapshot=True) as db:
            counts = dict(db.row("totals"))
            paused = control_of(db).paused
            now = db.now()
        oldest = counts.pop("oldest")
        return Stats(
            **{name: counts[name] for name in Stats.__slots__ if name in counts},
            oldest_age=max(0.0, now - oldest) if oldest is not None else 0.0,
            paused=paused,
        )

    def control(self) -> Control:
        """See `QueueControl.control`."""
        with self._database.read() as db:
            return control_of(db)

    def checkpoint(self, source: str) -> Checkpoint | None:
        """See `QueueReader.checkpoint`."""
        with self._database.read() as db:
            return checkpoint_of(db, source)

    def checkpoints(self, sources: Sequence[str], file: str = "") -> list[Checkpoint]:
        """See `QueueReader.checkpoints`."""
        with self._database.read() as db:
            rows = db.rows("checkpoints_of", texts=json.dumps(list(sources)), file=file)
        return [Checkpoint(**dict(row)) for row in rows]

    def states(self, slot: int) -> Mapping[str, str]:
        """See `WorkerRegistry.states`."""
        with self._database.read() as db:
            return dict(db.tuples("states_of_slot", slot=slot))

    def lease_tokens(self) -> set[str]:
        """See `WorkerRegistry.lease_tokens`."""
        with self._database.read() as db:
            return {row["token"] for row in db.rows("lease_tokens")}

    def read(self, table: TableName, *, limit: int | None = None) -> list[dict[str, Any]]:
        """See `QueueReader.read`."""
        with self._database.read() as db:
            rows = db.rows(f"read_{table}", limit=ALL if limit is None else limit)
        return [dict(row) for row in rows[::-1]]

    def peek(self, limit: int = 100, *, leased: bool = False) -> pl.DataFrame:
        """See `QueueReader.peek`."""
        found: list[tuple[Any, ...]] = []
        seq, state = 0, "leased" if leased else "waiting"
        while len(found) < limit:
            with self._database.read() as db:
                row = db.row("next_batch", after=seq, state=state)
            if row is None:
                break
            seq = row["seq"]
            with contextlib.suppress(SourceChanged, PayloadDamaged):  # a worker will find out
                batch = batch_of(row)
                found += [
                    (batch.id, row["put_at"], batch.source, number, line, batch.format)
                    for number, line in _first_lines(batch, limit - len(found))
                ]
        return pl.DataFrame(found, schema=WAITING.schema, orient="row")

    def dead_letters(self, wanted: DeadLetterFilter) -> pl.DataFrame:
        """See `DeadLetterQueue.dead_letters`."""
        with self._database.read(snapshot=True) as db:
            rows = list(map(_checked, _rows_of(db, wanted)))
            kinds = db.tuples("failures", ids=json.dumps(sorted({row[0] for row in rows})))
        failure, damaged = Column("failure", INTEGER, "Its failure."), DEAD_LETTERS["damaged"]
        own = Table("", failure, damaged, *STORED["dead_letters"]).schema
        shared = Table("", failure, *FAILURES).schema
        found = pl.DataFrame(rows[::-1], schema=own, orient="row")
        failures = pl.DataFrame(kinds, schema=shared, orient="row")
        joined = found.join(failures, on="failure", how="left", maintain_order="left")
        return joined.select(DEAD_LETTERS.names)

    def dead_letter_groups(self, wanted: DeadLetterFilter) -> list[dict[str, Any]]:
        """See `DeadLetterQueue.dead_letter_groups`."""
        groups: dict[str, dict[str, Any]] = {}
        with self._database.read(snapshot=True) as db:
            which, kinds = _kinds(db, wanted)
            where, values = _condition(which, "" if kinds is None else "failure {in_kinds}")
            rows = db.rows("dead_letter_groups", where, **values, kinds=json.dumps(kinds))
        for row in map(dict, rows):
            older = groups.get(row["fingerprint"])
            if older:
                row["lines"] += older["lines"]
                row["replays"] = max(row["replays"], older["replays"])
                row["first_failed_at"] = min(row["first_failed_at"], older["first_failed_at"])
                row["last_failed_at"] = max(row["last_failed_at"], older["last_failed_at"])
            groups[row["fingerprint"]] = row
        ranked = sorted(groups.values(), key=lambda row: (-row["lines"], row["fingerprint"]))
        return ranked[: wanted.limit]

    def dead_letter_minutes(self, minutes: int = 12) -> dict[str, list[int]]:
        """See `DeadLetterQueue.dead_letter_minutes`."""
        with self._database.read() as db:
            until = db.now() + 1.0  # clocks of machines differ
            times = {"since": until - 60 * minutes, "until": until}
            rows = db.rows("dead_letter_minutes", **times, limit=MAX_TIMED)
        found: dict[str, list[int]] = {}
        for row in rows:
            counts = found.setdefault(row["fingerprint"], [0] * minutes)
            counts[min(minutes - 1, row["minute"])] += row["lines"]
        return found

    def batches_done(self) -> int:
        """See `QueueReader.batches_done`."""
        with self._database.read() as db:
            return int(db.rows("batches_done")[0]["batches"])

    def check(self) -> Check:
        """See `QueueReader.check`."""
        return check(self._database, self.output_root(), on_server=self._on_server)

    def work_version(self) -> object:
        """See `BatchQueue.work_version`."""
        return self._database.work_version()

    def wait_for_work(self, since: object, timeout: float) -> bool:
        """See `BatchQueue.wait_for_work`."""
        return self._database.wait_for_work(since, timeout)

    def wake(self) -> None:
        """See `BatchQueue.wake`."""
        self._database.wake()

    def version(self) -> object:
        """See `QueueReader.version`."""
        return self._database.version()

    def wait(self, since: object, timeout: float) -> bool:
        """See `QueueReader.wait`."""
        return self._database.wait(since, timeout)


def control_of(db: Transaction) -> Control:
    """Return what an operator has asked for."""
    return as_control(db.rows("control_values"))


def as_control(rows: Iterable[Any]) -> Control:
    """Return what an operator has asked for, of the rows of `control_values`."""
    values: dict[str, str] = {row["key"]: row["value"] for row in rows}
    paused = values.get("paused") == "1"
    by_worker = values.get("paused_by") == "worker"
    return Control(
        paused=paused,
        paused_by=("worker" if by_worker else "operator") if paused else None,
        reason=values.get("reason", ""),
        **{name: int(values.get(name, 0)) for name in ("steps", "drains", "stops")},
    )


def checkpoint_of(db: Transaction, source: str, number: int | None = None) -> Checkpoint | None:
    """Return how far a source has been read, or the file of a number that had its name."""
    if number is None:
        row = db.row("checkpoint", source=source)
    else:
        row = db.row("checkpoint_of_file", source=source, number=number)
    return Checkpoint(**dict(row)) if row else None


def batch_of(row: Any) -> Batch:
    """Return the batch of a row with its payload, or with the reason why that cannot be read."""
    payload: bytes | Reference | pl.DataFrame | Damaged
    context = DEFAULT
    try:
        if row["batch_checksum"] not in (None, checksum_of_batch(row)):
            raise PayloadDamaged("payload cannot be read: what is kept of its batch is damaged")
        payload = decode_payload(row["encoding"], row["data"], row["checksum"])
        context = Context.decode(row["context"])
    except PayloadDamaged as error:
        payload = Damaged(str(error))
    except (ValueError, TypeError) as error:
        payload = Damaged(f"payload cannot be read: its context is damaged: {error}")
    id, source, format, first_line, skip, lines = _OF_BATCH(row)
    return Batch(
        id=id,
        source=source,
        format=format,
        context=context,
        first_line=first_line,
        skip=skip,
        lines=lines,
        payload=payload,
    )


def _checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a dead letter with whether it is damaged in the place of its checksum.

    Fields of one that is may not even be JSON: they are left out.
    """
    failure, checksum, *values = row
    if checksum is None or checksum == checksum_of_values(map(values.__getitem__, CHECKED_PLACES)):
        return failure, False, *values
    values[PAYLOAD_PLACE] = None
    return failure, True, *values


def _first_lines(batch: Batch, limit: int) -> Iterable[tuple[int, str]]:
    """Return number and text of a batch's first lines; one line needs no frame."""
    if batch.lines == 1 and batch.skip == 0 and isinstance(batch.payload, bytes):
        text = batch.payload.decode("utf-8", "backslashreplace")
        return [(batch.first_line, text.removesuffix("\n").removesuffix("\r"))]
    return batch.frame().head(limit).select("line_number", "line").iter_rows()


def _rows_of(db: Transaction, wanted: DeadLetterFilter) -> list[tuple[Any, ...]]:
    """Return dead letters as tuples, the newest first.

    A page of some kinds of failure is made of the newest of each, which takes as long as the
    page is, however many others there are. A long list is found by looking at one after another.
    """
    limit = ALL if wanted.limit is None else wanted.limit
    page = {"limit": limit, "skip": wanted.skip}
    wanted, kinds = _kinds(db, wanted)
    if (
        kinds is None
        or wanted.ids is not None
        or len(kinds) * (limit + wanted.skip) > MAX_LOOKED_UP
    ):
        where, values = _condition(
            wanted, "" if kinds is None else "{one_by_one}failure {in_kinds}"
        )
        return db.tuples("dead_letters", where, **values, kinds=json.dumps(kinds), **page)
    statuses = STATUSES if wanted.status is None else (wanted.status,)
    where, values = _condition(replace(wanted, status=None))
    values |= {"ids": json.dumps(kinds), "statuses": json.dumps(statuses)}
    return db.tuples("newest_of_kinds", where, **values, **page)


def _kinds(db: Transaction, wanted: DeadLetterFilter) -> tuple[DeadLetterFilter, list[int] | None]:
    """Return the kinds of failure that are wanted, or None for all, and what else is."""
    names = ("fingerprint", "processor", "code", "source")
    values = {name: value for name in names if (value := getattr(wanted, name)) is not None}
    if not values:
        return wanted, None
    clauses = [f"{name} = :{name}" for name in values if name != "source"]
    if wanted.source is not None:
        clauses.append("(source = :source OR source IS NULL)")
    found = db.rows("kinds_of_failure", " AND ".join(clauses), **values)
    if all(row["source"] is not None for row in found):  # then that says it of each dead letter
        wanted = replace(wanted, source=None)
    return wanted, [row["id"] for row in found]


def _condition(wanted: DeadLetterFilter, *clauses: str) -> tuple[str, dict[str, Any]]:
    """Return a condition on dead letters, with clauses of one's own, and its values."""
    equal = {name: getattr(wanted, name) for name in ("status", "source")}
    given = [f"{name} = :{name}" for name, value in equal.items() if value is not None]
    if wanted.before is not None:
        given.append("id < :before")
    if wanted.ids is not None:
        given.append("id {in_ids}")
    ids = json.dumps([int(id) for id in wanted.ids or ()])
    values = equal | {"before": wanted.before, "ids": ids}
    return " AND ".join([*given, *filter(None, clauses)]) or "TRUE", values
