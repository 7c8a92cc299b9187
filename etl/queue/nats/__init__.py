"""The store on NATS JetStream, for many machines: an operation is a message of a journal.

Each process has a copy of the tables in memory, and applies the operations to
it in the order of the journal, in which all find them. Reads are from that
copy; a change returns once it has come back by the journal, synced by the
servers as they are set up to. The lines of large batches go beside the
journal, as blobs: only who works on a batch loads them.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import polars as pl

from etl.errors import EtlError, LeaseLost, StoreAway, StoreError, StoreFull
from etl.lines import Reference
from etl.queue import operations
from etl.queue.nats.address import Address
from etl.queue.nats.blobs import BlobGone
from etl.queue.nats.journal import Journal
from etl.queue.nats.replica import Replica
from etl.queue.operations import Stored, check_room
from etl.queue.store import FOR_EVER, PATIENCE, Result, Store

__all__ = ["NatsQueue"]

INLINE = 16 * 1024
"""Bytes of an encoded payload up to which it is in the journal itself."""


LOADING = 60.0
"""Seconds to wait for the lines of a batch."""


class NatsQueue(Store):
    """A `Queue` on NATS JetStream.

    Args:
        url: See `Address`.
        max_lines: Waiting lines at which `put` blocks or is refused.
        max_bytes: The same in bytes of text.
        replicas: On how many nodes the store is kept; by default three in a cluster.
        patience: Seconds to wait for the servers.
        clock: Returns Unix seconds, for tests; by default the servers' clock is used.

    Raises:
        UsageError: If the URL is none of a store.
        StoreAway: If no server can be reached.
        StoreError: If the store cannot be used, or was made by a newer etl.
    """

    def __init__(
        self,
        url: str,
        *,
        max_lines: int | None = None,
        max_bytes: int | None = None,
        replicas: int | None = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        address = Address.parse(url)
        replica = Replica(f"store {address.url!r}")
        self._own_clock = clock
        self._lane = threading.Lock()
        self._journal = Journal(address, replica, replicas=replicas, patience=patience)
        self._ended = weakref.finalize(self, self._journal.close)
        super().__init__(
            replica.database,
            address.url,
            max_lines=max_lines,
            max_bytes=max_bytes,
            clock=clock or self._journal.now,
        )
        self.secret_url = address.secret_url

    def close(self) -> None:
        """See `Queue.close`."""
        self._ended()
        super().close()

    def _change(self, change: partial[Result], *, patience: float = PATIENCE) -> Result:
        uploaded: list[str] = []
        if change.func in (operations.put, operations.replay):
            try:
                change = self._upload(change, uploaded, patience)
            except StoreFull:
                self._journal.drop_blobs(uploaded)
                raise
        at = self._own_clock() if self._own_clock else None
        try:
            with self._alone(patience):
                result = self._journal.submit(change, patience=patience, at=at)
        except StoreError:  # it may have taken place
            raise
        except EtlError:
            self._journal.drop_blobs(uploaded)
            raise
        if change.func in (operations.put, operations.commit):
            self._journal.drop_blobs(cast("list[str]", result))
        return result

    def _upload(self, change: partial[Result], uploaded: list[str], patience: float) -> Any:
        """Put large payloads beside the journal; note the blobs, and return what refers to them."""
        batches: list[Stored] = change.keywords["batches"]
        if "limits" in change.keywords:
            with self._database.read() as db:
                check_room(db, batches, change.keywords["limits"])
        stored = []
        for batch in batches:
            if len(batch.data) > INLINE:
                body = f"{batch.encoding}\n".encode() + batch.data
                uploaded.append(self._journal.put_blob(body, patience=patience))
                batch = replace(batch, encoding="blob", data=uploaded[-1].encode())  # noqa: PLW2901
            stored.append(batch)
        return partial(change.func, **{**change.keywords, "batches": stored})

    def _payload(self, encoding: str, data: bytes) -> bytes | Reference | pl.DataFrame:
        if encoding == "blob":
            try:
                body = self._journal.get_blob(data.decode(), patience=LOADING)
            except BlobGone as error:  # to be found out by whoever reads it
                return Reference(str(error), 0, 0, checksum=1)
            name, _, data = body.partition(b"\n")
            encoding = name.decode()
        return super()._payload(encoding, data)

    @contextmanager
    def _alone(self, patience: float) -> Iterator[None]:
        """Wait for the operation before ours, and undo a lease that no one waited for."""
        if not self._lane.acquire(timeout=-1 if patience == FOR_EVER else patience):
            raise StoreAway(f"{self._database.name} does not answer; try again when it does")
        try:
            while self._journal.orphans:
                held = self._journal.orphans[-1]
                back = partial(operations.release, held=held, delay=0.0)
                with contextlib.suppress(LeaseLost):
                    self._journal.submit(back, patience=patience, at=None)
                self._journal.orphans.remove(held)
            yield
        finally:
            self._lane.release()
