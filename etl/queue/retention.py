"""What a store keeps for a time only, and how it is deleted: a slice at a time.

A commit deletes a slice every now and then, and the next one too as long as there is more, so
that deleting keeps up with whatever is put. Open dead letters, and how far files were read, are
kept for good. The accounting identity counts what was deleted as before.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from etl.queue.database import Transaction
from etl.queue.results import add_totals
from etl.records.columns import COUNTERS
from etl.settings import Settings

__all__ = ["Retention", "count_old"]

SLICE = 1_000
"""Rows of a kind that are deleted in one transaction."""

FAILURES = 100
"""Kinds of failure of which one transaction finds out whether they have dead letters."""

COMMITS = 64
"""Commits of a process between two slices, if there is no more to delete."""

IDLE_SECONDS = 60.0
"""Seconds between two slices of a process that commits nothing, if there is no more to delete."""

IDS_KEPT = 3600.0
"""Seconds for which the id of a batch is known, from when it was put."""

ENDED = ""
"""The worker under whose name is counted what those did that ended long ago."""


@dataclass
class Retention:
    """Decides when a slice is due, and deletes it.

    Attributes:
        seconds: Age from which closed dead letters are deleted.
        more: Whether the last slice was full, so that the next one is due at once.
        after: Kind of failure up to which was looked at; 0 if there are none after it.
    """

    seconds: float
    more: bool = False
    after: int = 0
    _commits: int = 0
    _at: float = float("-inf")

    def after_commit(self, db: Transaction, now: float, rows: int) -> None:
        """Delete a slice if one is due after so many commits.

        Args:
            db: The transaction of the commit.
            now: Unix seconds.
            rows: How many batches and replayed dead letters it has ended.
        """
        if self.more or self._commits % COMMITS == 0:
            self.delete(db, now, limit=max(SLICE, 2 * rows))  # more than will be old one day
        self._commits += 1

    def is_due(self, now: float) -> bool:
        """Return whether a process that commits nothing should delete a slice."""
        return self.more or abs(now - self._at) > IDLE_SECONDS

    def delete(self, db: Transaction, now: float, *, limit: int | None = None) -> Counter[str]:
        """Delete a slice of all that is too old, and return how many rows by kind.

        Nothing is deleted while another process does.

        Args:
            db: The store.
            now: Unix seconds.
            limit: How many rows of a kind at most; by default 1,000.
        """
        limit = limit or SLICE
        self._at, self.more = now, False
        if not db.row("try_lock", name="retention")["locked"]:
            return Counter()
        for table in ("queue_history", "processor_history"):
            db.run(f"forget_{table}", second=int(now) - Settings.history_seconds)
        db.run("forget_old_traces", kept=Settings.kept_traces)
        closed = db.rows("forget_closed", since=now - self.seconds, limit=limit)
        lines = sum(row["lines"] for row in closed if row["status"] == "discarded")
        add_totals(db, {"pruned": lines}, at=None)
        keys = db.run("forget_keys", since=keys_since(now, self.seconds), limit=limit).rowcount
        ids = db.run("forget_ids", since=now - IDS_KEPT, limit=limit).rowcount
        self.more = limit in (len(closed), keys, ids)
        return Counter(
            {
                "closed dead letters": len(closed),
                "kinds of failure": 0 if self.more else self._forget_failures(db),
                "idempotency keys": keys,
                "ids of batches": ids,
                "ended workers": _fold_ended_workers(db),
            }
        )

    def _forget_failures(self, db: Transaction) -> int:
        """Delete kinds of failure that have no dead letters; look at the next few of them."""
        found = db.rows("check_failures", after=self.after, limit=FAILURES)
        self.after = found[-1]["id"] if len(found) == FAILURES else 0
        ids = [row["id"] for row in found if not row["used"]]
        if not ids:
            return 0
        # Locked before they are looked at once more: a commit may have used one in between.
        unused = db.rows("lock_failures", ids=json.dumps(ids))
        ids = [row["id"] for row in unused]
        return int(db.run("forget_failures", ids=json.dumps(ids)).rowcount)


def count_old(db: Transaction, now: float, seconds: float) -> Counter[str]:
    """Return how many dead letters and idempotency keys are older than some seconds."""
    closed = db.row("count_closed", since=now - seconds)
    keys = db.row("count_keys", since=keys_since(now, seconds))
    return Counter({"closed dead letters": closed["found"], "idempotency keys": keys["found"]})


def keys_since(now: float, seconds: float) -> float:
    """Return when the oldest idempotency key was used that is still kept."""
    return now - min(seconds, Settings.key_seconds)


def _fold_ended_workers(db: Transaction) -> int:
    """Count what workers did that ended long ago under one name, and return how many they were."""
    gone = db.rows("ended_workers", kept=Settings.kept_workers, limit=SLICE)
    if not gone:
        return 0
    texts = json.dumps([row["worker"] for row in gone])
    sums: dict[str, dict[str, Any]] = {}
    taken = sorted(db.rows("take_processors", texts=texts), key=lambda row: row["position"])
    for row in taken:
        known = sums.setdefault(row["processor"], dict.fromkeys(COUNTERS.names, 0))
        for name in COUNTERS.names:
            known[name] += row[name]
    rows = [{"worker": ENDED, "processor": name} | counts for name, counts in sums.items()]
    db.run("add_processors", rows=json.dumps(rows))
    return len(gone)
