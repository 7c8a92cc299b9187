"""HTTP over a store: take lines, show what became of them, steer.

    etl serve --store q.db          etl/cli.py calls `serve`
    etl run app.log --trace --serve     ... and `serve_beside`

The server holds no state of its own: it reads and steers the store that workers, notebooks
and the command line use too, through the `Queue` protocol, whatever the store. FastAPI and
uvicorn are loaded with this package and by nothing else.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from etl.errors import UsageError
from etl.server.app import create_app
from etl.server.logging import forward
from etl.server.security import RequestLimits, TimeoutProtocol, is_loopback
from etl.server.service import Service
from etl.settings import Settings

if TYPE_CHECKING:
    from etl.workers.processes import WorkerProcesses

__all__ = ["Address", "serve", "serve_beside"]

SHORTEST_TOKEN = 16


LAST_SECONDS = 5
"""How long requests may take to end once the server is asked to."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, and who may use it.

    Attributes:
        host: An address of this machine.
        port: Its port; 0 for any that is free.
        token: What clients must show; needed if others than this machine can reach it.
        names: Further names that clients may call it by.
    """

    host: str = "127.0.0.1"
    port: int = Settings.server_port
    token: str | None = None
    names: Iterable[str] = ()

    def listen(self) -> socket.socket:
        """Return a socket that listens there.

        Raises:
            UsageError: If others could reach it and there is no token, or it cannot be had.
        """
        if not self.token and not is_loopback(self.host):
            raise UsageError(
                f"{self.host!r} can be reached by other machines; set ETL_TOKEN to a secret that "
                "clients must show, or use --host 127.0.0.1"
            )
        if self.token and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()):
            raise UsageError(f"the token must be at least {SHORTEST_TOKEN} characters of ASCII")
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
        address: Where.
        workers: Starts worker processes to look after while the server runs.
        announce: Told what a person wants to know.

    Raises:
        UsageError: If the address cannot be used.
        WorkerFailed: If workers cannot do anything.
    """
    with address.listen() as listening:
        server = _server(service, address)
        failures: list[Exception] = []
        ended = threading.Event()

        def look_after() -> None:
            try:
                if workers:
                    _keep_working(service, workers, ended)
            except Exception as error:  # noqa: BLE001 - raised by the thread that serves
                failures.append(error)
                server.should_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises them again at its end
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        thread = threading.Thread(target=look_after, name="etl-workers", daemon=True)
        thread.start()
        announce(f"📊 Dashboard running at {url_of(listening)}")
        service.log.info("serving", url=url_of(listening), store=service.queue.url)
        server.run(sockets=[listening])
        announce("Shutting down...")
        ended.set()
        thread.join()
        service.log.info("ended")
        if failures:
            raise failures[0]


@contextlib.contextmanager
def serve_beside(service: Service, address: Address) -> Iterator[str]:
    """Serve a store in a background thread, and give the server's URL.

    Raises:
        UsageError: If the address cannot be used.
    """
    with address.listen() as listening:
        server = _server(service, address)
        thread = threading.Thread(
            target=server.run, args=([listening],), name="etl-server", daemon=True
        )
        thread.start()
        service.log.info("serving", url=url_of(listening), store=service.queue.url)
        try:
            yield url_of(listening)
        finally:
            server.should_exit = True
            thread.join()


def _keep_working(
    service: Service, workers: Callable[[], WorkerProcesses], ended: threading.Event
) -> None:
    """Look after worker processes; those that a drain has ended come back once it is over."""
    thread_workers = workers()
    try:
        while not ended.wait(0.1):
            if not thread_workers.check() and not service.sees_drain():
                thread_workers.stop()
                thread_workers = workers()
    finally:
        thread_workers.stop()


def url_of(listening: socket.socket) -> str:
    """Return where a browser on this machine finds a server."""
    host, port = listening.getsockname()[:2]
    if host in ("127.0.0.1", "0.0.0.0", "::"):  # noqa: S104 - told, not listened on
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


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
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    return uvicorn.Server(config)
