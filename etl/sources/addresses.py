"""Where a listener listens: a URL, such as `syslog://127.0.0.1:5514`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from etl.errors import UsageError, did_you_mean

__all__ = ["ListenAddress", "tls_context"]

Transport = Literal["udp", "tcp", "tls"]

SCHEMES: dict[str, tuple[Transport, ...]] = {
    "syslog": ("tcp", "udp"),
    "syslog+udp": ("udp",),
    "syslog+tcp": ("tcp",),
    "syslog+tls": ("tls",),
}
PORTS = {"udp": 514, "tcp": 514, "tls": 6514}
"""As RFC 5426 and RFC 5425 have them; TCP's has become the custom."""

BACKLOG = 1024
TRIES = 16
"""How often a free port is looked for that both TCP and UDP have."""


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen, for one transport or several.

    Attributes:
        transports: How messages come.
        host: Name or address of this machine.
        port: Port; 0 for a free one.
    """

    transports: tuple[Transport, ...]
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> ListenAddress:
        """Return the address that a URL names.

        Raises:
            UsageError: If it is no URL of a listener.
        """
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            scheme = parts.scheme if "://" in url else url
            raise UsageError(
                f"{url!r} is nothing to listen on: unknown scheme {scheme!r}"
                + did_you_mean(scheme, SCHEMES)
            )
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} has no port between 0 and 65535: {error}") from error
        if parts.path.strip("/") or parts.query or parts.username is not None:
            raise UsageError(f"{url!r} has more than a host and a port; use syslog://HOST:PORT")
        transports = SCHEMES[parts.scheme]
        return cls(
            transports,
            parts.hostname or "127.0.0.1",
            PORTS[transports[0]] if port is None else port,
        )

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        name = "syslog" if len(self.transports) > 1 else f"syslog+{self.transport}"
        return f"{name}://{host}:{self.port}"

    @property
    def transport(self) -> Transport:
        """The first, or only one."""
        return self.transports[0]

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def bound(self) -> Iterator[tuple[socket.socket, ListenAddress]]:
        """Yield the sockets, which listen, each with its address: one transport, and its port.

        Raises:
            UsageError: If it cannot be listened on.
        """
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
            family, place = found[0][0], found[0][4]
            for left in reversed(range(TRIES)):
                try:
                    sockets = self._sockets(family, place)
                except OSError:  # the port that TCP was given is another's for UDP
                    if self.port or not left:
                        raise
                else:
                    break
        except OSError as error:
            reason = error.strerror or str(error)
            if isinstance(error, PermissionError):
                reason += "; ports below 1024 are root's"
            raise UsageError(f"cannot listen on {self}: {reason}; name another port") from error
        for sock, transport in zip(sockets, self.transports, strict=True):
            port = sock.getsockname()[1]
            yield sock, replace(self, transports=(transport,), port=port)

    def _sockets(self, family: socket.AddressFamily, place: tuple[Any, ...]) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        with ExitStack() as unless_whole:
            for transport in self.transports:
                kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
                sock = socket.socket(family, kind)
                unless_whole.callback(sock.close)
                sock.setblocking(False)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if kind == socket.SOCK_STREAM:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                port = sockets[0].getsockname()[1] if sockets else place[1]
                sock.bind((place[0], port, *place[2:]))
                if kind == socket.SOCK_STREAM:
                    sock.listen(BACKLOG)
                sockets.append(sock)
            unless_whole.pop_all()
        return sockets


def tls_context(
    certificate: Path | None, key: Path | None, client_ca: Path | None = None
) -> ssl.SSLContext:
    """Return what TLS needs to listen.

    Args:
        certificate: PEM file of the server's certificate, and those between it and its authority.
        key: PEM file of its private key; by default it is in the first file.
        client_ca: PEM file of the authorities that clients must have a certificate of.

    Raises:
        UsageError: If one of them cannot be used.
    """
    if certificate is None:
        raise UsageError("syslog+tls needs a certificate; give --cert FILE and --key FILE")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # Senders of logs read nothing. A ticket that is unread when they close makes the kernel reset
    # the connection, and what was not read of it here is lost.
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # ssl's are OSErrors
        named = ", ".join(repr(str(one)) for one in (certificate, key, client_ca) if one)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UsageError(f"TLS cannot use {named}: {reason}; give PEM files") from error
    return context
