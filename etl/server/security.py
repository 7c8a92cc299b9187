"""Checks before every request: who sends it, how large it is, and how slowly it arrives.

A server on a loopback address can still be reached by web pages in a browser of this machine.
So the Host header must be a name of this server (a page cannot make its own name point here),
and a request that changes something must not come from another site's page. A server on another
address needs a token. Bodies are limited in size and in time.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from etl.server.problems import ProblemResponse, Refused

OPEN_PATHS = ("/healthz", "/readyz")
"""Paths that need no token, for supervisors; their answers reveal nothing else."""

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?")
"""A Host header, in lower case: a name or an address, perhaps with a port."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

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
        connections: At once; one more is answered 503.
        body: Bytes of a streamed body.
        small: Bytes of any other body: these are held in memory whole.
        line: Bytes of a line.
        block: Bytes of a streamed body that are held before they are put.
        idle_timeout: Seconds without a byte of a request after which it is refused.
        pace: Bytes a second that a body must bring on average, after `idle_timeout`.
        put_timeout: Seconds that a streamed body waits for room in the queue.
    """

    connections: int = 128
    body: int = 1 << 30
    small: int = 4 << 20
    line: int = 1 << 20
    block: int = 2 << 20
    idle_timeout: float = 10.0
    pace: int = 1 << 10
    put_timeout: float = 5.0


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
        self._hosts = {"localhost", socket.gethostname().lower(), *map(str.lower, hosts)}
        self._token = token and token.encode()
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal, or pass the request on; add the headers that protect browsers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await ProblemResponse(refusal)(scope, receive, send_safely)
            return
        most = self._limits.body if scope["path"] == "/logs" else self._limits.small
        await self._app(scope, _Body(receive, self._limits, most).receive, send_safely)

    def _refusal(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        found = HOST.fullmatch(host.lower())
        name = found[1].strip("[]") if found else ""
        if name not in self._hosts and not _address(name):  # an address always points here
            return Refused(421, f"the Host header is {host!r}, which is no name of this server")
        if self._token and scope["path"] not in OPEN_PATHS:
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(shown.strip().encode("latin-1"), self._token)
            if scheme.lower() != "bearer" or not right:
                return Refused(
                    401,
                    "the token is missing or wrong; send 'Authorization: Bearer TOKEN'",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        if scope["method"] not in SAFE_METHODS and _is_cross_site(headers, host):
            return Refused(403, "the request comes from a page of another site")
        if headers.get("content-encoding", "identity") != "identity":
            return Refused(415, "compressed bodies are not accepted; send the body uncompressed")
        return None


class _Body:
    """A request's body, limited in size and in time."""

    def __init__(self, receive: Receive, limits: RequestLimits, most: int) -> None:
        self._receive = receive
        self._limits = limits
        self._most = most
        self._size = 0
        self._started = time.monotonic()
        self._ended = False

    async def receive(self) -> Message:
        """Return the next message of the body.

        Raises:
            Refused: If the body is too long, or arrives too slowly.
        """
        if self._ended:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.idle_timeout):
                message = await self._receive()
        except TimeoutError:
            raise _too_slow() from None
        self._size += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._size > self._most:
            raise Refused(413, f"the body is longer than {self._most:,} bytes; send it in parts")
        overtime = time.monotonic() - self._started - self._limits.idle_timeout
        if not self._ended and overtime > 0 and self._size < overtime * self._limits.pace:
            raise _too_slow()
        return message


class TimeoutProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP/1.1, with a limit on the time and the size of headers.

    The limit on the size is also for the rest of a body that was refused.
    """

    idle_timeout = RequestLimits().idle_timeout
    _alarm: asyncio.TimerHandle | None = None
    _idle_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """Start the timeout."""
        super().connection_made(transport)
        self._set_alarm()

    def data_received(self, data: bytes) -> None:
        """Stop the timeout while a request is answered."""
        super().data_received(data)
        self._idle_bytes = self._idle_bytes + len(data) if self._answered else 0
        if self._idle_bytes > MAX_IDLE_BYTES:
            self.transport.close()
        self._set_alarm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        super().connection_lost(exc)
        if self._alarm:
            self._alarm.cancel()

    @property
    def _answered(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _set_alarm(self) -> None:
        if self._answered and self._alarm is None:
            self._alarm = self.loop.call_later(self.idle_timeout, self.transport.close)
        elif not self._answered and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_cross_site(headers: Mapping[str, str], host: str) -> bool:
    """Return whether a browser sends the request for a page of another site."""
    if "sec-fetch-site" in headers:
        return headers["sec-fetch-site"] not in ("same-origin", "none")
    return "origin" in headers and headers["origin"].partition("://")[2] != host


def _too_slow() -> Refused:
    return Refused(408, "the body arrives too slowly; send it in parts, each at once")
