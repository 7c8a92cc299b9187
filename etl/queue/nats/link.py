"""A connection to NATS that is made anew whenever it breaks, in a thread of its own.

A thread with an event loop carries it; other threads `call` into it. Whatever
goes wrong with a connection - a node that dies, is stopped or is cut off -
ends it, and another is made, to the next server. Not here: what it is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from etl.errors import QueueClosed, StoreAway, StoreError, StoreFull
from etl.queue.nats.address import Address

__all__ = ["SILENCE", "Link"]

LOG = logging.getLogger("etl.nats")

T = TypeVar("T")

SILENCE = 2.0
"""Seconds without a word, or without an answer, after which a connection is given up."""

TROUBLE = (NatsError, OSError, asyncio.TimeoutError)

NO_ROOM = {10047, 10077, 10122}
"""Codes of JetStream for a stream or a disk that is full."""


class Link:
    """A connection to one of several servers.

    Args:
        address: Where they are.
        name: What error messages call the store.
        prepare: Called once, on the first connection.
        follow: Called on every connection; when it ends, so does that.

    Attributes:
        loop: Of the thread.
        max_payload: Bytes that the server takes in one message.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        prepare: Callable[[JetStreamContext], Coroutine[Any, Any, None]],
        follow: Callable[[Client, JetStreamContext], Coroutine[Any, Any, None]],
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.max_payload = 1 << 20
        self._address = address
        self._name = name
        self._prepare = prepare
        self._follow = follow
        self._prepared = False
        self._failure: StoreError | None = None
        self._trouble: BaseException | None = None
        self._away = False
        self._aside: set[asyncio.Task[None]] = set()
        self._gate = threading.Lock()
        self._lost: asyncio.Future[Any] = self.loop.create_future()
        self._there = asyncio.Event()
        self._main = self.loop.create_task(self._live())
        self._thread = threading.Thread(target=self._run, name="etl-nats", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], patience: float) -> T:
        """Run a coroutine in the thread, for so many seconds at most."""

        async def timed() -> T:
            async with asyncio.timeout(None if patience == float("inf") else patience):
                return await work

        with self._gate:
            if self._failure:
                work.close()
                raise self._failure
            future = asyncio.run_coroutine_threadsafe(timed(), self.loop)
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

    def aside(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        """Do something while all else goes on; its trouble is nobody's."""

        async def quietly() -> None:
            with contextlib.suppress(*TROUBLE, StoreError):
                await work(*arguments)

        def begin() -> None:
            task = self.loop.create_task(quietly())
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

        with self._gate:
            if not self._failure:
                self.loop.call_soon_threadsafe(begin)

    async def ask(self, request: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """Make a request of the servers, once there is a connection.

        A connection that brings no answer in time is given up.
        """
        await self._there.wait()
        lost = self._lost
        task = self.loop.create_task(request(self._js))
        try:
            await asyncio.wait({task, lost}, return_when="FIRST_COMPLETED")
            return task.result() if task.done() else lost.result()
        except TimeoutError as error:
            self.lose(error)
            raise
        finally:
            task.cancel()

    async def insist(self, request: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """Make a request that may be made twice, until it is answered.

        Raises:
            StoreFull: If the servers have no room.
        """
        pause = 0.02
        while True:
            try:
                return await self.ask(request)
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

    def lose(self, error: Exception) -> None:
        """Give the connection up, and tell whoever waits for an answer on it."""
        if not self._lost.done():
            self._lost.set_exception(error)
            self._lost.exception()  # it may be that no one waits

    def say_back(self) -> None:
        """Note that the servers say something."""
        self._trouble = None
        if self._away:
            self._away = False
            LOG.warning("%s can be reached again", self._name)

    def close(self) -> None:
        """End the connection and the thread. Closing twice is fine."""
        with self._gate:
            self._failure = self._failure or self._closed()
            if self._thread.is_alive() and not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._main.cancel)
                self.loop.call_soon_threadsafe(self.lose, self._failure)  # see _end
        self._thread.join()

    def _run(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(self._main)
            with self._gate:  # from here on, no other thread puts anything into the loop
                self._failure = self._failure or self._closed()
            self.loop.run_until_complete(asyncio.sleep(0))
            self.loop.run_until_complete(_end(asyncio.all_tasks(self.loop)))
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
        finally:
            self.loop.close()

    def _closed(self) -> StoreError:
        return QueueClosed(f"{self._name} is closed; open it again with open_queue()")

    async def _live(self) -> None:
        """Be connected, again and again, until the store is closed or cannot be used."""
        pause = 0.05
        servers = self._address.servers
        for server in itertools.cycle(random.sample(servers, len(servers))):
            self._lost = self.loop.create_future()
            try:
                async with self._connected(server) as client:
                    self._js = client.jetstream(timeout=SILENCE)
                    self.max_payload = client.max_payload
                    if not self._prepared:
                        await self._prepare(self._js)
                        self._prepared = True
                    self._there.set()
                    pause = 0.05
                    following = self.loop.create_task(self._follow(client, self._js))
                    try:
                        await asyncio.wait({following, self._lost}, return_when="FIRST_COMPLETED")
                        (following if following.done() else self._lost).result()
                    finally:
                        await _end({following})
            except StoreError as error:
                self._failure = self._failure or error
                return
            except TROUBLE as error:
                self._say_away(error)
            except Exception as error:  # noqa: BLE001 - every call raises it from now on
                self._failure = StoreError(f"{self._name} cannot be used: {error!r}")
                return
            finally:
                self._there.clear()
                self.lose(ConnectionClosedError())
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
        if "authorization" not in str(self._trouble).lower():  # which says more than what follows
            self._trouble = error

    def _say_away(self, error: BaseException) -> None:
        self._trouble = self._trouble or error
        if not self._away:
            self._away = True
            LOG.warning("%s cannot be reached: %s; trying again", self._name, self._trouble)


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raise is told to no one.

    Once may not be enough: `asyncio.wait_for` of Python 3.11 can lose a
    cancellation, https://github.com/python/cpython/issues/86296.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=0.1)
        for task in done:
            if not task.cancelled():
                task.exception()
