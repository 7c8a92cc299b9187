"""The journal of a store on NATS JetStream: a connection in a thread of its own.

Two streams make a store: one holds the journal, in which each message is an
operation, and the marks of snapshots; the other holds blobs, cut into chunks:
payloads of batches, snapshots, and operations too large for one message.

Whatever goes wrong with a connection - a node that dies, is stopped or is cut
off, a leader that is elected anew - ends it, and another is made, to the next
server. A message that may or may not have arrived is sent again; the replica
passes over what it has seen. Not here: what an operation does (`replica.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import ssl
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError

from etl.errors import QueueClosed, StoreAway, StoreError, StoreFull, StoreVersion
from etl.lines import new_id
from etl.queue import operations
from etl.queue.address import Address
from etl.queue.operations import Held
from etl.queue.replica import VERSION, Replica, message_of
from etl.queue.wire import decode, encode

__all__ = ["BlobGone", "Journal"]

LOG = logging.getLogger("etl.nats")

T = TypeVar("T")

CHUNK = 512 * 1024
"""Bytes of a chunk at most; a server takes 1 MB by default."""

HEARTBEAT = 0.5
"""Seconds after which the server says that there is nothing new."""

SILENCE = 2.0
"""Seconds without a word, or without an answer, after which a connection is given up."""

SNAPSHOT_EVERY = 500
"""Messages of the journal after which its beginning is replaced by a snapshot."""

SNAPSHOT_BYTES = 4 << 20
"""A snapshot is made that much more seldom for each such number of bytes in it."""

BLOB = "Etl-Blob"
"""Header of a message whose operation is in a blob."""

LEFT_OVER = 86400.0
"""Seconds after which a blob that nothing refers to is one of a producer that died."""

TROUBLE = (NatsError, OSError, asyncio.TimeoutError)

NO_CLUSTER = 10074
"""Code of JetStream for more than one replica on a server that is alone."""

NO_ROOM = {10047, 10077, 10122}
"""Codes of JetStream for a stream or a disk that is full."""


class BlobGone(StoreError):
    """A blob was removed, as nothing needs it any more."""


class _Behind(NatsError):
    """What comes next has been removed from the journal; a snapshot has it."""


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
        self._client = new_id()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._abandoned: dict[int, partial[Any]] = {}
        self._clock = 0.0
        self._chunk = CHUNK
        self._snapshot = _Snapshot()
        self._failure: StoreError | None = None
        self._trouble: BaseException | None = None
        self._away = False
        self._prepared = False
        self._aside_tasks: set[asyncio.Task[None]] = set()
        self._gate = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._lost: asyncio.Future[Any] = self._loop.create_future()
        self._there, self._applied = asyncio.Event(), asyncio.Event()
        self._main = self._loop.create_task(self._live())
        self._thread = threading.Thread(target=self._run, name="etl-nats", daemon=True)
        self._thread.start()
        try:
            self._call(self._until_current(), patience)
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
        result: T = self._call(self._carry_out(number, change, message), patience)
        return result

    def put_blob(self, data: bytes, *, patience: float) -> str:
        """Store bytes and return what `get_blob` needs to find them."""
        return self._call(self._put_blob(data), patience)

    def get_blob(self, ref: str, *, patience: float) -> bytes:
        """Return the bytes of a blob.

        Raises:
            BlobGone: If it was removed.
            StoreAway: If the store cannot be reached.
        """
        return self._call(self._get_blob(ref), patience)

    def drop_blobs(self, refs: Iterable[str]) -> None:
        """Remove blobs, without waiting for it; what is missed is swept up later."""
        with self._gate:
            for ref in refs if not self._failure else ():
                self._loop.call_soon_threadsafe(self._aside, self._drop_blob, ref)

    def close(self) -> None:
        """End the connection and its thread. Closing twice is fine."""
        with self._gate:
            self._failure = self._failure or self._closed()
            if self._thread.is_alive() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join()

    # The thread

    @property
    def _name(self) -> str:
        return self._replica.database.name

    def _run(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._main)
            with self._gate:  # from here on, no other thread puts anything into the loop
                self._failure = self._failure or self._closed()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.run_until_complete(_end(asyncio.all_tasks(self._loop)))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def _closed(self) -> StoreError:
        return QueueClosed(f"{self._name} is closed; open it again with open_queue()")

    def _call(self, work: Coroutine[Any, Any, T], patience: float) -> T:
        """Run a coroutine in the thread, for so many seconds at most."""

        async def timed() -> T:
            async with asyncio.timeout(None if patience == float("inf") else patience):
                return await work

        with self._gate:
            if self._failure:
                work.close()
                raise self._failure
            future = asyncio.run_coroutine_threadsafe(timed(), self._loop)
        try:
            return future.result()
        except TimeoutError:
            raise StoreAway(
                f"{self._name} cannot be reached: {self._trouble or 'it does not answer'}"
            ) from None
        except CancelledError:
            raise self._failure or self._closed() from None
        except KeyboardInterrupt:  # only once it is known what became of it
            with contextlib.suppress(Exception):
                future.result()
            raise

    def _aside(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Do something in the thread while all else goes on; its trouble is nobody's."""

        async def quietly() -> None:
            with contextlib.suppress(*TROUBLE, StoreError):
                await work(*arguments)

        task = self._loop.create_task(quietly())
        self._aside_tasks.add(task)
        task.add_done_callback(self._aside_tasks.discard)

    # Connections

    async def _live(self) -> None:
        """Be connected, again and again, until the store is closed or cannot be used."""
        pause = 0.05
        servers = self._address.servers
        for server in itertools.cycle(random.sample(servers, len(servers))):
            self._lost = self._loop.create_future()
            try:
                async with self._connected(server) as client:
                    self._js = client.jetstream(timeout=SILENCE)
                    self._chunk = min(CHUNK, client.max_payload // 2)
                    if not self._prepared:
                        await self._prepare()
                        self._prepared = True
                    self._there.set()
                    pause = 0.05
                    following = self._loop.create_task(self._follow(client))
                    try:
                        await asyncio.wait({following, self._lost}, return_when="FIRST_COMPLETED")
                        (following if following.done() else self._lost).result()
                    finally:
                        await _end({following})
            except StoreError as error:
                self._failure = error
                return
            except TROUBLE as error:
                self._say_away(error)
            finally:
                self._there.clear()
                self._lose(ConnectionClosedError())
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 1.5)

    @contextlib.asynccontextmanager
    async def _connected(self, server: str) -> AsyncIterator[Client]:
        """Connect to one server, and let go of it whatever state it is in."""
        client, address = Client(), self._address
        tls = None
        if address.tls is not None:
            tls = ssl.create_default_context(cafile=address.tls or None)
        try:
            connecting = client.connect(
                [server],
                name=f"etl {address.name}",
                error_cb=self._note_trouble,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                user=address.user,
                password=address.password,
                user_credentials=address.creds,
                tls=tls,
            )
            await asyncio.wait_for(connecting, SILENCE)
            yield client
        finally:
            try:
                await asyncio.wait_for(client.close(), 0.5)
            except TROUBLE:
                LOG.debug("%s: a connection did not close in time", self._name)
            writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001 - one that is stuck in a write would stay open
            if writer is not None:
                writer.transport.abort()

    async def _note_trouble(self, error: Exception) -> None:
        self._trouble = error

    def _lose(self, error: Exception) -> None:
        """Give the connection up, and tell whoever waits for an answer on it."""
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # it may be that no one waits

    def _say_away(self, error: BaseException) -> None:
        self._trouble = self._trouble or error
        if not self._away:
            self._away = True
            LOG.warning("%s cannot be reached: %s; trying again", self._name, self._trouble)

    def _say_back(self) -> None:
        self._trouble = None
        if self._away:
            self._away = False
            LOG.warning("%s can be reached again", self._name)

    async def _ask(self, request: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """Make a request of the servers, once there is a connection.

        A connection that brings no answer in time is given up.
        """
        await self._there.wait()
        lost = self._lost
        task = self._loop.create_task(request(self._js))
        try:
            await asyncio.wait({task, lost}, return_when="FIRST_COMPLETED")
            return task.result() if task.done() else lost.result()
        except TimeoutError as error:
            self._lose(error)
            raise
        finally:
            task.cancel()

    async def _insist(self, request: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """Make a request that may be made twice, until it is answered.

        Raises:
            StoreFull: If the servers have no room.
        """
        pause = 0.02
        while True:
            try:
                return await self._ask(request)
            except NotFoundError:
                raise
            except APIError as error:
                if error.err_code in NO_ROOM:
                    raise StoreFull(
                        f"{self._name} cannot be written: {error.description}; give its streams "
                        "more room, or let workers catch up: nothing was lost"
                    ) from error
                self._say_away(error)
            except TROUBLE as error:
                self._say_away(error)
            await asyncio.sleep(pause)
            pause = min(1.0, 2 * pause)

    # The journal

    async def _prepare(self) -> None:
        """Make the streams, if they are not there."""
        address = self._address
        journal = [address.subject("journal"), address.subject("snapshot")]
        await self._make_stream(address.journal, journal)
        await self._make_stream(address.blobs, [address.subject("blob.>")], per_subject=1)

    async def _make_stream(self, name: str, subjects: list[str], per_subject: int = -1) -> None:
        wanted = api.StreamConfig(
            name=name,
            subjects=subjects,
            storage=api.StorageType.FILE,
            num_replicas=self._replicas or 3,
            max_msgs_per_subject=per_subject,
            allow_direct=True,
            metadata={"etl": str(VERSION)},
        )
        try:
            found = (await self._js.stream_info(name)).config
        except NotFoundError:
            await self._arrange(self._js.add_stream, wanted)
            return
        made_by = (found.metadata or {}).get("etl", "")
        if not made_by.isdigit() or found.subjects != subjects:
            raise StoreError(f"stream {name!r} is of another program; name another store")
        if int(made_by) > VERSION:
            raise StoreVersion(f"{self._name} was made by a newer etl; upgrade etl")
        if self._replicas and found.num_replicas != self._replicas:
            await self._arrange(self._js.update_stream, found.evolve(num_replicas=self._replicas))

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
                "etl store init URL --replicas N makes it on N"
            ) from error

    async def _until_current(self) -> None:
        """Wait until the replica has all that the journal has at this moment."""
        info = await self._insist(lambda js: js.stream_info(self._address.journal))
        while self._replica.applied < info.state.last_seq:
            await self._applied.wait()

    async def _follow(self, client: Client) -> None:
        """Apply what the journal says, message by message; ends with the connection."""
        await self._catch_up_by_snapshot(client)
        inbox = client.new_inbox()
        news = await client.subscribe(inbox)
        await self._js.add_consumer(
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
        while True:
            message = await news.next_msg(SILENCE)
            self._say_back()
            headers = message.headers or {}
            if "Status" not in headers:
                await self._take(message)
            elif message.reply:  # flow control: this far we have come
                await client.publish(message.reply)
            elif int(headers.get(api.Header.LAST_STREAM, 0)) > self._replica.applied:
                raise _Behind  # something did not arrive

    async def _catch_up_by_snapshot(self, client: Client) -> None:
        """Load the last snapshot, if this copy is new, or behind the journal's beginning."""
        address, applied = self._address, self._replica.applied
        answer = await client.request(f"$JS.API.STREAM.INFO.{address.journal}", timeout=SILENCE)
        info = json.loads(answer.data)
        if "error" in info:
            raise APIError.from_error(info["error"])
        self._tell_time(datetime.fromisoformat(info["ts"]).timestamp())
        state = info["state"]
        if state["last_seq"] < applied:
            raise StoreError(f"{self._name} was removed while it was open; open it again")
        if applied and state["first_seq"] <= applied + 1:
            return
        try:
            found = await self._js.get_last_msg(address.journal, address.subject("snapshot"))
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
                data = await self._get_blob(snapshot.blob)
            except BlobGone as error:  # there is a newer one already
                raise _Behind from error
            await asyncio.to_thread(self._replica.load, data)
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
                    data = await self._get_blob(ref)
                except BlobGone as error:  # a snapshot has it
                    raise _Behind from error
                replica.blobs[sequence] = ref
            told = replica.apply(sequence, at, data)
            if told and told[0] == self._client:
                self._tell(*told[1:])
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
        change = self._abandoned.pop(number, None)
        if change and change.func is operations.lease and isinstance(result, tuple):
            given = change.keywords
            self.orphans.append(Held(given["token"], given["worker"], "", result[2]))

    def _tell_time(self, now: float) -> None:
        self._clock = max(self._clock, now - time.monotonic())

    async def _carry_out(self, number: int, change: partial[T], message: bytes) -> T:
        """Send an operation until it has come back by the journal."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting[number] = future
        sending = self._loop.create_task(self._send(number, message))
        try:
            tasks: set[asyncio.Future[Any]] = {future, sending}
            await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
            if not future.done():
                sending.result()
            return future.result()
        except asyncio.CancelledError:
            self._abandoned[number] = change
            raise
        finally:
            del self._waiting[number]
            sending.cancel()

    async def _send(self, number: int, message: bytes) -> None:
        """Put an operation into the journal, again and again; ended once it has come back."""
        headers: dict[str, str] = {api.Header.MSG_ID: f"{self._client}-{number}"}
        if len(message) > self._chunk:
            headers[BLOB] = await self._put_blob(message)
            message = b""
        subject = self._address.subject("journal")
        while True:
            await self._insist(lambda js: js.publish(subject, message, headers=dict(headers)))
            await asyncio.sleep(SILENCE)
            self._lose(TimeoutError("the journal is silent"))

    # Snapshots

    def _perhaps_make_snapshot(self, sequence: int) -> None:
        """Have the client that put every so manieth message make a snapshot."""
        every = SNAPSHOT_EVERY * (1 + self._snapshot.size // SNAPSHOT_BYTES)
        if (sequence - self._snapshot.up_to) % every == 0:
            self._aside(self._make_snapshot)

    async def _make_snapshot(self) -> None:
        """Store this copy, say so in the journal, and remove what was before it."""
        address, old = self._address, self._snapshot
        up_to, data = await asyncio.to_thread(self._replica.dump)
        blob = await self._put_blob(data)
        mark = encode([up_to, blob, len(data)])
        headers: dict[str, str] = {api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(old.mark)}
        await self._ask(
            lambda js: js.publish(address.subject("snapshot"), mark, headers=dict(headers))
        )
        await self._ask(lambda js: js.purge_stream(address.journal, seq=up_to + 1))
        past = [seq for seq in self._replica.blobs if seq <= up_to]
        for ref in [old.blob, *(self._replica.blobs.pop(seq) for seq in past)]:
            if ref:
                await self._drop_blob(ref)
        await self._sweep(blob)

    async def _sweep(self, snapshot: str) -> None:
        """Remove blobs that clients have left behind that were killed."""
        address, replica = self._address, self._replica
        info = await self._ask(
            lambda js: js.stream_info(address.blobs, subjects_filter=address.subject("blob.>"))
        )
        found = {subject.split(".")[3] for subject in info.state.subjects or ()}
        rows = replica.database.rows("SELECT data FROM payloads WHERE encoding = 'blob'")
        needed = {snapshot, *replica.blobs.values(), *(row["data"].decode() for row in rows)}
        keep = {_blob_id(ref) for ref in needed}
        for id in found - keep:
            if int(id[:14], 16) / 1e6 < self.now() - LEFT_OVER:
                await self._drop(id)

    # Blobs

    async def _put_blob(self, data: bytes) -> str:
        id = new_id()
        size = self._chunk
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        for number, chunk in enumerate(chunks):
            subject = self._address.subject(f"blob.{id}.{number}")
            await self._insist(partial(_publish, subject, chunk))
        return f"{id}/{len(chunks)}/{zlib.crc32(data)}"

    async def _get_blob(self, ref: str) -> bytes:
        id, count, checksum = ref.split("/")
        subjects = [self._address.subject(f"blob.{id}.{number}") for number in range(int(count))]
        data = b"".join([await self._get_chunk(subject) for subject in subjects])
        if zlib.crc32(data) != int(checksum):
            raise StoreError(f"blob {id} of {self._name} is not what was stored")
        return data

    async def _get_chunk(self, subject: str) -> bytes:
        """Ask any node for a chunk, and then, as that may be behind, the one that leads."""
        for direct in (True, False, False):
            try:
                found = await self._insist(
                    lambda js, direct=direct: js.get_msg(  # type: ignore[misc]
                        self._address.blobs, subject=subject, direct=direct
                    )
                )
            except NotFoundError:
                await asyncio.sleep(0.05)
            else:
                return bytes(found.data or b"")
        raise BlobGone(f"{subject} is gone from {self._name}")

    async def _drop_blob(self, ref: str) -> None:
        await self._drop(_blob_id(ref))

    async def _drop(self, id: str) -> None:
        subject = self._address.subject(f"blob.{id}.*")
        await self._ask(lambda js: js.purge_stream(self._address.blobs, subject=subject))


async def _publish(subject: str, data: bytes, js: JetStreamContext) -> api.PubAck:
    return await js.publish(subject, data)


def _blob_id(ref: str) -> str:
    return ref.partition("/")[0]


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end; what they raise is told to no one."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
