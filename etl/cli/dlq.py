"""`etl dlq`: list, show, replay, discard, reopen, export and import dead letters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from etl.cli.options import Json, NamedStore, Pipeline, Store
from etl.cli.store import open_store
from etl.errors import UsageError
from etl.settings import Settings
from etl.text import printable, say

if TYPE_CHECKING:
    from etl.queue import Queue


def _id(text: str) -> int:
    """Return an id; a fingerprint stands in the first list that one sees, so it may be given."""
    if text.isdigit():
        return int(text)
    what = "is a kind of failure" if re.fullmatch("[0-9a-f]{12}", text) else "is no id"
    raise UsageError(f"{text!r} {what}; the ids of dead letters: etl dlq list --lines")


Id = Annotated[int, Argument(help="Id of the dead letter.", parser=_id, metavar="ID")]
Ids = Annotated[list[int] | None, Argument(help="Ids of dead letters.")]
Fingerprint = Annotated[str | None, Option(help="Select this kind of failure.")]
Processor = Annotated[str | None, Option(help="Select failures in this processor.")]
Everything = Annotated[bool, Option("--all", help="Select all open dead letters.")]
Discarded = Annotated[bool, Option("--all", help="Select all discarded dead letters.")]
Limit = Annotated[int, Option(min=1, help="Maximum number to list with --lines, the newest.")]
DryRun = Annotated[
    str | None,
    Option(metavar="PIPELINE", help="Print how many would pass this pipeline; replay nothing."),
]
ImportFile = Annotated[Path, Argument(help="File that `etl dlq export` wrote.")]


def list_(
    store: Store = None,
    lines: Annotated[bool, Option(help="List single dead letters, not kinds of failure.")] = False,
    limit: Limit = 50,
    before: Annotated[int | None, Option(help="List those with a lower id, with --lines.")] = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    code: Annotated[str | None, Option(help="Select failures with this code.")] = None,
    source: Annotated[str | None, Option(help="Select lines of this source.")] = None,
    status: Annotated[str, Option(help="Status: open, replaying, replayed or discarded.")] = "open",
    as_json: Json = False,
) -> None:
    """List dead letters, by kind of failure or one by one."""
    from etl.cli.tables import DEAD_LETTERS, GROUPS, show_rows
    from etl.queue import DeadLetterFilter

    queue = open_store(store)
    which = DeadLetterFilter(
        fingerprint=fingerprint,
        processor=processor,
        code=code,
        source=source,
        status=status,
        before=before if lines else None,
        limit=limit if lines else None,
    )
    picked = any((fingerprint, processor, code, source))
    if lines:
        rows, key, columns = (
            queue.dead_letters(which).drop("raw").to_dicts(),
            "letters",
            DEAD_LETTERS,
        )
    else:
        rows, key, columns = queue.dead_letter_groups(which), "groups", GROUPS
    empty = _nothing(queue, status) if picked and not rows else f"no {status} dead letters"
    show_rows(key, rows, columns, as_json=as_json, empty=empty)
    if lines and len(rows) == limit and not as_json:
        say(f"{limit:,} are listed; for older ones: --before {rows[0]['id']}")


def show(dead_letter: Id, store: Store = None) -> None:
    """Show one dead letter with all its fields."""
    from etl.cli.tables import show_dead_letter
    from etl.queue import DeadLetterFilter

    found = open_store(store).dead_letters(DeadLetterFilter(ids=[dead_letter], status=None))
    if found.is_empty():
        raise UsageError(f"no dead letter {dead_letter}; list their ids with: etl dlq list --lines")
    show_dead_letter(found.row(0, named=True))


def replay(
    ids: Ids = None,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Everything = False,
    force: Annotated[bool, Option(help="Also replay those that failed again three times.")] = False,
    dry_run: DryRun = None,
) -> None:
    """Put dead letters back into the queue."""
    from etl.cli.commands import work_command
    from etl.dlq.dead_letters import DeadLetters
    from etl.pipeline.load import load_pipeline

    which = _which(ids, fingerprint, processor, everything=everything)
    queue = open_store(store)
    dead_letters = DeadLetters(queue)
    if dry_run:
        tried = dead_letters.dry_run(load_pipeline(dry_run), **which)
        say(str(tried) if tried.would_pass or tried.would_fail else _nothing(queue, "open"))
        return
    count = dead_letters.replay(force=force, **which)
    put = f"lines put back into the queue: {count:,}; process them with: {work_command(queue.url)}"
    say(put if count else _nothing(queue, "open"))


def discard(
    ids: Ids = None,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Everything = False,
) -> None:
    """Close dead letters without a replay; they still count as dead. `reopen` undoes it."""
    from etl.dlq.dead_letters import DeadLetters

    which = _which(ids, fingerprint, processor, everything=everything)
    queue = open_store(store)
    count = DeadLetters(queue).discard(**which)
    say(f"dead letters discarded: {count:,}" if count else _nothing(queue, "open"))


def reopen(
    ids: Ids = None,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Discarded = False,
) -> None:
    """Open discarded dead letters again; list them with: etl dlq list --status discarded."""
    from etl.dlq.dead_letters import DeadLetters

    which = _which(ids, fingerprint, processor, everything=everything)
    queue = open_store(store)
    count = DeadLetters(queue).reopen(**which)
    say(f"lines open again: {count:,}" if count else _nothing(queue, "discarded"))


def export(
    file: Annotated[Path, Argument(help="File to write: .jsonl or .parquet.")],
    ids: Ids = None,
    store: Store = None,
    fingerprint: Fingerprint = None,
    processor: Processor = None,
    everything: Everything = False,
) -> None:
    """Write dead letters to a file; they stay in the store."""
    from etl.dlq.dead_letters import DeadLetters

    which = _which(ids, fingerprint, processor, everything=everything)
    count = DeadLetters(open_store(store)).export(file, **which)
    say(f"dead letters written to {file}: {count:,}")


def import_(file: ImportFile, store: NamedStore = None) -> None:
    """Put the lines of exported dead letters into the queue of a store, once."""
    from etl.cli.commands import work_command
    from etl.dlq.dead_letters import DeadLetters

    queue = open_store(store, create=True)
    count = DeadLetters(queue).import_(file)
    done = f"lines put into the queue: {count:,}; process them with: {work_command(queue.url)}"
    say(done if count else f"nothing new in {file}")


def case(
    dead_letter: Id,
    file: Annotated[Path, Argument(help="File to add the test to: *.etl.toml.")],
    store: Store = None,
    pipeline: Pipeline = Settings.pipeline,
    dead: Annotated[bool, Option(help="Expect the line to fail again, not to pass.")] = False,
) -> None:
    """Add a dead letter to a file of tests of the pipeline, which pytest runs."""
    from etl.dlq.dead_letters import DeadLetters
    from etl.pipeline.load import load_pipeline
    from etl.testing.cases import append_case

    load_pipeline(pipeline)
    found = DeadLetters(open_store(store)).frame(ids=[dead_letter], status=None).to_dict("records")
    say(*append_case(file, found[0], pipeline=pipeline, dead=dead).removesuffix("\n").split("\n"))


def _nothing(queue: Queue, status: str) -> str:
    """Return that no dead letter of a status matches, and of which processors there are some."""
    from etl.queue import DeadLetterFilter

    groups = queue.dead_letter_groups(DeadLetterFilter(status=status))
    names = ", ".join(sorted({printable(row["processor"]) for row in groups}))
    known = f"; there are some of the processors {names}" if names else ""
    return f"no {status} dead letter matches{known}"


def _which(
    ids: list[int] | None, fingerprint: str | None, processor: str | None, *, everything: bool
) -> dict[str, Any]:
    """Return the selection as keyword arguments of `DeadLetters`; none for all."""
    which = {"ids": ids or None, "fingerprint": fingerprint, "processor": processor}
    if not any(which.values()) and not everything:
        raise UsageError("no dead letters selected; use ids, --fingerprint, --processor or --all")
    return which
