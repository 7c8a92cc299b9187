"""The server as a process: where it listens, until when it runs, its worker processes.

    etl serve --store q.db              calls `serve`
    etl run app.log --trace --serve     calls `serve_beside`

The server holds no state of its own: it reads and controls the store that workers, notebooks
and the command line use too, through the `Queue` protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from etl.errors import StoreFull, StoreUnavailable, UsageError
from etl.server.app import create_app
from etl.server.feed import Feed
from etl.server.hosts import is_loopback
from etl.server.logging import forward
from etl.server.security import RequestLimits, TimeoutProtocol
from etl.server.service import Service
from etl.settings import Settings

if TYPE_CHECKING:
    from etl.workers.processes import WorkerProcesses

__all__ = ["Address", "serve", "serve_beside"]

MIN_TOKEN_LENGTH = 16

CHECK_SECONDS = 0.5
"""Seconds between looks whether the store and the worker processes are still there."""

SHUTDOWN_SECONDS = 5
"""Seconds that requests may take to end once the server shuts down."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and by which names and token clients reach it.

    Attributes:
        host: An address of this machine.
        port: A port; 0 for any that is free.
        token: What clients must send; required if other machines can reach the address.
        names: Further names of the server in a Host header.
    """

    host: str = "127.0.0.1"
    port: int = Settings.server_port
    token: str | None = None
    names: Iterable[str] = ()

    def listen(self) -> socket.socket:
        """Return a socket that listens at the address.

        Raises:
            UsageError: If other machines could reach it without a token, or it cannot be used.
        """
        if not self.token and not is_loopback(self.host):
            raise UsageError(
                f"{self.host!r} can be reached by other machines; set ETL_TOKEN to a secret that "
                "clients must send, or use --host 127.0.0.1"
            )
        if self.token and (len(self.token) < MIN_TOKEN_LENGTH or not self.token.isascii()):
            raise UsageError(f"the token must be at least {MIN_TOKEN_LENGTH} characters of ASCII")
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            return socket.create_server((self.host, self.port), family=family)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"cannot listen on port {self.port} of {self.host!r}: {reason}; "
                "name another with --port or --host"
            ) from error


def serve(
    service: Service,
    address: Address,
    *,
    workers: Callable[[], WorkerProcesses] | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve a store until SIGTERM or SIGINT.

    Args:
        service: The store.
        address: Where to listen.
        workers: Starts worker processes that run as long as the server.
        announce: Called with messages for a person.

    Raises:
        UsageError: If the address cannot be used.
        WorkerFailed: If the workers cannot process anything.
        StoreLost: If the store's file is removed or replaced.
    """
    ended = threading.Event()
    with address.listen() as listening, ThreadPoolExecutor(1, "etl-workers") as pool:
        server = _server(service, address)

        def end(*_: object) -> None:
            server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at its end
            signal.signal(number, end)
        working = pool.submit(_keep_working, service, workers, ended)
        working.add_done_callback(end)
        announce(f"📊 Dashboard running at {url_of(listening)}")
        service.log.info("serving", url=url_of(listening), store=service.queue.url)
        try:
            server.run(sockets=[listening])
        finally:
            ended.set()  # first, since nobody may read what is announced
            announce("Shutting down...")
        error = working.exception()
        service.log.info("ended")
        if error:
            raise error


@contextlib.contextmanager
def serve_beside(service: Service, address: Address) -> Iterator[str]:
    """Serve a store in a background thread, and give the server's URL.

    Raises:
        UsageError: If the address cannot be used.
    """
    with address.listen() as listening, ThreadPoolExecutor(1, "etl-server") as pool:
        server = _server(service, address)
        running = pool.submit(server.run, [listening])
        service.log.info("serving", url=url_of(listening), store=service.queue.url)
        try:
            yield url_of(listening)
        finally:
            server.should_exit = True
            running.result()


def _keep_working(
    service: Service, start: Callable[[], WorkerProcesses] | None, ended: threading.Event
) -> None:
    """Run worker processes; start them again once a drain that ended them is over."""
    workers = start and start()
    try:
        while not ended.wait(CHECK_SECONDS):
            service.check_file()
            try:
                if start and workers and not workers.check() and not service.sees_drain():
                    workers.stop()
                    workers = start()
            except (StoreUnavailable, StoreFull) as error:  # which passes
                service.log_error(error)
    finally:
        if workers:
            workers.stop()


def url_of(listening: socket.socket) -> str:
    """Return the URL of a server for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    if host in ("127.0.0.1", "0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """uvicorn's server, which first ends the answers that have no end of their own."""

    def __init__(self, config: uvicorn.Config, feed: Feed) -> None:
        super().__init__(config)
        self._feed = feed

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the pages' events, and then the server."""
        await asyncio.to_thread(self._feed.close)
        await super().shutdown(sockets)


def _server(service: Service, address: Address) -> uvicorn.Server:
    limits = RequestLimits()
    names = [address.host, *address.names]
    app = create_app(service, hosts=names, token=address.token, limits=limits)
    for name in ("uvicorn.error", "asyncio"):
        forward(name, service.log)
    config = uvicorn.Config(
        app,
        http=TimeoutProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    return _Server(config, service.feed)
