"""A syslog server: messages that come over UDP, TCP and TLS are put into a queue, in batches.

Nothing is acknowledged in syslog. What can be done for a sender is not to read what cannot be
put: while the queue is full, or its store is away, TCP connections are read no more, so that the
senders wait. Over UDP they do not; what is lost is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

from etl.errors import EtlError, QueueFull, StoreFull, StoreUnavailable
from etl.queue import Checkpoint, Queue
from etl.queue.writes import pause_before
from etl.records.batch import Batch
from etl.records.context import ReadOptions
from etl.sources.addresses import ListenAddress
from etl.sources.chunks import CHUNK_BYTES
from etl.sources.stream import FLUSH_AFTER
from etl.sources.syslog import Deframer, Gathered, Part
from etl.text import counted

__all__ = ["Received", "SyslogListener"]

log = logging.getLogger("etl")

MAX_CONNECTIONS = 512
"""At once; one more closes the one that has been silent for longest."""

MAX_GATHERED = 16 << 20
"""Bytes that wait to be put, at which connections are read no more and datagrams are dropped."""

HANDSHAKE_SECONDS = 10.0
"""Seconds that a client has for the handshake of TLS."""

DATAGRAM_BYTES = 64 << 10
"""Bytes of the longest datagram."""

DATAGRAMS = 2_000
"""Datagrams that are read before connections have their turn."""

UDP_BUFFER = 8 << 20
"""Bytes of datagrams that the kernel is asked to keep until they are read."""

CHECK_SECONDS = 1.0
"""Seconds between looks at what was dropped."""

DRAIN_SECONDS = 1.0
"""Seconds for which what has arrived is read on once the listener is asked to end."""

QUIET_SECONDS = 0.05
"""Seconds without anything new after which it has all been read."""

GIVE_UP_SECONDS = 10.0
"""Seconds for which a listener that ends waits for room in the queue."""

SAY_SECONDS = 10.0
"""Seconds for which it is not said again that datagrams are dropped."""

MAX_PAUSE = 0.5
"""Seconds between two tries to put, at most."""

SO_RCVBUFFORCE = 33
"""Linux's: a buffer above the limit of the system, for root; Python has no name for it."""

INODE = 9
"""Column of /proc/net/udp."""

PASSES = (QueueFull, StoreFull, StoreUnavailable)
"""What a store says that may take the same batches later."""


@dataclass(slots=True)
class Received:
    """What a listener has done.

    Attributes:
        lines: Put into the queue.
        connections: That were opened.
        closed: Connections that were closed to make room for others.
        refused: Connections whose handshake of TLS failed.
        broken: Connections whose counts of octets were not to be believed.
        cut: Messages that were longer than the limit.
        dropped: Datagrams that were lost here, while the queue was full.
        dropped_by_kernel: Datagrams that were lost before they were read, if Linux tells.
    """

    lines: int = 0
    connections: int = 0
    closed: int = 0
    refused: int = 0
    broken: int = 0
    cut: int = 0
    dropped: int = 0
    dropped_by_kernel: int = 0

    def as_json(self) -> dict[str, int]:
        """Return the numbers by name, that of the lines as `put`."""
        numbers = asdict(self)
        return {"put": numbers.pop("lines"), **numbers}

    def problems(self) -> list[str]:
        """Return in words what went wrong."""
        lost = self.dropped + self.dropped_by_kernel
        found = {
            f"{counted(lost, 'datagram')} dropped ({self.dropped_by_kernel:,} by the kernel)": lost,
            f"{counted(self.cut, 'message')} cut that were too long": self.cut,
            f"{counted(self.broken, 'connection')} with broken octet counts": self.broken,
            f"{counted(self.closed, 'silent connection')} closed to make room": self.closed,
            f"{counted(self.refused, 'TLS handshake')} failed": self.refused,
        }
        return [text for text, count in found.items() if count]


class SyslogListener:
    """Puts what is sent to some addresses into a queue, until it is stopped.

    Args:
        queue: Where batches are put.
        addresses: Where to listen.
        options: How lines are read; each message is a record.
        tls: Certificate and key of addresses that use TLS.
        max_connections: At once, of all addresses.
        max_gathered: Bytes that wait to be put, at which no more is read.

    Attributes:
        received: What was done so far.
        listening: The addresses, with the ports that were chosen.
        paused: Whether connections are not read, as what was read cannot be put.
    """

    def __init__(
        self,
        queue: Queue,
        addresses: Sequence[ListenAddress],
        options: ReadOptions,
        *,
        tls: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_gathered: int = MAX_GATHERED,
    ) -> None:
        self.received = Received()
        self._queue = queue
        self._options = options
        self._tls = tls
        self._max_connections = max_connections
        self._max_gathered = max_gathered
        self._gathered = Gathered()
        self._connections: dict[_Connection, None] = {}  # the one that was silent longest first
        self.paused = False
        self._all_read = False
        self._heard_at = 0.0  # seconds of `time.monotonic`
        self._stopping = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._asked = asyncio.Event()
        self._news = asyncio.Event()
        self._none_left = asyncio.Event()
        self._buffer = memoryview(bytearray(DATAGRAM_BYTES))
        self._datagrams: list[_Datagrams] = []
        self._streams: list[tuple[socket.socket, bool]] = []
        self.listening: list[ListenAddress] = []
        with contextlib.ExitStack() as opened:
            for address in addresses:
                for sock, at in address.bound():
                    opened.callback(sock.close)
                    if at.transport == "udp":
                        self._datagrams.append(_Datagrams(sock, at))
                    else:
                        self._streams.append((sock, at.transport == "tls"))
                    self.listening.append(at)
            self._close_sockets = opened.pop_all()

    def stop(self) -> None:
        """Ask the listener to end, from any thread: what was read is put first."""
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._asked.set)

    def run(self) -> Received:
        """Listen until `stop`; return what was done.

        Raises:
            EtlError: If what was read cannot be put.
        """
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._run())
        finally:
            self._close_sockets.close()
        return self.received

    async def _run(self) -> None:
        for sock, is_tls in self._streams:
            self._loop.add_reader(sock, self._accept, sock, is_tls)
        for one in self._datagrams:
            self._loop.add_reader(one.sock, self._read_datagrams, one)
        putting = asyncio.create_task(self._put_all())
        checking = asyncio.create_task(self._check())
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait({putting, checking, asked}, return_when=asyncio.FIRST_COMPLETED)
        checking.cancel()
        for sock, _ in self._streams:
            self._loop.remove_reader(sock)
            sock.close()  # who comes now is told so
        try:
            if not putting.done():
                await self._read_rest()
        finally:
            self._stopping.set()
            await self._close_connections()
            for one in self._datagrams:
                self._loop.remove_reader(one.sock)
            self._all_read = True
            self._news.set()
            await asyncio.wait({putting, checking})
            self._note_drops()
            asked.cancel()
        putting.result()
        if not checking.cancelled():
            checking.result()

    # Connections

    def _accept(self, sock: socket.socket, is_tls: bool) -> None:  # noqa: FBT001
        try:
            peer, address = sock.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:  # no file descriptors are left
            log.warning("a connection cannot be accepted: %s", error)
            if self._connections:
                next(iter(self._connections)).end()
            return
        peer.setblocking(False)
        if len(self._connections) >= self._max_connections:
            self.received.closed += 1
            next(iter(self._connections)).end()
        self.received.connections += 1
        one = _Connection(self, address[0])
        self._connections[one] = None
        one.opening = self._loop.create_task(self._open(one, peer, self._tls if is_tls else None))

    async def _open(
        self, one: _Connection, peer: socket.socket, tls: ssl.SSLContext | None
    ) -> None:
        timeout = HANDSHAKE_SECONDS if tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: one, peer, ssl=tls, ssl_handshake_timeout=timeout
            )
        except (OSError, asyncio.CancelledError) as error:  # also those of TLS
            self.make_room(one)
            if isinstance(error, OSError):
                self.received.refused += 1

    def _set_paused(self, paused: bool) -> None:  # noqa: FBT001
        """Read connections no more, or again."""
        if paused != self.paused:
            self.paused = paused
            for one in self._connections:
                one.set_paused(paused)

    async def _read_rest(self) -> None:
        """Read what has arrived already: the senders take it for received."""
        self._heard_at = time.monotonic()
        end = self._heard_at + DRAIN_SECONDS
        while (now := time.monotonic()) < end:
            if not self.paused and now > self._heard_at + QUIET_SECONDS:
                return
            await asyncio.sleep(QUIET_SECONDS / 5)

    async def _close_connections(self) -> None:
        for one in list(self._connections):
            one.close()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._none_left.wait()
        for one in list(self._connections):
            one.end()
        await asyncio.sleep(0)

    # Datagrams

    def _read_datagrams(self, one: _Datagrams) -> None:
        found: defaultdict[str, list[bytes]] = defaultdict(list)
        buffer, receive = self._buffer, one.sock.recvfrom_into
        is_full = self._gathered.size > self._max_gathered
        for _ in range(DATAGRAMS):
            try:
                size, peer = receive(buffer)
            except OSError:  # nothing is left, or an earlier answer could not be delivered
                break
            if is_full:
                one.dropped += 1
            elif size:
                found[peer[0]].append(bytes(buffer[:size]))
        for host, datagrams in found.items():
            self._gathered.add_datagrams(source_of(host), datagrams)
        self._note_news()

    def _note_drops(self) -> None:
        """Count the datagrams that were lost, say so, and keep it where `etl status` shows it."""
        for one in self._datagrams:
            lost = one.lost()
            if lost != one.kept:
                text = f"{one.address} has dropped {counted(sum(lost), 'datagram')} since "
                text += f"{one.since}, {lost[1]:,} of them in the kernel: senders are too fast"
                with contextlib.suppress(*PASSES):  # the next look finds it
                    self._queue.put(checkpoint=one.checkpoint(text), block=False)
                    one.kept = lost
                if time.monotonic() > one.said_at + SAY_SECONDS:
                    one.said_at = time.monotonic()
                    log.warning("%s", text)
        self.received.dropped = sum(one.dropped for one in self._datagrams)
        self.received.dropped_by_kernel = sum(one.dropped_by_kernel for one in self._datagrams)

    async def _check(self) -> None:
        for one in self._datagrams:  # what an earlier listener has said is over
            with contextlib.suppress(*PASSES):
                known = self._queue.checkpoint(str(one.address))
                if known and known.error:
                    self._queue.put(checkpoint=one.checkpoint(""), block=False)
        said: list[str] = []
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await asyncio.to_thread(self._note_drops)
            problems = [text for text in self.received.problems() if "datagram" not in text]
            for text in set(problems).difference(said):
                log.warning("%s so far", text)
            said = problems

    # Lines

    def gather(self, one: _Connection, parts: Iterable[Part]) -> None:
        """Gather lines that a connection has sent."""
        for part in parts:
            self._gathered.add(one.source, part)
        if self._connections.pop(one, self) is None:
            self._connections[one] = None  # it has spoken last
        self._note_news()

    def make_room(self, one: _Connection) -> None:
        """Count a connection no longer: it is about to end."""
        self._connections.pop(one, None)
        if not self._connections and self._stopping.is_set():
            self._none_left.set()

    def forget(self, one: _Connection, messages: Deframer) -> None:
        """Gather what a connection that has ended has left, and forget it."""
        self.received.broken += messages.broken
        self.received.cut += messages.cut
        self.gather(one, messages.rest())
        self.make_room(one)

    def _note_news(self) -> None:
        self._heard_at = time.monotonic()
        if self._gathered.size > self._max_gathered:
            self._set_paused(True)
        if self._gathered and not self._news.is_set():
            self._news.set()

    async def _put_all(self) -> None:
        """Put what is gathered, soon after it has come, until all is put and nothing comes."""
        while True:
            await self._news.wait()
            if self._gathered.size < CHUNK_BYTES and not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_AFTER):
                        await self._asked.wait()
            self._news.clear()
            batches = self._gathered.take(self._options, now=time.time())
            if batches:
                self._set_paused(False)
                try:
                    await asyncio.to_thread(self._put, batches)
                except PASSES as error:
                    batches += self._gathered.take(self._options, now=time.time())
                    lines = counted(sum(batch.lines for batch in batches), "line")
                    raise EtlError(f"{lines} that were read cannot be put: {error}") from error
                self.received.lines += sum(batch.lines for batch in batches)
            if self._gathered:
                self._news.set()
            elif self._all_read:
                return

    def _put(self, batches: list[Batch]) -> None:
        """Put batches; wait for room, and for a store that is away, but not long at the end."""
        attempts, end = 0, 0.0
        while True:
            try:
                self._queue.put(*batches, block=False)
            except PASSES as error:
                if not attempts:
                    log.warning("%s; nothing is read from connections until then", error)
                if self._stopping.is_set():
                    end = end or time.monotonic() + GIVE_UP_SECONDS
                    if time.monotonic() > end:
                        raise
            else:
                if attempts:
                    log.warning("the queue takes lines again")
                return
            time.sleep(min(pause_before(attempts), MAX_PAUSE))
            attempts += 1


class _Connection(asyncio.Protocol):
    """A connection, of which lines are gathered as they come.

    Attributes:
        source: What its lines say they come from.
        opening: What sets it up.
    """

    def __init__(self, listener: SyslogListener, host: str) -> None:
        self.source = source_of(host)
        self.opening: asyncio.Task[None] | None = None
        self._listener = listener
        self._messages = Deframer()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read, if that is wanted now."""
        self._transport = cast("asyncio.Transport", transport)
        if self._listener.paused:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Gather the lines that are whole."""
        self._listener.gather(self, self._messages.add(data))

    def connection_lost(self, _error: Exception | None) -> None:
        """Gather what lacks its end."""
        self._listener.forget(self, self._messages)

    def set_paused(self, paused: bool) -> None:  # noqa: FBT001
        """Read no more, or again."""
        if self._transport and not self._transport.is_closing():
            (self._transport.pause_reading if paused else self._transport.resume_reading)()

    def close(self) -> None:
        """End the connection as it should be."""
        if self._transport:
            self._transport.close()
        else:
            self.end()

    def end(self) -> None:
        """End the connection at once; it makes room for another."""
        self._listener.make_room(self)
        if self._transport:
            self._transport.abort()
        elif self.opening:
            self.opening.cancel()


@dataclass(slots=True)
class _Datagrams:
    """A socket of datagrams, and what was lost of them.

    Attributes:
        sock: The socket.
        address: Where it listens.
        dropped: Datagrams that were read and dropped.
        dropped_by_kernel: Those that were lost before, when that was last looked at.
        kept: What `lost` returned when that was kept last.
        said_at: When that was said last, in seconds of `time.monotonic`.
        since: When it began to listen.
    """

    sock: socket.socket
    address: ListenAddress
    dropped: int = 0
    dropped_by_kernel: int = 0
    kept: tuple[int, int] = (0, 0)
    said_at: float = -math.inf
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()))

    def __post_init__(self) -> None:
        for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, option, UDP_BUFFER)
                break

    def lost(self) -> tuple[int, int]:
        """Return how many datagrams were lost: dropped here, and by the kernel."""
        with contextlib.suppress(OSError):  # proc_net_udp(5), of Linux: the last column
            inode = str(os.fstat(self.sock.fileno()).st_ino)
            name = "udp6" if self.sock.family == socket.AF_INET6 else "udp"
            for row in Path(f"/proc/self/net/{name}").read_text("ascii").splitlines():
                columns = row.split()
                if len(columns) > INODE and columns[INODE] == inode:
                    self.dropped_by_kernel = int(columns[-1])
        return self.dropped, self.dropped_by_kernel

    def checkpoint(self, error: str) -> Checkpoint:
        """Return what a store keeps of it: what was lost."""
        return Checkpoint(str(self.address), 0, 0, error=error)


def source_of(host: str) -> str:
    """Return what the lines of a sender say they come from."""
    return f"syslog://[{host}]" if ":" in host else f"syslog://{host}"
