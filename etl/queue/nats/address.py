"""Where a store on NATS is, and how to get in: the parts of its URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from etl.errors import UsageError

__all__ = ["Address"]

FORM = "nats://[user:password@]host:4222[,host2:4222]/name[?creds=FILE][&tls=CA_FILE]"


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of `nats://user:password@host:4222,host2:4222/name?creds=FILE&tls=FILE`.

    `url` is the URL without user and password; `secret_url` has them. `tls`
    is the file of an authority's certificates, "" for those of the system, or
    None for a connection without TLS.
    """

    name: str
    servers: tuple[str, ...]
    url: str
    secret_url: str = field(repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    creds: str | None = None
    tls: str | None = None

    @property
    def journal(self) -> str:
        """The name of the stream of operations."""
        return f"etl-{self.name}-journal"

    @property
    def blobs(self) -> str:
        """The name of the stream of blobs."""
        return f"etl-{self.name}-blobs"

    def subject(self, tail: str) -> str:
        """Return one of the store's subjects."""
        return f"etl.{self.name}.{tail}"

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a URL apart.

        Raises:
            UsageError: If it has no host or name, an option that is not known,
                or names a file that is not there.
        """
        scheme, _, rest = url.partition("://")
        rest, _, query = rest.partition("?")
        place, _, name = rest.partition("/")
        login, _, hosts = place.rpartition("@")
        shown = f"{scheme}://{hosts}/{name}"
        if not hosts or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise UsageError(
                f"store {shown!r} has no host or no name of letters, digits, - and _; use {FORM}"
            )
        options = dict(parse_qsl(query, keep_blank_values=True))
        for key, path in options.items():
            if key not in ("creds", "tls"):
                raise UsageError(f"store {shown!r} has an unknown option {key!r}; use {FORM}")
            if path and not Path(path).is_file():
                raise UsageError(f"store {shown!r}: there is no file {path!r} for {key!r}")
        user, _, password = login.partition(":")
        return cls(
            name=name,
            servers=tuple(_server(host) for host in hosts.split(",")),
            url=shown,
            secret_url=url,
            user=unquote(user) or None,
            password=unquote(password) or None,
            creds=options.get("creds"),
            tls=options.get("tls", "" if scheme == "tls" else None),
        )


def _server(host: str) -> str:
    """Return a host as a server's URL; 4222 is the port where none is given."""
    return f"nats://{host}" if re.search(r":\d+$", host) else f"nats://{host}:4222"
