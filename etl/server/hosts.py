"""Which names in a Host header, and which pages, may reach a server on this machine.

A server on a loopback address can be reached by web pages in a browser of this machine, also
by one whose name was made to point here. So the Host header must be a name of the server, and
what changes something must not come from another site's page. `etl serve`, `etl lab` and
`etl app` all check it here; nothing in this module needs FastAPI or Jupyter.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping

__all__ = ["AllowedHosts", "is_loopback"]

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]*)?")
"""A Host header, in lower case: a name or an address, perhaps with a port."""


class AllowedHosts:
    """The names of a server: `localhost`, this machine's, every address, and those given.

    Args:
        names: Further names that a Host header may have.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = {"localhost", socket.gethostname().lower(), *map(str.lower, names)}

    def allows(self, host: str) -> bool:
        """Return whether a Host header names this server."""
        found = HOST.fullmatch(host.lower())
        name = found[1].strip("[]") if found else ""
        return name in self.names or address(name) is not None  # an address always points here

    def is_foreign(self, headers: Mapping[str, str]) -> bool:
        """Return whether a browser sends a request for a page of another site.

        Args:
            headers: The request's, by their names in lower case or in any case.
        """
        if "sec-fetch-site" in headers:
            return headers["sec-fetch-site"] not in ("same-origin", "none")
        origin = headers.get("origin")
        return (
            origin is not None
            and origin.partition("://")[2].lower() != headers.get("host", "").lower()
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    found = address(host)
    return host == "localhost" or (found is not None and found.is_loopback)


def address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a text is, or None."""
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
