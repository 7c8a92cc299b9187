"""Checks before every request: who sends it, how large it is, and how slowly it arrives.

The Host header must be a name of this server, and a request that changes something must not come
from another site's page (`hosts.py`). A server that other machines can reach needs a token.
Bodies are limited in size and in time; of compressed ones, what comes out of them is.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from etl.server.decoding import CODINGS, BrokenBody, Decoder, codings_of
from etl.server.hosts import AllowedHosts
from etl.server.problems import ProblemResponse, Refused

OPEN_PATHS = ("/healthz", "/readyz")
"""Paths for supervisors: always answered, without a token; their answers reveal nothing else."""

PAGE_PATHS = ("/", "/static/")
"""The dashboard and the folder of its files, without a token: nothing of the store is in them."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

MAX_CODINGS = 3
"""Codings on top of each other that a body may have."""

END: Message = {"type": "http.request", "body": b"", "more_body": False}
"""The last message of a body."""

READING = "etl.reading"
"""Name in a request's scope of a list: whether the client still takes what it is sent."""

MAX_IDLE_BYTES = 1 << 20
"""Bytes of headers, or of a body that was refused, that are read."""

CONTENT_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "content-security-policy": CONTENT_POLICY,
}
"""Sent with every answer that does not set them itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a request may cost.

    Attributes:
        requests: At once; one more is answered 503, but for those that ask for the health.
        connections: At once; one more closes the one that has been idle for longest.
        body: Bytes of a streamed body, once it is opened if it is compressed.
        otlp: Bytes of a body of OTLP; this, and any other, is held in memory whole.
        small: Bytes of any other body.
        line: Bytes of a line.
        block: Bytes of a streamed body that are held before they are put.
        idle_timeout: Seconds without a byte of a request after which it is refused.
        pace: Bytes a second that a body must bring on average, after `idle_timeout`.
        put_timeout: Seconds that a streamed body waits for room in the queue.
    """

    requests: int = 128
    connections: int = 512
    body: int = 1 << 30
    otlp: int = 20 << 20
    small: int = 4 << 20
    line: int = 1 << 20
    block: int = 2 << 20
    idle_timeout: float = 10.0
    pace: int = 1 << 10
    put_timeout: float = 5.0

    def of_path(self, path: str) -> int:
        """Return how many bytes a body for a path may have."""
        return {"/logs": self.body, "/v1/logs": self.otlp}.get(path, self.small)


class SecurityMiddleware:
    """Refuse what may not pass, and pass the rest to an application.

    Args:
        app: The application.
        hosts: Names that the Host header may have besides those of this machine.
        token: The token that clients must send, or None.
        limits: What a request may cost.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Iterable[str], token: str | None, limits: RequestLimits
    ) -> None:
        self._app = app
        self._hosts = AllowedHosts(hosts)
        self._token = token and token.encode()
        self._limits = limits
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal, or pass the request on; add the headers that protect browsers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        reading = scope[READING] = [True]

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            if reading[0]:  # else the client has stopped reading, and the connection is closed
                try:
                    async with asyncio.timeout(self._limits.idle_timeout):
                        await send(message)
                except TimeoutError:
                    reading[0] = False

        self._active += 1
        try:
            headers = Headers(scope=scope)
            if refusal := self._refusal(scope, headers):
                await ProblemResponse(refusal)(scope, receive, send_safely)
                return
            most = self._limits.of_path(scope["path"])
            body = _Body(receive, self._limits, most, codings_of(_encoding(headers)))
            await self._app(scope, body.receive, send_safely)
        finally:
            self._active -= 1

    def _refusal(self, scope: Scope, headers: Headers) -> Refused | None:
        host = headers.get("host", "")
        if not self._hosts.allows(host):
            return Refused(421, f"the Host header is {host!r}, which is no name of this server")
        if scope["path"] in OPEN_PATHS and scope["method"] in SAFE_METHODS:
            return None
        if self._active > self._limits.requests:
            return Refused(503, f"{self._limits.requests} requests are in progress; try again")
        if self._token and not _is_open(scope) and not self._knows_token(headers):
            return Refused(
                401,
                "the token is missing or wrong; send 'Authorization: Bearer TOKEN'",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if scope["method"] not in SAFE_METHODS and self._hosts.is_foreign(headers):
            return Refused(403, "the request comes from a page of another site")
        return _unknown_encoding(_encoding(headers))

    def _knows_token(self, headers: Headers) -> bool:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(shown.strip().encode("latin-1"), self._token or b"")
        return scheme.lower() == "bearer" and right


def still_reads(scope: Scope) -> bool:
    """Return whether a client takes what it is sent; else an answer without end is to end."""
    return bool(scope[READING][0])


def _is_open(scope: Scope) -> bool:
    page, files = PAGE_PATHS
    path = scope["path"]
    shown = scope["method"] in SAFE_METHODS and (path == page or path.startswith(files))
    return shown or path in OPEN_PATHS


def _encoding(headers: Headers) -> str:
    return ",".join(headers.getlist("content-encoding"))


def _unknown_encoding(header: str) -> Refused | None:
    codings = codings_of(header)
    if len(codings) <= MAX_CODINGS and CODINGS.keys() >= set(codings):
        return None
    return Refused(
        415,
        f"the Content-Encoding is {header!r}; send {', '.join(CODINGS)}, at most {MAX_CODINGS} of "
        "them, or the body as it is",
        headers={"Accept-Encoding": ", ".join(CODINGS)},
    )


class _Body:
    """A request's body, opened if it is compressed, limited in size and in time.

    Args:
        receive: Returns the messages of the body as it was sent.
        limits: What a request may cost.
        most: Bytes of the body, as it is sent and once it is opened.
        codings: In which it is compressed.
    """

    def __init__(
        self, receive: Receive, limits: RequestLimits, most: int, codings: list[str]
    ) -> None:
        self._receive = receive
        self._limits = limits
        self._most = most
        self._decoder = Decoder(codings) if codings else None
        self._pieces: Iterator[bytes] = iter(())
        self._sent = self._opened = 0
        self._started = time.monotonic()
        self._ended = self._broken = False

    async def receive(self) -> Message:
        """Return the next message of the body.

        Raises:
            Refused: If the body is too long, arrives too slowly, or cannot be opened.
        """
        if self._decoder is None or self._broken:
            return END if self._broken and self._ended else await self._next()
        try:
            return await self._next_piece(self._decoder)
        except BrokenBody as error:
            self._broken = True  # the rest is only read for the client to see the answer
            raise Refused(400, str(error)) from None

    async def _next_piece(self, decoder: Decoder) -> Message:
        """Return the next piece that comes out of the body; an empty one is its end."""
        while True:
            if piece := next(self._pieces, b""):
                self._opened += len(piece)
                self._check_size(self._opened)
                await asyncio.sleep(0)  # other requests go on, however many pieces there are
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._ended:
                decoder.end()
                self._decoder = None
                return END
            message = await self._next()
            if message["type"] != "http.request":
                return message
            self._pieces = decoder.feed(message.get("body", b""))

    async def _next(self) -> Message:
        """Return the next message of the body as it is sent."""
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.idle_timeout):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        self._sent += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        self._check_size(self._sent)
        overtime = time.monotonic() - self._started - self._limits.idle_timeout
        if not self._ended and overtime > 0 and self._sent < overtime * self._limits.pace:
            raise _too_slow()
        return message

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise Refused(413, f"the body is longer than {self._most:,} bytes; send it in parts")


class TimeoutProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP/1.1, with limits on connections, and on the time and the size of headers.

    The limit on the size is also for the rest of a body that was refused. Connections on which
    no whole request has arrived cost little; where there are too many, the one that has been
    silent for longest is closed, so that a new one is always answered.
    """

    limits = RequestLimits()
    _alarm: asyncio.TimerHandle | None = None
    _idle_bytes = 0
    heard_at = 0.0

    def connection_made(self, transport: Any) -> None:
        """Start the timeout."""
        super().connection_made(transport)
        self.heard_at = self.loop.time()
        if len(self.connections) > self.limits.connections:
            self._close_another()
        self._set_alarm()

    def data_received(self, data: bytes) -> None:
        """Stop the timeout while a request is answered."""
        super().data_received(data)
        self.heard_at = self.loop.time()
        self._idle_bytes = self._idle_bytes + len(data) if self.answered else 0
        if self._idle_bytes > MAX_IDLE_BYTES:
            self.transport.close()
        self._set_alarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        super().connection_lost(exc)
        if self._alarm:
            self._alarm.cancel()

    @property
    def answered(self) -> bool:
        """Whether no request is in progress: none has arrived whole, or the last is answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _close_another(self) -> None:
        idle = [one for one in self.connections if one.answered and one is not self]
        if idle:
            silent = min(idle, key=lambda one: one.heard_at)
            self.connections.discard(silent)
            silent.transport.abort()

    def _set_alarm(self) -> None:
        if self.answered and self._alarm is None:
            self._alarm = self.loop.call_later(self.limits.idle_timeout, self.transport.close)
        elif not self.answered and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def _too_slow() -> Refused:
    return Refused(408, "the body arrives too slowly; send it in parts, each at once")
