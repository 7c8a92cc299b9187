"""The journal of a store on NATS JetStream: what carries operations, and what they are read from.

Two streams make a store: one holds the journal, in which each message is an
operation, and the marks of snapshots; the other holds blobs: payloads of
batches, snapshots, and operations too large for one message.

A message that may or may not have arrived is sent again; the replica passes
over what it has seen. Not here: what an operation does (`replica.py`), and
how a connection is kept (`link.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from math import inf
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from etl.errors import StoreAway, StoreError, StoreVersion
from etl.lines import new_id
from etl.queue import operations
from etl.queue.nats.address import Address
from etl.queue.nats.blobs import BlobGone, Blobs, id_of, made_at
from etl.queue.nats.link import SILENCE, Link
from etl.queue.nats.replica import VERSION, Replica, message_of
from etl.queue.nats.wire import decode, encode
from etl.queue.operations import Held

__all__ = ["Journal"]

T = TypeVar("T")

HEARTBEAT = 0.5
"""Seconds after which the server says that there is nothing new."""

SNAPSHOT_EVERY = 500
"""Messages of the journal after which its beginning is replaced by a snapshot."""

SNAPSHOT_BYTES = 4 << 20
"""A snapshot is made that much more seldom for each such number of bytes in it."""

BLOB = "Etl-Blob"
"""Header of a message whose operation is in a blob."""

LEFT_OVER = 86400.0
"""Seconds after which a blob that nothing refers to is one of a producer that died."""

NO_CLUSTER = 10074
"""Code of JetStream for more than one replica on a server that is alone."""


class _Behind(NatsError):
    """What comes next cannot be had here; on a new connection, or by a snapshot, it can."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The last one: the sequence of its mark, the sequence up to which it goes, its blob."""

    mark: int = 0
    up_to: int = 0
    blob: str = ""
    size: int = 0


class Journal:
    """Carries operations to the journal, and what the journal says to a replica.

    Args:
        address: Where the servers are.
        replica: What follows the journal.
        replicas: On how many nodes each message is kept; by default three, in
            a cluster. A store that is there already is changed only if given.
        patience: Seconds to wait until the replica is as new as the journal.

    Raises:
        StoreAway: If no server can be reached in time.
        StoreError: If the store cannot be used.
    """

    def __init__(
        self, address: Address, replica: Replica, *, replicas: int | None, patience: float
    ) -> None:
        self.orphans: list[Held] = []
        self._address = address
        self._replica = replica
        self._replicas = replicas
        self._name = name = replica.database.name
        self._client = new_id()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._abandoned: dict[int, partial[Any]] = {}
        self._clock = 0.0
        self._created = ""
        self._snapshot = _Snapshot()
        self._applied = asyncio.Event()
        self._link = Link(address, name, prepare=self._prepare, follow=self._follow)
        self._blobs = Blobs(self._link, address, name, clock=self.now)
        self._link.start()
        try:
            self._link.call(self._until_current(), patience)
        except BaseException:
            self.close()
            raise

    # What other threads call

    def now(self) -> float:
        """Return the server's time in Unix seconds, as far as it is known; never too late."""
        return time.monotonic() + self._clock

    def submit(self, change: partial[T], *, patience: float, at: float | None) -> T:
        """Put an operation into the journal, and return its result once it took place here.

        To be called by one thread at a time: an operation that is given up
        cannot take place any more once the next one has.

        Raises:
            StoreAway: If that did not succeed in time; it may or may not take place yet.
            StoreFull: If the server has no room.
            EtlError: Whatever the operation raises.
        """
        number = next(self._numbers)
        message = message_of(self._client, number, change, at)
        try:
            result: T = self._link.call(self._carry_out(number, change, message), patience)
        except StoreAway as error:
            what = change.func.__name__
            raise StoreAway(f"{error}; this {what} may or may not take place yet") from None
        return result

    def put_blob(self, data: bytes, *, patience: float) -> str:
        """Store bytes and return the blob's name."""
        return self._link.call(self._blobs.put(data), patience)

    def get_blob(self, blob: str, *, patience: float) -> bytes:
        """Return the bytes of a blob.

        Raises:
            BlobGone: If it was removed.
            StoreAway: If the store cannot be reached.
        """
        return self._link.call(self._blobs.get(blob), patience)

    def drop_blobs(self, blobs: Iterable[str]) -> None:
        """Remove blobs, without waiting for it; what is missed is swept up later."""
        for blob in blobs:
            self._link.aside(self._blobs.drop, id_of(blob))

    def close(self) -> None:
        """End the connection and its thread. Closing twice is fine."""
        self._link.close()

    # Streams

    async def _prepare(self, js: JetStreamContext) -> None:
        """Make the streams, if they are not there."""
        address = self._address
        journal = [address.subject("journal"), address.subject("snapshot")]
        await self._make_stream(js, address.journal, journal)
        await self._make_stream(js, address.blobs, [address.subject("blob.>")], per_subject=1)

    async def _make_stream(
        self, js: JetStreamContext, name: str, subjects: list[str], per_subject: int = -1
    ) -> None:
        wanted = api.StreamConfig(
            name=name,
            subjects=subjects,
            storage=api.StorageType.FILE,
            num_replicas=self._replicas or 3,
            max_msgs_per_subject=per_subject,
            discard=api.DiscardPolicy.NEW,  # one with a limit loses nothing that it has
            allow_direct=True,
            metadata={"etl": str(VERSION)},
        )
        try:
            found = (await js.stream_info(name)).config
        except NotFoundError:
            await self._arrange(js.add_stream, wanted)
            return
        made_by = (found.metadata or {}).get("etl", "")
        if not made_by.isdigit() or found.subjects != subjects:
            raise StoreError(f"stream {name!r} is of another program; name another store")
        if int(made_by) > VERSION:
            raise StoreVersion(f"{self._name} was made by a newer etl; upgrade etl")
        if self._replicas and found.num_replicas != self._replicas:
            await self._arrange(js.update_stream, found.evolve(num_replicas=self._replicas))

    async def _arrange(
        self, arrange: Callable[[api.StreamConfig], Coroutine[Any, Any, Any]], to: api.StreamConfig
    ) -> None:
        """Make or change a stream; on one node where there is no cluster, unless asked for more."""
        try:
            await arrange(to)
        except APIError as error:
            if error.code == 503:  # not yet
                raise
            if error.err_code == NO_CLUSTER and not self._replicas:
                await arrange(to.evolve(num_replicas=1))
                return
            raise StoreError(
                f"{self._name} cannot be kept on {to.num_replicas} nodes: {error.description}; "
                "etl store init URL --replicas N makes it on N, with 1 for a server alone"
            ) from error

    # From the journal to the replica

    async def _until_current(self) -> None:
        """Wait until the replica has all that the journal has at this moment."""
        info = await self._link.insist(lambda js: js.stream_info(self._address.journal))
        while self._replica.applied < info.state.last_seq:
            await self._applied.wait()

    async def _follow(self, client: Client, js: JetStreamContext) -> None:
        """Apply what the journal says, message by message; ends with the connection."""
        await self._catch_up_by_snapshot(client, js)
        inbox, loop = client.new_inbox(), self._link.loop
        heard = loop.time()

        async def hear(message: Msg) -> None:
            nonlocal heard
            heard = inf  # while it is worked on, and its blob is fetched
            try:
                await self._hear(client, message)
            except Exception as error:  # noqa: BLE001 - the link knows what to do with it
                self._link.lose(error)
            heard = loop.time()

        await client.subscribe(inbox, cb=hear)
        await js.add_consumer(
            self._address.journal,
            deliver_subject=inbox,
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._replica.applied + 1,
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            flow_control=True,
            idle_heartbeat=HEARTBEAT,
            inactive_threshold=5.0,
            mem_storage=True,
            num_replicas=1,
        )
        while (left := heard + SILENCE - loop.time()) > 0:  # noqa: ASYNC110 - for silence
            await asyncio.sleep(min(left, SILENCE))
        raise TimeoutError("the journal is silent")

    async def _hear(self, client: Client, message: Msg) -> None:
        """Take a message of the journal, or one about its delivery."""
        self._link.say_back()
        headers = message.headers or {}
        if "Status" not in headers:
            await self._take(message)
        elif message.reply:  # flow control: this far we have come
            await client.publish(message.reply)
        elif int(headers.get(api.Header.LAST_STREAM, 0)) > self._replica.applied:
            raise _Behind  # something did not arrive

    async def _catch_up_by_snapshot(self, client: Client, js: JetStreamContext) -> None:
        """Load the last snapshot, if this copy is new, or behind the journal's beginning."""
        address, applied = self._address, self._replica.applied
        answer = await client.request(f"$JS.API.STREAM.INFO.{address.journal}", timeout=SILENCE)
        info = json.loads(answer.data)
        if "error" in info:
            raise APIError.from_error(info["error"])
        self._tell_time(datetime.fromisoformat(info["ts"]).timestamp())
        state = info["state"]
        if info["created"] != (self._created or info["created"]):
            raise StoreError(f"{self._name} was removed while it was open; open it again")
        self._created = info["created"]
        if state["last_seq"] < applied:  # a leader that is not yet as far as we are
            raise _Behind
        if applied and state["first_seq"] <= applied + 1:
            return
        try:
            found = await js.get_last_msg(address.journal, address.subject("snapshot"))
        except NotFoundError:
            if state["first_seq"] > applied + 1:
                raise StoreError(
                    f"{self._name} is not whole: its journal begins at {state['first_seq']}, and "
                    "there is no snapshot of what was before"
                ) from None
            return
        snapshot = _Snapshot(found.seq or 0, *decode(found.data or b""))
        if snapshot.up_to > applied:
            try:
                data = await self._blobs.get(snapshot.blob)
            except BlobGone as error:  # there is a newer one already
                raise _Behind from error
            await asyncio.to_thread(self._replica.load, data)
            if last := self._replica.last(self._client):
                self._tell(*last)  # it took place in what the snapshot leaves out
        self._snapshot = snapshot

    async def _take(self, message: Msg) -> None:
        """Apply one message, and tell its result to whoever waits for it."""
        meta, replica = message.metadata, self._replica
        sequence, at = meta.sequence.stream, meta.timestamp.timestamp()
        self._tell_time(at)
        if sequence <= replica.applied:
            return
        if sequence > replica.applied + 1:
            raise _Behind
        if message.subject == self._address.subject("snapshot"):
            self._snapshot = _Snapshot(sequence, *decode(message.data))
            replica.skip(sequence)
        else:
            data = message.data
            if ref := (message.headers or {}).get(BLOB):
                try:
                    data = await self._blobs.get(ref)
                except BlobGone as error:  # a snapshot has it
                    raise _Behind from error
                replica.blobs[sequence] = ref
            told = replica.apply(sequence, at, data)
            if told and told[0] == self._client:
                _, number, result = told
                self._tell(number, result)
                self._perhaps_make_snapshot(sequence)
        self._applied.set()
        self._applied.clear()

    def _tell(self, number: int, result: Any) -> None:
        future = self._waiting.get(number)
        if future is not None and not future.done():
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        elif number in self._abandoned:
            self._note_orphan(self._abandoned.pop(number), result)

    def _note_orphan(self, change: partial[Any], result: Any) -> None:
        """Note a lease that took place and that no one waits for any more."""
        if change.func is operations.lease and isinstance(result, tuple | list):
            given = change.keywords
            self.orphans.append(Held(given["token"], given["worker"], "", result[2]))

    def _tell_time(self, now: float) -> None:
        self._clock = max(self._clock, now - time.monotonic())

    # To the journal

    async def _carry_out(self, number: int, change: partial[T], message: bytes) -> T:
        """Send an operation until it has come back by the journal."""
        future: asyncio.Future[T] = self._link.loop.create_future()
        self._waiting[number] = future
        sending = self._link.loop.create_task(self._send(number, message))
        try:
            tasks: set[asyncio.Future[Any]] = {future, sending}
            await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            if not future.done():
                sending.result()
            return future.result()
        except asyncio.CancelledError:
            if not future.done():
                self._abandoned[number] = change
            elif future.exception() is None:  # it came in the same moment
                self._note_orphan(change, future.result())
            raise
        finally:
            del self._waiting[number]
            sending.cancel()

    async def _send(self, number: int, message: bytes) -> None:
        """Put an operation into the journal, again and again; ended once it has come back."""
        headers: dict[str, str] = {api.Header.MSG_ID: f"{self._client}-{number}"}
        if len(message) > self._blobs.chunk:
            headers[BLOB] = await self._blobs.put(message)
            message = b""
        subject = self._address.subject("journal")
        while True:
            await self._link.insist(lambda js: js.publish(subject, message, headers=dict(headers)))
            await asyncio.sleep(SILENCE)
            self._link.lose(TimeoutError("the journal is silent"))

    # Snapshots

    def _perhaps_make_snapshot(self, sequence: int) -> None:
        """Have the client that put every so manieth message make a snapshot."""
        every = SNAPSHOT_EVERY * (1 + self._snapshot.size // SNAPSHOT_BYTES)
        if (sequence - self._snapshot.up_to) % every == 0:
            self._link.aside(self._make_snapshot)

    async def _make_snapshot(self) -> None:
        """Store this copy, say so in the journal, and remove what was before it."""
        address, old = self._address, self._snapshot
        up_to, data = await asyncio.to_thread(self._replica.dump)
        blob = await self._blobs.put(data)
        mark = encode([up_to, blob, len(data)])
        headers: dict[str, str] = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(old.mark)}
        await self._link.ask(
            lambda js: js.publish(address.subject("snapshot"), mark, headers=dict(headers))
        )
        await self._link.ask(lambda js: js.purge_stream(address.journal, seq=up_to + 1))
        past = [seq for seq in self._replica.blobs if seq <= up_to]
        for name in [old.blob, *(self._replica.blobs.pop(seq) for seq in past)]:
            if name:
                await self._blobs.drop(id_of(name))
        await self._sweep(blob)

    async def _sweep(self, snapshot: str) -> None:
        """Remove blobs that were left behind by clients that were killed."""
        replica = self._replica
        rows = replica.database.rows("SELECT data FROM payloads WHERE encoding = 'blob'")
        needed = {snapshot, *replica.blobs.values(), *(row["data"].decode() for row in rows)}
        for id in await self._blobs.ids() - {id_of(blob) for blob in needed}:
            if made_at(id) < self.now() - LEFT_OVER:
                await self._blobs.drop(id)
