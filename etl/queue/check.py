"""Verify all that a store holds, and say what is affected.

It reads only, in pages, so that it takes little memory however much there is, and may run while
workers do. What has no checksum was written by an earlier etl: it counts as unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backports import zstd

from etl.errors import PayloadDamaged, SourceChanged, StoreError
from etl.queue.database import Database
from etl.records.batch import Reference, decode_payload
from etl.records.checksum import checksum_of_batch, checksum_of_file, checksum_of_values
from etl.records.columns import CHECKED, TOTALS

__all__ = ["Check", "Finding", "PartCheck", "check"]

MAX_FINDINGS = 1_000
"""Things of one part of a store that are listed; all are counted."""

PAGES = {
    "batch_rows": 1_000,
    "check_payloads": 16,
    "check_dead_letters": 5_000,
    "check_traces": 100,
    "check_outputs": 1_000,
}
"""Rows that are read at once; of payloads few, as each may have megabytes."""

CHANGED, MISSING = "is not what was written", "is missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is damaged or missing, with the columns of `FINDINGS`."""

    part: str
    name: str
    problem: str
    source: str = ""
    lines: int = 0


@dataclass(slots=True)
class PartCheck:
    """How much of one part of a store was verified, and what of it is not whole.

    Attributes:
        checked: How many things were verified.
        unchecked: How many have no checksum, or are on another machine.
        damaged: How many are damaged or missing.
        lines: Source lines that they stand for.
    """

    checked: int = 0
    unchecked: int = 0
    damaged: int = 0
    lines: int = 0


@dataclass(slots=True)
class Check:
    """The result of `check`.

    Attributes:
        parts: What was verified, by part of the store.
        findings: What is damaged or missing, the first 1,000 of each part.
    """

    parts: dict[str, PartCheck] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged or missing."""
        return not any(part.damaged for part in self.parts.values())

    def to_dict(self) -> dict[str, Any]:
        """Return what `etl check --json` prints."""
        return {"whole": self.whole} | asdict(self)

    def verify(self, part: str, examine: Callable[[], Iterator[Finding | bool]]) -> None:
        """Count what `examine` yields: True is whole, False unchecked, else what is not whole."""
        counts = self.parts.setdefault(part, PartCheck())
        try:
            for found in examine():
                if isinstance(found, Finding):
                    self._add(counts, found)
                counts.checked += found is not False
                counts.unchecked += found is False
        except StoreError as error:  # what can be read is checked all the same
            self._add(counts, Finding(part, "", f"cannot be read on: {error}"))

    def _add(self, counts: PartCheck, found: Finding) -> None:
        if counts.damaged < MAX_FINDINGS:
            self.findings.append(found)
        counts.damaged += 1
        counts.lines += found.lines


def check(database: Database, root: Path | None, *, on_server: bool) -> Check:
    """Return what of a store is damaged or missing.

    Args:
        database: The store.
        root: Its output root, if it has one.
        on_server: Whether outputs without a root may lie on another machine.
    """
    found = Check()
    found.verify("database", lambda: _database(database))
    found.verify("totals", lambda: _totals(database))
    found.verify("batches", lambda: _batches(database))
    found.verify("payloads", lambda: _payloads(database))
    found.verify("references", lambda: _references(database))
    found.verify("dead letters", lambda: _dead_letters(database))
    found.verify("traces", lambda: _traces(database))
    found.verify("outputs", lambda: _outputs(database, root, on_server=on_server))
    return found


def _database(database: Database) -> Iterator[Finding | bool]:
    """Yield what the database itself finds wrong."""
    problems = database.own_check()
    yield from (Finding("database", "", problem) for problem in problems or ())
    if not problems:
        yield problems is not None


def _totals(database: Database) -> Iterator[Finding | bool]:
    """Compare the totals with each other, and with the batches and dead letters."""
    with database.read(snapshot=True) as db:
        totals = dict(db.row("totals"))
        sums = {row["state"]: dict(row) for row in db.rows("check_batches")}
        dead = db.row("check_dead")["lines"]
    accepted, *parts = (totals[name] for name in TOTALS.names)
    if accepted != sum(parts):
        problem = f"{accepted:,} lines were accepted, and {sum(parts):,} are accounted for"
        yield Finding("totals", "accepted", problem, lines=abs(accepted - sum(parts)))
    for state in ("waiting", "leased"):
        lines = sums.get(state, {}).get("lines", 0)
        if totals[state] != lines:
            problem = f"{totals[state]:,} lines are counted, and batches of {lines:,} are there"
            yield Finding("totals", state, problem, lines=abs(totals[state] - lines))
    if totals["dead"] != dead:
        problem = f"{totals['dead']:,} lines are counted, and dead letters of {dead:,} are there"
        yield Finding("totals", "dead", problem, lines=abs(dead - totals["dead"]))
    yield True


def _rows(database: Database, statement: str, key: str, first: Any = -1) -> Iterator[Any]:
    """Yield the rows of a statement that reads pages, in the order of a column."""
    after, limit = first, PAGES[statement]
    while True:
        with database.read() as db:
            page = db.rows(statement, after=after, limit=limit)
        yield from page
        if len(page) < limit:
            return
        after = page[-1][key]


def _batches(database: Database) -> Iterator[Finding | bool]:
    for row in _rows(database, "batch_rows", "seq"):
        if row["checksum"] is None:
            yield False
        elif checksum_of_batch(row) == row["checksum"]:
            yield True
        else:
            yield Finding("batches", row["id"], CHANGED, row["source"], row["lines"])


def _payloads(database: Database) -> Iterator[Finding | bool]:
    for row in _rows(database, "check_payloads", "id"):
        try:
            decode_payload(row["encoding"], row["data"], row["checksum"])
        except PayloadDamaged as error:
            yield from _affected(database, "payloads", row["id"], str(error))
        else:
            yield row["checksum"] is not None


def _references(database: Database) -> Iterator[Finding | bool]:
    for row in _rows(database, "check_payloads", "id"):
        if row["encoding"] != "reference":
            continue
        try:
            reference = decode_payload(row["encoding"], row["data"], row["checksum"])
            assert isinstance(reference, Reference)  # by its encoding  # noqa: S101
            reference.read()
        except PayloadDamaged:
            continue  # it is among the payloads
        except SourceChanged as error:
            yield from _affected(database, "references", row["id"], str(error))
        else:
            yield True


def _affected(database: Database, part: str, payload: int, problem: str) -> Iterator[Finding]:
    """Yield the batches of a payload; none if they were committed in the meantime."""
    with database.read() as db:
        batches = db.rows("batches_of_payload", payload=payload)
    for row in batches:
        yield Finding(part, row["id"], problem, row["source"], row["lines"])


def _dead_letters(database: Database) -> Iterator[Finding | bool]:
    for row in _rows(database, "check_dead_letters", "id"):
        if row["checksum"] is None:
            yield False
        elif checksum_of_values(row[name] for name in CHECKED.names) == row["checksum"]:
            yield True
        else:
            yield Finding("dead letters", str(row["id"]), CHANGED, row["source"], row["lines"])


def _traces(database: Database) -> Iterator[Finding | bool]:
    for row in _rows(database, "check_traces", "seq"):
        try:
            zstd.decompress(row["block"])
        except zstd.ZstdError:
            yield Finding("traces", row["batch"], CHANGED, row["source"])
        else:
            yield True


def _outputs(database: Database, root: Path | None, *, on_server: bool) -> Iterator[Finding | bool]:
    if root is not None and on_server and not root.is_dir():
        problem = "the output root is not on this machine; check the store on one that has it"
        yield Finding("outputs", str(root), problem)
        return
    base, elsewhere = root or Path("/"), on_server and root is None
    for row in _rows(database, "check_outputs", "final", first=""):
        problem = _problem_of_output(base, row)
        if problem and not _is_output(database, row["final"]):
            continue  # another has replaced it in the meantime
        if problem == MISSING and elsewhere:
            yield False
        elif problem:
            yield Finding("outputs", str(base / row["final"]), problem, row["source"], row["lines"])
        else:
            yield row["checksum"] is not None


def _is_output(database: Database, final: str) -> bool:
    with database.read() as db:
        return db.row("check_output", final=final) is not None


def _problem_of_output(base: Path, row: Any) -> str:
    """Return what is wrong with a file, or nothing; it may be published in the meantime."""
    for name in (row["staged"], row["final"]):
        if name is None:
            continue
        try:
            size, checksum = checksum_of_file(base / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        if row["size"] not in (None, size):
            return f"has {size:,} bytes, and {row['size']:,} were written"
        return CHANGED if row["checksum"] not in (None, checksum) else ""
    return MISSING
