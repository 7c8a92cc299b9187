"""A proxy that loses an answer of a PostgreSQL server, as a network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

Connection = tuple[socket.socket, socket.socket]


class Proxy:
    """Forwards all that clients and a server say to each other, until it is to lose an answer.

    Args:
        port: The server's.
    """

    def __init__(self, port: int) -> None:
        self.lost = threading.Event()
        """An answer was lost."""
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        own = self._listener.getsockname()[1]
        # Without encryption, the server's answers are messages that can be told apart.
        plain = "sslmode=disable&gssencmode=disable"
        self.url = f"postgresql://etl@127.0.0.1:{own}/postgres?{plain}"
        self._when: Callable[[], bool] | None = None
        self._lock = threading.Lock()
        self._connections: set[Connection] = set()
        self._open = threading.Event()
        self._open.set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def lose_answer(self, when: Callable[[], bool]) -> None:
        """Lose the first answer to a statement after which `when` is true.

        All connections end with it. New ones wait for `reconnect`.
        """
        with self._lock:
            self.lost.clear()
            self._when = when

    def reconnect(self) -> None:
        """Forward again."""
        self._open.set()

    def close(self) -> None:
        """End all connections, and listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._end_all()
        self._open.set()
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._connect, args=(client,))
                thread.start()
                self._threads.append(thread)

    def _connect(self, client: socket.socket) -> None:
        self._open.wait()
        with client, suppress(OSError), socket.create_connection(self._server) as server:
            connection = client, server
            with self._lock:
                self._connections.add(connection)
            questions = threading.Thread(target=_forward, args=connection)
            questions.start()
            with suppress(OSError):
                self._answer(connection)
            with self._lock:
                self._connections.discard(connection)
            _end(connection)
            questions.join()

    def _answer(self, connection: Connection) -> None:
        """Forward the server's messages: a letter, the length of what follows, and that."""
        client, server = connection
        with server.makefile("rb") as stream:
            while head := stream.read(5):
                answer = head + stream.read(int.from_bytes(head[1:], "big") - 4)
                with self._lock:  # so that no other connection tells what this one loses
                    if connection not in self._connections:
                        return
                    if head[:1] == b"C" and self._when is not None and self._when():
                        self._lose()
                        return
                    client.sendall(answer)

    def _lose(self) -> None:
        self._when = None
        self._open.clear()
        self._end_all()
        self.lost.set()

    def _end_all(self) -> None:
        for connection in self._connections:
            _end(connection)
        self._connections.clear()


def _forward(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(65_536):
            server.sendall(data)
    _end((client, server))


def _end(connection: Connection) -> None:
    for one in connection:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
