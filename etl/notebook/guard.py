"""The checks of `etl serve` for Jupyter's servers: a foreign Host or Origin gets nothing.

Jupyter's handlers check the Host header one by one, if at all: Voilà takes any, and neither
checks it for its static files. So the check is made where requests are routed, before any
handler is chosen, and is the same for pages, files, the kernels' API and WebSockets.
"""

from __future__ import annotations

from typing import Any

from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import Application, RequestHandler

from etl.server.hosts import AllowedHosts

__all__ = ["guard", "refusal"]

SAFE_METHODS = ("GET", "HEAD")


def guard(application: Application, hosts: AllowedHosts) -> None:
    """Let the first of an application's routes take what is refused, whatever its path."""
    rule = Rule(_Refused(hosts), _Refusal, {"hosts": hosts})
    application.default_router.rules.insert(0, rule)


class _Refused(Matcher):
    """Matches requests that are refused."""

    def __init__(self, hosts: AllowedHosts) -> None:
        self._hosts = hosts

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return arguments for the handler, or None if the request may pass."""
        return None if refusal(self._hosts, request) is None else {}


class _Refusal(RequestHandler):
    """Answers a request that is refused, of any method, and leaves no line in the log."""

    def initialize(self, hosts: AllowedHosts) -> None:
        """Know the names of the server."""
        self._hosts = hosts

    def check_xsrf_cookie(self) -> None:
        """Ask for no cookie: the request is refused in any case."""

    def prepare(self) -> None:
        """Answer 421 to a foreign Host, 403 to a foreign page."""
        status, text = refusal(self._hosts, self.request) or (403, "refused")
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{text}\n")

    def _log(self) -> None:
        """Log nothing: whoever sends such requests could fill the log."""


def refusal(hosts: AllowedHosts, request: HTTPServerRequest) -> tuple[int, str] | None:
    """Return the status and the reason with which a request is refused, or None."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    host = headers.get("host", "")
    if not hosts.allows(host):
        return 421, f"the Host header is {host!r}, which is no name of this server; see --name"
    reads = request.method in SAFE_METHODS and "upgrade" not in headers
    follows_link = reads and headers.get("sec-fetch-dest") == "document"
    if hosts.is_foreign(headers) and not follows_link:  # a page names its kernel
        return 403, "the request comes from a page of another site"
    return None
