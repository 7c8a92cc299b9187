"""The files that committed batches have left: where they lie, and which are not published yet.

And the columns of the tables that they are, by folder.

A store keeps each by its path below the output root, a folder that it keeps, too: of a store in
a file by its path from the store's folder, if it is below it, so that both can be moved. What
lies elsewhere is kept by its whole path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from etl.errors import OutputsChanged, UsageError, did_you_mean
from etl.queue.database import Database, Transaction
from etl.queue.protocol import TargetState
from etl.records.result import Output
from etl.records.schemas import NO_TYPE
from etl.settings import Settings

__all__ = ["Outputs"]


TARGET = "target:"
"""What the keys of notes on targets begin with."""


class Outputs:
    """What a `Queue` knows of outputs, over one `Database`."""

    url: str
    _database: Database
    _file: Path | None = None
    """The store's file, if it is one."""
    _on_server = False
    """Whether other machines use the store, too, so that a folder must be named for all."""
    _root: Path | None = None
    """The output root, as it was last read."""

    def output_root(self) -> Path | None:
        """See `WorkerRegistry.output_root`."""
        with self._database.read() as db:
            self._root = self._kept_root(db)
        return self._root

    def use_output_root(self, folder: Path, *, keep: bool = True) -> None:
        """See `WorkerRegistry.use_output_root`."""
        wanted, found = folder.resolve(), self.output_root()
        if found is None and keep and self._file:
            with self._database.write() as db:
                db.run("lock", name="control")
                found = self._kept_root(db)
                if found is None:
                    self._keep_root(db, wanted)
        if found not in (None, wanted):
            raise UsageError(
                f"outputs of {self.url} lie below {str(found)!r}, not below {str(wanted)!r}; omit "
                "--out, use another store, or move them there and say so: "
                f"etl store init {self.url} --out {wanted}"
            )

    def pending_outputs(self) -> list[Output]:
        """See `WorkerRegistry.pending_outputs`."""
        with self._database.read() as db:
            return self._found(db, "pending_outputs")

    def outputs(self) -> list[Output]:
        """See `WorkerRegistry.outputs`."""
        with self._database.read() as db:
            return self._found(db, "outputs")

    def mark_published(self, outputs: Sequence[Output]) -> None:
        """See `WorkerRegistry.mark_published`."""
        kept = self._kept_names(outputs)
        rows = [
            {"staged": name.staged, "path": one.staged}
            for name, one in zip(kept, outputs, strict=True)
        ]
        with self._database.write(durable=False) as db:
            db.many("mark_published", rows)

    def replace_outputs(self, old: Sequence[Output], new: Sequence[Output]) -> None:
        """See `WorkerRegistry.replace_outputs`."""
        names = {one.final for one in old}
        kept = names | {one.final for one in self._kept_names(old)}  # earlier stores: whole paths
        rows = [asdict(one) for one in self._kept_names(new)]
        for row in rows:
            if row["staged"] == row["final"]:
                row["staged"] = None
        with self._database.write() as db:
            db.run("lock", name="outputs")  # two that replace the same in another order
            texts = json.dumps(sorted(kept))
            if new:
                gone = db.rows("set_outputs_aside", texts=texts, now=db.now())
            else:
                gone = db.rows("forget_outputs", texts=texts)
            if len(gone) != len(names):
                raise OutputsChanged(
                    f"{len(names) - len(gone)} of {len(names)} outputs of {self.url} were replaced "
                    "by another process, or never committed; nothing was changed: look at "
                    "outputs() again"
                )
            sources = {row["source"] for row in gone}
            lines = sum(row["lines"] for row in gone)
            of_all = {"source": sources.pop() if len(sources) == 1 else "", "lines": lines}
            db.many("insert_output", (row | of_all for row in rows))

    def targets(self) -> list[TargetState]:
        """See `WorkerRegistry.targets`."""
        with self._database.read() as db:
            rooted = self._kept_root(db) is not None
            waiting = db.rows("spooled_outputs" if rooted else "spooled_anywhere")
            notes = {
                row["key"].removeprefix(TARGET): json.loads(row["value"])
                for row in db.rows("target_notes")
            }
        found: dict[str, TargetState] = {}
        for spool, note in notes.items():
            if note["error"]:
                found[spool] = TargetState(spool, **note)
        for row in waiting:
            spool = "/".join(Path(row["final"]).parts[-3:-1])
            name = notes.get(spool, {}).get("name", spool)
            one = found.get(spool, TargetState(spool, name))
            found[spool] = replace(
                one,
                files=one.files + 1,
                lines=one.lines + row["lines"],
                bytes=one.bytes + (row["size"] or 0),
            )
        return sorted(found.values(), key=attrgetter("name", "spool"))

    def note_target(self, spool: str, name: str, error: str) -> None:
        """See `WorkerRegistry.note_target`."""
        key = TARGET + spool
        with self._database.write(durable=False) as db:
            db.run("lock", name="control")
            before = {row["key"]: row["value"] for row in db.rows("target_notes")}.get(key)
            since = json.loads(before)["since"] if before else None
            note: dict[str, Any] = {"name": name, "error": error, "since": None}
            if error:
                now = db.now()
                note |= {"since": since or now, "failed_at": now}
            db.run("set_control", key=key, value=json.dumps(note))

    def replaced_outputs(self, older_than: float = 0.0) -> list[Output]:
        """See `WorkerRegistry.replaced_outputs`."""
        with self._database.read() as db:
            return self._found(db, "replaced_outputs", until=db.now() - older_than)

    def forget_replaced(self, outputs: Sequence[Output]) -> None:
        """See `WorkerRegistry.forget_replaced`."""
        names = {one.final for one in outputs} | {one.final for one in self._kept_names(outputs)}
        with self._database.write(durable=False) as db:
            db.run("forget_replaced", texts=json.dumps(sorted(names)))

    def data_sets(self) -> dict[Path, dict[str, str]]:
        """See `WorkerRegistry.data_sets`."""
        with self._database.read() as db:
            rows = db.rows("data_sets")
            root = self._kept_root(db) or Path("/")
        return {(root / row["folder"]).resolve(): json.loads(row["columns"]) for row in rows}

    def agree_on_columns(self, folder: Path, columns: Mapping[str, str]) -> dict[str, str]:
        """See `WorkerRegistry.agree_on_columns`."""
        name = self._kept_folder(folder)
        with self._database.read() as db:
            found, is_news = _agreed(db, name, columns)
        if not is_news:
            return found
        with self._database.write() as db:
            db.run("lock", name="data sets")
            found, is_news = _agreed(db, name, columns)
            if is_news:
                db.run("set_data_set", folder=name, columns=json.dumps(found))
        return found

    def _set_types(self, db: Transaction, folder: Path, columns: Mapping[str, str]) -> None:
        """Give columns of a data set other types."""
        name = self._kept_folder(folder)
        db.run("lock", name="data sets")
        found, _ = _agreed(db, name, {})
        for column in columns:
            if column not in found:
                raise UsageError(
                    f"the data set in {str(folder)!r} has no column {column!r}"
                    f"{did_you_mean(column, found)}"
                )
        db.run("set_data_set", folder=name, columns=json.dumps(found | dict(columns)))

    def _kept_folder(self, folder: Path) -> str:
        root = self._root or self.output_root()
        folder = folder.resolve()
        return str(folder) if root is None else _below(root, str(folder))

    def _found(self, db: Transaction, statement: str, **values: Any) -> list[Output]:
        """Return the outputs that a statement finds, by their whole names."""
        found = [Output(**row) for row in map(dict, db.rows(statement, **values))]
        root = self._kept_root(db) if found else None
        if root is None:
            return found
        return [
            replace(one, staged=str(root / one.staged), final=str(root / one.final))
            for one in found
        ]

    def _kept_names(self, outputs: Iterable[Output]) -> list[Output]:
        """Return outputs by the names that the store keeps."""
        outputs = list(outputs)
        root = self._root or (self.output_root() if outputs else None)
        if root is None:
            return outputs
        return [
            replace(one, staged=_below(root, one.staged), final=_below(root, one.final))
            for one in outputs
        ]

    def _kept_root(self, db: Transaction) -> Path | None:
        row = db.row("output_root")
        return None if row is None else (self._folder() / row["value"]).resolve()

    def _keep_root(self, db: Transaction, root: Path) -> None:
        value = _below(self._folder(), str(root)) if self._file else str(root)
        db.run("set_control", key="output_root", value=value)
        self._root = root

    def _folder(self) -> Path:
        return self._file.resolve().parent if self._file else Path("/")


def _below(folder: Path, path: str) -> str:
    """Return a path from a folder, if it is below it."""
    below = Path(path)
    return str(below.relative_to(folder)) if below.is_relative_to(folder) else path


def _agreed(
    db: Transaction, folder: str, columns: Mapping[str, str]
) -> tuple[dict[str, str], bool]:
    """Return the columns of a data set with those that are new, and whether any is."""
    row = db.row("data_set", folder=folder)
    known: dict[str, str] = json.loads(row["columns"]) if row else {}
    is_news = row is None
    for name, type in columns.items():
        old = known.get(name)
        if (old is None and len(known) < Settings.max_columns) or (
            old == NO_TYPE and type != NO_TYPE
        ):
            known[name], is_news = type, True
    return known, is_news
